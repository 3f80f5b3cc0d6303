"""The clock of the real world: whoever needs one and was given none takes this."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """``ports.Clock`` over the machine's own clocks."""

    def now(self) -> str:
        return self.after(0)

    def after(self, seconds: float) -> str:
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def monotonic(self) -> float:
        return time.monotonic()
