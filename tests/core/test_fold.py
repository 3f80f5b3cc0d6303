"""The fold: merged deltas, repeats, and what a rewind leaves (docs/http.md; docs/architecture.md, Numbers)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace
from tests.core.drive import drive, machine_for
from tests.core.turns import Life, lives

from legato.core import events as e
from legato.core.blocks import ImageBlock, TextBlock
from legato.core.fold import Turn, fold, merge, squash, standing
from legato.core.text import measure
from legato.core.usage import UNKNOWN

START = e.TurnStart(seq=1, turn_id="t", chat_id="c", prev_turn_id=None, created_at="2026-11-24T00:00:00.000Z")


def rewound(kept: list[e.Event], *, seq: int) -> e.Rewind:
    return e.Rewind(seq=seq, to=kept[-1].seq if kept else 0, blocks=standing(fold(kept)))


def state(turn: Turn) -> dict[str, object]:
    """The fold but for its cursor and its status, which a new owner sets to running."""
    return {
        "id": (turn.turn_id, turn.chat_id, turn.prev_turn_id, turn.created_at),
        "blocks": turn.blocks,
        "open": {index: (block.start, block.text) for index, block in turn.open.items()},
        "rounds": turn.rounds,
        "waiting": turn.waiting,
    }


@given(lives(), st.integers(1, 60), st.integers(0, 30))
def test_after_a_rewind_the_turn_is_the_fold_of_the_events_kept(life: Life, kept: int, lost: int) -> None:
    events = drive(machine_for(life), life).events[:-1]  # a turn that has ended has no new owner
    stays = events[:kept]
    turn = fold([*events[: kept + lost], rewound(stays, seq=1_000_001)])
    assert state(turn) == state(fold(stays))
    assert (turn.last_seq, turn.status) == (1_000_001, "running")


@given(lives(), st.integers(1, 60), st.integers(0, 30))
def test_a_new_owner_who_says_the_same_again_makes_the_same_turn(life: Life, kept: int, lost: int) -> None:
    events = drive(machine_for(life), life).events
    kept = min(kept, len(events) - 1)
    again = [replace(event, seq=1_000_002 + place) for place, event in enumerate(events[kept:])]
    turn = fold([*events[: min(kept + lost, len(events) - 1)], rewound(events[:kept], seq=1_000_001), *again])
    whole = fold(events)
    assert state(turn) == state(whole)
    assert (turn.status, turn.stop_reason, turn.usage, turn.error) == (
        whole.status,
        whole.stop_reason,
        whole.usage,
        whole.error,
    )


@given(lives())
def test_events_that_come_twice_change_nothing(life: Life) -> None:
    events = drive(machine_for(life), life).events
    assert state(fold([each for event in events for each in (event, event)])) == state(fold(events))
    assert state(fold([*events, *events])) == state(fold(events))


def text_block(index: int, text: str, seq: int) -> list[e.Event]:
    length, sha256 = measure(text)
    return [
        e.BlockStart(seq=seq, index=index, round=1, block_type="text"),
        e.BlockDelta(seq=seq + 1, index=index, text=text),
        e.BlockStop(seq=seq + 2, index=index, state="complete", length=length, sha256=sha256),
    ]


def test_a_rewind_cuts_text_to_its_length_in_bytes() -> None:
    events: list[e.Event] = [START, e.BlockStart(seq=2, index=0, round=1, block_type="text")]
    events += [e.BlockDelta(seq=3, index=0, text="🐉é"), e.BlockDelta(seq=4, index=0, text=" gone")]
    turn = fold([*events, e.Rewind(seq=1_000_001, to=3, blocks=(e.Standing(0, "open", 6),))])
    assert (turn.blocks[0].text, turn.blocks[0].state) == ("🐉é", "open")
    turn.apply(e.BlockDelta(seq=1_000_002, index=0, text="!"))
    assert turn.blocks[0].text == "🐉é!"


def test_a_block_said_to_be_open_loses_what_its_stop_added() -> None:
    stop = e.BlockStop(seq=4, index=0, state="complete", length=1, sha256="x", signature="s")
    events: list[e.Event] = [START, e.BlockStart(seq=2, index=0, round=1, block_type="thinking")]
    events += [e.BlockDelta(seq=3, index=0, text="a"), stop]
    turn = fold([*events, e.Rewind(seq=1_000_001, to=3, blocks=(e.Standing(0, "open", 1),))])
    block = turn.blocks[0]
    assert (block.state, block.length, block.sha256, getattr(block, "signature", None)) == ("open", UNSET, UNSET, UNSET)


def test_a_block_said_to_be_partial_is_closed_with_the_length_and_the_hash_of_what_stands() -> None:
    events: list[e.Event] = [
        START,
        e.BlockStart(seq=2, index=0, round=1, block_type="text"),
        e.BlockDelta(seq=3, index=0, text="é"),
    ]
    turn = fold([*events, e.Rewind(seq=1_000_001, to=3, blocks=(e.Standing(0, "partial", 2),))])
    length, sha256 = measure("é")
    assert turn.blocks == (TextBlock(index=0, round=1, state="partial", text="é", length=length, sha256=sha256),)
    assert not turn.open


def test_every_block_that_a_rewind_does_not_name_is_gone_and_its_index_is_free() -> None:
    events: list[e.Event] = [START, *text_block(0, "stays", 2), *text_block(1, "goes", 5)]
    turn = fold([*events, rewound([START, *text_block(0, "stays", 2)], seq=1_000_001)])
    for event in text_block(1, "came", 1_000_002):
        turn.apply(event)
    assert [block.text for block in turn.blocks] == ["stays", "came"]


def test_a_rewind_takes_back_the_end_of_a_round_and_what_the_model_was_told() -> None:
    started = e.RoundStart(seq=2, round=1, attempt=1, model="m", provider="p")
    told = [e.Notice(seq=seq, code="rounds_last", message=f"notice {seq}", round=1) for seq in (3, 5)]
    stop = e.RoundStop(
        seq=4,
        round=1,
        attempt=1,
        commitment="committed",
        stop_reason="end",
        provider_reason=None,
        usage=UNKNOWN,
    )
    turn = fold([START, started, told[0], stop, told[1], e.Rewind(seq=1_000_001, to=3, blocks=())])
    (record,) = turn.rounds
    assert (record.commitment, record.stop_reason, record.notices) == (None, None, ("notice 3",))
    assert fold([START, started, told[0], e.Rewind(seq=1_000_001, to=1, blocks=())]).rounds == ()


@pytest.mark.parametrize(
    ("to", "waiting"), [(2, {"a": "approval"}), (3, {"a": "approval", "b": "client_tool"}), (4, {"b": "client_tool"})]
)
def test_a_rewind_takes_back_what_the_turn_waited_for(to: int, waiting: dict[str, str]) -> None:
    events: list[e.Event] = [
        START,
        e.CallWaiting(seq=2, call_id="a", index=0, kind="approval"),
        e.CallWaiting(seq=3, call_id="b", index=1, kind="client_tool"),
        e.CallAnswered(seq=4, call_id="a", decision="approve"),
        e.CallAnswered(seq=5, call_id="b"),
    ]
    assert fold(events).waiting == {}
    rewound = fold([*events, e.Rewind(seq=1_000_001, to=to, blocks=())])
    assert {call_id: need.kind for call_id, need in rewound.waiting.items()} == waiting


def test_a_waiting_turn_runs_again_once_it_is_answered_or_has_a_new_owner() -> None:
    waits: list[e.Event] = [START, e.CallWaiting(seq=2, call_id="a", index=0, kind="approval"), e.TurnWaiting(seq=3)]
    assert fold(waits).status == "waiting"
    assert fold([*waits, e.CallAnswered(seq=4, call_id="a")]).status == "running"
    assert fold([*waits, e.Rewind(seq=1_000_001, to=3, blocks=())]).status == "running"


def test_an_image_that_stands_after_a_rewind_keeps_the_hash_of_its_data() -> None:
    image = e.BlockStop(seq=3, index=0, state="complete", sha256="data", bytes=7, media_type="image/png")
    events: list[e.Event] = [START, e.BlockStart(seq=2, index=0, round=0, block_type="image"), image]
    turn = fold([*events, rewound(events, seq=1_000_001)])
    assert turn.blocks == (
        ImageBlock(index=0, round=0, state="complete", sha256="data", bytes=7, media_type="image/png"),
    )


def test_merged_deltas_say_where_they_begin_and_may_be_merged_again() -> None:
    deltas = [e.BlockDelta(seq=seq, index=0, text=str(seq)) for seq in range(3, 7)]
    once = merge(deltas[:2])
    assert once == e.BlockDelta(seq=4, index=0, text="34", first_seq=3)
    assert merge([once, merge(deltas[2:])]) == e.BlockDelta(seq=6, index=0, text="3456", first_seq=3)
    assert merge(deltas[:1]) is deltas[0]


def test_deltas_of_two_blocks_are_merged_only_where_they_are_neighbours() -> None:
    deltas = [e.BlockDelta(seq=seq, index=index, text="x") for seq, index in ((3, 0), (4, 0), (5, 1), (6, 0))]
    assert [(event.seq, event.index) for event in squash(deltas) if isinstance(event, e.BlockDelta)] == [
        (4, 0),
        (5, 1),
        (6, 0),
    ]


def test_a_stop_or_a_delta_of_no_open_block_is_ignored() -> None:
    events: list[e.Event] = [START, *text_block(0, "a", 2)]
    stray: list[e.Event] = [
        e.BlockDelta(seq=5, index=0, text="b"),
        e.BlockDelta(seq=6, index=9, text="b"),
        e.BlockStop(seq=7, index=9, state="complete"),
        e.BlockStop(seq=8, index=0, state="partial"),
    ]
    assert fold([*events, *stray]).blocks == fold(events).blocks


def test_an_open_block_is_shown_with_its_text_so_far_and_nothing_that_its_stop_will_add() -> None:
    use = e.BlockStart(
        seq=2, index=0, round=1, block_type="tool_use", call_id="call_1", tool_name="look", origin="server"
    )
    turn = fold([START, use, e.BlockDelta(seq=3, index=0, text='{"n"')])
    (block,) = turn.blocks
    assert (block.state, block.text, getattr(block, "input", 0)) == ("open", '{"n"', None)


def test_a_long_block_is_joined_only_when_somebody_asks() -> None:
    """Hazard 32: a block of n deltas is put together once, not n times."""
    deltas = [e.BlockDelta(seq=seq, index=0, text="x") for seq in range(3, 1003)]
    turn = fold([START, e.BlockStart(seq=2, index=0, round=1, block_type="text"), *deltas])
    assert len(turn.open[0].pieces) == 1000
    assert turn.open[0].text == "x" * 1000
    assert len(turn.open[0].pieces) == 1
