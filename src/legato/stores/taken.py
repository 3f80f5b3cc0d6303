"""What every store answers to the id of a turn that cannot be taken."""

from __future__ import annotations

from legato.core.errors import Conflict


def turn_taken(turn_id: str, *, spent: bool = False) -> Conflict:
    """``spent``: there was a turn of this id, and it went with its chat."""
    said = "was deleted with its chat: choose another id" if spent else "is there already"
    return Conflict(f"turn {turn_id} {said}", code="turn_id_reused", turn_id=turn_id)
