"""What msgspec says of a value that does not fit its type, as ``InvalidRequest``: a JSON Pointer, and for an unknown
field the nearest known name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Final

import msgspec
from msgspec import inspect

from legato.core.blocks import Json
from legato.core.errors import InvalidRequest, Problem

_WHERE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$?(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.(?P<field>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
# Characters of a name that are compared with those that are known: difflib counts each, a second for ten million.
_COMPARED: Final = 100


def mismatch(error: msgspec.ValidationError, *, type_: object, value: Json) -> InvalidRequest:
    """``type_`` and ``value`` are those of the whole document; None where they are not known."""
    said = str(error)
    if (named := _UNKNOWN.match(said)) is not None and isinstance(value, dict) and named["name"] in value:
        # A field of the document itself has no place behind it; its name may look like one.
        return _at([named["name"]], unknown_name("field", named["name"], sorted(_names(type_, value, ()))))
    found = _WHERE.match(said)
    assert found is not None
    what, steps = found["what"], _steps(found["path"] or "")
    if (unknown := _UNKNOWN.match(what)) is not None:
        known = sorted(_names(type_, value, steps)) if type_ is not None else []
        return _at([*steps, unknown["name"]], unknown_name("field", unknown["name"], known))
    if (missing := _MISSING.match(what)) is not None:
        return _at([*steps, missing["name"]], "it is required")
    return _at(steps, what[:1].lower() + what[1:])


def unknown_name(noun: str, name: str, known: Sequence[str]) -> str:
    """Words for a name that is not known, with the nearest one that is."""
    nearest = get_close_matches(name[:_COMPARED], known, n=1)
    return f"unknown {noun} `{name[:_COMPARED]}`" + (f", did you mean `{nearest[0]}`?" if nearest else "")


def _at(steps: Sequence[str | int], message: str) -> InvalidRequest:
    pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)
    shown = ".".join(map(str, steps)) if not message.startswith("unknown ") else ""
    return InvalidRequest(f"{shown}: {message}" if shown else message, problems=(Problem(pointer, message),))


def _steps(path: str) -> list[str | int]:
    """``.blocks[0].text`` as its steps. What stands below ``[...]``, some value of a dict, has no pointer."""
    steps: list[str | int] = []
    for step in _STEP.finditer(path):
        if step["index"] == "...":
            break
        steps.append(step["field"] if step["index"] is None else int(step["index"]))
    return steps


def _names(type_: object, value: Json, steps: Sequence[str | int]) -> Iterator[str]:
    """The field names that the structs standing at ``steps`` know."""
    types: list[inspect.Type] = [inspect.type_info(type_)]
    for step in steps:
        types = [below for one in _structs(types, value) for below in _below(one, step)]
        value = value[step]
    for one in _structs(types, value):
        if isinstance(one, inspect.StructType):
            yield from (field.encode_name for field in one.fields)


def _structs(types: Sequence[inspect.Type], value: Json) -> Iterator[inspect.Type]:
    """Unions taken apart; of tagged structs only the one that the value names."""
    for one in types:
        match one:
            case inspect.UnionType(types=members):
                yield from _structs(members, value)
            case inspect.Metadata(type=inner):
                yield from _structs([inner], value)
            case inspect.StructType(tag_field=str(field), tag=tag):
                if isinstance(value, dict) and value.get(field) == tag:
                    yield one
            case _:
                yield one


def _below(one: inspect.Type, step: str | int) -> Iterator[inspect.Type]:
    match one, step:
        case inspect.StructType(fields=fields), str():
            yield from (field.type for field in fields if field.encode_name == step)
        case inspect.VarTupleType(item_type=item), int():
            yield item
        case inspect.ListType(item_type=item), int():
            yield item
        case _:
            pass
