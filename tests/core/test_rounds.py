"""Rounds: how many, how the last one is told, what a dead response becomes (docs/tools.md; hazards 21, 33; P12)."""

from __future__ import annotations

import pytest
from tests.core.play import CANCEL, Play, call, ended, failed, opened, text, used
from tests.core.turns import FATAL, RETRYABLE

from legato.core import events as e
from legato.core import inputs as i
from legato.core.events import EPOCH_SIZE
from legato.core.plan import HARD_END, SOFT_END, TurnLimits

SOFT = i.TimeUp(kind="soft")


def rounds_of_calls(play: Play, count: int) -> None:
    """So many rounds, each with one read that ends well."""
    for _ in range(count):
        play.say(call(0), ended())
        play.finish(len(play.calls) - 1)


# The limit of rounds


def test_the_last_round_is_told_so_and_asked_to_answer_without_tools() -> None:
    play = Play(limits=TurnLimits(rounds=3))
    rounds_of_calls(play, 2)
    assert [request.last for request in play.asked] == [False, False, True]
    told = [(event.round, event.message) for event in play.events if isinstance(event, e.Notice)]
    assert told == [(2, SOFT_END), (3, HARD_END)]
    assert [record.notices for record in play.turn.rounds] == [(), (SOFT_END,), (HARD_END,)]


def test_the_answer_of_the_last_round_is_the_turns() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    rounds_of_calls(play, 1)
    play.say(text(0, "As far as I know …"), ended("end"))
    assert play.end() == "complete, limit_rounds"
    assert play.turn.blocks[-1].text == "As far as I know …"
    assert play.turn.rounds[-1].commitment == "committed"


def test_a_call_that_the_last_round_still_makes_is_answered_with_an_error() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    rounds_of_calls(play, 1)
    play.say(text(0, "One more look"), call(1), call(2, "post"), ended())
    assert (play.outcome(1), play.outcome(2)) == ("error: limit_rounds", "error: limit_rounds")
    assert play.end() == "complete, limit_rounds"
    assert (play.started, play.intents, len(play.asked)) == ([0], [], 2)


def test_a_turn_that_ends_before_the_limit_says_nothing_of_it() -> None:
    play = Play(limits=TurnLimits(rounds=3))
    play.say(text(0, "Here."), ended("end"))
    assert (play.end(), play.notices) == ("complete, end", [])


def test_a_turn_without_tools_is_told_of_no_limit() -> None:
    play = Play(tools={}, limits=TurnLimits(rounds=1))
    play.say(text(0, "Here."), ended("end"))
    assert (play.end(), play.notices, play.asked[0].last) == ("complete, end", [], False)


def test_when_the_time_is_short_the_next_round_is_the_last() -> None:
    play = Play()
    play.say(call(0), SOFT, ended())
    assert play.told == []
    play.finish(0)
    assert [request.last for request in play.asked] == [False, True]
    assert play.notices == ["rounds_last"]
    play.say(text(0, "So far …"), ended("end"))
    assert play.end() == "complete, limit_seconds"


# A response that dies before its first block


def test_a_response_that_died_before_its_first_block_is_asked_for_again() -> None:
    play = Play()
    play.say(failed(retry_after=2.5))
    first, second = play.asked
    assert (second.round, second.attempt, second.retry, second.retry_after) == (1, 2, 1, 2.5)
    assert (first.retry, first.retry_after) == (0, None)
    assert play.turn.rounds[0].commitment == "orphaned"
    play.say(text(0, "Here."), ended("end"))
    assert play.end() == "complete, end"


def test_how_often_it_is_asked_again_is_bounded() -> None:
    play = Play(limits=TurnLimits(retries=2))
    play.say(failed(), failed())
    assert play.end() is None
    play.say(failed())
    assert [(request.attempt, request.retry) for request in play.asked] == [(1, 0), (2, 1), (3, 2)]
    assert (play.end(), play.turn.error) == ("error, error", RETRYABLE)


def test_what_would_fail_again_is_not_asked_again() -> None:
    play = Play()
    play.say(failed(FATAL))
    assert (len(play.asked), play.end(), play.turn.error) == (1, "error, error", FATAL)


def test_failures_before_a_response_that_came_do_not_count_later() -> None:
    play = Play()
    play.say(failed(), failed(), call(0), ended())
    play.finish(0)
    assert play.asked[-1].retry == 0
    play.say(failed())
    assert (play.asked[-1].round, play.asked[-1].attempt, play.asked[-1].retry) == (2, 2, 1)


def test_usage_that_came_before_the_first_block_does_not_make_a_response_seen() -> None:
    play = Play()
    play.say(used(5, 0), failed())
    assert len(play.asked) == 2


def test_a_last_round_that_is_asked_again_is_told_once() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    rounds_of_calls(play, 1)
    play.say(failed())
    assert play.asked[-1].last
    assert play.notices.count("rounds_last") == 1


def test_a_round_that_is_asked_again_waits_for_the_same_to_be_stored() -> None:
    """The first attempt may have died before it was."""
    play = Play()
    play.say(call(0), ended())
    play.finish(0)
    play.say(failed())
    assert play.asked[-1].attempt == 2
    assert play.asked[-1].after_seq == play.asked[-2].after_seq > 0


# A response that dies after its first block


@pytest.mark.parametrize("error", [RETRYABLE, FATAL])
def test_a_response_that_died_after_a_sealed_call_is_adopted_up_to_it(error: e.ErrorInfo) -> None:
    play = Play()
    play.say(text(0, "Let me look."), call(1), call(2, "post"), opened(3), i.Delta(3, '{"n":'), failed(error, 1.5))
    record = play.turn.rounds[0]
    assert (record.commitment, record.kept_to, record.provider_reason) == ("adopted", 2, error.code)
    assert play.block(3).state == "partial"
    assert (play.outcome(0), play.outcome(1)) == (None, "error: not_executed")
    assert play.said_why(1) == "not executed: the reply was interrupted"
    assert len(play.asked) == 1
    play.finish(0)
    request = play.asked[1]
    assert (request.round, request.attempt, request.retry, request.retry_after) == (2, 1, 1, 1.5)
    assert request.after_seq > 0
    assert play.notices == ["provider_failed"]


def test_a_read_that_waited_for_its_place_still_runs_when_its_response_is_adopted() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0), call(1), failed())
    play.finish(0)
    assert play.started == [0, 1]


def test_a_response_that_died_before_its_first_call_ends_the_turn_and_its_text_is_kept() -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Half a wo"), opened(1), failed())
    assert (play.end(), play.turn.error, len(play.asked)) == ("error, error", RETRYABLE, 1)
    assert [(block.state, block.text) for block in play.turn.blocks] == [("partial", "Half a wo"), ("partial", "")]
    assert (play.turn.rounds[0].commitment, play.turn.rounds[0].kept_to) == ("adopted", 1)


def test_an_adopted_response_counts_as_a_round() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    play.say(call(0), failed())
    play.finish(0)
    assert play.asked[-1].last
    play.say(call(0), failed())
    assert play.end() == "complete, limit_rounds"


def test_a_cancel_during_an_adoption_changes_only_how_running_calls_end() -> None:
    play = Play()
    play.say(text(0, "Let me look."), call(1), failed(), CANCEL)
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "cancelled, cancelled"
    assert (play.turn.rounds[0].commitment, play.turn.rounds[0].kept_to) == ("adopted", 1)


# Other bounds


def test_a_turn_with_too_many_blocks_ends_in_an_error_that_says_the_number() -> None:
    play = Play(limits=TurnLimits(blocks=2))
    play.say(call(0), text(1, "a"), text(2, "b"))
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "error, error"
    assert play.turn.error == e.ErrorInfo(code="limit_blocks", message="turn has 3 blocks, limit is 2")


def near_the_end(play: Play, left: int) -> None:
    """As if the turn had said so much that ``left`` events are free before the closing ones."""
    scribe = play.machine._scribe
    scribe.full_at = scribe.seq + left


def test_a_turn_that_has_used_up_its_numbers_ends_in_good_order() -> None:
    play = Play()
    play.say(call(0), i.BlockOpened(key=1, block_type="text"))
    near_the_end(play, 3)
    play.say(*[i.Delta(1, "a") for _ in range(10)])
    assert (play.block(1).text, play.block(1).state) == ("aaa", "partial")
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "complete, limit_events"


def test_a_tool_that_never_stops_talking_ends_the_turn_in_good_order() -> None:
    play = Play()
    play.say(call(0), ended())
    near_the_end(play, 4)
    for _ in range(10):
        play.emit(0, "x")
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "complete, limit_events"
    assert play.block(1).text == "xxx"  # the fourth number is its block's start


@pytest.mark.parametrize("blocks", [10, 2_000, pytest.param(5_000, marks=pytest.mark.slow)])
def test_enough_numbers_are_kept_free_to_answer_every_call_of_the_largest_turn(blocks: int) -> None:
    """A turn may run full at any event: with all its calls sealed, or with all its blocks still to open."""
    play = Play(limits=TurnLimits(blocks=blocks, calls_per_round=blocks, parallel_calls=blocks))
    kept_free = EPOCH_SIZE - play.machine._scribe.full_at
    play.say(*[call(key) for key in range(blocks - 1)], i.BlockOpened(key=blocks, block_type="text"))
    near_the_end(play, 1)
    last = play.turn.last_seq
    play.say(i.Delta(blocks, "a"))
    for place, use in enumerate(play.calls):
        play.say(i.ToolFinished(call_id=use.call_id, outcome="cancelled"))
        assert place < blocks
    assert play.end() == "complete, limit_events"
    assert play.turn.last_seq - last <= kept_free


def test_a_block_that_would_open_once_the_numbers_are_used_up_ends_the_turn() -> None:
    play = Play()
    near_the_end(play, 2)
    play.say(*[call(key, raw="") for key in range(10)])
    assert len(play.calls) == 1
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "complete, limit_events"


def test_notices_use_up_no_closing_events() -> None:
    play = Play()
    near_the_end(play, 1)
    play.say(*[i.Noted(code="dropped", message=f"parameter {n}") for n in range(5)])
    assert play.notices == ["dropped"]


def test_each_thing_is_noted_once() -> None:
    play = Play()
    same = i.Noted(code="dropped", message="temperature\0")
    play.say(same, same, i.Noted(code="dropped", message="top_p"))
    messages = [event.message for event in play.events if isinstance(event, e.Notice)]
    assert messages == ["temperature\ufffd", "top_p"]


def test_the_fourth_owner_counts_from_three_million_and_one() -> None:
    play = Play(epoch=3)
    play.say(text(0, "a"), ended("end"))
    assert [event.seq for event in play.events] == list(range(3_000_001, 3_000_001 + len(play.events)))
    assert play.events[0].seq == 3 * EPOCH_SIZE + 1


def test_nothing_is_said_before_the_turn_starts() -> None:
    machine = Play().machine.__class__(Play().machine.plan)
    for early in (i.Noted(code="a", message="b"), CANCEL, SOFT, *text(0, "x"), ended()):
        machine.receive(early)
    assert machine.take() == []
