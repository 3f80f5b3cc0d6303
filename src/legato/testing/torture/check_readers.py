"""P8 and P9: what readers were told, held against each other and against the rows."""

from __future__ import annotations

from collections.abc import Iterator

from legato.core import events as e
from legato.core.fold import fold
from legato.testing.torture.likeness import SO_FAR, difference
from legato.testing.torture.readers import Reader
from legato.testing.torture.seen import Seen
from legato.testing.torture.told import Told


def out_of_order(told: Told) -> Iterator[str]:
    """Events missing, twice, or after the end."""
    for reader in (*told.readers, *told.late):
        yield from reader.wrong


def left_waiting(seen: Seen) -> Iterator[str]:
    for number, reader in enumerate((*seen.told.readers, *seen.told.late)):
        if not reader.turn.ended:
            yield f"reader {number} has not seen its end"


def otherwise(seen: Seen) -> Iterator[str]:
    """A reader's fold, and what GET gives."""
    for number, reader in enumerate((*seen.told.readers, *seen.told.late)):
        if reader.turn.ended and (differs := difference(reader.turn, seen.told.rows)) is not None:
            yield f"reader {number} and the rows differ in {differs}"


def other_views(seen: Seen) -> Iterator[str]:
    """What GET gave meanwhile is the fold of the events up to its ``last_seq``. Of one whose events were not stored
    nothing is known."""
    readers = [*seen.told.readers, *seen.told.late]
    lines = next((reader.lines for reader in reversed(readers) if reader.each), {})
    for view in (view for reader in readers for view in reader.views):
        last = view["last_seq"]
        if last in lines:
            turn = fold([e.decode(line) for seq, line in sorted(lines.items()) if seq <= last])
            if (differs := difference(turn, view, SO_FAR)) is not None:
                yield f"GET at {last} and the events up to it differ in {differs}"


def other_bytes(seen: Seen) -> Iterator[str]:
    """With each delta as it was the same bytes, whenever one comes; but for what was forgotten with its owner."""
    *live, again = [reader for reader in (*seen.told.readers, *seen.told.late) if reader.each] or [Reader("")]
    for number, reader in enumerate(live):
        for seq in sorted(reader.lines.keys() | again.lines.keys()):
            one, other = reader.lines.get(seq), again.lines.get(seq)
            if one == other or (other is None and _is_forgotten(reader, seq)):
                continue
            yield f"reader {number} of each delta was told {one!r} as {seq}, and the last one {other!r}"
            break


def _is_forgotten(reader: Reader, seq: int) -> bool:
    return any(rewind.to < seq < rewind.seq for rewind in reader.rewinds)
