"""A reader's fold and what GET gives, held against each other."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from legato.core.blocks import Json
from legato.core.fold import Turn

WHOLE: Final = ("blocks", "rounds", "status", "stop_reason", "last_seq")
"""What both have of a turn that has ended."""
SO_FAR: Final = ("blocks", "rounds", "last_seq")
"""Likewise of one that has not: whether somebody runs it no event says."""


def difference(turn: Turn, given: Json, fields: Collection[str] = WHOLE) -> str | None:
    """The first field in which they differ, and how."""
    for field in fields:
        mine, theirs = msgspec.json.decode(msgspec.json.encode(getattr(turn, field))), given[field]
        if mine != theirs:
            return f"{field}: {_how(mine, theirs)}"
    return None


def _how(mine: Json, theirs: Json) -> str:
    if not isinstance(mine, list):
        return f"{mine!r}, {theirs!r}"
    at = next((at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other), None)
    return f"number {at}" if at is not None else f"{len(mine)}, {len(theirs)}"
