"""What the SQLite store promises beyond the port: groups, threads, errors, rows that people can read."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.stores.values import WAIT, Make, lines, until

from legato.core.blocks import TextBlock
from legato.core.errors import Conflict, RowRefused, StoreUnavailable
from legato.core.records import Accepted, AlreadyMade, RoundRecord, TurnWrite
from legato.observability import process
from legato.stores.sqlite import SqliteStore, open_sqlite, schema, writer
from legato.stores.sqlite.readers import Readers


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(tmp_path / "legato.db")
    yield store
    await store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT", 50)


@contextmanager
def other_process(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection as another process has it, holding the write lock until it is told to COMMIT."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def files_of(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def commits() -> float:
    return process.value("store_commits", store="sqlite", outcome="ok")


# Groups


async def test_sixty_four_callers_at_once_share_two_commits(store: SqliteStore, make: Make) -> None:
    turns = [(await make.begun(store)).assistant.id for _ in range(8)]
    before = commits()
    with other_process(store.path) as held:
        # One may be taken alone before the others are there; while it waits for the lock, they queue.
        calls = [store.write([make.said(turns[n % 8], n // 8 + 1, n // 8 + 1)]) for n in range(64)]
        waiting = asyncio.gather(*calls)
        await asyncio.sleep(0)
        held.execute("COMMIT")
        await waiting
    assert 1 <= commits() - before <= 2
    for turn_id in turns:
        assert await lines(store, turn_id) == make.segment(1, 8).lines


async def test_one_refused_job_of_a_group_fails_alone(store: SqliteStore, make: Make) -> None:
    first = await make.begun(store)
    taken = make.new(make.chat(id=first.assistant.chat_id))
    good = [make.new() for _ in range(3)]
    before = commits()
    with other_process(store.path) as held:
        waiting = asyncio.gather(
            store.begin(good[0]),
            store.begin(taken),
            store.begin(good[1]),
            store.write([make.said("nobody", 1, 2)]),
            store.begin(good[2]),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        held.execute("COMMIT")
        outcomes = await waiting
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "Accepted",
        "Conflict",
        "Accepted",
        "RowRefused",
        "Accepted",
    ]
    assert isinstance(outcomes[1], Conflict)
    assert commits() - before <= 2
    assert all([await store.turn(new.assistant.id) is not None for new in good])


async def test_a_write_goes_on_when_its_caller_has_given_up(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    new = make.new()
    with other_process(store.path) as held:
        callers = [
            asyncio.ensure_future(store.write([make.said(turn_id, 1, 5)])),
            asyncio.ensure_future(store.begin(new)),
        ]
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        assert all(
            isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*callers, return_exceptions=True)
        )
        held.execute("COMMIT")
    assert await store.begin(new) == AlreadyMade(new.assistant, "ann")
    assert await lines(store, turn_id) == make.segment(1, 5).lines


async def test_reads_and_the_loop_go_on_while_a_write_waits_for_the_lock(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    with other_process(store.path) as held:
        write = asyncio.ensure_future(store.write([make.said(turn_id, 1, 5)]))
        for _ in range(20):
            row = await store.turn(turn_id)
            assert row is not None
            assert row.last_seq == 0
        assert not write.done()
        held.execute("COMMIT")
    await write


async def test_everything_queued_is_written_before_the_store_is_closed(tmp_path: Path, make: Make) -> None:
    store = await open_sqlite(tmp_path / "legato.db")
    turn_id = (await make.begun(store)).assistant.id
    writes = [asyncio.ensure_future(store.write([make.said(turn_id, n, n)])) for n in range(1, 400)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writes)
    assert files_of(tmp_path) == ["legato.db"]
    again = await open_sqlite(tmp_path / "legato.db")
    assert await lines(again, turn_id) == make.segment(1, 399).lines
    await again.close()


async def test_a_close_that_the_disk_holds_up_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "CLOSE_TIMEOUT", 0.01)
    store = await open_sqlite(tmp_path / "legato.db")
    with other_process(store.path) as held:
        waiting = asyncio.ensure_future(store.request_cancel("x"))
        await asyncio.sleep(0)
        await store.close()
        assert "did not close" in caplog.text
        held.execute("COMMIT")
    await waiting
    monkeypatch.setattr(writer, "CLOSE_TIMEOUT", 10)
    await store.close()


def test_a_write_outlives_the_loop_that_asked_for_it(tmp_path: Path, make: Make) -> None:
    async def ask(held: sqlite3.Connection) -> SqliteStore:
        store = await open_sqlite(path)
        turn_id = (await make.begun(store, id="t")).assistant.id
        held.execute("BEGIN IMMEDIATE")
        caller = asyncio.ensure_future(store.write([make.said(turn_id, 1, 3)]))
        await asyncio.sleep(0)
        caller.cancel()
        await store._readers.close()
        return store

    path = tmp_path / "legato.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as held:
        store = asyncio.run(ask(held))
        held.execute("COMMIT")
        store._writer._stop()
        store._writer._thread.join(10)
        assert not store._writer._thread.is_alive()
        assert held.execute("SELECT last_seq FROM turn WHERE id = 't'").fetchone() == (3,)


async def test_threads_that_wait_hold_nothing_of_their_last_job(store: SqliteStore) -> None:
    class Found:
        pass

    read, written = [weakref.ref(await pool.run(lambda _: Found())) for pool in (store._readers, store._writer)]
    async with asyncio.timeout(WAIT):
        while read() is not None or written() is not None:  # noqa: ASYNC110 - two threads let go of it
            await asyncio.sleep(0)


# Readers


async def test_a_thousand_readers_queue_for_two_connections(tmp_path: Path, make: Make) -> None:
    store = await open_sqlite(tmp_path / "legato.db", readers=2)
    turn_id = (await make.answered(store)).assistant.id
    found = await asyncio.gather(*(store.load(turn_id) for _ in range(1000)))
    assert len(found) == 1000
    assert all(one == found[0] for one in found)
    ours = {thread.name for thread in threading.enumerate() if thread.name.startswith("legato-sqlite")}
    assert ours == {"legato-sqlite-writer", "legato-sqlite-reader-1", "legato-sqlite-reader-2"}
    await store.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("legato-sqlite")]


async def test_however_many_read_no_more_connections_are_opened_than_there_are_threads(tmp_path: Path) -> None:
    opened: list[sqlite3.Connection] = []

    def connect() -> sqlite3.Connection:
        opened.append(sqlite3.connect(tmp_path / "legato.db", check_same_thread=False))
        return opened[-1]

    readers = Readers(connect, 2)
    readers.start()
    await asyncio.gather(
        *(readers.run(lambda connection: connection.execute("SELECT 1").fetchone()) for _ in range(1000))
    )
    await readers.close()
    assert 1 <= len(opened) <= 2
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


async def test_readers_that_gave_up_hold_nobody_up() -> None:
    """What they wanted is not read any more."""
    let_go = threading.Event()
    read: list[int] = []
    readers = Readers(lambda: sqlite3.connect(":memory:"), 1)
    readers.start()
    first = asyncio.ensure_future(readers.run(lambda _: let_go.wait(WAIT)))
    callers = [asyncio.ensure_future(readers.run(lambda _: read.append(1))) for _ in range(200)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    let_go.set()
    assert await readers.run(lambda _: "read") == "read"
    assert await first
    assert read == []
    await readers.close()


async def test_a_read_sees_every_write_that_has_returned(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id

    async def write_and_look(number: int) -> None:
        other = (await make.begun(store)).assistant.id
        await store.write([make.said(other, 1, number)])
        row = await store.turn(other)
        assert row is not None
        assert row.last_seq == number

    await asyncio.gather(*map(write_and_look, range(1, 30)))
    assert await store.turn(turn_id) is not None


# Errors


async def test_a_lock_held_too_long_is_told_in_sqlites_words_and_the_same_write_works_later(
    tmp_path: Path, make: Make, impatient: None
) -> None:
    store = await open_sqlite(tmp_path / "legato.db")
    turn_id = (await make.begun(store)).assistant.id
    with other_process(store.path) as held:
        with pytest.raises(StoreUnavailable, match="database is locked"):
            await store.write([make.said(turn_id, 1, 5)])
        with pytest.raises(StoreUnavailable, match="database is locked"):
            await store.ping()
        assert await store.turn(turn_id) is not None
        held.execute("COMMIT")
    await store.write([make.said(turn_id, 1, 5)])
    assert await lines(store, turn_id) == make.segment(1, 5).lines
    await store.close()


async def test_a_row_that_sqlite_itself_refuses_is_named_among_many(store: SqliteStore, make: Make) -> None:
    turns = [(await make.begun(store)).assistant.id for _ in range(5)]
    fine = TextBlock(index=0, round=1, state="complete", text="fine")
    beyond = TextBlock(index=1 << 64, round=1, state="complete", text="beyond 64 bits")
    group = [make.said(turn_id, 1, 3, blocks=(fine,)) for turn_id in turns]
    spoiled = [*group[:3], make.said(turns[3], 1, 3, blocks=(fine, beyond)), group[4]]
    with pytest.raises(RowRefused, match="too large") as raised:
        await store.write(spoiled)
    assert raised.value.turn_id == turns[3]
    for turn_id in turns:
        row = await store.turn(turn_id)
        assert row is not None
        assert row.last_seq == 0
        assert await lines(store, turn_id) == b""
    await store.write(group)
    assert [await lines(store, turn_id) for turn_id in turns] == [make.segment(1, 3).lines] * 5


async def test_a_full_disk_fails_what_does_not_fit_and_nothing_of_it_stays(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    pages = await store._writer.run(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])

    await store._writer.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())
    block = TextBlock(index=0, round=1, state="complete", text="much " * 50_000)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.write([make.said(turn_id, 1, 5, blocks=(block,))])
    assert await lines(store, turn_id) == b""
    await store._writer.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 500}").fetchone())
    await store.write([make.said(turn_id, 1, 5, blocks=(block,))])
    stored = await store.load(turn_id)
    assert stored is not None
    assert stored.blocks == (block,)


async def test_more_writes_than_the_bound_are_refused_with_its_number(
    store: SqliteStore, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUED", 5)
    turn_id = (await make.begun(store)).assistant.id
    with other_process(store.path) as held:
        calls = [asyncio.ensure_future(store.write([make.said(turn_id, n, n)])) for n in range(1, 20)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        held.execute("COMMIT")
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [str(one) for one in outcomes if isinstance(one, StoreUnavailable)]
    assert refused
    assert all(said == "5 writes wait for the disk, limit is 5" for said in refused)
    assert outcomes.count(None) + len(refused) == 19


async def test_a_file_that_is_gone_is_unavailable_to_readers(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "legato.db")
    (tmp_path / "legato.db").unlink()
    with pytest.raises(StoreUnavailable, match="unable to open"):
        await store.turn("x")
    await store.close()


async def test_a_mistake_of_the_program_reaches_its_caller_and_the_writer_goes_on(store: SqliteStore) -> None:
    def mistaken(_: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store._writer.run(mistaken)
    await store.ping()


# Rows for people


async def test_blocks_rounds_and_turns_can_be_read_with_sql(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    block = TextBlock(index=0, round=1, state="complete", text="It's a dragon", length=13, sha256="aa")
    record = RoundRecord(round=1, attempt=1, model="m", provider="p", commitment="committed")
    ending = make.ending(turn_id)
    await store.write([msgspec.structs.replace(ending, segment=make.segment(1, 5), blocks=(block,), rounds=(record,))])
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute(
            "SELECT turn_id, idx, round, type, state, text, body FROM block WHERE round > 0"
        ).fetchall() == [(turn_id, 0, 1, "text", "complete", "It's a dragon", '{"length":13,"sha256":"aa"}')]
        assert connection.execute(
            "SELECT model, commitment, usage_source,"
            " input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd FROM round"
        ).fetchall() == [("m", "committed", "unknown", *[None] * 6)]
        assert connection.execute(
            "SELECT status, usage ->> '$.output_tokens', owner, epoch, lease_until, last_seq FROM turn WHERE id = ?",
            (turn_id,),
        ).fetchone() == ("complete", 5, None, 0, None, 5)


async def test_two_stores_on_one_file_see_each_other(store: SqliteStore, make: Make) -> None:
    other = await open_sqlite(store.path)
    new = await make.begun(store)
    assert await other.begin(new) == AlreadyMade(new.assistant, "ann")
    await asyncio.gather(
        *(one.write([make.said(new.assistant.id, n, n)]) for n in range(1, 41) for one in (store, other))
    )
    await other.write([make.ending(new.assistant.id)])
    assert await lines(store, new.assistant.id) == make.segment(1, 40).lines
    assert await store.begin(make.new(new.assistant.chat_id, prev=new.assistant.id)) == Accepted()
    await other.close()
    await store.ping()
    assert await until_packed(store, new.assistant.id)


async def until_packed(store: SqliteStore, turn_id: str) -> bool:
    async def packed() -> bool:
        return len(await store.log(turn_id, after=0)) == 1

    await until(packed, store)
    return True


async def test_a_write_without_a_segment_never_replaces_what_a_segment_said(store: SqliteStore, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    said = TextBlock(index=0, round=1, state="complete", text="said")
    await store.write([make.said(turn_id, 1, 5, blocks=(said,))])
    older = TextBlock(index=0, round=1, state="partial", text="older")
    await store.write([TurnWrite(turn_id=turn_id, epoch=0, blocks=(older,))])
    stored = await store.load(turn_id)
    assert stored is not None
    assert stored.blocks == (said,)
