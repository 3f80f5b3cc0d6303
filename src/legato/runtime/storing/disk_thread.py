"""One thread for a disk that may hang: who waits for it has a deadline, and the loop goes on.

What hangs cannot be cut. It comes to its end when the disk does; by then nobody waits for it, and it is taken back. As
long as it hangs nothing else is begun. The thread does not hold the process' exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import anyio

_logger = logging.getLogger(__name__)

T = TypeVar("T")


class _Job(Generic[T]):
    """Given up by whoever waits, or done by the thread, and never both."""

    def __init__(self, work: Callable[[], T], undo: Callable[[T], None] | None) -> None:
        self.done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.gone = threading.Event()
        """The thread has nothing more to do with it."""
        self._loop = asyncio.get_running_loop()
        self._work = work
        self._undo = undo
        self._lock = threading.Lock()
        self._given_up = False
        self._over = False

    def do(self) -> None:
        """In the thread. Not begun for nobody."""
        try:
            if not self._given_up:
                self._do()
        finally:
            self.gone.set()

    def _do(self) -> None:
        try:
            value = self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where it is waited for
            if self._in_time():
                self._tell(partial(self.done.set_exception, error))
            return
        if self._in_time():
            self._tell(partial(self.done.set_result, value))
        else:
            self._take_back(value)

    def give_up(self) -> bool:
        """False if it is done by now."""
        with self._lock:
            self._given_up = not self._over
            return self._given_up

    def _in_time(self) -> bool:
        with self._lock:
            self._over = not self._given_up
            return self._over

    def _tell(self, settle: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._settle, settle)

    def _take_back(self, value: T) -> None:
        try:
            if self._undo is not None:
                self._undo(value)
        except Exception:  # nobody waits for it
            _logger.exception("what hung cannot be taken back")

    def _settle(self, settle: Callable[[], None]) -> None:
        if not self.done.done():
            settle()


class DiskThread:
    """``seconds`` are for one piece of work, what is queued before it included."""

    def __init__(self, seconds: float, *, name: str) -> None:
        self.seconds = seconds
        self._name = name
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._hung: threading.Event | None = None
        """Set when what somebody gave up on last is gone."""
        self._hung_since = 0.0
        self._started = False
        weakref.finalize(self, self._inbox.put, None)

    @property
    def hung_for(self) -> float:
        """Seconds since somebody gave up on what still hangs; 0 while nothing does."""
        return 0.0 if self._hung is None or self._hung.is_set() else time.monotonic() - self._hung_since

    async def run(self, work: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Raises what ``work`` raises, and ``TimeoutError`` if it is not done in time, or something else hangs.

        ``undo`` is called in the thread with what came of it once nobody waits any more. A cancellation waits too.
        """
        if self.hung_for:
            raise TimeoutError(f"the disk has not answered for {self.seconds + self.hung_for:.0f} s")
        self._start()
        job = _Job(work, undo)
        self._inbox.put(job.do)
        with anyio.CancelScope(shield=True):
            await asyncio.wait({job.done}, timeout=self.seconds)
        if not job.done.done() and job.give_up():
            if not self.hung_for:
                self._hung, self._hung_since = job.gone, time.monotonic()
            raise TimeoutError(f"the disk did not answer in {self.seconds:g} s")
        return await job.done

    def _start(self) -> None:
        if not self._started:
            self._started = True
            threading.Thread(target=_work_off, args=(self._inbox,), name=self._name, daemon=True).start()


def _work_off(inbox: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (work := inbox.get()) is not None:
        work()
        del work  # while the thread waits, it would hold what was written last
