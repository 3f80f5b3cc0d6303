"""Proof that nothing was lost (docs/http.md): numbers without a hole, and of each block its length and its hash."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from legato.cli.follow import Frame
from legato.core import events as e
from legato.core.fold import Turn
from legato.core.text import measure


class Witness:
    """Folds what comes from ``after`` on. ``complaints`` grows by a sentence for each thing that does not fit."""

    def __init__(self, *, after: int = 0) -> None:
        self.turn = Turn()
        self.turn.last_seq = after
        self.complaints: list[str] = []

    def take(self, frame: Frame) -> e.Event | None:
        """The event, folded; None for a repeat, and for one of a kind that is not known here: its seq counts."""
        last = self.turn.last_seq
        if frame.seq <= last:
            return None
        try:
            event = e.decode(frame.line)
        except msgspec.DecodeError:
            self._follows(last, frame.seq, frame)
            self.turn.last_seq = frame.seq
            return None
        self._follows(last, _first_seq(event), frame)
        self.turn.apply(event)
        if isinstance(event, e.BlockStop):
            self._is_whole(event)
        return event

    def _follows(self, last: int, first: int, frame: Frame) -> None:
        # A new owner's numbers start higher, and it begins with a rewind.
        if first == last + 1 or (frame.type == "rewind" and first > last):
            return
        what = "a gap" if first > last else "an overlap"
        self.complaints.append(f"{what} in the events: {frame.type} has seq {first}, after {last} comes {last + 1}")

    def _is_whole(self, stop: e.BlockStop) -> None:
        # Where we came in the middle of a block there is nothing to compare.
        block = self.turn.closed.get(stop.index)
        if block is None or isinstance(stop.length, UnsetType):
            return
        length, sha256 = measure(block.text)
        if length != stop.length:
            self.complaints.append(f"block {stop.index} has {length} bytes, its block_stop says {stop.length}")
        elif stop.sha256 not in {UNSET, sha256}:
            self.complaints.append(f"block {stop.index} has another sha256 than its block_stop says")


def _first_seq(event: e.Event) -> int:
    if isinstance(event, e.BlockDelta) and not isinstance(event.first_seq, UnsetType):
        return event.first_seq
    return event.seq
