"""The stored log of a turn: segments in order that never overlap.

Stores ask here what of a segment that comes again is still to be stored, and which ones stand so close that they may
become one. An event that is stored is never replaced. Nothing here looks into a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

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


def missing(turn_id: str, segment: LogSegment, overlapping: Sequence[Range]) -> list[LogSegment]:
    """What of a segment is not stored yet, ``overlapping`` being the stored ones it shares events with, in order.

    Mostly it is the segment itself, or nothing of a repeat; of a repeat that has grown it is the end. Raises
    ``RowRefused`` for a segment that contradicts itself.
    """
    first, last = segment.first_seq, segment.last_seq
    if not 0 < first <= last:
        raise RowRefused(f"a segment of turn {turn_id} has seq {first} to {last}", turn_id=turn_id)
    if not overlapping:
        return [segment]
    gaps: list[Range] = []
    for stored_first, stored_last in overlapping:
        if first < stored_first:
            gaps.append((first, stored_first - 1))
        first = stored_last + 1
    if first <= last:
        gaps.append((first, last))
    return _cut(turn_id, segment, gaps) if gaps else []


def _cut(turn_id: str, segment: LogSegment, gaps: Sequence[Range]) -> list[LogSegment]:
    """One line is one event and seq counts on within a segment, so lines are told apart by their number."""
    lines = segment.lines.splitlines(keepends=True)
    if len(lines) != segment.last_seq - segment.first_seq + 1:
        said = f"segment {segment.first_seq} to {segment.last_seq} of turn {turn_id} has {len(lines)} lines"
        raise RowRefused(said, turn_id=turn_id)
    return [
        LogSegment(
            first_seq=first,
            last_seq=last,
            lines=b"".join(lines[first - segment.first_seq : last + 1 - segment.first_seq]),
        )
        for first, last in gaps
    ]


def without_hole(ranges: Iterable[Range]) -> bool:
    """Whether each segment goes on where the one before it stopped, or begins a later epoch (docs/http.md)."""
    previous: int | None = None
    for first, last in ranges:
        if previous is not None and first != previous + 1 and not _begins_epoch_after(previous, first):
            return False
        previous = last
    return True


def _begins_epoch_after(seq: int, first: int) -> bool:
    return first % EPOCH_SIZE == 1 and first // EPOCH_SIZE > seq // EPOCH_SIZE
