"""Notes in a folder: looked at freely, written safely, and deleted only if a person says yes.

    NOTES=notes .venv/bin/legato serve examples/notes.py
    .venv/bin/legato chat "Which of my notes are old? Delete them."

The chat asks `run delete_note(name="…")?` before anything is deleted; so does `legato approve TURN`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from legato import ToolError, tool

FOLDER = Path(os.environ.get("NOTES", "notes"))
Name = Annotated[str, "1 to 64 letters, digits, spaces, - and _"]


def path_of(name: str) -> Path:
    """Never outside the folder, whatever a model makes up."""
    if not re.fullmatch(r"[\w -]{1,64}", name):
        raise ToolError(f"{name!r} cannot be the name of a note: 1 to 64 letters, digits, spaces, - and _")
    return FOLDER / f"{name}.txt"


@tool(effect="read")
def list_notes() -> list[dict[str, object]]:
    """List all notes with their size in characters, the newest first."""
    notes = sorted(FOLDER.glob("*.txt"), key=lambda note: note.stat().st_mtime, reverse=True)
    return [{"name": note.stem, "characters": len(note.read_text())} for note in notes]


@tool(effect="read")
def read_note(name: Name) -> str:
    """Read one note."""
    try:
        return path_of(name).read_text()
    except FileNotFoundError:
        raise ToolError(f"there is no note {name!r}; list_notes has them all") from None


@tool(effect="idempotent")
def write_note(name: Name, text: str) -> str:
    """Write a note, in place of one of the same name."""
    FOLDER.mkdir(exist_ok=True)
    path_of(name).write_text(text)
    return f"{name}: {len(text)} characters"


@tool(effect="write", needs_approval=True)
def delete_note(name: Name) -> str:
    """Delete a note for good. A person is asked first."""
    try:
        path_of(name).unlink()
    except FileNotFoundError:
        raise ToolError(f"there is no note {name!r}") from None
    return f"{name} is deleted"
