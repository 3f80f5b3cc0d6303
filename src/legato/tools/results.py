"""What a tool returned, as JSON.

Taken are JSON's own values, dataclasses, pydantic models and msgspec structs, and what has one plain text: enums,
dates, UUIDs, decimals, paths. The result is a copy: what a tool keeps and changes afterwards changes no history.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import os
import sys
import uuid
from collections.abc import Callable
from typing import TypeGuard

import msgspec

from legato.core.blocks import Json
from legato.core.errors import ToolError

MAX_DEPTH = 200
"""Levels of lists and objects. Every JSON reader this passes through later takes as many; Python's own stack, 1,000."""

_HINTS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((bytes, bytearray, memoryview), "decode it to text"),
    ((set, frozenset), "return a list"),
)


def jsonable(value: object) -> Json:
    """Raises ``ToolError`` with code ``not_json``, naming the place inside the value."""
    return _plain(value, "", 0)


def _plain(value: object, path: str, depth: int) -> Json:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refused(path, f"{value} is not JSON")
        return float(value)
    if depth == MAX_DEPTH:
        raise _refused("", f"it is nested deeper than {MAX_DEPTH} levels, or holds itself")
    if isinstance(value, dict):
        return {_key(key, path): _plain(one, f"{path}/{key}", depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{path}/{at}", depth + 1) for at, one in enumerate(value)]
    return _converted(value, path, depth + 1)


def _converted(value: object, path: str, depth: int) -> Json:
    if isinstance(value, enum.Enum):
        return _plain(value.value, path, depth)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | decimal.Decimal | os.PathLike):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {one.name: _plain(getattr(value, one.name), f"{path}/{one.name}", depth) for one in fields}
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.structs.asdict(value), path, depth)
    if _is_model(value):
        return _plain(_dumped(value, path), path, depth)
    hint = next((hint for types, hint in _HINTS if isinstance(value, types)), None)
    if hint is None and hasattr(value, "__await__"):
        hint = "await it"
    if hint is None and hasattr(value, "__aiter__"):
        hint = "a tool that streams is itself the `async def` that yields"
    if hint is None and hasattr(value, "__next__"):
        hint = "return a list"
    raise _refused(path, f"{_named(value)} is not JSON" + (f", {hint}" if hint else ""))


def _key(key: object, path: str) -> str:
    if isinstance(key, str):
        return str.__str__(key.value if isinstance(key, enum.Enum) else key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))  # as json.dumps does
    raise _refused(path, f"an object's keys are text, this one is {_named(key)}")


def _is_model(value: object) -> TypeGuard[_Model]:
    """Without importing pydantic: who returns a model has done so."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(value, pydantic.BaseModel)


class _Model:
    """The one thing asked of a pydantic model."""

    model_dump: Callable[..., object]


def _dumped(model: _Model, path: str) -> object:
    try:
        return model.model_dump(mode="json", by_alias=True)
    except Exception as error:  # a serializer of the user's may raise anything
        raise _refused(path, f"{_named(model)} could not be dumped: {error}") from error


def _named(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _refused(path: str, message: str) -> ToolError:
    where = f"at {path}: " if path else ""
    return ToolError(f"the tool ran, but what it returned is not JSON: {where}{message}", code="not_json")
