"""Cursors of documents' lists: text that clients hand back and never read. A search's knows which search it is of."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

from legato.core.errors import InvalidRequest

T = TypeVar("T")

Matched: TypeAlias = Literal["all", "any"]

# Results of one search that can be paged through: past them a person looks for something else.
MOST_HITS: Final = 1_000

_text = msgspec.json.Decoder(tuple[Literal["path"], str])
_number = msgspec.json.Decoder(tuple[Literal["version"], int])
_deletion = msgspec.json.Decoder(tuple[Literal["deleted"], int, str])
_place = msgspec.json.Decoder(tuple[Literal["hit"], str, Matched, int])


def after_path(key: str) -> str:
    return _written(("path", key))


def read_path(cursor: str) -> str:
    """The key of the last document shown."""
    return _read(cursor, _text)[1]


def after_deleted(version: int, key: str) -> str:
    return _written(("deleted", version, key))


def read_deleted(cursor: str) -> tuple[int, str]:
    """The change that deleted the last document shown, and its key."""
    return _read(cursor, _deletion)[1:]


def after_version(version: int) -> str:
    return _written(("version", version))


def read_version(cursor: str) -> int:
    return _read(cursor, _number)[1]


def after_hit(search: tuple[str, str], matched: Matched, offset: int) -> str | None:
    """None past the last page there may be. ``search`` is the query and its folder."""
    return None if offset >= MOST_HITS else _written(("hit", _mark(search), matched, offset))


def read_hit(cursor: str, search: tuple[str, str]) -> tuple[Matched, int]:
    """How it matched, and how many hits were shown. Raises ``InvalidRequest`` for the cursor of another search too."""
    _, mark, matched, offset = _read(cursor, _place)
    if mark != _mark(search) or not 0 < offset < MOST_HITS:
        raise _foreign()
    return matched, offset


def _mark(search: tuple[str, str]) -> str:
    return hashlib.sha256(msgspec.json.encode(search)).hexdigest()[:16]


def _written(values: tuple[str | int, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def _read(cursor: str, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError) as error:
        raise _foreign() from error


def _foreign() -> InvalidRequest:
    return InvalidRequest.at("/before", "expected the `next` of an earlier page of the same list")
