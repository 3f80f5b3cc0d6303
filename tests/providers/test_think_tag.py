"""Thinking inside of text is found at its start only, and no character but the tags is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.providers.think_tag import ThinkTag


def said(text: str, size: int, *, sought: bool = True) -> dict[str, str]:
    tag = ThinkTag(sought=sought)
    parts = [one for at in range(0, len(text), size) for one in tag.feed(text[at : at + size])] + tag.rest()
    assert all(words for _, words in parts)
    return {kind: "".join(words for one, words in parts if one == kind) for kind in ("thinking", "text")}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<think>a < b</think>\n\nyes", "a < b", "\n\nyes"),
        ("\n<think>a</think>b", "\na", "b"),
        ("<think>never ended </thin", "never ended </thin", ""),
        ("<think></think>b", "", "b"),
        ("<thinking>", "", "<thinking>"),
        ("<thin", "", "<thin"),
        ("say <think>a</think>", "", "say <think>a</think>"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("<think>a<</</think>b", "a<</", "b"),
        ("", "", ""),
    ],
)
def test_the_tag_counts_at_the_very_start(text: str, thinking: str, answer: str, size: int) -> None:
    assert said(text, size) == {"thinking": thinking, "text": answer}


@given(text=st.text("<>/think a\n"), size=st.integers(1, 5))
def test_where_no_tag_is_sought_the_text_is_the_text(text: str, size: int) -> None:
    assert said(text, size, sought=False) == {"thinking": "", "text": text}


@given(thinking=st.text("<>/think ab\n"), answer=st.text("<>/think ab\n"), size=st.integers(1, 7))
def test_the_pieces_change_nothing(thinking: str, answer: str, size: int) -> None:
    text = f"<think>{thinking}</think>{answer}"
    assert said(text, size) == said(text, len(text))
