"""What an earlier owner's log may hold that its machine never stood in: cut anywhere, or left by other versions."""

from __future__ import annotations

import pytest
from tests.core.drive import row, user_turn
from tests.core.play import Play, call, ended, failed, opened, text
from tests.core.turns import TOOLS

from legato.core import actions as a
from legato.core import ask
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Json, ToolResultBlock
from legato.core.closing import close_interrupted
from legato.core.messages import messages, unread
from legato.core.records import Reading, StoredTurn
from legato.core.schedule import ToolRule

ASKING: dict[str, ToolRule] = {
    **TOOLS,
    "ask_first": ToolRule(effect="write", asks_approval=lambda _: True),
    "ask_look": ToolRule(effect="read", asks_approval=lambda _: True),
}


def lost_after(play: Play, kind: type[e.BaseEvent]) -> int:
    """How many events are lost, if the last of that kind is the last that was stored."""
    last = max(place for place, event in enumerate(play.events) if isinstance(event, kind))
    return len(play.events) - 1 - last


def needs_input(play: Play, place: int, state: Json = None) -> list[a.Action]:
    return play.say(i.ToolNeedsInput(call_id=play.call(place).call_id, message="Which one?", state=state))


def asks(play: Play, place: int) -> list[a.Action]:
    return play.say(i.ToolAsked(call_id=play.call(place).call_id, message="Delete all?"))


def starts(play: Play) -> list[a.StartTool]:
    return [action for action in play.actions if isinstance(action, a.StartTool)]


def shown(play: Play) -> list[str]:
    """The text of each result."""
    return [block.text for block in play.turn.blocks if isinstance(block, ToolResultBlock)]


# The beginning


def test_the_turn_is_begun_again_where_only_the_rewind_of_an_owner_before_was_stored() -> None:
    first = Play()
    second = first.next(lost=len(first.events))
    third = second.next(lost=lost_after(second, e.Rewind))
    for play in (second, third):
        assert [type(event) for event in play.events] == [e.Rewind, e.TurnStart, e.Notice, e.RoundStart]
    assert third.turn.turn_id == "turn"


def test_a_turn_that_is_ended_by_its_next_owner_is_begun_where_that_was_not_stored() -> None:
    rewind = e.Rewind(seq=1_000_001, to=0, blocks=())
    logs: list[list[e.Event]] = [[], [rewind]]
    for stored in logs:
        turn = close_interrupted(row("turn", "assistant"), stored, epoch=2).turn
        assert (turn.turn_id, turn.usage.source) == ("turn", "unknown")


def test_an_attempt_that_a_rewind_took_back_is_counted_also_when_its_successor_left_no_trace() -> None:
    second = Play().next()
    third = second.next(lost=lost_after(second, e.Rewind))
    assert [(asked.round, asked.attempt) for asked in third.asked] == [(1, 2)]


def test_every_request_of_a_later_owner_waits_until_it_is_stored_that_there_is_one() -> None:
    first = Play()
    assert [asked.after_seq for asked in first.asked] == [0]
    second = first.next(lost=len(first.events))
    for play in (second, second.next()):
        (asked,) = play.asked
        assert asked.after_seq == play.events[-1].seq
        play.say(failed())
        assert play.asked[-1].after_seq >= asked.after_seq


# Over a pause


def test_what_was_asked_and_answered_over_a_pause_is_said_again_after_the_rewind() -> None:
    first = Play(tools=ASKING)
    first.say(call(0), call(1, "ask_look"), ended("pause"))
    needs_input(first, 0)
    first.answer(1, "approve")
    second = first.next()
    assert second.waits == {0: "input"}
    assert second.started == [1]
    waiting = [event for event in second.events if isinstance(event, e.CallWaiting)]
    assert [event.message for event in waiting] == ["Which one?"]
    answered = [event for event in second.events if isinstance(event, e.CallAnswered)]
    assert [(event.call_id, event.decision) for event in answered] == [(second.call(1).call_id, "approve")]


def test_no_text_that_a_rewind_took_back_is_sent_though_a_result_came_after_it() -> None:
    first = Play()
    first.say(call(0), ended("pause"), i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Hel"))
    first.finish(0)
    second = first.next()
    second.say(text(0, "Hello"), ended("end"))
    rows = StoredTurn(row=row("turn", "assistant"), blocks=second.turn.blocks, rounds=second.turn.rounds)
    for _, block in unread([rows]):
        rows.readings[block.call_id] = Reading(call_id=block.call_id, text="so", formatter="test", version=1)
    sent = [block for message in messages([user_turn("asked", "Go"), rows]) for block in message.blocks]
    assert [block.text for block in sent if isinstance(block, ask.SentText)] == ["Go", "Hello"]


def test_the_results_of_a_paused_reply_are_reported_also_when_an_attempt_to_go_on_had_failed() -> None:
    first = Play()
    first.say(call(0), ended("pause"), failed())
    second = first.next()
    second.finish(0)
    second.say(text(0, "So far"), ended("end"))
    assert [asked.round for asked in second.asked] == [2, 3]


# People


def test_approved_arguments_hold_when_the_tool_asks_something_else_and_the_turn_rests() -> None:
    first = Play(tools=ASKING)
    first.say(call(0, "ask_first"))
    first.answer(0, "approve", input={"n": 7})
    first.say(ended())
    first.store(0)
    needs_input(first, 0, state={"offer": 1})
    assert first.machine.waiting
    first.answer(0, "approve", told=False)
    second = first.next()
    second.store(0)
    (before,), (after,) = starts(first), starts(second)
    assert (after.input, after.idempotency_key) == ({"n": 7}, before.idempotency_key)
    second.finish(0)
    result = second.result(0)
    assert result is not None
    assert result.ran_input == {"n": 7}


def test_a_write_goes_on_with_an_answer_only_once_it_is_stored_that_it_does() -> None:
    first = Play()
    first.say(call(0, "post"), ended())
    first.store(0)
    needs_input(first, 0)
    first.answer(0, "approve", told=False)
    second = first.next()
    assert second.started == []
    died = second.next(lost=len(second.events))
    second.store(0)
    assert second.started == [0]
    third = second.next()
    assert (third.started, third.reconciled) == ([], [0])
    died.store(0)
    assert (died.started, died.reconciled) == ([0], [])


def test_an_answer_to_a_question_that_died_with_its_process_is_used_for_no_other() -> None:
    first = Play()
    first.say(call(0))
    asks(first, 0)
    first.say(ended())
    first.answer(0, "approve", told=False)
    second = first.next()
    call_id = second.call(0).call_id
    assert (second.waits, second.started) == ({}, [0])
    assert second.needs[call_id, 1].taken
    asks(second, 0)
    stale = second.needs[call_id, 1].answer
    assert stale is not None
    assert second.say(i.Answered(answer=stale, nr=1)) == []
    assert second.waits == {0: "input"}


def test_a_need_whose_call_has_its_result_is_closed() -> None:
    play = Play()
    play.say(call(0))
    asks(play, 0)
    assert a.TakeAnswer(call_id=play.call(0).call_id, nr=1) in play.finish(0)
    assert play.waits == {}


def test_a_tool_that_went_on_with_an_answer_and_asked_again_is_given_the_first_answer_when_it_runs_again() -> None:
    first = Play()
    first.say(call(0), ended())
    needs_input(first, 0, state=[1])
    first.answer(0, "approve", told=False)
    second = first.next()
    asks(second, 0)
    (start,) = starts(second.next())
    assert start.resumed is not None
    assert start.resumed.state == [1]


# Calls that had begun


def test_an_idempotent_call_keeps_its_key_whatever_the_order_of_the_seals() -> None:
    first = Play()
    first.say(opened(0, "put_place"), opened(1, "put_place"), i.Delta(1, '{"n":1}'), i.BlockClosed(key=1))
    first.say(i.Delta(0, '{"n":0}'), i.BlockClosed(key=0), ended())
    for place in (0, 1):
        first.store(place)
    second = first.next()
    before, after = ({start.call_id: start.idempotency_key for start in starts(play)} for play in (first, second))
    assert before == after
    assert len(before) == 2


def test_calls_whose_blocks_interleave_run_in_the_order_of_their_blocks() -> None:
    play = Play()
    play.say(opened(0, "post"), opened(1, "post"), i.Delta(1, '{"n":1}'), i.BlockClosed(key=1))
    play.say(i.Delta(0, '{"n":0}'), i.BlockClosed(key=0), ended())
    assert play.intents == [0]


@pytest.mark.parametrize("tool", ["put", "post"])
def test_of_a_begun_call_whose_tool_is_gone_nobody_knows_what_became(tool: str) -> None:
    first = Play()
    first.say(call(0, tool), ended())
    first.store(0)
    second = first.next(tools={"look": TOOLS["look"]})
    assert second.outcome(0) == "unknown: interrupted"


def test_a_begun_write_is_asked_about_though_its_tool_takes_such_arguments_no_more() -> None:
    first = Play()
    first.say(call(0, "post"), ended())
    first.store(0)
    second = first.next(tools={"post": ToolRule(effect="write", check=lambda _: "no more")})
    assert (second.reconciled, second.started) == ([0], [])


def test_an_idempotent_call_that_a_cancel_finds_begun_is_not_said_to_have_done_nothing() -> None:
    first = Play()
    first.say(call(0, "put"), call(1, "put"), ended())
    first.store(0)
    second = first.next(cancelled=True)
    assert [second.outcome(0), second.outcome(1)] == ["unknown: interrupted", "cancelled: cancelled"]


def test_an_eager_call_that_had_begun_runs_again_though_early_start_is_off_by_now() -> None:
    first = Play()
    first.say(call(0, "eager_put"))
    first.store(0)
    second = first.next(tools={"eager_put": ToolRule(effect="idempotent", eager=True, late=True)})
    assert second.started == [0]


# Twins


def test_the_text_of_twins_that_run_again_is_cut_to_nothing_and_said_anew_of_each() -> None:
    first = Play()
    first.say(call(0, raw="{}"), call(1, raw="{}"), ended())
    first.emit(0, "looking")
    second = first.next()
    (rewind,) = [event for event in second.events if isinstance(event, e.Rewind)]
    assert [standing.length for standing in rewind.blocks if standing.state == "open"] == [0, 0]
    second.emit(0, "anew")
    second.finish(0)
    assert (second.started, shown(second)) == ([0], ["anew", "anew"])


def test_the_twin_of_a_read_that_waits_for_an_answer_waits_on_with_it() -> None:
    first = Play()
    first.say(call(0, raw="{}"), call(1, raw="{}"), ended())
    first.emit(0, "looking")
    needs_input(first, 0)
    second = first.next()
    assert (second.started, second.machine.waiting) == ([], True)
    second.answer(0, "approve", told=False)
    third = second.next()
    third.emit(0, " on")
    third.finish(0)
    assert (third.started, shown(third)) == ([0], ["looking on", "looking on"])
    assert [third.outcome(0), third.outcome(1)] == ["ok", "ok"]
