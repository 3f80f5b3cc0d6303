"""Identical reads of one response share one execution; each has its own start, text and result."""

from __future__ import annotations

import pytest
from tests.core.play import CANCEL, Play, call, ended, failed, text
from tests.core.turns import TOOLS

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Outcome, ToolResultBlock
from legato.core.plan import TurnLimits
from legato.core.schedule import ToolRule

SAME = '{"n":1}'
TWINS = {**TOOLS, "ask_look": ToolRule(effect="read", asks_approval=lambda _: True)}


def pair(tool_name: str = "look", *, limits: TurnLimits | None = None) -> Play:
    play = Play(tools=TWINS, limits=TurnLimits() if limits is None else limits)
    play.say(call(0, tool_name, SAME), call(1, tool_name, SAME))
    return play


def shown(play: Play, place: int) -> str:
    call_id = play.call(place).call_id
    results = [block for block in play.turn.blocks if isinstance(block, ToolResultBlock)]
    return "".join(block.text for block in results if block.call_id == call_id)


# Sharing


def test_two_identical_reads_are_run_once() -> None:
    assert pair().started == [0]


def test_each_of_two_identical_reads_is_said_to_have_started() -> None:
    assert pair().said_started == [0, 1]


def test_each_of_two_identical_reads_has_the_result_and_the_model_goes_on() -> None:
    play = pair()
    play.say(ended())
    play.finish(0, output={"n": 1})
    results = [play.result(0), play.result(1)]
    assert [result.output for result in results if result is not None] == [{"n": 1}, {"n": 1}]
    assert len(play.asked) == 2


def test_what_the_execution_shows_is_shown_of_each() -> None:
    play = pair()
    play.emit(0, "look")
    play.emit(0, "ing")
    assert (shown(play, 0), shown(play, 1)) == ("looking", "looking")


def test_who_joins_late_is_shown_what_was_shown_before() -> None:
    play = Play()
    play.say(call(0, raw=SAME))
    play.emit(0, "look")
    play.say(call(1, raw=SAME))
    play.emit(0, "ing")
    play.finish(0)
    assert (shown(play, 0), shown(play, 1)) == ("looking", "looking")


def test_who_joins_after_the_end_has_the_result_and_the_text_at_once() -> None:
    play = Play()
    play.say(call(0, raw=SAME))
    play.emit(0, "looking")
    play.finish(0, output=7)
    play.say(call(1, raw=SAME))
    result = play.result(1)
    assert isinstance(result, ToolResultBlock)
    assert (result.output, result.text) == (7, "looking")
    assert (play.started, play.said_started) == ([0], [0, 1])


def test_arguments_are_the_same_however_they_are_written() -> None:
    play = Play()
    play.say(call(0, raw='{"a":1,"b":[2]}'), call(1, raw='{ "b": [2], "a": 1 }'))
    assert play.started == [0]


def test_a_word_that_names_a_follower_is_not_the_executions() -> None:
    play = pair()
    assert play.finish(1) == []
    assert play.outcome(1) is None


@pytest.mark.parametrize("outcome", ["error", "timeout", "unknown"])
def test_a_run_that_did_not_end_well_is_shared_too(outcome: Outcome) -> None:
    play = pair()
    play.say(call(2, raw=SAME))
    play.finish(0, outcome)
    assert [play.outcome(place) for place in range(3)] == [f"{outcome}: {outcome}"] * 3
    play.say(call(3, raw=SAME))
    assert play.outcome(3) == f"{outcome}: {outcome}"
    assert play.started == [0]


def test_a_large_output_is_that_of_each() -> None:
    play = pair()
    play.say(i.ToolFinished(call_id=play.call(0).call_id, outcome="ok", output="head", bytes=9_000, href="/o/1"))
    results = [play.result(0), play.result(1)]
    assert [(result.bytes, result.href) for result in results if result is not None] == [(9_000, "/o/1")] * 2


# Not sharing


@pytest.mark.parametrize("tool_name", ["put", "post", "eager_put"])
def test_calls_with_effects_run_each_for_itself(tool_name: str) -> None:
    play = pair(tool_name)
    play.say(ended())
    for place in (0, 1):
        play.store(place)
        play.finish(place)
    assert play.started == [0, 1]


def test_reads_of_a_lane_run_each_for_itself() -> None:
    assert pair("look_lane").started == [0, 1]


def test_reads_of_two_tools_with_the_same_arguments_are_two() -> None:
    play = Play()
    play.say(call(0, "look", SAME), call(1, "look_picky", SAME))
    assert play.started == [0, 1]


def test_reads_of_two_responses_are_two() -> None:
    play = Play()
    play.say(call(0, raw=SAME), ended())
    play.finish(0)
    play.say(call(0, raw=SAME))
    assert play.started == [0, 1]


def test_reads_on_both_sides_of_a_pause_are_two() -> None:
    play = Play()
    play.say(call(0, raw=SAME), ended("pause"), call(0, raw=SAME))
    assert play.started == [0, 1]


# Places


def test_sharing_takes_no_place() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0, raw=SAME), call(1), call(2, raw=SAME))
    assert play.started == [0]
    assert play.said_started == [0, 2]
    play.finish(0)
    assert play.started == [0, 1]
    assert play.outcome(2) == "ok"


def test_twins_that_wait_for_a_place_are_run_once_when_they_have_it() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(9), call(0, raw=SAME), call(1, raw=SAME))
    assert play.said_started == [0]
    play.finish(0)
    assert play.started == [0, 1]
    assert play.said_started == [0, 1, 2]


def test_each_of_two_twins_counts_in_the_calls_of_a_round() -> None:
    play = pair(limits=TurnLimits(calls_per_round=1))
    assert play.outcome(1) == "error: limit_calls"


# Cancelling


def test_an_execution_that_two_share_is_cancelled_once() -> None:
    play = pair()
    play.say(CANCEL)
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert [play.outcome(0), play.outcome(1)] == ["cancelled: cancelled"] * 2
    assert play.end() == "cancelled, cancelled"


def test_an_execution_that_ends_well_after_a_cancel_ends_well_for_each() -> None:
    play = pair()
    play.say(CANCEL)
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "ok"]


def test_a_refused_reply_cancels_a_shared_execution_once() -> None:
    play = pair()
    play.say(ended("refusal"))
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "complete, refusal"


def test_a_twin_of_an_adopted_response_keeps_what_it_shares() -> None:
    play = pair()
    play.say(failed())
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "ok"]
    assert len(play.asked) == 2


# Arguments that change


def test_a_leader_whose_arguments_change_is_an_error_and_its_follower_has_the_result() -> None:
    play = pair()
    play.say(i.CallPoisoned(key=0, message="the name changed"))
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["error: arguments_changed", "ok"]


def test_a_follower_whose_arguments_change_is_an_error_and_its_leader_has_the_result() -> None:
    play = pair()
    play.say(i.CallPoisoned(key=1, message="the name changed"))
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "error: arguments_changed"]


def test_a_waiting_twin_whose_leader_changes_before_it_ran_has_an_execution_of_its_own() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(9), call(0, raw=SAME), call(1, raw=SAME), i.CallPoisoned(key=0, message="the name changed"))
    assert play.outcome(1) == "error: arguments_changed"
    play.finish(0)
    assert play.started == [0, 2]


def test_a_leader_that_changes_while_it_waits_for_the_end_leaves_its_follower_to_run() -> None:
    play = pair()
    play.say(i.ToolDeferred(call_id=play.call(0).call_id), i.CallPoisoned(key=0, message="the name changed"))
    assert play.outcome(0) == "error: arguments_changed"
    assert play.outcome(1) is None
    assert play.started == [0]  # the wish is the tool's, and holds for whoever runs in the other's place
    play.say(ended())
    assert play.started == [0, 1]
    play.finish(1)
    assert play.outcome(1) == "ok"
    assert len(play.asked) == 2


# Later, and asking


def test_twins_whose_execution_asks_to_run_later_run_once_later() -> None:
    play = pair()
    play.say(i.ToolDeferred(call_id=play.call(0).call_id))
    assert [play.outcome(0), play.outcome(1)] == [None, None]
    play.say(ended())
    assert play.started == [0, 0]
    assert play.said_started == [0, 1]
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "ok"]


def test_who_joins_an_execution_that_waits_for_the_end_shares_it() -> None:
    play = Play()
    play.say(call(0, raw=SAME))
    play.say(i.ToolDeferred(call_id=play.call(0).call_id), call(1, raw=SAME), ended())
    assert play.started == [0, 0]
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "ok"]


def test_twins_whose_execution_asks_a_person_wait_together_and_the_person_is_asked_once() -> None:
    play = pair()
    play.say(ended(), i.ToolNeedsInput(call_id=play.call(0).call_id, message="Which?"))
    assert play.waits == {0: "input"}
    assert play.rests()
    play = play.answered(0, "approve", input={"which": 1})
    assert play.started == [0]
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "ok"]
    assert len(play.asked) == 1


def test_who_joins_an_execution_that_asks_a_person_shares_it() -> None:
    play = Play()
    play.say(call(0, raw=SAME))
    play.say(i.ToolNeedsInput(call_id=play.call(0).call_id, message="Which?"), call(1, raw=SAME))
    assert play.started == [0]
    play.answer(0, "approve", input={"which": 1})
    assert play.started == [0, 0]
    play.finish(0)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "ok"]


def test_a_cancel_answers_twins_that_wait_for_a_person() -> None:
    play = pair()
    play.say(i.ToolNeedsInput(call_id=play.call(0).call_id, message="Which?"), text(2, "so"), CANCEL)
    assert [play.outcome(0), play.outcome(1)] == ["cancelled: cancelled"] * 2
    assert play.end() == "cancelled, cancelled"


def test_when_the_wait_is_over_twins_that_wait_are_answered() -> None:
    play = pair()
    play.say(i.ToolNeedsInput(call_id=play.call(0).call_id, message="Which?"), i.WaitOver())
    assert [play.outcome(0), play.outcome(1)] == ["timeout: wait_timeout"] * 2


# Approvals


def test_a_person_is_asked_of_each_twin_and_the_second_yes_runs_nothing_anew() -> None:
    play = pair("ask_look")
    assert play.waits == {0: "approval", 1: "approval"}
    play.answer(1, "approve")
    play.answer(0, "approve")
    assert play.started == [1]
    play.finish(1)
    assert [play.outcome(0), play.outcome(1)] == ["ok", "ok"]


def test_of_two_twins_the_denied_one_does_not_run_and_the_other_does() -> None:
    play = pair("ask_look")
    play.answer(0, "deny")
    play.answer(1, "approve")
    assert play.started == [1]
    play.finish(1)
    assert [play.outcome(0), play.outcome(1)] == ["denied: denied", "ok"]


def test_edited_arguments_may_make_a_twin_and_the_result_says_what_ran() -> None:
    play = Play(tools=TWINS)
    play.say(call(0, "ask_look", '{"n":1}'), call(1, "ask_look", '{"n":2}'))
    play.answer(0, "approve")
    play.answer(1, "approve", input={"n": 1})
    play.finish(0)
    results = [play.result(0), play.result(1)]
    assert [result.outcome for result in results if result is not None] == ["ok", "ok"]
    assert [result.ran_input == {"n": 1} for result in results if result is not None] == [False, True]


def test_a_twin_whose_edited_arguments_differ_runs_for_itself() -> None:
    play = pair("ask_look")
    play.answer(0, "approve")
    play.answer(1, "approve", input={"n": 2})
    assert play.started == [0, 1]
    assert [start.input for start in play.begun] == [{"n": 1}, {"n": 2}]


# Resting


def test_twins_that_run_keep_a_turn_from_resting() -> None:
    play = Play(client_tools=("pick",))
    play.say(call(0, raw=SAME), call(1, raw=SAME), call(2, "pick"), ended())
    assert not play.rests()
    actions = play.finish(0)
    assert play.rests()
    assert isinstance(actions[-1], e.TurnWaiting)


def test_only_one_start_is_asked_for_whatever_the_number_of_twins() -> None:
    play = Play()
    play.say([each for key in range(5) for each in call(key, raw=SAME)])
    assert len([action for action in play.actions if isinstance(action, a.StartTool)]) == 1
