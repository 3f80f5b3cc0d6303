"""Text that comes out is valid, whatever came in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.providers.json_text import Halves, joined, loads, scrubbed


def test_a_pair_of_escapes_is_one_character() -> None:
    assert loads(b'"\\ud83d\\ude00"') == ("😀", False)


def test_half_a_pair_is_read_and_said_to_be_there() -> None:
    value, may_have_halves = loads(b'{"a": ["\\ud83d", "b"]}')
    assert may_have_halves
    assert scrubbed(value) == {"a": ["\ufffd", "b"]}


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert loads(b'"a\xffb"') == ("a\ufffdb", True)


@pytest.mark.parametrize("data", [b"{", b"", b"NaN", b'"\\ud83d" x', b"[" * 100_000, b'"\xff' + b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(data)


def test_halves_in_two_deltas_of_one_block_are_joined() -> None:
    halves = Halves()
    assert halves.joined(1, "a\ud83d") == "a"
    assert halves.joined(2, "other") == "other"
    assert halves.joined(1, "\ude00b") == "😀b"
    assert halves.rest(1) == ""


def test_a_half_whose_other_half_never_comes_is_replaced() -> None:
    halves = Halves()
    assert halves.joined(1, "\ud83d") == ""
    assert halves.rest(1) == "\ufffd"
    assert halves.joined(1, "\ude00x") == "\ufffdx"


@given(text=st.text(st.characters(exclude_categories=())), cut=st.integers(0, 20))
def test_what_is_joined_can_be_encoded_wherever_it_was_cut(text: str, cut: int) -> None:
    halves = Halves()
    said = halves.joined(0, text[:cut]) + halves.joined(0, text[cut:]) + halves.rest(0)
    said.encode()
    assert said == joined(text)
