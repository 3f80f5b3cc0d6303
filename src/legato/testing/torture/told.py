"""All that was seen and done of one turn from outside: what the checks look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from legato.core.blocks import Json
from legato.core.fold import Turn
from legato.core.inputs import CancelMode
from legato.testing.torture.plan import PlannedCall
from legato.testing.torture.readers import Reader


class Window(NamedTuple):
    """When a fault was there, in monotonic seconds; of one turn, or of all."""

    fault: str
    since: float
    until: float
    turn_id: str | None = None


class GivenCancel(msgspec.Struct, frozen=True, kw_only=True):
    """``stored``: its answer said that it is on the turn's row. ``asked`` is when it was sent, ``at`` when the answer
    was there, in monotonic seconds; ``last_seq`` what it showed the turn up to. ``alone``: one server was up meanwhile
    and no fault there, so that whoever answered owned the turn, or nobody did."""

    mode: CancelMode
    status: int
    stored: bool
    asked: float
    at: float
    last_seq: int
    alone: bool


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said of a call. ``input`` are arguments in the model's place. ``taken``: the server said so."""

    decision: str
    input: dict[str, Json] | None = None
    taken: bool = False


class Told(msgspec.Struct, kw_only=True):
    """``late`` came after its end; ``rows`` is what GET gave then. ``steers`` are those that were accepted, by id, each
    with what the server says of it afterwards. ``unwanted``: a cancel came before the turn, and the server that
    remembered it took the turn. ``misheard`` are answers that should have been others."""

    step: int
    turn_id: str
    posted: float = 0.0
    readers: list[Reader] = []
    late: list[Reader] = []
    rows: Json = None
    cancels: list[GivenCancel] = []
    decisions: dict[str, list[Decision]] = {}
    steers: dict[str, str | None] = {}
    unwanted: bool = False
    misheard: list[str] = []

    @property
    def turn(self) -> Turn | None:
        return next((reader.turn for reader in (*self.readers, *self.late) if reader.turn.ended), None)

    @property
    def ended(self) -> float | None:
        """When the first reader heard so, in monotonic seconds."""
        return min((reader.ended for reader in self.readers if reader.ended is not None), default=None)

    def waits_for(self, call_id: str) -> bool:
        """As far as its readers have heard."""
        return any(call_id in reader.turn.waiting for reader in self.readers)


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks of each turn know beside it: faults of servers and their files, and every call of the plan by its
    ``what``."""

    windows: Sequence[Window] = ()
    planned: Mapping[str, PlannedCall] = {}

    def calm(self, since: float, until: float) -> float:
        """Seconds between the two in which no server was hurt."""
        hurt, seconds = since, max(0.0, until - since)
        for window in sorted(self.windows, key=lambda one: one.since):
            begin, end = max(window.since, hurt), min(window.until, until)
            if end > begin:
                seconds -= end - begin
                hurt = end
        return seconds
