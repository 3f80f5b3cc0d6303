"""What times and ids are made of. Core has neither."""

from __future__ import annotations

from datetime import datetime

import uuid_utils


def seconds_between(earlier: str, later: str) -> float:
    """Of two times as ``Clock.now`` says them."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def new_id() -> str:
    """A UUIDv7: sorts by time, also within a millisecond of this process."""
    return str(uuid_utils.uuid7())
