"""Needs, answers and outputs in SQLite: what is looked up without a scan, two processes, a full disk, flat memory."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest
from tests.stores.values import Make, at, lines

from legato.core.blocks import TextBlock, ToolResultBlock
from legato.core.errors import Conflict, StoreUnavailable
from legato.core.records import Answer, Need, Rest, TurnWrite
from legato.stores.sqlite import SqliteStore, needs, open_sqlite, outputs

NOON, LATER = at(1200), at(1800)
YES = Answer(call_id="c1", decision="approve")
NEED = Need(call_id="c1", nr=1, kind="approval", input_sha256="ee")
MIB = 1 << 20

Values: TypeAlias = tuple[str, ...] | dict[str, str | int]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(tmp_path / "legato.db")
    yield store
    await store.close()


async def waiting(store: SqliteStore, make: Make) -> str:
    turn_id = (await make.begun(store)).assistant.id
    await store.write([make.said(turn_id, 1, 3, needs=(NEED,), rest=Rest(wait_until=LATER))])
    return turn_id


def plan(path: Path, statement: str, values: Values) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


# Looking up


async def test_who_is_to_be_woken_is_found_among_ten_thousand_without_looking_at_each(
    store: SqliteStore, make: Make
) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO chat VALUES ('c', 'ann', '', NULL, NULL, '{}', NULL, NULL, '', '')")
        connection.executemany(
            "INSERT INTO turn (id, chat_id, role, status, created_at, depth, metadata, usage, wait_until)"
            " VALUES (?, 'c', 'assistant', 'waiting', ?, 1, '{}', '{}', ?)",
            [(f"t{n}", at(1), LATER) for n in range(10_000)],
        )
        connection.executemany(
            "INSERT INTO need (turn_id, call_id, nr, kind, body, seq) VALUES (?, 'c1', 1, 'approval', ?, 1)",
            [(f"t{n}", '{"call_id":"c1","nr":1,"kind":"approval","input_sha256":"ee"}') for n in range(10_000)],
        )

    await store._writer.run(fill)
    await store.answer("t7000", [YES])
    await store.request_cancel("t3000")
    assert [row.id for row in await store.to_wake(NOON)] == ["t3000", "t7000"]
    steps = plan(store.path, needs.TO_WAKE, (NOON,))
    assert not [step for step in steps if step.startswith("SCAN turn") and "turn_cancelled" not in step], steps
    for index in ("need_answered", "turn_cancelled", "turn_waiting (wait_until<?)"):
        assert [step for step in steps if index in step], steps


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (needs.MEANT, {"turn": "t", "call": "c", "nr": 1}),
        (outputs.RANGE, {"turn_id": "t", "call_id": "c", "from": 0, "limit": 1}),
        (outputs.RESULT, {"chat_id": "c", "call_id": "c"}),
        (outputs.DROP_BEHIND, ("t", "c", "0")),
        (outputs.DROP_OF_CHAT, ("c",)),
    ],
)
async def test_no_lookup_reads_a_whole_table(store: SqliteStore, statement: str, values: Values) -> None:
    steps = plan(store.path, statement, values)
    assert not [step for step in steps if step.startswith("SCAN")], steps


async def test_a_result_is_found_among_a_thousand_turns_of_a_hundred_blocks(store: SqliteStore, make: Make) -> None:
    chat_id = (await make.answered(store)).assistant.chat_id

    def fill(connection: sqlite3.Connection) -> None:
        connection.executemany(
            "INSERT INTO turn (id, chat_id, role, status, created_at, depth, metadata, usage, ended_at, packed)"
            " VALUES (?, ?, 'assistant', 'complete', ?, 1, '{}', '{}', ?, 1)",
            [(f"t{n}", chat_id, at(1), at(2)) for n in range(1_000)],
        )
        connection.executemany(
            "INSERT INTO block VALUES (?, ?, 1, 'text', 'complete', 'words', '{}', 1)",
            [(f"t{n}", index) for n in range(1_000) for index in range(100)],
        )

    await store._writer.run(fill)
    block = ToolResultBlock(
        index=100, round=1, state="complete", call_id="c500", tool_name="t", origin="server", outcome="ok"
    )
    await store.write([TurnWrite(turn_id="t500", epoch=0, blocks=(block,))])
    assert await store.result(chat_id, "c500") == ("t500", block)
    assert await store.result(chat_id, "c501") is None


# Two processes


async def test_an_answer_of_another_process_is_seen_by_the_one_that_writes(store: SqliteStore, make: Make) -> None:
    other = await open_sqlite(store.path)
    turns = [await waiting(store, make) for _ in range(8)]

    async def go_on(number: int, turn_id: str) -> None:
        assert await store.claim(turn_id, epoch=1, owner="p1")
        for n in range(5):
            await store.write([make.said(turn_id, 1_000_001 + n, 1_000_001 + n, epoch=1)])
        await store.write([make.said(turn_id, 1_000_006, 1_000_007, epoch=1, rest=Rest(wait_until=LATER))])

    await asyncio.gather(
        *(go_on(number, turn_id) for number, turn_id in enumerate(turns)),
        *(other.answer(turn_id, [YES]) for turn_id in turns),
    )
    for either in (store, other):
        assert [row.id for row in await either.to_wake(NOON)] == turns
    assert await other.claim(turns[0], epoch=2, owner="p2")
    assert not await store.claim(turns[0], epoch=2, owner="p1")
    taken = make.said(turns[0], 2_000_001, 2_000_002, epoch=2, taken=(("c1", 1),), rest=Rest(wait_until=LATER))
    await other.write([taken])
    assert [row.id for row in await store.to_wake(NOON)] == turns[1:]
    await other.close()


async def test_of_two_processes_that_answer_one_is_first_and_both_see_it(store: SqliteStore, make: Make) -> None:
    other = await open_sqlite(store.path)
    for _ in range(10):
        turn_id = await waiting(store, make)
        said = await asyncio.gather(
            store.answer(turn_id, [YES]),
            other.answer(turn_id, [Answer(call_id="c1", decision="deny")]),
            return_exceptions=True,
        )
        assert [type(one) for one in said if one is not None] == [Conflict]
        first = YES if said[0] is None else Answer(call_id="c1", decision="deny")
        for either in (store, other):
            assert [kept.answer for kept in await either.needs(turn_id)] == [first]
    await other.close()


# The disk


async def test_on_a_full_disk_an_answer_and_a_piece_fail_whole_and_may_be_tried_again(
    store: SqliteStore, make: Make
) -> None:
    turn_id = await waiting(store, make)
    pages = await store._writer.run(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])

    async def room(more: int) -> None:
        await store._writer.run(
            lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + more}").fetchone()
        )

    await room(1)
    long = Answer(call_id="c1", output="much " * 50_000)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.answer(turn_id, [long])
    with pytest.raises(StoreUnavailable, match="full"):
        await store.keep_output(turn_id, "c1", 0, bytes(MIB), epoch=0)
    assert [kept.answer for kept in await store.needs(turn_id)] == [None]
    assert await store.output(turn_id, "c1", offset=0, limit=MIB) == b""
    await room(1_000)
    await store.answer(turn_id, [long])
    await store.keep_output(turn_id, "c1", 0, bytes(MIB), epoch=0)
    assert [kept.answer for kept in await store.needs(turn_id)] == [long]
    assert await store.output(turn_id, "c1", offset=0, limit=2 * MIB) == bytes(MIB)


async def test_a_range_of_a_large_output_takes_no_more_memory_than_its_pieces(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    pieces = 24
    tracemalloc.start()
    for number in range(pieces):
        await store.keep_output(turn_id, "c1", number * MIB, bytes([number]) * MIB, epoch=0)
    middle = await store.output(turn_id, "c1", offset=10 * MIB - 2, limit=4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert middle == b"\x09\x09\x0a\x0a"
    assert peak < 6 * MIB


async def test_a_write_comes_between_while_a_large_output_goes(store: SqliteStore, make: Make) -> None:
    new, other = await make.begun(store), (await make.begun(store)).assistant.id
    for number in range(40):
        await store.keep_output(new.assistant.id, "c1", number, b"x", epoch=0)
    done: list[str] = []

    async def delete() -> None:
        await store.delete_chat(new.assistant.chat_id)
        done.append("deleted")

    async def write() -> None:
        await store.write([make.said(other, 1, 3)])
        done.append("written")

    await asyncio.gather(delete(), write())
    assert done == ["written", "deleted"]
    assert await store.turn(new.assistant.id) is None


# Packing


async def test_the_log_of_a_turn_that_waits_stays_as_it_was_written(store: SqliteStore, make: Make) -> None:
    turn_id = await waiting(store, make)
    await store.claim(turn_id, epoch=1, owner="p2")
    await store.write([make.said(turn_id, 1_000_001, 1_000_003, epoch=1, rest=Rest(wait_until=LATER))])
    for _ in range(5):
        await store.ping()
    assert [one.first_seq for one in await store.log(turn_id, after=0)] == [1, 1_000_001]
    block = TextBlock(index=0, round=1, state="complete", text="said")
    await store.write([make.said(turn_id, 1_000_004, 1_000_004, epoch=1, blocks=(block,))])
    assert await lines(store, turn_id) == make.segment(1, 3).lines + make.segment(1_000_001, 1_000_004).lines
