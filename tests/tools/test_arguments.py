"""The schema a model is shown, as golden vectors, and what it is told of arguments that do not fit."""

# ruff: noqa: UP007, UP045 - people write Optional and Union, and they must be read

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import sys
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired, Optional, Union

import pytest
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict

from legato.core.blocks import Json
from legato.core.errors import ConfigError
from legato.tools.arguments import Arguments


def arguments(function: Callable[..., object], **described: str) -> Arguments:
    return Arguments(function, title="tools.py:1: tool 'look'", described=described, local_names={})


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


@dataclasses.dataclass
class Point:
    x: int
    y: Annotated[int, Field(description="Upwards", ge=0)] = 0


class Area(TypedDict):
    corner: Point
    title: NotRequired[str]


class Folder(BaseModel):
    """A folder and what lies in it."""

    title: str
    folders: list[Folder] = []


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


def no_arguments() -> None: ...
def plain(city: str, days: int = 3, exact: bool = False, share: float = 0.5) -> None: ...
def described(
    a: Annotated[str, "City and country"],
    b: Annotated[int, Field(ge=1, le=7, description="Days")] = 1,
    c: Annotated[str, "maybe"] | None = None,
    d: str = Field("x", description="of a default", max_length=3),
) -> None: ...
def choices(unit: Literal["c", "f"], other: Unit = Unit.CELSIUS, both: Literal[1, "one"] = 1) -> None: ...
def optional(a: Optional[int], b: str | None = None, c: Union[int, str] = 0) -> None: ...
def times(day: dt.date, at: dt.datetime, key: uuid.UUID) -> None: ...
def lists(names: list[str], pair: tuple[int, str], tags: dict[str, int], anything: Any = None) -> None: ...
def nested(area: Area, points: list[Point]) -> None: ...
def recursive(root: Folder) -> None: ...
def tagged(pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> None: ...
def awkward(json: str, copy: int, model_config: str, title: str, _private: int) -> None: ...


def shown(required: list[str] | None = None, **properties: Json) -> dict[str, Json]:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema if required is None else {**schema, "required": required}


POINT = {
    "type": "object",
    "properties": {
        "x": {"type": "integer"},
        "y": {"type": "integer", "default": 0, "description": "Upwards", "minimum": 0},
    },
    "required": ["x"],
    "additionalProperties": False,
}
GOLDEN: list[tuple[Callable[..., object], dict[str, Json]]] = [
    (no_arguments, shown()),
    (
        plain,
        shown(
            ["city"],
            city={"type": "string"},
            days={"type": "integer", "default": 3},
            exact={"type": "boolean", "default": False},
            share={"type": "number", "default": 0.5},
        ),
    ),
    (
        described,
        shown(
            ["a"],
            a={"type": "string", "description": "City and country"},
            b={"type": "integer", "minimum": 1, "maximum": 7, "description": "Days", "default": 1},
            c={"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "description": "maybe"},
            d={"type": "string", "default": "x", "description": "of a default", "maxLength": 3},
        ),
    ),
    (
        choices,
        shown(
            ["unit"],
            unit={"type": "string", "enum": ["c", "f"]},
            other={"type": "string", "enum": ["c", "f"], "default": "c"},
            both={"enum": [1, "one"], "default": 1},
        ),
    ),
    (
        optional,
        shown(
            ["a"],
            a={"anyOf": [{"type": "integer"}, {"type": "null"}]},
            b={"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            c={"anyOf": [{"type": "integer"}, {"type": "string"}], "default": 0},
        ),
    ),
    (
        times,
        shown(
            ["day", "at", "key"],
            day={"type": "string", "format": "date"},
            at={"type": "string", "format": "date-time"},
            key={"type": "string", "format": "uuid"},
        ),
    ),
    (
        lists,
        shown(
            ["names", "pair", "tags"],
            names={"type": "array", "items": {"type": "string"}},
            pair={
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
            },
            tags={"type": "object", "additionalProperties": {"type": "integer"}},
            anything={"default": None},
        ),
    ),
    (
        nested,
        shown(
            ["area", "points"],
            area={
                "type": "object",
                "properties": {"corner": POINT, "title": {"type": "string"}},
                "required": ["corner"],
                "additionalProperties": False,
            },
            points={"type": "array", "items": POINT},
        ),
    ),
    (
        recursive,
        {
            **shown(["root"], root={"$ref": "#/$defs/Folder"}),
            "$defs": {
                "Folder": {
                    "type": "object",
                    "description": "A folder and what lies in it.",
                    "properties": {
                        "title": {"type": "string"},
                        "folders": {"type": "array", "items": {"$ref": "#/$defs/Folder"}, "default": []},
                    },
                    "required": ["title"],
                }
            },
        },
    ),
    (
        tagged,
        shown(
            ["pet"],
            pet={
                "oneOf": [
                    {"type": "object", "properties": {"kind": {"type": "string", "const": one}}, "required": ["kind"]}
                    for one in ("cat", "dog")
                ]
            },
        ),
    ),
    (
        awkward,
        shown(
            ["json", "copy", "model_config", "title", "_private"],
            json={"type": "string"},
            copy={"type": "integer"},
            model_config={"type": "string"},
            title={"type": "string"},
            _private={"type": "integer"},
        ),
    ),
]


@pytest.mark.parametrize(("function", "expected"), GOLDEN, ids=[function.__name__ for function, _ in GOLDEN])
def test_the_schema_of_a_signature_is_small_and_says_it_all(
    function: Callable[..., object], expected: dict[str, Json]
) -> None:
    schema = arguments(function).schema
    assert schema == expected
    assert list(schema)[:2] == ["type", "properties"]


def test_properties_keep_the_order_of_the_signature() -> None:
    assert list(arguments(plain).schema["properties"]) == ["city", "days", "exact", "share"]


def test_a_description_in_the_annotation_wins_over_the_docstring() -> None:
    schema = arguments(described, a="from the docstring", b="from the docstring").schema
    assert schema["properties"]["a"]["description"] == "City and country"
    assert schema["properties"]["b"]["description"] == "Days"
    assert (
        arguments(plain, city="from the docstring").schema["properties"]["city"]["description"] == "from the docstring"
    )


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="typing.TypedDict can be read there")
def test_a_typed_dict_that_cannot_be_read_says_which_one_can() -> None:
    import typing

    class Plain(typing.TypedDict):
        x: int

    def look(where: Plain) -> None: ...

    look.__annotations__["where"] = Plain
    with pytest.raises(ConfigError, match=r"'where' is a typing.TypedDict.*import TypedDict from typing_extensions"):
        arguments(look)


CITY = {"city": "Oslo"}
CHECKED: list[tuple[Callable[..., object], dict[str, Json], str | None]] = [
    (no_arguments, {}, None),
    (no_arguments, {"a": 1}, "there is no argument 'a', there are none"),
    (plain, CITY, None),
    (plain, {**CITY, "days": 5.0}, None),
    (plain, {**CITY, "share": 1}, None),
    (plain, {}, "argument 'city' is missing"),
    (plain, {"citi": "Oslo"}, "argument 'city' is missing; there is no argument 'citi', did you mean 'city'?"),
    (
        plain,
        {**CITY, "zoom": 1},
        "there is no argument 'zoom', the arguments are: city, days, exact, share",
    ),
    (plain, {**CITY, "days": "5"}, "argument 'days': input should be a valid integer, got \"5\""),
    (plain, {**CITY, "days": 5.5}, "argument 'days': input should be a valid integer, got 5.5"),
    (plain, {**CITY, "days": True}, "argument 'days': input should be a valid integer, got true"),
    (plain, {**CITY, "days": None}, "argument 'days': input should be a valid integer, got null"),
    (plain, {**CITY, "exact": 1}, "argument 'exact': input should be a valid boolean, got 1"),
    (plain, {"city": ["Oslo"]}, "argument 'city': input should be a valid string, got [\"Oslo\"]"),
    (
        plain,
        {"city": {"x": "y" * 200}},
        'argument \'city\': input should be a valid string, got {"x": "' + "y" * 73 + "…",
    ),
    (described, {"a": "x", "b": 8}, "argument 'b': input should be less than or equal to 7, got 8"),
    (choices, {"unit": "k"}, "argument 'unit': input should be 'c' or 'f', got \"k\""),
    (choices, {"unit": "c", "other": "f"}, None),
    (optional, {"a": None, "b": "x", "c": "y"}, None),
    (
        optional,
        {"a": 1, "c": []},
        "argument 'c': input should be a valid integer, got []; argument 'c': input should be a valid string, got []",
    ),
    (times, {"day": "2026-11-24", "at": "2026-11-24T10:00:00Z", "key": str(uuid.UUID(int=1))}, None),
    (lists, {"names": [], "pair": [1, "a"], "tags": {"a": 1}, "anything": {"x": [1]}}, None),
    (
        lists,
        {"names": "Oslo", "pair": [1, "a"], "tags": {}},
        "argument 'names': input should be a valid array, got \"Oslo\"",
    ),
    (
        lists,
        {"names": ["a", 2], "pair": [1, "a"], "tags": {"k": "v"}},
        (
            "argument 'names[1]': input should be a valid string, got 2; "
            "argument 'tags.k': input should be a valid integer, got \"v\""
        ),
    ),
    (nested, {"area": {"corner": {"x": 1}}, "points": [{"x": 1, "y": 2}]}, None),
    (
        nested,
        {"area": {"corner": {}, "colour": "red"}, "points": []},
        "argument 'area.corner.x' is missing; argument 'area.colour' is not known",
    ),
    (tagged, {"pet": {"kind": "dog"}}, None),
    (awkward, {"json": "a", "copy": 1, "model_config": "b", "title": "c", "_private": 2}, None),
]


@pytest.mark.parametrize(("function", "given", "expected"), CHECKED)
def test_a_mismatch_is_said_in_words_that_name_the_argument(
    function: Callable[..., object], given: dict[str, Json], expected: str | None
) -> None:
    assert arguments(function).check(given) == expected


def test_at_most_five_mismatches_are_said() -> None:
    def many(a: int, b: int, c: int, d: int, e: int, f: int, g: int) -> None: ...

    said = arguments(many).check({})
    assert said is not None
    assert said.count("is missing") == 5
    assert said.endswith("; and 2 more")


def test_values_come_in_the_types_that_were_asked_for() -> None:
    given = {"area": {"corner": {"x": 1}}, "points": [{"x": 1}]}
    assert arguments(nested).values(given) == {"area": {"corner": Point(1, 0)}, "points": [Point(1, 0)]}
    assert arguments(choices).values({"unit": "c", "other": "f"})["other"] is Unit.FAHRENHEIT
    day = arguments(times).values({"day": "2026-11-24", "at": "2026-11-24T10:00:00Z", "key": str(uuid.UUID(int=1))})
    assert (day["day"], day["key"]) == (dt.date(2026, 11, 24), uuid.UUID(int=1))


def test_a_mutable_default_is_not_shared_between_calls() -> None:
    def collect(seen: list[str] = []) -> None: ...  # noqa: B006 - people write it

    read = arguments(collect)
    first = read.values({})["seen"]
    assert isinstance(first, list)
    first.append("x")
    assert read.values({})["seen"] == []


def test_a_default_that_is_no_json_is_left_out_of_the_schema_and_still_given() -> None:
    missing = object()

    def look(city: Any = missing) -> None: ...

    assert arguments(look).schema == shown(city={})
    assert arguments(look).values({})["city"] is missing


def test_a_validator_that_raises_whatever_it_likes_is_a_mismatch_and_no_crash() -> None:
    class Odd(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def look(cls, value: int) -> int:
            raise KeyError(value)

    def take(odd: Odd) -> None: ...

    take.__annotations__["odd"] = Odd
    assert arguments(take).check({"odd": {"x": 1}}) == "the arguments could not be checked: KeyError: 1"


def test_arguments_nested_too_deep_are_a_mismatch_and_no_crash() -> None:
    deep: Json = []
    for _ in range(100_000):
        deep = [deep]
    assert (arguments(lists).check({"names": deep}) or "").startswith(
        "the arguments could not be checked: RecursionError"
    )
