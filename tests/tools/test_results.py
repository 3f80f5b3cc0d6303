"""What a tool may return, and what is said of the rest."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import NamedTuple

import msgspec
import pytest
from pydantic import BaseModel, Field, field_serializer

from legato.core.blocks import Json
from legato.core.errors import ToolError
from legato.tools.results import jsonable


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Name(enum.StrEnum):
    A = "a"


@dataclasses.dataclass
class Point:
    x: int
    tags: list[Colour]


class Model(BaseModel):
    day: dt.date
    inner: dict[str, int] = Field(alias="in")


class Pair(NamedTuple):
    left: int
    right: str


class Row(msgspec.Struct):
    key: uuid.UUID


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (10**30, 10**30),
        (0.5, 0.5),
        ("x", "x"),
        ({"a": [1, (2, 3)]}, {"a": [1, [2, 3]]}),
        ({1: "a", Name.A: "b"}, {"1": "a", "a": "b"}),
        (Colour.RED, "red"),
        (Size.BIG, 3),
        (Name.A, "a"),
        (Pair(1, "b"), [1, "b"]),
        (Point(1, [Colour.RED]), {"x": 1, "tags": ["red"]}),
        (Model(day=dt.date(2026, 11, 24), **{"in": {"a": 1}}), {"day": "2026-11-24", "in": {"a": 1}}),
        ([Row(uuid.UUID(int=1))], [{"key": "00000000-0000-0000-0000-000000000001"}]),
        (dt.datetime(2026, 11, 24, tzinfo=dt.UTC), "2026-11-24T00:00:00+00:00"),
        (decimal.Decimal("1.10"), "1.10"),
        (PurePosixPath("/a/b"), "/a/b"),
    ],
)
def test_values_with_a_plain_json_form_are_taken(value: object, expected: Json) -> None:
    found = jsonable(value)
    assert found == expected
    assert type(found) is type(expected)


def test_the_result_is_a_copy() -> None:
    kept = {"a": [1]}
    found = jsonable(kept)
    kept["a"].append(2)
    assert found == {"a": [1]}


class Broken(BaseModel):
    x: int

    @field_serializer("x")
    def dump(self, value: int) -> int:
        raise RuntimeError(f"no {value}")


async def streaming() -> AsyncIterator[str]:
    yield "x"


def circle() -> list[object]:
    one: list[object] = []
    one.append(one)
    return one


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (object(), "object is not JSON"),
        (b"x", "bytes is not JSON, decode it to text"),
        ({1, 2}, "set is not JSON, return a list"),
        (float("nan"), "nan is not JSON"),
        ({"a": [1, float("inf")]}, "at /a/1: inf is not JSON"),
        ({"a": Point(1, [object()])}, "at /a/tags/0: object is not JSON"),  # type: ignore[list-item]
        ({(1, 2): 3}, "an object's keys are text, this one is tuple"),
        ({None: 3}, "an object's keys are text, this one is NoneType"),
        ((one for one in [1]), "generator is not JSON, return a list"),
        (streaming(), "async_generator is not JSON, a tool that streams is itself the `async def` that yields"),
        (Point, "type is not JSON"),
        (circle(), "it is nested deeper than 200 levels, or holds itself"),
        (
            Broken(x=1),
            f"{Broken.__module__}.Broken could not be dumped: Error calling function `dump`: RuntimeError: no 1",
        ),
    ],
)
def test_anything_else_is_not_json_and_says_where(value: object, what: str) -> None:
    with pytest.raises(ToolError) as caught:
        jsonable(value)
    assert caught.value.code == "not_json"
    assert caught.value.message == f"the tool ran, but what it returned is not JSON: {what}"
