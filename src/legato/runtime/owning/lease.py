"""How long this process may believe that its turns are its own.

The store gives leases by its own clock. Here the lease is counted on this process' monotonic clock, from before its
renewal was sent: so it ends here before it ends there, also for a process that was stopped and wakes up later. Who
finds it over says nothing, starts nothing and writes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

from legato.core.records import LEASE_SECONDS

RENEW_SECONDS = 5.0
"""Between two renewals: five may fail before the lease is over."""
MARGIN_SECONDS = 2.0
"""That it ends here before it ends in the store: a write that was sent at the last moment is done by then."""


class Lease:
    """``now`` is seconds on a clock that never goes back, and goes on while the process is stopped."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._renewed = now()

    @property
    def over(self) -> bool:
        return self._now() - self._renewed > LEASE_SECONDS - MARGIN_SECONDS

    @property
    def left(self) -> float:
        """Seconds until it is over."""
        return self._renewed + LEASE_SECONDS - MARGIN_SECONDS - self._now()

    @property
    def due(self) -> bool:
        """It is time to renew it."""
        return self._now() - self._renewed >= RENEW_SECONDS

    def sent(self) -> float:
        """Now, for ``renewed``: the moment before a renewal leaves."""
        return self._now()

    def renewed(self, sent: float) -> None:
        self._renewed = max(self._renewed, sent)
