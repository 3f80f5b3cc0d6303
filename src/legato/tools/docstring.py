"""What a docstring tells the model: what the tool does, and what its parameters are.

The description is all that stands before the first heading (``Args:``, ``Returns:`` …, or one underlined with dashes).
Under ``Args:`` each ``name: text`` or ``name (type): text`` describes a parameter, further lines indented more.
"""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

_PARAMETERS = ("args", "arguments", "parameters", "params")
_OTHERS = ("returns", "return", "yields", "raises", "example", "examples", "note", "notes", "see also", "warns")
_NAMED = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")


class Docstring(NamedTuple):
    description: str
    parameters: dict[str, str]


def read_docstring(text: str | None) -> Docstring:
    lines = inspect.cleandoc(text or "").split("\n")
    first = next((at for at in range(len(lines)) if _heading(lines, at)), len(lines))
    parameters: dict[str, str] = {}
    for at in range(first, len(lines)):
        if _heading(lines, at) in _PARAMETERS:
            parameters.update(_parameters(lines, at + 1))
    return Docstring("\n".join(lines[:first]).strip(), parameters)


def _heading(lines: list[str], at: int) -> str | None:
    """The heading that begins at this line, in lower case without its colon."""
    line = lines[at]
    underlined = at + 1 < len(lines) and len(lines[at + 1]) > 2 and set(lines[at + 1]) == {"-"}
    word = line.removesuffix(":").lower()
    if word in (*_PARAMETERS, *_OTHERS) and (line.endswith(":") or underlined):
        return word
    return None


def _parameters(lines: list[str], start: int) -> dict[str, str]:
    """Up to the next line that is not indented."""
    found: dict[str, list[str]] = {}
    name, depth = "", 0
    for line in lines[start:]:
        if line and not line[0].isspace():
            break
        indent = len(line) - len(line.lstrip())
        named = _NAMED.fullmatch(line.strip())
        if named is not None and (not name or indent <= depth):
            name, depth = named[1], indent
            found[name] = [named[2]]
        elif name and line.strip():
            found[name].append(line.strip())
    return {name: " ".join(filter(None, words)) for name, words in found.items() if any(words)}
