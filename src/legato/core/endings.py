"""How a turn ends once every call is answered, and what is said of it."""

from __future__ import annotations

import msgspec

from legato.core import events as e


class Ending(msgspec.Struct, frozen=True):
    status: e.TurnStatus
    stop_reason: e.TurnStopReason
    error: e.ErrorInfo | None = None
    drops: bool = False
    """What the model says at this moment is no history."""


BY_CANCEL = Ending("cancelled", "cancelled")
BY_REPLACE = Ending("cancelled", "cancelled", drops=True)
CANCELLED = "cancelled: the turn was cancelled"
REFUSED = "not executed: the reply was refused"
INTERRUPTED = e.ErrorInfo(code="interrupted", message="the server stopped during the reply", retryable=True)
GOES_ON = "the server stopped while the turn was running; the turn goes on"
HANDED_ON = "the server stops; the turn goes on in the next one"
