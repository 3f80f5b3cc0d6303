"""How the next owner of a turn goes on: from what is stored of it, and nothing else (docs/architecture.md)."""

from __future__ import annotations

import pytest
from tests.core.play import Play, call, ended, failed, opened, provider_call, provider_result, text, used
from tests.core.turns import TOOLS

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import CallError, ToolResultBlock
from legato.core.endings import HANDED_ON
from legato.core.fold import fold
from legato.core.plan import HARD_END, TurnLimits
from legato.core.resuming import RELEASED, deaths


def text_of(play: Play, place: int) -> str:
    result = play.result(place)
    return "" if result is None else result.text


def round_stops(play: Play) -> list[tuple[str, str]]:
    return [(event.commitment, event.stop_reason) for event in play.events if isinstance(event, e.RoundStop)]


# Before anything of the response stands


def test_a_turn_of_which_nothing_was_stored_begins_anew() -> None:
    play = Play()
    play.say(text(0, "Hel"))
    again = play.next(lost=len(play.events))
    assert again.rewound_to == 0
    assert [type(event) for event in again.events] == [e.Rewind, e.TurnStart, e.Notice, e.RoundStart]
    assert [request.round for request in again.asked] == [1]
    again.say(text(0, "Hello"), ended("end"))
    assert again.end() == "complete, end"


def test_what_a_request_cost_of_which_nothing_was_stored_is_unknown_to_every_later_owner() -> None:
    first = Play(tools=TOOLS)
    first.say(text(0, "Hel"))
    second = first.next(lost=len(first.events) - 1)
    second.say(call(0, "look"), used(3, 1), ended("calls"))
    third = second.next()
    third.finish(0)
    third.say(text(0, "Done."), used(4, 1), ended("end"))
    assert [record.usage.source for record in third.turn.rounds] == ["reported", "reported"]
    assert third.turn.usage.source == "unknown"


def test_a_turn_of_which_only_its_start_was_stored_is_asked() -> None:
    play = Play()
    again = play.next(lost=1)
    assert again.rewound_to == 1
    assert [request.round for request in again.asked] == [1]


def test_a_round_without_a_block_is_asked_again() -> None:
    again = Play().next()
    assert again.rewound_to == 1
    assert [(record.round, record.commitment) for record in again.turn.rounds] == [(1, None)]
    assert [(request.round, request.retry) for request in again.asked] == [(1, 0)]


def test_a_text_that_was_open_is_rewound_and_the_round_is_asked_again() -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Hel"))
    again = play.next()
    assert len(again.turn.blocks) == 0
    again.say(text(0, "Hi."), ended("end"))
    assert again.block(0).text == "Hi."
    assert again.end() == "complete, end"


def test_whole_blocks_without_a_call_do_not_stand_either() -> None:
    play = Play()
    play.say(text(0, "Whole."), provider_call(1, "srv"), provider_result(2, "srv"), opened(3))
    assert play.next().turn.blocks == ()


def test_what_the_lost_answer_cost_nobody_knows() -> None:
    play = Play()
    play.say(used(10, 1), text(0, "Hel"))
    again = play.next()
    again.say(used(10, 5), text(0, "Hi."), ended("end"))
    assert again.turn.usage.input_tokens == 10
    assert again.turn.usage.source != "reported"


def test_a_round_that_is_asked_again_counts_its_attempts_on_and_its_calls_have_new_ids() -> None:
    play = Play()
    play.say(call(0, raw="{}"))
    lost_id = play.call(0).call_id
    again = play.next(lost=2)  # its stop and its start; what it began is stored
    assert again.turn.blocks == ()
    again.say(call(0, raw="{}"))
    assert [record.attempt for record in again.turn.rounds] == [2]
    assert again.call(0).call_id != lost_id


def test_the_key_of_a_call_is_that_of_its_place_though_its_round_is_asked_again() -> None:
    play = Play()
    play.say(call(0, raw="{}"))
    again = play.next(lost=2)
    again.say(text(0, "so"), call(1, raw="{}"))
    assert again.begun[0].idempotency_key == play.begun[0].idempotency_key


def test_the_second_round_is_asked_again_and_the_first_one_stands() -> None:
    play = Play()
    play.say(call(0), ended())
    play.finish(0)
    play.say(text(0, "As I"))
    again = play.next()
    assert [request.round for request in again.asked] == [2]
    assert again.outcome(0) == "ok"
    again.say(text(0, "So."), ended("end"))
    assert [block.index for block in again.turn.blocks] == [0, 1, 2]
    assert again.end() == "complete, end"


def test_the_request_that_is_asked_again_waits_for_the_rewind_to_be_stored() -> None:
    play = Play()
    play.say(call(0), ended())
    play.finish(0)
    again = play.next()
    assert again.asked[0].after_seq == again.turn.last_seq


# Reads


def test_a_response_with_a_sealed_call_is_adopted_up_to_it_and_the_call_runs_again() -> None:
    play = Play()
    play.say(text(0, "Let me see."), call(1), i.BlockOpened(key=2, block_type="text"), i.Delta(2, "Mean"))
    again = play.next()
    assert round_stops(again) == [("adopted", "other")]
    assert again.turn.rounds[0].kept_to == 1
    assert again.turn.blocks[2].state == "partial"
    assert again.started == [0]
    assert again.said_started == [0]
    again.finish(0)
    assert [request.round for request in again.asked] == [2]


def test_what_a_read_had_shown_is_taken_back_and_shown_anew() -> None:
    play = Play()
    play.say(call(0), ended())
    play.emit(0, "half a ")
    again = play.next()
    assert again.started == [0]
    again.emit(0, "whole")
    again.finish(0)
    assert text_of(again, 0) == "whole"
    assert fold(again.seen).blocks == again.turn.blocks


def test_a_read_whose_start_was_not_stored_runs() -> None:
    play = Play()
    play.say(call(0))
    again = play.next(lost=1)
    assert again.started == [0]
    assert again.said_started == [0]


def test_a_read_runs_again_with_its_key() -> None:
    play = Play()
    play.say(call(0), call(1))
    again = play.next()
    assert [start.idempotency_key for start in again.begun] == [start.idempotency_key for start in play.begun]


def test_a_read_whose_result_was_not_stored_runs_again_and_one_whose_was_does_not() -> None:
    play = Play()
    play.say(call(0), call(1), ended())
    play.finish(0, output="first")
    play.finish(1)
    again = play.next(lost=3)  # the round after them, and the stop of the second result
    assert again.started == [1]
    result = again.result(0)
    assert isinstance(result, ToolResultBlock)
    assert result.output == "first"


def test_twins_run_again_once() -> None:
    play = Play()
    play.say(call(0, raw="{}"), call(1, raw="{}"))
    play.emit(0, "old")
    again = play.next()
    assert again.started == [0]
    again.emit(0, "new")
    again.finish(0)
    assert [again.outcome(0), again.outcome(1)] == ["ok", "ok"]
    assert (text_of(again, 0), text_of(again, 1)) == ("new", "new")


def test_reads_that_run_again_keep_to_the_limit_of_those_that_run_at_once() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0), call(1), ended())
    again = play.next()
    assert again.started == [0]
    again.finish(0)
    assert again.started == [0, 1]


def test_a_read_that_had_asked_to_run_later_runs() -> None:
    play = Play()
    play.say(call(0))
    play.say(i.ToolDeferred(call_id=play.call(0).call_id))
    again = play.next()
    assert again.started == [0]
    again.finish(0)
    assert [request.round for request in again.asked] == [2]


# Calls with effects


@pytest.mark.parametrize("lost", [0, 1])
def test_a_write_with_an_intent_is_asked_about_and_never_run_again(lost: int) -> None:
    play = Play()
    play.say(call(0, "post"), ended())
    play.store(0)
    again = play.next(lost=lost)
    assert (again.reconciled, again.started, again.intents) == ([0], [], [])
    key = next(action.idempotency_key for action in again.actions if isinstance(action, a.Reconcile))
    assert key == play.begun[0].idempotency_key
    again.say(i.ToolFinished(call_id=again.call(0).call_id, outcome="unknown", error=CallError("interrupted", "?")))
    assert again.outcome(0) == "unknown: interrupted"
    assert [request.round for request in again.asked] == [2]


def test_a_write_whose_intent_was_being_stored_when_its_owner_died_and_was_not_runs() -> None:
    play = Play()
    play.say(call(0, "post"), ended())
    assert play.intents == [0]
    again = play.next()
    assert (again.reconciled, again.intents) == ([], [0])
    again.store(0)
    assert again.started == [0]


def test_what_a_write_that_is_asked_about_had_shown_stays() -> None:
    play = Play()
    play.say(call(0, "post"), ended())
    play.store(0)
    play.emit(0, "posting")
    again = play.next()
    again.finish(0)
    assert text_of(again, 0) == "posting"


def test_a_write_that_is_asked_about_keeps_its_lane() -> None:
    play = Play()
    play.say(call(0, "post"), call(1, "post"), ended())
    play.store(0)
    again = play.next()
    assert (again.reconciled, again.intents) == ([0], [])
    again.finish(0)
    assert again.intents == [1]


def test_an_idempotent_call_with_an_intent_runs_again_with_its_key() -> None:
    play = Play()
    play.say(call(0, "put"), ended())
    play.store(0)
    again = play.next()
    assert (again.started, again.intents, again.reconciled) == ([0], [], [])
    assert again.begun[0].idempotency_key == play.begun[0].idempotency_key


@pytest.mark.parametrize("tool_name", ["put", "post"])
def test_a_held_call_of_a_committed_response_is_run(tool_name: str) -> None:
    play = Play()
    play.say(call(0, tool_name), call(1, tool_name), ended())
    play.store(0)
    play.finish(0)
    again = play.next()
    assert (again.intents, again.reconciled, again.started) == ([1], [], [])
    again.store(1)
    assert again.started == [1]


@pytest.mark.parametrize("tool_name", ["put", "post", "eager_put", "eager_post_b", "pick"])
def test_a_held_call_of_a_response_that_died_is_answered(tool_name: str) -> None:
    play = Play(client_tools=("pick",))
    play.say(call(0, tool_name))
    again = play.next()
    assert (again.intents, again.reconciled, again.started) == ([], [], [])
    assert again.outcome(0) == "error: not_executed"
    assert [request.round for request in again.asked] == [2]


def test_an_eager_write_that_had_begun_is_asked_about_though_its_response_died() -> None:
    play = Play()
    play.say(call(0, "eager_post_b"))
    play.store(0)
    again = play.next()
    assert (again.reconciled, again.started) == ([0], [])
    assert again.outcome(0) is None


def test_an_eager_idempotent_call_that_had_begun_runs_again_though_its_response_died() -> None:
    play = Play()
    play.say(call(0, "eager_put"))
    play.store(0)
    again = play.next()
    assert (again.reconciled, again.started, again.intents) == ([], [0], [])


@pytest.mark.parametrize("tool_name", ["eager_put", "look"])
def test_a_tool_that_asked_to_run_later_and_died_with_its_owner_has_one_result(tool_name: str) -> None:
    play = Play()
    play.say(call(0, tool_name))
    if tool_name == "eager_put":
        play.store(0)
    play.say(i.ToolDeferred(call_id=play.call(0).call_id))
    again = play.next()
    assert again.started == [0]
    again.say(i.ToolDeferred(call_id=again.call(0).call_id))
    assert again.outcome(0) is not None
    assert [request.round for request in again.asked] == [2]


def test_a_write_whose_tool_is_gone_may_have_taken_effect() -> None:
    play = Play()
    play.say(call(0, "post"), ended())
    play.store(0)
    again = play.next(tools={"look": TOOLS["look"]})
    assert again.outcome(0) == "unknown: interrupted"


def test_a_call_that_had_not_begun_and_whose_tool_is_gone_is_answered_so() -> None:
    play = Play()
    play.say(call(0, "post"), ended())
    again = play.next(tools={"look": TOOLS["look"]})
    assert again.outcome(0) == "error: unknown_tool"


def test_a_call_over_the_limit_whose_answer_was_not_stored_is_still_over_it() -> None:
    play = Play(limits=TurnLimits(calls_per_round=1))
    play.say(call(0), call(1))
    again = play.next(lost=2)
    assert again.outcome(1) == "error: limit_calls"
    assert again.started == [0]


def test_a_call_without_whole_arguments_whose_answer_was_not_stored_is_answered() -> None:
    play = Play()
    play.say(call(0, raw='{"n":'))
    again = play.next(lost=2)
    assert again.outcome(0) == "error: bad_json"
    assert again.started == []
    assert [request.round for request in again.asked] == [2]


# Pauses


def test_a_pause_whose_next_request_was_not_stored_is_gone_on_with() -> None:
    play = Play()
    play.say(text(0, "Let me search."), ended("pause"))
    again = play.next(lost=1)
    assert [request.round for request in again.asked] == [2]


def test_a_read_over_a_pause_runs_again_beside_the_model_that_goes_on() -> None:
    play = Play()
    play.say(call(0), ended("pause"), text(0, "So"))
    again = play.next()
    assert again.started == [0]
    assert [request.round for request in again.asked] == [2]
    again.say(text(0, "So."), ended("end"))
    assert again.end() is None
    again.finish(0)
    assert [request.round for request in again.asked] == [2, 3]


def test_a_write_over_a_pause_stays_held_until_the_reply_has_ended_well() -> None:
    play = Play()
    play.say(call(0, "post"), ended("pause"), text(0, "So"))
    again = play.next()
    assert (again.intents, again.outcome(0)) == ([], None)
    again.say(text(0, "So."), ended("end"))
    assert again.intents == [0]


def test_a_write_over_a_pause_is_answered_when_the_response_that_went_on_died_with_a_call() -> None:
    play = Play()
    play.say(call(0, "post"), ended("pause"), call(0))
    again = play.next()
    assert again.outcome(0) == "error: not_executed"
    assert again.started == [1]


def test_a_write_over_a_chain_of_pauses_runs_after_the_good_end_of_the_last() -> None:
    play = Play()
    play.say(call(0, "post"), ended("pause"), text(0, "So"), ended("pause"), text(0, "now."), ended("end"))
    again = play.next()
    assert again.intents == [0]
    again.store(0)
    again.finish(0)
    assert [request.round for request in again.asked] == [4]


def test_a_result_that_came_over_a_pause_stands_when_the_round_is_asked_again() -> None:
    play = Play()
    play.say(call(0), ended("pause"), i.BlockOpened(key=0, block_type="text"), i.Delta(0, "So"))
    play.finish(0, output=7)
    again = play.next()
    result = again.result(0)
    assert again.started == []
    assert isinstance(result, ToolResultBlock)
    assert result.output == 7
    again.say(text(0, "So."), ended("end"))
    assert [request.round for request in again.asked][-1] == 3


def test_a_providers_call_over_a_pause_is_paired_with_its_result_by_the_next_owner() -> None:
    play = Play()
    play.say(
        i.BlockOpened(key=0, block_type="tool_use", tool_name="web", origin="provider", provider_call_id="srv"),
        i.BlockClosed(key=0, provider_data={"wire": {"id": "srv"}}),
        ended("pause"),
    )
    again = play.next()
    again.say(provider_result(0, "srv"))
    call_ids = [event.call_id for event in again.seen if isinstance(event, e.BlockStart)]
    assert len(set(call_ids)) == 1


# What was said of the response


def test_a_last_round_that_is_asked_again_is_told_so_again() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    play.say(call(0), ended())
    play.finish(0)
    again = play.next()
    assert [(request.round, request.last) for request in again.asked] == [(2, True)]
    assert again.turn.rounds[-1].notices == (HARD_END,)


def test_a_call_that_the_last_round_made_and_whose_answer_was_not_stored_never_runs() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    play.say(call(0), ended())
    play.finish(0)
    play.say(call(0))
    again = play.next(lost=2)
    assert again.outcome(1) == "error: limit_rounds"
    assert again.started == []
    assert again.end() is not None


def test_a_last_round_whose_time_was_short_stays_the_last_when_it_is_asked_again() -> None:
    play = Play()
    play.say(call(0), i.TimeUp(kind="soft"), ended())
    play.finish(0)
    again = play.next()
    assert [request.last for request in again.asked] == [True]


def test_an_end_that_was_stored_and_a_turn_end_that_was_not_end_the_turn() -> None:
    play = Play()
    play.say(used(1, 1), text(0, "Bye."), ended("end"))
    again = play.next(lost=1)
    assert again.end() == "complete, end"
    assert again.asked == []
    assert again.turn.usage.source == "reported"


def test_a_refusal_that_was_stored_ends_the_turn() -> None:
    play = Play()
    play.say(call(0), text(1, "I'd rather"), ended("refusal"))
    again = play.next()
    assert again.started == []
    assert again.outcome(0) == "cancelled: cancelled"
    assert again.end() == "complete, refusal"


def test_a_write_that_ran_when_its_reply_was_refused_may_have_taken_effect() -> None:
    play = Play()
    play.say(call(0, "eager_post_b"))
    play.store(0)
    play.say(ended("refusal"))
    again = play.next()
    assert again.reconciled == [0]
    again.say(i.ToolFinished(call_id=again.call(0).call_id, outcome="unknown", error=CallError("interrupted", "?")))
    assert again.outcome(0) == "unknown: interrupted"
    assert again.end() == "complete, refusal"


def test_a_length_that_was_stored_answers_held_calls_and_lets_reads_stand() -> None:
    play = Play()
    play.say(call(0), call(1, "post"), ended("length"))
    again = play.next(lost=2)
    assert again.started == [0]
    assert again.outcome(1) == "error: not_executed"
    again.finish(0)
    assert [request.round for request in again.asked] == [2]


def test_a_length_without_a_call_ends_the_turn() -> None:
    play = Play()
    play.say(text(0, "As far"), ended("length"))
    assert play.next(lost=1).end() == "complete, length"


def test_an_orphaned_attempt_that_waited_for_its_retry_is_asked_again() -> None:
    play = Play()
    play.say(failed())
    again = play.next(lost=1)  # the start of the next attempt
    assert [(request.round, request.attempt) for request in again.asked] == [(1, 2)]


def test_an_attempt_that_waited_for_its_retry_is_asked_again() -> None:
    play = Play()
    play.say(failed())
    again = play.next()
    assert [request.round for request in again.asked] == [1]
    assert [record.commitment for record in again.turn.rounds] == ["orphaned", None]
    assert again.asked[0].attempt > 2


def test_an_error_that_ended_the_turn_before_its_turn_end_was_stored_ends_it() -> None:
    play = Play()
    play.say(text(0, "Half"), failed())
    again = play.next(lost=1)
    assert again.end() == "error, error"


# Owners, and how many


def test_a_turn_that_only_waited_is_not_said_to_be_recovered() -> None:
    play = Play(client_tools=("pick",))
    play.say(call(0, "pick"), ended())
    again = play.answered(0, output=1)
    assert "recovered" not in again.notices
    assert again.rewound_to == play.turn.last_seq


def test_owners_that_die_one_after_the_other_are_counted() -> None:
    play = Play()
    assert deaths(play.seen) == 1
    for died in (2, 3, 4):
        play.say(text(0, "As I was about to"))
        play = play.next()
        assert deaths(play.seen) == died


def test_an_owner_of_whom_something_stands_ends_the_count() -> None:
    play = Play().next().next()
    assert deaths(play.seen) == 3
    play.say(call(0))
    play = play.next()
    assert deaths(play.seen) == 1
    play = play.next().next()
    assert deaths(play.seen) == 3
    play.finish(0)
    assert deaths(play.seen) == 1


def test_an_owner_that_let_go_has_not_died() -> None:
    play = Play().next()
    for _ in range(5):
        play.say([i.Noted(code=RELEASED, message=HANDED_ON)])
        play = play.next()
        assert deaths(play.seen) == 2


def test_a_wait_ends_the_count() -> None:
    play = Play(client_tools=("pick",)).next().next()
    play.say(call(0, "pick"), ended())
    play = play.answered(0, output=1)
    assert deaths(play.seen) == 1
    assert deaths(play.next().seen) == 2


def test_a_third_owner_runs_what_two_before_it_left() -> None:
    play = Play()
    play.say(call(0), call(1, "put"), ended())
    play.store(1)
    third = play.next().next()
    assert third.epoch == 2
    assert sorted(third.started) == [0, 1]
    third.finish(0)
    third.finish(1)
    third.say(text(0, "So."), ended("end"))
    assert third.end() == "complete, end"
    assert fold(third.seen).blocks == third.turn.blocks


def test_a_write_that_was_being_asked_about_when_the_second_owner_died_is_asked_about_again() -> None:
    play = Play()
    play.say(call(0, "post"), ended())
    play.store(0)
    third = play.next().next()
    assert (third.reconciled, third.started) == ([0], [])


def test_an_adoption_that_the_second_owner_made_stands_for_the_third() -> None:
    play = Play()
    play.say(call(0), call(1, "post"))
    third = play.next().next()
    assert round_stops(third) == []
    assert third.started == [0]
    assert third.outcome(1) == "error: not_executed"


def test_every_owner_counts_from_its_epoch_and_begins_with_a_rewind() -> None:
    third = Play().next().next()
    assert third.events[0].seq == 2 * e.EPOCH_SIZE + 1
    assert isinstance(third.events[0], e.Rewind)


def test_requests_that_two_owners_lost_are_both_unknown() -> None:
    play = Play().next().next()
    play.say(used(10, 5), text(0, "Hi."), ended("end"))
    assert play.turn.usage.source != "reported"
    assert [record.attempt for record in play.turn.rounds] == [3]


def test_what_ran_before_is_in_the_history_of_the_next_owner_and_the_limit_of_rounds_counts_on() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    play.say(call(0))
    again = play.next()
    again.finish(0)
    assert [(request.round, request.last) for request in again.asked] == [(2, True)]
