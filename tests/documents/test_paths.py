"""What names a document, and what is said to what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.documents import (
    DEPTH,
    NAME_BYTES,
    PATH_BYTES,
    document_path,
    document_text,
    folder_path,
    key_of,
    line_count,
    place_path,
    word_count,
)
from legato.core.errors import InvalidRequest


@pytest.mark.parametrize(
    ("given_", "path"),
    [
        ("novel/chapter 1.md", "novel/chapter 1.md"),
        ("/novel/a", "novel/a"),
        ("E\u0301", "\u00c9"),
        ("👩\u200d🚀.md", "👩\u200d🚀.md"),
        (".hidden", ".hidden"),
        ("a..b/...", "a..b/..."),
    ],
)
def test_a_path_is_kept_as_it_is_written_but_in_nfc(given_: str, path: str) -> None:
    assert document_path(given_) == path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "it is empty"),
        ("/", "it is empty"),
        ("a/", "names a folder"),
        ("a//b", "two slashes"),
        ("//a", "two slashes"),
        ("../a", "'..' is no name"),
        ("a/./b", "'.' is no name"),
        (" a", "white space"),
        ("a /b", "white space"),
        ("a\\b", "backslash"),
        ("a\nb", "not seen"),
        ("a\0b", "not seen"),
        ("a\u202eb", "not seen"),
        ("a\ud800", "not seen"),
        ("x" * (NAME_BYTES + 1), f"201 bytes, limit is {NAME_BYTES}"),
        ("/".join("x" * (DEPTH + 1)), f"17 names, limit is {DEPTH}"),
        ("/".join(["x" * 190] * 3), f"572 bytes, limit is {PATH_BYTES}"),
    ],
)
def test_what_is_no_path_is_told_what_is_wrong(path: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said.replace(".", r"\.")) as refused:
        document_path(path, field="to")
    assert refused.value.code == "path_invalid"
    assert refused.value.problems[0].path == "/to"


def test_a_folder_is_known_by_its_slash_and_nothing_is_the_whole_workspace() -> None:
    assert [folder_path(one) for one in ("", "/", ".", "a", "a/", "/a/b/")] == ["", "", "", "a/", "a/", "a/b/"]
    assert (place_path("a/"), place_path("a")) == ("a/", "a")


@given(st.text())
def test_a_path_that_is_taken_is_taken_again_and_leaves_no_root(text: str) -> None:
    try:
        path = document_path(text)
    except InvalidRequest:
        return
    assert document_path(path) == path
    assert key_of(key_of(path)) == key_of(path)
    assert not {"", ".", ".."} & set(path.split("/"))


def test_words_and_lines_are_counted_as_a_person_would() -> None:
    assert [word_count(one) for one in ("", " a  b\n", "der Drache schläft", "龍は Drache")] == [0, 2, 3, 3]
    assert [line_count(one) for one in ("", "a", "a\n", "a\n\nb")] == [0, 1, 1, 3]
    assert document_text("a\r\nb\rc\0\ud800") == "a\nb\nc\ufffd\ufffd"
