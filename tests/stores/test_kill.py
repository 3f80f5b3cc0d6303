"""A process that is killed while it writes leaves a log that is a prefix of what was said, and a file that opens."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.values import Make, lines

from legato.stores.sqlite import open_sqlite

ROOT = Path(__file__).parent.parent.parent

# Says "turn seq" for what was accepted as stored; each turn ends after 60 events, and its log is packed meanwhile.
WRITES_UNTIL_KILLED = """
import asyncio, sys
import msgspec
from legato.core.blocks import TextBlock
from legato.stores.sqlite import open_sqlite
from tests.stores.values import Make

async def turn(store, make):
    turn_id = (await make.begun(store)).assistant.id
    for last in range(3, 63, 3):
        block = TextBlock(index=last // 3, round=1, state="complete", text=str(last))
        write = make.said(turn_id, last - 2, last, blocks=(block,))
        if last == 60:
            write = msgspec.structs.replace(write, ending=make.ending(turn_id).ending)
        await store.write([write])
        print(turn_id, last, flush=True)

async def main():
    store, make = await open_sqlite(sys.argv[1]), Make()
    while True:
        await asyncio.gather(*(turn(store, make) for _ in range(4)))

asyncio.run(main())
"""


# Says "turn steps" for what was accepted: a turn rests in each epoch, is answered, keeps a piece and is taken up.
WAITS_UNTIL_KILLED = """
import asyncio, sys
from legato.core.records import Answer, Need, Rest
from legato.stores.sqlite import open_sqlite
from tests.stores.values import Make

async def turn(store, make):
    turn_id = (await make.begun(store)).assistant.id
    steps = 0
    for epoch in range(20):
        first = epoch * 1_000_000 + 1
        need = Need(call_id="c", nr=epoch + 1, kind="approval", input_sha256="ee")
        rest = Rest(wait_until="2026-11-25T05:00:00.000Z")
        taken = (("c", epoch),) if epoch else ()
        write = make.said(turn_id, first, first + 2, epoch=epoch, needs=(need,), taken=taken, rest=rest)
        for step in (
            store.write([write]),
            store.answer(turn_id, [Answer(call_id="c", output=epoch)]),
            store.keep_output(turn_id, "c", epoch * 3000, b"%02d-" % epoch * 1000, epoch=epoch),
            store.claim(turn_id, epoch=epoch + 1, owner="p"),
        ):
            await step
            steps += 1
            print(turn_id, steps, flush=True)

async def main():
    store, make = await open_sqlite(sys.argv[1]), Make()
    while True:
        await asyncio.gather(*(turn(store, make) for _ in range(4)))

asyncio.run(main())
"""


@pytest.mark.parametrize("killed_after", [1, 90, 400])
async def test_what_was_said_to_be_stored_is_there_without_a_hole(
    tmp_path: Path, make: Make, killed_after: int
) -> None:
    path = tmp_path / "legato.db"
    accepted = kill_after(path, killed_after, WRITES_UNTIL_KILLED)
    assert accepted
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    store = await open_sqlite(path)
    for turn_id, last in accepted.items():
        stored = await store.load(turn_id)
        assert stored is not None
        seq = stored.row.last_seq
        assert seq >= last
        assert await lines(store, turn_id) == make.segment(1, seq).lines
        assert [(block.index, block.text) for block in stored.blocks] == [
            (n, str(n * 3)) for n in range(1, seq // 3 + 1)
        ]
        chat = await store.chat(stored.row.chat_id)
        assert chat is not None
        assert (stored.row.ended_at is not None) == (seq == 60) == (chat.active_turn_id is None)
    await store.close()


@pytest.mark.parametrize("killed_after", [3, 150])
async def test_a_wait_is_found_after_a_kill_where_it_was_said_to_be(tmp_path: Path, killed_after: int) -> None:
    path = tmp_path / "legato.db"
    accepted = kill_after(path, killed_after, WAITS_UNTIL_KILLED)
    assert accepted
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    store = await open_sqlite(path)
    woken = {row.id for row in await store.to_wake("2026-11-24T05:00:00.000Z")}
    for turn_id, steps in accepted.items():
        row = await store.turn(turn_id)
        assert row is not None
        kept = list(await store.needs(turn_id))
        written, answered = len(kept), len([one for one in kept if one.answer is not None])
        pieces = await store.output(turn_id, "c", offset=0, limit=1 << 20)
        assert pieces == b"".join(b"%02d-" % epoch * 1000 for epoch in range(len(pieces) // 3000))
        done = [written, answered, len(pieces) // 3000, row.epoch]
        # One step after the other: each is as often done as the one before it, or once less.
        assert done == sorted(done, reverse=True)
        assert done[0] - done[-1] <= 1
        assert steps <= sum(done) <= steps + 1
        assert [one.taken for one in kept] == [True] * (written - 1) + [False] * (written > 0)
        assert (row.status == "waiting") == (row.owner is None and row.wait_until is not None) == (written > row.epoch)
        assert (turn_id in woken) == (row.status == "waiting" and answered == written)
    await store.close()


def kill_after(path: Path, number: int, script: str) -> dict[str, int]:
    """Kill -9 once this many writes were said to be stored; give the last of each turn."""
    accepted: dict[str, int] = {}
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for count, line in enumerate(child.stdout, start=1):
            if not line.endswith("\n"):
                break
            turn_id, last = line.split()
            accepted[turn_id] = int(last)
            if count == number:
                child.kill()
    return accepted
