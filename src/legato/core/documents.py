"""A workspace of documents: what one is, how it is named, and what may be done to it.

A document is text at a path, ``novel/chapter 1.md``. Folders are what paths say: one is there as long as a document is
in it. Paths keep the letters they were written with and are compared without case, in NFC, so that a workspace can be
unpacked on any machine; no document stands where another one's folder is.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal, TypeAlias

import msgspec

from legato.core.errors import InvalidRequest
from legato.core.text import clean

# Bytes of UTF-8. File systems take 255 of one name; a path of 500, each byte percent-encoded, still fits into a URL.
NAME_BYTES: Final = 200
PATH_BYTES: Final = 500
# Names of a path. A book has parts, chapters and scenes; deeper than this nobody finds anything.
DEPTH: Final = 16

# Han, Kana, and the scripts of Thailand, Laos, Burma and Cambodia: written without spaces between words.
UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"

_WORD: Final = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
# Line and paragraph separators would break a listing, and marks that turn the direction of writing can make one name
# look like another (Unicode TR 36, 2.10.3).
_UNSEEN: Final = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one owner may keep. Bytes are UTF-8 of the text as it stands; ``versions`` is how many texts of a document
    are kept, the present one among them, and ``version_bytes`` what they may have together. ``deleted`` is how many
    deleted documents can be brought back, of ``workspace_bytes`` too; all that the last deletion took always can.
    ``changed`` is how many documents one change may move or delete: others wait to write meanwhile."""

    document_bytes: int = 1_048_576
    documents: int = 10_000
    workspace_bytes: int = 268_435_456
    versions: int = 100
    version_bytes: int = 16_777_216
    deleted: int = 10_000
    changed: int = 5_000


What: TypeAlias = Literal["created", "edited", "moved", "deleted", "restored"]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a document but its text. ``version`` is the number of the change that made it what it is; changes
    are counted over the whole workspace, so no number ever means two things."""

    path: str
    version: int
    bytes: int
    words: int
    created_at: str
    updated_at: str


class DocumentText(Document, frozen=True, kw_only=True):
    """``lines`` of a text that ends with a line break does not count an empty last one."""

    lines: int
    text: str


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A document as a change left it. Only a change of the text has one of its own to look at: ``text_version``."""

    version: int
    what: What
    path: str
    bytes: int
    words: int
    at: str
    text_version: int


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A document that was found. ``snippet`` is around its best line, number ``line``, with what was found between ⟦
    and ⟧."""

    path: str
    version: int
    words: int
    line: int
    snippet: str


class DocumentPage(msgspec.Struct, frozen=True, kw_only=True):
    """By path, those of one folder and below; ``next`` is the cursor of the page that follows, or None."""

    data: tuple[Document, ...]
    next: str | None


class VersionPage(msgspec.Struct, frozen=True, kw_only=True):
    """The newest first."""

    data: tuple[Version, ...]
    next: str | None


class HitPage(msgspec.Struct, frozen=True, kw_only=True):
    """The best first. ``matched`` is ``any`` where no document holds all that was looked for."""

    data: tuple[Hit, ...]
    matched: Literal["all", "any"]
    next: str | None


class Put(msgspec.Struct, frozen=True, kw_only=True, tag="put"):
    """Make a document, or replace its text. ``new``: it must not be there. ``version``: it must be at this one."""

    path: str
    text: str
    new: bool = False
    version: int | None = None


class Edit(msgspec.Struct, frozen=True, kw_only=True, tag="edit"):
    """Put ``new`` in the place of ``old``, which must stand there exactly once."""

    path: str
    old: str
    new: str
    version: int | None = None


class Move(msgspec.Struct, frozen=True, kw_only=True, tag="move"):
    """A document, or a folder with all that is in it. ``to`` ends with a slash where a document goes into a folder
    under the name it has. Nothing is ever moved onto another document."""

    path: str
    to: str
    version: int | None = None


class Delete(msgspec.Struct, frozen=True, kw_only=True, tag="delete"):
    """A document, or with ``path`` ending in a slash a folder with all that is in it."""

    path: str
    version: int | None = None


class Restore(msgspec.Struct, frozen=True, kw_only=True, tag="restore"):
    """Bring a deleted document back, or what the last deletion in a folder took; or give a document the text it had
    ``to_version``, left out the text before the present one."""

    path: str
    to_version: int | None = None
    version: int | None = None


class Entry(msgspec.Struct, frozen=True):
    """One document on its way in or out."""

    path: str
    text: str


class Import(msgspec.Struct, frozen=True, kw_only=True, tag="import"):
    """Many at once, all or none. ``existing`` says what becomes of one whose path is taken."""

    entries: tuple[Entry, ...]
    existing: Literal["reject", "replace", "skip"] = "reject"


Change: TypeAlias = Put | Edit | Move | Delete | Restore | Import


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did. ``version`` is its number, or the present one's where there was nothing to do: then ``what``
    is None. ``documents`` are those it touched, as they are now (of a deleted one: as it was), the first 100."""

    what: What | None
    version: int
    documents: tuple[Document, ...]
    count: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """``diff`` is unified, "" where nothing differs. ``from_version`` is null where there was no text before."""

    path: str
    from_version: int | None
    to_version: int
    diff: str


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """``documents`` are the first 100 of ``count`` that were written, ``skipped`` the first 100 paths of what is no
    text, or begins with a dot."""

    version: int
    documents: tuple[Document, ...]
    count: int
    skipped: tuple[str, ...]


def document_path(text: str, *, field: str = "path") -> str:
    """The path of a document as it is kept. Raises ``InvalidRequest`` that says what is wrong with it."""
    path = unicodedata.normalize("NFC", text.removeprefix("/"))
    if not path:
        raise _refused(field, "it is empty; a path is like novel/chapter 1.md")
    if path.endswith("/"):
        raise _refused(field, f"{text[:100]!r} ends with a slash, so it names a folder; a document is named here")
    names = path.split("/")
    if len(names) > DEPTH:
        raise _refused(field, f"it has {len(names)} names, limit is {DEPTH}", limit=DEPTH, actual=len(names))
    for name in names:
        if (wrong := _wrong_name(name)) is not None:
            raise _refused(field, wrong)
    if (size := len(path.encode())) > PATH_BYTES:
        raise _refused(field, f"it has {size} bytes, limit is {PATH_BYTES}", limit=PATH_BYTES, actual=size)
    return path


def folder_path(text: str, *, field: str = "folder") -> str:
    """A folder as paths begin with it: ``novel/``; "" is the whole workspace."""
    path = text.removeprefix("/").removesuffix("/")
    return f"{document_path(path, field=field)}/" if path and path != "." else ""


def place_path(text: str, *, field: str = "path") -> str:
    """Either of the two: a folder is known by its slash at the end."""
    return folder_path(text, field=field) if text.endswith("/") else document_path(text, field=field)


def key_of(path: str) -> str:
    """What paths are compared by: two of one key are one path."""
    return unicodedata.normalize("NFC", path.casefold())


def document_text(text: str) -> str:
    """The text as it is kept: valid UTF-8 without NUL, each line ended by a line feed alone."""
    return clean(text).replace("\r\n", "\n").replace("\r", "\n")


def word_count(text: str) -> int:
    """Runs of what is no white space; in scripts without spaces each character."""
    return len(text.split()) if text.isascii() else sum(1 for _ in _WORD.finditer(text))


def line_count(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n")) if text else 0


def _wrong_name(name: str) -> str | None:
    shown = repr(name[:100])
    size = len(name.encode(errors="replace"))
    if not name:
        return "a name in it is empty: two slashes stand side by side"
    if name in {".", ".."}:
        return f"{shown} is no name; a path starts at the top of the workspace"
    if name != name.strip():
        return f"the name {shown} begins or ends with white space"
    if size > NAME_BYTES:
        return f"the name {shown} … has {size} bytes, limit is {NAME_BYTES}"
    if "\\" in name or _UNSEEN.search(name) or any(unicodedata.category(one) in {"Cc", "Cs"} for one in name):
        return f"the name {shown} has a character that no name may have: a backslash, or one that is not seen"
    return None


def _refused(field: str, message: str, *, limit: int | None = None, actual: int | None = None) -> InvalidRequest:
    return InvalidRequest.at(f"/{field}", message, code="path_invalid", limit=limit, actual=actual)
