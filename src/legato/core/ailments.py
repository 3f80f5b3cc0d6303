"""What whoever looks after a server should know of it (P13)."""

from __future__ import annotations

from typing import Literal

import msgspec


class Ailment(msgspec.Struct, frozen=True, kw_only=True):
    """``degraded``: something is not as it was meant to be, and somebody should look. ``counted``: it happened and was
    dealt with. ``noted``: it is so. ``about`` is what it is of; ``message`` has no secret and quotes nobody."""

    level: Literal["degraded", "counted", "noted"]
    about: str
    message: str
