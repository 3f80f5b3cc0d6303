"""What the model is sent of any life is taken by every provider, and only grows (hazards 1, 13, 27)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.core.drive import cut_anywhere, drive, machine_for, user_turn
from tests.core.pairing import flat, violations
from tests.core.turns import FATAL, RETRYABLE, Life, any_lives, at_each_moment, interruptions

from legato.core import ask
from legato.core import inputs as i
from legato.core.blocks import ThinkingBlock, ToolUseBlock
from legato.core.messages import messages, unread

ASKED = user_turn("asked", "Find the dragon")
ASKED_AGAIN = user_turn("asked-again", "And now?")
CUTS: st.SearchStrategy[i.Input] = st.one_of(
    interruptions,
    st.sampled_from(
        [
            i.ResponseFailed(error=RETRYABLE),
            i.ResponseFailed(error=FATAL),
            i.CancelRequested(),
            i.Interrupted(error=FATAL),
        ]
    ),
)


@at_each_moment
@given(any_lives(), CUTS)
def test_after_a_turn_cut_at_any_moment_the_next_request_is_one_that_no_provider_refuses(
    life: Life, cut: i.Input
) -> None:
    for run in cut_anywhere(life, cut):
        assert violations(messages([ASKED, run.stored(), ASKED_AGAIN])) == []


@given(any_lives())
def test_every_request_of_a_turn_is_one_that_no_provider_refuses(life: Life) -> None:
    for _, sent in drive(machine_for(life), life).requests:
        assert violations(sent) == []


def assert_only_grows(requests: Sequence[Sequence[ask.Message]]) -> None:
    """Save that a reply which paused, and was not gone on with, takes back what only its provider could have used."""
    for before, after in pairwise([flat(each) for each in requests]):
        paused = before[-1][0] == "assistant"
        kept = [each for each in before if not paused or each in after or not is_taken_back(each[1])]
        assert after[: len(kept)] == kept


def is_taken_back(block: ask.SentBlock) -> bool:
    return isinstance(block, ask.SentThinking) or (isinstance(block, ask.SentToolUse) and block.origin == "provider")


@at_each_moment
@given(any_lives(), CUTS)
def test_a_request_begins_with_the_request_before_it(life: Life, cut: i.Input) -> None:
    for run in cut_anywhere(life, cut):
        assert_only_grows([sent for _, sent in run.requests])


@given(any_lives(), any_lives())
def test_a_following_turn_begins_with_all_that_was_sent_before(first: Life, second: Life) -> None:
    one = drive(machine_for(first), first)
    two = drive(machine_for(second, turn_id="turn-2"), second, history=[ASKED, one.stored(), ASKED_AGAIN])
    assert_only_grows([sent for _, sent in [*one.requests, *two.requests]])


@given(any_lives())
def test_nothing_unsigned_nothing_partial_and_nothing_orphaned_is_sent(life: Life) -> None:
    stored = drive(machine_for(life), life).stored()
    sent = [block for _, block in flat(messages([ASKED, stored]))]
    orphaned = {record.round for record in stored.rounds} - {
        record.round for record in stored.rounds if record.commitment != "orphaned"
    }
    calls = {block.call_id: block for block in stored.blocks if isinstance(block, ToolUseBlock)}
    signed = [
        (block.text, block.signature, block.redacted)
        for block in stored.blocks
        if isinstance(block, ThinkingBlock) and block.state == "complete"
    ]
    for block in sent:
        match block:
            case ask.SentToolUse():
                assert calls[block.call_id].state == "complete"
                assert calls[block.call_id].round not in orphaned
                assert block.input == (calls[block.call_id].input or {})
            case ask.SentThinking():
                assert (block.text, block.signature, block.redacted) in signed  # byte for byte, or not at all
            case _:
                pass


@given(any_lives())
def test_a_result_is_read_once_it_will_be_sent_and_never_read_again(life: Life) -> None:
    stored = drive(machine_for(life), life).stored()
    assert unread([stored]) == []
    sent = [block for _, block in flat(messages([ASKED, stored])) if isinstance(block, ask.SentToolResult)]
    own = [block for block in sent if block.origin != "provider"]
    assert [block.text for block in own] == [stored.readings[block.call_id].text for block in own]
    assert {block.call_id for block in own} == set(stored.readings)
