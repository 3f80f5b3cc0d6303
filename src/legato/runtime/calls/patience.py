"""How long a call may still run: from its start, and since its last sign of life.

Both clocks stand still while a person is asked. A call that waits for its time to be up must look again whenever
``changed`` is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Literal, TypeAlias

Why: TypeAlias = Literal["cancelled", "timeout", "idle_timeout"]


class Patience:
    """``timeout`` and ``idle_timeout`` are seconds, ``progress`` gives the monotonic time of the last sign of life.
    Used on the loop."""

    def __init__(self, timeout: float, idle_timeout: float | None, *, progress: Callable[[], float]) -> None:
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._progress = progress
        self._deadline: float | None = None
        self._awake_since = 0.0
        self._still_since: float | None = None
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def begun(self) -> bool:
        return self._deadline is not None

    def begin(self) -> None:
        """The call runs. Its further tries run on the same time."""
        if self._deadline is None:
            self._deadline = monotonic() + self._timeout

    def left(self) -> tuple[float | None, Why]:
        """Seconds, and what is up after them; None for as long as the clocks stand still."""
        assert self._deadline is not None
        now = monotonic()
        if self._still_since is not None:
            return None, "timeout"
        left = self._deadline - now
        if self._idle_timeout is not None:
            idle = max(self._progress(), self._awake_since) + self._idle_timeout - now
            if idle < left:
                return idle, "idle_timeout"
        return left, "timeout"

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Not to be entered twice at once."""
        self._still_since = monotonic()
        self._tell()
        try:
            yield
        finally:
            self._awake_since = monotonic()
            if self._deadline is not None:
                self._deadline += self._awake_since - self._still_since
            self._still_since = None
            self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.get_running_loop().create_future()
        if not changed.done():
            changed.set_result(None)
