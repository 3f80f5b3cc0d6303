"""A call that waits for a person's yes: asked at the seal, and never run on anything else than what was approved."""

from __future__ import annotations

import pytest
from tests.core.play import CANCEL, Play, call, ended, failed, text
from tests.core.turns import TOOLS

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.arguments import canonical_sha256
from legato.core.blocks import Json, ToolResultBlock
from legato.core.plan import TurnLimits
from legato.core.records import Answer
from legato.core.schedule import ToolRule


def _lane(given: dict[str, Json]) -> str | None:
    return f"lane-{given.get('lane', 0)}"


def _no_13(given: dict[str, Json]) -> str | None:
    return "n must not be 13" if given.get("n") == 13 else None


APPROVED = {
    **TOOLS,
    "ask_look": ToolRule(effect="read", asks_approval=lambda _: True, check=_no_13),
    "ask_post": ToolRule(effect="write", asks_approval=lambda _: True, check=_no_13),
    "ask_put_lane": ToolRule(effect="idempotent", asks_approval=lambda _: True, lane=_lane),
    "ask_eager": ToolRule(effect="write", eager=True, asks_approval=lambda _: True),
    "put_lane": ToolRule(effect="idempotent", lane=_lane),
}


def asking(*, limits: TurnLimits | None = None) -> Play:
    return Play(tools=APPROVED, limits=TurnLimits() if limits is None else limits)


# Asking


def test_an_approval_is_asked_at_the_seal_while_the_model_still_talks() -> None:
    play = asking()
    actions = play.say(call(0, "ask_post", '{"n":1}'))
    assert play.waits == {0: "approval"}
    assert isinstance(actions[-2], e.CallWaiting)
    assert isinstance(actions[-1], a.StoreNeed)
    assert actions[-1].need.input_sha256 == canonical_sha256({"n": 1})
    play.say(i.BlockOpened(key=1, block_type="text"), i.Delta(1, "meanwhile"))
    assert play.turn.open[1].text == "meanwhile"


def test_a_call_is_not_asked_about_whose_tool_does_not_ask_for_these_arguments() -> None:
    play = Play(tools={"look": ToolRule(effect="read", asks_approval=lambda given: given["n"] == 1)})
    play.say(call(0, raw='{"n":0}'), call(1, raw='{"n":1}'))
    assert play.started == [0]
    assert play.waits == {1: "approval"}


@pytest.mark.parametrize("raw", ['{"n":13}', '{"n":', "[1]"])
def test_nobody_is_asked_about_a_call_that_can_never_run(raw: str) -> None:
    play = asking()
    play.say(call(0, "ask_post", raw), ended())
    assert play.needs == {}
    assert play.result(0) is not None


def test_nobody_is_asked_about_a_call_that_is_over_a_limit() -> None:
    play = asking(limits=TurnLimits(calls_per_round=1))
    play.say(call(0), call(1, "ask_post"))
    assert play.needs == {}
    assert play.outcome(1) == "error: limit_calls"


# Yes


def test_an_approved_read_starts_at_once_while_the_model_still_talks() -> None:
    play = asking()
    play.say(call(0, "ask_look"))
    assert play.started == []
    play.answer(0, "approve")
    assert play.started == [0]
    assert play.waits == {}


def test_an_approved_write_still_waits_for_the_end_of_its_response_and_for_its_intent() -> None:
    play = asking()
    play.say(call(0, "ask_post"))
    play.answer(0, "approve")
    assert (play.intents, play.started) == ([], [])
    play.say(ended())
    assert (play.intents, play.started) == ([0], [])
    play.store(0)
    assert play.started == [0]


def test_a_write_that_is_approved_after_its_response_has_ended_asks_for_its_intent_then() -> None:
    play = asking()
    play.say(call(0, "ask_post"), call(1), ended())
    assert play.intents == []
    play.answer(0, "approve")
    assert play.intents == [0]


def test_an_eager_write_that_is_approved_while_the_model_talks_asks_for_its_intent_at_once() -> None:
    play = asking()
    play.say(call(0, "ask_eager"))
    assert play.intents == []
    play.answer(0, "approve")
    assert play.intents == [0]


def test_an_approved_write_still_waits_for_the_calls_before_it_in_its_lane() -> None:
    play = asking()
    play.say(call(0, "post"), call(1, "ask_post"), call(2), ended())
    play.answer(1, "approve")
    assert play.intents == [0]
    play.store(0)
    play.finish(0)
    assert play.intents == [0, 1]


def test_a_call_waits_behind_one_of_its_lane_that_waits_for_a_person() -> None:
    play = asking()
    play.say(call(0, "ask_post"), call(1, "post"), ended())
    assert play.rests()
    assert play.intents == []
    assert play.answered(0, "deny").intents == [1]


def test_a_call_of_another_lane_does_not_wait_behind_one_that_waits_for_a_person() -> None:
    play = asking()
    play.say(call(0, "ask_post"), call(1, "put_lane"), ended())
    assert play.intents == [1]


# Other arguments


def test_what_runs_are_the_arguments_that_a_person_put_in_the_place_of_the_models() -> None:
    play = asking()
    play.say(call(0, "ask_post", '{"n":1}'), call(1), ended())
    intent = next(each.intent for each in play.answer(0, "approve", input={"n": 2}) if isinstance(each, a.StoreIntent))
    assert (intent.input, intent.input_sha256) == ({"n": 2}, canonical_sha256({"n": 2}))
    play.store(0)
    assert [(start.input, start.idempotency_key) for start in play.begun[1:]] == [({"n": 2}, intent.idempotency_key)]


def test_the_key_of_edited_arguments_is_that_of_a_call_which_had_them_from_the_beginning() -> None:
    edited, plain = asking(), asking()
    edited.say(call(0, "ask_look", '{"n":1}'))
    edited.answer(0, "approve", input={"n": 2})
    plain.say(call(0, "ask_look", '{"n":2}'))
    plain.answer(0, "approve")
    assert edited.begun[0].idempotency_key == plain.begun[0].idempotency_key


def test_the_history_keeps_the_models_arguments_and_the_result_says_what_ran() -> None:
    play = asking()
    play.say(call(0, "ask_look", '{"n":1}'))
    play.answer(0, "approve", input={"n": 2})
    play.finish(0)
    result = play.result(0)
    assert play.call(0).input == {"n": 1}
    assert isinstance(result, ToolResultBlock)
    assert result.ran_input == {"n": 2}


def test_a_result_says_what_ran_also_of_a_call_that_failed() -> None:
    play = asking()
    play.say(call(0, "ask_look", '{"n":1}'))
    play.answer(0, "approve", input={"n": 2})
    play.say(i.ToolFinished(call_id=play.call(0).call_id, outcome="error"))
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert result.ran_input == {"n": 2}


def test_readers_are_told_which_arguments_were_approved() -> None:
    play = asking()
    play.say(call(0, "ask_look", '{"n":1}'))
    answered = play.answer(0, "approve", input={"n": 2})[0]
    assert isinstance(answered, e.CallAnswered)
    assert (answered.decision, answered.input) == ("approve", {"n": 2})


def test_the_models_own_arguments_sent_back_are_no_other_arguments() -> None:
    play = asking()
    play.say(call(0, "ask_look", '{"n":1}'))
    play.answer(0, "approve", input={"n": 1})
    play.finish(0)
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert not isinstance(result.ran_input, dict)


def test_edited_arguments_that_the_tool_does_not_take_are_answered_and_never_run() -> None:
    play = asking()
    play.say(call(0, "ask_post", '{"n":1}'), ended())
    play = play.answered(0, "approve", input={"n": 13})
    assert play.outcome(0) == "error: invalid_arguments"
    assert (play.intents, play.started) == ([], [])
    assert len(play.asked) == 1
    result = play.result(0)
    assert isinstance(result, ToolResultBlock)
    assert not isinstance(result.ran_input, dict)


def test_a_call_goes_into_the_lane_of_its_edited_arguments() -> None:
    play = asking()
    play.say(call(0, "ask_put_lane", '{"lane":1}'), call(1, "put_lane", '{"lane":2}'), ended())
    assert play.intents == [1]
    play.store(1)
    play.answer(0, "approve", input={"lane": 3})
    assert play.intents == [1, 0]


def test_a_call_that_edited_arguments_put_into_the_lane_of_a_running_one_waits_for_it() -> None:
    play = asking()
    play.say(call(0, "put_lane", '{"lane":2}'), call(1, "ask_put_lane", '{"lane":1}'), ended())
    play.store(0)
    play.answer(1, "approve", input={"lane": 2})
    assert play.intents == [0]
    play.finish(0)
    assert play.intents == [0, 1]


def test_a_call_that_edited_arguments_put_into_the_lane_of_a_later_one_that_runs_waits_for_it() -> None:
    play = asking()
    play.say(call(0, "ask_put_lane", '{"lane":1}'), call(1, "put_lane", '{"lane":2}'), ended())
    play.store(1)
    play.answer(0, "approve", input={"lane": 2})
    assert play.intents == [1]
    play.finish(1)
    assert play.intents == [1, 0]
    assert not play.rests()


# No


def test_a_denied_call_never_runs_and_the_model_reads_why() -> None:
    play = asking()
    play.say(call(0, "ask_post"), ended())
    play = play.answered(0, "deny", reason="not today")
    assert play.outcome(0) == "denied: denied"
    assert "not today" in play.said_why(0)
    assert (play.intents, play.started) == ([], [])
    assert [request.round for request in play.asked] == [2]


def test_a_denial_without_a_reason_is_a_denial() -> None:
    play = asking()
    play.say(call(0, "ask_post"))
    play.answer(0, "deny")
    assert play.outcome(0) == "denied: denied"


def test_a_denied_call_is_not_said_to_have_started() -> None:
    play = asking()
    play.say(call(0, "ask_look"))
    play.answer(0, "deny")
    assert play.said_started == []


def test_arguments_that_come_with_a_denial_run_nothing() -> None:
    play = asking()
    play.say(call(0, "ask_look"))
    play.answer(0, "deny", input={"n": 2})
    assert play.started == []
    assert play.outcome(0) == "denied: denied"


# Answers that nobody waits for


def test_a_second_answer_changes_nothing() -> None:
    play = asking()
    play.say(call(0, "ask_look"))
    play.answer(0, "approve")
    assert play.answer(0, "deny") == []
    assert play.answer(0, "approve", input={"n": 2}) == []
    assert play.started == [0]


def test_an_answer_for_a_call_that_does_not_wait_changes_nothing() -> None:
    play = asking()
    play.say(call(0))
    assert play.answer(0, "deny") == []
    assert play.outcome(0) is None
    assert play.say(i.Answered(answer=Answer(call_id="call_nobody", decision="approve"))) == []


def test_an_answer_after_a_cancel_runs_nothing() -> None:
    play = asking()
    play.say(call(0, "ask_look"), call(1), CANCEL)
    assert play.answer(0, "approve") == []
    assert play.started == [1]


# How the response ends meanwhile


def test_the_turn_waits_exactly_when_nothing_is_left_but_people() -> None:
    play = asking()
    play.say(call(0, "ask_post"), call(1), ended())
    assert not play.rests()
    actions = play.finish(1)
    assert play.rests()
    assert isinstance(actions[-1], e.TurnWaiting)
    assert play.turn.status == "waiting"


def test_a_turn_does_not_wait_while_its_model_talks() -> None:
    play = asking()
    play.say(call(0, "ask_post"))
    assert not play.rests()
    play.say(text(1, "Shall I?"))
    assert not play.rests()


def test_a_turn_does_not_wait_while_an_intent_is_being_stored() -> None:
    play = asking()
    play.say(call(0, "put_lane"), call(1, "ask_post"), ended())
    assert not play.rests()
    play.store(0)
    assert not play.rests()
    play.finish(0)
    assert play.rests()


def test_an_approval_that_comes_before_the_response_has_ended_lets_no_turn_wait() -> None:
    play = asking()
    play.say(call(0, "ask_look"))
    play.answer(0, "approve")
    play.finish(0)
    play.say(ended())
    assert len(play.asked) == 2
    assert not [event for event in play.events if isinstance(event, e.TurnWaiting)]


@pytest.mark.parametrize("reason", ["length", "other"])
def test_a_write_that_waits_for_a_yes_is_answered_when_the_reply_is_cut_off_and_a_read_waits_on(
    reason: e.StopReason,
) -> None:
    play = asking()
    play.say(call(0, "ask_post"), call(1, "ask_look"), ended(reason))
    assert play.outcome(0) == "error: not_executed"
    assert play.waits == {1: "approval"}
    assert play.rests()


def test_a_write_that_waits_for_a_yes_is_answered_when_its_response_is_adopted() -> None:
    play = asking()
    play.say(call(0, "ask_post"), call(1, "ask_look"), failed())
    assert play.outcome(0) == "error: not_executed"
    assert play.waits == {1: "approval"}
    assert play.answered(1, "approve").started == [1]


def test_a_write_that_was_approved_does_not_run_when_its_response_dies() -> None:
    play = asking()
    play.say(call(0, "ask_post"))
    play.answer(0, "approve")
    play.say(failed())
    assert play.outcome(0) == "error: not_executed"
    assert play.intents == []


def test_a_refused_reply_waits_for_nobody() -> None:
    play = asking()
    play.say(call(0, "ask_post"), call(1, "ask_look"), ended("refusal"))
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.end() == "complete, refusal"
    assert play.turn.waiting == {}


def test_approvals_wait_over_a_pause_and_the_model_goes_on_meanwhile() -> None:
    play = asking()
    play.say(call(0, "ask_post"), call(1, "ask_look"), ended("pause"))
    assert len(play.asked) == 2
    assert play.waits == {0: "approval", 1: "approval"}
    play.answer(1, "approve")
    assert play.started == [1]
    play.answer(0, "approve")
    assert play.intents == []
    play.say(text(0, "So."), ended("end"))
    assert play.intents == [0]


def test_a_cancel_answers_what_waits_for_a_person() -> None:
    play = asking()
    play.say(call(0, "ask_look"), text(1, "Shall I?"), CANCEL)
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.end() == "cancelled, cancelled"
    assert play.turn.waiting == {}


def test_when_the_wait_is_over_the_calls_that_wait_are_answered_and_the_model_reads_it() -> None:
    play = asking()
    play.say(call(0, "ask_look"), call(1, "ask_post"), call(2, "put"), call(3), ended())
    play.say(i.WaitOver())
    assert [play.outcome(0), play.outcome(1), play.outcome(2)] == ["timeout: wait_timeout"] * 2 + [None]
    play.store(2)
    play.finish(2)
    play.finish(3)
    assert len(play.asked) == 2


def test_the_end_of_a_wait_touches_no_call_that_does_not_wait() -> None:
    play = asking()
    play.say(call(0), i.WaitOver())
    assert play.outcome(0) is None
    assert play.say(i.WaitOver()) == []


# Arguments that change


def test_a_call_whose_arguments_change_while_a_person_thinks_never_runs() -> None:
    play = asking()
    play.say(call(0, "ask_look"), i.CallPoisoned(key=0, message="the name changed"))
    assert play.outcome(0) == "error: arguments_changed"
    assert play.turn.waiting == {}
    assert play.answer(0, "approve") == []
    assert play.started == []


def test_a_call_whose_arguments_change_while_a_person_thinks_switches_no_early_start_off() -> None:
    play = asking()
    play.say(call(0, "ask_look"), i.CallPoisoned(key=0, message="the name changed"))
    assert not [action for action in play.actions if isinstance(action, a.StopEarlyStart)]


# Places


def test_a_call_that_waits_for_a_person_holds_no_place() -> None:
    play = asking(limits=TurnLimits(parallel_calls=1))
    play.say(call(0, "ask_look"), call(1))
    assert play.started == [1]
    play.answer(0, "approve")
    assert play.started == [1]
    play.finish(1)
    assert play.started == [1, 0]
