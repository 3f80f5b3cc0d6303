"""Renew the lease of this process in time, and let go of its turns where it is over (lease.py).

In tasks of their own, which no look at other people's turns cuts or holds up: a store that is slow may take longer for
a renewal than such a look has in all, and one that it did, and nobody heard of, would cost every turn that runs here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from legato.core.errors import StoreError
from legato.core.records import LEASE_SECONDS
from legato.observability import count
from legato.ports import Store
from legato.runtime.owning.lease import RENEW_SECONDS, Lease

_logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
MOST_OPEN = 2
"""Renewals that a store has not answered to: more would only queue behind these."""


class Renewing:
    """``needed``: some turn runs here; without any a lease costs no write. ``lost``: none that runs now is ours any
    more. ``watch_seconds`` are between two looks at the lease."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        *,
        owner: str,
        needed: Callable[[], bool],
        lost: Callable[[], None],
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._store = store
        self._lease = lease
        self._owner = owner
        self._needed = needed
        self._lost = lost
        self._watch_seconds = watch_seconds
        self._open = 0

    async def run(self) -> None:
        """Until cancelled."""
        sent = self._lease.sent()
        async with anyio.create_task_group() as tasks:
            while True:
                if self._lease.over:
                    self._lost()
                if self._lease.sent() - sent >= RENEW_SECONDS and self._open < MOST_OPEN:
                    sent = self._lease.sent()
                    self._open += 1
                    tasks.start_soon(self._renew, sent)
                await anyio.sleep(self._watch_seconds)

    async def _renew(self, sent: float) -> None:
        """It counts from when it was asked for. Where the lease was over by the time of the answer, somebody else may
        have claimed what ran here before the store came to this: then it is one for the turns to come."""
        try:
            with anyio.move_on_after(LEASE_SECONDS) as scope:
                if self._needed():
                    await self._store.renew(self._owner)
                if self._lease.over:
                    self._lost()
                self._lease.renewed(sent)
            if scope.cancelled_caught:
                count("lease_retries")
        except StoreError as error:
            count("lease_retries")
            _logger.debug("the lease cannot be renewed: %s", error.message)
        except Exception:  # the supervisor of a renewal: without the next one every turn here would be lost
            count("looks_broken")
            _logger.exception("the renewal of the lease broke")
        finally:
            self._open -= 1
