"""P8 and P9: what readers were told, held against each other and against the rows."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from legato.core.blocks import Json
from legato.core.fold import Turn
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
        if reader.turn.ended and (differs := _differ(_plain(reader.turn), seen.told.rows)) is not None:
            yield f"reader {number} and the rows differ in {differs}"


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


def _plain(turn: Turn) -> Json:
    said = {
        "blocks": turn.blocks,
        "rounds": turn.rounds,
        "status": turn.status,
        "stop_reason": turn.stop_reason,
        "last_seq": turn.last_seq,
    }
    return msgspec.json.decode(msgspec.json.encode(said))


def _differ(one: Json, rows: Json) -> str | None:
    for field, value in one.items():
        if value != rows[field]:
            if not isinstance(value, list):
                return f"{field}: {value!r}, {rows[field]!r}"
            at = next((at for at, (a, b) in enumerate(zip(value, rows[field], strict=False)) if a != b), None)
            return f"{field}, number {at}" if at is not None else f"{field}: {len(value)}, {len(rows[field])}"
    return None
