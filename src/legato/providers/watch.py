"""When a response is overdue.

Two clocks run. The first goes from the sending of the request to the first event that means something; the second from
one such event to the next. Pings, comments and white space (an endless run of it inside arguments is a known failure)
are bytes, not meaning: they hold off neither clock, and their absence means nothing. Neither bounds the whole. Time in
which our own process stood still is nobody's silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from legato.core.inputs import Delta, ProviderInput
from legato.observability import count
from legato.providers.transport import Answer

_SECOND_LOOK = 0.05
"""Seconds between finding a response overdue and giving it up."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds."""

    connect: float
    first_event: float
    idle: float


class Watch:
    """One timer for the whole response: it looks whether the deadline has moved, and is set again if it has."""

    def __init__(self, answer: Answer, limits: Limits, started: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer = answer
        self._limits = limits
        self._begun = False
        self._last_byte = started
        self._warned = False
        self._deadline = started + limits.first_event
        self._timer = self._loop.call_at(self._deadline, self._look)
        self.overdue: str | None = None

    def hear(self, batch: Sequence[ProviderInput]) -> None:
        """Bytes came, and this is what they mean."""
        self._last_byte = self._loop.time()
        for said in batch:
            if type(said) is not Delta or not said.text.isspace():
                self._deadline = self._last_byte + self._limits.idle
                if not self._begun:
                    # The one time the deadline may come nearer: the timer waits for the first event's.
                    self._begun = True
                    self._timer.cancel()
                    self._timer = self._loop.call_at(self._deadline, self._look)
                return

    def stop(self) -> None:
        self._timer.cancel()

    def go_on(self) -> None:
        """After a stop in which nobody listened."""
        self._warned = False
        self._deadline = self._loop.time() + (self._limits.idle if self._begun else self._limits.first_event)
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now < self._deadline:
            self._warned = False
            self._timer = self._loop.call_at(self._deadline, self._look)
            return
        if not self._warned:
            # A process that was stopped, or a loop that was held up, first reads what has waited in the socket.
            self._warned = True
            self._timer = self._loop.call_later(_SECOND_LOOK, self._look)
            return
        limit = self._limits.idle if self._begun else self._limits.first_event
        since = "the last event" if self._begun else "the request"
        self.overdue = (
            f"nothing that means something for {limit:g} s since {since}; "
            f"the last byte came {now - self._last_byte:.1f} s ago"
        )
        count("provider_stalls")
        self._answer.abort()
