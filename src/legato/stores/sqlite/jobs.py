"""A piece of work for a thread with a connection, and the caller on the loop who waits for what came of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Work: TypeAlias = Callable[[sqlite3.Connection], T]


class Job(Generic[T_co]):
    """Made on the loop, done in a thread, settled on the loop, whether or not its caller still waits."""

    __slots__ = ("_settle", "_work", "future", "loop")

    def __init__(self, work: Callable[[sqlite3.Connection], T_co]) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T_co] = self.loop.create_future()
        self._work = work
        self._settle: Callable[[], object] = self.future.cancel

    def do(self, connection: sqlite3.Connection) -> None:
        """Raises what the work raises; the caller hears of nothing before ``deliver``."""
        self._settle = partial(self.future.set_result, self._work(connection))

    def fail(self, error: Exception) -> None:
        self._settle = partial(self.future.set_exception, error)

    def settle(self) -> None:
        if not self.future.done():
            self._settle()


class Signal(Job[None]):
    """Something a thread says once, without work: that it has ended."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self._settle = partial(self.future.set_result, None)


def deliver(jobs: Iterable[Job[object]]) -> None:
    """Hand results to the callers, from a thread: one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[object]]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, waiting in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, waiting)
        except RuntimeError:
            # The loop is closed: nobody waits any more, and what was written stays written.
            continue


def _settle_all(jobs: list[Job[object]]) -> None:
    for job in jobs:
        job.settle()
