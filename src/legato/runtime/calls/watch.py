"""Work of a user's making, watched: on the loop or in a thread, told to stop, and left behind if it does not.

Whatever the work raises is an end of it. Once told to stop, by a cancel or because its time is up, it has ``grace``
seconds; a good end within them is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import msgspec

from legato.core.errors import ToolError
from legato.observability import count
from legato.runtime.calls.cancel import CancelFlag
from legato.runtime.calls.patience import Patience, Why
from legato.runtime.calls.raised import wish_of
from legato.runtime.calls.threads import Job, NoThreads, Threads

_log = logging.getLogger(__name__)


class Returned(msgspec.Struct, frozen=True):
    """It ended well. ``whole`` once the value is an output that can be stored."""

    value: object
    whole: bool = False


class Raised(msgspec.Struct, frozen=True):
    error: BaseException


class Stopped(msgspec.Struct, frozen=True):
    """It was told to stop, and did not end well within the grace. ``started`` is False if it never ran."""

    why: Why
    started: bool = True


End: TypeAlias = Returned | Raised | Stopped


class Whose(msgspec.Struct, frozen=True, kw_only=True):
    """Whose work it is, for counters and the log."""

    tool_name: str
    source: str
    call_id: str
    turn_id: str


class Watch:
    """One call's, for all its tries. ``left_behind`` keeps the tasks that would not end."""

    def __init__(
        self,
        whose: Whose,
        *,
        patience: Patience,
        cancel: CancelFlag,
        grace: float,
        left_behind: set[asyncio.Task[End]],
    ) -> None:
        self.told = False
        self._whose = whose
        self._patience = patience
        self._cancel = cancel
        self._grace = grace
        self._left_behind = left_behind

    async def on_loop(self, body: Callable[[], Awaitable[End]]) -> End:
        # A bare task and no task group: a group cannot be left while a child refuses to end, and a tool that swallows
        # its cancellation must not hold the turn. It ends while this waits, or is left behind and counted.
        task = asyncio.create_task(self._body(body), name=f"tool {self._whose.tool_name} {self._whose.call_id}")
        return await self._watched(task, stop=task.cancel, leave=lambda: self._leave_task(task))

    async def in_thread(self, work: Callable[[], End], threads: Threads[End]) -> End:
        """``work`` must not raise."""
        try:
            job = threads.submit(work, name=self._whose.tool_name)
        except NoThreads as error:
            return Raised(ToolError(f"not executed: {error}", code="threads_exhausted"))
        if not await self._has_a_place(job, threads):
            return Stopped("cancelled", started=False)
        return await self._watched(job.done, stop=_nothing, leave=lambda: self._leave_thread(job, threads))

    def log_raised(self, error: BaseException, what: str) -> None:
        whose = self._whose
        where = (whose.tool_name, whose.source, what, whose.call_id, whose.turn_id)
        _log.error("tool %s (%s) %s, call %s of turn %s", *where, exc_info=error)

    async def _body(self, body: Callable[[], Awaitable[End]]) -> End:
        try:
            return await body()
        except BaseException as error:  # noqa: BLE001 - SystemExit in a task would end the server's loop
            return Raised(error)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._left_behind.discard(task)

    async def _has_a_place(self, job: Job[End], threads: Threads[End]) -> bool:
        """Wait until it starts; False if it was cancelled before. Waiting is not the tool's time."""
        try:
            await asyncio.wait({job.started, self._cancel.future()}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not threads.withdraw(job):
                self.told = True
                self._leave_thread(job, threads)
            raise
        return not threads.withdraw(job)

    async def _watched(
        self, work: asyncio.Future[End], *, stop: Callable[[], object], leave: Callable[[], None]
    ) -> End:
        """Wait for its end, or tell it to stop and leave it behind when the grace is over."""
        self._patience.begin()
        try:
            why = await self._reason_to_stop(work)
            if why is None:
                return work.result()
            self.told = True
            stop()
            await asyncio.wait({work}, timeout=self._grace)
        except asyncio.CancelledError:
            self.told = True
            stop()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({work}, timeout=self._grace)
            if not work.done():
                leave()
            raise
        if not work.done():
            leave()
            return Stopped(why)
        return self._after_told(work.result(), why)

    async def _reason_to_stop(self, work: asyncio.Future[End]) -> Why | None:
        """None once the work is done."""
        while not work.done():
            if self._cancel.cancelled:
                return "cancelled"
            left, why = self._patience.left()
            if left is not None and left <= 0:
                return why
            either: set[asyncio.Future[End] | asyncio.Future[None]] = {
                work,
                self._cancel.future(),
                self._patience.changed,
            }
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        return None

    def _after_told(self, end: End, why: Why) -> End:
        if not isinstance(end, Raised):
            return end
        if not isinstance(end.error, asyncio.CancelledError) and wish_of(end.error) is None:
            self.log_raised(end.error, "raised while it was stopped")
        return Stopped(why)

    def _leave_task(self, task: asyncio.Task[End]) -> None:
        self._left_behind.add(task)
        task.cancel()  # once more, for who took the first for something else
        # asyncio.run waits for every task it knows, and this one would hold the process' exit. The function is in the
        # documents under "Extending", with its underscore.
        asyncio._unregister_task(task)  # noqa: SLF001
        count("tool_tasks_abandoned", tool=self._whose.tool_name)
        self._log_left("its task")

    def _leave_thread(self, job: Job[End], threads: Threads[End]) -> None:
        threads.leave_behind(job)
        count("tool_threads_abandoned", tool=self._whose.tool_name)
        self._log_left("its thread")

    def _log_left(self, what: str) -> None:
        whose = self._whose
        where = (whose.tool_name, whose.source, self._grace, what, whose.call_id, whose.turn_id)
        _log.warning("tool %s (%s) did not stop within %g s, %s is left behind, call %s of turn %s", *where)


def _nothing() -> None:
    """A thread cannot be stopped; the tool sees ``ctx.cancelled``."""
