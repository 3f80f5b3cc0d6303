"""A store with faults, over the memory store: slow, away, or refusing one turn's rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from legato.core.errors import RowRefused, StaleEpoch, StoreUnavailable
from legato.core.records import TurnWrite
from legato.stores.memory import MemoryStore


class FaultyStore(MemoryStore):
    """``gate`` holds every write while it is not set; ``failures`` many writes fail; ``refused`` turns are refused,
    and those that are ``broken`` meet a bug of the store."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.refused: set[str] = set()
        self.stale: set[str] = set()
        self.broken: set[str] = set()
        self.tries: list[tuple[TurnWrite, ...]] = []
        self.tried = asyncio.Event()

    async def write(self, writes: Sequence[TurnWrite]) -> None:
        self.tries.append(tuple(writes))
        self.tried.set()
        await self.gate.wait()
        if self.failures > 0:
            self.failures -= 1
            raise StoreUnavailable("the disk is full")
        for write in writes:
            if write.turn_id in self.refused:
                raise RowRefused("this row cannot be", turn_id=write.turn_id)
            if write.turn_id in self.broken:
                raise AttributeError("a bug")
            if write.turn_id in self.stale:
                raise StaleEpoch("somebody else owns it", turn_id=write.turn_id)
        await super().write(writes)
