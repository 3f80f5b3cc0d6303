"""Where a text stands in something long, and what is around it: read once from front to end, a piece at a time.

Upper and lower case are the same. The time is linear in the bytes, whatever is looked for.
"""

from __future__ import annotations

import codecs
from collections.abc import Awaitable, Callable
from typing import NamedTuple

Read = Callable[[int, int], Awaitable[bytes]]
"""At most so many bytes from an offset on; never none before the end."""

_PIECE = 256 * 1024
"""Bytes that are looked through at a time: about 2 ms of the loop's."""
_AROUND = 160
"""Characters of the same line that are shown before and after."""
_MOST = 20


class Excerpt(NamedTuple):
    """``at`` is the byte where the text stands."""

    at: int
    text: str


async def find(read: Read, pattern: str, *, start: int, size: int) -> tuple[list[Excerpt], int | None]:
    """The first places from byte ``start`` on, and the byte to go on from, or None where all was seen.

    Places that an excerpt shows already are not told again.
    """
    wanted = _lower(pattern)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    found: list[Excerpt] = []
    window, begins, seen, offset = "", start, 0, start  # ``seen``: characters of the window that are done with
    while True:
        at = _lower(window).find(wanted, seen)
        missing = at < 0 or at + len(pattern) + _AROUND > len(window)
        if missing and offset < size:
            keep = max((at if at >= 0 else len(window) - len(pattern) + 1) - _AROUND, 0)
            begins += len(window[:keep].encode())
            window, seen = window[keep:], max(seen - keep, 0)
            piece = await read(offset, min(_PIECE, size - offset))
            if offset == start:
                begins += torn_in_front(piece)
            offset += len(piece)
            window += decoder.decode(piece)
            continue
        if at < 0:
            return found, None
        if len(found) == _MOST:
            return found, begins + len(window[:seen].encode())
        excerpt, seen = _around(window, at, len(pattern))
        found.append(Excerpt(begins + len(window[:at].encode()), excerpt))


def torn_in_front(data: bytes) -> int:
    """Bytes of a character that began before."""
    return next((at for at, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)


def _around(text: str, at: int, length: int) -> tuple[str, int]:
    """The text around a place within its line, and where it ends."""
    first = max(at - _AROUND, 0, text.rfind("\n", 0, at) + 1)
    last = min(at + length + _AROUND, len(text))
    line_end = text.find("\n", at + length, last)
    last = last if line_end < 0 else line_end
    return text[first:last], last


def _lower(text: str) -> str:
    """Of the same length, so that a place in one is a place in the other."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(one if len(one.lower()) > 1 else one.lower() for one in text)  # U+0130 becomes two characters
