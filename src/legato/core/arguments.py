"""A call's arguments: parsed strictly, once, and never repaired (docs/tools.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain

import msgspec

from legato.core.blocks import Json

MAX_DEPTH = 200
"""Levels of arrays and objects, as in what a tool gives back. Parsers and encoders that recurse give up near 900."""

_canonical = msgspec.json.Encoder(order="deterministic")


class NotAnObject(Exception):
    """``args[0]`` says what is wrong, in words for the model."""


def parse(text: str) -> dict[str, Json]:
    """The object that ``text`` is. No bytes at all mean ``{}``. Raises ``NotAnObject``."""
    if not text:
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotAnObject(f"the arguments are not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise NotAnObject(f"the arguments must be a JSON object, not {_kind(value)}")
    if text.count("{") + text.count("[") > MAX_DEPTH:
        check_depth(value)
    return value


def check_depth(value: Json) -> None:
    """Raises ``NotAnObject`` for a value nested deeper than ``MAX_DEPTH``. It does not recurse."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = list(chain.from_iterable(_children(each) for each in level))
        if not level:
            return
    raise NotAnObject(f"the arguments are nested deeper than {MAX_DEPTH} levels")


def copied(input: dict[str, Json]) -> dict[str, Json]:
    """Equal, and nobody else's: what a tool does to its arguments changes no history."""
    copy: dict[str, Json] = msgspec.json.decode(msgspec.json.encode(input))
    return copy


def canonical_sha256(value: Json) -> str:
    """Hex hash over the JSON with sorted keys and no white space."""
    return hashlib.sha256(_canonical.encode(value)).hexdigest()


def idempotency_key(*, turn_id: str, round: int, ordinal: int, tool_name: str, input: dict[str, Json]) -> str:
    """Stable over retries and restarts: ``ordinal`` is the call's place among the calls of its response."""
    return canonical_sha256([turn_id, round, ordinal, tool_name, input])


def call_id(*, turn_id: str, epoch: int = 0, round: int, attempt: int, index: int) -> str:
    """Ours, unique over all turns, in a charset and length that every wire takes (OpenAI: at most 40 characters).

    ``epoch`` is of the owner that heard the call: of what the one before heard and did not store, nothing is known, and
    a tool may have run under its id.
    """
    owned = [epoch] if epoch else []
    return "call_" + canonical_sha256([turn_id, round, attempt, index, *owned])[:24]


def _children(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case _:
            return "an array"
