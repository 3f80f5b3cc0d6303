"""The query string as a struct: every parameter known, given once, and of its type."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect
from starlette.types import Scope

from legato.core.errors import InvalidRequest, Problem
from legato.http.mismatch import unknown_name

Q = TypeVar("Q", bound=msgspec.Struct)


class NoQuery(msgspec.Struct, frozen=True):
    """No parameters."""


def read_query(scope: Scope, type_: type[Q]) -> Q:
    """Raises ``InvalidRequest`` whose pointer is the parameter's name."""
    fields = {field.encode_name: field.type for field in struct_of(type_).fields}
    given: dict[str, str | int] = {}
    text: str = scope["query_string"].decode("latin-1")
    for name, value in _pairs(text):
        if name not in fields:
            raise _wrong(name, unknown_name("parameter", name, sorted(fields)))
        if name in given:
            raise _wrong(name, f"{name} is given twice")
        given[name] = number(name, value) if _is_number(fields[name]) else value
    try:
        return msgspec.convert(given, type_)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`")
        raise _wrong(name, f"{name}: {what[:1].lower()}{what[1:]}") from error


def _pairs(text: str) -> list[tuple[str, str]]:
    """Names and values. What is not UTF-8 is refused: read with U+FFFD it would name something else."""
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidRequest("the query is not UTF-8", problems=(Problem("", "it is not UTF-8"),)) from error


def number(name: str, text: str) -> int:
    """Digits as a number that a client in JavaScript could hold too. Raises ``InvalidRequest``."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 16 or int(text) >= 2**53:
        raise _wrong(name, f"{name} must be a number from 0 to 2^53, it is {text[:100]!r}")
    return int(text)


def struct_of(type_: type[msgspec.Struct]) -> inspect.StructType:
    described = inspect.type_info(type_)
    assert isinstance(described, inspect.StructType)
    return described


def _is_number(type_: inspect.Type) -> bool:
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    return isinstance(type_, inspect.IntType)


def _wrong(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, problems=(Problem(f"/{name}", message),))
