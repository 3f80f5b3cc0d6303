"""P14, P15, P16: how many streams one core holds, what a delta costs, what the first one waits for.

The server runs on one core with a SQLite file, upstream and readers on the other. In the same run a bare pass-through
proxy (bench.passthrough) has the same load, so that what the machine costs is seen beside what the server costs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import uvloop

from bench.paced import Paced
from bench.readers import Asked, Load, percentile, read
from bench.server import Child, cores, free_port, legato, pinned, running
from bench.table import keep, show
from legato.core.blocks import Json
from legato.testing.script import Wire

RATE = 50  # deltas a second, as models are
SETTLE = 1.0  # seconds after a load in which what it left to be stored is stored, and counted
MARGIN = 0.5  # seconds at both ends of a load that its figures leave out


class Shape(msgspec.Struct, frozen=True):
    """A load: so many streams at once, each of so many deltas at such a rate (0: as fast as they go)."""

    streams: int
    deltas: int
    rate: int
    ramp: float = 0.0

    @property
    def name(self) -> str:
        return f"fake-n{self.deltas}-r{self.rate}-t0-d0-k1"


class Figures(msgspec.Struct, frozen=True):
    """What a load cost a process and what its readers saw."""

    who: str
    load: Load
    cpu_us: float
    """CPU of the process for each delta, microseconds."""
    busy: float
    """Share of one core it used meanwhile."""
    rate: float
    """Deltas a second, all readers together."""
    rss: int


class Measured(msgspec.Struct, frozen=True):
    """A process under load, and how it is asked."""

    who: str
    child: Child
    asked: Callable[[Shape], Asked]


def of_legato(wire: Wire) -> Callable[[Shape], Asked]:
    provider = "anthropic" if wire == "anthropic" else "openai"

    def asked(shape: Shape) -> Asked:
        body = {"model": f"{provider}/{shape.name}", "input": "Go.", "tools": []}
        return Asked("/v1/turns", msgspec.json.encode(body), b"event: turn_end")

    return asked


def of_vendor(wire: Wire) -> Callable[[Shape], Asked]:
    path = "/v1/messages" if wire == "anthropic" else "/v1/chat/completions"

    def asked(shape: Shape) -> Asked:
        body = {
            "model": shape.name,
            "max_tokens": 4096,
            "stream": True,
            "messages": [{"role": "user", "content": "Go."}],
        }
        return Asked(path, msgspec.json.encode(body), b"message_stop" if wire == "anthropic" else b"[DONE]")

    return asked


async def under(measured: Measured, shape: Shape) -> Figures:
    """Put the load on and see what it costs: a paced one while every stream is open and none begins or ends, so that
    what a turn costs is not taken for what a delta costs; a burst from its start until what it left is stored."""
    planned = shape.deltas / shape.rate if shape.rate else 0.0
    window = (shape.ramp + MARGIN, planned - MARGIN) if shape.rate else (0.0, float("inf"))
    child, begun = measured.child, time.monotonic()
    reading = read(
        child.port,
        measured.asked(shape),
        readers=shape.streams,
        deltas=shape.deltas,
        ramp=shape.ramp,
        patience=planned + 60,
        window=window,
    )
    if shape.rate:
        async with asyncio.TaskGroup() as tasks:
            told = tasks.create_task(reading)
            used, took = await _cpu_within(child, begun, window)
        load = told.result()
    else:
        before = child.cpu_seconds()
        load, took = await reading, time.monotonic() - begun
        await asyncio.sleep(SETTLE)
        used = child.cpu_seconds() - before
    counted = len(load.delays)
    per_delta = used * 1e6 / counted if counted else float("nan")
    return Figures(measured.who, load, per_delta, used / took, counted / took, child.rss_bytes())


async def _cpu_within(child: Child, begun: float, window: tuple[float, float]) -> tuple[float, float]:
    """CPU seconds between the window's edges, and the seconds that passed: a busy loop comes to an edge late."""
    seen = []
    for edge in window:
        await asyncio.sleep(begun + edge - time.monotonic())
        seen.append((child.cpu_seconds(), time.monotonic()))
    return seen[1][0] - seen[0][0], seen[1][1] - seen[0][1]


async def first_tokens(port: int, asked: Asked, *, times: int) -> list[float]:
    """Milliseconds to the first delta, one request after the other, sorted."""
    loads = [
        await read(port, asked, readers=1, deltas=1, ramp=0, patience=10, window=(0, float("inf")))
        for _ in range(times)
    ]
    return sorted(one for load in loads for one in load.first)


@asynccontextmanager
async def upstream(port: int | None) -> AsyncIterator[int]:
    """The port of ours, or of the one that was named."""
    if port is not None:
        yield port
        return
    async with Paced() as paced:
        yield paced.port


@contextmanager
def passthrough(upstream_port: int, core: set[int]) -> Iterator[Child]:
    port = free_port()
    command = [sys.executable, "-m", "bench.passthrough", str(port), str(upstream_port)]
    root = str(Path(__file__).parents[1])
    with (
        tempfile.TemporaryDirectory(prefix="legato-bench-") as folder,
        running(command, port=port, ready="/", env={"PYTHONPATH": root}, cwd=Path(folder), core=core) as child,
    ):
        yield child


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``bare``: measure the pass-through too."""

    turns: int = 650
    seconds: float = 20.0
    alone_turns: int = 100
    alone_seconds: float = 10.0
    burst_turns: int = 4
    burst_deltas: int = 20_000
    first_times: int = 100
    wire: Wire = "anthropic"
    upstream_port: int | None = None
    bare: bool = True

    def crowd(self) -> Shape:
        ramp = max(1.0, self.turns / 300)
        return Shape(self.turns, int((self.seconds + ramp) * RATE), RATE, ramp)

    def alone(self) -> Shape:
        return Shape(self.alone_turns, int((self.alone_seconds + 1) * RATE), RATE, 1.0)

    def burst(self) -> Shape:
        return Shape(self.burst_turns, self.burst_deltas, 0)


QUICK = Plan(seconds=6.0, alone_turns=50, alone_seconds=4.0, burst_deltas=10_000, first_times=30)


class Outcome(msgspec.Struct, frozen=True):
    """What was measured of one process; of the upstream itself only ``first``, the milliseconds to the first delta."""

    who: str
    first: list[float]
    alone: Figures | None = None
    burst: Figures | None = None
    crowd: Figures | None = None


async def measure(plan: Plan) -> list[Outcome]:
    """The upstream asked straight, the server, and the pass-through, one after the other."""
    ours, others = cores()
    with pinned(others):
        async with upstream(plan.upstream_port) as port:
            straight = await first_tokens(port, of_vendor(plan.wire)(FIRST), times=plan.first_times)
            outcomes = [Outcome("upstream, straight", straight)]
            for client, who in (("direct", "legato"), ("aiohttp", "legato (aiohttp)")):
                with legato(upstream=f"http://127.0.0.1:{port}", core=ours, client=client) as child:
                    outcomes.append(await _each_load(Measured(who, child, of_legato(plan.wire)), plan))
            if plan.bare:
                with passthrough(port, ours) as child:
                    outcomes.append(await _each_load(Measured("pass-through", child, of_vendor(plan.wire)), plan))
    return outcomes


FIRST = Shape(1, 1, 0)


async def _each_load(measured: Measured, plan: Plan) -> Outcome:
    await first_tokens(measured.child.port, measured.asked(FIRST), times=5)  # imports, pools, caches
    first = await first_tokens(measured.child.port, measured.asked(FIRST), times=plan.first_times)
    # A collection here is a pause that would be taken for the server's.
    gc.collect()
    gc.disable()
    try:
        alone, burst, crowd = [await under(measured, shape) for shape in (plan.alone(), plan.burst(), plan.crowd())]
    finally:
        gc.enable()
    return Outcome(measured.who, first, alone, burst, crowd)


def report(outcomes: Sequence[Outcome], plan: Plan) -> None:
    crowd, straight = plan.crowd(), statistics.median(outcomes[0].first)
    others = f"the machine's load average is {os.getloadavg()[0]:.1f}; what others run here is in these figures"
    show(
        f"P14: {crowd.streams} streams of {RATE} deltas/s at once on one core (p99 under 50 ms)",
        ["", "deltas", "p50 ms", "p99 ms", "max ms", "core busy", "RSS MiB", "refused", "unended", "short"],
        [_crowd_row(one.crowd) for one in outcomes if one.crowd],
        note=others,
    )
    show(
        "P15: CPU for a delta, from the provider's socket to the reader's (at most 32 and 6 µs)",
        ["", f"each alone µs ({plan.alone_turns} streams)", f"burst µs ({plan.burst_turns} streams)", "burst deltas/s"],
        [
            [one.who, f"{one.alone.cpu_us:.1f}", f"{one.burst.cpu_us:.2f}", f"{one.burst.rate:,.0f}"]
            for one in outcomes
            if one.alone and one.burst
        ],
    )
    show(
        "P16: from a request to its first delta (at most 2 ms added)",
        ["", "p50 ms", "p95 ms", "added p50 ms"],
        [
            [
                one.who,
                f"{percentile(one.first, 0.5):.2f}",
                f"{percentile(one.first, 0.95):.2f}",
                f"{statistics.median(one.first) - straight:+.2f}",
            ]
            for one in outcomes
        ],
    )
    print(f"written to {keep('streams', {'plan': msgspec.to_builtins(plan), 'outcomes': list(map(_json, outcomes))})}")


def _crowd_row(figures: Figures) -> list[str]:
    load = figures.load
    return [
        figures.who,
        f"{load.deltas:,}",
        f"{load.delay(0.5):.1f}",
        f"{load.delay(0.99):.1f}",
        f"{load.delay(1):.1f}",
        f"{figures.busy:.0%}",
        f"{figures.rss / 2**20:.0f}",
        str(load.refused),
        str(load.unended),
        str(load.short),
    ]


def _json(outcome: Outcome) -> Json:
    said: dict[str, Json] = {"who": outcome.who, "first_p50_ms": percentile(outcome.first, 0.5)}
    for name, figures in (("alone", outcome.alone), ("burst", outcome.burst), ("crowd", outcome.crowd)):
        if figures is None:
            continue
        load = figures.load
        said[name] = {
            "streams": load.readers,
            "deltas": load.deltas,
            "refused": load.refused,
            "unended": load.unended,
            "short": load.short,
            "cpu_us_a_delta": round(figures.cpu_us, 3),
            "core_busy": round(figures.busy, 4),
            "rss_bytes": figures.rss,
            "deltas_a_second": round(figures.rate, 1),
            **{f"delay_p{share:g}_ms": round(load.delay(share / 100), 3) for share in (50, 95, 99, 100)},
        }
    return said


async def hold(plan: Plan) -> None:
    """Keep everything running for generators of others, until a signal comes."""
    stop = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    ours, others = cores()
    with pinned(others):
        async with upstream(plan.upstream_port) as port:
            with legato(upstream=f"http://127.0.0.1:{port}", core=ours) as server, passthrough(port, ours) as bare:
                print(f"upstream on {port}; legato on {server.port}, pid {server.pid}")
                print(f"pass-through on {bare.port}, pid {bare.pid}; Ctrl-C ends it all", flush=True)
                await stop.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.streams", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter loads, rougher figures")
    parser.add_argument("--turns", type=int, help="streams at once (650)")
    parser.add_argument("--seconds", type=float, help="of the load with every stream open (20)")
    parser.add_argument("--wire", choices=("anthropic", "openai_chat"))
    parser.add_argument("--upstream-port", type=int, help="of an upstream that keeps to bench.paced, in place of ours")
    parser.add_argument("--hold", action="store_true", help="start everything, print the ports, and wait")
    parser.add_argument("--only-legato", action="store_true", help="leave the pass-through out")
    asked = parser.parse_args(arguments)
    given = {name: getattr(asked, name) for name in ("turns", "seconds", "wire", "upstream_port")}
    plan = msgspec.structs.replace(
        QUICK if asked.quick else Plan(),
        bare=not asked.only_legato,
        **{name: value for name, value in given.items() if value is not None},
    )
    if asked.hold:
        uvloop.run(hold(plan))
    else:
        report(uvloop.run(measure(plan)), plan)


if __name__ == "__main__":
    main()
