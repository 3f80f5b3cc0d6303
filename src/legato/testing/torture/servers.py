"""The servers that are tortured: one that is always there again, a second one on the same file now and then."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, assert_never

from legato.testing.clock import JumpingClock
from legato.testing.process import ProcessFailed, ServerProcess
from legato.testing.torture import harm
from legato.testing.torture.plan import Fault, Freeze, Full, Jump, Kill, Lock, Restart, Slow, Spool, Twin
from legato.testing.torture.told import Window

TOOLS_MODULE: Final = "legato.testing.torture.tools"
STOPS: Final = 5 + 5
"""Seconds in which a server ends once its drain is over: the first five are promised, the others a busy machine's."""
OVER_A_LEASE: Final = 30.0
"""Seconds: whoever was stopped for longer has lost its turns."""


class DidNotStart(Exception):
    """A server ended, or said nothing, before it listened."""


class Servers:
    """``windows`` are the faults there were; ``wrong`` is what servers did that they should not.

    ``apart``: seconds between two faults of the file or of who writes it. The journal tries again after at most 1 s, so
    that with more each has a retry window of its own, and none meets a spool that cannot be written.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], *, drain: float, apart: float) -> None:
        self.db = folder / "legato.db"
        self.windows: list[Window] = []
        self.wrong: list[str] = []
        self._clock = JumpingClock(folder / "clock")
        self._first, self._twin = (
            ServerProcess(folder, TOOLS_MODULE, "--drain", f"{drain:g}", environ=environ, clock=self._clock)
            for _ in range(2)
        )
        self._up: list[ServerProcess] = []
        self._twin_left = 0
        self._hurting = 0
        self._apart = apart
        self._stops = drain + STOPS
        self._file_free = 0.0

    async def start(self) -> None:
        """Raises ``DidNotStart``."""
        await self._start(self._first)

    async def end(self) -> None:
        """The first alone."""
        await self._terminate()

    async def kill(self) -> None:
        await self._first.kill()
        await self._twin.kill()

    def any_url(self, chance: random.Random) -> str:
        return chance.choice(self._up or [self._first]).url

    @property
    def alone(self) -> bool:
        """One is up, and no fault is there."""
        return len(self._up) == 1 and not self._hurting

    @property
    def life(self) -> tuple[int, ...]:
        """Of who is up: the same again as long as nobody came or went."""
        return tuple(server.pid for server in self._up)

    async def step(self) -> None:
        """Another step is done: the twin has so many."""
        self._twin_left -= 1
        if self._twin_left <= 0:
            await self.stop_twin()

    async def stop_twin(self) -> None:
        if self._twin in self._up:
            began = time.monotonic()
            self._up.remove(self._twin)
            await self._twin.kill()
            self.windows.append(Window("twin killed", began, time.monotonic()))

    async def hurt(self, fault: Fault) -> None:
        if isinstance(fault, Kill):
            await asyncio.sleep(fault.after)
        elif isinstance(fault, Lock | Slow | Full | Spool | Freeze):
            await asyncio.sleep(max(0.0, self._file_free + self._apart - time.monotonic()))
        began = time.monotonic()
        self._hurting += 1
        try:
            name = await self._do(fault)
        finally:
            self._hurting -= 1
        self._file_free = time.monotonic()
        self.windows.append(Window(name, began, self._file_free))

    async def _do(self, fault: Fault) -> str:
        """What it is called."""
        match fault:
            case Kill():
                self._up.remove(self._first)
                await self._first.kill()
                await self._start(self._first)
            case Restart():
                self._up.remove(self._first)
                await self._terminate()
                await self._start(self._first)
            case Freeze(seconds=seconds):
                await harm.freeze(self._first, seconds)
                if seconds > OVER_A_LEASE:
                    return f"frozen {seconds:.0f} s"
            case Lock(seconds=seconds):
                async with harm.Locked(self.db):
                    await asyncio.sleep(seconds)
            case Slow(seconds=seconds, each=each):
                await harm.slow_down(self.db, seconds, each)
            case Full(seconds=seconds):
                await harm.fill_disk(self._first, seconds)
            case Spool():
                return await self._tear_spool()
            case Jump(seconds=seconds):
                self._clock.jump(seconds)
            case Twin(steps=steps):
                self._twin_left = max(self._twin_left, steps)
                if self._twin not in self._up:
                    await self._start(self._twin)
            case _:
                assert_never(fault)
        return type(fault).__name__.lower()

    async def _tear_spool(self) -> str:
        folder = self.db.with_name(f"{self.db.name}.spool")
        async with harm.Locked(self.db):
            if not await harm.spooled(folder):
                return "lock"
            self._up.remove(self._first)
            await self._first.kill()
            torn = harm.tear(folder)
        await self._start(self._first)
        return "torn spool" if torn else "kill"

    async def _terminate(self) -> None:
        began = time.monotonic()
        try:
            code = await self._first.terminate()
        except ProcessFailed as failed:
            self.wrong.append(f"SIGTERM did not end it: {failed}")
            return
        took = time.monotonic() - began
        if code != 0 or took > self._stops:
            self.wrong.append(f"SIGTERM ended it with {code} after {took:.1f} s")

    async def _start(self, server: ServerProcess) -> None:
        try:
            await server.start()
        except ProcessFailed as failed:
            raise DidNotStart(str(failed)) from failed
        self._up.append(server)
