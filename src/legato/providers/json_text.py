"""JSON as providers send it, made valid text.

msgspec refuses a string with half of a surrogate pair in it, and bytes that are no UTF-8; models write both. Such a
frame is read by the standard library instead. Halves of one pair that came in two deltas are joined, a lonely half
becomes U+FFFD, so that what leaves this file can always be encoded.
"""

from __future__ import annotations

import json

import msgspec

from legato.core.blocks import Json

_decoder = msgspec.json.Decoder()


def loads(data: bytes) -> tuple[Json, bool]:
    """The value, and whether its strings may hold halves of surrogate pairs. Raises ``ValueError`` if it is no JSON."""
    try:
        return _decoder.decode(data), False
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except ValueError:
        pass
    try:
        return json.loads(data.decode("utf-8", "replace"), parse_constant=_no_constant), True
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON")


def scrubbed(value: Json) -> Json:
    """The value with valid text in every string and key."""
    if isinstance(value, str):
        return joined(value)
    if isinstance(value, list):
        return [scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {joined(key): scrubbed(item) for key, item in value.items()}
    return value


def joined(text: str) -> str:
    """Pairs of halves as the one character they mean, lonely halves as U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Halves:
    """The first halves of pairs whose second half is still to come, by the block they stand in."""

    def __init__(self) -> None:
        self._waiting: dict[int, str] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def expect(self, key: int) -> None:
        """The block's next text may hold halves."""
        self._waiting.setdefault(key, "")

    def joined(self, key: int, text: str) -> str:
        """The block's next text, with what waited in front; a first half at its end waits for the next."""
        text = self._waiting.pop(key, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._waiting[key] = text[-1]
            text = text[:-1]
        return joined(text)

    def rest(self, key: int) -> str:
        """What stands for a half whose other half never came."""
        return "\ufffd" if self._waiting.pop(key, "") else ""
