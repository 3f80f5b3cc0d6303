"""Follow a turn: one cursor, whether the events come from memory or from the store (hazards 7, 8).

A reader never starts anything and holds nothing while it waits. The end is read from what is stored, not announced.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import anyio

from legato.core import lines as log_lines
from legato.core.errors import StoreError
from legato.ports import Store
from legato.runtime.live import Encode, LiveLog

ELSEWHERE_SECONDS = 0.5
"""Between two looks at the store for a turn that runs in no log of this process."""
SQUASH_FROM = 64
"""A reader behind by more lines than this gets neighbouring deltas merged, unless it wants each."""


class Followers:
    """``live`` gives the log of a turn that runs here, by turn id."""

    def __init__(self, store: Store, live: Callable[[str], LiveLog | None]) -> None:
        self._store = store
        self._live = live
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Nobody reads further: streams end without ``turn_end``, and readers come back with their cursor.

        Whoever waits on a live log sees it at the log's next ``wake``.
        """
        self._closing.set()

    async def frames(self, turn_id: str, *, after: int, each: bool, encode: Encode) -> AsyncGenerator[bytes, None]:
        """What is newer than ``after``, framed, all that is pending in one piece; then live, until ``turn_end``.

        Ends without ``turn_end`` when the server stops, the store is away or the turn was deleted.
        """
        cursor = after
        log: LiveLog | None = None
        while not self._closing.is_set():
            # Once found it is kept: when the turn has ended nobody else has it, and its end is in it.
            log = log or self._live(turn_id)
            if log is not None and log.holds(cursor):
                # Between the look and the wait nothing is awaited: what is said meanwhile is said after it.
                newest = log.last_seq
                if newest > cursor:
                    framed = _pending(log, cursor, each=each, encode=encode)
                    cursor = newest
                    yield framed
                elif log.closed:
                    return
                else:
                    await log.changed()
                continue
            try:
                lines = await self._stored(turn_id, cursor)
                if not lines and log is None and not await self._goes_on_elsewhere(turn_id):
                    return
            except StoreError:
                return
            if lines:
                cursor = log_lines.seq_of(lines[-1])
                yield b"".join(map(encode, _merged(lines, each=each)))
                if log_lines.type_of(lines[-1]) == b"turn_end":
                    return

    async def _stored(self, turn_id: str, cursor: int) -> Sequence[bytes]:
        segments = await self._store.log(turn_id, after=cursor)
        lines = [line for segment in segments for line in log_lines.split(segment.lines)]
        return log_lines.newer(lines, cursor)

    async def _goes_on_elsewhere(self, turn_id: str) -> bool:
        """False if the turn has ended or is gone; else some time has passed."""
        row = await self._store.turn(turn_id)
        if row is None or row.ended_at is not None:
            return False
        with anyio.move_on_after(ELSEWHERE_SECONDS):
            await self._closing.wait()
        return True


def _pending(log: LiveLog, cursor: int, *, each: bool, encode: Encode) -> bytes:
    if each or log.last_seq - cursor <= SQUASH_FROM:
        return log.frames(cursor, encode)
    return b"".join(map(encode, _merged(log.read(cursor), each=each)))


def _merged(lines: Sequence[bytes], *, each: bool) -> Sequence[bytes]:
    return lines if each or len(lines) <= SQUASH_FROM else log_lines.squash_lines(lines)
