"""How many event streams are open, and letting go of them when the server stops."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import anyio

from legato.core.errors import Overloaded
from legato.observability import gauge

# Seconds until a place may be free: event streams last for minutes, and a client that comes back often helps nobody.
FULL_RETRY_AFTER = 5


class Readers:
    """All readers of the process. ``limit`` is how many there may be at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seats: set[Seat] = set()
        self._draining = False

    @property
    def count(self) -> int:
        return len(self._seats)

    def seat(self) -> Seat:
        """A place not yet taken, for one request."""
        return Seat(self)

    def let_go(self) -> None:
        """End every stream cleanly, between two frames, and take no reader from now on. May be called again."""
        self._draining = True
        for seat in self._seats:
            seat.scope.cancel()

    def admit(self, seat: Seat) -> None:
        if self._draining:
            raise Overloaded("the server is about to stop", code="draining")
        if len(self._seats) >= self._limit:
            raise Overloaded(
                f"{len(self._seats)} event streams are open, limit is {self._limit}",
                code="readers_full",
                retry_after=FULL_RETRY_AFTER,
                limit=self._limit,
                actual=len(self._seats),
            )
        self._seats.add(seat)
        gauge("readers", len(self._seats))

    def dismiss(self, seat: Seat) -> None:
        self._seats.discard(seat)
        gauge("readers", len(self._seats))


class Seat:
    """One request's place among the readers: taken before anything else is done for it, given back when it ends.

    ``scope`` is around the stream; cancelling it ends the stream as the server stops.
    """

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self.scope = anyio.CancelScope()

    def take(self) -> None:
        """Raises ``Overloaded`` (``readers_full``, ``draining``)."""
        self._readers.admit(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._readers.dismiss(self)
