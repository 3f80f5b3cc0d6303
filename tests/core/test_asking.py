"""A tool that asks a person: one that stops and is called again (``InputNeeded``), one that waits while it runs
(``ctx.ask``)."""

from __future__ import annotations

import pytest
from tests.core.play import CANCEL, Play, call, ended, failed, text

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Json, ToolResultBlock
from legato.core.plan import TurnLimits
from legato.core.records import Answer, Resumed

WHICH: dict[str, Json] = {"type": "object", "properties": {"which": {"type": "integer"}}}


def needs_input(play: Play, place: int, message: str = "Which one?", state: Json = None) -> list[a.Action]:
    call_id = play.call(place).call_id
    return play.say(i.ToolNeedsInput(call_id=call_id, message=message, input_schema=WHICH, state=state))


def asks(play: Play, place: int, message: str = "Go on?") -> list[a.Action]:
    return play.say(i.ToolAsked(call_id=play.call(place).call_id, message=message))


def told(play: Play) -> list[Answer]:
    return [action.answer for action in play.actions if isinstance(action, a.TellTool)]


# A tool that stops


def test_readers_see_what_a_tool_asks_and_not_the_state_it_keeps() -> None:
    play = Play()
    play.say(call(0))
    waiting, stored = needs_input(play, 0, state={"secret": 1})
    assert isinstance(waiting, e.CallWaiting)
    assert (waiting.kind, waiting.message, waiting.input_schema) == ("input", "Which one?", WHICH)
    assert b"secret" not in e.encode(waiting)
    assert isinstance(stored, a.StoreNeed)
    assert (stored.need.state, stored.need.running) == ({"secret": 1}, False)


def test_what_a_tool_asks_is_clean_text() -> None:
    play = Play()
    play.say(call(0))
    waiting, _ = needs_input(play, 0, "torn \ud83d and NUL \0")
    assert isinstance(waiting, e.CallWaiting)
    assert waiting.message == "torn \ufffd and NUL \ufffd"


def test_a_tool_is_called_again_with_its_state_and_the_answer() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0, state=["so", 1])
    play.answer(0, "approve", input={"which": 2})
    call_id = play.call(0).call_id
    answer = Answer(call_id=call_id, decision="approve", input={"which": 2})
    assert [start.resumed for start in play.begun] == [None, Resumed(state=["so", 1], answer=answer)]
    play.finish(0)
    assert play.outcome(0) == "ok"


def test_being_called_again_is_the_same_execution() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0)
    play.answer(0, "approve")
    assert play.said_started == [0]
    assert len({start.idempotency_key for start in play.begun}) == 1
    assert [start.input for start in play.begun] == [{"call": 0}] * 2


def test_what_a_person_told_a_tool_is_not_shown_to_readers() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0)
    answered = play.answer(0, "approve", input={"password": "x"})[0]
    assert isinstance(answered, e.CallAnswered)
    assert b"password" not in e.encode(answered)


def test_an_answer_to_a_tool_changes_none_of_its_arguments() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0)
    play.answer(0, "approve", input={"which": 2})
    play.finish(0)
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert not isinstance(result.ran_input, dict)


def test_a_no_is_the_tools_to_hear() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0, state=1)
    play.answer(0, "deny", reason="none of them")
    resumed = play.begun[1].resumed
    assert resumed is not None
    assert (resumed.answer.decision, resumed.answer.reason) == ("deny", "none of them")
    assert play.outcome(0) is None


def test_a_tool_may_ask_twice_in_a_row_and_goes_on_each_time() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0, "First?", state=1)
    play.answer(0, "approve")
    needs_input(play, 0, "Second?", state=2)
    play.answer(0, "approve")
    states = [start.resumed.state for start in play.begun if start.resumed is not None]
    assert states == [1, 2]
    assert [kept.need.nr for kept in play.needs.values()] == [1, 2]
    assert all(kept.taken for kept in play.needs.values())


def test_the_answer_to_the_first_question_is_none_to_the_second() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0, "First?")
    first = Answer(call_id=play.call(0).call_id, decision="approve", input={"which": 1})
    play.say(i.Answered(answer=first, nr=1))
    needs_input(play, 0, "Second?")
    assert play.say(i.Answered(answer=first, nr=1)) == []
    assert play.waits == {0: "input"}


def test_a_write_that_asked_goes_on_once_it_is_stored_that_it_does() -> None:
    play = Play()
    play.say(call(0, "post"), call(1), ended())
    play.store(0)
    needs_input(play, 0)
    play.answer(0, "approve")
    assert (play.intents, play.started) == ([0, 0], [1, 0])
    play.store(0)
    assert play.started == [1, 0, 0]


def test_a_write_that_asks_keeps_its_lane() -> None:
    play = Play()
    play.say(call(0, "post"), call(1, "post"), ended())
    play.store(0)
    needs_input(play, 0)
    assert play.intents == [0]
    assert play.rests()
    play = play.answered(0, "approve")
    play.store(0)
    assert (play.started, play.intents) == ([0], [0])
    play.finish(0)
    assert play.intents == [0, 1]


def test_a_tool_that_asks_while_the_model_talks_is_called_again_while_it_talks() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0)
    play.say(text(1, "meanwhile"))
    play.answer(0, "approve")
    assert play.started == [0, 0]


def test_an_eager_write_that_asked_goes_on_though_its_response_has_died() -> None:
    play = Play()
    play.say(call(0, "eager_put"))
    play.store(0)
    needs_input(play, 0)
    play.say(call(1), failed())
    assert play.outcome(0) is None
    play.answer(0, "approve")
    play.store(0)
    assert play.started == [0, 1, 0]


def test_a_tool_that_asks_holds_no_place_and_waits_for_one_when_it_is_called_again() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0), call(1))
    needs_input(play, 0)
    assert play.started == [0, 1]
    play.answer(0, "approve")
    assert play.started == [0, 1]
    play.finish(1)
    assert play.started == [0, 1, 0]


def test_the_turn_rests_when_all_its_tools_ask() -> None:
    play = Play()
    play.say(call(0), call(1), ended())
    needs_input(play, 0)
    assert not play.rests()
    needs_input(play, 1)
    assert play.rests()


def test_a_cancel_answers_a_tool_that_has_stopped_to_ask() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0)
    play.say(CANCEL)
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.told == []
    assert play.end() == "cancelled, cancelled"


@pytest.mark.parametrize(("tool_name", "outcome"), [("look", "timeout"), ("post", "timeout")])
def test_when_the_wait_is_over_a_tool_that_has_stopped_is_answered(tool_name: str, outcome: str) -> None:
    play = Play()
    play.say(call(0, tool_name), call(1), ended())
    if tool_name == "post":
        play.store(0)
    needs_input(play, 0)
    play.say(i.WaitOver())
    assert play.outcome(0) == f"{outcome}: wait_timeout"


def test_a_tool_that_asks_after_a_cancel_is_a_cancelled_call() -> None:
    play = Play()
    play.say(call(0), CANCEL)
    needs_input(play, 0)
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.end() == "cancelled, cancelled"


def test_a_tool_that_asks_in_a_refused_reply_is_a_cancelled_call() -> None:
    play = Play()
    play.say(call(0), ended("refusal"))
    needs_input(play, 0)
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.end() == "complete, refusal"


def test_what_a_tool_showed_before_it_asked_stays_and_grows() -> None:
    play = Play()
    play.say(call(0))
    play.emit(0, "first ")
    needs_input(play, 0)
    play.answer(0, "approve")
    play.emit(0, "second")
    play.finish(0)
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert result.text == "first second"


def test_arguments_that_change_while_a_tool_asks_make_its_result_an_error_and_it_still_goes_on() -> None:
    play = Play()
    play.say(call(0))
    needs_input(play, 0)
    play.say(i.CallPoisoned(key=0, message="the name changed"), ended())
    assert play.outcome(0) is None
    play = play.answered(0, "approve")
    play.finish(0)
    assert play.result(0) is not None


# A tool that waits while it runs


def test_a_running_tool_that_asks_is_told_the_answer_and_not_called_again() -> None:
    play = Play()
    play.say(call(0))
    _, stored = asks(play, 0)
    assert isinstance(stored, a.StoreNeed)
    assert stored.need.running
    assert play.waits == {0: "input"}
    play.answer(0, "approve", input={"which": 1})
    assert [answer.input for answer in told(play)] == [{"which": 1}]
    assert play.started == [0]
    assert play.waits == {}


def test_a_running_tool_that_asks_lets_no_turn_rest() -> None:
    play = Play()
    play.say(call(0), ended())
    asks(play, 0)
    assert not play.rests()
    play.answer(0, "approve")
    play.finish(0)
    assert len(play.asked) == 2


def test_a_running_tool_that_asks_keeps_its_place() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0), call(1))
    asks(play, 0)
    assert play.started == [0]


def test_a_tool_that_ends_while_it_asks_waits_for_nobody_any_more() -> None:
    play = Play()
    play.say(call(0), ended())
    asks(play, 0)
    play.finish(0)
    assert play.turn.waiting == {}
    assert play.answer(0, "approve") == []
    assert told(play) == []
    kept = play.need(0)
    assert kept is not None
    assert kept.taken


def test_a_tool_that_stops_to_ask_while_it_asks_waits_for_the_last_question_only() -> None:
    play = Play()
    play.say(call(0))
    asks(play, 0)
    needs_input(play, 0, state=1)
    assert play.waits == {0: "input"}
    play.answer(0, "approve")
    assert told(play) == []
    assert [start.resumed is not None for start in play.begun] == [False, True]


def test_a_tool_that_asks_to_run_later_while_it_asks_waits_for_nobody() -> None:
    play = Play()
    play.say(call(0))
    asks(play, 0)
    play.say(i.ToolDeferred(call_id=play.call(0).call_id))
    assert play.answer(0, "approve") == []
    play.say(ended())
    assert play.started == [0, 0]


def test_a_running_tool_that_asks_may_ask_again_after_the_answer() -> None:
    play = Play()
    play.say(call(0))
    asks(play, 0, "First?")
    play.answer(0, "approve")
    asks(play, 0, "Second?")
    play.answer(0, "deny")
    assert [answer.decision for answer in told(play)] == ["approve", "deny"]
    assert play.outcome(0) is None


def test_a_running_tool_that_asks_is_told_to_stop_by_a_cancel() -> None:
    play = Play()
    play.say(call(0))
    asks(play, 0)
    play.say(CANCEL)
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "cancelled, cancelled"
    assert play.turn.waiting == {}


def test_a_running_tool_that_asks_while_its_turn_ends_asks_nobody() -> None:
    play = Play()
    play.say(call(0), CANCEL)
    assert asks(play, 0) == []
    assert play.turn.waiting == {}


def test_a_tool_that_does_not_run_asks_nobody() -> None:
    play = Play()
    play.say(call(0))
    play.finish(0)
    assert asks(play, 0) == []
    assert needs_input(play, 0) == []


def test_an_execution_that_two_share_asks_once() -> None:
    play = Play()
    play.say(call(0, raw="{}"), call(1, raw="{}"))
    asks(play, 0)
    assert play.waits == {0: "input"}
    play.answer(0, "approve")
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "ok"]
