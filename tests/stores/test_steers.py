"""What people say into turns, as every store keeps it until an owner has heard of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.stores.values import Make

from legato.core.errors import Conflict, InvalidRequest, NotFound
from legato.core.records import KeptSteer, Rest, TurnWrite
from legato.ports import Store
from legato.stores.sqlite import open_sqlite, queries, steers

pytestmark = pytest.mark.anyio

SHORTER = KeptSteer(steer_id="s1", text="Shorter, please.")
COLDER = KeptSteer(steer_id="s2", text="And colder.")
LIMIT = 3


def heard(turn_id: str, seq: int, *steers: KeptSteer, make: Make) -> TurnWrite:
    return make.said(turn_id, seq, seq, steers=steers)


async def test_steers_are_kept_in_the_order_in_which_they_came(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    assert await store.steers(turn_id) == []
    for steer in (COLDER, SHORTER):
        assert await store.keep_steer(turn_id, steer, limit=LIMIT) == steer
    assert await store.steers(turn_id) == [COLDER, SHORTER]
    assert await store.steers("nobody") == []


async def test_a_steer_may_be_repeated_and_not_said_otherwise(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.keep_steer(turn_id, SHORTER, limit=LIMIT)
    assert await store.keep_steer(turn_id, SHORTER, limit=1) == SHORTER
    with pytest.raises(Conflict) as refused:
        await store.keep_steer(turn_id, KeptSteer(steer_id="s1", text="Longer."), limit=LIMIT)
    assert refused.value.code == "steer_id_reused"
    assert await store.steers(turn_id) == [SHORTER]


async def test_one_over_the_limit_is_refused_with_both_numbers(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.keep_steer(turn_id, SHORTER, limit=1)
    with pytest.raises(InvalidRequest) as refused:
        await store.keep_steer(turn_id, COLDER, limit=1)
    assert (refused.value.code, refused.value.limit, refused.value.actual) == ("too_many_steers", 1, 1)


async def test_an_ended_turn_takes_none_but_knows_those_that_its_owner_had_heard(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    returned = KeptSteer(steer_id="s1", text=SHORTER.text, state="returned")
    for steer in (SHORTER, COLDER):
        await store.keep_steer(turn_id, steer, limit=LIMIT)
    await store.write([heard(turn_id, 1, returned, make=make), make.ending(turn_id)])
    assert await store.keep_steer(turn_id, SHORTER, limit=LIMIT) == returned
    assert await store.steers(turn_id) == [returned]
    with pytest.raises(Conflict) as refused:
        await store.keep_steer(turn_id, COLDER, limit=LIMIT)
    assert refused.value.code == "turn_ended"
    with pytest.raises(NotFound):
        await store.keep_steer("nobody", SHORTER, limit=LIMIT)


async def test_what_an_owner_says_of_a_steer_replaces_what_was_posted(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.keep_steer(turn_id, SHORTER, limit=LIMIT)
    accepted = KeptSteer(steer_id="s1", text=SHORTER.text, state="accepted")
    delivered = KeptSteer(steer_id="s1", text=SHORTER.text, state="delivered")
    first, second = heard(turn_id, 1, accepted, make=make), heard(turn_id, 2, delivered, COLDER, make=make)
    await store.write([first])
    assert await store.steers(turn_id) == [accepted]
    await store.write([second])
    await store.write([first])
    assert await store.steers(turn_id) == [delivered, COLDER]


async def test_unheard_are_those_posted_to_turns_that_this_owner_runs(store: Store, make: Make) -> None:
    mine = (await make.begun(store, status="running", owner="me")).assistant.id
    other = (await make.begun(store, status="running", owner="you")).assistant.id
    resting = (await make.begun(store, status="running", owner="me")).assistant.id
    for turn_id in (mine, other, resting):
        await store.keep_steer(turn_id, SHORTER, limit=LIMIT)
    await store.write([make.said(resting, 1, 1, rest=Rest(wait_until="2026-12-24T00:00:00.000Z"))])
    assert await store.unheard_steers("me") == [(mine, SHORTER)]
    await store.write([heard(mine, 1, KeptSteer(steer_id="s1", text=SHORTER.text, state="accepted"), make=make)])
    assert await store.unheard_steers("me") == []


async def test_a_steer_is_found_in_its_chat(store: Store, make: Make) -> None:
    begun = (await make.begun(store)).assistant
    other = (await make.begun(store)).assistant
    await store.keep_steer(begun.id, SHORTER, limit=LIMIT)
    assert await store.find_steer(begun.chat_id, "s1") == (begun.id, SHORTER)
    assert await store.find_steer(begun.chat_id, "s2") is None
    assert await store.find_steer(other.chat_id, "s1") is None


async def test_steers_go_with_their_chat(store: Store, make: Make) -> None:
    begun = (await make.begun(store)).assistant
    await store.keep_steer(begun.id, SHORTER, limit=LIMIT)
    await store.delete_chat(begun.chat_id)
    assert await store.steers(begun.id) == []


async def test_what_every_second_asks_for_is_found_by_its_index(tmp_path: Path) -> None:
    """Thousands of kept steers and ended turns cost nothing."""
    asked: list[str] = []
    store = await open_sqlite(tmp_path / "legato.db")
    connection = sqlite3.connect(tmp_path / "legato.db")
    connection.set_trace_callback(asked.append)
    steers.unheard(connection, "me")
    queries.to_start(connection)
    queries.to_cancel(connection, "me")
    connection.set_trace_callback(None)
    plans = [step for one in asked for (*_, step) in connection.execute(f"EXPLAIN QUERY PLAN {one}")]
    connection.close()
    await store.close()
    used = {name for name in ("steer_posted", "turn_queued", "turn_to_cancel") if any(name in step for step in plans)}
    assert used == {"steer_posted", "turn_queued", "turn_to_cancel"}
    assert not [step for step in plans if step.startswith("SCAN") and " USING " not in step]
