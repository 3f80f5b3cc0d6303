"""How soon things stop: a cancelled turn lets go of its provider, and a provider that is silent is given up.

``python -m bench.stops`` cancels turns in the midst of their text and takes three times from the POST of the cancel:
until the upstream sees its connection closed, until the reader has ``turn_end``, until the POST is answered. Once with
the database free, once while another process holds its write lock, when nothing can be stored and so no ``turn_end`` be
said. Then it lets requests hang in four ways, each with a limit of a second, and takes the time from the request to the
turn's end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import aiohttp
import msgspec

from bench.overlap import MODELS, WIRES
from bench.server import legato
from bench.table import keep, show
from legato.core.blocks import Json
from legato.testing.upstream import Answer, Say, Script, Stall, Upstream, Wire

RUNS = 20
LIMIT = 1.0  # seconds of silence that are allowed
TALKING: Answer = Script([Say("on and on " * 5000, pace=50)])
SILENCES: dict[str, Answer] = {
    "no head": Script([Say("never")], lag=600),
    "a head, then nothing": Script([Say("never")], quiet=600),
    "falls silent in its text": Script([Say("Let me see."), Stall()]),
    "pings alone": Script([Say("Let me see."), Stall(pings=0.1)]),
}


class Stop(msgspec.Struct, frozen=True):
    """Seconds from the cancel; ``ended`` is None where the store took nothing."""

    hung_up: float
    ended: float | None
    answered: float


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The database, by somebody else, as a backup might."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


async def cancelled(client: aiohttp.ClientSession, url: str, upstream: Upstream, wire: Wire, db: Path | None) -> Stop:
    """``db``: locked from just before the cancel until the connection is closed."""
    upstream.enqueue(TALKING)
    number = len(upstream.requests) + 1
    headers = {"accept": "text/event-stream"}
    async with client.post(f"{url}/v1/turns", json={"input": "Go.", "model": MODELS[wire]}, headers=headers) as answer:
        place = url + answer.headers["location"]
        lines = answer.content.__aiter__()
        while b"block_delta" not in await anext(lines):
            pass
        with nullcontext() if db is None else locked(db):
            began = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                hung_up = tasks.create_task(_timed(upstream.hung_up(number)))
                posted = tasks.create_task(_timed(_post(client, f"{place}/cancel")))
                ended = None if db is not None else tasks.create_task(_timed(_end(lines)))
        if ended is None:
            await _end(lines)
    return Stop(
        hung_up.result() - began,
        None if ended is None else ended.result() - began,
        posted.result() - began,
    )


async def _timed(done: Awaitable[None]) -> float:
    await done
    return time.monotonic()


async def _post(client: aiohttp.ClientSession, url: str) -> None:
    async with client.post(url, json={}) as answer:
        if answer.status != 202:
            raise RuntimeError(f"the cancel was refused: {answer.status} {await answer.text()}")


async def _end(lines: AsyncIterator[bytes]) -> None:
    async for line in lines:
        if b'"type":"turn_end"' in line:
            return
    raise RuntimeError("the stream ended without turn_end")


async def settled(client: aiohttp.ClientSession, url: str, upstream: Upstream, wire: Wire, silence: Answer) -> float:
    """Seconds from the request that hangs to ``turn_end``."""
    upstream.enqueue(silence)
    number = len(upstream.requests) + 1
    headers = {"accept": "text/event-stream"}
    async with client.post(f"{url}/v1/turns", json={"input": "Go.", "model": MODELS[wire]}, headers=headers) as answer:
        ended = asyncio.create_task(_timed(_end(answer.content.__aiter__())))
        request = await upstream.received(number)
        return await ended - request.at


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def limits() -> Mapping[str, str]:
    named = ("FIRST_EVENT_TIMEOUT", "IDLE_TIMEOUT", "PINGS_TIMEOUT")
    values = {f"LEGATO_PROVIDERS__{who}__{one}": f"{LIMIT:g}" for who in ("ANTHROPIC", "OPENAI") for one in named}
    return {**values, **{f"LEGATO_PROVIDERS__{who}__MAX_RETRIES": "0" for who in ("ANTHROPIC", "OPENAI")}}


async def measure(runs: int) -> tuple[dict[str, list[Stop]], dict[str, float]]:
    stops: dict[str, list[Stop]] = {}
    silences: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="legato-bench-") as folder:
        db = Path(folder) / "bench.db"
        async with Upstream.open() as upstream, aiohttp.ClientSession() as client:
            root = upstream.base_url("anthropic")
            with legato(upstream=root, db=db) as child:
                url = f"http://127.0.0.1:{child.port}"
                for wire in WIRES:
                    await cancelled(client, url, upstream, wire, None)  # the first one warms up
                    stops[f"{wire}, database free"] = [
                        await cancelled(client, url, upstream, wire, None) for _ in range(runs)
                    ]
                    stops[f"{wire}, database locked"] = [
                        await cancelled(client, url, upstream, wire, db) for _ in range(runs)
                    ]
            with environment(**limits()), legato(upstream=root) as child:
                url = f"http://127.0.0.1:{child.port}"
                for wire in WIRES:
                    for name, silence in SILENCES.items():
                        silences[f"{wire}, {name}"] = await settled(client, url, upstream, wire, silence)
    return stops, silences


def _ms(values: Sequence[float]) -> str:
    return f"{statistics.median(values) * 1000:.1f} / {max(values) * 1000:.1f}"


def report(stops: Mapping[str, Sequence[Stop]], silences: Mapping[str, float]) -> None:
    rows = []
    results: dict[str, Json] = {}
    for name, some in stops.items():
        ended = [one.ended for one in some if one.ended is not None]
        rows.append(
            [
                name,
                _ms([one.hung_up for one in some]),
                _ms(ended) if ended else "once it is free",
                _ms([one.answered for one in some]),
            ]
        )
        results[name] = [msgspec.to_builtins(one) for one in some]
    columns = ["cancel", "provider let go, ms", "turn_end, ms", "answered, ms"]
    show("A cancel: median / longest (provider let go: at most 250)", columns, rows)
    title = f"A provider that is silent, limit {LIMIT:g} s (settled within limit + 1)"
    show(title, ["silence", "settled, s"], [[name, f"{seconds:.3f}"] for name, seconds in silences.items()])
    print(f"written to {keep('stops', {**results, 'silences': dict(silences)})}")


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.stops", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="cancels of each kind")
    report(*asyncio.run(measure(parser.parse_args(given).runs)))


if __name__ == "__main__":
    main()
