"""Cancels of turns that nobody has posted yet: a client that names its turn may cancel it while its POST is on the way.

The store keeps them for every process on it; here they are kept besides, for as long as it does not answer. Each for a
minute, for whoever asked.
"""

from __future__ import annotations

from legato.ports import Clock

KEPT_SECONDS = 60.0
"""Longer than any POST is on its way."""
KEPT_MOST = 10_000
"""Of everybody together; the oldest go first."""


class EarlyCancels:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], float] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._until)

    def keep(self, principal: str, turn_id: str) -> str:
        """Until when it is remembered."""
        self._until.pop((principal, turn_id), None)
        self._until[principal, turn_id] = self._clock.monotonic() + KEPT_SECONDS
        self._forget()
        return self._clock.after(KEPT_SECONDS)

    def take(self, principal: str, turn_id: str) -> bool:
        """Whether this turn was cancelled before it was posted; asked once."""
        self._forget()
        return self._until.pop((principal, turn_id), None) is not None

    def _forget(self) -> None:
        now = self._clock.monotonic()
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now and len(self._until) <= KEPT_MOST:
                return
            del self._until[oldest]
