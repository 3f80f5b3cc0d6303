"""What every store does. Each test runs on each of them."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.stores.values import Make, lines

from legato.core.ask import NamedTool, Params
from legato.core.blocks import (
    Block,
    CallError,
    Citation,
    FileBlock,
    ImageBlock,
    OpaqueBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from legato.core.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    RowRefused,
    StaleEpoch,
    StoreUnavailable,
)
from legato.core.events import ErrorInfo
from legato.core.records import (
    Accepted,
    AlreadyMade,
    Busy,
    ClientTool,
    Datum,
    Intent,
    Limits,
    LogSegment,
    Reading,
    RoundRecord,
    Span,
    StoredTurn,
    TurnRequest,
    TurnRow,
    TurnWrite,
)
from legato.core.usage import Usage
from legato.ports import Store

BLOCKS: tuple[Block, ...] = (
    TextBlock(
        index=0,
        round=1,
        state="complete",
        text='A dragon 🐉 "said"\n\tNo\u2028',
        length=20,
        sha256="aa",
        citations=(Citation(url="https://a.example", title=None, start=0, end=3),),
    ),
    ThinkingBlock(
        index=1,
        round=1,
        state="complete",
        text="",
        length=0,
        sha256="bb",
        signature="c2ln",
        redacted=True,
        provider_data={"anthropic": {"data": "x" * 50, "deep": [1, 2.5, None, {"é": 12345678901234567890}]}},
    ),
    ToolUseBlock(index=2, round=1, state="partial", text='{"a', call_id="c1", tool_name="look", origin="server"),
    ToolUseBlock(
        index=3,
        round=1,
        state="complete",
        text='{"a":1}',
        call_id="c2",
        tool_name="look",
        origin="client",
        input={"a": 1},
    ),
    ToolResultBlock(
        index=4,
        round=1,
        state="complete",
        call_id="c2",
        tool_name="look",
        origin="client",
        outcome="error",
        output={"z": 1, "a": [True, 1.0]},
        error=CallError("boom", "it broke"),
        ran_input={"a": 2},
    ),
    ToolResultBlock(
        index=5, round=1, state="complete", call_id="c1", tool_name="look", origin="server", outcome="ok", output=None
    ),
    ImageBlock(index=6, round=0, state="complete", media_type="image/png", bytes=7, sha256="cd", href="/v1/x"),
    FileBlock(index=7, round=0, state="complete", name="a.pdf", url="https://b.example/a.pdf"),
    OpaqueBlock(index=8, round=2, state="complete", provider_data={"gemini": {"what": "ever"}}),
)
ROUND = RoundRecord(
    round=1,
    attempt=2,
    model="claude",
    provider="anthropic",
    commitment="adopted",
    kept_to=4,
    stop_reason="calls",
    provider_reason="tool_use",
    usage=Usage(
        input_tokens=1,
        cache_read_tokens=2,
        cache_write_tokens=3,
        output_tokens=4,
        reasoning_tokens=5,
        cost_usd=0.125,
        source="estimated",
    ),
    notices=("one", "two"),
    steers=("three",),
)
READING = Reading(call_id="c1", text="what the model reads", formatter="look", version=3)
INTENT = Intent(
    call_id="c1",
    round=1,
    index=3,
    tool_name="look",
    input={"a": 1},
    input_sha256="ee",
    idempotency_key="key",
    owner="p",
)
SPANS = (
    Span(kind="round", name="1", round=1, start_ms=0.0, end_ms=12.5),
    Span(kind="tool_run", name="look", round=1, start_ms=3.25, end_ms=None, index=4, call_id="c1"),
)


# Beginning


async def test_what_begin_accepted_is_there_as_it_was_given(store: Store, make: Make) -> None:
    chat = make.chat(title="Dragons", system="Be brief", model="m", metadata={"k": [1, {"v": None}]})
    new = make.new(chat)
    assert new.user is not None
    row = msgspec.structs.replace(
        new.assistant,
        model="claude",
        provider="anthropic",
        request=TurnRequest(
            params=Params(max_tokens=5, tool_choice=NamedTool("look"), provider={"x": 1}),
            system="Rhyme",
            tools=("look",),
            client_tools=(ClientTool(name="pick", input_schema={"type": "object"}),),
            limits=Limits(rounds=3),
        ),
        fingerprint="f",
        metadata={"a": {"b": 1}},
        owner="process-1",
        lease_until=chat.created_at,
    )
    data = (make.datum(0), msgspec.structs.replace(make.datum(3), name="b.png", data=b""))
    assert await store.begin(msgspec.structs.replace(new, assistant=row, user_data=data)) == Accepted()

    assert await store.turn(row.id) == row
    assert await store.load(row.id) == StoredTurn(row=row)
    user = await store.load(new.user.id)
    assert user is not None
    assert new.user_write is not None
    assert user.row == msgspec.structs.replace(new.user, last_seq=4)
    assert user.blocks == new.user_write.blocks
    assert await store.log(new.user.id, after=0) == [new.user_write.segment]
    assert await store.datum(new.user.id, 0) == data[0]
    assert await store.datum(new.user.id, 3) == data[1]
    assert await store.datum(new.user.id, 1) is None
    assert await store.chat(chat.id) == msgspec.structs.replace(
        chat, head_turn_id=row.id, active_turn_id=row.id, updated_at=row.created_at
    )


async def test_every_field_of_a_turn_is_kept(store: Store, make: Make) -> None:
    new = make.new()
    row = TurnRow(
        id="full",
        chat_id=new.assistant.chat_id,
        prev_turn_id=new.assistant.prev_turn_id,
        role="assistant",
        status="error",
        created_at=new.assistant.created_at,
        depth=7,
        model="claude",
        provider="anthropic",
        request=TurnRequest(system="Rhyme"),
        fingerprint="f",
        metadata={"a": {"b": [1.5]}},
        stop_reason="error",
        usage=Usage(input_tokens=1, cost_usd=0.1, source="reported"),
        error=ErrorInfo(code="provider_cut", message="gone", provider_status=500),
        ended_at=new.assistant.created_at,
        cancel_requested=True,
        owner="process-1",
        epoch=3,
        lease_until=new.assistant.created_at,
        wait_until=new.assistant.created_at,
        last_seq=9,
    )
    assert await store.begin(msgspec.structs.replace(new, assistant=row)) == Accepted()
    assert await store.turn("full") == row
    chat = make.chat(system="S", model="M", metadata={"k": 1}, head_turn_id="a", active_turn_id="b")
    await store.create_chat(chat)
    assert await store.chat(chat.id) == chat
    datum = msgspec.structs.replace(make.datum(0), name="a.png")
    for record in (row, chat, ROUND, ROUND.usage, READING, INTENT, SPANS[1], datum):
        # A field that is added to a record is left out here, and so fails here until it is stored.
        fields = msgspec.structs.fields(record)
        assert [one.name for one in fields if getattr(record, one.name) in (None, one.default)] in ([], ["end_ms"])


async def test_a_repeat_of_begin_gets_the_turn_it_made_even_while_the_chat_is_busy(store: Store, make: Make) -> None:
    new = await make.begun(store)
    assert await store.begin(new) == AlreadyMade(new.assistant, "ann")
    await store.write([make.ending(new.assistant.id)])
    again = await store.begin(new)
    assert isinstance(again, AlreadyMade)
    assert again.row == await store.turn(new.assistant.id)


async def test_a_second_turn_of_a_chat_waits_until_the_first_has_ended(store: Store, make: Make) -> None:
    first = await make.begun(store)
    second = make.new(first.assistant.chat_id, prev=first.assistant.id)
    assert await store.begin(second) == Busy(first.assistant.id)
    assert await store.turn(second.assistant.id) is None
    await store.write([make.ending(first.assistant.id)])
    assert await store.begin(second) == Accepted()


async def test_of_two_turns_begun_at_once_one_is_accepted(store: Store, make: Make) -> None:
    first = await make.answered(store)
    rivals = [make.new(first.assistant.chat_id, prev=first.assistant.id) for _ in range(5)]
    answers = await asyncio.gather(*(store.begin(one) for one in rivals))
    assert sorted(type(answer).__name__ for answer in answers) == ["Accepted", "Busy", "Busy", "Busy", "Busy"]


async def test_an_answer_is_made_again_without_a_user_turn(store: Store, make: Make) -> None:
    first = await make.answered(store)
    assert first.user is not None
    again = msgspec.structs.replace(
        make.new(first.assistant.chat_id),
        user=None,
        user_write=None,
        assistant=make.row(first.assistant.chat_id, prev_turn_id=first.user.id, depth=2),
    )
    assert await store.begin(again) == Accepted()
    chat = await store.chat(first.assistant.chat_id)
    assert chat is not None
    assert (chat.head_turn_id, chat.active_turn_id) == (again.assistant.id, again.assistant.id)


async def test_a_turn_that_is_begun_ended_leaves_its_chat_free(store: Store, make: Make) -> None:
    new = make.new()
    row = msgspec.structs.replace(new.assistant, ended_at=new.assistant.created_at, status="complete")
    assert await store.begin(msgspec.structs.replace(new, assistant=row)) == Accepted()
    chat = await store.chat(row.chat_id)
    assert chat is not None
    assert (chat.head_turn_id, chat.active_turn_id) == (row.id, None)


async def test_a_chat_id_that_is_taken_is_a_conflict_and_stores_nothing(store: Store, make: Make) -> None:
    first = await make.answered(store)
    second = make.new(make.chat(id=first.assistant.chat_id))
    with pytest.raises(Conflict) as raised:
        await store.begin(second)
    assert raised.value.code == "chat_id_taken"
    assert second.user is not None
    assert await store.turn(second.user.id) is None


async def test_a_user_turn_id_that_is_taken_is_a_conflict_and_stores_nothing(store: Store, make: Make) -> None:
    first = await make.answered(store)
    second = make.new()
    assert first.user is not None
    assert second.user is not None
    taken = msgspec.structs.replace(second, user=msgspec.structs.replace(second.user, id=first.user.id))
    with pytest.raises(Conflict) as raised:
        await store.begin(taken)
    assert raised.value.code == "turn_id_reused"
    assert await store.chat(second.assistant.chat_id) is None
    assert await store.turn(second.assistant.id) is None
    assert await store.begin(second) == Accepted()


async def test_the_ids_of_a_deleted_chat_are_never_taken_again(store: Store, make: Make) -> None:
    gone = await make.answered(store)
    assert gone.user is not None
    await store.delete_chat(gone.assistant.chat_id)
    later = make.new()
    assert later.user is not None
    for again in (
        msgspec.structs.replace(later, assistant=msgspec.structs.replace(later.assistant, id=gone.assistant.id)),
        msgspec.structs.replace(later, user=msgspec.structs.replace(later.user, id=gone.user.id)),
    ):
        with pytest.raises(Conflict, match="deleted with its chat") as raised:
            await store.begin(again)
        assert raised.value.code == "turn_id_reused"
        assert await store.chat(later.assistant.chat_id) is None
    assert await store.begin(later) == Accepted()


async def test_one_id_for_both_turns_is_a_conflict(store: Store, make: Make) -> None:
    new = make.new()
    assert new.user is not None
    both = msgspec.structs.replace(new, assistant=msgspec.structs.replace(new.assistant, id=new.user.id))
    with pytest.raises(Conflict) as raised:
        await store.begin(both)
    assert raised.value.code == "turn_id_reused"
    assert await store.turn(new.user.id) is None


async def test_a_turn_is_not_begun_in_a_chat_that_is_gone_or_someone_elses(store: Store, make: Make) -> None:
    with pytest.raises(NotFound):
        await store.begin(make.new("no-chat"))
    theirs = await make.answered(store, make.chat(owner="bob"))
    with pytest.raises(NotFound):
        await store.begin(make.new(theirs.assistant.chat_id, prev=theirs.assistant.id))


async def test_a_turn_does_not_hang_on_a_turn_of_another_chat(store: Store, make: Make) -> None:
    first, second = await make.answered(store), await make.answered(store)
    stray = make.new(first.assistant.chat_id, prev=second.assistant.id)
    with pytest.raises(RowRefused) as raised:
        await store.begin(stray)
    assert stray.user is not None
    assert raised.value.turn_id == stray.user.id
    assert len(await store.tree(first.assistant.chat_id)) == 2


async def test_begin_never_takes_a_chat_back_in_time(store: Store, make: Make) -> None:
    chat = make.chat(updated_at="2030-01-01T00:00:00.000Z")
    await make.begun(store, chat)
    stored = await store.chat(chat.id)
    assert stored is not None
    assert stored.updated_at == "2030-01-01T00:00:00.000Z"


# Writing


async def test_everything_of_a_write_comes_back_equal(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    second = msgspec.structs.replace(ROUND, round=2, attempt=1, commitment=None, kept_to=None, usage=Usage())
    await store.write(
        [
            make.said(
                turn_id,
                1,
                9,
                blocks=BLOCKS[::-1],
                rounds=(second, ROUND),
                intents=(INTENT,),
                readings=(READING,),
                spans=SPANS,
            )
        ]
    )
    stored = await store.load(turn_id)
    assert stored is not None
    assert stored.blocks == BLOCKS
    assert [type(block) for block in stored.blocks] == [type(block) for block in BLOCKS]
    assert stored.rounds == (ROUND, second)
    assert stored.readings == {"c1": READING}
    assert list(await store.intents(turn_id)) == [INTENT]
    assert stored.row.last_seq == 9
    assert await store.spans(turn_id) == SPANS


async def test_an_intent_names_who_starts_its_call_last_and_is_replaced_by_no_other(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    again, other = (msgspec.structs.replace(INTENT, owner=name) for name in ("q", "r"))
    other = msgspec.structs.replace(other, idempotency_key="other")
    await store.write([make.said(turn_id, 1, 3, intents=(INTENT,))])
    assert await store.claim(turn_id, epoch=1, owner="q")
    await store.write([make.said(turn_id, 1_000_001, 1_000_002, epoch=1, intents=(again,))])
    assert list(await store.intents(turn_id)) == [again]
    await store.write([make.said(turn_id, 1_000_003, 1_000_004, epoch=1, intents=(other,))])
    assert list(await store.intents(turn_id)) == [again]


async def test_a_write_can_be_repeated_in_any_order(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    early = TextBlock(index=0, round=1, state="partial", text="ear")
    late = TextBlock(index=0, round=1, state="complete", text="late", length=4, sha256="aa")
    open_round = msgspec.structs.replace(ROUND, commitment=None)
    first = make.said(turn_id, 1, 3, blocks=(early,), rounds=(open_round,), readings=(READING,), spans=SPANS[:1])
    second = make.said(
        turn_id,
        4,
        6,
        blocks=(late,),
        rounds=(ROUND,),
        intents=(INTENT,),
        readings=(msgspec.structs.replace(READING, text="changed", version=4),),
        spans=SPANS,
    )
    await store.write([first])
    await store.write([second])
    before = await store.load(turn_id)
    for writes in ([first], [second], [second, first], [first, second, first]):
        await store.write(writes)
        assert await store.load(turn_id) == before
    assert before is not None
    assert before.row.last_seq == 6
    assert before.blocks == (late,)
    assert before.rounds == (ROUND,)
    assert before.readings == {"c1": READING}
    assert await store.spans(turn_id) == SPANS
    assert await store.log(turn_id, after=0) == [first.segment, second.segment]


async def test_a_write_that_comes_late_for_the_first_time_fills_its_place(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    newer = TextBlock(index=0, round=1, state="complete", text="newer")
    older = TextBlock(index=0, round=1, state="partial", text="older")
    other = TextBlock(index=1, round=1, state="complete", text="other")
    await store.write([make.said(turn_id, 5, 9, blocks=(newer,)), make.said(turn_id, 1, 4, blocks=(older, other))])
    stored = await store.load(turn_id)
    assert stored is not None
    assert stored.row.last_seq == 9
    assert stored.blocks == (newer, other)
    assert [one.first_seq for one in await store.log(turn_id, after=0)] == [1, 5]


async def test_of_a_segment_that_comes_again_only_what_is_not_stored_is_added(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    for first, last in [(1, 3), (6, 7), (1, 9), (2, 7), (8, 12), (12, 13), (1, 13)]:
        await store.write([make.said(turn_id, first, last)])
    assert [(one.first_seq, one.last_seq) for one in await store.log(turn_id, after=0)] == [
        (1, 3),
        (4, 5),
        (6, 7),
        (8, 9),
        (10, 12),
        (13, 13),
    ]
    assert await lines(store, turn_id) == make.segment(1, 13).lines


@pytest.mark.parametrize(
    ("first", "last", "said"), [(3, 6, b"{}\n"), (0, 2, b"{}\n" * 3), (7, 6, b""), (-5, -1, b"{}\n")]
)
async def test_a_segment_that_contradicts_itself_is_refused(
    store: Store, make: Make, first: int, last: int, said: bytes
) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.write([make.said(turn_id, 1, 4)])
    wrong = LogSegment(first_seq=first, last_seq=last, lines=said)
    with pytest.raises(RowRefused) as raised:
        await store.write([TurnWrite(turn_id=turn_id, epoch=0, segment=wrong)])
    assert raised.value.turn_id == turn_id
    assert await store.log(turn_id, after=0) == [make.segment(1, 4)]


async def test_a_group_with_one_turn_that_is_not_there_stores_nothing_and_names_it(store: Store, make: Make) -> None:
    good = (await make.begun(store)).assistant.id
    writes = [make.said(good, 1, 2), make.said("nobody", 1, 2), make.ending(good)]
    with pytest.raises(RowRefused) as raised:
        await store.write(writes)
    assert raised.value.turn_id == "nobody"
    row = await store.turn(good)
    assert row is not None
    assert (row.last_seq, row.ended_at) == (0, None)
    assert await store.log(good, after=0) == []


@pytest.mark.parametrize("value", [object(), "\ud800"])
async def test_a_row_that_cannot_be_kept_is_refused_for_its_turn_alone(store: Store, make: Make, value: object) -> None:
    good, bad = (await make.begun(store)).assistant.id, (await make.begun(store)).assistant.id
    block = ToolResultBlock(
        index=0, round=1, state="complete", call_id="c", tool_name="t", origin="server", output=value
    )
    with pytest.raises(RowRefused) as raised:
        await store.write([make.said(good, 1, 2), make.said(bad, 1, 2, blocks=(block,))])
    assert raised.value.turn_id == bad
    assert await store.log(good, after=0) == []
    await store.write([make.said(good, 1, 2), make.said(bad, 1, 2)])
    assert await store.log(bad, after=0) == [make.segment(1, 2)]


async def test_an_empty_group_is_nothing(store: Store) -> None:
    await store.write([])


async def test_what_was_stored_is_not_changed_by_changing_what_was_given_or_got(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store, metadata={"k": 1})).assistant.id
    output = {"a": [1]}
    block = ToolResultBlock(
        index=0, round=1, state="complete", call_id="c", tool_name="t", origin="server", output=output
    )
    await store.write([make.said(turn_id, 1, 2, blocks=(block,))])
    output["a"].append(2)
    got = await store.load(turn_id)
    assert got is not None
    assert isinstance(got.blocks[0], ToolResultBlock)
    got.blocks[0].output["a"].append(3)
    got.row.metadata["k"] = 2
    again = await store.load(turn_id)
    assert again is not None
    assert isinstance(again.blocks[0], ToolResultBlock)
    assert again.blocks[0].output == {"a": [1]}
    assert again.row.metadata == {"k": 1}


# Epochs


async def test_an_owner_whose_epoch_is_past_writes_nothing(store: Store, make: Make) -> None:
    mine, other = (await make.begun(store)).assistant.id, (await make.begun(store)).assistant.id
    await store.write([make.said(mine, 1, 3)])
    assert await store.claim(mine, epoch=1, owner="next")
    with pytest.raises(StaleEpoch) as raised:
        await store.write([make.said(other, 1, 2), make.said(mine, 4, 5), make.ending(mine)])
    assert raised.value.turn_id == mine
    assert await store.log(other, after=0) == []
    await store.write([make.said(mine, 1_000_001, 1_000_002, epoch=1)])
    row = await store.turn(mine)
    assert row is not None
    assert (row.epoch, row.owner, row.last_seq, row.ended_at) == (1, "next", 1_000_002, None)
    assert await store.log(mine, after=0) == [make.segment(1, 3), make.segment(1_000_001, 1_000_002)]


async def test_a_write_of_a_newer_epoch_shuts_out_the_older_one(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.write([make.said(turn_id, 2_000_001, 2_000_003, epoch=2)])
    with pytest.raises(StaleEpoch):
        await store.write([make.said(turn_id, 1_000_001, 1_000_003, epoch=1)])


async def test_a_claim_holds_against_equal_and_older_epochs_and_may_be_repeated(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    assert not await store.claim(turn_id, epoch=0, owner="b")
    assert await store.claim(turn_id, epoch=2, owner="b")
    assert await store.claim(turn_id, epoch=2, owner="b")
    assert not await store.claim(turn_id, epoch=2, owner="c")
    assert not await store.claim(turn_id, epoch=1, owner="c")
    assert await store.claim(turn_id, epoch=3, owner="c")
    row = await store.turn(turn_id)
    assert row is not None
    assert (row.epoch, row.owner) == (3, "c")


async def test_a_turn_that_has_ended_or_is_not_there_cannot_be_claimed(store: Store, make: Make) -> None:
    turn_id = (await make.answered(store)).assistant.id
    assert not await store.claim(turn_id, epoch=1, owner="b")
    assert not await store.claim("nobody", epoch=1, owner="b")


async def test_of_many_claims_of_one_epoch_one_wins(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    won = await asyncio.gather(*(store.claim(turn_id, epoch=1, owner=f"p{n}") for n in range(8)))
    assert won.count(True) == 1


# Ending


async def test_an_ending_ends_the_row_and_frees_the_chat(store: Store, make: Make) -> None:
    new = await make.begun(store, lease_until="2026-11-24T06:00:00.000Z")
    error = ErrorInfo(code="provider_cut", message="gone", retryable=True, provider="x")
    ending = make.ending(new.assistant.id, status="error", stop_reason="error", error=error)
    assert ending.ending is not None
    await store.write([msgspec.structs.replace(ending, segment=make.segment(1, 7), spans=SPANS)])
    row = await store.turn(new.assistant.id)
    assert row == msgspec.structs.replace(
        new.assistant,
        status="error",
        stop_reason="error",
        error=error,
        usage=ending.ending.usage,
        ended_at=ending.ending.ended_at,
        lease_until=None,
        last_seq=7,
    )
    chat = await store.chat(new.assistant.chat_id)
    assert chat is not None
    assert (chat.active_turn_id, chat.updated_at) == (None, ending.ending.ended_at)
    assert chat.head_turn_id == new.assistant.id
    assert await store.spans(new.assistant.id) == SPANS


async def test_a_second_ending_changes_nothing_even_with_the_next_turn_begun(store: Store, make: Make) -> None:
    first = await make.answered(store)
    row = await store.turn(first.assistant.id)
    second = await make.begun(store, first.assistant.chat_id, prev=first.assistant.id)
    await store.write([make.ending(first.assistant.id, status="cancelled", stop_reason="cancelled")])
    assert await store.turn(first.assistant.id) == row
    chat = await store.chat(first.assistant.chat_id)
    assert chat is not None
    assert (chat.active_turn_id, chat.updated_at) == (second.assistant.id, second.assistant.created_at)


async def test_a_reading_can_be_added_to_a_turn_that_has_ended(store: Store, make: Make) -> None:
    turn_id = (await make.answered(store)).assistant.id
    await store.write([TurnWrite(turn_id=turn_id, epoch=0, readings=(READING,))])
    stored = await store.load(turn_id)
    assert stored is not None
    assert stored.readings == {"c1": READING}


async def test_repeats_after_the_end_leave_the_log_as_it_was_said(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    writes = [make.said(turn_id, 1, 40), make.said(turn_id, 41, 80)]
    await store.write([writes[0]])
    await store.write([writes[1], make.ending(turn_id)])
    for _ in range(3):
        await store.ping()
        await store.write(writes)
    segments = await store.log(turn_id, after=0)
    assert b"".join(segment.lines for segment in segments) == make.segment(1, 80).lines
    row = await store.turn(turn_id)
    assert row is not None
    assert row.last_seq == 80


# The log


async def test_the_log_gives_only_the_segments_that_are_needed_and_those_whole(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    segments = [make.segment(1, 3), make.segment(4, 4), make.segment(5, 9), make.segment(1_000_001, 1_000_002)]
    for segment in segments:
        await store.write([TurnWrite(turn_id=turn_id, epoch=segment.first_seq // 1_000_000, segment=segment)])
    for after, needed in [
        (0, 0),
        (2, 0),
        (3, 1),
        (4, 2),
        (8, 2),
        (9, 3),
        (500, 3),
        (1_000_001, 3),
        (1_000_002, 4),
        (9**9, 4),
    ]:
        assert await store.log(turn_id, after=after) == segments[needed:], after
    assert await store.log("nobody", after=0) == []


async def test_an_ended_turn_says_the_same_bytes_from_any_event_on(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    whole = b""
    for first in range(1, 200, 7):
        segment = make.segment(first, first + 6)
        whole += segment.lines
        await store.write([TurnWrite(turn_id=turn_id, epoch=0, segment=segment)])
    await store.write([make.ending(turn_id)])
    for after in (0, 1, 100, 202, 203, 204):
        segments = await store.log(turn_id, after=after)
        said = b"".join(segment.lines for segment in segments)
        assert whole.endswith(said)
        assert said.count(b"\n") >= 203 - after
        assert all(segment.last_seq > after for segment in segments)


# Reading


async def test_what_is_not_there_is_none_or_empty(store: Store, make: Make) -> None:
    assert await store.turn("x") is None
    assert await store.load("x") is None
    assert await store.branch("x") == []
    assert list(await store.spans("x")) == []
    assert await store.datum("x", 0) is None
    assert await store.chat("x") is None
    assert await store.tree("x") == []
    assert await store.unended() == []
    assert await store.siblings(make.row("x")) == []
    assert await store.chats("x", limit=5, before=None) == ([], None)
    await store.request_cancel("x")
    await store.delete_chat("x")
    await store.update_chat(make.chat())


async def test_a_branch_is_the_way_from_the_leaf_up_oldest_first(store: Store, make: Make) -> None:
    first = await make.answered(store)
    chat_id = first.assistant.chat_id
    second = await make.answered(store, chat_id, prev=first.assistant.id)
    aside = await make.answered(store, chat_id, prev=first.assistant.id)
    await store.write([make.said(second.assistant.id, 1, 2, blocks=BLOCKS, rounds=(ROUND,), readings=(READING,))])
    whole = await store.branch(second.assistant.id)
    assert first.user is not None
    assert second.user is not None
    assert aside.user is not None
    ids = [first.user.id, first.assistant.id, second.user.id, second.assistant.id]
    assert [turn.row.id for turn in whole] == ids
    assert list(whole) == [await store.load(turn_id) for turn_id in ids]
    for limit in range(6):
        newest = ids[max(0, len(ids) - limit) :]
        assert [turn.row.id for turn in await store.branch(second.assistant.id, limit=limit)] == newest
    assert [turn.row.id for turn in await store.branch(aside.user.id)] == [*ids[:2], aside.user.id]


async def test_siblings_are_of_one_place_and_one_role_oldest_first(store: Store, make: Make) -> None:
    first = await make.answered(store)
    assert first.user is not None
    chat_id = first.assistant.chat_id
    root = await make.answered(store, chat_id)
    again = make.row(chat_id, prev_turn_id=first.user.id, depth=2, created_at=first.assistant.created_at)
    twin = make.row(chat_id, prev_turn_id=first.user.id, depth=2, created_at=first.assistant.created_at, id="a-first")
    for row in (again, twin):
        plain = msgspec.structs.replace(make.new(chat_id), user=None, user_write=None, assistant=row)
        assert await store.begin(plain) == Accepted()
        await store.write([make.ending(row.id)])
    assert root.user is not None
    assert await store.siblings(first.assistant) == [first.assistant.id, again.id, twin.id]
    assert await store.siblings(first.user) == [first.user.id, root.user.id]
    assert await store.siblings(root.assistant) == [root.assistant.id]


async def test_the_unended_are_assistant_turns_oldest_first(store: Store, make: Make) -> None:
    late = make.new(created_at="2026-11-24T09:00:00.000Z")
    await store.begin(late)
    early = await make.begun(store)
    await make.answered(store)
    assert [row.id for row in await store.unended()] == [early.assistant.id, late.assistant.id]
    assert all(isinstance(row, TurnRow) for row in await store.unended())


async def test_a_cancel_is_noted_on_a_turn_that_has_not_ended(store: Store, make: Make) -> None:
    running, ended = await make.begun(store), await make.answered(store)
    for _ in range(2):
        await store.request_cancel(running.assistant.id)
        await store.request_cancel(ended.assistant.id)
    rows = [await store.turn(one.assistant.id) for one in (running, ended)]
    assert [row.cancel_requested for row in rows if row is not None] == [True, False]


async def test_the_tree_is_every_turn_of_the_chat_oldest_first(store: Store, make: Make) -> None:
    first = await make.answered(store)
    await make.answered(store)
    second = await make.begun(store, first.assistant.chat_id, prev=first.assistant.id)
    assert first.user is not None
    assert second.user is not None
    tree = await store.tree(first.assistant.chat_id)
    assert [row.id for row in tree] == [first.user.id, first.assistant.id, second.user.id, second.assistant.id]


async def test_a_tree_and_its_siblings_keep_their_order_though_the_clock_was_set_back(store: Store, make: Make) -> None:
    first = await make.answered(store, created_at="2026-11-24T09:00:00.000Z")
    chat_id = first.assistant.chat_id
    second = await make.answered(store, chat_id, created_at="2026-11-24T06:00:00.000Z")
    assert first.user is not None
    assert second.user is not None
    again = make.row(chat_id, prev_turn_id=first.user.id, depth=2, created_at="2026-11-24T04:00:00.000Z")
    alone = msgspec.structs.replace(make.new(chat_id), user=None, user_write=None, assistant=again)
    assert await store.begin(alone) == Accepted()
    made = [first.user.id, first.assistant.id, second.user.id, second.assistant.id, again.id]
    assert [row.id for row in await store.tree(chat_id)] == made
    assert await store.siblings(again) == [first.assistant.id, again.id]


# Chats


async def test_a_chat_is_created_once(store: Store, make: Make) -> None:
    chat = make.chat(metadata={"k": 1}, system="S")
    assert await store.create_chat(chat)
    assert not await store.create_chat(msgspec.structs.replace(chat, title="Other", owner="bob"))
    assert await store.chat(chat.id) == chat


async def test_updating_a_chat_leaves_its_owner_its_age_and_its_active_turn(store: Store, make: Make) -> None:
    new = await make.begun(store)
    chat_id = new.assistant.chat_id
    before = await store.chat(chat_id)
    assert before is not None
    assert new.user is not None
    changed = make.chat(
        id=chat_id,
        owner="bob",
        title="T",
        system="S",
        model="M",
        metadata={"a": [None]},
        head_turn_id=new.user.id,
        active_turn_id=None,
    )
    for _ in range(2):
        await store.update_chat(changed)
    assert await store.chat(chat_id) == msgspec.structs.replace(
        changed, owner=before.owner, created_at=before.created_at, active_turn_id=before.active_turn_id
    )


async def test_updating_a_field_of_a_chat_leaves_what_changed_meanwhile(store: Store, make: Make) -> None:
    first = await make.answered(store)
    chat_id = first.assistant.chat_id
    read = await store.chat(chat_id)
    assert read is not None
    second = await make.answered(store, chat_id, prev=first.assistant.id)
    await store.update_chat(msgspec.structs.replace(read, metadata={"a": 1}), fields=["metadata"])
    await store.update_chat(msgspec.structs.replace(read, title="T"), fields=["title"])
    await store.update_chat(read, fields=())
    chat = await store.chat(chat_id)
    assert chat is not None
    assert (chat.title, chat.metadata, chat.head_turn_id) == ("T", {"a": 1}, second.assistant.id)


async def test_a_deleted_chat_takes_everything_with_it_and_nothing_else(store: Store, make: Make) -> None:
    kept = await make.answered(store)
    gone = make.new()
    assert gone.user is not None
    await store.begin(msgspec.structs.replace(gone, user_data=(make.datum(0),)))
    write = make.said(
        gone.assistant.id, 1, 3, blocks=BLOCKS, rounds=(ROUND,), intents=(INTENT,), readings=(READING,), spans=SPANS
    )
    await store.write([write])
    deeper = make.new(gone.assistant.chat_id, prev=gone.assistant.id)
    await store.write([make.ending(gone.assistant.id)])
    await store.begin(deeper)
    for _ in range(2):
        await store.delete_chat(gone.assistant.chat_id)
    assert await store.chat(gone.assistant.chat_id) is None
    for turn_id in (gone.user.id, gone.assistant.id, deeper.assistant.id):
        assert await store.load(turn_id) is None
        assert await store.log(turn_id, after=0) == []
        assert list(await store.spans(turn_id)) == []
        assert await store.datum(turn_id, 0) is None
    assert await store.unended() == []
    with pytest.raises(RowRefused):
        await store.write([write])
    assert await store.load(kept.assistant.id) is not None


async def test_chats_come_newest_first_page_by_page_each_once(store: Store, make: Make) -> None:
    same = "2026-11-24T07:00:00.000Z"
    chats = [make.chat() for _ in range(3)] + [make.chat(id=f"same-{n}", updated_at=same) for n in range(4)]
    for chat in (*chats, make.chat(owner="bob")):
        await store.create_chat(chat)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page, cursor = await store.chats("ann", limit=3, before=cursor)
        seen += [chat.id for chat in page]
        assert len(page) <= 3
    assert cursor is None
    assert seen == ["same-3", "same-2", "same-1", "same-0", chats[2].id, chats[1].id, chats[0].id]
    page, cursor = await store.chats("ann", limit=7, before=None)
    assert [chat.id for chat in page] == seen
    assert cursor is None


async def test_a_page_goes_on_where_it_was_though_its_last_chat_moved_or_is_gone(store: Store, make: Make) -> None:
    chats = [make.chat() for _ in range(4)]
    for chat in chats:
        await store.create_chat(chat)
    _, cursor = await store.chats("ann", limit=2, before=None)
    await store.delete_chat(chats[2].id)
    await store.update_chat(msgspec.structs.replace(chats[3], updated_at="2030-01-01T00:00:00.000Z"))
    page, cursor = await store.chats("ann", limit=2, before=cursor)
    assert [chat.id for chat in page] == [chats[1].id, chats[0].id]
    assert cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "é", "bm90IGpzb24", "WzEsMl0"])
async def test_a_cursor_that_no_page_gave_is_the_clients_mistake(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        await store.chats("ann", limit=2, before=cursor)


# Being one of many


async def test_a_caller_that_gives_up_does_not_undo_its_write(store: Store, make: Make) -> None:
    new = make.new()
    caller = asyncio.ensure_future(store.begin(new))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    outcome = await store.begin(new)
    assert outcome == Accepted() or outcome == AlreadyMade(new.assistant, "ann")
    assert await store.begin(new) == AlreadyMade(new.assistant, "ann")
    assert len(await store.tree(new.assistant.chat_id)) == 2


async def test_every_method_lets_others_run(store: Store, make: Make) -> None:
    new = await make.begun(store)
    for call in (
        store.ping(),
        store.turn(new.assistant.id),
        store.load(new.assistant.id),
        store.branch(new.assistant.id),
        store.log(new.assistant.id, after=0),
        store.chats("ann", limit=1, before=None),
        store.write([make.said(new.assistant.id, 1, 1)]),
        store.request_cancel(new.assistant.id),
    ):
        ran: list[bool] = []
        asyncio.get_running_loop().call_soon(ran.append, True)
        await call
        assert ran


async def test_a_closed_store_says_so_and_may_be_closed_again(store: Store, make: Make) -> None:
    new = await make.begun(store)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.turn(new.assistant.id)
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.write([make.ending(new.assistant.id)])
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.ping()


async def test_a_datum_is_the_bytes_that_were_given(store: Store, make: Make) -> None:
    new = make.new()
    assert new.user is not None
    datum = Datum(index=1, media_type="application/pdf", sha256="ff", data=bytes(range(256)) * 9, name="é.pdf")
    await store.begin(msgspec.structs.replace(new, user_data=(datum,)))
    assert await store.datum(new.user.id, 1) == datum
