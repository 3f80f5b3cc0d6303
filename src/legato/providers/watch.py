"""When a response is overdue.

Two clocks run, one for bytes and one for meaning, each with one limit until the first and one from each to the next:

| | the first | the next |
|---|---|---|
| bytes | ``first_byte``, for the head of the answer | ``first_event`` or ``idle``, whichever the meaning is at |
| meaning | ``pings`` | ``pings`` |

Pings, comments, white space and reports of usage are bytes, not meaning. They hold off silence, since somebody is still
there, but only for ``pings``, which is longer. That none come means nothing: then an event is a byte, and the limits of
silence are those between events. Neither clock bounds the whole. Time in which our own process stood still is nobody's
silence.
"""

from __future__ import annotations

import asyncio

import msgspec

from legato.observability import count
from legato.providers.transport import Answer

_SECOND_LOOK = 0.05
"""Seconds between finding a response overdue and giving it up."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, but ``argument_bytes``. ``first_byte`` and ``first_event`` go from the sending of the request."""

    connect: float
    first_byte: float
    first_event: float
    idle: float
    pings: float
    argument_bytes: int


class Watch:
    """One timer for the whole response: it looks whether the deadline has moved, and is set again if it has."""

    def __init__(self, answer: Answer, limits: Limits, started: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer = answer
        self._limits = limits
        self._begun = False
        self._last_byte = self._last_event = started
        self._warned = False
        self._timer = self._loop.call_at(self._deadline(), self._look)
        self.overdue: str | None = None

    def hear(self, *, meant: bool) -> None:
        """Bytes came, and perhaps they mean something."""
        self._last_byte = self._loop.time()
        if meant:
            self._last_event = self._last_byte
            if not self._begun:
                # The one time the deadline may come nearer: the timer waits for the first event's.
                self._begun = True
                self._timer.cancel()
                self._timer = self._loop.call_at(self._deadline(), self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def go_on(self) -> None:
        """After a stop in which nobody listened."""
        self._warned = False
        self._last_byte = self._last_event = self._loop.time()
        self._timer = self._loop.call_at(self._deadline(), self._look)

    def _silence(self) -> float:
        return self._limits.idle if self._begun else self._limits.first_event

    def _pings(self) -> float:
        return max(self._limits.pings, self._silence())

    def _deadline(self) -> float:
        return min(self._last_byte + self._silence(), self._last_event + self._pings())

    def _look(self) -> None:
        deadline = self._deadline()
        if self._loop.time() < deadline:
            self._warned = False
            self._timer = self._loop.call_at(deadline, self._look)
            return
        if not self._warned:
            # A process that was stopped, or a loop that was held up, first reads what has waited in the socket.
            self._warned = True
            self._timer = self._loop.call_later(_SECOND_LOOK, self._look)
            return
        self.overdue = self._why()
        count("provider_stalls")
        self._answer.abort()

    def _why(self) -> str:
        since = "the last event" if self._begun else "the request"
        if self._last_byte + self._silence() <= self._last_event + self._pings():
            silent = "the last byte" if self._last_byte > self._last_event else since
            return f"silent for {self._silence():g} s since {silent}"
        return f"nothing but pings or white space for {self._pings():g} s since {since}"
