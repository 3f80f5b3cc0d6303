"""A tool that asks to run once its response has ended (``NotNow``)."""

from __future__ import annotations

import pytest
from tests.core.play import CANCEL, Play, call, ended, failed, opened, text

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import ToolResultBlock
from legato.core.plan import TurnLimits


def later(play: Play, place: int) -> list[a.Action]:
    return play.say(i.ToolDeferred(call_id=play.call(place).call_id))


def test_a_read_that_would_rather_wait_runs_again_once_the_response_has_ended() -> None:
    play = Play()
    play.say(call(0))
    later(play, 0)
    play.say(text(1, "meanwhile"))
    assert play.started == [0]
    play.say(ended())
    assert play.started == [0, 0]
    play.finish(0)
    assert play.outcome(0) == "ok"
    assert len(play.asked) == 2


def test_readers_are_told_once_that_it_started() -> None:
    play = Play()
    play.say(call(0))
    later(play, 0)
    play.say(ended())
    assert play.said_started == [0]


def test_both_runs_have_one_key() -> None:
    play = Play()
    play.say(call(0))
    later(play, 0)
    play.say(ended())
    assert len({start.idempotency_key for start in play.begun}) == 1


def test_what_it_showed_before_it_asked_to_wait_stays_and_grows() -> None:
    play = Play()
    play.say(call(0))
    play.emit(0, "not ")
    later(play, 0)
    play.emit(0, "ignored")
    play.say(ended())
    play.emit(0, "yet")
    play.finish(0)
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert result.text == "not yet"


def test_an_eager_write_that_would_rather_wait_runs_after_a_good_end_and_stores_no_second_intent() -> None:
    play = Play()
    play.say(call(0, "eager_put"))
    play.store(0)
    later(play, 0)
    play.say(ended())
    assert play.started == [0, 0]
    assert play.intents == [0]


def test_an_eager_write_that_would_rather_wait_keeps_its_lane() -> None:
    play = Play()
    play.say(call(0, "eager_post_b"))
    play.store(0)
    later(play, 0)
    play.say(call(1, "eager_post_b"))
    assert play.intents == [0]
    play.say(ended())
    play.finish(0)
    assert play.intents == [0, 1]


def test_it_holds_no_place_while_it_waits() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0), call(1))
    assert play.started == [0]
    later(play, 0)
    assert play.started == [0, 1]


def test_it_waits_over_no_pause_when_it_is_a_read() -> None:
    play = Play()
    play.say(call(0))
    later(play, 0)
    play.say(ended("pause"))
    assert play.started == [0, 0]


def test_an_eager_write_waits_over_a_pause_for_the_good_end() -> None:
    play = Play()
    play.say(call(0, "eager_put"))
    play.store(0)
    later(play, 0)
    play.say(ended("pause"))
    assert play.started == [0]
    play.say(text(0, "So."), ended("end"))
    assert play.started == [0, 0]


@pytest.mark.parametrize("reason", ["length", "other"])
def test_after_a_cut_a_read_runs_and_a_write_is_answered(reason: e.StopReason) -> None:
    play = Play()
    play.say(call(0), call(1, "eager_put"))
    play.store(1)
    later(play, 0)
    later(play, 1)
    play.say(ended(reason))
    assert play.started == [0, 1, 0]
    assert play.outcome(1) == "error: not_executed"


def test_after_an_adoption_a_read_runs_and_a_write_is_answered() -> None:
    play = Play()
    play.say(call(0), call(1, "eager_put"))
    play.store(1)
    later(play, 0)
    later(play, 1)
    play.say(failed())
    assert play.started == [0, 1, 0]
    assert play.outcome(1) == "error: not_executed"


def test_after_a_refusal_it_never_runs() -> None:
    play = Play()
    play.say(call(0))
    later(play, 0)
    play.say(ended("refusal"))
    assert play.started == [0]
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.end() == "complete, refusal"


def test_a_cancel_answers_it_and_it_never_runs() -> None:
    play = Play()
    play.say(call(0))
    later(play, 0)
    play.say(CANCEL)
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.told == []
    assert play.end() == "cancelled, cancelled"


def test_a_read_that_asks_once_the_response_has_ended_is_answered_with_an_error() -> None:
    play = Play()
    play.say(call(0), ended())
    later(play, 0)
    assert play.outcome(0) == "error: not_now"
    assert play.started == [0]
    assert len(play.asked) == 2


def test_a_write_that_asks_once_its_response_is_committed_is_answered_with_an_error() -> None:
    play = Play()
    play.say(call(0, "post"), ended())
    play.store(0)
    later(play, 0)
    assert play.outcome(0) == "error: not_now"


def test_a_read_that_asks_once_a_cut_reply_has_ended_is_answered_with_an_error() -> None:
    """There is no good end to wait for either; run again at once, it would ask for ever."""
    play = Play()
    play.say(call(0), ended("length"))
    later(play, 0)
    assert play.outcome(0) == "error: not_now"
    assert play.started == [0]


def test_a_second_wish_is_an_error_like_any_other() -> None:
    play = Play()
    play.say(call(0))
    later(play, 0)
    play.say(ended())
    later(play, 0)
    assert play.outcome(0) == "error: not_now"
    assert play.started == [0, 0]
    assert len(play.asked) == 2


def test_a_second_wish_ends_the_turn_in_no_circle() -> None:
    play = Play()
    play.say(call(0))
    later(play, 0)
    assert later(play, 0) == []
    play.say(ended())
    play.finish(0)
    assert play.outcome(0) == "ok"


def test_an_eager_write_whose_wish_comes_after_a_cut_is_not_executed() -> None:
    play = Play()
    play.say(call(0, "eager_put"))
    play.store(0)
    play.say(ended("length"))
    later(play, 0)
    assert play.outcome(0) == "error: not_executed"
    assert len(play.asked) == 2


def test_an_eager_write_whose_wish_comes_after_an_adoption_is_not_executed() -> None:
    play = Play()
    play.say(call(0, "eager_put"))
    play.store(0)
    play.say(opened(1), failed())
    later(play, 0)
    assert play.outcome(0) == "error: not_executed"
    assert len(play.asked) == 2


def test_a_wish_after_a_cancel_is_a_cancelled_call() -> None:
    play = Play()
    play.say(call(0), CANCEL)
    assert play.told == [0]
    later(play, 0)
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.end() == "cancelled, cancelled"


def test_a_wish_of_a_call_that_has_ended_changes_nothing() -> None:
    play = Play()
    play.say(call(0))
    play.finish(0)
    assert later(play, 0) == []


def test_a_call_whose_arguments_change_after_it_asked_to_wait_has_done_nothing_and_never_runs() -> None:
    play = Play()
    play.say(call(0))
    later(play, 0)
    play.say(i.CallPoisoned(key=0, message="the name changed"), ended())
    assert play.outcome(0) == "error: arguments_changed"
    assert play.started == [0]


def test_a_tool_that_had_asked_a_person_and_would_rather_wait_is_called_with_the_answer_later() -> None:
    play = Play()
    play.say(call(0))
    play.say(i.ToolNeedsInput(call_id=play.call(0).call_id, message="Which?", state=7))
    play.answer(0, "approve", input={"which": 1})
    later(play, 0)
    play.say(text(1, "meanwhile"))
    assert play.started == [0, 0]
    play.say(ended())
    assert play.started == [0, 0, 0]
    assert play.begun[2].resumed == play.begun[1].resumed
    assert play.begun[2].resumed is not None


def test_a_tool_that_asks_a_person_and_then_would_rather_wait_is_not_shown_as_waited_for() -> None:
    play = Play()
    play.say(call(0))
    play.say(i.ToolAsked(call_id=play.call(0).call_id, message="Go on?"))
    later(play, 0)
    assert play.turn.waiting == {}
    play.say(ended())
    play.finish(0)
    assert play.outcome(0) == "ok"
