"""What becomes of blocks when they are sent, rule by rule (hazards 13, 33, 34)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.core.drive import row, user_turn
from tests.core.pairing import violations
from tests.core.play import (
    CANCEL,
    Play,
    ended,
    failed,
    opened,
    provider_call,
    provider_result,
    text,
    thinking,
)
from tests.core.play import call as call_with

from legato.core import ask
from legato.core import inputs as i
from legato.core.blocks import Block, FileBlock, ImageBlock, TextBlock, ToolResultBlock
from legato.core.messages import NO_RESULT, data_needed, first_difference, messages, unread
from legato.core.plan import HARD_END, SOFT_END, TurnLimits
from legato.core.records import Reading, StoredTurn, TurnRequest

ASKED = user_turn("asked", "Find it")
NEXT = user_turn("next", "And now?")


def call(key: int, tool_name: str = "look", raw: str = "{}") -> list[i.Input]:
    return call_with(key, tool_name, raw)


def stored(play: Play) -> StoredTurn:
    """Its rows; of each result the model reads the output."""
    closed = tuple(block for _, block in sorted(play.turn.closed.items()))
    turn = StoredTurn(row=row("turn", "assistant"), blocks=closed, rounds=play.turn.rounds)
    readings = {
        block.call_id: Reading(call_id=block.call_id, text=str(block.output), formatter="test", version=1)
        for _, block in unread([turn])
    }
    return replace(turn, readings=readings)


def told(sent: tuple[ask.Message, ...]) -> list[str]:
    """A message a line: its role, and its blocks in short."""
    return [f"{message.role}: " + ", ".join(map(short, message.blocks)) for message in sent]


def short(block: ask.SentBlock) -> str:
    match block:
        case ask.SentText():
            return repr(block.text)
        case ask.SentThinking():
            return f"({block.text})"
        case ask.SentToolUse():
            return f"{block.tool_name}{block.input or ''}"
        case ask.SentToolResult():
            mark = "!" if block.is_error else ""
            return f"-> {block.output if block.origin == 'provider' else block.text}{mark}"
        case _:
            return type(block).__name__


def sent_of(play: Play) -> list[str]:
    sent = messages([ASKED, stored(play)])
    assert violations(sent) == []
    return told(sent)


# The user's side


def test_a_turns_own_system_stands_in_front_of_the_text_it_answers_and_stays_there() -> None:
    assistant = replace(row("turn", "assistant"), request=TurnRequest(system="Be brief."))
    history = [ASKED, StoredTurn(row=assistant), NEXT, StoredTurn(row=row("turn-2", "assistant"))]
    assert told(messages(history[:2])) == ["user: 'Be brief.', 'Find it'"]
    assert told(messages(history)) == ["user: 'Be brief.', 'Find it', 'And now?'"]


def test_a_users_images_and_files_are_sent_in_their_place_and_their_data_is_named() -> None:
    blocks: list[Block] = [
        ImageBlock(index=0, round=0, state="complete", media_type="image/png", sha256="one"),
        TextBlock(index=1, round=0, state="complete", text="What is this?"),
        FileBlock(index=2, round=0, state="complete", name="a.pdf", media_type="application/pdf", sha256="two"),
        ImageBlock(index=3, round=0, state="complete", url="https://example.org/a.png"),
        TextBlock(index=4, round=0, state="complete", text=" \n"),
    ]
    sent = messages([StoredTurn(row=row("asked", "user"), blocks=tuple(blocks))])
    assert told(sent) == ["user: SentImage, 'What is this?', SentFile, SentImage"]
    assert data_needed(sent) == {"one", "two"}


# The model's side


def test_a_call_and_its_result_are_two_messages() -> None:
    play = Play()
    play.say(text(0, "Let me look."), call(1, raw='{"n":1}'), ended())
    play.finish(0, output=41)
    play.say(text(0, "It is 41."), ended("end"))
    assert sent_of(play) == [
        "user: 'Find it'",
        "assistant: 'Let me look.', look{'n': 1}",
        "user: -> 41",
        "assistant: 'It is 41.'",
    ]


def test_results_stand_in_call_order_however_they_came() -> None:
    play = Play()
    play.say(call(0), call(1, "post"), call(2, raw='{"n":2}'), ended())
    play.finish(2, output="c")
    play.finish(0, output="a")
    play.store(1)
    play.finish(1, "timeout", output="b")
    assert sent_of(play)[2] == "user: -> a, -> b!, -> c"


def test_a_notice_comes_after_what_is_there() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    play.say(call(0), ended())
    play.finish(0)
    assert sent_of(play) == ["user: 'Find it'", "assistant: look", f"user: -> done, {HARD_END!r}"]
    play.say(text(0, "Well."), ended("end"))
    assert told(messages([ASKED, stored(play), NEXT]))[2:] == [
        f"user: -> done, {HARD_END!r}",
        "assistant: 'Well.'",
        "user: 'And now?'",
    ]


def test_a_round_that_was_asked_again_is_told_its_notice_once() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    play.say(call(0), ended())
    play.finish(0)
    play.say(failed())
    assert sent_of(play)[-1] == f"user: -> done, {HARD_END!r}"


def test_thinking_goes_back_signed_and_whole_or_not_at_all() -> None:
    play = Play()
    play.say(
        thinking(0, "signed", "sig"), thinking(1, "unsigned"), text(2, "So."), thinking(3, "last", "sig"), ended("end")
    )
    sent = messages([ASKED, stored(play)])
    assert told(sent)[1] == "assistant: (signed), 'So.'"
    assert sent[1].blocks[0] == ask.SentThinking(text="signed", signature="sig")


@pytest.mark.parametrize(
    "last",
    [
        [opened(1), i.Delta(1, '{"n"')],
        text(1, "  \n"),
        provider_call(1, "srv_1"),
    ],
)
def test_thinking_is_not_left_last_where_what_came_after_it_is_not_sent(last: list[i.Input]) -> None:
    play = Play()
    play.say(text(9, "First."), thinking(0, "hm", "sig"), last, CANCEL)
    assert told(messages([ASKED, stored(play), NEXT])) == ["user: 'Find it'", "assistant: 'First.'", "user: 'And now?'"]


def test_what_was_cut_ends_without_white_space_and_a_call_that_was_cut_is_not_sent() -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Half \n"), opened(1), CANCEL)
    assert sent_of(play) == ["user: 'Find it'", "assistant: 'Half'"]


def test_a_turn_that_said_nothing_is_left_out_and_its_neighbours_are_joined() -> None:
    play = Play()
    play.say(thinking(0, "hm", "sig"), CANCEL)
    assert told(messages([ASKED, stored(play), NEXT])) == ["user: 'Find it', 'And now?'"]


def test_of_an_adopted_response_nothing_is_sent_after_its_last_call() -> None:
    play = Play()
    play.say(text(0, "Let me look."), call(1), text(2, "And meanwhile"), failed())
    play.finish(0)
    assert sent_of(play) == ["user: 'Find it'", "assistant: 'Let me look.', look", "user: -> done"]


def test_of_a_refused_response_nothing_is_sent_and_no_result_is_read() -> None:
    play = Play()
    play.say(text(0, "Let me look."), call(1), ended("refusal"))
    play.finish(0)
    turn = stored(play)
    assert told(messages([ASKED, turn, NEXT])) == ["user: 'Find it', 'And now?'"]
    assert turn.readings == {}


def test_a_call_with_bad_arguments_is_sent_with_none_and_its_error() -> None:
    play = Play()
    play.say(call(0, raw='{"n":'), ended())
    assert sent_of(play)[1:] == ["assistant: look", "user: -> None!"]


def test_a_result_that_nobody_read_is_said_to_be_unknown_rather_than_left_out() -> None:
    play = Play()
    play.say(call(0), ended())
    play.finish(0)
    turn = replace(stored(play), readings={})
    assert told(messages([ASKED, turn]))[-1] == f"user: -> {NO_RESULT}"
    assert [block.call_id for _, block in unread([turn])] == [play.call(0).call_id]


def test_what_a_provider_added_to_its_blocks_goes_back_as_it_was() -> None:
    data = {"wire": {"thought": "é", "n": [1, None, {"x": True}]}}
    play = Play()
    closed = [i.BlockClosed(key=key, provider_data=data) for key in range(4)]
    play.say(
        [i.BlockOpened(key=0, block_type="thinking"), closed[0]],
        [i.BlockOpened(key=1, block_type="text"), i.Delta(1, "a"), closed[1]],
        [i.BlockOpened(key=2, block_type="opaque"), closed[2]],
        [opened(3), closed[3]],
        ended(),
    )
    play.finish(0)
    sent = messages([ASKED, stored(play)])
    assert [block.provider_data for block in sent[1].blocks] == [data] * 4


# Providers' own calls, and pauses


def test_a_providers_own_call_goes_back_with_its_one_result_or_not_at_all() -> None:
    play = Play()
    play.say(provider_call(0, "a"), provider_call(1, "b"), provider_result(2, "a", "A"), provider_result(3, "a", "A2"))
    play.say(provider_result(4, "never asked"), text(5, "So."), ended("end"))
    assert sent_of(play)[1:] == ["assistant: web, -> A, 'So.'"]


def test_a_providers_result_that_was_cut_off_takes_its_call_along() -> None:
    play = Play()
    play.say(call(0), provider_call(1, "a"), call(2), provider_result(3, "a"), failed())
    play.finish(0)
    play.finish(1)
    assert sent_of(play)[1] == "assistant: look, look"  # kept up to the last call of ours


def test_a_providers_call_waits_for_its_result_in_the_reply_that_paused_and_in_no_other() -> None:
    play = Play()
    play.say(text(0, "One moment."), provider_call(1, "a"), ended("pause"))
    assert sent_of(play) == ["user: 'Find it'", "assistant: 'One moment.', web"]
    play.say(provider_result(0, "a", "A"), text(1, "Found."), ended("end"))
    assert sent_of(play) == ["user: 'Find it'", "assistant: 'One moment.', web, -> A, 'Found.'"]


def test_a_paused_reply_that_is_not_gone_on_with_takes_back_the_call_that_was_not_answered() -> None:
    play = Play()
    play.say(text(0, "One moment."), provider_call(1, "a"), ended("pause"), CANCEL)
    assert told(messages([ASKED, stored(play), NEXT])) == [
        "user: 'Find it'",
        "assistant: 'One moment.'",
        "user: 'And now?'",
    ]


def test_a_paused_reply_that_ended_in_thinking_and_was_not_gone_on_with_ends_before_it() -> None:
    """What was sent does not stand here: no vendor takes a message that ends in thinking, but from one that paused."""
    play = Play()
    play.say(text(0, "One moment."), thinking(1, "Hm.", "sig"), ended("pause"))
    assert sent_of(play) == ["user: 'Find it'", "assistant: 'One moment.', (Hm.)"]
    play.say(i.Steered(steer_id="s", text="Well?"), ended("end"))
    assert sent_of(play) == ["user: 'Find it'", "assistant: 'One moment.'", "user: 'Well?'"]


def test_a_call_of_ours_in_a_paused_response_is_sent_once_the_reply_is_whole() -> None:
    play = Play()
    play.say(text(0, "Both."), call(1), provider_call(2, "a"), ended("pause"))
    assert sent_of(play) == ["user: 'Find it'", "assistant: 'Both.', web"]
    play.finish(0)
    play.say(provider_result(0, "a", "A"), text(1, "And more."), call(2, raw='{"n":2}'), ended())
    play.finish(1)
    assert sent_of(play) == [
        "user: 'Find it'",
        "assistant: 'Both.', web, -> A, 'And more.', look, look{'n': 2}",
        "user: -> done, -> done",
    ]


def test_a_notice_of_a_round_that_goes_on_is_read_by_the_next_one() -> None:
    """Nothing may stand between a provider's call and its result."""
    play = Play(limits=TurnLimits(rounds=3))
    play.say(provider_call(0, "a"), ended("pause"))
    assert play.notices == ["rounds_soft"]
    assert sent_of(play) == ["user: 'Find it'", "assistant: web"]
    play.say(provider_result(0, "a", "A"), call(1), ended())
    play.finish(0)
    assert sent_of(play)[1:] == ["assistant: web, -> A, look", f"user: -> done, {SOFT_END!r}, {HARD_END!r}"]


def test_a_notice_that_no_round_read_is_never_sent() -> None:
    play = Play(limits=TurnLimits(rounds=2))
    play.say(provider_call(0, "a"), ended("pause"))
    assert play.notices == ["rounds_last"]
    play.say(provider_result(0, "a", "A"), text(1, "Found."), ended("end"))
    assert told(messages([ASKED, stored(play), NEXT]))[1:] == ["assistant: web, -> A, 'Found.'", "user: 'And now?'"]


def test_results_carry_the_calls_own_id() -> None:
    play = Play()
    play.say(call(0), call(1), ended())
    play.finish(0)
    play.finish(1)
    _, said, answered = messages([ASKED, stored(play)])
    calls = [block.call_id for block in said.blocks if isinstance(block, ask.SentToolUse)]
    results = [block.call_id for block in answered.blocks if isinstance(block, ask.SentToolResult)]
    assert calls == results == [block.call_id for block in play.turn.blocks if isinstance(block, ToolResultBlock)]


def test_a_request_that_only_grew_differs_nowhere_and_any_other_says_where() -> None:
    hello, reply = ask.SentText(text="hello"), ask.SentText(text="hi")
    first = (ask.Message("user", (hello,)),)
    grown = (*first, ask.Message("assistant", (reply,)))
    longer = (ask.Message("user", (hello, reply)),)
    assert first_difference((), first) is None
    assert first_difference(first, grown) is None
    assert first_difference(first, longer) is None
    assert first_difference(grown, first) == "message 2, block 1"
    assert first_difference(grown, longer) == "message 2, block 1"
    assert first_difference(first, (ask.Message("user", (reply,)),)) == "message 1, block 1"
