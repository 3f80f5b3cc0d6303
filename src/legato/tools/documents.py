"""The workspace of documents as six tools, for the principal of the turn (docs/documents.md).

Reading a document waits for the changes of it that the same reply asked for before: they share its lane. What is wrong
with a call is said by the workspace, and the model reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec
from pydantic import Field

from legato.core.blocks import Json
from legato.core.context import ToolContext
from legato.core.documents import PATH_BYTES, Change, Edit, Move, Put, folder_path, key_of
from legato.core.errors import NotFound, RequestError, StoreError, ToolError
from legato.core.passages import stretch
from legato.core.queries import QUERY_CHARACTERS
from legato.ports import Documents, Tool
from legato.tools.declare import tool, tool_of
from legato.tools.document_readings import read_change, read_hits, read_tree, read_view

DOCUMENT_TOOLS: Final = ("doc_tree", "doc_view", "doc_search", "doc_create", "doc_edit", "doc_move")

_HITS: Final = 8
_HITS_MOST: Final = 20
_TREE_MOST: Final = 5_000
_SECONDS: Final = 20.0
"""Far more than the largest workspace takes."""

T = TypeVar("T")

Path: TypeAlias = Annotated[str, Field(max_length=PATH_BYTES, description="Like novel/chapter 1.md")]
Folder: TypeAlias = Annotated[
    str, Field(max_length=PATH_BYTES, description="This folder and all below it, like novel/; left out: everything")
]
FirstLine: TypeAlias = Annotated[int, Field(ge=1, description="First line, from 1")]
LastLine: TypeAlias = Annotated[
    int | None, Field(ge=1, description="Last line; left out: as many as are shown at once")
]
Query: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=QUERY_CHARACTERS, description='Words; "side by side" in quotation marks')
]
Results: TypeAlias = Annotated[int, Field(ge=1, le=_HITS_MOST, description="How many, at most")]
Following: TypeAlias = Annotated[
    str | None, Field(max_length=1024, description="To go on: the `next` of the same search before")
]
Text: TypeAlias = Annotated[str, Field(description="The whole text")]
Replace: TypeAlias = Annotated[bool, Field(description="Replace the whole text of a document that is there")]
Old: TypeAlias = Annotated[
    str, Field(min_length=1, description="The passage, exactly as it stands in the document, and only once")
]
New: TypeAlias = Annotated[str, Field(description="What shall stand in its place")]
Place: TypeAlias = Annotated[
    str, Field(max_length=PATH_BYTES, description="A document, or a folder with a slash at the end")
]
Target: TypeAlias = Annotated[
    str, Field(max_length=PATH_BYTES, description="The new path; novel/ puts a document into that folder")
]


def document_tools(documents: Documents) -> list[Tool]:
    """In the order in which a model reads of them."""
    made = [*_reading(documents), *_changing(documents)]
    return [declared for function in made if (declared := tool_of(function)) is not None]


def _reading(documents: Documents) -> list[Callable[..., object]]:
    @tool(effect="read", timeout=_SECONDS, formatter=read_tree)
    async def doc_tree(folder: Folder = "", *, ctx: ToolContext) -> Json:
        """Show the folders and documents of the workspace, with how many words they have."""
        of = _folder(folder)
        found = await _said(documents.tree(ctx.principal, of))
        if not found and of:
            raise _refused(NotFound(f"there is no folder {of!r}; doc_tree() shows all there are"))
        listed = [{"path": path, "words": words} for path, words in found[:_TREE_MOST]]
        return {"folder": of, "count": len(found), "documents": listed}

    @tool(effect="read", timeout=_SECONDS, lane=_own_lane, formatter=read_view)
    async def doc_view(path: Path, start: FirstLine = 1, end: LastLine = None, *, ctx: ToolContext) -> Json:
        """Read a document of the workspace, or some lines of it. The line numbers shown are not part of the text."""
        found = await _said(documents.read(ctx.principal, path))
        if end is not None and end < start:
            raise ToolError(f"end is {end}, it must not be before start, which is {start}")
        if start > max(found.lines, 1):
            raise ToolError(f"start is {start}, {found.path!r} has {found.lines} lines")
        seen = stretch(found.text, start, end)
        return {
            "path": found.path,
            "version": found.version,
            "words": found.words,
            "lines": seen.lines,
            "start": seen.start,
            "end": seen.end,
            "cut": seen.cut,
            "text": seen.text,
        }

    @tool(effect="read", timeout=_SECONDS, formatter=read_hits)
    async def doc_search(
        query: Query, folder: Folder = "", limit: Results = _HITS, next: Following = None, *, ctx: ToolContext
    ) -> Json:
        """Search the workspace's documents; the best come first. Words are found by their beginnings, whatever their
        case; documents that hold all of them are given, or if there are none, those that hold some."""
        page = await _said(documents.search(ctx.principal, query, folder=_folder(folder), limit=limit, before=next))
        return {"query": query, "folder": _folder(folder), **_json(page)}

    return [doc_tree, doc_view, doc_search]


def _changing(documents: Documents) -> list[Callable[..., object]]:
    async def change(ctx: ToolContext, asked: Change) -> Json:
        return _json(await _said(documents.change(ctx.principal, asked, key=ctx.idempotency_key)))

    async def settle(key: str) -> Json:
        """A change and its key are stored in one transaction: without the key there was no change."""
        did = await documents.changed(key)
        if did is None:
            raise ToolError("the workspace was not changed: the server stopped before; the call may be made again")
        return _json(did)

    @tool(effect="write", timeout=_SECONDS, lane=_own_lane, reconcile=settle, formatter=read_change)
    async def doc_create(path: Path, *, replace: Replace = False, text: Text, ctx: ToolContext) -> Json:
        """Make a document in the workspace; its folders need not be there. To change some of a text use doc_edit."""
        return await change(ctx, Put(path=path, text=text, new=not replace))

    @tool(effect="write", timeout=_SECONDS, lane=_own_lane, reconcile=settle, formatter=read_change)
    async def doc_edit(path: Path, old: Old, new: New, *, ctx: ToolContext) -> Json:
        """Replace one passage of a document. Give enough of it to be found only once; read it with doc_view before."""
        return await change(ctx, Edit(path=path, old=old, new=new))

    @tool(effect="write", timeout=_SECONDS, lane=_own_lane, reconcile=settle, formatter=read_change)
    async def doc_move(path: Place, to: Target, *, ctx: ToolContext) -> Json:
        """Move or rename a document, or a folder with all that is in it. Nothing is ever replaced by it."""
        return await change(ctx, Move(path=path, to=to))

    return [doc_create, doc_edit, doc_move]


def _own_lane(arguments: dict[str, object]) -> str:
    """One for each document, however its path is spelled."""
    return f"document:{key_of(str(arguments['path']).removeprefix('/'))}"


def _folder(text: str) -> str:
    try:
        return folder_path(text)
    except RequestError as error:
        raise _refused(error) from error


async def _said(asked: Awaitable[T]) -> T:
    """What the workspace says, as the model may read it."""
    try:
        return await asked
    except RequestError as error:
        raise _refused(error) from error
    except StoreError as error:
        raise ToolError(f"the workspace cannot be reached now: {error.message}", code=error.code) from error


def _refused(error: RequestError) -> ToolError:
    return ToolError(error.message, code=error.code)


def _json(value: msgspec.Struct) -> dict[str, Json]:
    made: dict[str, Json] = msgspec.to_builtins(value)
    return made
