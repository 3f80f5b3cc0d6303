"""Where something of a user's was declared, as a person finds it again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """A file as the interpreter knows it, and a line that counts from 1. ``str()`` is for messages at start."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}"

    @property
    def short(self) -> str:
        """Without folders: what the outside may read (``GET /v1/tools``)."""
        return f"{Path(self.file).name}:{self.line}"


def place_of(function: Callable[..., object]) -> Place:
    """The first line of a function with its decorators."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return Place(f"<{type(function).__name__}>", 0)
    return Place(code.co_filename, code.co_firstlineno)


def shown(file: str) -> str:
    """From the current folder, where the file lies below it."""
    path = Path(file)
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file
