"""What people say into a running turn reaches the model at its next round, or is given back (docs/http.md)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.core.drive import user_turn
from tests.core.play import CANCEL, Play, call, ended, failed, text
from tests.core.turns import FATAL, TOOLS

from legato.core import events as e
from legato.core import inputs as i
from legato.core.ask import SentText, SentToolResult, SentToolUse
from legato.core.fold import fold
from legato.core.messages import messages
from legato.core.plan import TurnLimits
from legato.core.records import KeptSteer, Reading, StoredTurn, TurnRow
from legato.core.resuming import Stored
from legato.core.schedule import ToolRule
from legato.core.turn import TurnMachine

SHORTER = i.Steered(steer_id="s1", text="Shorter, please.")
COLDER = i.Steered(steer_id="s2", text="And colder.")


def told(play: Play, steer_id: str = "s1") -> list[str]:
    """What was said of a steer, in order."""
    return [event.state for event in play.events if isinstance(event, e.Steer) and event.steer_id == steer_id]


def sent(play: Play) -> list[tuple[str, str]]:
    """What the model is sent of the turn by now: role and words, calls and results by their name."""
    row = TurnRow(
        id="turn",
        chat_id="chat",
        prev_turn_id="asked",
        role="assistant",
        status="running",
        created_at="2026-11-24T00:00:00.000Z",
        depth=2,
    )
    turn = play.turn
    readings = {call_id: Reading(call_id=call_id, text="read", formatter="test", version=1) for call_id in ids(play)}
    stored = StoredTurn(row=row, blocks=turn.blocks, rounds=turn.rounds, readings=readings)
    said: list[tuple[str, str]] = []
    for message in messages([user_turn("asked", "Find it"), stored]):
        for block in message.blocks:
            match block:
                case SentText(text=words):
                    said.append((message.role, words))
                case SentToolUse() | SentToolResult():
                    said.append((message.role, type(block).__name__))
                case _:
                    raise AssertionError(block)
    return said


def ids(play: Play) -> list[str]:
    return [block.call_id for block in play.calls]


def test_a_steer_is_accepted_at_once_and_delivered_before_the_next_request() -> None:
    play = Play()
    play.say(call(0))
    assert [type(action) for action in play.say(SHORTER)] == [e.Steer]
    play.say(ended())
    actions = play.finish(0)
    assert told(play) == ["accepted", "delivered"]
    delivered = next(event for event in play.events if isinstance(event, e.Steer) and event.state == "delivered")
    start = next(event for event in play.events if isinstance(event, e.RoundStart) and event.round == 2)
    assert start.seq < delivered.seq
    assert play.asked[-1].after_seq >= delivered.seq
    assert actions[-1] is play.asked[-1]


def test_the_model_reads_it_as_the_user_after_what_is_there() -> None:
    play = Play()
    play.say(text(0, "I look."), call(1), SHORTER, COLDER, ended())
    play.finish(0)
    assert sent(play) == [
        ("user", "Find it"),
        ("assistant", "I look."),
        ("assistant", "SentToolUse"),
        ("user", "SentToolResult"),
        ("user", "Shorter, please."),
        ("user", "And colder."),
    ]


def test_it_stays_in_the_history_where_it_stood() -> None:
    play = Play()
    play.say(call(0), SHORTER, ended())
    play.finish(0)
    before = sent(play)
    play.say(text(0, "Short."), ended("end"))
    assert sent(play) == [*before, ("assistant", "Short.")]
    assert play.end() == "complete, end"


def test_where_the_model_is_done_one_more_round_is_asked() -> None:
    play = Play()
    play.say(text(0, "It is long."), SHORTER, ended("end"))
    assert told(play) == ["accepted", "delivered"]
    assert sent(play)[-2:] == [("assistant", "It is long."), ("user", "Shorter, please.")]
    play.say(text(0, "Short."), ended("end"))
    assert (play.end(), len(play.asked)) == ("complete, end", 2)


def test_each_round_may_be_steered_on_until_the_limit_of_rounds() -> None:
    play = Play(tools={}, limits=TurnLimits(rounds=2))
    play.say(text(0, "One."), SHORTER, ended("end"))
    play.say(text(0, "Two."), COLDER, ended("end"))
    assert told(play, "s2") == ["accepted", "returned"]
    assert (play.end(), len(play.asked)) == ("complete, end", 2)


def test_what_is_returned_is_returned_before_the_end() -> None:
    play = Play(tools={}, limits=TurnLimits(rounds=1))
    play.say(text(0, "One."), SHORTER, ended("end"))
    assert [type(event) for event in play.events[-2:]] == [e.Steer, e.TurnEnd]


@pytest.mark.parametrize(
    "last",
    [CANCEL, ended("refusal"), failed(FATAL), i.TimeUp(kind="hard"), i.CancelRequested(mode="after_round")],
    ids=["cancel", "refusal", "failure", "time", "after_round"],
)
def test_a_turn_that_ends_for_another_reason_gives_back_what_was_not_read(last: i.Input) -> None:
    play = Play()
    play.say(text(0, "I think"), SHORTER, last, ended("end"))
    assert told(play) == ["accepted", "returned"]
    assert play.machine.ended


def test_a_steer_after_the_end_is_ignored() -> None:
    play = Play()
    play.say(text(0, "Done."), ended("end"))
    assert play.say(SHORTER) == []


def test_the_same_steer_twice_is_one() -> None:
    play = Play()
    play.say(call(0), SHORTER, SHORTER, ended())
    play.finish(0)
    assert play.say(SHORTER) == []
    assert told(play) == ["accepted", "delivered"]


def test_a_reply_that_paused_is_gone_on_with_first() -> None:
    """Anthropic takes a paused reply back as the last thing said, or not at all."""
    play = Play()
    play.say(text(0, "Searching"), SHORTER, ended("pause"))
    assert told(play) == ["accepted"]
    assert sent(play)[-1] == ("assistant", "Searching")
    play.say(text(0, " and found."), ended("end"))
    assert told(play) == ["accepted", "delivered"]
    assert sent(play)[-1] == ("user", "Shorter, please.")


def test_a_round_that_is_asked_again_is_told_once() -> None:
    play = Play()
    play.say(text(0, "Long."), SHORTER, ended("end"))
    play.say(failed())
    assert [(record.round, record.attempt) for record in play.turn.rounds] == [(1, 1), (2, 1), (2, 2)]
    assert sent(play)[-1] == ("user", "Shorter, please.")
    assert sent(play).count(("user", "Shorter, please.")) == 1


def test_a_waiting_turn_is_at_rest() -> None:
    play = Play(tools={**TOOLS, "ask": ToolRule(effect="write", asks_approval=lambda _: True)})
    play.say(call(0, "ask"), SHORTER, ended())
    assert play.machine.waiting
    assert play.say(COLDER) == []
    assert told(play) == ["accepted"]


# The next owner


def resumed(play: Play, *, kept: int, steers: tuple[KeptSteer, ...], cancelled: bool = False) -> Play:
    """The next owner, who finds the first ``kept`` events."""
    heir = Play(tools=play.plan.tools, epoch=1)
    heir.machine = TurnMachine(play.plan, epoch=1)
    heir.actions = []
    heir.machine.resume(Stored(events=play.events[:kept], steers=steers), cancelled=cancelled)
    heir.actions += heir.machine.take()
    return heir


def kept_as(state: str) -> tuple[KeptSteer, ...]:
    match state:
        case "posted" | "accepted" | "delivered":
            return (KeptSteer(steer_id="s1", text=SHORTER.text, state=state),)
        case _:
            raise AssertionError(state)


def test_what_was_posted_while_nobody_ran_the_turn_is_accepted_by_its_next_owner() -> None:
    play = Play()
    play.say(call(0), ended())
    heir = resumed(play, kept=len(play.events), steers=kept_as("posted"))
    assert told(heir) == ["accepted"]
    heir.finish(0)
    assert told(heir) == ["accepted", "delivered"]


def test_what_was_accepted_is_not_accepted_again() -> None:
    play = Play()
    play.say(call(0), SHORTER, ended())
    heir = resumed(play, kept=len(play.events), steers=kept_as("accepted"))
    heir.finish(0)
    assert told(heir) == ["delivered"]
    assert fold([*play.events, *heir.events]).rounds[-1].steers == (SHORTER.text,)


@pytest.mark.parametrize("state", ["accepted", "delivered"])
def test_a_round_that_is_rewound_is_told_again(state: str) -> None:
    """The crash took the request that carried it; what was said before that round stands."""
    play = Play()
    play.say(text(0, "Long."), SHORTER, ended("end"))
    kept = len(play.events) if state == "delivered" else len(play.events) - 1
    heir = resumed(play, kept=kept, steers=kept_as(state))
    assert told(heir) == ["delivered"]
    whole = fold([*play.events[:kept], *heir.events])
    assert [record.steers for record in whole.rounds] == [(), (SHORTER.text,)]


def test_an_acceptance_that_fell_to_a_rewind_is_said_again() -> None:
    """Said while a response was in the air, of which nothing stands."""
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), SHORTER)
    heir = resumed(play, kept=len(play.events), steers=kept_as("accepted"))
    assert told(heir) == ["accepted", "delivered"]


def test_a_cancel_meanwhile_gives_it_back() -> None:
    play = Play()
    play.say(call(0), ended())
    heir = resumed(play, kept=len(play.events), steers=kept_as("posted"), cancelled=True)
    assert heir.end() == "cancelled, cancelled"
    assert told(heir) == ["accepted", "returned"]


def test_a_turn_that_begins_late_tells_its_first_round_what_was_posted() -> None:
    play = Play()
    play.machine = TurnMachine(replace(play.plan, steers=kept_as("posted")))
    play.actions = []
    play.machine.start()
    play.actions += play.machine.take()
    assert told(play) == ["accepted", "delivered"]
    assert play.asked[0].after_seq == play.turn.last_seq


def test_a_turn_that_is_cancelled_before_it_begins_asks_nothing() -> None:
    play = Play()
    play.machine = TurnMachine(replace(play.plan, steers=kept_as("posted"), cancelled=True))
    play.actions = []
    play.machine.start()
    play.actions += play.machine.take()
    assert told(play) == ["accepted", "returned"]
    assert (play.end(), play.asked) == ("cancelled, cancelled", [])
