"""``read_result``: a model reads on in a result that was cut for it (docs/tools.md).

Places are byte offsets into what is kept: of a text the text, of anything else its compact JSON. They serve a log and
JSON on one line alike, and are reached without reading what is in front of them. A pattern is plain text: a regular
expression of a model's making could hold a thread for ever.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UnsetType

from legato.core.blocks import Json, ToolResultBlock
from legato.core.context import ToolContext
from legato.core.errors import ToolError
from legato.core.results import kept_as
from legato.ports import KeptResults
from legato.tools.excerpts import Excerpt, find, torn_in_front
from legato.tools.formatters import READ_RESULT, plain
from legato.tools.function_tool import FunctionTool, Options

_PAGE = 32 * 1024
"""Bytes that are read where no end is given."""
_PAGE_MAX = 48 * 1024
_PATTERN_MAX = 200
"""Characters."""
_LEAST = 8
"""Bytes: a whole character is among them, wherever they begin."""


def read_result(store: KeptResults) -> FunctionTool:
    """The tool, for the results in this store."""

    async def read_result(
        call_id: Annotated[str, "Of the call whose result was cut, as the cut says it"],
        start: Annotated[int, "Byte to begin at"] = 0,
        end: Annotated[int | None, f"Byte to end before; at most {_PAGE_MAX} bytes are read at a time"] = None,
        pattern: Annotated[
            str | None, "Text to look for from start on, not a regular expression; upper and lower case are the same"
        ] = None,
        *,
        ctx: ToolContext,
    ) -> str:
        """Read on in a long tool result of this chat that was shown cut, or look for a text in it.

        Gives a piece of it and where to go on, or with a pattern the places where the text stands, each with its byte
        and what is around it.
        """
        result = await _Result.of(store, ctx.chat_id, call_id)
        if pattern is not None:
            return await _search(result, start, pattern)
        return await _page(result, start, end)

    options = Options(effect="read", retries=2, formatter=_as_it_is)
    return FunctionTool(read_result, name=READ_RESULT, options=options, local_names={}, built_in=True)


class _Result(msgspec.Struct, frozen=True):
    """What is kept of one call. ``kept`` is all of it where it lies in the result itself, else None."""

    store: KeptResults
    turn_id: str
    block: ToolResultBlock
    kept: bytes | None
    size: int

    @classmethod
    async def of(cls, store: KeptResults, chat_id: str, call_id: str) -> _Result:
        found = await store.result(chat_id, call_id)
        if found is None:
            raise ToolError(f"there is no result of a call {call_id!r} in this chat", code="unknown_call")
        turn_id, block = found
        if not isinstance(block.bytes, UnsetType) and not isinstance(block.href, UnsetType):
            return cls(store, turn_id, block, None, block.bytes)
        kept = b"" if block.output is None and block.outcome != "ok" else plain(block.output).encode()
        return cls(store, turn_id, block, kept, len(kept))

    async def read(self, offset: int, limit: int) -> bytes:
        if self.kept is not None:
            return self.kept[offset : offset + limit]
        piece = await self.store.output(self.turn_id, kept_as(self.block), offset=offset, limit=limit)
        if not piece and offset < self.size:
            raise ToolError(f"of this result nothing is kept from byte {offset} on", code="not_kept")
        return piece

    @property
    def title(self) -> str:
        """What is told first: of what this is a piece, and that it is no good result where it is none."""
        block = self.block
        ended = ""
        if block.outcome != "ok":
            why = "" if isinstance(block.error, UnsetType) else f": {block.error.message}"
            ended = f"; the call ended as {block.outcome}{why}"
        return f"{self.size} bytes of {block.tool_name}{ended}"


async def _page(result: _Result, start: int, end: int | None) -> str:
    _check_start(result, start)
    if end is not None and end <= start:
        raise ToolError(f"end is {end}, it is more than start, which is {start}")
    length = _PAGE if end is None else max(min(end - start, _PAGE_MAX), _LEAST)
    data = b""
    while len(data) < length and start + len(data) < result.size:
        data += await result.read(start + len(data), length - len(data))
    first, text = _whole_characters(data, more=start + len(data) < result.size)
    begin = start + first
    stop = begin + len(text.encode())
    where = f"[{result.title}; bytes {begin} to {stop}]"
    return f"{where}\n{text}\n[{_what_follows(result, stop)}]"


async def _search(result: _Result, start: int, pattern: str) -> str:
    _check_start(result, start)
    if not pattern or len(pattern) > _PATTERN_MAX:
        raise ToolError(f"pattern has {len(pattern)} characters, it is 1 to {_PATTERN_MAX}")
    found, stop = await find(result.read, pattern, start=start, size=result.size)
    if not found:
        return f"[{result.title}; {pattern!r} is not in it from byte {start} on]"
    shown = "\n".join(map(_line, found))
    follows = "that is all" if stop is None else f"more may follow: go on with start={stop}"
    return f"[{result.title}; {pattern!r} stands at]\n{shown}\n[{follows}]"


def _line(excerpt: Excerpt) -> str:
    return f"byte {excerpt.at}: {excerpt.text}"


def _check_start(result: _Result, start: int) -> None:
    if start < 0 or start > result.size or (start == result.size and start > 0):
        raise ToolError(f"start is {start}, the result has bytes 0 to {result.size}")


def _what_follows(result: _Result, stop: int) -> str:
    return f"go on with start={stop}" if stop < result.size else "that is the end"


def _whole_characters(data: bytes, *, more: bool) -> tuple[int, str]:
    """How many bytes in front belong to a character that began earlier, and the text behind them. Where more follows
    it ends with a line, if one ends in its last quarter."""
    first = torn_in_front(data)
    text = data[first:].decode(errors="ignore")
    if more:
        line_end = text.rfind("\n")
        if line_end > len(text) * 3 // 4:
            text = text[: line_end + 1]
    return first, text


def _as_it_is(output: Json) -> str:
    return str(output)
