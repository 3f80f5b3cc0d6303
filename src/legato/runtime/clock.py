"""The clock and the ids of the real world. Core has neither."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import uuid_utils


class SystemClock:
    """``ports.Clock`` over the machine's own clocks."""

    def now(self) -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def monotonic(self) -> float:
        return time.monotonic()


def new_id() -> str:
    """A UUIDv7: sorts by time, also within a millisecond of this process."""
    return str(uuid_utils.uuid7())
