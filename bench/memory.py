"""Hazard 29: what a server's memory grows by for each turn, and what is left behind by readers that drop and turns that
are cancelled.

The server runs as its own process on a SQLite file (bench.inside); clients of every kind live in this one
(bench.lives). When nothing runs and nobody reads it is looked at: after a warm-up, half way, and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

import msgspec

from bench.inside import Inside
from bench.lives import Client
from bench.server import free_port, running
from bench.table import keep, show

CLIENTS = 16
WARM_UP = 0.3
"""Of the turns: caches fill, pools grow, and the allocator finds its size."""
QUIET_WITHIN = 30.0  # seconds
BETWEEN_LOOKS = 0.5  # seconds: two flushes of the journal
COUNTS = ("tasks", "readers", "sockets", "files", "threads")


class Seen(msgspec.Struct, frozen=True):
    """What was inside after so many turns."""

    turns: int
    inside: Inside


async def lived(port: int, *, turns: int, seed: int, looks: int) -> list[Seen]:
    """Lead lives until so many turns were accepted; look inside after the warm-up, and then ``looks`` times more."""
    clients = [Client(port, seed * 1_000 + number) for number in range(CLIENTS)]
    warm = int(turns * WARM_UP)
    marks = [warm + (turns - warm) * number // looks for number in range(looks + 1)]
    seen = []
    for mark in marks:
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(_until(mark, client, clients))
        seen.append(Seen(_total(clients), await quiet(port)))
    return seen


def _total(clients: Sequence[Client]) -> int:
    return sum(client.turns for client in clients)


async def _until(mark: int, client: Client, clients: Sequence[Client]) -> None:
    while _total(clients) < mark:
        await client.live()


async def quiet(port: int) -> Inside:
    """Once no turn runs, nobody reads, and every connection but the one that asks is gone; and that at two looks, for
    what comes after a turn's end."""
    deadline, was_quiet = time.monotonic() + QUIET_WITHIN, False
    while True:
        said = await asyncio.to_thread(look, port)
        busy = said.readers or said.objects.get("TurnRunner", 0) or said.objects.get("Connection", 0) > 1
        if was_quiet and not busy:
            return said
        if time.monotonic() > deadline:
            raise TimeoutError(f"it is not quiet after {QUIET_WITHIN:g} s: {said.objects} {said.sizes}")
        was_quiet = not busy
        await asyncio.sleep(BETWEEN_LOOKS)


def look(port: int) -> Inside:
    with urlopen(f"http://127.0.0.1:{port}/inside", timeout=QUIET_WITHIN) as answer:
        return msgspec.json.decode(answer.read(), type=Inside)


def measure(*, turns: int, seed: int, looks: int = 2) -> list[Seen]:
    port, root = free_port(), Path(__file__).parents[1]
    command = [sys.executable, "-m", "bench.inside", str(port)]
    with (
        tempfile.TemporaryDirectory(prefix="legato-bench-", ignore_cleanup_errors=True) as folder,
        running(
            command, port=port, ready="/readyz", env={"PYTHONPATH": f"{root / 'src'}:{root}"}, cwd=Path(folder)
        ) as child,
    ):
        return asyncio.run(lived(child.port, turns=turns, seed=seed, looks=looks))


def bytes_a_turn(before: Seen, after: Seen) -> float:
    return (after.inside.used - before.inside.used) / (after.turns - before.turns)


def grown(before: Inside, after: Inside) -> dict[str, tuple[int, int]]:
    """Containers and classes that hold more than they did."""
    return {
        name: (was.get(name, 0), now[name])
        for was, now in ((before.sizes, after.sizes), (before.objects, after.objects))
        for name in now
        if now[name] > was.get(name, 0)
    }


def report(seen: Sequence[Seen], *, seed: int) -> None:
    rows = [
        [
            f"{each.turns:,}",
            f"{each.inside.rss / 2**20:.1f}",
            f"{each.inside.used / 2**20:.2f}",
            "" if before is None else f"{bytes_a_turn(before, each):,.0f}",
            f"{each.inside.blocks:,}",
            *(str(getattr(each.inside, name)) for name in COUNTS),
            f"{each.inside.wal / 2**20:.1f}",
        ]
        for before, each in zip([None, *seen], seen, strict=False)
    ]
    columns = ["turns", "RSS MiB", "in use MiB", "bytes a turn", "blocks", *COUNTS, "WAL MiB"]
    show(f"Hazard 29: a server after so many turns, at rest (seed {seed}; under 1,024 bytes a turn)", columns, rows)
    for name, (was, now) in sorted(grown(seen[0].inside, seen[-1].inside).items()):
        print(f"  {name}: {was:,} after the warm-up, {now:,} at the end")
    print(f"written to {keep('memory', {'seed': seed, 'seen': msgspec.to_builtins(list(seen))})}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.memory", description=__doc__)
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--looks", type=int, default=4, help="after the warm-up")
    asked = parser.parse_args(arguments)
    report(measure(turns=asked.turns, seed=asked.seed, looks=asked.looks), seed=asked.seed)


if __name__ == "__main__":
    main()
