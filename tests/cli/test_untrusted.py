"""Nothing that somebody else wrote may act on the terminal."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.cli.untrusted import Cleaner, clean, one_line, visible_json

ACTS = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u202e"} - {"\n", "\t"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 漢 \U0001f409\tand\nlines", "plain ä 漢 \U0001f409\tand\nlines"),
        ("a\x1b[31;1mred\x1b[0m", "ared"),
        ("a\x1b]0;the title\x07b", "ab"),
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("a\x1bPq#0\x1b\\b\x9b2Jc\x9d0;t\x9cd", "abcd"),
        ("a\x1b(Bb\x1b7c\x1bcd", "abcd"),
        ("over\rwritten\r\nline", "overwritten\nline"),
        ("bell\x07 back\x08 del\x7f nul\0", "bell back del nul"),
        ("\u202egnirts", "gnirts"),
        ("torn \x1b[3", "torn [3"),
        ("a\x1b\x1b[31mb", "ab"),
    ],
)
def test_what_a_terminal_would_act_on_is_taken_out(text: str, shown: str) -> None:
    assert clean(text) == shown


MIXED = st.text(st.sampled_from("ab[]0;1mJP\\\x1b\x9b\x9d\x9c\x07\r\n\t\u202e漢"), max_size=40)


@given(MIXED)
def test_no_text_acts_on_the_terminal(text: str) -> None:
    assert not ACTS & set(clean(text))


@given(MIXED, st.lists(st.integers(0, 40), max_size=6))
def test_text_in_pieces_is_shown_as_the_whole_is(text: str, cuts: list[int]) -> None:
    at = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    cleaner = Cleaner()
    shown = "".join(cleaner.feed(text[start:end]) for start, end in pairwise(at))
    assert not ACTS & set(shown)
    assert shown == Cleaner().feed(text)


def test_a_sequence_that_never_ends_is_held_back_no_longer_than_a_screen() -> None:
    cleaner = Cleaner()
    shown = "".join(cleaner.feed(piece) for piece in ["a\x1b]0;", *["b" * 100] * 100])
    assert shown.count("b") > 5_000
    assert "\x1b" not in shown


def test_one_line_is_one_and_no_longer_than_asked() -> None:
    assert one_line("two\n\n lines\x1b[1m", 40) == "two lines"
    assert one_line("x" * 1_000_000, 10) == "x" * 9 + "…"


@given(st.text(max_size=30))
def test_json_for_a_terminal_means_the_same_and_acts_on_nothing(text: str) -> None:
    line = json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "replace")
    shown = visible_json(line)
    assert json.loads(shown) == json.loads(line)
    assert not ACTS - {"\u202e"} & set(shown.decode())
