"""Turns that wait for their chat, as every store keeps them: in order, each once."""

from __future__ import annotations

import msgspec
import pytest
from tests.stores.values import Make, at

from legato.core.inputs import CancelMode
from legato.core.records import Accepted, AlreadyMade, Busy, NewTurns, Queued, QueueFull, Rest
from legato.ports import Store

pytestmark = pytest.mark.anyio


async def busy(store: Store, make: Make) -> NewTurns:
    """A chat with a turn that runs."""
    return await make.begun(store, status="running", owner="me")


def behind(make: Make, before: NewTurns, *, limit: int = 5, in_front: bool = False) -> NewTurns:
    new = make.new(before.assistant.chat_id, prev=before.assistant.id, status="running", owner="me")
    return msgspec.structs.replace(new, on_busy="in_front" if in_front else "behind", queue_limit=limit)


async def active(store: Store, new: NewTurns) -> str | None:
    chat = await store.chat(new.assistant.chat_id)
    assert chat is not None
    return chat.active_turn_id


async def to_start(store: Store) -> list[str]:
    return [row.id for row in await store.to_start()]


async def test_a_turn_of_a_busy_chat_is_queued_with_its_user_turn_and_owned_by_nobody(store: Store, make: Make) -> None:
    first = await busy(store, make)
    second = behind(make, first)
    assert await store.begin(second) == Queued(first.assistant.id)
    row = await store.turn(second.assistant.id)
    assert row is not None
    assert (row.status, row.owner, row.epoch) == ("queued", None, 0)
    assert second.user is not None
    assert await store.load(second.user.id) is not None
    chat = await store.chat(first.assistant.chat_id)
    assert chat is not None
    assert (chat.active_turn_id, chat.head_turn_id) == (first.assistant.id, second.assistant.id)
    assert await to_start(store) == []
    assert second.assistant.id not in [row.id for row in await store.overdue()]


async def test_a_chat_that_is_free_begins_it_at_once(store: Store, make: Make) -> None:
    first = await busy(store, make)
    await store.write([make.ending(first.assistant.id)])
    second = behind(make, first)
    assert await store.begin(second) == Accepted()
    assert await store.to_start() == []


async def test_a_queued_turn_is_known_and_may_be_posted_again(store: Store, make: Make) -> None:
    first = await busy(store, make)
    second = behind(make, first)
    await store.begin(second)
    made = await store.begin(second)
    assert isinstance(made, AlreadyMade)
    assert made.row.status == "queued"


async def test_when_the_active_turn_ends_the_next_one_is_active_before_anybody_else_can_be(
    store: Store, make: Make
) -> None:
    first = await busy(store, make)
    second, third = behind(make, first), behind(make, first)
    await store.begin(second)
    await store.begin(third)
    await store.write([make.ending(first.assistant.id)])
    assert await active(store, first) == second.assistant.id
    assert await to_start(store) == [second.assistant.id]
    assert await store.begin(make.new(first.assistant.chat_id)) == Busy(second.assistant.id)


async def test_it_is_claimed_once_with_the_epoch_it_has(store: Store, make: Make) -> None:
    first = await busy(store, make)
    second = behind(make, first)
    await store.begin(second)
    await store.write([make.ending(first.assistant.id)])
    assert await store.claim(second.assistant.id, epoch=0, owner="me")
    assert await store.claim(second.assistant.id, epoch=0, owner="me")
    assert not await store.claim(second.assistant.id, epoch=0, owner="you")
    row = await store.turn(second.assistant.id)
    assert row is not None
    assert (row.status, row.owner) == ("running", "me")
    assert await to_start(store) == []
    await store.write([make.ending(second.assistant.id)])
    assert await active(store, first) is None


@pytest.mark.parametrize("left", ["released", "at rest"])
async def test_who_comes_late_for_one_that_has_begun_may_not_begin_it_again(
    left: str, store: Store, make: Make
) -> None:
    """It stood still after its look; by now the turn was begun by another, and has no owner again."""
    first = await busy(store, make)
    second = behind(make, first)
    await store.begin(second)
    await store.write([make.ending(first.assistant.id)])
    turn_id = second.assistant.id
    assert await to_start(store) == [turn_id]
    assert await store.claim(turn_id, epoch=0, owner="you")
    if left == "released":
        await store.write([make.said(turn_id, 1, 3)])
        await store.release([turn_id], owner="you")
    else:
        await store.write([make.said(turn_id, 1, 3, rest=Rest(wait_until=at(50)))])
    assert not await store.claim(turn_id, epoch=0, owner="me")
    row = await store.turn(turn_id)
    assert row is not None
    assert row.owner is None
    assert await store.claim(turn_id, epoch=1, owner="me")


async def test_they_begin_in_the_order_in_which_they_came(store: Store, make: Make) -> None:
    first = await busy(store, make)
    later = [behind(make, first) for _ in range(3)]
    for one in later:
        await store.begin(one)
    began, turn_id = [], first.assistant.id
    for _ in later:
        await store.write([make.ending(turn_id)])
        (turn_id,) = await to_start(store)
        assert await store.claim(turn_id, epoch=0, owner="me")
        began.append(turn_id)
    assert began == [one.assistant.id for one in later]


async def test_one_that_goes_in_front_is_next_and_asks_the_active_one_to_stop(store: Store, make: Make) -> None:
    first = await busy(store, make)
    second, urgent = behind(make, first), behind(make, first, in_front=True)
    await store.begin(second)
    assert await store.to_cancel("me") == []
    assert await store.begin(urgent) == Queued(first.assistant.id)
    assert await store.to_cancel("me") == [(first.assistant.id, "now")]
    assert await store.to_cancel("you") == []
    await store.write([make.ending(first.assistant.id, status="cancelled", stop_reason="cancelled")])
    assert await to_start(store) == [urgent.assistant.id]
    assert await store.to_cancel("me") == []


async def test_a_queue_that_is_full_says_how_full_and_stores_nothing(store: Store, make: Make) -> None:
    first = await busy(store, make)
    await store.begin(behind(make, first, limit=1))
    third = behind(make, first, limit=1)
    assert await store.begin(third) == QueueFull(1)
    assert await store.turn(third.assistant.id) is None
    assert third.user is not None
    assert await store.turn(third.user.id) is None


async def test_one_that_is_cancelled_while_it_waits_may_be_started_out_of_turn(store: Store, make: Make) -> None:
    first = await busy(store, make)
    second, third = behind(make, first), behind(make, first)
    await store.begin(second)
    await store.begin(third)
    await store.request_cancel(second.assistant.id)
    assert await to_start(store) == [second.assistant.id]
    assert await store.claim(second.assistant.id, epoch=0, owner="me")
    await store.write([make.ending(second.assistant.id, status="cancelled", stop_reason="cancelled")])
    assert await active(store, first) == first.assistant.id
    await store.write([make.ending(first.assistant.id)])
    assert await active(store, first) == third.assistant.id


async def test_a_queue_goes_with_its_chat(store: Store, make: Make) -> None:
    first = await busy(store, make)
    second = behind(make, first)
    await store.begin(second)
    await store.delete_chat(first.assistant.chat_id)
    assert await store.turn(second.assistant.id) is None
    assert await store.to_start() == []


async def test_the_strictest_of_several_cancels_is_kept(store: Store, make: Make) -> None:
    turn_id = (await busy(store, make)).assistant.id
    modes: list[tuple[CancelMode, CancelMode]] = [
        ("after_round", "after_round"),
        ("after_block", "after_block"),
        ("after_round", "after_block"),
    ]
    for mode, kept in modes:
        await store.request_cancel(turn_id, mode=mode)
        assert await store.to_cancel("me") == [(turn_id, kept)]
    await store.request_cancel(turn_id)
    assert await store.to_cancel("me") == [(turn_id, "now")]
    await store.request_cancel(turn_id, mode="after_round")
    assert await store.to_cancel("me") == [(turn_id, "now")]
