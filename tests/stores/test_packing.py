"""The log of an ended turn becomes one row, whatever happens meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.stores.values import Make, lines, until

from legato.core.blocks import TextBlock
from legato.core.records import Intent, Reading, RoundRecord, TurnWrite
from legato.stores.sqlite import SqliteStore, open_sqlite, packing, schema

TABLES = ("log", "block", "round", "call", "datum", "timeline")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(tmp_path / "legato.db")
    yield store
    await store.close()


def rows_of(store: SqliteStore, turn_id: str) -> dict[str, int]:
    with closing(sqlite3.connect(store.path)) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table} WHERE turn_id = ?", (turn_id,)).fetchone()[0]
            for table in TABLES
        }


async def packed(store: SqliteStore, turn_id: str) -> None:
    async def is_so() -> bool:
        with closing(sqlite3.connect(store.path)) as connection:
            return bool(connection.execute("SELECT packed FROM turn WHERE id = ?", (turn_id,)).fetchone()[0])

    await until(is_so, store)


async def flushed(store: SqliteStore, make: Make, turn_id: str, flushes: int) -> bytes:
    for number in range(flushes):
        await store.write([make.said(turn_id, number * 5 + 1, number * 5 + 5)])
    return make.segment(1, flushes * 5).lines


@pytest.mark.parametrize(("flushes", "blocks"), [(1, 1), (120, 1), (40, 30)])
async def test_an_ended_turn_is_its_blocks_rounds_and_calls_and_two_rows_more(
    store: SqliteStore, make: Make, flushes: int, blocks: int
) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await flushed(store, make, turn_id, flushes)
    closed = tuple(TextBlock(index=index, round=1, state="complete", text="x") for index in range(blocks))
    record = RoundRecord(round=1, attempt=1, model="m", provider="p")
    intent = Intent(call_id="c", round=1, index=0, tool_name="t", input={}, input_sha256="aa", idempotency_key="k")
    reading = Reading(call_id="c", text="r", formatter="t", version=1)
    await store.write(
        [TurnWrite(turn_id=turn_id, epoch=0, blocks=closed, rounds=(record,), intents=(intent,), readings=(reading,))]
    )
    await store.write([make.ending(turn_id)])
    await packed(store, turn_id)
    # And its own row in `turn`. An intent and a reading of one call share theirs.
    assert rows_of(store, turn_id) == {"log": 1, "block": blocks, "round": 1, "call": 1, "datum": 0, "timeline": 0}


async def test_a_packed_log_is_smaller_and_says_the_same_bytes(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    whole = await flushed(store, make, turn_id, 200)
    assert await lines(store, turn_id) == whole
    await store.write([make.ending(turn_id)])
    await packed(store, turn_id)
    assert await lines(store, turn_id) == whole
    with closing(sqlite3.connect(store.path)) as connection:
        found = connection.execute("SELECT packed, length(lines) FROM log WHERE turn_id = ?", (turn_id,)).fetchall()
    assert [kind for kind, _ in found] == [packing.ZLIB]
    assert found[0][1] < len(whole) / 3


async def test_a_users_turn_is_packed_when_it_is_stored(store: SqliteStore, make: Make) -> None:
    new = make.new()
    assert new.user is not None
    write = TurnWrite(turn_id=new.user.id, epoch=0, segment=make.segment(1, 100))
    await store.begin(msgspec.structs.replace(new, user_write=write))
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("SELECT packed FROM turn WHERE id = ?", (new.user.id,)).fetchone() == (
            packing.PACKED,
        )
        assert connection.execute("SELECT packed FROM log").fetchall() == [(packing.ZLIB,)]
    assert await lines(store, new.user.id) == make.segment(1, 100).lines


async def test_what_a_dead_process_left_unpacked_is_packed_by_the_next(tmp_path: Path, make: Make) -> None:
    store = await open_sqlite(tmp_path / "legato.db")
    turn_id = (await make.begun(store)).assistant.id
    whole = await flushed(store, make, turn_id, 30)
    await store.close()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE turn SET ended_at = created_at, status = 'complete' WHERE id = ?", (turn_id,))
    assert rows_of(store, turn_id)["log"] == 30
    again = await open_sqlite(tmp_path / "legato.db")
    await packed(again, turn_id)
    assert rows_of(again, turn_id)["log"] == 1
    assert await lines(again, turn_id) == whole
    await again.close()


async def test_a_segment_that_comes_after_the_packing_is_packed_too(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await flushed(store, make, turn_id, 4)
    await store.write([make.ending(turn_id)])
    await packed(store, turn_id)
    await store.write([make.said(turn_id, 6, 10), make.said(turn_id, 21, 24)])
    await packed(store, turn_id)
    assert rows_of(store, turn_id)["log"] == 1
    assert await lines(store, turn_id) == make.segment(1, 24).lines


async def test_a_log_with_a_hole_is_kept_as_it_is_until_the_hole_is_filled(store: SqliteStore, make: Make) -> None:
    torn, other = (await make.begun(store)).assistant.id, (await make.begun(store)).assistant.id
    await store.write([make.said(torn, 1, 5), make.said(torn, 11, 15), make.ending(torn)])
    await store.write([make.said(other, 1, 5), make.said(other, 6, 9), make.ending(other)])
    await packed(store, torn)
    await packed(store, other)
    assert rows_of(store, torn)["log"] == 2
    assert rows_of(store, other)["log"] == 1
    await store.write([make.said(torn, 6, 10)])
    await packed(store, torn)
    assert rows_of(store, torn)["log"] == 1
    assert await lines(store, torn) == make.segment(1, 15).lines


async def test_a_damaged_log_keeps_nobody_else_unpacked(tmp_path: Path, make: Make) -> None:
    store = await open_sqlite(tmp_path / "legato.db")
    damaged, other = (await make.begun(store)).assistant.id, (await make.begun(store)).assistant.id
    await store.write([make.said(damaged, 1, 5), make.said(other, 1, 5)])
    await store.close()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE log SET packed = 1, lines = x'00' WHERE turn_id = ?", (damaged,))
        connection.execute("UPDATE turn SET ended_at = created_at WHERE id IN (?, ?)", (damaged, other))
    again = await open_sqlite(tmp_path / "legato.db")
    await packed(again, damaged)
    await packed(again, other)
    assert await lines(again, other) == make.segment(1, 5).lines
    await again.close()


async def test_epochs_are_joined_for_a_later_one_begins_higher(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.write([make.said(turn_id, 1, 5), make.said(turn_id, 2_000_001, 2_000_004, epoch=2)])
    await store.write([make.ending(turn_id, epoch=2)])
    await packed(store, turn_id)
    assert rows_of(store, turn_id)["log"] == 1
    assert await lines(store, turn_id) == make.segment(1, 5).lines + make.segment(2_000_001, 2_000_004).lines


async def big_ended_turn(path: Path, make: Make) -> tuple[str, bytes]:
    """Ended, unpacked, of many steps; nobody has the file open."""
    store = await open_sqlite(path)
    turn_id = (await make.begun(store)).assistant.id
    segments = [make.segment(number * 2000 + 1, number * 2000 + 2000) for number in range(12)]
    await store.write([TurnWrite(turn_id=turn_id, epoch=0, segment=segment) for segment in segments])
    await store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE turn SET ended_at = created_at WHERE id = ?", (turn_id,))
    return turn_id, b"".join(segment.lines for segment in segments)


async def test_a_long_log_is_packed_in_steps_and_between_them_anyone_may_write(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "legato.db"
    turn_id, whole = await big_ended_turn(path, make)
    assert len(whole) > 4 * packing.STEP
    steps = 0
    with closing(schema.open_writer(path, "normal")) as mine, closing(schema.open_writer(path, "normal")) as other:
        for _ in packing.pack_ended(mine):
            steps += 1
            assert not mine.in_transaction
            other.execute("UPDATE turn SET depth = depth + 1")
        assert mine.execute("SELECT count(*) FROM log WHERE turn_id = ?", (turn_id,)).fetchone() == (1,)
    assert steps >= 4
    store = await open_sqlite(path)
    assert await lines(store, turn_id) == whole
    await store.close()


async def test_what_is_written_while_a_log_is_packed_is_not_lost(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "legato.db"
    turn_id, whole = await big_ended_turn(path, make)
    late = make.segment(24_001, 24_005)
    with closing(schema.open_writer(path, "normal")) as connection:
        chore = packing.pack_ended(connection)
        next(chore)
        connection.execute("INSERT INTO log VALUES (?, 24001, 24005, 0, ?)", (turn_id, late.lines))
        for _ in chore:
            pass
        assert connection.execute("SELECT count(*) FROM log WHERE turn_id = ?", (turn_id,)).fetchone() == (1,)
    store = await open_sqlite(path)
    assert await lines(store, turn_id) == whole + late.lines
    await store.close()


async def test_two_processes_with_the_same_chore_make_one_row(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "legato.db"
    turn_id, whole = await big_ended_turn(path, make)
    with closing(schema.open_writer(path, "normal")) as mine, closing(schema.open_writer(path, "normal")) as other:
        both = [packing.pack_ended(mine), packing.pack_ended(other)]
        while both:
            both = [one for one in both if next(one, "done") is None]
        assert mine.execute("SELECT count(*) FROM log WHERE turn_id = ?", (turn_id,)).fetchone() == (1,)
    store = await open_sqlite(path)
    assert await lines(store, turn_id) == whole
    await store.close()
