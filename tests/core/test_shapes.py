"""What a schema is held to, and what it is not."""

from __future__ import annotations

import pytest

from legato.core.blocks import Json
from legato.core.shapes import misfit

ROOM: Json = {
    "type": "object",
    "required": ["room"],
    "properties": {"room": {"type": "integer"}, "name": {"type": "string", "pattern": "^(a+)+$"}, "any": {}},
}


@pytest.mark.parametrize(
    "value",
    [{"room": 7}, {"room": 7.0}, {"room": 7, "any": [1]}, {"room": 7, "name": "a" * 50 + "!"}, {"room": 7, "x": 1}],
)
def test_what_has_the_required_names_and_types_fits(value: dict[str, Json]) -> None:
    assert misfit(value, ROOM) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "room is required, and missing"),
        ({"room": 7.5}, "room: expected integer, got float"),
        ({"room": True}, "room: expected integer, got bool"),
        ({"room": None}, "room: expected integer, got NoneType"),
        ({"room": 7, "name": ["a"]}, "name: expected string, got list"),
    ],
)
def test_what_is_missing_or_of_another_type_is_named(value: dict[str, Json], message: str) -> None:
    assert misfit(value, ROOM) == message


@pytest.mark.parametrize(
    "schema", [{}, {"required": 5, "properties": []}, {"properties": {"a": 5, "b": {"type": ["x"]}}}]
)
def test_a_schema_that_is_none_refuses_nothing(schema: dict[str, Json]) -> None:
    assert misfit({"a": 1, "b": 2}, schema) is None
