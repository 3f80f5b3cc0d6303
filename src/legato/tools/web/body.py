"""A body as it arrives: unpacked here, and counted on the wire and after. A bound that is met ends it at once."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Protocol

from legato.core.errors import ToolError

ACCEPT_ENCODING = "gzip, deflate"
"""What ``Unpacked`` reads; anything else was not asked for."""
_AUTO_HEADER = 32
"""zlib: take gzip's header or zlib's own, whichever is there."""
_HEADER = 2
"""Bytes of zlib's header."""
_PIECE = 65_536
"""Bytes that are unpacked at a time, so that a thousandfold piece is noticed before it is there."""


class Pieces(Protocol):
    """What aiohttp's stream of a response has."""

    def iter_any(self) -> AsyncIterator[bytes]: ...


class Unpacked:
    """Takes a body's pieces, keeps what they unpack to. ``name`` is how the bound is called where it was set."""

    def __init__(self, encoding: str, *, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._on_the_wire = 0
        self._kept = bytearray()
        self._encoding = encoding.strip().lower()
        self._zlib: zlib._Decompress | None = None
        self._head: bytes | None = b"" if self._encoding == "deflate" else None
        if self._encoding in {"gzip", "x-gzip", "deflate"}:
            self._zlib = zlib.decompressobj(_AUTO_HEADER + zlib.MAX_WBITS)
        elif self._encoding not in {"", "identity"}:
            raise ToolError(
                f"the answer is packed with {self._encoding[:40]}, which was not asked for; expected {ACCEPT_ENCODING}",
                code="web_garbled",
            )

    def feed(self, data: bytes) -> None:
        """Raises ``ToolError``: ``web_too_large``, ``web_garbled``."""
        self._on_the_wire += len(data)
        if self._on_the_wire > self._limit:
            raise self._too_large()
        if self._zlib is None:
            self._keep(data)
            return
        if self._head is not None:
            data = self._head + data
            self._head = data if len(data) < _HEADER else None
            if self._head is not None:
                return
            if not _has_header(data):
                # RFC 9110 means zlib's format by "deflate"; some servers send it without its header.
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            self._unpack(self._zlib, data)
        except zlib.error as error:
            raise ToolError(f"the answer says it is {self._encoding} and cannot be unpacked", code="web_garbled") from (
                error
            )

    def end(self) -> bytes:
        """The whole body. A packed one that ends too early is what came of it, as browsers do."""
        return bytes(self._kept)

    def _unpack(self, unpacker: zlib._Decompress, data: bytes) -> None:
        full = True
        # A full piece may leave more behind although nothing of ``data`` is left: zlib has it inside.
        while (data or full) and not unpacker.eof:
            piece = unpacker.decompress(data, _PIECE)
            self._keep(piece)
            data, full = unpacker.unconsumed_tail, len(piece) == _PIECE
        # What follows the end of a packed body is no part of it; several gzip members in one body are not in use.

    def _keep(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > self._limit:
            raise self._too_large()

    def _too_large(self) -> ToolError:
        return ToolError(f"the answer is larger than {self._limit} bytes ({self._name})", code="web_too_large")


async def read(pieces: Pieces, encoding: str, *, limit: int, name: str, said: int | None) -> bytes:
    """The body, unpacked. ``said`` is its Content-Length. Raises ``ToolError``, and what the stream raises."""
    unpacked = Unpacked(encoding, limit=limit, name=name)
    if said is not None and said > limit:
        raise ToolError(f"the answer has {said} bytes, limit is {limit} ({name})", code="web_too_large")
    async for piece in pieces.iter_any():
        unpacked.feed(piece)
    return unpacked.end()


def _has_header(data: bytes) -> bool:
    """Of zlib (RFC 1950): method 8, and a check sum over the first two bytes."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:_HEADER], "big") % 31 == 0
