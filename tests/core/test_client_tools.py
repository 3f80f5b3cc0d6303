"""A tool that a client runs: asked for once the response has ended well, and answered like any other call."""

from __future__ import annotations

import pytest
from msgspec import UNSET
from tests.core.play import CANCEL, Play, call, ended, failed, opened, text
from tests.core.turns import TOOLS

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import CallError, ToolResultBlock
from legato.core.plan import TurnLimits


def client(*, limits: TurnLimits | None = None) -> Play:
    return Play(tools=TOOLS, client_tools=("pick", "show"), limits=TurnLimits() if limits is None else limits)


def test_a_client_is_asked_once_the_response_has_ended_well() -> None:
    play = client()
    play.say(call(0, "pick"), text(1, "Choose."))
    assert play.needs == {}
    actions = play.say(ended())
    assert play.waits == {0: "client_tool"}
    assert isinstance(actions[-1], e.TurnWaiting)
    assert play.rests()


def test_a_client_tools_use_and_result_say_that_they_are_the_clients() -> None:
    play = client()
    play.say(call(0, "pick"), ended())
    play = play.answered(0, output={"picked": 1})
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert (play.call(0).origin, result.origin) == ("client", "client")
    starts = [event for event in play.seen if isinstance(event, e.BlockStart) and event.block_type != "text"]
    assert [start.origin for start in starts] == ["client", "client"]


def test_a_client_tool_is_never_run_here() -> None:
    play = client()
    play.say(call(0, "pick"), ended())
    play = play.answered(0, output=1)
    assert [action for action in play.actions if isinstance(action, a.StartTool | a.StoreIntent)] == []
    assert [event for event in play.seen if isinstance(event, e.ToolStart)] == []


def test_what_a_client_gives_is_the_result_and_the_model_goes_on() -> None:
    play = client()
    play.say(call(0, "pick"), ended())
    play = play.answered(0, output={"picked": ["å", None]})
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert (result.outcome, result.output, result.error) == ("ok", {"picked": ["å", None]}, UNSET)
    assert [request.round for request in play.asked] == [2]


def test_an_error_of_a_client_is_the_result() -> None:
    play = client()
    play.say(call(0, "pick"), call(1), ended())
    play.answer(0, error=CallError("closed", "the window was closed"))
    assert play.outcome(0) == "error: closed"
    assert play.said_why(0) == "the window was closed"


def test_a_client_that_gives_nothing_has_answered() -> None:
    play = client()
    play.say(call(0, "pick"), ended())
    assert play.answered(0, output=None).outcome(0) == "ok"


def test_a_tool_of_the_server_wins_no_name_from_a_clients() -> None:
    play = Play(tools=TOOLS, client_tools=("look",))
    play.say(call(0), ended())
    assert play.call(0).origin == "client"
    assert play.started == []


# Beside other calls


def test_siblings_run_while_a_client_tool_waits_and_the_turn_rests_after_the_last_of_them() -> None:
    play = client()
    play.say(call(0, "pick"), call(1), call(2, "post"), ended())
    assert play.started == [1]
    assert play.intents == [2]
    play.finish(1)
    assert not play.rests()
    play.store(2)
    play.finish(2)
    assert play.rests()
    assert [play.outcome(1), play.outcome(2)] == ["ok", "ok"]


def test_a_client_that_answers_before_its_siblings_end_lets_no_turn_rest() -> None:
    play = client()
    play.say(call(0, "pick"), call(1), ended())
    play.answer(0, output=1)
    play.finish(1)
    assert len(play.asked) == 2
    assert not [event for event in play.events if isinstance(event, e.TurnWaiting)]


def test_a_client_tool_is_in_nobodys_lane() -> None:
    play = client()
    play.say(call(0, "post"), call(1, "pick"), call(2, "post"), ended())
    assert play.waits == {1: "client_tool"}
    play.store(0)
    play.finish(0)
    assert play.intents == [0, 2]


def test_a_client_tool_takes_no_place_of_those_that_run_at_once() -> None:
    play = client(limits=TurnLimits(parallel_calls=1))
    play.say(call(0, "pick"), call(1), call(2, "show"), ended())
    assert play.started == [1]
    assert play.waits == {0: "client_tool", 2: "client_tool"}


def test_two_identical_calls_of_a_client_tool_are_two() -> None:
    play = client()
    play.say(call(0, "pick", "{}"), call(1, "pick", "{}"), ended())
    assert play.waits == {0: "client_tool", 1: "client_tool"}
    play = play.answered(0, output=1)
    assert play.outcome(1) is None
    assert play.rests()


def test_the_model_is_asked_once_the_last_client_has_answered() -> None:
    play = client()
    play.say(call(0, "pick"), call(1, "show"), ended())
    play = play.answered(1, output=1)
    assert (play.asked, play.waits) == ([], {0: "client_tool"})
    play = play.answered(0, output=0)
    assert [request.round for request in play.asked] == [2]


# Those that are never asked for


@pytest.mark.parametrize("reason", ["length", "other"])
def test_a_client_tool_of_a_reply_that_was_cut_off_is_answered_and_never_asked_for(reason: e.StopReason) -> None:
    play = client()
    play.say(call(0, "pick"), opened(1, "pick"), ended(reason))
    assert play.outcome(0) == "error: not_executed"
    assert play.needs == {}
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert result.origin == "client"
    assert len(play.asked) == 2


def test_a_client_tool_of_an_adopted_response_is_answered_and_never_asked_for() -> None:
    play = client()
    play.say(call(0, "pick"), text(1, "Cho"), failed())
    assert play.outcome(0) == "error: not_executed"
    assert play.needs == {}
    assert len(play.asked) == 2


def test_a_client_tool_of_a_refused_reply_is_answered_and_never_asked_for() -> None:
    play = client()
    play.say(call(0, "pick"), ended("refusal"))
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.needs == {}
    assert play.end() == "complete, refusal"


def test_a_client_tool_over_a_pause_is_asked_for_once_the_reply_has_ended_well() -> None:
    play = client()
    play.say(call(0, "pick"), ended("pause"))
    assert play.needs == {}
    play.say(text(0, "Now."), ended("end"))
    assert play.waits == {0: "client_tool"}


def test_a_client_tool_over_a_pause_is_answered_when_the_reply_dies_after_it() -> None:
    play = client()
    play.say(call(0, "pick"), ended("pause"), text(0, "No"), opened(1), failed())
    assert play.outcome(0) == "error: not_executed"


@pytest.mark.parametrize("raw", ['{"n":', "[1]", "null"])
def test_a_client_is_not_asked_for_a_call_without_whole_arguments(raw: str) -> None:
    play = client()
    play.say(call(0, "pick", raw), ended())
    assert play.outcome(0) == "error: bad_json"
    assert play.needs == {}
    assert len(play.asked) == 2


def test_a_client_is_not_asked_for_a_call_over_the_limit() -> None:
    play = client(limits=TurnLimits(calls_per_round=1))
    play.say(call(0), call(1, "pick"), ended())
    assert play.outcome(1) == "error: limit_calls"
    assert play.needs == {}


def test_a_client_tool_of_the_last_round_is_answered() -> None:
    play = client(limits=TurnLimits(rounds=2))
    play.say(call(0), ended())
    play.finish(0)
    play.say(call(1, "pick"), ended())
    assert play.outcome(1) == "error: limit_rounds"
    assert play.end() == "complete, limit_rounds"


def test_the_last_round_is_told_so_where_there_are_clients_tools_only() -> None:
    play = Play(tools={}, client_tools=("pick",), limits=TurnLimits(rounds=2))
    play.say(call(0, "pick"), ended())
    play = play.answered(0, output=1)
    assert [request.last for request in play.asked] == [True]
    assert "rounds_last" in play.notices


def test_a_client_tool_whose_arguments_change_is_answered_and_never_asked_for() -> None:
    play = client()
    play.say(call(0, "pick"), i.CallPoisoned(key=0, message="the name changed"), ended())
    assert play.outcome(0) == "error: arguments_changed"
    assert play.needs == {}


# Ends


def test_a_cancel_answers_a_client_tool_that_waits() -> None:
    play = client()
    play.say(call(0, "pick"), call(1), ended(), CANCEL)
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.answer(0, output=1) == []
    play.finish(1, "cancelled")
    assert play.end() == "cancelled, cancelled"


def test_a_turn_at_rest_hears_nothing_any_more() -> None:
    play = client()
    play.say(call(0, "pick"), ended())
    assert play.rests()
    assert play.answer(0, output=1) == []
    assert play.say(CANCEL, i.WaitOver(), i.TimeUp(kind="hard"), i.Noted(code="x", message="y")) == []
    assert play.result(0) is None
    assert play.rests()


def test_a_second_answer_of_a_client_changes_nothing() -> None:
    play = client()
    play.say(call(0, "pick"), call(1), ended())
    play.answer(0, output=1)
    assert play.answer(0, output=2) == []
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert result.output == 1


def test_a_client_answers_a_turn_that_has_ended_in_vain() -> None:
    play = client()
    play.say(text(0, "Bye."), ended("end"))
    assert play.say(i.WaitOver(), i.EarlyStartOff(tool_name="look")) == []
