"""A cancel that lets something come to its end first: the open block, or the round (docs/http.md, "Cancelling")."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.drive import drive, machine_for
from tests.core.pairing import grew
from tests.core.play import CANCEL, Play, call, ended, failed, opened, text, used
from tests.core.turns import FATAL, TOOLS, Life, lives

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.plan import TurnLimits
from legato.core.resuming import Stored
from legato.core.schedule import ToolRule
from legato.core.turn import TurnMachine

AFTER_BLOCK = i.CancelRequested(mode="after_block")
SHORTER = i.Steered(steer_id="s1", text="Shorter, please.")
COLDER = i.Steered(steer_id="s2", text="And colder.")
AFTER_ROUND = i.CancelRequested(mode="after_round")
LATE = pytest.mark.parametrize("cancel", [AFTER_BLOCK, AFTER_ROUND], ids=["after_block", "after_round"])


def commitments(play: Play) -> list[str | None]:
    return [record.commitment for record in play.turn.rounds]


def stopped(play: Play) -> bool:
    """The request to the model was dropped."""
    return any(isinstance(action, a.StopModel) for action in play.actions)


# Before the beginning


@pytest.mark.parametrize("cancel", [CANCEL, AFTER_BLOCK, AFTER_ROUND], ids=["now", "after_block", "after_round"])
def test_a_cancel_before_the_beginning_lets_nothing_be_asked(cancel: i.CancelRequested) -> None:
    machine = TurnMachine(Play().plan)
    machine.receive(cancel)
    machine.start()
    assert [type(action) for action in machine.take()] == [e.TurnStart, e.TurnEnd]
    assert machine.turn.status == "cancelled"


def test_a_cancel_before_the_next_owner_goes_on_lets_nothing_be_asked() -> None:
    first = Play()
    first.say(text(0, "One."))
    machine = TurnMachine(first.plan, epoch=1)
    machine.receive(CANCEL)
    machine.resume(Stored(events=first.events))
    assert not [action for action in machine.take() if isinstance(action, a.CallModel)]
    assert machine.turn.status == "cancelled"


# after_block


def test_after_block_the_open_block_is_heard_to_its_end() -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "It is "))
    assert play.say(AFTER_BLOCK) == []
    play.say(i.Delta(0, "this."))
    assert not stopped(play)
    play.say(i.BlockClosed(key=0))
    assert stopped(play)
    assert play.end() == "cancelled, cancelled"
    assert (play.block(0).text, play.block(0).state) == ("It is this.", "complete")
    assert commitments(play) == ["adopted"]


def test_after_block_the_next_block_is_heard_where_none_is_open() -> None:
    play = Play()
    play.say(text(0, "One."), AFTER_BLOCK)
    assert play.end() is None
    play.say(text(1, "Two."), text(2, "Three."))
    assert [block.text for block in play.turn.blocks] == ["One.", "Two."]
    assert play.end() == "cancelled, cancelled"


def test_after_block_every_block_that_is_open_is_heard() -> None:
    """Some wires let blocks interleave."""
    play = Play()
    play.say(opened(0), opened(1), i.Delta(0, "{}"), AFTER_BLOCK, i.BlockClosed(key=0))
    assert play.end() is None
    play.say(i.Delta(1, '{"n":1}'), i.BlockClosed(key=1))
    assert [block.state for block in play.turn.blocks[:2]] == ["complete", "complete"]


def test_a_call_that_is_sealed_by_the_last_block_never_runs() -> None:
    play = Play()
    play.say(opened(0), AFTER_BLOCK, i.Delta(0, "{}"), i.BlockClosed(key=0))
    assert play.started == []
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.end() == "cancelled, cancelled"


def test_after_block_running_calls_are_told_and_answered() -> None:
    play = Play()
    play.say(call(0), i.BlockOpened(key=1, block_type="text"), AFTER_BLOCK)
    assert play.told == []
    play.say(i.BlockClosed(key=1))
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "cancelled, cancelled"


def test_after_block_nothing_begins_any_more_while_the_block_is_open() -> None:
    """An eager ``write`` above all: it would have its effect, and be cancelled a moment later."""
    play = Play(limits=TurnLimits(parallel_calls=2))
    play.say(call(0), call(1, "eager_put"), call(2), opened(3), opened(4))
    assert (play.started, play.intents) == ([0], [1])
    play.say(AFTER_BLOCK)
    play.store(1)
    play.finish(0)
    play.say(i.Delta(3, "{}"), i.BlockClosed(key=3))
    assert play.started == [0]
    play.say(i.BlockClosed(key=4))
    assert [play.outcome(place) for place in (1, 2, 3)] == ["cancelled: cancelled"] * 3
    assert play.end() == "cancelled, cancelled"


@pytest.mark.parametrize("last", [ended("length"), ended("other"), ended("pause"), failed(), failed(FATAL)])
def test_after_block_a_response_that_ends_within_the_block_is_the_end(last: i.Input) -> None:
    play = Play()
    play.say(call(0), opened(1), AFTER_BLOCK, last)
    assert play.told == [0]
    play.finish(0, "cancelled")
    assert play.end() == "cancelled, cancelled"
    assert len(play.asked) == 1


def test_after_block_a_response_that_ends_before_another_block_is_the_end() -> None:
    play = Play()
    play.say(call(0, "post"), AFTER_BLOCK, ended())
    assert play.intents == []
    assert play.outcome(0) == "cancelled: cancelled"
    assert play.end() == "cancelled, cancelled"
    assert commitments(play) == ["committed"]


def test_after_block_between_two_responses_there_is_no_block_to_wait_for() -> None:
    play = Play()
    play.say(call(0), ended(), AFTER_BLOCK)
    assert play.told == [0]
    play.finish(0)
    assert play.end() == "cancelled, cancelled"
    assert len(play.asked) == 1


# after_round


def test_after_round_the_round_and_its_calls_come_to_their_end() -> None:
    play = Play()
    play.say(text(0, "I will"), AFTER_ROUND, call(1), call(2, "post"), used(5, 5), ended())
    play.store(1)
    assert play.started == [0, 1]
    assert play.told == []
    play.finish(0)
    play.finish(1)
    assert (play.outcome(0), play.outcome(1)) == ("ok", "ok")
    assert play.end() == "cancelled, cancelled"
    assert len(play.asked) == 1
    assert play.turn.usage.source == "reported"


def test_after_round_a_last_answer_is_whole_and_the_turn_is_cancelled_all_the_same() -> None:
    play = Play()
    play.say(AFTER_ROUND, text(0, "All of it."), ended("end"))
    assert (play.block(0).state, commitments(play)) == ("complete", ["committed"])
    assert play.end() == "cancelled, cancelled"


@LATE
def test_a_reply_that_is_refused_after_its_cancel_is_cancelled_and_its_round_says_refused(
    cancel: i.CancelRequested,
) -> None:
    """Met by `legato torture --turns 100 --seed 313`."""
    play = Play()
    play.say(text(0, "I must not"), cancel, ended("refusal"))
    assert [record.stop_reason for record in play.machine.turn.rounds] == ["refusal"]
    assert play.end() == "cancelled, cancelled"


def test_after_round_between_two_responses_the_calls_finish_and_nothing_more_is_asked() -> None:
    play = Play()
    play.say(call(0), call(1), ended())
    play.finish(0)
    play.say(AFTER_ROUND)
    assert play.told == []
    play.finish(1)
    assert (play.outcome(1), play.end(), len(play.asked)) == ("ok", "cancelled, cancelled", 1)


def test_after_round_a_paused_reply_is_not_gone_on_with() -> None:
    play = Play()
    play.say(text(0, "Searching"), call(1, "post"), AFTER_ROUND, ended("pause"))
    assert play.outcome(0) == "error: not_executed"
    assert play.end() == "cancelled, cancelled"
    assert len(play.asked) == 1


def test_after_round_nobody_is_waited_for() -> None:
    """The calls of the round that wait for a person are answered as cancelled once nothing else runs."""
    play = Play(tools={**TOOLS, "ask": ToolRule(effect="write", asks_approval=lambda _: True)})
    play.say(call(0), call(1, "ask"), AFTER_ROUND, ended())
    assert play.end() is None
    play.finish(0)
    assert (play.outcome(0), play.outcome(1)) == ("ok", "cancelled: cancelled")
    assert play.end() == "cancelled, cancelled"


# Either


@LATE
def test_a_cancel_now_overrides_one_that_waits(cancel: i.CancelRequested) -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Half a"), cancel, CANCEL)
    assert stopped(play)
    assert (play.block(0).text, play.block(0).state) == ("Half a", "partial")
    assert play.end() == "cancelled, cancelled"


def test_the_stricter_of_two_cancels_counts_in_whatever_order_they_come() -> None:
    for first, second in ((AFTER_ROUND, AFTER_BLOCK), (AFTER_BLOCK, AFTER_ROUND)):
        play = Play()
        play.say(i.BlockOpened(key=0, block_type="text"), first, second, i.BlockClosed(key=0))
        assert play.end() == "cancelled, cancelled"


@LATE
def test_a_response_that_dies_before_its_first_word_is_not_asked_again(cancel: i.CancelRequested) -> None:
    play = Play()
    play.say(cancel, failed())
    assert (play.end(), len(play.asked)) == ("cancelled, cancelled", 1)


@LATE
def test_a_reply_that_dies_says_so_though_a_cancel_waited_for_it(cancel: i.CancelRequested) -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Half"), cancel, failed(FATAL))
    assert play.end() == "error, error"


@LATE
def test_a_limit_of_time_ends_the_wait(cancel: i.CancelRequested) -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), cancel, i.TimeUp(kind="hard"))
    assert play.end() == "complete, limit_seconds"


@LATE
def test_a_reply_that_is_replaced_is_shown_and_no_history(cancel: i.CancelRequested) -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Half"), cancel, i.CancelRequested(drops=True))
    assert (play.block(0).text, commitments(play)) == ("Half", ["orphaned"])
    assert play.end() == "cancelled, cancelled"


@LATE
def test_a_repeat_and_a_cancel_after_the_end_do_nothing(cancel: i.CancelRequested) -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), cancel)
    assert play.say(cancel, cancel) == []
    play.say(i.BlockClosed(key=0), ended("end"))
    assert play.say(cancel, CANCEL) == []
    assert sum(isinstance(event, e.TurnEnd) for event in play.events) == 1


@LATE
def test_a_turn_at_its_last_round_is_cancelled_as_well(cancel: i.CancelRequested) -> None:
    play = Play(limits=TurnLimits(rounds=1))
    play.say(cancel, text(0, "The answer."), ended("end"))
    assert play.end() == "cancelled, cancelled"


@given(lives(), st.integers(0, 60), st.sampled_from(["after_block", "after_round"]), st.integers(0, 60))
def test_whenever_cancels_and_steers_come_each_call_has_its_result_and_each_steer_its_end(
    life: Life, at: int, mode: i.CancelMode, steered_at: int
) -> None:
    steer = (steered_at, i.Steered(steer_id="s1", text="Shorter, please."))
    life = replace(life, interruptions=(*life.interruptions, steer))
    run = drive(machine_for(life), life, cut=(at, i.CancelRequested(mode=mode)))
    turn = run.machine.turn
    sealed = [
        b.call_id
        for b in turn.blocks
        if isinstance(b, ToolUseBlock) and b.origin != "provider" and b.state == "complete"
    ]
    results = [b.call_id for b in turn.blocks if isinstance(b, ToolResultBlock) and b.origin != "provider"]
    assert sorted(results) == sorted(sealed)
    assert not turn.open
    assert isinstance(run.events[-1], e.TurnEnd)
    cancels = [step for step, (fed, _) in enumerate(run.steps) if isinstance(fed, i.CancelRequested)]
    (over,) = (step for step, (_, actions) in enumerate(run.steps) if run.events[-1] in actions)
    assert turn.status != "complete" or not any(step <= over for step in cancels)
    assert [steer.state for steer in turn.steers] in ([], ["accepted", "delivered"], ["accepted", "returned"])
    heard = [text for record in turn.rounds for text in record.steers]
    assert len(heard) == sum(steer.state == "delivered" for steer in turn.steers)


@given(lives(), st.lists(st.tuples(st.integers(0, 60), st.sampled_from([SHORTER, COLDER])), max_size=4))
def test_what_is_sent_only_grows_whenever_steers_come(life: Life, steers: list[tuple[int, i.Steered]]) -> None:
    """Hazard 27."""
    life = replace(life, interruptions=(*life.interruptions, *steers))
    run = drive(machine_for(life), life)
    for (_, earlier), (_, later) in pairwise(run.requests):
        assert grew(earlier, later)
