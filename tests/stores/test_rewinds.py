"""What every store does with the rows that a new owner's ``rewind`` drops."""

from __future__ import annotations

import pytest
from tests.stores.values import Make

from legato.core.blocks import Block, TextBlock, ToolResultBlock, ToolUseBlock
from legato.core.errors import RowRefused
from legato.core.records import Answer, Intent, KeptNeed, Need, Reading, RoundRecord, StoredTurn, TurnWrite
from legato.ports import Store


def text(index: int, said: str) -> TextBlock:
    return TextBlock(index=index, round=1, state="complete", text=said)


def call(index: int, call_id: str) -> ToolUseBlock:
    return ToolUseBlock(
        index=index, round=1, state="complete", text="{}", call_id=call_id, tool_name="look", origin="server", input={}
    )


def result(index: int, call_id: str) -> ToolResultBlock:
    return ToolResultBlock(
        index=index,
        round=1,
        state="complete",
        call_id=call_id,
        tool_name="look",
        origin="server",
        outcome="ok",
        output=1,
    )


def intent(call_id: str, key: str) -> Intent:
    return Intent(call_id=call_id, round=1, index=1, tool_name="look", input={}, input_sha256="ee", idempotency_key=key)


def reading(call_id: str, said: str) -> Reading:
    return Reading(call_id=call_id, text=said, formatter="f", version=1)


def need(call_id: str, said: str) -> Need:
    return Need(call_id=call_id, nr=1, kind="input", input_sha256="ee", message=said)


def round_(number: int, attempt: int, model: str) -> RoundRecord:
    return RoundRecord(round=number, attempt=attempt, model=model, provider="p")


async def loaded(store: Store, turn_id: str) -> StoredTurn:
    stored = await store.load(turn_id)
    assert stored is not None
    return stored


async def rewound(store: Store, make: Make) -> tuple[str, TurnWrite, TurnWrite]:
    """A turn whose next owner drops its second round: the write of its first owner, and of the second."""
    turn_id = (await make.begun(store)).assistant.id
    first = make.said(
        turn_id,
        1,
        9,
        blocks=(text(0, "stays"), call(1, "c1"), result(2, "c1"), text(3, "goes"), call(4, "c2"), result(5, "c2")),
        rounds=(round_(1, 1, "old"), round_(2, 1, "old")),
        intents=(intent("c1", "old"), intent("c2", "old")),
        readings=(reading("c1", "old"), reading("c2", "old")),
        needs=(need("c1", "old"), need("c2", "old")),
    )
    await store.write([first])
    await store.answer(turn_id, [Answer(call_id=one, output=1) for one in ("c1", "c2")])
    assert await store.claim(turn_id, epoch=1, owner="p2")
    second = make.said(
        turn_id,
        1_000_001,
        1_000_003,
        epoch=1,
        blocks=(text(3, "new"),),
        rounds=(round_(2, 1, "new"),),
        dropped_blocks=(3, 4, 5, 6),
        dropped_rounds=((2, 1), (2, 2)),
    )
    await store.write([second])
    return turn_id, first, second


async def test_dropped_rows_go_before_the_new_ones_are_put(store: Store, make: Make) -> None:
    turn_id, first, second = await rewound(store, make)
    stored = await loaded(store, turn_id)
    assert stored.blocks == (*first.blocks[:3], *second.blocks)
    assert stored.rounds == (round_(1, 1, "old"), round_(2, 1, "new"))
    assert len(await store.log(turn_id, after=0)) == 2


async def test_what_is_kept_of_a_call_goes_with_the_block_that_made_it(store: Store, make: Make) -> None:
    turn_id, first, _ = await rewound(store, make)
    stored = await loaded(store, turn_id)
    assert stored.readings == {"c1": reading("c1", "old")}
    assert list(await store.intents(turn_id)) == [intent("c1", "old")]
    answer = Answer(call_id="c1", output=1)
    assert list(await store.needs(turn_id)) == [KeptNeed(need=need("c1", "old"), answer=answer)]
    assert await store.result(stored.row.chat_id, "c1") == (turn_id, first.blocks[2])
    assert await store.result(stored.row.chat_id, "c2") is None


async def test_a_result_that_is_dropped_alone_leaves_its_call(store: Store, make: Make) -> None:
    turn_id, _, _ = await rewound(store, make)
    await store.write([make.said(turn_id, 1_000_004, 1_000_005, epoch=1, dropped_blocks=(2,))])
    assert [block.index for block in (await loaded(store, turn_id)).blocks] == [0, 1, 3]
    assert list(await store.intents(turn_id)) == [intent("c1", "old")]
    assert len(await store.needs(turn_id)) == 1


async def test_a_repeat_drops_nothing_that_was_put_since(store: Store, make: Make) -> None:
    turn_id, _, second = await rewound(store, make)
    later = make.said(
        turn_id,
        1_000_004,
        1_000_009,
        epoch=1,
        blocks=(text(3, "newer"), call(4, "c2"), result(5, "c2")),
        rounds=(round_(2, 1, "newer"), round_(2, 2, "newer")),
        intents=(intent("c2", "new"),),
        readings=(reading("c2", "new"),),
        needs=(need("c2", "new"),),
    )
    await store.write([later])
    await store.answer(turn_id, [Answer(call_id="c2", output=2)])
    before = await everything(store, turn_id)
    for writes in ([second], [second, later], [later, second]):
        await store.write(writes)
        assert await everything(store, turn_id) == before
    stored = await loaded(store, turn_id)
    assert stored.blocks[2:] == (result(2, "c1"), *later.blocks)
    assert stored.rounds == (round_(1, 1, "old"), *later.rounds)
    assert stored.readings["c2"].text == "new"
    assert list(await store.intents(turn_id)) == [intent("c1", "old"), intent("c2", "new")]
    assert (await store.needs(turn_id))[-1] == KeptNeed(need=need("c2", "new"), answer=Answer(call_id="c2", output=2))


async def test_a_write_that_drops_a_call_and_makes_it_again_may_be_repeated(store: Store, make: Make) -> None:
    turn_id, _, _ = await rewound(store, make)
    again = make.said(
        turn_id,
        1_000_004,
        1_000_006,
        epoch=1,
        blocks=(call(1, "c1"),),
        intents=(intent("c1", "new"),),
        readings=(reading("c1", "new"),),
        needs=(need("c1", "new"),),
        dropped_blocks=(1, 2),
    )
    await store.write([again])
    await store.answer(turn_id, [Answer(call_id="c1", output=3)])
    await store.write([again])
    assert (await loaded(store, turn_id)).readings == {"c1": reading("c1", "new")}
    assert list(await store.intents(turn_id)) == [intent("c1", "new")]
    answer = Answer(call_id="c1", output=3)
    assert list(await store.needs(turn_id)) == [KeptNeed(need=need("c1", "new"), answer=answer)]


async def test_what_came_earlier_in_the_same_group_is_dropped_and_what_comes_later_is_not(
    store: Store, make: Make
) -> None:
    turn_id = (await make.begun(store)).assistant.id
    earlier = make.said(
        turn_id,
        1,
        3,
        blocks=(text(0, "old"), call(1, "c1")),
        rounds=(round_(1, 1, "old"),),
        intents=(intent("c1", "old"),),
        needs=(need("c1", "old"),),
    )
    drop = make.said(turn_id, 4, 6, blocks=(text(0, "new"),), dropped_blocks=(0, 1), dropped_rounds=((1, 1),))
    later = make.said(turn_id, 7, 9, blocks=(text(1, "later"),), rounds=(round_(1, 1, "later"),))
    await store.write([earlier, drop, later])
    stored = await loaded(store, turn_id)
    assert stored.blocks == (text(0, "new"), text(1, "later"))
    assert stored.rounds == (round_(1, 1, "later"),)
    assert list(await store.intents(turn_id)) == []
    assert list(await store.needs(turn_id)) == []


async def test_a_drop_touches_no_other_turn_and_goes_back_with_its_group(store: Store, make: Make) -> None:
    turn_id, other = [(await make.begun(store)).assistant.id for _ in range(2)]
    blocks: tuple[Block, ...] = (text(0, "old"), call(1, "c1"))
    for one in (turn_id, other):
        await store.write([make.said(one, 1, 3, blocks=blocks, intents=(intent("c1", "old"),))])
    before = [await everything(store, one) for one in (turn_id, other)]
    drop = make.said(turn_id, 4, 6, dropped_blocks=(0, 1))
    with pytest.raises(RowRefused):
        await store.write([drop, make.said("nobody", 1, 2)])
    assert [await everything(store, one) for one in (turn_id, other)] == before
    await store.write([drop])
    assert (await loaded(store, turn_id)).blocks == ()
    assert await everything(store, other) == before[1]


async def test_a_row_refused_before_a_drop_is_named_for_its_own_turn(store: Store, make: Make) -> None:
    bad, good = [(await make.begun(store)).assistant.id for _ in range(2)]
    await store.write([make.said(good, 1, 3, blocks=(text(0, "old"),))])
    with pytest.raises(RowRefused) as raised:
        await store.write(
            [make.said(bad, 1, 3, blocks=(text(0, "\ud800"),)), make.said(good, 4, 6, dropped_blocks=(0,))]
        )
    assert raised.value.turn_id == bad
    assert (await loaded(store, good)).blocks == (text(0, "old"),)


async def everything(store: Store, turn_id: str) -> tuple[object, ...]:
    return (
        await loaded(store, turn_id),
        list(await store.intents(turn_id)),
        list(await store.needs(turn_id)),
        list(await store.log(turn_id, after=0)),
    )
