"""The live log of a running turn: its events, encoded once, read from a cursor by whoever follows.

Nobody is sent events. A reader is one integer: it reads what is newer than its cursor, and where there is nothing it
waits for ``changed``. So a slow reader costs no queue and slows nobody, and what a thousand readers share is encoded
once for each surface (P10).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

Encode: TypeAlias = Callable[[bytes], bytes]
"""A surface's framing of one event line. The same function object each time: it keys the shared frames."""

KEPT_LINES = 4096
"""Stored lines kept in memory for readers that are close behind; older ones are read from the store."""


class LiveLog:
    """One owner's events of one turn, in order and without a hole, from ``first_seq``. ``after`` is the last that is
    stored of the owner before: whoever has read on from there has missed nothing of it that still counts.

    ``hidden``: nobody is given anything until ``show``.
    """

    def __init__(self, *, first_seq: int, after: int | None = None, hidden: bool = False) -> None:
        self.first_seq = first_seq
        """The seq of the oldest line still here."""
        self.last_seq = first_seq - 1
        self.hidden = hidden
        self.closed = False
        self.left = False
        """The turn waits without an owner: what comes next is in another log, or in the store."""
        self._after = first_seq - 1 if after is None else after
        self._lines: list[bytes] = []
        self._frames: dict[Encode, list[bytes]] = {}
        self._waiting: set[asyncio.Future[None]] = set()
        self._listeners: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()

    def append(self, line: bytes) -> None:
        """``line`` is the next event. Readers hear of it at ``wake``."""
        self._lines.append(line)
        self.last_seq += 1

    def wake(self) -> None:
        """Readers read on. Called once for everything that one wake-up of the writer brought."""
        if self.hidden and not self.closed:
            return
        for listener in self._listeners:
            listener()
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def show(self) -> None:
        """Readers are given what is here, and hear of what comes."""
        self.hidden = False
        self.wake()

    def close(self) -> None:
        """Nothing will come after what is here; what is hidden stays so."""
        self.closed = True
        self.wake()

    def leave(self) -> None:
        """The turn is at rest: readers look elsewhere for what comes next."""
        self.left = True
        self.wake()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call it at every ``wake``, in the writer's own step: it must not wait, raise, or listen anew."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        self._listeners.remove(listener)

    async def changed(self) -> None:
        """Wait for the next ``wake``. Nothing falls between a look at the log and this, if nothing is awaited there."""
        future = self._loop.create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            # Done already unless the reader was cancelled.
            self._waiting.discard(future)

    def holds(self, cursor: int) -> bool:
        """Everything after ``cursor`` that this owner said is here; else the store has it."""
        return cursor >= self._after

    def has_after(self, cursor: int) -> bool:
        """Something newer than ``cursor``, which this log ``holds``, was said."""
        return self.last_seq > cursor and not self.hidden and bool(self._lines)

    def read(self, cursor: int) -> Sequence[bytes]:
        """The lines after ``cursor``, which this log ``holds``."""
        return self._lines[max(0, cursor - self.first_seq + 1) :]

    def newest(self, encode: Encode) -> bytes:
        """The last line, framed: what a reader that misses one event is given (P15)."""
        framed = self._frames.get(encode)
        if framed is not None and len(framed) == len(self._lines) - 1:
            framed.append(encode(self._lines[-1]))
            return framed[-1]
        return self.frames(self.last_seq - 1, encode)

    def frames(self, cursor: int, encode: Encode) -> bytes:
        """What ``read`` gives, framed for a surface and joined; framed once, whoever asks."""
        framed = self._frames.get(encode)
        if framed is None:
            framed = self._frames[encode] = []
        lines = self._lines
        if len(framed) < len(lines):
            framed.extend(map(encode, lines[len(framed) :]))
        if self.last_seq - cursor == 1:
            return framed[-1]
        return b"".join(framed[max(0, cursor - self.first_seq + 1) :])

    def trim(self, durable_seq: int) -> None:
        """Let go of stored lines beyond ``KEPT_LINES``; a reader further behind finds them in the store."""
        spare = min(durable_seq - self.first_seq + 1, len(self._lines) - KEPT_LINES)
        if spare >= KEPT_LINES // 4:
            del self._lines[:spare]
            for framed in self._frames.values():
                del framed[:spare]
            self.first_seq += spare
            self._after = self.first_seq - 1
