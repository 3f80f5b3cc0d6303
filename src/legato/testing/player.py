"""Performs acts at their times. The event loop calls ``advance``: there is no task to leak or to cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from legato.testing.marks import Gates
from legato.testing.script import Ending, Gate
from legato.testing.timeline import Act, Breathe, Frame, Pause, Sever, Silence, Until


class Body(Protocol):
    """Where a response's bytes go."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None:
        """The body is complete."""

    def sever(self, how: Ending) -> None:
        """Break the connection off after what was written."""


class Player:
    """Plays ``acts`` into ``body``.

    Each wait counts from when the one before it was due, never from when the loop came to it: nothing drifts. Only a
    gate's release starts the count anew. While ``paused`` (the reader is slow) nothing is written; what fell due
    meanwhile follows at once.
    """

    def __init__(self, acts: Iterator[Act], body: Body, gates: Gates, loop: asyncio.AbstractEventLoop) -> None:
        self._acts = acts
        self._body = body
        self._gates = gates
        self._loop = loop
        self._begun = self._due = loop.time()
        self._timer: asyncio.Handle | None = None
        self._silence: Silence | None = None
        self._standing = False  # at a gate
        self.paused = False
        self.ended = False

    def advance(self) -> None:
        """Perform every act that is due, and arrange for the next."""
        self._timer = None
        if self._silence is not None:
            self._ping(self._silence)
            return
        while not (self.ended or self.paused or self._timer or self._standing or self._silence):
            act = next(self._acts, None)
            match act:
                case None:
                    self.ended = True
                    self._body.finish()
                case Frame(data=data):
                    self._body.write(data)
                case Pause(seconds=seconds):
                    self._wait_until(self._due + seconds)
                case Until(at=at):
                    self._wait_until(max(self._due, self._begun + at))
                case Breathe():
                    self._timer = self._loop.call_soon(self.advance)
                case Gate(name=name):
                    self._standing = not self._gates.arrive(name, self._let_go)
                case Silence():
                    self._silence = act
                    self._next_ping(act)
                case Sever(how=how):
                    self.ended = True
                    self._body.sever(how)

    def resume(self) -> None:
        """The reader is fast enough again."""
        self.paused = False
        if self._timer is None and self._silence is None:
            self.advance()

    def stop(self) -> None:
        """Nobody reads any more, or the upstream closes."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gates.leave(self._let_go)

    def _let_go(self) -> None:
        self._standing = False
        self._due = max(self._due, self._loop.time())
        self.advance()

    def _ping(self, silence: Silence) -> None:
        self._body.write(silence.frame)
        self._next_ping(silence)

    def _next_ping(self, silence: Silence) -> None:
        if silence.every is not None:
            self._due += silence.every
            self._timer = self._loop.call_at(self._due, self.advance)

    def _wait_until(self, due: float) -> None:
        self._due = due
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self.advance)
