"""Cancels that come before their turn, as every store keeps them."""

from __future__ import annotations

import msgspec
import pytest
from tests.stores.values import Make

from legato.core.records import Accepted, Queued
from legato.ports import Store

pytestmark = pytest.mark.anyio


async def test_a_turn_that_was_cancelled_before_it_is_begun_with_its_cancel_requested(store: Store, make: Make) -> None:
    new = make.new()
    await store.cancel_early(new.owner, new.assistant.id, seconds=60, limit=10)
    assert await store.begin(new) == Accepted(cancelled=True)
    row = await store.turn(new.assistant.id)
    assert row is not None
    assert row.cancel_requested


async def test_so_is_one_that_is_queued(store: Store, make: Make) -> None:
    active = (await make.begun(store, status="running")).assistant
    new = msgspec.structs.replace(make.new(active.chat_id), on_busy="behind", queue_limit=5)
    await store.cancel_early(new.owner, new.assistant.id, seconds=60, limit=10)
    assert await store.begin(new) == Queued(active.id, cancelled=True)
    assert new.assistant.id in [row.id for row in await store.to_start()]


async def test_it_is_for_one_turn_of_whoever_asked_and_until_its_time(store: Store, make: Make) -> None:
    late, foreign, other = make.new(), make.new(), make.new()
    await store.cancel_early(late.owner, late.assistant.id, seconds=0, limit=10)
    await store.cancel_early("somebody else", foreign.assistant.id, seconds=60, limit=10)
    for new in (late, foreign, other):
        assert await store.begin(new) == Accepted()


async def test_a_refused_post_leaves_it_for_the_next(store: Store, make: Make) -> None:
    active = (await make.begun(store, status="running")).assistant
    new = make.new(active.chat_id)
    await store.cancel_early(new.owner, new.assistant.id, seconds=60, limit=10)
    await store.begin(new)
    await store.write([make.ending(active.id)])
    assert await store.begin(new) == Accepted(cancelled=True)


async def test_of_too_many_the_oldest_are_forgotten_and_a_repeat_is_new(store: Store, make: Make) -> None:
    news = [make.new() for _ in range(3)]
    for seconds, new in ((60, news[0]), (61, news[1]), (62, news[0]), (63, news[2])):
        await store.cancel_early(new.owner, new.assistant.id, seconds=seconds, limit=2)
    begun = [await store.begin(new) for new in news]
    assert begun == [Accepted(cancelled=True), Accepted(), Accepted(cancelled=True)]
