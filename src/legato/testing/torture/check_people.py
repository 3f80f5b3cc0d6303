"""P11 and its kin: what became of cancels, and of what was said into a turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from legato.testing.torture.seen import Seen
from legato.testing.torture.told import GivenCancel

ENDS: Final = 20.0
"""Seconds without a fault in which a turn ends whose cancel is stored: its round, the grace of its tools, a look for
turns without an owner, and a busy machine."""
CROSSED: Final = 5.0
"""Likewise in which an owner in another process hears of it, which looks once a second; and in which a thread begins
what was started."""


def not_cancelled(seen: Seen) -> Iterator[str]:
    told, status = seen.told, seen.turn.status
    for cancel in _stored(seen):
        ended = cancel.at if told.ended is None else told.ended
        took = seen.world.calm(cancel.at, ended)
        if took > ENDS:
            yield f"it ended {took:.1f} s after a cancel ({cancel.mode}) that was stored"
        # What had ended and was about to be said stands: alone, its end is the very next event.
        crossed = seen.turn.last_seq <= cancel.last_seq + 1 if cancel.alone else took < CROSSED
        if status not in ("cancelled", "error") and not crossed:
            yield f"it is {status}, and went on after a cancel ({cancel.mode}) at {cancel.last_seq} that was stored"
    if told.unwanted and status != "cancelled":
        yield f"it is {status}, and was cancelled before it was posted"


def started_after_a_cancel(seen: Seen) -> Iterator[str]:
    """No tool, once a cancel for now was taken; and no round, where its answer says how far the turn was."""
    starts = {start for reader in (*seen.told.readers, *seen.told.late) for start in reader.starts}
    for cancel in _stored(seen):
        if cancel.mode != "now":
            continue
        if cancel.alone:
            # One that was heard before is no longer in the turn: its server was killed before it was stored (P5).
            heard = [start for start in starts if start.at > cancel.asked]
            late = {(start.seq, start.said) for start in heard if start.seq > cancel.last_seq}
            yield from (f"{said} began at {seq}, after a cancel at {cancel.last_seq}" for seq, said in sorted(late))
        for line in seen.effects:
            after = seen.world.calm(cancel.at, line.at)
            if line.deed == "begun" and after > CROSSED:
                yield f"{line.tool} of {line.call_id} was begun {after:.1f} s after a cancel"
    if seen.told.unwanted and seen.effects:
        yield f"{seen.effects[0].tool} ran, and the turn was cancelled before it was posted"


def steers_lost(seen: Seen) -> Iterator[str]:
    """What came too late for an owner in another process is given back in the store alone."""
    for steer_id, afterwards in seen.told.steers.items():
        fates = [steer.state for steer in seen.turn.steers if steer.steer_id == steer_id and steer.state != "accepted"]
        if len(fates) > 1 or (not fates and afterwards != "returned"):
            yield f"steer {steer_id} was accepted; it is {', '.join(fates) or 'neither delivered nor returned'}"
        elif fates and afterwards not in (None, fates[0]):
            yield f"steer {steer_id} is {fates[0]}, and the server says {afterwards}"


def _stored(seen: Seen) -> list[GivenCancel]:
    return [cancel for cancel in seen.told.cancels if cancel.status == 202 and cancel.stored]
