"""What the model reads of a result, and what tools are called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.blocks import Json
from legato.tools.mcp.names import offered_name
from legato.tools.mcp.text import mcp_text, text_alone

A_TEXT = {"type": "text", "text": "hello"}


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("hello", "hello"),
        ({"content": [A_TEXT, {"type": "text", "text": "world"}]}, "hello\nworld"),
        ({"content": [{"type": "image", "mimeType": "image/png", "data": "AAAA"}]}, "[image: image/png, 3 bytes]"),
        ({"content": [{"type": "audio", "data": "AA=="}]}, "[audio: of unknown type, 1 bytes]"),
        (
            {"content": [{"type": "resource_link", "uri": "file:///a", "name": "a", "mimeType": "text/x"}]},
            "[link: file:///a, a, text/x]",
        ),
        (
            {"content": [{"type": "resource", "resource": {"uri": "file:///a", "text": "line"}}]},
            "[resource: file:///a]\nline",
        ),
        (
            {"content": [{"type": "resource", "resource": {"uri": "file:///a", "blob": "AAA=", "mimeType": "x/y"}}]},
            "[resource: file:///a, x/y, 2 bytes]",
        ),
        ({"content": [{"type": "new", "of": 2027}]}, '{"type":"new","of":2027}'),
        ({"content": [], "structuredContent": {"a": 1}}, '{"a":1}'),
        ({"content": [A_TEXT], "structuredContent": {"a": 1}}, 'hello\n{"a":1}'),
        ({"content": [{"type": "text", "text": '{\n "a": 1}'}], "structuredContent": {"a": 1}}, '{\n "a": 1}'),
        ({"content": [A_TEXT], "structuredContent": {"result": "hello"}}, "hello"),
        ({"content": [A_TEXT, A_TEXT], "structuredContent": {"result": ["hello", "hello"]}}, "hello\nhello"),
        ({"content": [{"type": "text", "text": "3"}], "structuredContent": {"result": 3}}, "3"),
        ({"rows": [1]}, '{"rows":[1]}'),
        ([1, 2], "[1,2]"),
    ],
)
def test_text_is_text_structure_is_json_once_and_all_else_says_what_it_is(output: Json, text: str) -> None:
    assert mcp_text(output) == text


def test_an_error_is_its_texts_alone() -> None:
    assert text_alone({"content": [A_TEXT, {"type": "image", "data": "AAAA"}]}) == "hello"
    assert text_alone({"content": 5}) == ""
    assert text_alone(None) == ""


@given(st.text(max_size=80), st.text(max_size=80))
def test_names_fit_every_vendor_stay_apart_and_are_the_same_each_time(one: str, other: str) -> None:
    names = offered_name("server", one), offered_name("server", other)
    assert all(re.fullmatch(r"server__[a-zA-Z0-9_-]{1,56}", name) for name in names)
    assert (names[0] == names[1]) == (one == other)


@pytest.mark.parametrize(
    ("server", "tool", "name"),
    [
        ("files", "read_file", "files__read_file"),
        ("files", "read-file", "files__read-file"),
        ("files", "read.file", "files__read_file_dd32cdf5"),
        ("a" * 32, "b" * 30, f"{'a' * 32}__{'b' * 30}"),
        ("a" * 32, "b" * 31, f"{'a' * 32}__{'b' * 21}_dd49266d"),
    ],
)
def test_a_name_that_fits_stays_as_it_is(server: str, tool: str, name: str) -> None:
    assert offered_name(server, tool) == name
