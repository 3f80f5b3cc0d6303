"""Follow a turn: one cursor, whether the events come from memory or from the store (hazards 7, 8).

A reader never starts anything and holds nothing while it waits. The end is read from what is stored, not announced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import anyio

from legato.core import lines as log_lines
from legato.core.errors import StoreError
from legato.ports import Store
from legato.runtime.reading.live import Encode, LiveLog

ELSEWHERE_SECONDS = 0.5
"""Between two looks at the store for a turn that runs in no log of this process."""
WAITING_SECONDS = 5.0
"""Likewise for one that waits for somebody; when this process takes it up, readers hear of it at once."""
SQUASH_FROM = 64
"""A reader behind by more lines than this gets neighbouring deltas merged, unless it wants each."""


class Followers:
    """``live`` gives the log of a turn that runs here, by turn id."""

    def __init__(self, store: Store, live: Callable[[str], LiveLog | None]) -> None:
        self._store = store
        self.live = live
        self.closing = False
        self._moved = asyncio.Event()

    def close(self) -> None:
        """Nobody reads further: streams end without ``turn_end``, and readers come back with their cursor.

        Whoever waits on a live log sees it at the log's next ``wake``.
        """
        self.closing = True
        self._moved.set()

    def appeared(self) -> None:
        """This process has taken up a turn: who waits for that one reads on."""
        self._moved.set()
        self._moved = asyncio.Event()

    def reader(self, turn_id: str, *, after: int, each: bool, encode: Encode) -> Reader:
        return Reader(self, turn_id, after=after, each=each, encode=encode)

    async def stored(self, turn_id: str, cursor: int) -> Sequence[bytes]:
        segments = await self._store.log(turn_id, after=cursor)
        lines = [line for segment in segments for line in log_lines.split(segment.lines)]
        return log_lines.newer(lines, cursor)

    async def goes_on_elsewhere(self, turn_id: str) -> bool:
        """False if the turn has ended or is gone; else some time has passed."""
        row = await self._store.turn(turn_id)
        if row is None or row.ended_at is not None:
            return False
        with anyio.move_on_after(WAITING_SECONDS if row.status == "waiting" else ELSEWHERE_SECONDS):
            # Of another turn than this one nobody asks the store: of a thousand readers each would, for every turn.
            while not self.closing and self.live(turn_id) is None:
                await self._moved.wait()
        return True


class Reader:
    """One reader of one turn: an integer, and how it wants what comes after it. Made by ``Followers.reader``."""

    def __init__(self, followers: Followers, turn_id: str, *, after: int, each: bool, encode: Encode) -> None:
        self._followers = followers
        self._turn_id = turn_id
        self._cursor = after
        self._each = each
        self._encode = encode
        self._log: LiveLog | None = None
        self._ended = False

    async def read(self) -> bytes | None:
        """All that is newer than the cursor, framed, in one piece; waits while there is nothing.

        None at the end: after ``turn_end``, and without it when the server stops, the store is away or the turn was
        deleted.
        """
        while not self._followers.closing and not self._ended:
            # Once found it is kept: when the turn has ended nobody else has it, and its end is in it.
            log = self._log = self._log or self._followers.live(self._turn_id)
            if log is not None and log.holds(self._cursor):
                # Between the look and the wait nothing is awaited: what is said meanwhile is said after it.
                if log.has_after(self._cursor):
                    return self._pending(log)
                if log.closed:
                    return None
                if log.left:
                    self._log = None
                else:
                    await log.changed()
            elif (framed := await self._from_store()) is not None:
                return framed
        return None

    async def push(self, write: Callable[[bytes], bool]) -> None:
        """Give ``write`` what is said at the moment it is said, inside the call that says it.

        Returns at once if the reader has not caught up with a live log; else when there is nothing more to give this
        way: the log is closed or left, the server stops, or ``write`` says False, and then has not taken the piece:
        ``read`` gives it again. ``write`` must not wait.
        """
        log = self._log
        if log is None or log.closed or log.left or self._followers.closing or log.has_after(self._cursor):
            return
        over = asyncio.get_running_loop().create_future()

        def give() -> None:
            if over.done():
                return
            cursor = self._cursor
            try:
                newest = log.last_seq
                if newest == cursor + 1:
                    piece = log.newest(self._encode)
                    self._cursor = newest
                elif log.has_after(cursor):
                    piece = self._pending(log)
                else:
                    piece = b""
                if piece and not write(piece):
                    self._cursor = cursor
                    over.set_result(None)
                elif log.closed or log.left or self._followers.closing:
                    over.set_result(None)
            except Exception as error:  # noqa: BLE001 - the reader's own fault, raised where it waits, not in the turn
                over.set_exception(error)

        log.listen(give)
        try:
            await over
        finally:
            log.unlisten(give)

    def _pending(self, log: LiveLog) -> bytes:
        """What the live log has for this reader, which then has read it."""
        cursor, self._cursor = self._cursor, log.last_seq
        if self._each or log.last_seq - cursor <= SQUASH_FROM:
            return log.frames(cursor, self._encode)
        return self._framed(log.read(cursor))

    async def _from_store(self) -> bytes | None:
        """None if there is nothing yet; the turn may have ended."""
        try:
            lines = await self._followers.stored(self._turn_id, self._cursor)
            over = self._log is None or self._log.closed
            if not lines and over and not await self._followers.goes_on_elsewhere(self._turn_id):
                # It may have ended between the two looks, with all that was missing here.
                lines = await self._followers.stored(self._turn_id, self._cursor)
                self._ended = not lines
        except StoreError:
            self._ended = True
            return None
        if not lines:
            return None
        self._cursor = log_lines.seq_of(lines[-1])
        self._ended = log_lines.type_of(lines[-1]) == b"turn_end"
        return self._framed(lines)

    def _framed(self, lines: Sequence[bytes]) -> bytes:
        squashed = lines if self._each or len(lines) <= SQUASH_FROM else log_lines.squash_lines(lines)
        return b"".join(map(self._encode, squashed))
