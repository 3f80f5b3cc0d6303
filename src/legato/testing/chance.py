"""Faults at every seam, chosen by a seed: the same seed gives the same faults, in the same order, at each seam.

```python
chance = Chance(7)
upstream.enqueue(chance.provider().of(Script([Say("Hello.")])))  # a response in which one thing goes wrong
await chance.store().on(store)                                   # a FaultyStore: slow, away, …, and back
await chance.process().on(server)                                # a ServerProcess: killed, stopped, …, and up again
await chance.clock().on(clock)                                   # a JumpingClock: set, and left so
chance.file().on(path)                                           # the end of a file, as a power cut leaves it
```
A fault is a value that says what it does: print it, and what failed can be done again. Choosing is pure, and what is
drawn at one seam changes nothing at another. Name kinds to have no others: ``chance.process("kill")``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, assert_never, get_args

import anyio
import msgspec

from legato.testing.clock import JumpingClock
from legato.testing.process import ServerProcess
from legato.testing.script import Answer, Call, Cut, ErrorEvent, Failure, HangUp, Raw, Say, Script, Stall, Step
from legato.testing.store import FaultyStore, tear

K = TypeVar("K", bound=str)

ProviderKind: TypeAlias = Literal["cut", "reset", "garbage", "stall", "overloaded", "slow", "refused", "hang_up"]
StoreKind: TypeAlias = Literal["slow", "away", "full", "stands", "loses_answers"]
ProcessKind: TypeAlias = Literal["kill", "stop", "terminate"]
ClockKind: TypeAlias = Literal["forwards", "backwards", "skip"]


class ProviderFault(msgspec.Struct, frozen=True, kw_only=True):
    """``place`` is the share of the response's deltas that are said before. ``stall`` lasts until the client has had
    enough: give its provider a short ``idle_timeout``. ``seconds`` are those of ``slow``."""

    kind: ProviderKind
    place: float
    seconds: float

    def of(self, script: Script) -> Answer:
        """The response with the fault in it, or what is answered in its stead."""
        match self.kind:
            case "slow":
                return msgspec.structs.replace(script, lag=script.lag + self.seconds)
            case "refused":
                return Failure("overloaded")
            case "hang_up":
                return HangUp()
            case "cut":
                return self._broken(script, Cut())
            case "reset":
                return self._broken(script, Cut(how="reset"))
            case "garbage":
                return self._broken(script, Raw.garbage(), Cut())
            case "stall":
                return self._broken(script, Stall())
            case "overloaded":
                return self._broken(script, ErrorEvent())
            case _:
                assert_never(self.kind)

    def _broken(self, script: Script, *fault: Step) -> Script:
        deltas = sum(len(step.deltas()) for step in script.steps if isinstance(step, Say | Call))
        return msgspec.structs.replace(script, steps=[*_until(script.steps, round(self.place * deltas)), *fault])


class StoreFault(msgspec.Struct, frozen=True, kw_only=True):
    """It lasts ``seconds``; ``slow`` makes each call take a tenth of that longer."""

    kind: StoreKind
    seconds: float

    async def on(self, store: FaultyStore) -> None:
        """Returns when the store is back, also when it is cancelled."""
        match self.kind:
            case "slow":
                store.slow(self.seconds / 10)
            case "away":
                store.away()
            case "full":
                store.full()
            case "stands":
                store.hold()
            case "loses_answers":
                store.lose_answers()
            case _:
                assert_never(self.kind)
        try:
            await anyio.sleep(self.seconds)
        finally:
            store.back()


class ProcessFault(msgspec.Struct, frozen=True, kw_only=True):
    """It comes ``after`` so many seconds; ``stop`` lasts ``seconds``."""

    kind: ProcessKind
    after: float
    seconds: float

    async def on(self, server: ServerProcess) -> None:
        """Returns when the server runs again. Raises ``ProcessFailed``."""
        await anyio.sleep(self.after)
        match self.kind:
            case "kill":
                await server.kill()
                await server.start()
            case "terminate":
                await server.terminate()
                await server.start()
            case "stop":
                await server.stop()
                try:
                    await anyio.sleep(self.seconds)
                finally:
                    server.go_on()
            case _:
                assert_never(self.kind)


class ClockFault(msgspec.Struct, frozen=True, kw_only=True):
    """The wall clock is set by ``seconds``, or ``skip``: the monotonic one moves on by so many."""

    kind: ClockKind
    seconds: float

    async def on(self, clock: JumpingClock) -> None:
        match self.kind:
            case "forwards":
                clock.jump(self.seconds)
            case "backwards":
                clock.jump(-self.seconds)
            case "skip":
                clock.skip(self.seconds)
            case _:
                assert_never(self.kind)


class FileFault(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes`` never reached the disk."""

    bytes: int

    def on(self, file: Path) -> None:
        """Of a file that nobody has open: a spool's, or a database's ``-wal``, after a kill."""
        tear(file, bytes=self.bytes)


class Chance:
    """The faults of one seed. Each call gives the next one of its seam."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._seams: dict[str, random.Random] = {}

    def happens(self, share: float) -> bool:
        """True in so many of all cases: 0.25 is every fourth."""
        return self._of("happens").random() < share

    def provider(self, *kinds: ProviderKind) -> ProviderFault:
        chance = self._of("provider")
        kind = chance.choice(kinds or get_args(ProviderKind))
        return ProviderFault(kind=kind, place=round(chance.random(), 3), seconds=_seconds(chance, 1.5))

    def store(self, *kinds: StoreKind) -> StoreFault:
        chance = self._of("store")
        return StoreFault(kind=chance.choice(kinds or get_args(StoreKind)), seconds=_seconds(chance, 1.5))

    def process(self, *kinds: ProcessKind) -> ProcessFault:
        chance = self._of("process")
        kind = chance.choice(kinds or get_args(ProcessKind))
        return ProcessFault(kind=kind, after=_seconds(chance, 0.5), seconds=_seconds(chance, 1.5))

    def clock(self, *kinds: ClockKind) -> ClockFault:
        """By up to a day; the monotonic clock by up to a minute, which is two leases."""
        chance = self._of("clock")
        kind = chance.choice(kinds or get_args(ClockKind))
        return ClockFault(kind=kind, seconds=_seconds(chance, 60.0 if kind == "skip" else 86_400.0))

    def file(self) -> FileFault:
        """Up to a page of a disk."""
        return FileFault(bytes=self._of("file").randint(1, 4096))

    def _of(self, seam: str) -> random.Random:
        return self._seams.setdefault(seam, random.Random(f"{self.seed} {seam}"))  # noqa: S311  (not to be kept secret)


def _seconds(chance: random.Random, most: float) -> float:
    return round(chance.uniform(0, most), 3)


def _until(steps: Sequence[Step], place: int) -> Sequence[Step]:
    """The steps up to the ``place``-th delta of their texts and calls; the one it falls into stays open."""
    said: list[Step] = []
    for step in steps:
        if isinstance(step, Say | Call):
            count = len(step.deltas())
            if place < count:
                return [*said, _begun(step, place)]
            place -= count
        said.append(step)
    return said


def _begun(step: Say | Call, count: int) -> Step:
    """Its first deltas, each at its time."""
    times = {} if step.gaps is None else {"gaps": step.gaps[:count]}
    times |= {} if step.at is None else {"at": step.at[:count]}
    over = None if step.over is None else step.over * count / len(step.deltas())
    return msgspec.structs.replace(step, pieces=step.deltas()[:count], over=over, stop=False, **times)
