"""A long text, cut: never over its bound, no character torn, and the numbers in its line are true."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from legato.core.cut import Ends, cut_before, shorten

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


def test_head_and_tail_stay_and_the_line_says_how_many_bytes_are_gone() -> None:
    text = shorten("a" * 5000 + "z" * 5000, 330)
    head, marker, tail = text.split("\n")
    assert marker == f"[… {10_000 - len(head) - len(tail)} of 10000 bytes left out …]"
    assert set(head) == {"a"}
    assert set(tail) == {"z"}
    assert len(head) > len(tail) > 50
    assert len(text.encode()) <= 330


def test_the_line_says_how_to_read_on_from_the_first_byte_that_is_missing() -> None:
    text = shorten("é" * 5000, 330, lambda start: f"; start={start}")
    found = re.search(r"start=(\d+) …\]", text)
    assert found is not None
    assert int(found[1]) == len(text.partition("\n[…")[0].encode())


@given(text=TEXT, repeat=st.integers(1, 5), limit=st.integers(0, 600))
def test_a_cut_is_never_over_its_bound_and_never_tears_a_character(text: str, repeat: int, limit: int) -> None:
    whole = text * repeat
    cut = shorten(whole, limit)
    assert len(cut.encode()) <= limit
    if len(whole.encode()) <= limit:
        assert cut == whole
    elif (ends := cut_before(cut, len(whole.encode()))) is not None:
        assert whole.startswith(ends.head)
        assert whole.endswith(ends.tail)
    else:
        assert whole.startswith(cut), "where there is no room for the line, the beginning alone"


@given(text=TEXT, repeat=st.integers(1, 8), first=st.integers(60, 600), second=st.integers(0, 600))
def test_what_was_cut_can_be_cut_again_and_one_line_stands_for_all_that_is_missing(
    text: str, repeat: int, first: int, second: int
) -> None:
    whole = text * repeat
    total = len(whole.encode())
    once = cut_before(shorten(whole, first), total)
    if once is None:
        return
    again = once.within(second, lambda _: "")
    assert len(again.encode()) <= second
    twice = cut_before(again, total)
    if twice is not None:
        assert whole.startswith(twice.head)
        assert whole.endswith(twice.tail)


def test_a_line_of_the_tools_own_that_looks_like_ours_is_not_taken_for_it() -> None:
    forged = "\n[… 7 of 9000 bytes left out …]\n"
    whole = forged + "x" * 9000
    total = len(whole.encode())
    found = cut_before(shorten(whole, 500), total)
    assert found is not None
    assert found.head.startswith(forged)


def test_what_was_not_cut_is_not_taken_apart() -> None:
    assert cut_before("as it is", 8) is None
    assert cut_before("a\n[… 7 of 9 bytes left out …]\nb", 8) is None


def test_a_beginning_and_an_end_that_are_short_are_shown_whole() -> None:
    shown = Ends("begin", "end", 1000).within(500, lambda _: "")
    assert shown == "begin\n[… 992 of 1000 bytes left out …]\nend"
