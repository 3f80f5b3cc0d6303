"""What a query asks for, and what is shown of a hit."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.errors import InvalidRequest
from legato.core.queries import QUERY_TERMS, Term, read_query, snippet


def asked(text: str) -> list[tuple[tuple[str, ...], bool]]:
    return [(one.words, one.beginning) for one in read_query(text).terms]


def test_a_long_word_is_a_beginning_and_a_short_or_quoted_one_is_not() -> None:
    assert asked("Drache art") == [(("drache",), True), (("art",), False)]
    assert asked('"red dragon" ar* x*') == [(("red", "dragon"), False), (("ar",), True), (("x",), False)]
    assert asked("o'brien well-known") == [(("o", "brien"), True), (("well", "known"), True)]
    assert asked('"open end') == [(("open", "end"), False)]


def test_scripts_without_spaces_are_pieces_and_stand_beside_words() -> None:
    assert read_query("dragon洞窟x").terms == (
        Term(("洞窟",), ("洞窟",), piece=True),
        Term(("dragon", "x"), ("dragon", "x")),
    )


def test_the_same_word_twice_is_once_and_there_is_an_end_to_words() -> None:
    assert asked("dragon DRAGON") == [(("dragon",), True), (("dragon",), True)][:2]
    assert len(read_query(" ".join(f"w{n}" for n in range(60))).terms) == QUERY_TERMS


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_has_no_word(text: str) -> None:
    if any(one.isalnum() for one in text):
        query = read_query(text)
        assert query.terms
        snippet(text, query)
    else:
        with suppress(InvalidRequest):
            read_query(text)


@pytest.mark.parametrize(
    ("text", "query", "line", "shown"),
    [
        ("a\nThe Dragons came.\n", "dragon", 2, "The ⟦Dragons⟧ came."),
        ("dragon\nred dragon", "red dragon", 2, "⟦red⟧ ⟦dragon⟧"),
        ("the café", "CAFE", 1, "the ⟦café⟧"),
        ("龍は洞窟にいる", "洞窟", 1, "龍は⟦洞窟⟧にいる"),
        ("\nfirst line\n", "elsewhere", 2, "first line"),
        ("", "elsewhere", 1, ""),
    ],
)
def test_a_snippet_is_the_best_line_with_its_hits_marked(text: str, query: str, line: int, shown: str) -> None:
    assert snippet(text, read_query(query)) == (line, shown)


def test_a_snippet_of_a_long_line_is_around_its_first_hit() -> None:
    line, shown = snippet("word " * 100 + "dragon " + "word " * 100, read_query("dragon"))
    assert line == 1
    assert "⟦dragon⟧" in shown
    assert shown.startswith("… word")
    assert shown.endswith("word …")
    assert len(shown) < 300


def test_a_hit_deep_in_one_very_long_line_is_shown_and_one_inside_of_a_word_is_not() -> None:
    line, shown = snippet("ä word " * 50_000 + "red dragon " + "ä word " * 10_000, read_query("dragon"))
    assert line == 1
    assert "red ⟦dragon⟧ ä" in shown
    assert shown.startswith("… ")
    assert "⟦" not in snippet("chills " * 50_000, read_query("hill"))[1]
