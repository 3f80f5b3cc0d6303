"""Worker threads for plain tools, so that they never block the loop.

The pool is bounded: work past the bound waits its turn. A thread that does not come back can be left behind: then it
holds no place, and as a daemon it does not hold the process' exit either. All bookkeeping happens on the loop, so
there is nothing to lock; from a thread only ``call_soon_threadsafe`` is used.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from legato.observability import count, gauge, warn_once

_log = logging.getLogger(__name__)

PLACES = 64
"""Plain tools that run at once in a process. Mostly they wait for the outside; a thread costs about 100 KiB."""
LEFT_BEHIND = 256
"""Threads that never came back, in a process. Past it no plain tool is started: whatever hangs them hangs all."""
_NAMED = 5
"""Tools that the log names where every place is taken."""

_T = TypeVar("_T")


class NoThreads(Exception):
    """As many threads as may be are left behind."""


class Job(Generic[_T]):
    """Work given to the pool, under the name of its tool. ``done`` gives what it returned; it must not raise itself.

    ``started`` is done once a thread has it. Waiting for either may be given up; the job does not notice.
    """

    def __init__(self, work: Callable[[], _T], loop: asyncio.AbstractEventLoop, *, name: str) -> None:
        self.name = name
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
            del job  # while the thread waits, it would hold the last call, and with it its whole turn


class Threads(Generic[_T]):
    """Runs work that gives ``_T``. Used from one loop at a time. ``pool`` is its name among the figures."""

    def __init__(self, places: int = PLACES, *, left_behind: int = LEFT_BEHIND, pool: str = "tools") -> None:
        self._places = places
        self._left_behind_max = left_behind
        self._pool = pool
        self._left_behind = 0
        self._made = 0
        self._busy: set[Job[_T]] = set()
        self._idle: list[_Worker[_T]] = []
        self._waiting: deque[Job[_T]] = deque()

    @property
    def busy(self) -> int:
        return len(self._busy)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def left_behind(self) -> int:
        return self._left_behind

    def submit(self, work: Callable[[], _T], *, name: str) -> Job[_T]:
        """Start the work, or let it wait for a place. Raises ``NoThreads``."""
        if self._left_behind >= self._left_behind_max:
            raise NoThreads(f"{self._left_behind} threads did not stop, limit is {self._left_behind_max}")
        job = Job(work, asyncio.get_running_loop(), name=name)
        if self.busy < self._places:
            self._start(job)
        else:
            self._waiting.append(job)
            self._say_full()
        self._show()
        return job

    def withdraw(self, job: Job[_T]) -> bool:
        """Take back what has not started. False if it has."""
        if job.started.done():
            return False
        self._waiting.remove(job)
        self._show()
        return True

    def leave_behind(self, job: Job[_T]) -> None:
        """Give its place to others: it runs on for as long as it likes, and nobody waits for it."""
        if job.done.done() or job.left_behind:
            return
        job.left_behind = True
        self._left_behind += 1
        self._free(job)

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
        self._busy.add(job)
        job.started.set_result(None)
        worker.inbox.put(job)

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
        self._free(job)

    def _free(self, job: Job[_T]) -> None:
        self._busy.discard(job)
        if self._waiting and self.busy < self._places:
            self._start(self._waiting.popleft())
        self._show()

    def _say_full(self) -> None:
        """One cause for each tool that holds the most places: that is who should be looked at."""
        count("tool_threads_waited", pool=self._pool)
        holding = Counter(job.name for job in self._busy).most_common()
        names = ", ".join(f"{name} ({places})" for name, places in holding[:_NAMED])
        more = f" and {len(holding) - _NAMED} more tools" if len(holding) > _NAMED else ""
        most = holding[0][0] if holding else ""
        message = f"all {self._places} threads for {self._pool} are taken, calls wait; they run {names}{more}"
        warn_once(_log, f"tool_threads_full:{self._pool}:{most}", message)

    def _show(self) -> None:
        gauge("tool_threads_places", self._places, pool=self._pool)
        gauge("tool_threads_busy", len(self._busy), pool=self._pool)
        gauge("tool_threads_waiting", len(self._waiting), pool=self._pool)
        gauge("tool_threads_left_behind", self._left_behind, pool=self._pool)
