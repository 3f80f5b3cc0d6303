"""A tool's output as it may be stored: bounded, and made of text that every store and reader takes."""

from __future__ import annotations

import msgspec

from legato.core.blocks import Json
from legato.core.errors import ToolError
from legato.core.text import clean

_SMALL_VALUES = 2_000
_SMALL_CHARACTERS = 64 * 1024


def bounded_output(output: Json, limit: int) -> Json:
    """The output with clean text. Raises ``ToolError`` with code ``output_too_large`` over ``limit`` bytes of JSON.

    Nothing is copied before its size is known to be within the limit: a gigabyte costs no second one.
    """
    dirty = _look_through(output, limit)
    if dirty:
        output = _cleaned(output)
    size = len(msgspec.json.encode(output))
    if size > limit:
        raise too_large(size, limit)
    return output


def is_small(value: object) -> bool:
    """Is it turned into JSON well under a millisecond? Only plain values are; what else it may be is not known."""
    ahead, values, characters = [value], 0, 0
    while ahead:
        one = ahead.pop()
        values += 1
        if isinstance(one, str):
            characters += len(one)
        elif isinstance(one, dict):
            ahead.extend(one.keys())
            ahead.extend(one.values())
        elif isinstance(one, list | tuple):
            ahead.extend(one)
        elif one is not None and not isinstance(one, int | float):
            return False
        if values + len(ahead) > _SMALL_VALUES or characters > _SMALL_CHARACTERS:
            return False
    return True


def _look_through(output: Json, limit: int) -> bool:
    """Is some text not clean? Stops as soon as the output must be over the limit."""
    ahead, least, dirty = [output], 0, False
    while ahead:
        one = ahead.pop()
        least += 1
        if isinstance(one, str):
            least += len(one) + 1  # each character is a byte or more, and quotes
            dirty = dirty or not _is_clean(one, limit)
        elif isinstance(one, dict):
            ahead.extend(one.keys())
            ahead.extend(one.values())
        elif isinstance(one, list):
            ahead.extend(one)
        if least > limit:
            raise too_large(least, limit, at_least=True)
    return dirty


def _is_clean(text: str, limit: int) -> bool:
    if len(text) > limit:
        return True  # it is refused for its size
    return (text.isascii() and "\0" not in text) or clean(text) == text


def _cleaned(output: Json) -> Json:
    if isinstance(output, str):
        return clean(output)
    if isinstance(output, list):
        return [_cleaned(one) for one in output]
    if isinstance(output, dict):
        return {clean(key): _cleaned(one) for key, one in output.items()}
    return output


def too_large(size: int, limit: int, *, at_least: bool = False) -> ToolError:
    """What is said of an output past the bound; ``at_least`` where counting stopped before its end."""
    has = f"at least {size}" if at_least else f"{size}"
    return ToolError(f"the tool ran, but its output has {has} bytes, limit is {limit}", code="output_too_large")
