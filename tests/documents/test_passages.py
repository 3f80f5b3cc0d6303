"""Places, views, what is nearest, and what differs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.passages import (
    MOST_PLACES,
    VIEW_BYTES,
    VIEW_LINES,
    Stretch,
    difference,
    line_at,
    lines_of,
    nearest,
    places,
    stretch,
)

TEXT = "# One\n\nThe dragon sleeps under the hill, and nobody wakes it.\nNobody came.\nThe end."


def test_every_place_of_a_passage_is_found_and_there_is_an_end_to_it() -> None:
    assert places("aaa", "aa") == [0, 1]
    assert len(places("a" * 5_000, "a")) == MOST_PLACES
    assert line_at("a\nb\nc", 4) == 3


def test_the_nearest_lines_are_those_with_most_of_the_passages_words() -> None:
    assert nearest(TEXT, "the dragon sleeps below a hill") == (
        "3: The dragon sleeps under the hill, and nobody wakes it."
    )
    assert nearest(TEXT, "Nobody came!\nThe end!") == "4: Nobody came.\n5: The end."
    assert nearest(TEXT, "“zzz”") is None
    assert nearest(TEXT, "\n \n") is None
    assert nearest("", "dragon") is None
    assert nearest("x" * 1_000 + " dragon", "dragon") == f"1: {'x' * 200} …"


def test_a_view_is_cut_at_its_lines_and_at_its_bytes_and_says_where() -> None:
    assert stretch("a\nb\nc\n", 2, None) == Stretch(2, 3, 3, "b\nc")
    assert stretch("a\nb\nc\n", 1, 2) == Stretch(1, 2, 3, "a\nb")
    assert stretch("", 1, None) == Stretch(1, 0, 0, "")
    many = stretch("x\n" * (VIEW_LINES + 5), 1, None)
    assert (many.start, many.end, many.lines) == (1, VIEW_LINES, VIEW_LINES + 5)
    wide = stretch("\n".join(["é" * 10_000] * 3), 1, None)
    assert (wide.end, wide.cut) == (1, False)
    long = stretch("é" * VIEW_BYTES, 1, None)
    assert (long.end, long.cut, len(long.text.encode())) == (1, True, VIEW_BYTES)


@given(st.text("ab\n", max_size=40), st.integers(1, 10), st.integers(1, 10))
def test_stretches_one_after_another_are_the_whole_text(text: str, start: int, length: int) -> None:
    seen = stretch(text, start, start + length - 1)
    assert seen.text.split("\n")[: seen.end - seen.start + 1] == lines_of(text)[start - 1 : start - 1 + length] or (
        seen.end < seen.start
    )


@given(st.text("ab\n", max_size=30), st.text("ab\n", max_size=30))
def test_a_difference_is_nothing_only_between_equal_texts(old: str, new: str) -> None:
    assert (difference(old, new, old_name="a", new_name="b") == "") is (old == new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a\nb\nc\n", "a\nB\nc\n"),
        ("a\nb", "a\nb\n"),
        ("", "a\nb\n"),
        ("a\n" * 3_000 + "b\n" * 3_000, "a\n" * 3_000 + "c\n" * 3_000 + "b\n"),
        ("x\n" * 5_000, ""),
        ("a\n" * 90 + "1\n2\n3\n" + "b\n" * 90, "a\n" * 90 + "1\n3\n4\n" + "b\n" * 90),
    ],
)
def test_patch_makes_the_new_text_of_the_old_one_by_the_difference(old: str, new: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(old)
    told = difference(old, new, old_name="file", new_name="file")
    try:
        done = subprocess.run(["patch", "file"], cwd=tmp_path, input=told, text=True, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs patch")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "file").exists() is (new != "") or (tmp_path / "file").read_text() == new
    if new:
        assert (tmp_path / "file").read_text() == new
