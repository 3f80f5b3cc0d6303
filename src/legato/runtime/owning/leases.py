"""Whether the owners of others' turns still renew their leases, as seen from here.

The store says whose lease is over, by a wall clock, and that may be set: forwards, as when the machine slept, and every
lease in the file is over; backwards, and none will be for hours. So nobody is taken for gone by one look. What a lease
says changes with each renewal, and how long it has not is counted here, on this process' monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from legato.core.records import LEASE_SECONDS, TurnRow
from legato.runtime.owning.lease import RENEW_SECONDS
from legato.runtime.owning.owner import is_gone

WATCH_SECONDS = 2 * RENEW_SECONDS
"""That a lease which the store says is over is watched before it is believed: its owner, if it lives, renews it."""

_Said: TypeAlias = tuple[int, str | None, str | None]


class Leases:
    """``now`` is seconds on a clock that never goes back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[str, tuple[_Said, float]] = {}
        """By turn what its lease says, and since when it is known to say so."""

    def see(self, rows: Collection[TurnRow]) -> None:
        """All turns that should run: what else was known is forgotten."""
        now = self._now()
        seen = {row.id: (_said(row), now) for row in rows}
        self._seen = {turn_id: self._before(turn_id, said) or (said, now) for turn_id, (said, now) in seen.items()}

    def over(self, row: TurnRow, *, overdue: bool) -> bool:
        """Nobody runs it. ``overdue``: so says the store. One that was not renewed for the time of a lease is over
        whatever the store says: its owner counts from before it asked for it, and has stopped by now."""
        if is_gone(row.owner):
            return True
        seen = self._before(row.id, _said(row))
        unchanged = 0.0 if seen is None else self._now() - seen[1]
        return unchanged > (WATCH_SECONDS if overdue else LEASE_SECONDS)

    def _before(self, turn_id: str, said: _Said) -> tuple[_Said, float] | None:
        """When it was first seen to say this."""
        seen = self._seen.get(turn_id)
        return seen if seen is not None and seen[0] == said else None


def _said(row: TurnRow) -> _Said:
    return (row.epoch, row.owner, row.lease_until)
