"""Worker threads for plain tools, so that they never block the loop.

The pool is bounded: work past the bound waits its turn. A thread that does not come back can be left behind: then it
holds no place, and as a daemon it does not hold the process' exit either. All bookkeeping happens on the loop, so
there is nothing to lock; from a thread only ``call_soon_threadsafe`` is used.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from legato.observability import count, gauge

PLACES = 64
"""Plain tools that run at once in a process. Mostly they wait for the outside; a thread costs about 100 KiB."""
LEFT_BEHIND = 256
"""Threads that never came back, in a process. Past it no plain tool is started: whatever hangs them hangs all."""

_T = TypeVar("_T")


class NoThreads(Exception):
    """As many threads as may be are left behind."""


class Job(Generic[_T]):
    """Work given to the pool. ``done`` gives what the work returned; the work itself must not raise.

    ``started`` is done once a thread has it. Waiting for either may be given up; the job does not notice.
    """

    def __init__(self, work: Callable[[], _T], loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[_T] = loop.create_future()
        self.started: asyncio.Future[None] = loop.create_future()
        self.left_behind = False
        self._work = work
        self._loop = loop
        self._context = contextvars.copy_context()

    def run(self, after: Callable[[], None]) -> bool:
        """In the thread. ``after`` is called on the loop; False if there is no loop any more."""
        value = self._context.run(self._work)
        try:
            self._loop.call_soon_threadsafe(self._settle, value, after)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return False
        return True

    def _settle(self, value: _T, after: Callable[[], None]) -> None:
        if not self.done.done():
            self.done.set_result(value)
        after()


class _Worker(threading.Thread, Generic[_T]):
    """Takes one job after another, until it is given None."""

    def __init__(self, number: int, after: Callable[[_Worker[_T], Job[_T]], None]) -> None:
        super().__init__(name=f"legato-tool-{number}", daemon=True)
        self.inbox: queue.SimpleQueue[Job[_T] | None] = queue.SimpleQueue()
        self._after = after

    def run(self) -> None:
        while (job := self.inbox.get()) is not None:
            if not job.run(functools.partial(self._after, self, job)):
                return


class Threads(Generic[_T]):
    """Runs work that gives ``_T``. Used from one loop at a time."""

    def __init__(self, places: int = PLACES, *, left_behind: int = LEFT_BEHIND) -> None:
        self._places = places
        self._left_behind_max = left_behind
        self._busy = 0
        self._left_behind = 0
        self._made = 0
        self._idle: list[_Worker[_T]] = []
        self._waiting: deque[Job[_T]] = deque()

    @property
    def busy(self) -> int:
        return self._busy

    @property
    def left_behind(self) -> int:
        return self._left_behind

    def submit(self, work: Callable[[], _T]) -> Job[_T]:
        """Start the work, or let it wait for a place. Raises ``NoThreads``."""
        if self._left_behind >= self._left_behind_max:
            raise NoThreads(f"{self._left_behind} threads did not stop, limit is {self._left_behind_max}")
        job = Job(work, asyncio.get_running_loop())
        if self._busy < self._places:
            self._start(job)
        else:
            count("tool_threads_waited")
            self._waiting.append(job)
        return job

    def withdraw(self, job: Job[_T]) -> bool:
        """Take back what has not started. False if it has."""
        if job.started.done():
            return False
        self._waiting.remove(job)
        return True

    def leave_behind(self, job: Job[_T]) -> None:
        """Give its place to others: it runs on for as long as it likes, and nobody waits for it."""
        if job.done.done() or job.left_behind:
            return
        job.left_behind = True
        self._left_behind += 1
        self._free()

    def close(self) -> None:
        """Let the idle threads end. Those at work end after it."""
        self._places = 0
        for worker in self._idle:
            worker.inbox.put(None)
        self._idle.clear()

    def _start(self, job: Job[_T]) -> None:
        if self._idle:
            worker = self._idle.pop()
        else:
            self._made += 1
            worker = _Worker(self._made, self._came_back)
            worker.start()
        self._busy += 1
        job.started.set_result(None)
        worker.inbox.put(job)
        self._show()

    def _came_back(self, worker: _Worker[_T], job: Job[_T]) -> None:
        if job.left_behind:
            self._left_behind -= 1
            worker.inbox.put(None)
            self._show()
            return
        if self._places == 0:
            worker.inbox.put(None)
        else:
            self._idle.append(worker)
        self._free()

    def _free(self) -> None:
        self._busy -= 1
        if self._waiting and self._busy < self._places:
            self._start(self._waiting.popleft())
        self._show()

    def _show(self) -> None:
        gauge("tool_threads_busy", self._busy)
        gauge("tool_threads_left_behind", self._left_behind)
