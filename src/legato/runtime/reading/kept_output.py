"""An output that is too large for the log, read from the store piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator

from legato.core.blocks import ToolResultBlock
from legato.core.results import kept_as
from legato.ports import Store

PIECE = 262_144
"""Bytes that are held at once."""


class KeptOutput:
    """A text as it is, of anything else its JSON. The turn's log has a text of either: they cannot be told apart."""

    def __init__(self, store: Store, turn_id: str, result: ToolResultBlock) -> None:
        assert isinstance(result.bytes, int)
        self.tool_name = result.tool_name
        self.bytes: int = result.bytes
        self._store = store
        self._place = (turn_id, kept_as(result))

    @property
    async def pieces(self) -> AsyncIterator[bytes]:
        offset = 0
        while offset < self.bytes and (piece := await self._store.output(*self._place, offset=offset, limit=PIECE)):
            offset += len(piece)
            yield piece
