"""The stored log of a turn: segments in order that never overlap.

A segment is known by (turn, ``first_seq``). Stores ask here what to do with one that comes again, and which ones stand
so close that they may become one; nothing here looks into a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from legato.core.errors import RowRefused
from legato.core.events import EPOCH_SIZE
from legato.core.records import LogSegment, TurnWrite

Range: TypeAlias = tuple[int, int]
"""``first_seq`` and ``last_seq`` of a stored segment."""


def order(write: TurnWrite) -> int:
    """How new what a write says is. A row is never replaced by one of a lower order: a late repeat changes nothing."""
    if write.segment is not None:
        return write.segment.last_seq
    return write.epoch * EPOCH_SIZE


def place(turn_id: str, segment: LogSegment, overlapping: Sequence[Range]) -> Literal["new", "known", "longer"]:
    """What a segment is beside the stored ones it overlaps: ``longer`` takes their place, ``known`` is left out.

    Raises ``RowRefused`` for one that shares a part only: storing it would say some events twice.
    """
    first, last = segment.first_seq, segment.last_seq
    if not 0 < first <= last:
        raise RowRefused(f"a segment has seq {first} to {last}", turn_id=turn_id)
    if not overlapping:
        return "new"
    if any(stored_first <= first and last <= stored_last for stored_first, stored_last in overlapping):
        return "known"
    if all(first <= stored_first and stored_last <= last for stored_first, stored_last in overlapping):
        return "longer"
    stored_first, stored_last = overlapping[0]
    raise RowRefused(f"segment {first} to {last} overlaps the stored {stored_first} to {stored_last}", turn_id=turn_id)


def without_hole(ranges: Iterable[Range]) -> bool:
    """Whether each segment goes on where the one before it stopped, or begins a later epoch (DESIGN 5, Numbers)."""
    previous: int | None = None
    for first, last in ranges:
        if previous is not None and first != previous + 1 and not _begins_epoch_after(previous, first):
            return False
        previous = last
    return True


def _begins_epoch_after(seq: int, first: int) -> bool:
    return first % EPOCH_SIZE == 1 and first // EPOCH_SIZE > seq // EPOCH_SIZE
