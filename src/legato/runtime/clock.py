"""The clock and the ids of the real world. Core has neither."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import uuid_utils


class SystemClock:
    """``ports.Clock`` over the machine's own clocks."""

    def now(self) -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def after(self, seconds: float) -> str:
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def monotonic(self) -> float:
        return time.monotonic()


def seconds_between(earlier: str, later: str) -> float:
    """Of two times as ``Clock.now`` says them."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def new_id() -> str:
    """A UUIDv7: sorts by time, also within a millisecond of this process."""
    return str(uuid_utils.uuid7())
