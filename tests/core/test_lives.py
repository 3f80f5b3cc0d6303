"""Whatever a turn lives through, these hold (docs/guarantees.md)."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import encode as json
from tests.core.drive import cut_anywhere, drive, machine_for, replay
from tests.core.turns import FATAL, RETRYABLE, TOOLS, Life, any_lives, at_each_moment, interruptions

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import CallError, ImageBlock, ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn, fold, squash
from legato.core.lines import newer, split, squash_lines
from legato.core.plan import TurnLimits


def picture(turn: Turn) -> dict[str, object]:
    """All that a fold says."""
    return {
        "id": (turn.turn_id, turn.chat_id, turn.prev_turn_id, turn.created_at),
        "status": (turn.status, turn.stop_reason, turn.usage, turn.error),
        "last_seq": turn.last_seq,
        "blocks": turn.blocks,
        "rounds": turn.rounds,
        "waiting": turn.waiting,
    }


@given(any_lives())
def test_events_count_from_one_without_a_hole_and_end_once_at_the_end(life: Life) -> None:
    events = drive(machine_for(life), life).events
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[0], e.TurnStart)
    assert [type(event) for event in events].count(e.TurnStart) == 1
    assert isinstance(events[-1], e.TurnEnd)
    assert [type(event) for event in events].count(e.TurnEnd) == 1


@given(any_lives())
def test_the_machine_is_the_fold_of_what_it_said(life: Life) -> None:
    run = drive(machine_for(life), life)
    assert picture(run.machine.turn) == picture(fold(run.events))


@given(any_lives())
def test_merging_deltas_changes_no_fold(life: Life) -> None:
    events = drive(machine_for(life), life).events
    merged = squash(events)
    assert picture(fold(merged)) == picture(fold(events))
    neighbours = pairwise(merged)
    assert not any(
        isinstance(one, e.BlockDelta) and isinstance(two, e.BlockDelta) and one.index == two.index
        for one, two in neighbours
    )


@given(any_lives())
def test_the_block_rows_are_the_fold(life: Life) -> None:
    run = drive(machine_for(life), life)
    assert tuple(block for _, block in sorted(run.rows.items())) == fold(run.events).blocks
    assert not run.machine.turn.open


@given(any_lives(), st.lists(st.integers(0, 60), max_size=6))
def test_a_log_stored_in_any_segments_is_read_back_as_the_same_events(life: Life, cuts: list[int]) -> None:
    events = drive(machine_for(life), life).events
    places = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    segments = [b"".join(e.encode(event) + b"\n" for event in events[start:end]) for start, end in pairwise(places)]
    read = [e.decode(line) for segment in segments for line in split(segment)]
    assert read == events
    assert picture(fold(read)) == picture(fold(events))
    assert [e.encode(event) for event in read] == [e.encode(event) for event in events]


@given(any_lives())
def test_merging_lines_leaves_the_bytes_of_all_others_alone(life: Life) -> None:
    lines = [e.encode(event) for event in drive(machine_for(life), life).events]
    merged = squash_lines(lines)
    events = [e.decode(line) for line in lines]
    assert [e.decode(line) for line in merged] == squash(events)
    whole = set(lines)
    assert all(line in whole for line in merged if b'"first_seq":' not in line)


def first_seq(event: e.Event) -> int:
    return event.first_seq if isinstance(event, e.BlockDelta) and isinstance(event.first_seq, int) else event.seq


@given(any_lives(), st.lists(st.tuples(st.integers(0, 80), st.booleans()), max_size=6), st.booleans())
def test_a_reader_who_is_cut_and_comes_back_misses_nothing_and_sees_nothing_twice(
    life: Life, visits: list[tuple[int, bool]], last_merged: bool
) -> None:
    lines = [e.encode(event) for event in drive(machine_for(life), life).events]
    turn, cursor = Turn(), 0
    for stop, merged in [*sorted(visits), (len(lines), last_merged)]:
        there = newer(lines[:stop], cursor)
        for line in squash_lines(there) if merged else there:
            event = e.decode(line)
            first = (
                event.first_seq if isinstance(event, e.BlockDelta) and isinstance(event.first_seq, int) else event.seq
            )
            assert first == cursor + 1
            turn.apply(event)
            cursor = event.seq
    assert picture(turn) == picture(fold(e.decode(line) for line in lines))


@given(any_lives())
def test_every_closed_block_carries_the_length_and_the_hash_of_its_text(life: Life) -> None:
    run = drive(machine_for(life), life)
    for block in run.machine.turn.blocks:
        data = block.text.encode()
        assert "\0" not in block.text
        if isinstance(block, ImageBlock):
            assert not isinstance(block.length, int)
            assert not isinstance(block.sha256, str)  # it would be the data's, which nobody has
        else:
            assert (block.length, block.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@given(any_lives())
def test_blocks_are_numbered_in_the_order_they_open_without_a_hole(life: Life) -> None:
    started = [event.index for event in drive(machine_for(life), life).events if isinstance(event, e.BlockStart)]
    assert started == list(range(len(started)))


@given(any_lives())
def test_a_block_opens_before_its_deltas_and_nothing_comes_after_its_stop(life: Life) -> None:
    is_open: set[int] = set()
    for event in drive(machine_for(life), life).events:
        match event:
            case e.BlockStart(index=index):
                is_open.add(index)
            case e.BlockDelta(index=index, text=text):
                assert index in is_open
                assert text
            case e.BlockStop(index=index):
                is_open.remove(index)
            case _:
                pass
    assert not is_open


@given(any_lives())
def test_the_same_inputs_make_the_same_actions(life: Life) -> None:
    run = drive(machine_for(life), life)
    assert replay(machine_for(life), run.inputs) == run.actions


@given(any_lives())
def test_a_later_owner_counts_from_its_epoch(life: Life) -> None:
    first = drive(machine_for(life), life).events
    fourth = drive(machine_for(life, epoch=3), life).events
    assert [event.seq - 3_000_000 for event in fourth] == [event.seq for event in first]


def assert_every_call_is_answered_once(turn: Turn) -> None:
    answers = [b for b in turn.blocks if isinstance(b, ToolResultBlock) and b.origin == "server"]
    calls = [b for b in turn.blocks if isinstance(b, ToolUseBlock) and b.origin == "server" and b.state == "complete"]
    assert sorted(answer.call_id for answer in answers) == sorted(call.call_id for call in calls)
    assert len({call.call_id for call in calls}) == len(calls)
    by_id = {call.call_id: call for call in calls}
    for answer in answers:
        call = by_id[answer.call_id]
        assert (answer.state, answer.round, answer.tool_name) == ("complete", call.round, call.tool_name)
        assert answer.outcome is not None
        assert call.index < answer.index


@given(any_lives())
def test_every_sealed_call_gets_exactly_one_result(life: Life) -> None:
    run = drive(machine_for(life), life)
    assert_every_call_is_answered_once(run.machine.turn)


CUTS: st.SearchStrategy[i.Input] = st.one_of(
    interruptions,
    st.sampled_from([i.ResponseFailed(error=RETRYABLE), i.ResponseFailed(error=FATAL), i.CancelRequested()]),
)


@at_each_moment
@given(any_lives(), CUTS)
def test_a_turn_cut_at_any_moment_ends_with_every_call_answered(life: Life, cut: i.Input) -> None:
    for run in cut_anywhere(life, cut):
        assert_every_call_is_answered_once(run.machine.turn)
        assert picture(run.machine.turn) == picture(fold(run.events))


@at_each_moment
@given(any_lives(disturbed=False), st.sampled_from([i.CancelRequested(), i.TimeUp(kind="hard")]))
def test_nothing_starts_and_nothing_is_asked_after_a_cancel(life: Life, cut: i.Input) -> None:
    for run in cut_anywhere(life, cut):
        places = [place for place, (fed, _) in enumerate(run.steps) if fed is cut]
        after = [action for _, actions in run.steps[places[0] :] for action in actions] if places else []
        assert not [
            action for action in after if isinstance(action, a.StartTool | a.StoreIntent | a.CallModel | e.ToolStart)
        ]
        if places and isinstance(cut, i.CancelRequested):
            assert (run.machine.turn.status, run.machine.turn.stop_reason) == ("cancelled", "cancelled")


@at_each_moment
@given(any_lives())
def test_a_call_starts_at_most_once_and_is_told_to_stop_only_while_it_runs(life: Life) -> None:
    for run in cut_anywhere(life, i.CancelRequested()):
        running: set[str] = set()
        started: set[str] = set()
        for fed, actions in run.steps:
            if isinstance(fed, i.ToolFinished):
                running.discard(fed.call_id)
            for action in actions:
                if isinstance(action, a.StartTool):
                    assert action.call_id not in started
                    running.add(action.call_id)
                    started.add(action.call_id)
                if isinstance(action, a.CancelTool):
                    assert action.call_id in running


@given(any_lives())
def test_a_call_with_effects_starts_only_once_its_intent_is_stored_and_its_response_has_ended_well(life: Life) -> None:
    run = drive(machine_for(life), life)
    stored: set[str] = set()
    ended_well: set[int] = set()
    asked: set[int] = set()
    for fed, actions in run.steps:
        if isinstance(fed, i.IntentStored):
            stored.add(fed.call_id)
        for action in actions:
            match action:
                case e.RoundStart(round=round):
                    asked.add(round)
                case e.RoundStop(commitment="committed", stop_reason="end" | "calls"):
                    ended_well |= asked
                case a.StoreIntent(intent) if not TOOLS[intent.tool_name].eager:
                    assert intent.round in ended_well
                case a.StartTool(tool_name=name, call_id=call_id, round=round) if TOOLS[name].effect != "read":
                    assert call_id in stored
                    assert TOOLS[name].eager or round in ended_well
                case _:
                    pass


@given(any_lives())
def test_a_tool_runs_on_the_arguments_that_were_sealed(life: Life) -> None:
    run = drive(machine_for(life), life)
    uses = {block.call_id: block for block in run.machine.turn.blocks if isinstance(block, ToolUseBlock)}
    for action in run.actions:
        if isinstance(action, a.StartTool):
            use = uses[action.call_id]
            assert (use.tool_name, use.round, use.input) == (action.tool_name, action.round, action.input)
            assert use.text in {"", json(action.input).decode()}


@given(any_lives())
def test_calls_with_effects_run_one_at_a_time_in_their_lane_in_call_order(life: Life) -> None:
    run = drive(machine_for(life), life)
    uses = {block.call_id: block for block in run.machine.turn.blocks if isinstance(block, ToolUseBlock)}
    busy: dict[str, str] = {}
    last: dict[str, int] = {}
    for action in run.actions:
        match action:
            case a.StoreIntent(intent):
                lane = TOOLS[intent.tool_name].lane(intent.input) or "the turn's"
                assert lane not in busy
                assert last.get(lane, -1) < intent.index
                busy[lane], last[lane] = intent.call_id, intent.index
            case a.StartTool(tool_name="look_lane", call_id=call_id):
                earlier = busy.get("b")
                assert earlier is None or uses[earlier].index > uses[call_id].index
            case e.BlockStop(outcome=str(), index=index):
                block = run.rows[index]
                assert isinstance(block, ToolResultBlock)
                busy = {lane: call_id for lane, call_id in busy.items() if call_id != block.call_id}
            case _:
                pass


@given(any_lives())
def test_no_more_calls_run_at_once_than_the_limit(life: Life) -> None:
    running: set[str] = set()
    for fed, actions in drive(machine_for(life), life).steps:
        if isinstance(fed, i.ToolFinished):
            running.discard(fed.call_id)
        running |= {action.call_id for action in actions if isinstance(action, a.StartTool)}
        assert len(running) <= life.limits.parallel_calls


def fates(life: Life) -> list[tuple[int, int, str, str]]:
    """Of each call its round, its place among the calls of its response, its tool, and its key, or why it never ran, or
    that it shared the run of another."""
    run = drive(machine_for(life), life)
    fate = {action.call_id: action.idempotency_key for action in run.actions if isinstance(action, a.StartTool)}
    for block in run.machine.turn.blocks:
        if isinstance(block, ToolResultBlock) and isinstance(block.error, CallError):
            fate.setdefault(block.call_id, block.error.code)
    ordinals: Counter[int] = Counter()
    told: list[tuple[int, int, str, str]] = []
    for block in run.machine.turn.blocks:
        if isinstance(block, ToolUseBlock) and block.state == "complete" and block.origin == "server":
            ordinals[block.round] += 1
            told.append((block.round, ordinals[block.round], block.tool_name, fate.get(block.call_id, "shared")))
    return told


_UPTO = st.integers(1, 3)
_CALM = st.builds(TurnLimits, calls_per_round=_UPTO, parallel_calls=_UPTO, rounds=st.integers(1, 5))


def without_chance(said: tuple[i.ProviderInput, ...]) -> tuple[i.ProviderInput, ...]:
    """Time may decide what becomes of a call that is poisoned, of those left behind by a pause or a refusal, and of an
    eager one whose intent is not stored yet when its response dies."""
    calm: list[i.ProviderInput] = []
    for each in said:
        if isinstance(each, i.ResponseEnded) and each.stop_reason in {"pause", "refusal"}:
            calm.append(i.ResponseEnded(stop_reason="end", provider_reason=None))
        elif isinstance(each, i.BlockOpened) and each.tool_name in {"eager_put", "eager_post_b"}:
            calm.append(i.BlockOpened(key=each.key, block_type="tool_use", tool_name="look", input=each.input))
        elif not isinstance(each, i.CallPoisoned):
            calm.append(each)
    return tuple(calm)


@given(any_lives(disturbed=False), _CALM, st.lists(st.integers(0, 7), max_size=40))
def test_timing_never_decides_which_call_runs_nor_with_which_key(
    life: Life, limits: TurnLimits, others: list[int]
) -> None:
    life = replace(life, limits=limits, responses=tuple(without_chance(said) for said in life.responses))
    assert fates(life) == fates(replace(life, choices=tuple(others)))
