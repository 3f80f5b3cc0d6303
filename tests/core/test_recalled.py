"""What the next owner of a turn does with the calls that waited for people and clients, and with who cancelled them."""

from __future__ import annotations

import pytest
from tests.core.play import CANCEL, Play, call, ended
from tests.core.turns import TOOLS

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import CallError, ToolResultBlock
from legato.core.resuming import RECOVERED
from legato.core.schedule import ToolRule

PATIENT = {
    **TOOLS,
    "ask_look": ToolRule(effect="read", asks_approval=lambda _: True),
    "ask_post": ToolRule(effect="write", asks_approval=lambda _: True),
}


def patient() -> Play:
    return Play(tools=PATIENT, client_tools=("pick",))


def needs_input(play: Play, place: int, state: int = 1) -> None:
    play.say(i.ToolNeedsInput(call_id=play.call(place).call_id, message="Which one?", state=state))


# Approvals


def test_an_approval_that_nobody_gave_is_waited_for_on() -> None:
    play = patient()
    play.say(call(0, "ask_post"), ended())
    again = play.next()
    assert again.waits == {0: "approval"}
    assert again.rests()
    assert again.needs == play.needs
    assert again.answered(0, "approve").intents == [0]


def test_an_approval_whose_question_was_not_stored_is_asked_for() -> None:
    play = patient()
    play.say(call(0, "ask_look"))
    again = play.next(lost=1)
    assert again.waits == {0: "approval"}
    assert again.started == []
    kept = again.need(0)
    assert kept is not None
    assert kept.need.nr == 1


def test_an_approval_that_was_given_and_not_taken_is_taken() -> None:
    play = patient()
    play.say(call(0, "ask_look"), call(1))
    play.answer(0, "approve", told=False)
    again = play.next()
    assert 0 in again.started
    assert again.waits == {}


def test_an_approval_that_was_taken_stands() -> None:
    play = patient()
    play.say(call(0, "ask_post"), ended())
    play = play.answered(0, "approve", input={"n": 2})
    again = play.next()
    intent = next(action.intent for action in again.actions if isinstance(action, a.StoreIntent))
    assert intent.input == {"n": 2}
    again.store(0)
    again.finish(0)
    result = again.result(0)
    assert isinstance(result, ToolResultBlock)
    assert result.ran_input == {"n": 2}


def test_a_call_that_ran_with_edited_arguments_runs_again_with_them_and_its_key() -> None:
    play = patient()
    play.say(call(0, "ask_look"))
    play.answer(0, "approve", input={"n": 2})
    again = play.next()
    assert [(start.input, start.idempotency_key) for start in again.begun] == [
        ({"n": 2}, play.begun[0].idempotency_key)
    ]


def test_a_write_that_ran_with_edited_arguments_is_asked_about_by_their_key() -> None:
    play = patient()
    play.say(call(0, "ask_post"), ended())
    play = play.answered(0, "approve", input={"n": 2})
    play.store(0)
    again = play.next()
    keys = [action.idempotency_key for action in again.actions if isinstance(action, a.Reconcile)]
    assert keys == [play.begun[0].idempotency_key]


def test_a_denial_whose_result_was_not_stored_is_still_a_denial() -> None:
    play = patient()
    play.say(call(0, "ask_look"))
    play.answer(0, "deny", reason="not today")
    again = play.next(lost=2)
    assert again.outcome(0) == "denied: denied"
    assert "not today" in again.said_why(0)
    assert again.started == []


def test_an_approval_of_which_nothing_was_stored_but_the_answer_is_taken_again() -> None:
    play = patient()
    play.say(call(0, "ask_look"))
    play.answer(0, "approve")
    again = play.next(lost=2)  # that it was answered, and its start
    assert again.started == [0]


def test_a_write_whose_approval_waits_is_answered_when_its_response_died_with_its_owner() -> None:
    play = patient()
    play.say(call(0, "ask_post"), call(1, "ask_look"))
    again = play.next()
    assert again.outcome(0) == "error: not_executed"
    assert again.waits == {1: "approval"}
    assert again.rests()


def test_an_approval_before_the_seal_of_which_the_response_is_asked_again_is_no_ones() -> None:
    play = patient()
    play.say(call(0, "ask_look"))
    again = play.next(lost=2)  # the question, and the seal
    assert again.waits == {}
    assert [request.round for request in again.asked] == [1]
    again.say(call(0, "ask_look"))
    assert again.waits == {0: "approval"}


# Clients


def test_a_clients_result_that_was_given_at_rest_ends_the_call() -> None:
    play = patient()
    play.say(call(0, "pick"), ended())
    again = play.answered(0, output=1)
    assert again.outcome(0) == "ok"
    assert RECOVERED not in [event.code for event in again.seen if isinstance(event, e.Notice)]


def test_a_clients_result_that_was_taken_and_not_stored_ends_the_call() -> None:
    play = patient()
    play.say(call(0, "pick"), call(1), ended())
    play.answer(0, output=1)
    again = play.next(lost=2)
    assert again.outcome(0) == "ok"
    result = again.result(0)
    assert isinstance(result, ToolResultBlock)
    assert (result.output, result.origin) == (1, "client")


def test_a_client_is_asked_by_the_next_owner_where_its_question_was_not_stored() -> None:
    play = patient()
    play.say(call(0, "pick"), ended())
    again = play.next(lost=2)  # the question, and that the turn waits
    assert again.waits == {0: "client_tool"}
    assert again.rests()
    assert again.answered(0, output=1).outcome(0) == "ok"


# Tools that ask


def test_a_tool_that_had_stopped_to_ask_is_waited_for_on_and_goes_on_with_the_answer() -> None:
    play = patient()
    play.say(call(0), ended())
    needs_input(play, 0, state=7)
    again = play.next().answered(0, "approve", input={"which": 1})
    assert [start.resumed.state for start in again.begun if start.resumed is not None] == [7]


@pytest.mark.parametrize("tool_name", ["look", "put"])
def test_a_tool_that_went_on_with_an_answer_when_its_owner_died_goes_on_with_it_again(tool_name: str) -> None:
    play = patient()
    play.say(call(0, tool_name), call(1), ended())
    if tool_name == "put":
        play.store(0)
    needs_input(play, 0, state=7)
    play.answer(0, "approve", input={"which": 1})
    if tool_name == "put":
        play.store(0)
    again = play.next()
    if tool_name == "put":
        again.store(0)
    starts = [start for start in again.begun if start.call_id == again.call(0).call_id]
    assert [start.resumed for start in starts] == [play.begun[-1].resumed]
    assert again.reconciled == []


def test_a_write_that_went_on_with_an_answer_when_its_owner_died_is_asked_about() -> None:
    play = patient()
    play.say(call(0, "post"), call(1), ended())
    play.store(0)
    needs_input(play, 0)
    play.answer(0, "approve")
    again = play.next()
    assert again.reconciled == [0]
    assert again.started == [1]


def test_a_write_that_had_stopped_to_ask_is_waited_for_and_not_asked_about() -> None:
    play = patient()
    play.say(call(0, "post"), ended())
    play.store(0)
    needs_input(play, 0)
    again = play.next()
    assert again.reconciled == []
    assert again.waits == {0: "input"}
    third = again.answered(0, "approve")
    third.store(0)
    assert third.started == [0]


def test_a_tool_that_asked_while_it_ran_runs_again_and_its_question_is_nobodys() -> None:
    play = patient()
    play.say(call(0), ended())
    play.say(i.ToolAsked(call_id=play.call(0).call_id, message="Go on?"))
    again = play.next()
    assert again.started == [0]
    assert again.turn.waiting == {}
    kept = again.need(0)
    assert kept is not None
    assert kept.taken
    assert again.answer(0, "approve") == []


def test_a_tool_that_asked_while_it_ran_and_was_answered_is_not_given_that_answer_when_it_runs_again() -> None:
    play = patient()
    play.say(call(0), ended())
    play.say(i.ToolAsked(call_id=play.call(0).call_id, message="Go on?"))
    play.answer(0, "approve", told=False)
    again = play.next()
    assert again.started == [0]
    assert [start.resumed for start in again.begun] == [None]
    assert [action for action in again.actions if isinstance(action, a.TellTool)] == []


def test_a_second_question_after_a_crash_is_the_calls_second_need() -> None:
    play = patient()
    play.say(call(0), ended())
    needs_input(play, 0, state=1)
    play = play.answered(0, "approve")
    again = play.next()
    needs_input(again, 0, state=2)
    assert [kept.need.nr for kept in again.needs.values()] == [1, 2]
    assert again.rests()


# Cancels, ends of waits


@pytest.mark.parametrize("tool_name", ["ask_look", "pick"])
def test_a_cancel_of_a_turn_at_rest_answers_what_waits_and_ends_it(tool_name: str) -> None:
    play = patient()
    play.say(call(0, tool_name), ended())
    again = play.next(cancelled=True)
    assert again.outcome(0) == "cancelled: cancelled"
    assert again.end() == "cancelled, cancelled"
    assert again.asked == []


def test_a_cancel_that_was_stored_keeps_what_was_said_and_asks_nothing_more() -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Half a wo"))
    again = play.next(cancelled=True)
    assert again.asked == []
    assert [block.text for block in again.turn.blocks] == ["Half a wo"]
    assert again.turn.rounds[0].commitment == "adopted"
    assert again.end() == "cancelled, cancelled"


def test_a_cancel_of_a_turn_of_which_nothing_was_stored_ends_it() -> None:
    play = Play()
    again = play.next(lost=2, cancelled=True)
    assert again.end() == "cancelled, cancelled"


def test_a_cancelled_read_does_not_run_again() -> None:
    play = Play()
    play.say(call(0), CANCEL)
    again = play.next(cancelled=True)
    assert again.started == []
    assert again.outcome(0) == "cancelled: cancelled"
    assert again.end() == "cancelled, cancelled"


def test_a_cancelled_write_that_had_begun_may_have_taken_effect() -> None:
    play = Play()
    play.say(call(0, "post"), ended())
    play.store(0)
    play.say(CANCEL)
    again = play.next(cancelled=True)
    assert again.started == []
    assert again.reconciled == [0]
    again.say(i.ToolFinished(call_id=again.call(0).call_id, outcome="unknown", error=CallError("interrupted", "?")))
    assert again.outcome(0) == "unknown: interrupted"
    assert again.end() == "cancelled, cancelled"


def test_when_the_wait_is_over_the_next_owner_answers_what_waits_and_goes_on() -> None:
    play = patient()
    play.say(call(0, "ask_look"), call(1, "pick"), ended())
    again = play.next(wait_over=True)
    assert [again.outcome(0), again.outcome(1)] == ["timeout: wait_timeout"] * 2
    assert [request.round for request in again.asked] == [2]


def test_an_answer_that_came_before_the_wait_was_over_counts() -> None:
    play = patient()
    play.say(call(0, "ask_look"), call(1, "pick"), ended())
    play.answer(0, "approve", told=False)
    again = play.next(wait_over=True)
    assert again.started == [0]
    assert again.outcome(1) == "timeout: wait_timeout"
