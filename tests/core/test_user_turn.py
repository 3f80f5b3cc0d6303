"""A user turn is said in the same events as any other, born ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core import events as e
from legato.core.blocks import Block, FileBlock, ImageBlock, TextBlock, ThinkingBlock
from legato.core.fold import fold
from legato.core.text import clean, measure
from legato.core.user_turn import say

IMAGE = ImageBlock(index=1, round=0, state="complete", media_type="image/png", bytes=3, sha256="abc", href="/x")
FILE = FileBlock(
    index=2, round=0, state="complete", name="a\0.txt", media_type="text/plain", url="https://example.org/a"
)


@given(st.text())
def test_whatever_text_was_posted_the_turn_is_the_fold_of_its_events_and_can_be_stored(text: str) -> None:
    blocks: list[Block] = [TextBlock(index=0, round=0, state="complete", text=text), IMAGE, FILE]
    turn, events = say(turn_id="t", chat_id="c", prev_turn_id=None, created_at="now", blocks=blocks)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    read = fold(e.decode(e.encode(event)) for event in events)
    assert read.blocks == turn.blocks
    said, image, file = turn.blocks
    assert (said.text, (said.length, said.sha256)) == (clean(text), measure(clean(text)))
    assert image == IMAGE
    assert isinstance(file, FileBlock)
    assert (file.name, file.url) == ("a\ufffd.txt", FILE.url)
    assert (turn.status, turn.stop_reason) == ("complete", "end")


def test_what_no_user_says_is_a_bug_of_who_calls() -> None:
    thinking = ThinkingBlock(index=0, round=0, state="complete", text="hm")
    with pytest.raises(TypeError, match="not ThinkingBlock"):
        say(turn_id="t", chat_id="c", prev_turn_id=None, created_at="now", blocks=[thinking])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("é🐉\u2028", "é🐉\u2028"),
        ("a\0b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
        ("\ud83d", "\ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("a\ud83db\0\udc00", "a\ufffdb\ufffd\ufffd"),
    ],
)
def test_text_is_made_valid_and_otherwise_left_alone(text: str, expected: str) -> None:
    assert clean(text) == expected
