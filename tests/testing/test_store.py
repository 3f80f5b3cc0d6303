"""A faulty store fails as it was told, and else is the store beneath."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from legato.core.errors import NotFound, RowRefused, StoreUnavailable
from legato.core.records import Answer, Chat, TurnWrite
from legato.ports import Store
from legato.stores.memory import MemoryStore
from legato.testing.store import FaultyStore, locked

pytestmark = pytest.mark.anyio

CHAT = Chat(
    id="c",
    owner="me",
    title="t",
    system=None,
    model=None,
    metadata={},
    head_turn_id=None,
    active_turn_id=None,
    created_at="2026-11-24T05:00:00.000Z",
    updated_at="2026-11-24T05:00:00.000Z",
)

YES = Answer(call_id="c", decision="approve")


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


async def test_without_a_fault_it_is_the_store_beneath(store: FaultyStore) -> None:
    as_port: Store = store
    assert await as_port.create_chat(CHAT)
    assert await as_port.chat("c") == CHAT
    assert store.calls == ["create_chat", "chat"]


async def test_it_stands_in_front_of_the_store_it_is_put_over(store: FaultyStore) -> None:
    empty = FaultyStore()
    with pytest.raises(RuntimeError, match="no store behind this one"):
        await empty.ping()
    assert empty.over(store) is empty
    await empty.ping()
    assert store.calls == ["ping"]


async def test_away_fails_every_call_until_it_is_back(store: FaultyStore) -> None:
    store.away()
    for call in (store.chat("c"), store.create_chat(CHAT), store.ping()):
        with pytest.raises(StoreUnavailable, match="away"):
            await call
    store.back()
    assert await store.chat("c") is None


async def test_away_for_a_number_of_calls_comes_back_by_itself(store: FaultyStore) -> None:
    store.away("chat", times=1)
    await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.chat("c")
    assert await store.chat("c") is None


async def test_a_full_store_can_be_read(store: FaultyStore) -> None:
    store.full()
    with pytest.raises(StoreUnavailable, match="full"):
        await store.create_chat(CHAT)
    assert await store.chat("c") is None


async def test_a_lost_answer_was_stored(store: FaultyStore) -> None:
    store.lose_answers()
    with pytest.raises(StoreUnavailable, match="lost after the commit"):
        await store.create_chat(CHAT)
    assert await store.chat("c") == CHAT


async def test_an_answer_and_an_output_are_writes_like_any_other(store: FaultyStore) -> None:
    store.full()
    for call in (store.answer("t", [YES]), store.keep_output("t", "c", 0, b"x", epoch=0)):
        with pytest.raises(StoreUnavailable, match="full"):
            await call
    assert await store.needs("t") == []
    assert await store.to_wake("2026-11-24T05:00:00.000Z") == []
    assert await store.output("t", "c", offset=0, limit=9) == b""
    assert await store.result("c", "c") is None
    store.back()
    with pytest.raises(NotFound):
        await store.answer("t", [YES])
    with pytest.raises(RowRefused):
        await store.keep_output("t", "c", 0, b"x", epoch=0)


async def test_a_held_call_stands_until_the_store_is_back(store: FaultyStore) -> None:
    store.hold("create_chat")
    call = asyncio.ensure_future(store.create_chat(CHAT))
    await store.reached("create_chat")
    assert await store.chat("c") is None
    store.back()
    assert await call


async def test_a_held_call_that_is_cancelled_changes_nothing(store: FaultyStore) -> None:
    store.hold()
    call = asyncio.ensure_future(store.create_chat(CHAT))
    await store.reached("create_chat")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    store.back()
    assert await store.chat("c") is None


async def test_a_refused_turn_spoils_its_group_by_name(store: FaultyStore) -> None:
    store.refuse("b")
    with pytest.raises(RowRefused) as caught:
        await store.write([TurnWrite(turn_id="a", epoch=0), TurnWrite(turn_id="b", epoch=0)])
    assert caught.value.turn_id == "b"


async def test_a_slow_call_is_served_after_a_quick_one(store: FaultyStore) -> None:
    store.slow(0.01, "chat")
    done: list[str] = []

    async def one(name: str) -> None:
        await (store.chat("c") if name == "chat" else store.ping())
        done.append(name)

    await asyncio.gather(one("chat"), one("ping"))
    assert done == ["ping", "chat"]


def test_a_locked_database_can_be_read_and_is_written_once_it_is_let_go(tmp_path: Path) -> None:
    file = tmp_path / "legato.db"
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = wal")
        writer.execute("CREATE TABLE kept (what)")
        with locked(file):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                writer.execute("INSERT INTO kept VALUES (1)")
            assert writer.execute("SELECT * FROM kept").fetchall() == []
        writer.execute("INSERT INTO kept VALUES (1)")
