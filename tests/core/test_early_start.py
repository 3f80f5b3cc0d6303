"""Early start is off for a tool whose arguments changed after it was started (docs/tools.md)."""

from __future__ import annotations

import pytest
from tests.core.play import Play, call, ended, failed, opened, text
from tests.core.turns import TOOLS

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.schedule import ToolRule


def changed(key: int) -> i.CallPoisoned:
    return i.CallPoisoned(key=key, message="the arguments changed")


def stops(play: Play) -> list[str]:
    return [action.tool_name for action in play.actions if isinstance(action, a.StopEarlyStart)]


def test_a_change_after_the_start_is_said_to_every_turn_once() -> None:
    play = Play()
    play.say(call(0), changed(0), changed(0))
    assert stops(play) == ["look"]


def test_two_calls_that_change_are_said_for_each_tool() -> None:
    play = Play()
    play.say(call(0), call(1, "look_picky"), changed(0), changed(1))
    assert stops(play) == ["look", "look_picky"]


@pytest.mark.parametrize("tool_name", ["post", "put", "nobody", "look_lane"])
def test_a_change_before_the_start_switches_nothing_off(tool_name: str) -> None:
    play = Play()
    play.say(call(0, "eager_post_b"), call(1, tool_name), changed(1))
    assert stops(play) == []
    assert play.outcome(1) is not None


def test_a_change_after_the_result_switches_early_start_off() -> None:
    play = Play()
    play.say(call(0))
    play.finish(0)
    play.say(changed(0))
    assert stops(play) == ["look"]


def test_a_change_after_an_eager_write_has_started_switches_early_start_off() -> None:
    play = Play()
    play.say(call(0, "eager_put"))
    play.store(0)
    play.say(changed(0))
    assert stops(play) == ["eager_put"]
    play.finish(0)
    assert play.outcome(0) == "error: arguments_changed"


def test_a_change_while_the_intent_is_being_stored_runs_nothing_and_switches_nothing_off() -> None:
    play = Play()
    play.say(call(0, "eager_put"), changed(0))
    play.store(0)
    assert (play.started, stops(play)) == ([], [])
    assert play.outcome(0) == "error: arguments_changed"


# Later calls of the tool


def test_later_calls_of_the_tool_start_once_their_response_has_ended_and_those_of_others_at_once() -> None:
    play = Play()
    play.say(call(0), changed(0), call(1), call(2, "look_picky"))
    assert play.started == [0, 2]
    play.say(ended())
    assert play.started == [0, 2, 1]


def test_early_start_stays_off_in_the_rounds_after() -> None:
    play = Play()
    play.say(call(0), changed(0), ended())
    play.finish(0)
    play.say(call(0))
    assert play.started == [0]
    play.say(ended())
    assert play.started == [0, 1]
    play.finish(1)
    assert len(play.asked) == 3


def test_a_turn_is_told_of_a_change_in_another_one() -> None:
    play = Play()
    play.say(i.EarlyStartOff(tool_name="look"), call(0))
    assert play.started == []
    play.say(ended())
    assert play.started == [0]


def test_being_told_says_nothing_on() -> None:
    play = Play()
    assert play.say(i.EarlyStartOff(tool_name="look"), i.EarlyStartOff(tool_name="nobody")) == []


def test_what_runs_already_when_a_turn_is_told_runs_on() -> None:
    play = Play()
    play.say(call(0), i.EarlyStartOff(tool_name="look"))
    play.finish(0)
    assert play.outcome(0) == "ok"


def test_a_tool_may_be_late_from_the_beginning() -> None:
    play = Play(tools={"look": ToolRule(effect="read", late=True), "see": ToolRule(effect="read")})
    play.say(call(0), call(1, "see"))
    assert play.started == [1]
    play.say(ended())
    assert play.started == [1, 0]


def test_an_eager_write_of_the_tool_is_held_like_any_other() -> None:
    play = Play()
    play.say(i.EarlyStartOff(tool_name="eager_put"), call(0, "eager_put"))
    assert play.intents == []
    play.say(ended())
    assert play.intents == [0]


def test_an_eager_write_whose_intent_is_being_stored_when_early_start_goes_off_starts_after_a_good_end() -> None:
    play = Play()
    play.say(call(0, "eager_put"), i.EarlyStartOff(tool_name="eager_put"))
    play.store(0)
    assert play.started == []
    play.say(ended())
    assert play.started == [0]
    assert play.intents == [0]


def test_an_eager_write_whose_intent_was_stored_when_early_start_went_off_is_answered_after_a_cut() -> None:
    play = Play()
    play.say(call(0, "eager_put"), i.EarlyStartOff(tool_name="eager_put"))
    play.store(0)
    play.say(ended("length"))
    assert play.started == []
    assert play.outcome(0) == "error: not_executed"


# After other ends


@pytest.mark.parametrize("reason", ["length", "other", "pause"])
def test_reads_that_waited_for_the_end_run_whether_it_was_good_or_not(reason: e.StopReason) -> None:
    play = Play()
    play.say(i.EarlyStartOff(tool_name="look"), call(0), ended(reason))
    assert play.started == [0]


def test_reads_that_waited_for_the_end_run_after_an_adoption() -> None:
    play = Play()
    play.say(i.EarlyStartOff(tool_name="look"), call(0), opened(1), failed())
    assert play.started == [0]
    play.finish(0)
    assert len(play.asked) == 2


def test_reads_that_waited_for_the_end_are_cancelled_by_a_refusal() -> None:
    play = Play()
    play.say(i.EarlyStartOff(tool_name="look"), call(0), ended("refusal"))
    assert play.started == []
    assert play.outcome(0) == "cancelled: cancelled"


@pytest.mark.parametrize("reason", ["length", "other"])
def test_eager_writes_that_waited_for_the_end_do_not_run_after_a_bad_one(reason: e.StopReason) -> None:
    play = Play()
    play.say(i.EarlyStartOff(tool_name="eager_put"), call(0, "eager_put"), ended(reason))
    assert play.intents == []
    assert play.outcome(0) == "error: not_executed"


def test_eager_writes_that_waited_for_the_end_do_not_run_after_an_adoption() -> None:
    play = Play()
    play.say(i.EarlyStartOff(tool_name="eager_put"), call(0, "eager_put"), failed())
    assert play.intents == []
    assert play.outcome(0) == "error: not_executed"


def test_twins_of_a_late_tool_run_once_after_the_end() -> None:
    play = Play()
    play.say(i.EarlyStartOff(tool_name="look"), call(0, raw="{}"), call(1, raw="{}"), ended())
    assert play.started == [0]
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "ok"]


def test_an_approved_read_of_a_late_tool_waits_for_the_end() -> None:
    play = Play(tools={**TOOLS, "ask_look": ToolRule(effect="read", late=True, asks_approval=lambda _: True)})
    play.say(call(0, "ask_look"))
    play.answer(0, "approve")
    assert play.started == []
    play.say(text(1, "so"), ended())
    assert play.started == [0]


def test_a_correction_is_what_the_model_reads_of_a_call_that_had_ended() -> None:
    play = Play()
    play.say(call(0))
    play.finish(0)
    play.say(changed(0), ended())
    assert list(play.machine.corrections) == [play.call(0).call_id]


def test_a_follower_that_changes_after_the_shared_run_ended_is_corrected_alone() -> None:
    play = Play()
    play.say(call(0, raw="{}"))
    play.finish(0)
    play.say(call(1, raw="{}"), changed(1))
    assert list(play.machine.corrections) == [play.call(1).call_id]


def test_a_change_of_a_call_that_never_ran_corrects_nothing() -> None:
    play = Play()
    play.say(call(0, "nobody"), changed(0))
    assert play.machine.corrections == {}
    assert stops(play) == []
