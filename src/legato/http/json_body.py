"""A body's bytes as one of the posted types (core.posts), or the error that says where it is wrong.

In order: UTF-8, JSON, depth, then the type. The loop stands still meanwhile, so all of it is linear and nearly all in
C: to count brackets outside of strings on the bytes beforehand took several times as long as the parser, which guards
itself against depth.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Final, TypeVar

import msgspec

from legato.core.blocks import Json
from legato.core.errors import InvalidJson, InvalidRequest
from legato.http.mismatch import mismatch

T = TypeVar("T")

_NESTS: Final = (dict, list)

_AT_BYTE: Final = re.compile(r"^(?:JSON is malformed: )?(?P<what>.*) \(byte (?P<byte>\d+)\)$")


def decode(body: bytes, *, depth: int) -> Json:
    """The JSON value, its numbers in one form: 6e2 and 600.0 are 600.

    Raises ``InvalidJson``, or ``InvalidRequest`` for what is nested deeper than ``depth``.
    """
    _check_utf8(body)
    try:
        value = _decoder.decode(body)
    except RecursionError:
        # msgspec counts its own depth, and gives up at the interpreter's limit of about 1000.
        raise _too_deep(depth) from None
    except msgspec.ValidationError as error:
        raise mismatch(error, type_=None, value=None) from error
    except msgspec.DecodeError as error:
        found = _AT_BYTE.match(str(error))
        if found is not None:
            raise invalid_json(found["what"], body, int(found["byte"])) from error
        # msgspec says so of what ends early, and of a "\ud83d" without its other half.
        raise invalid_json("the end, or the other half of a surrogate pair, is missing", body, len(body)) from error
    check_depth(value, limit=depth)
    return value


def _number(text: str) -> int | float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("number out of range")
    return int(number) if number.is_integer() else number


_decoder = msgspec.json.Decoder(float_hook=_number)


def convert(value: Json, type_: type[T]) -> T:
    """The value as a posted type. Raises ``InvalidRequest`` that names the field."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise mismatch(error, type_=type_, value=value) from error


def fingerprint(value: Json) -> str:
    """The same for the same decoded value, however it was written: order, white space, escapes, 1.0 for 1."""
    try:
        text = msgspec.json.encode(value, order="deterministic")
    except OverflowError:
        # A number over 64 bits, which msgspec reads and does not write.
        text = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()


def check_depth(value: Json, *, limit: int) -> None:
    """Level by level, so that no depth is too deep for it."""
    level = [value] if type(value) in _NESTS else []
    depth = 0
    while level:
        depth += 1
        if depth > limit:
            raise _too_deep(limit)
        below = (one.values() if isinstance(one, dict) else one for one in level)
        level = [child for children in below for child in children if type(child) in _NESTS]


def _too_deep(limit: int) -> InvalidRequest:
    return InvalidRequest.at("", f"it is nested deeper than {limit}", code="json_too_deep", limit=limit)


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
