"""A body's bytes as one of the posted types (core.posts), or the error that says where it is wrong.

In order: UTF-8, depth, JSON, then the type; so that nothing deep or endless reaches a parser that recurses.
"""

from __future__ import annotations

import hashlib
import json
import re
from itertools import accumulate
from typing import Final, TypeVar

import msgspec

from legato.core.blocks import Json
from legato.core.errors import InvalidJson, InvalidRequest
from legato.http.mismatch import mismatch

T = TypeVar("T")

# A string, closed or not. Possessive, so that one which is never closed costs its length once and not its square.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
# Brackets looked at between two looks at the bound: a body of nothing but "[" is given up early.
_STRIDE: Final = 65_536
_AT_BYTE: Final = re.compile(r"^(?:JSON is malformed: )?(?P<what>.*) \(byte (?P<byte>\d+)\)$")


def decode(body: bytes, *, depth: int) -> Json:
    """The JSON value. Raises ``InvalidJson``, or ``InvalidRequest`` for one nested deeper than ``depth``."""
    _check_utf8(body)
    check_depth(body, limit=depth)
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError as error:
        raise mismatch(error, type_=None, value=None) from error
    except msgspec.DecodeError as error:
        found = _AT_BYTE.match(str(error))
        if found is not None:
            raise invalid_json(found["what"], body, int(found["byte"])) from error
        # msgspec says so of what ends early, and of a "\ud83d" without its other half.
        raise invalid_json("the end, or the other half of a surrogate pair, is missing", body, len(body)) from error


def convert(value: Json, type_: type[T]) -> T:
    """The value as a posted type. Raises ``InvalidRequest`` that names the field."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise mismatch(error, type_=type_, value=value) from error


def fingerprint(value: Json) -> str:
    """The same for the same JSON value, however it was written: order, white space, escapes, 1.0 for 1."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Json) -> Json:
    match value:
        case dict():
            return {key: _canonical(one) for key, one in value.items()}
        case list():
            return [_canonical(one) for one in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def check_depth(body: bytes, *, limit: int) -> None:
    """Count brackets outside of strings, in one pass over bytes."""
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    if brackets.count(b"[") + brackets.count(b"{") <= limit:
        return
    depth = 0
    for start in range(0, len(brackets), _STRIDE):
        depths = list(accumulate((_STEP[byte] for byte in brackets[start : start + _STRIDE]), initial=depth))
        if max(depths) > limit:
            raise InvalidRequest.at("", f"it is nested deeper than {limit}", code="json_too_deep", limit=limit)
        depth = depths[-1]


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise invalid_json(f"byte 0x{body[error.start]:02x} is not UTF-8", body, error.start) from error


def invalid_json(what: str, body: bytes, at: int) -> InvalidJson:
    """``at`` is a byte's offset; what stands before it is UTF-8."""
    before = body[:at]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
    return InvalidJson(f"line {line}, column {column}: {what}", line=line, column=column)
