"""A tool's output as it may be stored: bounded, and made of text that every store and reader takes.

What is kept of a text is the text, of anything else its compact JSON.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from legato.core.blocks import Json
from legato.core.errors import ToolError
from legato.core.text import clean
from legato.runtime.calls.spill import LARGE, Spill

_SMALL_VALUES = 2_000
_SMALL_CHARACTERS = 64 * 1024
_SLICE = 64 * 1024
"""Characters that are encoded at a time: encoding holds every other thread up, the loop's as well."""
_BATCH = 100
"""Values of a list that are encoded at a time."""


def bounded_output(output: Json, limit: int) -> Json | Spill:
    """The output with clean text; a ``Spill`` of it where it is large. Belongs into a thread, unless it ``is_small``.

    Raises ``ToolError`` with code ``output_too_large`` over ``limit`` bytes, ``OSError`` where the disk has no room.
    Nothing is copied before it is known to be within the limit, and no more than a slice at a time.
    """
    dirty = _look_through(output, limit)
    if dirty:
        output = cleaned(output)
    if is_small(output):
        if (size := _size(output)) > limit:
            raise too_large(size, limit)
        return output
    spill = Spill()
    try:
        for piece in _pieces(output):
            _add(piece, spill, limit)
        return spill if goes_beside(output, spill) else output
    except BaseException:
        spill.close()
        raise


def _add(piece: bytes, spill: Spill, limit: int) -> None:
    if spill.size + len(piece) > limit:
        raise too_large(spill.size + len(piece), limit, at_least=True)
    spill.add(piece)
    if spill.full:
        spill.write()


def goes_beside(output: Json, spill: Spill) -> bool:
    """Is it large, or would its JSON be? A text's may be: in the log a control character takes six bytes."""
    return spill.large or (isinstance(output, str) and len(msgspec.json.encode(output)) > LARGE)


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


def too_large(size: int, limit: int, *, at_least: bool = False) -> ToolError:
    """What is said of an output past the bound; ``at_least`` where counting stopped before its end."""
    has = f"at least {size}" if at_least else f"{size}"
    return ToolError(f"the tool ran, but its output has {has} bytes, limit is {limit}", code="output_too_large")


def _size(output: Json) -> int:
    return len(output.encode()) if isinstance(output, str) else len(msgspec.json.encode(output))


def _pieces(output: Json) -> Iterator[bytes]:
    """What is kept of it, a slice at a time."""
    if not isinstance(output, str):
        yield from _json(output)
        return
    for start in range(0, len(output), _SLICE):
        yield output[start : start + _SLICE].encode()


def _json(value: Json) -> Iterator[bytes]:
    """Compact JSON, the same as ``msgspec`` gives at once."""
    if is_small(value) or not isinstance(value, str | dict | list):
        yield msgspec.json.encode(value)
    elif isinstance(value, str):
        yield b'"'
        for start in range(0, len(value), _SLICE):
            yield msgspec.json.encode(value[start : start + _SLICE])[1:-1]
        yield b'"'
    elif isinstance(value, dict):
        yield b"{"
        for at, (key, one) in enumerate(value.items()):
            if at:
                yield b","
            yield from _json(key)
            yield b":"
            yield from _json(one)
        yield b"}"
    else:
        yield from _json_list(value)


def _json_list(values: list[Json]) -> Iterator[bytes]:
    yield b"["
    batch: list[Json] = []
    begun = False
    for one in values:
        small = is_small(one)
        if small:
            batch.append(one)
        if batch and (not small or len(batch) == _BATCH):
            yield (b"," if begun else b"") + msgspec.json.encode(batch)[1:-1]
            batch, begun = [], True
        if not small:
            if begun:
                yield b","
            yield from _json(one)
            begun = True
    if batch:
        yield (b"," if begun else b"") + msgspec.json.encode(batch)[1:-1]
    yield b"]"


def _look_through(output: Json, limit: int) -> bool:
    """Is some text not clean? Stops as soon as the output must be over the limit."""
    if isinstance(output, str):
        if len(output) > limit:  # each character is a byte or more
            raise too_large(len(output), limit, at_least=True)
        return not _is_clean(output, limit)
    ahead, least, dirty = [output], 0, False
    while ahead:
        one = ahead.pop()
        least += 1
        if isinstance(one, str):
            least += len(one) + 1  # quotes
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


def cleaned(output: Json) -> Json:
    """Each text in it as ``core.text.clean`` makes it."""
    if isinstance(output, str):
        return clean(output)
    if isinstance(output, list):
        return [cleaned(one) for one in output]
    if isinstance(output, dict):
        return {clean(key): cleaned(one) for key, one in output.items()}
    return output
