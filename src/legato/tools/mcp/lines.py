"""Lines out of bytes, with a bound: pure, and linear in what comes.

A line past the bound is not kept. Its beginning is told as soon as it is past, its end once it has ended: JSON-RPC has
the id of an answer at either.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

HEAD = 256
TAIL = 128
"""Bytes of a line that is too long: an id fits, with what stands around it."""


class TooLong(msgspec.Struct, frozen=True):
    """A line past the bound. ``whole`` is false while it still comes: then ``tail`` is empty."""

    head: bytes
    tail: bytes
    size: int
    whole: bool


class Lines:
    """``feed`` it what comes; it gives what has ended, without the line's end. ``limit`` is bytes of a line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._head = b""
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[bytes | TooLong]:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield from self._add(data[start:end])
            yield self._line()
            start = end + 1
        yield from self._add(data[start:])

    def _add(self, piece: bytes) -> Iterator[TooLong]:
        before = self._size
        self._size += len(piece)
        if self._size <= self._limit:
            self._pieces.append(piece)
            return
        first = before <= self._limit
        if first:
            kept = b"".join(self._pieces)
            self._pieces = []
            self._head, self._tail = kept[:HEAD], kept[-TAIL:]
        self._head = (self._head + piece[:HEAD])[:HEAD]
        self._tail = (self._tail + piece[-TAIL:])[-TAIL:]
        if first:
            yield TooLong(self._head, b"", self._size, whole=False)

    def _line(self) -> bytes | TooLong:
        line: bytes | TooLong
        if self._size <= self._limit:
            line = b"".join(self._pieces)
        else:
            line = TooLong(self._head, self._tail, self._size, whole=True)
        self._pieces, self._size, self._head, self._tail = [], 0, b"", b""
        return line
