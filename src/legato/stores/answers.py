"""Who answers first: what a store does with an answer to a need."""

from __future__ import annotations

from legato.core.arguments import canonical_sha256
from legato.core.errors import Conflict
from legato.core.records import Answer, KeptNeed


def is_repeat(turn_id: str, answer: Answer, need: KeptNeed, *, ended: bool) -> bool:
    """Whether an equal answer is there; False where this one is the first, and is to be kept.

    A need that a running turn went on with counts as answered, with or without an answer: its time may have been over.
    Raises ``Conflict``: ``already_answered``, ``turn_ended``.
    """
    call_id = answer.call_id
    if need.answer is not None and canonical_sha256(need.answer) == canonical_sha256(answer):
        return True
    if need.answer is not None or (need.taken and not ended):
        raise Conflict(f"call {call_id} was answered already, otherwise", code="already_answered", turn_id=turn_id)
    if ended:
        said = f"turn {turn_id} ended before call {call_id} was answered"
        raise Conflict(said, code="turn_ended", turn_id=turn_id)
    return False
