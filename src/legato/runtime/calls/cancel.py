"""How a running call is told to stop."""

from __future__ import annotations

import asyncio
import time


class CancelFlag:
    """Says to a call that it shall stop. Once cancelled it stays so; cancelling again does nothing."""

    def __init__(self) -> None:
        self._cancelled_at: float | None = None
        self._future: asyncio.Future[None] | None = None

    @property
    def cancelled(self) -> bool:
        """May be read from any thread."""
        return self._cancelled_at is not None

    def cancel(self) -> None:
        """On the loop."""
        if self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def future(self) -> asyncio.Future[None]:
        """Done once cancelled. Wait for it with ``asyncio.wait``, which leaves it as it is."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
            if self.cancelled:
                self._future.set_result(None)
        return self._future

    def seconds_left(self, grace: float) -> float:
        """Of the grace, once cancelled."""
        assert self._cancelled_at is not None
        return max(self._cancelled_at + grace - time.monotonic(), 0.0)
