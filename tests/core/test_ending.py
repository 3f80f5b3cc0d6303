"""How calls end, and what a cancel, a limit of time and a response's end make of them (docs/tools.md; P3, P11)."""

from __future__ import annotations

import pytest
from tests.core.play import (
    CANCEL,
    Play,
    call,
    ended,
    failed,
    opened,
    provider_call,
    provider_result,
    text,
    thinking,
    used,
)
from tests.core.turns import FATAL

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Outcome
from legato.core.plan import TurnLimits
from legato.core.usage import UNKNOWN, Prices, Usage, of_a_death

HARD = i.TimeUp(kind="hard")


# A call ends exactly once


@pytest.mark.parametrize("outcome", ["ok", "error", "timeout", "cancelled", "unknown"])
def test_however_a_call_ends_the_model_is_asked_again_with_its_result(outcome: Outcome) -> None:
    play = Play()
    play.say(call(0), ended())
    assert len(play.asked) == 1
    play.finish(0, outcome)
    assert play.outcome(0) == ("ok" if outcome == "ok" else f"{outcome}: {outcome}")
    assert [request.round for request in play.asked] == [1, 2]


def test_a_second_end_and_a_late_word_of_a_call_are_ignored() -> None:
    play = Play()
    play.say(call(0), call(1), ended())
    play.finish(0)
    assert play.finish(0, "error") == []
    assert play.emit(0, "still here") == []
    assert play.outcome(0) == "ok"


def test_a_result_opens_with_the_first_word_of_its_tool_and_keeps_its_place() -> None:
    play = Play()
    play.say(call(0), call(1))
    play.emit(1, "one")
    play.emit(0, "two")
    play.finish(0)
    play.emit(1, " more")
    play.finish(1)
    assert [(block.index, block.text) for block in play.turn.blocks[2:]] == [(2, "one more"), (3, "two")]


def test_what_a_tool_shows_is_clean_text() -> None:
    play = Play()
    play.say(call(0))
    play.emit(0, "a\0b\ud800")
    assert play.emit(0, "") == []
    play.finish(0)
    assert play.block(1).text == "a\ufffdb\ufffd"


def test_one_failing_call_touches_no_other() -> None:
    play = Play()
    play.say(call(0), call(1), ended())
    play.finish(0, "error")
    assert play.told == []
    assert play.outcome(1) is None
    play.finish(1)
    assert (play.outcome(0), play.outcome(1)) == ("error: error", "ok")


def test_the_next_request_waits_for_the_last_result_and_for_all_before_it_to_be_stored() -> None:
    play = Play()
    play.say(call(0), call(1), ended())
    play.finish(1)
    assert len(play.asked) == 1
    play.finish(0)
    request = play.asked[1]
    results = [event.seq for event in play.events if isinstance(event, e.BlockStop) and event.outcome == "ok"]
    stops = [event.seq for event in play.events if isinstance(event, e.RoundStop)]
    assert request.after_seq >= max(results + stops)
    assert play.asked[0].after_seq == 0  # what it answers was stored before the turn began


# The reasons for which a response ends


def test_a_response_that_ends_without_a_call_ends_the_turn() -> None:
    play = Play()
    play.say(text(0, "Here."), ended("end"))
    assert play.end() == "complete, end"


@pytest.mark.parametrize("reason", ["end", "calls"])
def test_calls_count_whatever_the_provider_calls_the_end(reason: e.StopReason) -> None:
    play = Play()
    play.say(call(0), ended(reason))
    play.finish(0)
    assert len(play.asked) == 2


def test_a_response_that_promises_calls_and_makes_none_ends_the_turn() -> None:
    play = Play()
    play.say(text(0, "Let me see"), ended("calls"))
    assert play.end() == "complete, end"


@pytest.mark.parametrize("reason", ["length", "other"])
def test_a_response_that_was_cut_off_drops_its_open_call_lets_reads_stand_and_answers_held_ones(
    reason: e.StopReason,
) -> None:
    play = Play()
    play.say(call(0), call(1, "post"), opened(2), i.Delta(2, '{"n":'), ended(reason))
    assert play.block(2).state == "partial"
    assert play.outcome(0) is None
    assert (play.outcome(1), play.said_why(1)) == ("error: not_executed", "not executed: the reply was cut off")
    play.finish(0)
    assert [request.round for request in play.asked] == [1, 2]
    assert play.intents == []
    assert [block.index for block in play.calls] == [0, 1]


def test_a_reply_that_was_cut_off_without_a_call_is_the_end() -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "on and on "), ended("length"))
    assert (play.end(), play.block(0).state) == ("complete, length", "partial")


def test_an_unknown_reason_is_taken_as_cut_off_and_noted() -> None:
    play = Play()
    play.say(text(0, "so"), ended("other", "mystery"))
    assert play.end() == "complete, other"
    notice = next(event for event in play.events if isinstance(event, e.Notice))
    assert (notice.code, notice.message) == (
        "provider_stop",
        "the provider stopped with 'mystery'; taken as cut off",
    )
    assert play.turn.rounds[0].provider_reason == "mystery"


def test_a_refusal_cancels_what_runs_orphans_the_response_and_asks_nothing_more() -> None:
    play = Play()
    play.say(call(0), call(1, "post"), ended("refusal"))
    assert play.told == [0]
    assert play.outcome(1) == "cancelled: cancelled"
    assert not play.machine.ended
    play.finish(0, "cancelled")
    assert play.end() == "complete, refusal"
    assert play.turn.rounds[0].commitment == "orphaned"
    assert len(play.asked) == 1


# Pause


def test_at_a_pause_the_model_is_asked_to_go_on_at_once_and_calls_with_effects_stay_held() -> None:
    play = Play()
    play.say(call(0), call(1, "post"), ended("pause"))
    assert len(play.asked) == 2
    assert (play.started, play.intents) == ([0], [])
    play.say(text(0, "going on"))
    play.finish(0)
    assert play.intents == []
    play.say(ended("end"))
    assert play.intents == [1]
    play.store(1)
    play.finish(1)
    assert [request.round for request in play.asked] == [1, 2, 3]


def test_a_pause_that_no_round_is_left_for_answers_the_held_calls_and_ends_the_turn() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    play.say(call(0), call(1, "post"), ended("pause"), text(0, "still at it"), ended("pause"))
    assert play.outcome(1) == "error: not_executed"
    assert play.end() is None
    play.finish(0)
    assert play.end() == "complete, limit_rounds"


def test_calls_carried_over_a_pause_are_answered_when_the_response_that_went_on_dies() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0), call(1), call(2, "post"), ended("pause"))
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "half a wo"), failed())
    assert (play.outcome(1), play.outcome(2)) == ("error: not_executed", "error: not_executed")
    assert play.end() is None
    play.finish(0)
    assert (play.end(), play.started) == ("error, error", [0])


def test_calls_carried_over_a_pause_are_answered_when_the_provider_refuses_to_go_on() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0), call(1), ended("pause"), failed(FATAL))
    assert play.outcome(1) == "error: not_executed"
    play.finish(0)
    assert play.end() == "error, error"


def test_a_providers_own_call_is_paired_with_its_result_even_over_a_pause_and_is_not_ours_to_answer() -> None:
    play = Play()
    play.say(provider_call(0, "srv_1"), provider_call(1, "srv_2"), provider_result(2, "srv_1"), ended("pause"))
    play.say(provider_result(0, "srv_2"), text(1, "Found."), ended("end"))
    one, two, answer_one, answer_two, _ = play.turn.blocks
    ids = [getattr(block, "call_id", None) for block in (one, two, answer_one, answer_two)]
    assert ids[:2] == ids[2:]
    assert (play.calls, play.started) == ([], [])
    assert play.end() == "complete, end"


def test_a_providers_result_without_an_id_is_no_answer_to_a_call_of_ours() -> None:
    play = Play()
    play.say(call(0), provider_result(1, ""), ended())
    ids = {getattr(block, "call_id", None) for block in play.turn.blocks}
    assert len(ids) == 2
    assert play.outcome(0) is None


# Cancel


def test_a_cancel_keeps_what_was_said_answers_what_waits_and_tells_what_runs() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0), call(1), call(2, "post"), i.BlockOpened(key=3, block_type="text"), i.Delta(3, "half a wo"))
    actions = play.say(CANCEL)
    assert [type(action) for action in actions[:3]] == [e.BlockStop, e.RoundStop, a.StopModel]
    assert (play.block(3).state, play.block(3).text) == ("partial", "half a wo")
    assert play.told == [0]
    assert (play.outcome(1), play.outcome(2)) == ("cancelled: cancelled", "cancelled: cancelled")
    assert play.end() is None
    play.finish(0, "cancelled")
    assert play.end() == "cancelled, cancelled"
    record = play.turn.rounds[0]
    assert (record.commitment, record.kept_to) == ("adopted", 3)


def test_a_cancel_drops_the_open_call() -> None:
    play = Play()
    play.say(opened(0), i.Delta(0, '{"n":1}'), CANCEL)
    assert play.end() == "cancelled, cancelled"
    assert [(type(block).__name__, block.state) for block in play.turn.blocks] == [("ToolUseBlock", "partial")]


def test_a_cancel_before_the_first_word_leaves_an_orphaned_round() -> None:
    play = Play()
    play.say(CANCEL)
    assert play.end() == "cancelled, cancelled"
    assert play.turn.rounds[0].commitment == "orphaned"
    assert play.turn.blocks == ()


def test_a_cancel_between_two_responses_starts_and_asks_nothing_more() -> None:
    play = Play()
    play.say(call(0), call(1, "post"), ended())
    play.say(CANCEL)
    play.store(1)
    play.finish(0)
    assert play.end() == "cancelled, cancelled"
    assert (play.started, len(play.asked)) == ([0], 1)
    assert play.turn.rounds[0].commitment == "committed"


def test_a_tool_that_ends_well_after_a_cancel_keeps_its_result() -> None:
    play = Play()
    play.say(call(0), ended(), CANCEL)
    play.finish(0)
    assert (play.outcome(0), play.end()) == ("ok", "cancelled, cancelled")


def test_a_cancel_may_be_repeated_and_after_the_end_changes_nothing() -> None:
    play = Play()
    play.say(call(0), ended(), CANCEL, CANCEL)
    play.finish(0, "cancelled")
    assert play.end() == "cancelled, cancelled"
    assert play.say(CANCEL, HARD, i.Noted(code="x", message="y"), failed()) == []


def test_what_the_model_says_after_a_cancel_is_not_heard() -> None:
    play = Play()
    play.say(call(0), CANCEL)
    assert play.say(text(9, "more"), call(10), used(1, 1), ended()) == []


def test_a_cancel_wins_over_an_end_that_has_not_come_yet() -> None:
    play = Play()
    play.say(call(0), ended("refusal"), CANCEL)
    play.finish(0, "cancelled")
    assert play.end() == "cancelled, cancelled"


# The end of a turn's time


def test_when_the_time_is_up_the_turn_stops_and_keeps_what_was_said() -> None:
    play = Play()
    play.say(call(0), text(1, "So far"), HARD)
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "complete, limit_seconds"
    assert play.turn.rounds[0].commitment == "adopted"


def test_the_end_of_time_does_not_hide_the_error_that_ended_the_turn() -> None:
    play = Play()
    play.say(call(0), ended("pause"), i.BlockOpened(key=0, block_type="text"), failed(FATAL))
    play.say(HARD)
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "error, error"
    assert play.turn.error == FATAL


def test_a_turn_that_is_cancelled_stays_so_when_its_time_is_up_or_its_server_stops() -> None:
    play = Play()
    play.say(call(0), CANCEL, HARD, i.Interrupted(error=FATAL))
    play.finish(0, "cancelled")
    assert play.end() == "cancelled, cancelled"


# The server stops, the store gave up, or there is a bug


def test_an_interrupted_turn_ends_in_its_error_with_every_call_answered() -> None:
    play = Play()
    play.say(call(0), call(1, "post"), i.Interrupted(error=FATAL))
    assert play.told == [0]
    play.finish(0, "unknown")
    assert (play.end(), play.turn.error) == ("error, error", FATAL)
    assert (play.outcome(0), play.outcome(1)) == ("unknown: unknown", "cancelled: cancelled")


def test_calls_that_were_told_to_stop_are_told_again_when_the_turn_is_interrupted() -> None:
    """Whoever ends a broken turn answers the calls it is told of; those told before are among them."""
    play = Play()
    play.say(call(0), ended(), CANCEL)
    assert [type(action) for action in play.say(i.Interrupted(error=FATAL))] == [a.CancelTool]


# What a response's usage is


def test_usage_is_the_sum_of_all_requests_and_of_a_response_that_died_an_estimate() -> None:
    play = Play()
    play.say(used(10, 1), used(10, 5), call(0), ended())
    play.finish(0)
    play.say(used(20, 7), text(0, "Here"), CANCEL)
    assert [record.usage.source for record in play.turn.rounds] == ["reported", "estimated"]
    usage = play.turn.usage
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (30, 12, "estimated")


def test_what_was_reported_before_a_response_died_unseen_is_an_estimate_too() -> None:
    play = Play()
    play.say(used(10, 1), failed(), text(0, "Here"), ended("end"))
    assert [record.usage.source for record in play.turn.rounds] == ["estimated", "unknown"]


def test_a_refusal_is_a_whole_response_and_its_usage_is_what_was_reported() -> None:
    play = Play()
    play.say(used(10, 1), thinking(0, "no"), ended("refusal"))
    assert play.turn.usage.source == "reported"


def test_a_response_that_was_cut_is_estimated_by_what_came_of_it_and_what_was_asked() -> None:
    """Hazard 24: some vendors say figures at the end only, and others begin with a figure that is too small."""
    play = Play()
    play.say(i.RequestSent(400), i.BlockOpened(key=0, block_type="text"), i.Delta(0, "x" * 41), CANCEL)
    usage = play.turn.usage
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (100, 11, "estimated")
    assert (usage.cost_usd, usage.cache_read_tokens) == (None, None)
    reported = Play()
    reported.say(i.RequestSent(400), used(7, 1), i.BlockOpened(key=0, block_type="text"), i.Delta(0, "x" * 41), CANCEL)
    assert (reported.turn.usage.input_tokens, reported.turn.usage.output_tokens) == (7, 11)


def test_a_request_of_which_nothing_came_is_unknown_and_not_free() -> None:
    play = Play()
    play.say(i.RequestSent(400), CANCEL)
    assert play.turn.usage == UNKNOWN


def test_what_an_estimate_costs_is_known_where_the_prices_are() -> None:
    prices = Prices(input=3.0, output=15.0)
    assert of_a_death(UNKNOWN, said=400, asked=4_000, prices=prices).cost_usd == 0.0045
    begun = Usage(input_tokens=1_000, output_tokens=1, cost_usd=0.003015, source="reported")
    assert of_a_death(begun, said=404, asked=None, prices=prices).cost_usd == 0.004515
    assert of_a_death(begun, said=404, asked=None, prices=Prices()).cost_usd is None
    assert of_a_death(UNKNOWN, said=400, asked=None, prices=prices).cost_usd is None
