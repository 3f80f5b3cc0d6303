"""A turn whose owner died at any event is ended by the next owner, and its chat goes on (P3, P8; hazards 1, 14)."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from tests.core.drive import drive, machine_for, row, user_turn
from tests.core.pairing import violations
from tests.core.test_lives import assert_every_call_is_answered_once, picture
from tests.core.turns import Life, any_lives, at_each_moment

from legato.core import events as e
from legato.core.blocks import ToolResultBlock
from legato.core.closing import close_interrupted
from legato.core.fold import Turn, fold, standing
from legato.core.messages import messages, unread
from legato.core.records import Reading, StoredTurn


def closed(stored: list[e.Event]) -> tuple[Turn, list[e.Event]]:
    """What the next owner makes of what is stored, and what it says."""
    scribe = close_interrupted(row("turn", "assistant"), stored, epoch=1)
    return scribe.turn, [action for action in scribe.actions if isinstance(action, e.BaseEvent)]


def prefixes(life: Life) -> Iterator[list[e.Event]]:
    """What may be stored of a turn that has not ended: nothing, or up to any of its events."""
    events = drive(machine_for(life), life).events[:-1]
    return (events[:kept] for kept in range(len(events) + 1))


@at_each_moment
@given(any_lives(), st.integers(0, 20))
def test_killed_at_any_event_a_turn_ends_in_good_order_for_every_reader(life: Life, unstored: int) -> None:
    events = drive(machine_for(life), life).events[:-1]
    for stored in prefixes(life):
        turn, said = closed(stored)
        assert [event.seq for event in said] == list(range(1_000_001, 1_000_001 + len(said)))
        to = stored[-1].seq if stored else 0
        assert said[0] == e.Rewind(seq=1_000_001, to=to, blocks=standing(fold(stored)))
        assert [type(event) for event in said].count(e.TurnEnd) == 1
        assert isinstance(said[-1], e.TurnEnd)
        assert not turn.open
        assert picture(fold([*stored, *said])) == picture(turn)
        assert picture(fold([*events[: len(stored) + unstored], *said])) == picture(turn)


@at_each_moment
@given(any_lives())
def test_killed_at_any_event_every_call_is_answered_and_no_provider_refuses_the_next_request(life: Life) -> None:
    for stored in prefixes(life):
        turn, _ = closed(stored)
        assert_every_call_is_answered_once(turn)
        rows = StoredTurn(row=row("turn", "assistant"), blocks=turn.blocks, rounds=turn.rounds)
        for _, block in unread([rows]):
            rows.readings[block.call_id] = Reading(call_id=block.call_id, text="so", formatter="test", version=1)
        sent = messages([user_turn("asked", "Find the dragon"), rows, user_turn("asked-again", "And now?")])
        assert violations(sent) == []


@at_each_moment
@given(any_lives())
def test_what_may_have_taken_effect_is_unknown_and_what_never_started_is_said_to_be_so(life: Life) -> None:
    for stored in prefixes(life):
        started = {event.call_id for event in stored if isinstance(event, e.ToolStart)}
        answered = {block.call_id for block in fold(stored).closed.values() if isinstance(block, ToolResultBlock)}
        for block in closed(stored)[0].blocks:
            if isinstance(block, ToolResultBlock) and block.origin == "server" and block.call_id not in answered:
                assert block.outcome == ("unknown" if block.call_id in started else "cancelled")
