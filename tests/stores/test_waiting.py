"""What every store does with turns that wait: needs, answers, rests, and who is to be woken."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.stores.values import Make, at

from legato.core.blocks import CallError
from legato.core.errors import Conflict, NotFound, RowRefused, StaleEpoch
from legato.core.records import Answer, KeptNeed, Need, Rest, Span, TurnRow, TurnWrite
from legato.ports import Store

NOON, LATER = at(1200), at(1800)
NEED = Need(
    call_id="c1",
    nr=1,
    kind="input",
    input_sha256="ee",
    message="Which dragon? é\u2028",
    input_schema={"type": "object", "required": ["name"]},
    state={"seen": [1, None, 2.5]},
    running=True,
)
YES = Answer(call_id="c1", decision="approve")


def need(call_id: str, nr: int = 1) -> Need:
    return Need(call_id=call_id, nr=nr, kind="approval", input_sha256="ee")


def resting(make: Make, turn_id: str, *needs: Need, epoch: int = 0, until: str = LATER, n: int = 1) -> TurnWrite:
    first = epoch * 1_000_000 + n
    return make.said(turn_id, first, first + 2, epoch=epoch, needs=needs, rest=Rest(wait_until=until))


async def waits(store: Store, make: Make, *needs: Need, until: str = LATER) -> str:
    turn_id = (await make.begun(store, status="running", owner="p1", lease_until=NOON)).assistant.id
    await store.write([resting(make, turn_id, *needs, until=until)])
    return turn_id


async def row_of(store: Store, turn_id: str) -> TurnRow:
    row = await store.turn(turn_id)
    assert row is not None
    return row


async def code_of(store: Store, turn_id: str, *answers: Answer) -> str:
    with pytest.raises((Conflict, NotFound)) as raised:
        await store.answer(turn_id, answers)
    return raised.value.code


async def woken(store: Store, now: str = NOON) -> list[str]:
    return [row.id for row in await store.to_wake(now)]


# Needs


async def test_needs_come_back_equal_in_the_order_they_were_said(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    said = [need("z"), NEED, need("a"), need("c1", 2)]
    await store.write([make.said(turn_id, 1, 3, needs=tuple(said[:2]))])
    await store.write([make.said(turn_id, 4, 6, needs=tuple(said[2:]))])
    assert list(await store.needs(turn_id)) == [KeptNeed(need=one) for one in said]
    # A field that is added to a need is left out here, and so fails here until it is stored.
    assert [one.name for one in msgspec.structs.fields(NEED) if getattr(NEED, one.name) in (None, one.default)] == []
    assert list(await store.needs("nobody")) == []


async def test_a_repeat_of_a_need_leaves_its_answer_and_its_place(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    write = make.said(turn_id, 1, 3, needs=(NEED, need("c2")))
    await store.write([write])
    await store.answer(turn_id, [YES])
    await store.write([make.said(turn_id, 4, 6, taken=(("c1", 1),))])
    await store.write([write])
    assert list(await store.needs(turn_id)) == [
        KeptNeed(need=NEED, answer=YES, taken=True),
        KeptNeed(need=need("c2")),
    ]


async def test_a_need_that_comes_late_never_replaces_a_newer_one(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    newer = msgspec.structs.replace(NEED, message="newer")
    await store.write([make.said(turn_id, 4, 6, needs=(newer,)), make.said(turn_id, 1, 3, needs=(NEED,))])
    assert list(await store.needs(turn_id)) == [KeptNeed(need=newer)]


async def test_a_need_may_be_said_and_taken_in_one_write(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.write([make.said(turn_id, 1, 3, needs=(NEED,), taken=(("c1", 1), ("nobody", 1)))])
    assert list(await store.needs(turn_id)) == [KeptNeed(need=NEED, taken=True)]


# Answers


@pytest.mark.parametrize(
    "answer",
    [
        Answer(call_id="c1", decision="approve", input={"b": [1, None], "a": {"é": 2.5}}),
        Answer(call_id="c1", decision="deny", reason="too many dragons"),
        Answer(call_id="c1", output=None),
        Answer(call_id="c1", output=[{"x": 1}]),
        Answer(call_id="c1", error=CallError("boom", "it broke")),
    ],
)
async def test_an_answer_comes_back_equal_and_may_be_repeated(store: Store, make: Make, answer: Answer) -> None:
    turn_id = await waits(store, make, NEED, need("c2"))
    for _ in range(2):
        await store.answer(turn_id, [answer])
    assert list(await store.needs(turn_id)) == [KeptNeed(need=NEED, answer=answer), KeptNeed(need=need("c2"))]


async def test_equal_means_the_same_json_in_whatever_order(store: Store, make: Make) -> None:
    turn_id = await waits(store, make, NEED)
    await store.answer(turn_id, [Answer(call_id="c1", output={"a": 1, "b": [True]})])
    await store.answer(turn_id, [Answer(call_id="c1", output={"b": [True], "a": 1})])
    for other in ({"a": True, "b": [True]}, {"a": 1, "b": [1]}, None):
        assert await code_of(store, turn_id, Answer(call_id="c1", output=other)) == "already_answered"


async def test_an_answer_is_for_the_need_that_it_names_whatever_was_asked_since(store: Store, make: Make) -> None:
    turn_id = await waits(store, make, NEED, need("c1", 2))
    for _ in range(2):
        await store.answer(turn_id, [msgspec.structs.replace(YES, nr=1)])
    assert list(await store.needs(turn_id)) == [KeptNeed(need=NEED, answer=YES), KeptNeed(need=need("c1", 2))]
    assert await code_of(store, turn_id, Answer(call_id="c1", nr=1, decision="deny")) == "already_answered"
    assert await code_of(store, turn_id, Answer(call_id="c1", nr=3, decision="deny")) == "unknown_call"
    await store.answer(turn_id, [YES])
    assert [kept.answer for kept in await store.needs(turn_id)] == [YES, YES]


async def test_of_many_who_answer_at_once_one_is_first(store: Store, make: Make) -> None:
    turn_id = await waits(store, make, NEED)
    answers = [Answer(call_id="c1", output=number) for number in range(6)]
    said = await asyncio.gather(*(store.answer(turn_id, [one]) for one in answers), return_exceptions=True)
    assert said.count(None) == 1
    assert [one.code for one in said if isinstance(one, Conflict)] == ["already_answered"] * 5
    assert list(await store.needs(turn_id)) == [KeptNeed(need=NEED, answer=answers[said.index(None)])]


async def test_answers_are_kept_all_or_none(store: Store, make: Make) -> None:
    turn_id = await waits(store, make, NEED, need("c2"), need("c3"))
    await store.answer(turn_id, [Answer(call_id="c2", decision="deny")])
    before = list(await store.needs(turn_id))
    refused = [
        ([YES, Answer(call_id="c2", decision="approve")], "already_answered"),
        ([YES, Answer(call_id="c4", decision="approve")], "unknown_call"),
        ([YES, Answer(call_id="c1", decision="deny")], "already_answered"),
    ]
    for answers, code in refused:
        assert await code_of(store, turn_id, *answers) == code
        assert list(await store.needs(turn_id)) == before
    with pytest.raises(RowRefused) as raised:
        await store.answer(turn_id, [YES, Answer(call_id="c3", output=object())])
    assert raised.value.turn_id == turn_id
    assert list(await store.needs(turn_id)) == before
    await store.answer(turn_id, [YES, YES, Answer(call_id="c2", decision="deny")])
    await store.answer(turn_id, [])
    await store.answer("nobody", [])
    assert [kept.answer is not None for kept in await store.needs(turn_id)] == [True, True, False]


async def test_an_answer_is_for_the_newest_need_of_its_call_alone(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.write([make.said(turn_id, 1, 3, needs=(need("c1"),))])
    await store.answer(turn_id, [YES])
    await store.write([make.said(turn_id, 4, 6, needs=(need("c1", 2),), taken=(("c1", 1),))])
    await store.answer(turn_id, [YES])
    assert list(await store.needs(turn_id)) == [
        KeptNeed(need=need("c1"), answer=YES, taken=True),
        KeptNeed(need=need("c1", 2), answer=YES),
    ]


async def test_an_answer_that_was_taken_is_told_from_another_one(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.write([make.said(turn_id, 1, 3, needs=(NEED, need("c2")))])
    await store.answer(turn_id, [YES])
    await store.write([make.said(turn_id, 4, 6, taken=(("c1", 1), ("c2", 1)))])
    await store.answer(turn_id, [YES])
    assert await code_of(store, turn_id, Answer(call_id="c1", decision="deny")) == "already_answered"
    # The turn went on with nobody's answer, for its time was over.
    assert await code_of(store, turn_id, Answer(call_id="c2", decision="deny")) == "already_answered"


async def test_who_comes_after_the_end_is_told_so_also_where_the_end_closed_the_need(store: Store, make: Make) -> None:
    """A cancel answers for everybody; nobody else did."""
    turn_id = await waits(store, make, NEED)
    await store.write([make.said(turn_id, 4, 6, taken=(("c1", 1),))])
    await store.write([make.ending(turn_id)])
    assert await code_of(store, turn_id, YES) == "turn_ended"


async def test_after_the_end_only_what_was_said_before_is_no_fault(store: Store, make: Make) -> None:
    turn_id = await waits(store, make, NEED, need("c2"))
    await store.answer(turn_id, [YES])
    await store.write([make.ending(turn_id)])
    await store.answer(turn_id, [YES])
    assert await code_of(store, turn_id, Answer(call_id="c1", decision="deny")) == "already_answered"
    assert await code_of(store, turn_id, Answer(call_id="c2", decision="deny")) == "turn_ended"
    assert await code_of(store, turn_id, Answer(call_id="c3", decision="deny")) == "unknown_call"
    assert await code_of(store, "nobody", YES) == "unknown_call"
    assert list(await store.needs(turn_id)) == [KeptNeed(need=NEED, answer=YES), KeptNeed(need=need("c2"))]


# Rests


async def test_a_turn_that_rests_has_no_owner_and_its_chat_stays_busy(store: Store, make: Make) -> None:
    turn_id = await waits(store, make, NEED)
    row = await row_of(store, turn_id)
    assert (row.status, row.owner, row.lease_until, row.wait_until) == ("waiting", None, None, LATER)
    assert (row.last_seq, row.ended_at, row.epoch) == (3, None, 0)
    chat = await store.chat(row.chat_id)
    assert chat is not None
    assert chat.active_turn_id == turn_id
    assert [one.id for one in await store.unended()] == [turn_id]


async def test_a_claim_takes_a_waiting_turn_up_and_shuts_its_last_owner_out(store: Store, make: Make) -> None:
    turn_id = await waits(store, make, NEED)
    assert not await store.claim(turn_id, epoch=0, owner="p1")
    for _ in range(2):
        assert await store.claim(turn_id, epoch=1, owner="p2")
        row = await row_of(store, turn_id)
        assert (row.status, row.owner, row.epoch, row.wait_until) == ("running", "p2", 1, None)
    with pytest.raises(StaleEpoch):
        await store.write([resting(make, turn_id, NEED)])
    assert (await row_of(store, turn_id)).status == "running"


async def test_a_claimed_turn_that_ran_recovers_until_its_new_owner_has_written(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store, status="running")).assistant.id
    for epoch in (1, 1, 2):
        assert await store.claim(turn_id, epoch=epoch, owner="p2")
        assert (await row_of(store, turn_id)).status == "recovering"
    write = make.said(turn_id, 2_000_001, 2_000_002, epoch=2)
    for _ in range(2):
        await store.write([write])
        assert (await row_of(store, turn_id)).status == "running"


async def test_a_turn_rests_again_and_its_timeline_is_the_last_one(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    spans = [Span(kind="waiting", name=str(nr), round=1, start_ms=0.0, end_ms=None) for nr in range(3)]
    for epoch in range(3):
        assert epoch == 0 or await store.claim(turn_id, epoch=epoch, owner="p")
        write = resting(make, turn_id, need("c1", epoch + 1), epoch=epoch, until=at(1200 + epoch))
        write = msgspec.structs.replace(write, spans=tuple(spans[: epoch + 1]))
        for _ in range(2):
            await store.write([write])
        row = await row_of(store, turn_id)
        assert (row.status, row.wait_until, row.owner) == ("waiting", at(1200 + epoch), None)
        assert list(await store.spans(turn_id)) == spans[: epoch + 1]


async def test_an_ending_ends_the_wait_and_a_late_rest_changes_nothing(store: Store, make: Make) -> None:
    turn_id = await waits(store, make, NEED)
    ending = make.ending(turn_id, status="cancelled", stop_reason="cancelled")
    await store.write([ending, resting(make, turn_id, NEED)])
    row = await row_of(store, turn_id)
    assert (row.status, row.wait_until) == ("cancelled", None)
    await store.write([resting(make, turn_id, NEED)])
    assert await row_of(store, turn_id) == row
    other = (await make.begun(store)).assistant.id
    await store.write([resting(make, other, NEED), make.ending(other)])
    assert (await row_of(store, other)).status == "complete"
    assert not await store.claim(turn_id, epoch=1, owner="p2")


# Waking


async def test_a_waiting_turn_is_woken_for_an_answer_a_cancel_or_its_time(store: Store, make: Make) -> None:
    asleep, answered, cancelled, due, over = [
        await waits(store, make, NEED, until=until) for until in (LATER, LATER, LATER, NOON, at(1199))
    ]
    assert await woken(store) == [due, over]
    await store.answer(answered, [YES])
    await store.request_cancel(cancelled)
    assert await woken(store) == [answered, cancelled, due, over]
    assert await woken(store, at(1000)) == [answered, cancelled]
    assert await woken(store, LATER) == [asleep, answered, cancelled, due, over]
    assert [await store.turn(turn_id) for turn_id in (answered,)] == [(await store.to_wake(NOON))[0]]


async def test_nobody_is_woken_for_what_runs_has_ended_or_was_taken(store: Store, make: Make) -> None:
    running, claimed, ended, taken = [await waits(store, make, NEED, until=NOON) for _ in range(4)]
    for turn_id in (running, claimed, ended, taken):
        await store.answer(turn_id, [YES])
    for turn_id in (running, claimed, taken):
        assert await store.claim(turn_id, epoch=1, owner="p2")
    await store.request_cancel(claimed)
    await store.write([make.ending(ended)])
    await store.write([resting(make, taken, need("c1", 2), epoch=1)])
    assert await woken(store) == [taken]
    await store.write([make.said(taken, 1_000_004, 1_000_005, epoch=1, taken=(("c1", 1),))])
    assert await woken(store) == []


async def test_an_answer_that_came_while_the_turn_went_to_rest_wakes_it(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.write([make.said(turn_id, 1, 3, needs=(NEED,))])
    await store.answer(turn_id, [YES])
    assert await woken(store) == []
    await store.write([resting(make, turn_id, n=4)])
    assert await woken(store) == [turn_id]


async def test_the_woken_come_oldest_first(store: Store, make: Make) -> None:
    late = (await make.begun(store, created_at="2026-11-24T09:00:00.000Z")).assistant.id
    early = (await make.begun(store)).assistant.id
    for turn_id in (late, early):
        await store.write([resting(make, turn_id, NEED)])
        await store.answer(turn_id, [YES])
    assert await woken(store) == [early, late]


async def test_a_deleted_chat_takes_its_needs_with_it(store: Store, make: Make) -> None:
    turn_id = await waits(store, make, NEED, until=NOON)
    await store.delete_chat((await row_of(store, turn_id)).chat_id)
    assert list(await store.needs(turn_id)) == []
    assert await woken(store) == []
    assert await code_of(store, turn_id, YES) == "unknown_call"
