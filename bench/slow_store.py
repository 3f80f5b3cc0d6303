"""Hazard 16: how much later a reader has a delta while the store is slow, and while it stands still.

One server, its streams open all the time, and windows in turn: the store as it is, then each of its statements taking
half a second, or all of them standing for 10 s. A window is compared with the one before it, so the minute of the
machine is in both alike, and the median of these changes counts. How far each window with the store as it is differs
from the next such one says what a change is worth.

The server is `legato serve` itself, in a process whose SQLite connections look into a file before each statement.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import mmap
import os
import sqlite3
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
import uvloop

from bench.paced import Paced
from bench.readers import Reader, percentile
from bench.server import Child, cores, legato, pinned
from bench.streams import RATE, Shape, of_legato
from bench.table import keep, show
from legato.core.blocks import Json

SETTLE = 2.0  # seconds after a change in which nothing is measured
SHARES = (0.5, 0.99, 1)
PATIENCE = 60.0  # seconds for what is left to be stored at the end, and said
STEP = 0.1  # seconds after which what stands asks whether it still has to
_PUT = struct.Struct("dd")
_AS_SERVER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from bench.slow_store import main
main()
"""


class Pace:
    """What statements are told by another process: how long each takes, and until when all of them stand (seconds of
    CLOCK_MONOTONIC, which processes have in common)."""

    def __init__(self, file: Path) -> None:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, _PUT.size)
        self._put = mmap.mmap(descriptor, _PUT.size)
        os.close(descriptor)

    def say(self, *, each: float = 0.0, until: float = 0.0) -> None:
        _PUT.pack_into(self._put, 0, each, until)

    def wait(self) -> None:
        each, until = _PUT.unpack_from(self._put)
        if each:
            time.sleep(each)
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, STEP))
            _, until = _PUT.unpack_from(self._put)


class Window(msgspec.Struct, frozen=True):
    """``what`` it was like meanwhile; its edges are seconds of CLOCK_MONOTONIC."""

    what: str
    begun: float
    ended: float

    def of(self, readers: Iterable[Reader]) -> list[float]:
        """Milliseconds by which each delta of it came late."""
        first, last = self.begun * 1e6, self.ended * 1e6
        return [
            delay / 1000
            for reader in readers
            for delay, arrival in zip(reader.delays, reader.arrivals, strict=True)
            if first <= arrival < last
        ]


class Fault(msgspec.Struct, frozen=True):
    """``each`` statement takes so many seconds, or they ``stall`` for so long at once."""

    name: str
    seconds: float
    each: float = 0.0
    stall: bool = False

    def begin(self, pace: Pace) -> None:
        pace.say(each=self.each, until=time.monotonic() + self.seconds if self.stall else 0.0)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    streams: int = 50
    rounds: int = 8
    faults: tuple[Fault, ...] = (
        Fault("500 ms on every statement", 10.0, each=0.5),
        Fault("one stall of 10 s", 10.0, stall=True),
    )

    def seconds(self, fault: Fault) -> float:
        """That the streams last: a healthy window is as long as the other one."""
        return 2.0 + self.rounds * (2 * fault.seconds + 3 * SETTLE) + SETTLE


QUICK = Plan(streams=20, rounds=1, faults=(Fault("500 ms on every statement", 4.0, each=0.5),))


class Outcome(msgspec.Struct, frozen=True):
    """Delays are milliseconds, sorted, of each window; one with the fault follows each without."""

    fault: Fault
    healthy: list[list[float]]
    faulty: list[list[float]]
    ended: dict[str, int]
    """How many turns, by what became of them."""
    short: int
    """Readers that did not have every delta once."""

    def change(self, share: float) -> float:
        pairs = zip(self.healthy, self.faulty, strict=True)
        return statistics.median(percentile(late, share) / percentile(early, share) - 1 for early, late in pairs)

    def noise(self, share: float) -> float:
        """The same between healthy windows, whatever its sign."""
        pairs = pairwise(self.healthy)
        changes = [abs(percentile(late, share) / percentile(early, share) - 1) for early, late in pairs]
        return statistics.median(changes) if changes else float("nan")


async def measure(plan: Plan) -> list[Outcome]:
    ours, others = cores()
    with pinned(others):
        async with Paced() as paced:
            return [await _of(fault, plan, paced.port, ours) for fault in plan.faults]


async def _of(fault: Fault, plan: Plan, upstream_port: int, core: set[int]) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="legato-bench-") as folder:
        db, file = Path(folder) / "bench.db", Path(folder) / "pace"
        pace = Pace(file)
        serve = (sys.executable, "-c", _AS_SERVER, "--serve", str(file), "serve")
        with legato(
            upstream=f"http://127.0.0.1:{upstream_port}", core=core, client="direct", db=db, serve=serve
        ) as child:
            shape = Shape(plan.streams, int(plan.seconds(fault) * RATE), RATE, 1.0)
            readers = await _opened(child, shape)
            with _no_collections():
                windows = [one for _ in range(plan.rounds) for one in await _round(fault, pace)]
            await asyncio.wait([reader.done for reader in readers], timeout=PATIENCE)
        ended = _ended(db)
    return Outcome(
        fault,
        [sorted(window.of(readers)) for window in windows if window.what == "healthy"],
        [sorted(window.of(readers)) for window in windows if window.what != "healthy"],
        ended,
        sum(len(reader.delays) != shape.deltas or not reader.ended for reader in readers),
    )


async def _opened(child: Child, shape: Shape) -> list[Reader]:
    """Every stream, once it has its first deltas."""
    loop, asked = asyncio.get_running_loop(), of_legato("anthropic")(shape)
    request = asked.raw(child.port)
    readers: list[Reader] = []
    for _ in range(shape.streams):
        _, reader = await loop.create_connection(lambda: Reader(request, asked.end), "127.0.0.1", child.port)
        readers.append(reader)
        await asyncio.sleep(shape.ramp / shape.streams)
    await asyncio.sleep(SETTLE)
    return readers


async def _round(fault: Fault, pace: Pace) -> list[Window]:
    """A window with the store as it is, and one with the fault."""
    begun = time.monotonic()
    await asyncio.sleep(fault.seconds)
    healthy = Window("healthy", begun, time.monotonic())
    begun = time.monotonic()
    fault.begin(pace)
    await asyncio.sleep(fault.seconds)
    faulty = Window(fault.name, begun, time.monotonic())
    pace.say()
    await asyncio.sleep(2 * SETTLE)
    return [healthy, faulty]


def _ended(db: Path) -> dict[str, int]:
    query = "SELECT status || coalesce(': ' || error, ''), count(*) FROM turn WHERE role = 'assistant' GROUP BY 1"
    with closing(sqlite3.connect(db)) as database:
        return dict(database.execute(query).fetchall())


@contextmanager
def _no_collections() -> Iterator[None]:
    """One here is a pause that would be taken for the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def report(outcomes: Sequence[Outcome], plan: Plan) -> None:
    rows = [
        row
        for one in outcomes
        for row in (
            ["store as it is", *_figures(one.healthy), f"±{one.noise(0.5):.1%}", f"±{one.noise(0.99):.1%}"],
            [one.fault.name, *_figures(one.faulty), f"{one.change(0.5):+.1%}", f"{one.change(0.99):+.1%}"],
        )
    ]
    became = "; ".join(f"{one.fault.name}: {_said(one)}" for one in outcomes)
    show(
        f"Hazard 16: {plan.streams} streams of {RATE} deltas/s while the store is slow (change under 5 %)",
        ["", "deltas", "p50 ms", "p99 ms", "max ms", "change of p50", "of p99"],
        rows,
        note=f"medians of {plan.rounds} windows; {became}; load average {os.getloadavg()[0]:.1f}",
    )
    print(
        f"written to {keep('slow_store', {'plan': msgspec.to_builtins(plan), 'outcomes': list(map(_json, outcomes))})}"
    )


def _figures(windows: Sequence[Sequence[float]]) -> list[str]:
    return [f"{sum(map(len, windows)):,}", *(f"{_median(windows, share):.2f}" for share in SHARES)]


def _median(windows: Sequence[Sequence[float]], share: float) -> float:
    return statistics.median(percentile(delays, share) for delays in windows)


def _said(one: Outcome) -> str:
    turns = ", ".join(f"{count} turns {what}" for what, count in one.ended.items())
    return f"{turns}, {one.short} readers short of a delta"


def _json(one: Outcome) -> Json:
    return {
        "fault": one.fault.name,
        "ended": one.ended,
        "short": one.short,
        **{f"change_p{share * 100:g}": round(one.change(share), 4) for share in SHARES},
        **{f"noise_p{share * 100:g}": round(one.noise(share), 4) for share in SHARES},
        **{
            f"{name}_p{share * 100:g}_ms": [round(percentile(delays, share), 3) for delays in windows]
            for name, windows in (("healthy", one.healthy), ("faulty", one.faulty))
            for share in SHARES
        },
    }


# The server


def slowed(pace: Pace) -> type[sqlite3.Connection]:
    """Connections whose statements look at ``pace`` first, in the thread that makes them."""

    class Slow(sqlite3.Connection):
        def execute(self, *asked: object) -> sqlite3.Cursor:
            pace.wait()
            return super().execute(*asked)  # type: ignore[arg-type]

        def executemany(self, *asked: object) -> sqlite3.Cursor:
            pace.wait()
            return super().executemany(*asked)  # type: ignore[arg-type]

    return Slow


def serve(pace: Pace, arguments: Sequence[str]) -> None:
    """`legato` with such connections alone."""
    from legato.cli import main as legato_main

    connect, slow = sqlite3.connect, slowed(pace)
    sqlite3.connect = lambda *asked, **more: connect(*asked, factory=slow, **more)  # type: ignore[assignment]
    sys.argv[1:] = arguments
    legato_main()


def main(arguments: Sequence[str] | None = None) -> None:
    asked = list(sys.argv[1:] if arguments is None else arguments)
    if asked[:1] == ["--serve"]:
        serve(Pace(Path(asked[1])), asked[2:])
        return
    parser = argparse.ArgumentParser(prog="bench.slow_store", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short window, rougher figures")
    parser.add_argument("--streams", type=int, help="at once (50)")
    parser.add_argument("--rounds", type=int, help="windows of each kind (8)")
    given = parser.parse_args(asked)
    changes = {name: value for name in ("streams", "rounds") if (value := getattr(given, name)) is not None}
    plan = msgspec.structs.replace(QUICK if given.quick else Plan(), **changes)
    report(uvloop.run(measure(plan)), plan)


if __name__ == "__main__":
    main()
