"""The script language of ``script/…`` models (docs/testing.md): what a user turn may hold in place of a prompt.

One JSON object a line. ``parse`` reads it whole before anything runs; ``rounds`` cuts it where a response ends.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.blocks import Block, Json, TextBlock
from legato.core.errors import InvalidRequest
from legato.core.events import StopReason

Fault: TypeAlias = Literal["overloaded", "cut", "stall", "refusal", "length", "bad_json"]

_FENCE = re.compile(r"\A\s*```script[ \t]*\r?\n(.*?)(?:\r?\n)?[ \t]*```\s*\Z", re.DOTALL)
_TEXT_MAX = 16 * 1024 * 1024
"""Characters one step may come to, ``repeat`` counted: a script is a test, and a test of memory says so."""
_WAIT_MAX = 3_600.0
_PACE_MAX = 1_000_000.0


class _Wrong(Exception):
    """What is wrong with a line, in words."""


class Speech(msgspec.Struct, frozen=True, kw_only=True):
    """``text`` or ``thinking``. ``pace`` is deltas a second, 0 at once. ``new`` begins another block of the kind."""

    kind: Literal["text", "thinking"]
    text: str
    pace: float = 0
    new: bool = False
    signature: str | UnsetType = UNSET


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """``arguments`` is sent as it is. ``id`` is the vendor's, as it were."""

    name: str
    arguments: str
    pace: float = 0
    id: str = ""


class Wait(msgspec.Struct, frozen=True):
    seconds: float


class End(msgspec.Struct, frozen=True):
    reason: StopReason


class Fail(msgspec.Struct, frozen=True):
    fault: Fault


Step: TypeAlias = Speech | Call | Wait | End | Fail

_FIELDS = {
    "thinking": {"thinking", "signature", "repeat", "pace", "new"},
    "text": {"text", "repeat", "pace", "new"},
    "tool": {"tool", "input", "raw", "id", "pace", "new"},
    "wait": {"wait"},
    "end": {"end"},
    "fail": {"fail"},
}


def script_in(said: Sequence[Block]) -> str | None:
    """The lines of the script that a user turn is; None if it is none."""
    if len(said) != 1 or not isinstance(said[0], TextBlock):
        return None
    fenced = _FENCE.match(said[0].text)
    return None if fenced is None else fenced[1]


def parse(source: str) -> list[Step]:
    """Raise ``InvalidRequest`` with code ``script_invalid`` for the first bad line, counted from 1 below the fence."""
    steps: list[Step] = []
    for number, line in enumerate(source.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            steps.append(_step(msgspec.json.decode(line)))
        except (_Wrong, ValueError, RecursionError) as error:
            raise InvalidRequest.at("/blocks/0/text", f"line {number}: {error}", code="script_invalid") from error
    return steps


def rounds(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps of each response: an ``end`` or a ``fail`` is the last of one."""
    cut: list[list[Step]] = [[]]
    for step in steps:
        cut[-1].append(step)
        if isinstance(step, End | Fail):
            cut.append([])
    if not cut[-1]:
        cut.pop()
    return cut


def _step(raw: Json) -> Step:
    if not isinstance(raw, dict):
        raise _Wrong(f"expected an object, got {msgspec.json.encode(raw).decode()[:40]}")
    kinds = [kind for kind in _FIELDS if kind in raw]
    if len(kinds) != 1:
        found = ", ".join(kinds) if kinds else _nearest(raw, _FIELDS)
        raise _Wrong(f"expected one of {', '.join(_FIELDS)}, got {found}")
    kind = kinds[0]
    if unknown := sorted(raw.keys() - _FIELDS[kind]):
        raise _Wrong(f"{kind} has no {_nearest(dict.fromkeys(unknown), _FIELDS[kind])}")
    match kind:
        case "text" | "thinking":
            return _speech("text" if kind == "text" else "thinking", raw)
        case "tool":
            return _call(raw)
        case "wait":
            return Wait(_number(raw, "wait", _WAIT_MAX))
        case "end":
            return End(_one_of(raw["end"], "end", get_args(StopReason)))
        case _:
            return Fail(_one_of(raw["fail"], "fail", get_args(Fault)))


def _speech(kind: Literal["text", "thinking"], raw: dict[str, Json]) -> Speech:
    text, repeat = _string(raw, kind), raw.get("repeat", 1)
    if not isinstance(repeat, int) or isinstance(repeat, bool) or repeat < 1:
        raise _Wrong(f"repeat: expected a whole number from 1, got {_shown(repeat)}")
    if len(text) * repeat > _TEXT_MAX:
        raise _Wrong(f"repeat: the text comes to {len(text) * repeat} characters, limit is {_TEXT_MAX}")
    return Speech(
        kind=kind,
        text=text * repeat,
        pace=_number(raw, "pace", _PACE_MAX),
        new=_boolean(raw, "new"),
        signature=_string(raw, "signature") if "signature" in raw else UNSET,
    )


def _call(raw: dict[str, Json]) -> Call:
    if ("input" in raw) == ("raw" in raw):
        raise _Wrong("tool: expected either input or raw")
    if "input" in raw and not isinstance(raw["input"], dict):
        raise _Wrong(f"input: expected an object, got {_shown(raw['input'])}")
    arguments = _string(raw, "raw") if "raw" in raw else msgspec.json.encode(raw["input"]).decode()
    name = _string(raw, "tool")
    if not name:
        raise _Wrong("tool: expected a name, got an empty string")
    _boolean(raw, "new")
    return Call(
        name=name,
        arguments=arguments,
        pace=_number(raw, "pace", _PACE_MAX),
        id=_string(raw, "id") if "id" in raw else "",
    )


def _string(raw: dict[str, Json], name: str) -> str:
    value = raw[name]
    if not isinstance(value, str):
        raise _Wrong(f"{name}: expected a string, got {_shown(value)}")
    return value


def _boolean(raw: dict[str, Json], name: str) -> bool:
    value = raw.get(name, False)
    if not isinstance(value, bool):
        raise _Wrong(f"{name}: expected true or false, got {_shown(value)}")
    return value


def _number(raw: dict[str, Json], name: str, most: float) -> float:
    value = raw.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise _Wrong(f"{name}: expected a number from 0 to {most:g}, got {_shown(value)}")
    return float(value)


def _one_of(value: Json, name: str, choices: tuple[str, ...]) -> Json:
    if value not in choices:
        raise _Wrong(f"{name}: expected one of {', '.join(choices)}, got {_shown(value)}")
    return value


def _nearest(given: dict[str, Json], known: dict[str, set[str]] | set[str]) -> str:
    if not given:
        return "nothing"
    first = next(iter(given))
    near = difflib.get_close_matches(first[:100], known, n=1)  # it looks at each character
    return f"{first!r}, did you mean {near[0]!r}" if near else repr(first)


def _shown(value: Json) -> str:
    return msgspec.json.encode(value).decode()[:40]
