"""A whole object is told in one look at each character, wherever the pieces end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.blocks import Json
from legato.providers.objects import ObjectScanner

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('{}[]"\\ aé\n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('{}[]"\\b'), inner, max_size=3),
    max_leaves=12,
)


@given(
    value=st.dictionaries(st.text('{}"\\k'), values, max_size=4), size=st.integers(1, 9), indent=st.none() | st.just(1)
)
def test_an_object_is_whole_at_its_last_character_and_not_before(value: Json, size: int, indent: int | None) -> None:
    text = "  " + json.dumps(value, indent=indent)
    scanner = ObjectScanner()
    for at in range(0, len(text), size):
        assert not scanner.complete
        scanner.feed(text[at : at + size])
    assert scanner.complete
    assert not scanner.bad
    scanner.feed(" \n")
    assert not scanner.bad
    scanner.feed("x")
    assert scanner.bad


@pytest.mark.parametrize("text", ["[1]", "null", '"{}"', "x{}"])
def test_what_does_not_begin_with_a_brace_is_no_object(text: str) -> None:
    scanner = ObjectScanner()
    scanner.feed(text)
    assert scanner.bad
    assert not scanner.complete


def test_white_space_alone_begins_nothing() -> None:
    scanner = ObjectScanner()
    scanner.feed(" \n")
    assert not scanner.begun


def test_each_piece_is_looked_at_once_however_many_came_before() -> None:
    """Linear (hazard 32): the scanner keeps a depth and two flags, and none of the text."""
    scanner = ObjectScanner()
    scanner.feed('{"a": "')
    for _ in range(10_000):
        scanner.feed("x" * 10)
    kept = [getattr(scanner, name) for name in ObjectScanner.__slots__]
    assert all(isinstance(one, int | bool) or len(one) <= 1 for one in kept)
