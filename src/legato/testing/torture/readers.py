"""Who follows a turn from outside: cut off at any byte, back with the cursor, at whichever server there is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, NamedTuple

import aiohttp
from aiohttp import ClientTimeout

from legato.core import events as e
from legato.core.blocks import Json
from legato.core.fold import Turn

SILENCE: Final = 15.0
"""Seconds: a stream says something at least every 10 s."""
COME_BACK: Final = 0.05
"""Seconds before a reader tries again: shorter than a browser's, to be there in the midst of things."""


NOTICED: Final = 0.05
"""Seconds of silence from which on it is one."""


class Gap(NamedTuple):
    """Monotonic seconds between two events, the turn neither queued nor waiting for anybody."""

    since: float
    until: float


class Start(NamedTuple):
    """A round, or a tool, began; ``at`` is when it was heard, in monotonic seconds."""

    seq: int
    at: float
    said: str


class Reader:
    """``wrong`` is what it was told that it should not have been."""

    def __init__(self, turn_id: str, *, each: bool = False, drops: tuple[int, ...] = ()) -> None:
        self.turn_id = turn_id
        self.turn = Turn()
        self.gaps: list[Gap] = []
        self.wrong: list[str] = []
        self.lines: dict[int, bytes] = {}
        """By seq what it was told, as it was; of one that wants each delta."""
        self.rewinds: list[e.Rewind] = []
        self.starts: list[Start] = []
        self.ended: float | None = None
        """When it heard so, in monotonic seconds."""
        self.came = 0
        self.views: list[Json] = []
        self.events = 0
        self.each = each
        self._drops = list(drops)
        self._at: float | None = None

    async def follow(
        self,
        session: aiohttp.ClientSession,
        url: Callable[[], str],
        *,
        heard: Callable[[e.Event], None] = lambda _: None,
    ) -> None:
        """Until the turn has ended, or something was wrong."""
        while not self.turn.ended and not self.wrong:
            try:
                await self._once(session, url(), heard)
                if not self.turn.ended:
                    await self._look(session, url())
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # the server is gone or silent: that is what it is here for
            if not self.turn.ended:
                await asyncio.sleep(COME_BACK)

    async def _once(self, session: aiohttp.ClientSession, url: str, heard: Callable[[e.Event], None]) -> None:
        drop = self._drops.pop(0) if self._drops else None
        query = f"after={self.turn.last_seq}" + ("&deltas=each" if self.each else "")
        timeout = ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE)
        async with session.get(f"{url}/v1/turns/{self.turn_id}/events?{query}", timeout=timeout) as answer:
            if answer.status == 204:
                self.wrong.append(f"204 after {self.turn.last_seq}, and turn_end was never said")
                return
            if answer.status != 200:
                if answer.status < 500 and answer.status != 429:
                    self.wrong.append(f"status {answer.status} for an accepted turn")
                return
            self.came += 1
            async with aclosing(_frames(answer, drop)) as frames:
                async for data in frames:
                    event = e.decode(data)
                    if self.each:
                        self.lines[event.seq] = data
                    self.hear(event)
                    heard(event)

    async def _look(self, session: aiohttp.ClientSession, url: str) -> None:
        """At the turn as GET shows it, from which it might go on as well."""
        async with session.get(f"{url}/v1/turns/{self.turn_id}") as answer:
            if answer.status == 200:
                self.views.append(await answer.json())

    def hear(self, event: e.Event) -> None:
        now, last = time.monotonic(), self.turn.last_seq
        if (said := out_of_order(last, event)) is not None:
            self.wrong.append(said)
        if self.turn.ended:
            self.wrong.append(f"seq {event.seq} after turn_end at {last}")
        since, self._at = now if self._at is None else self._at, now
        if now - since >= NOTICED and not self.turn.waiting and self.turn.status != "queued":
            self.gaps.append(Gap(since, now))
        self.events += 1
        match event:
            case e.RoundStart():
                self.starts.append(Start(event.seq, now, f"round {event.round}"))
            case e.ToolStart():
                self.starts.append(Start(event.seq, now, f"{event.tool_name} of {event.call_id}"))
            case e.Rewind():
                self.rewinds.append(event)
            case e.TurnEnd():
                self.ended = now
            case _:
                pass
        self.turn.apply(event)


def out_of_order(last: int, event: e.Event) -> str | None:
    """What is wrong with an event that comes right after ``last``. An owner counts from one; the next one begins its
    own thousand thousands with a rewind."""
    first = event.seq
    if isinstance(event, e.BlockDelta) and isinstance(event.first_seq, int):
        first = event.first_seq
    if first == last + 1 or (isinstance(event, e.Rewind) and first % e.EPOCH_SIZE == 1 and first > last):
        return None
    return f"{type(event).__name__} has seq {first} after {last}"


async def _frames(answer: aiohttp.ClientResponse, drop: int | None) -> AsyncGenerator[bytes, None]:
    """The data of each frame that is whole; after ``drop`` bytes nothing comes any more."""
    buffer, left = b"", drop
    async for piece in answer.content.iter_any():
        taken = piece if left is None else piece[:left]
        *frames, buffer = (buffer + taken).split(b"\n\n")
        for frame in frames:
            for line in frame.splitlines():
                if line.startswith(b"data: "):
                    yield line[6:]
        if left is not None:
            left -= len(taken)
            if left <= 0:
                return
