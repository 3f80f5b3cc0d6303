"""A call that runs: one tool, told to stop or not, up to the one way it ends."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Literal, TypeAlias

import anyio
import msgspec

from legato.core.blocks import CallError, Json, Outcome
from legato.core.context import ToolContext
from legato.core.errors import ToolError
from legato.core.inputs import ToolFinished
from legato.core.text import clean
from legato.observability import count
from legato.ports import Tool
from legato.runtime.outputs import bounded_output, is_small, too_large
from legato.runtime.showing import Showing
from legato.runtime.threads import Job, NoThreads, Threads

_log = logging.getLogger(__name__)

_MESSAGE_CHARACTERS = 8_192
"""Of an exception's text: some carry a whole page of HTML, and the model reads it."""
_BACKOFF = 0.1
_BACKOFF_MAX = 2.0
"""Seconds before a second try, doubled at each further one up to the most."""
_PIECES_A_TURN = 64
"""Pieces of a stream that may come without waiting before the loop is given its turn."""
_SHOWN_ERRORS = 3


class StartedCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a call is started with. ``input`` was checked. ``state`` is the one dict of the turn, shared."""

    turn_id: str
    chat_id: str
    call_id: str
    tool_name: str
    input: dict[str, Json]
    principal: str
    idempotency_key: str
    state: dict[str, Json]


class CancelFlag:
    """Says to a call that it shall stop. Once cancelled it stays so; cancelling again does nothing."""

    def __init__(self) -> None:
        self._cancelled = False
        self._future: asyncio.Future[None] | None = None

    @property
    def cancelled(self) -> bool:
        """May be read from any thread."""
        return self._cancelled

    def cancel(self) -> None:
        """On the loop."""
        self._cancelled = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def future(self) -> asyncio.Future[None]:
        """Done once cancelled. Wait for it with ``asyncio.wait``, which leaves it as it is."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
            if self._cancelled:
                self._future.set_result(None)
        return self._future


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """``grace`` is seconds; ``output`` is bytes of one result's JSON, ``shown`` bytes of the text one call shows."""

    grace: float
    output: int
    shown: int


class Returned(msgspec.Struct, frozen=True):
    """The tool ended well. ``whole`` once the value is JSON within the bound."""

    value: object
    whole: bool = False


class Raised(msgspec.Struct, frozen=True):
    error: BaseException


Why: TypeAlias = Literal["cancelled", "timeout", "idle_timeout"]


class Stopped(msgspec.Struct, frozen=True):
    """It was told to stop, and did not end well within the grace. ``started`` is False if it never ran."""

    why: Why
    started: bool = True


End: TypeAlias = Returned | Raised | Stopped


class RunningCall:
    """``to_its_end`` is called once. ``left_behind`` keeps the tasks that would not end."""

    def __init__(
        self,
        call: StartedCall,
        tool: Tool,
        showing: Showing,
        cancel: CancelFlag,
        *,
        bounds: Bounds,
        threads: Threads[End],
        left_behind: set[asyncio.Task[End]],
    ) -> None:
        self._call = call
        self._tool = tool
        self._showing = showing
        self._cancel = cancel
        self._bounds = bounds
        self._threads = threads
        self._left_behind = left_behind
        self._deadline: float | None = None
        self._told = False
        self._pieces: list[str] = []

    async def to_its_end(self) -> ToolFinished:
        """Raises only ``CancelledError``, when the caller's own task is cancelled: the tool is told to stop then."""
        end: End = Stopped("cancelled", started=False)
        for attempt in itertools.count():
            if self._cancel.cancelled:
                break
            end = await self._once()
            if not self._worth_another(end, attempt):
                break
            count("tool_retries", tool=self._tool.spec.name)
            await asyncio.wait({self._cancel.future()}, timeout=_pause(attempt))
        return self._finished(end)

    async def _once(self) -> End:
        self._pieces.clear()
        try:
            bound = self._tool.bind(self._call.input, self._context())
        except Exception as error:  # noqa: BLE001 - a tool may be of anybody's making
            return Raised(error)
        if self._tool.kind == "sync":
            return await self._in_thread(bound)
        return await self._on_loop(bound)

    def _context(self) -> ToolContext:
        call = self._call
        return ToolContext(
            turn_id=call.turn_id,
            chat_id=call.chat_id,
            call_id=call.call_id,
            principal=call.principal,
            idempotency_key=call.idempotency_key,
            state=call.state,
            emit=self._showing.show,
            cancelled=lambda: self._told or self._cancel.cancelled,
        )

    def _worth_another(self, end: End, attempt: int) -> bool:
        """A ``ToolError`` is an answer; only what the tool did not mean to say is tried again."""
        if self._tool.effect == "write" or attempt >= self._tool.retries or not isinstance(end, Raised):
            return False
        meant = isinstance(end.error, ToolError) or not isinstance(end.error, Exception)
        if meant or self._told or self._deadline is None:
            return False
        return self._seconds_left(self._deadline)[0] > _pause(attempt)

    # where it runs

    async def _on_loop(self, bound: Callable[[], object]) -> End:
        # A bare task and no task group: a group cannot be left while a child refuses to end, and a tool that swallows
        # its cancellation must not hold the turn. It ends while this waits, or is left behind and counted.
        task = asyncio.create_task(self._body(bound), name=f"tool {self._tool.spec.name} {self._call.call_id}")
        end = await self._watched(task, stop=task.cancel, leave=lambda: self._leave_task(task))
        return await self._made_whole(end.value) if isinstance(end, Returned) else end

    async def _body(self, bound: Callable[[], object]) -> End:
        try:
            value = bound()
            if self._tool.kind == "stream":
                return Returned(await self._streamed(value))
            return Returned(await value if inspect.isawaitable(value) else value)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a task would end the server's loop
            return Raised(error)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._left_behind.discard(task)

    async def _streamed(self, pieces: object) -> str:
        if not isinstance(pieces, AsyncIterator):
            raise ToolError(f"the tool gave {type(pieces).__name__}, not a stream of text", code="not_json")
        try:
            size = 0
            async for piece in pieces:
                size += self._piece(piece, size)
                if len(self._pieces) % _PIECES_A_TURN == 0:
                    await asyncio.sleep(0)
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
        return "".join(self._pieces)

    def _piece(self, piece: object, before: int) -> int:
        """Show and keep it; its bytes."""
        limit = self._bounds.output
        if not isinstance(piece, str):
            message = f"the tool ran, but a piece of its stream is {type(piece).__name__}, not text"
            raise ToolError(message, code="not_json")
        if before + len(piece) > limit:
            raise too_large(before + len(piece), limit, at_least=True)
        piece = clean(piece)
        self._showing.show(piece)
        self._pieces.append(piece)
        return len(piece.encode())

    async def _in_thread(self, bound: Callable[[], object]) -> End:
        def work() -> End:
            try:
                return Returned(self._as_json(bound()), whole=True)
            except BaseException as error:  # noqa: BLE001 - SystemExit and the like end nothing but this call
                return Raised(error)

        try:
            job = self._threads.submit(work)
        except NoThreads as error:
            return Raised(ToolError(f"not executed: {error}", code="threads_exhausted"))
        if not await self._has_a_place(job):
            return Stopped("cancelled", started=False)
        return await self._watched(job.done, stop=_nothing, leave=lambda: self._leave_thread(job))

    async def _has_a_place(self, job: Job[End]) -> bool:
        """Wait until it starts; False if it was cancelled before. Waiting is not the tool's time."""
        try:
            await asyncio.wait({job.started, self._cancel.future()}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not self._threads.withdraw(job):
                self._told = True
                self._leave_thread(job)
            raise
        return not self._threads.withdraw(job)

    # how long it may run

    async def _watched(
        self, work: asyncio.Future[End], *, stop: Callable[[], object], leave: Callable[[], None]
    ) -> End:
        """Wait for its end, or tell it to stop and leave it behind when the grace is over."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._tool.timeout
        try:
            why = await self._reason_to_stop(work, self._deadline)
            if why is None:
                return work.result()
            self._told = True
            stop()
            await asyncio.wait({work}, timeout=self._bounds.grace)
        except asyncio.CancelledError:
            self._told = True
            stop()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({work}, timeout=self._bounds.grace)
            if not work.done():
                leave()
            raise
        if not work.done():
            leave()
            return Stopped(why)
        return self._after_told(work.result(), why)

    async def _reason_to_stop(self, work: asyncio.Future[End], deadline: float) -> Why | None:
        """None once the work is done."""
        while not work.done():
            if self._cancel.cancelled:
                return "cancelled"
            left, why = self._seconds_left(deadline)
            if left <= 0:
                return why
            either: set[asyncio.Future[End] | asyncio.Future[None]] = {work, self._cancel.future()}
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        return None

    def _seconds_left(self, deadline: float) -> tuple[float, Why]:
        now = time.monotonic()
        left = deadline - now
        if self._tool.idle_timeout is not None:
            idle = self._showing.progress + self._tool.idle_timeout - now
            if idle < left:
                return idle, "idle_timeout"
        return left, "timeout"

    def _after_told(self, end: End, why: Why) -> End:
        if not isinstance(end, Raised):
            return end
        if not isinstance(end.error, asyncio.CancelledError):
            self._log_raised(end.error, "raised while it was stopped")
        return Stopped(why)

    def _leave_task(self, task: asyncio.Task[End]) -> None:
        self._left_behind.add(task)
        task.cancel()  # once more, for who took the first for something else
        # asyncio.run waits for every task it knows, and this one would hold the process' exit. The function is in the
        # documents under "Extending", with its underscore.
        asyncio._unregister_task(task)  # noqa: SLF001
        count("tool_tasks_abandoned", tool=self._tool.spec.name)
        self._log_left("its task")

    def _leave_thread(self, job: Job[End]) -> None:
        self._threads.leave_behind(job)
        count("tool_threads_abandoned", tool=self._tool.spec.name)
        self._log_left("its thread")

    # what became of it

    def _as_json(self, value: object) -> Json:
        """Raises ``ToolError``."""
        if inspect.iscoroutine(value):
            value.close()
            raise ToolError("the tool is a plain function that gave a coroutine; make it `async def`", code="not_json")
        try:
            output = self._tool.jsonable(value)
        except ToolError:
            raise
        except Exception as error:
            message = f"the tool ran, but what it returned is not JSON: {_text_of(error)}"
            raise ToolError(message, code="not_json") from error
        return bounded_output(output, self._bounds.output)

    async def _made_whole(self, value: object) -> End:
        """Large values are looked through in a thread: a million numbers must not stop the loop."""
        try:
            if is_small(value):
                return Returned(self._as_json(value), whole=True)
            return Returned(await asyncio.to_thread(self._as_json, value), whole=True)
        except ToolError as error:
            return Raised(error)

    def _finished(self, end: End) -> ToolFinished:
        call_id = self._call.call_id
        if isinstance(end, Returned):
            assert end.whole
            count("tool_results", tool=self._tool.spec.name, outcome="ok")
            return ToolFinished(call_id=call_id, outcome="ok", output=end.value)
        outcome, error = self._failure(end)
        count("tool_results", tool=self._tool.spec.name, outcome=outcome)
        partial = "".join(self._pieces) or None
        return ToolFinished(call_id=call_id, outcome=outcome, output=partial, error=error)

    def _failure(self, end: Raised | Stopped) -> tuple[Outcome, CallError]:
        if isinstance(end, Raised):
            error = _described(end.error)
            if error.code == "tool_failed":
                self._log_raised(end.error, "raised")
            return "error", error
        if not end.started:
            return "cancelled", CallError("cancelled", "cancelled before it started")
        doubt = "" if self._tool.effect == "read" else "; its outcome is unknown, it may have taken effect"
        if doubt and self._tool.effect == "write":
            doubt += ": check before repeating it"
        if end.why == "cancelled":
            return "cancelled", CallError("cancelled", f"cancelled while it ran{doubt}")
        if end.why == "timeout":
            return "timeout", CallError("timeout", f"timed out after {self._tool.timeout:g} s{doubt}")
        message = f"timed out: it showed no progress for {self._tool.idle_timeout:g} s{doubt}"
        return "timeout", CallError("idle_timeout", message)

    def _log_raised(self, error: BaseException, what: str) -> None:
        tool, call = self._tool, self._call
        where = (tool.spec.name, tool.source, what, call.call_id, call.turn_id)
        _log.error("tool %s (%s) %s, call %s of turn %s", *where, exc_info=error)

    def _log_left(self, what: str) -> None:
        tool, call = self._tool, self._call
        where = (tool.spec.name, tool.source, self._bounds.grace, what, call.call_id, call.turn_id)
        _log.warning("tool %s (%s) did not stop within %g s, %s is left behind, call %s of turn %s", *where)


def _pause(attempt: int) -> float:
    return min(_BACKOFF * 2.0**attempt, _BACKOFF_MAX)


def _nothing() -> None:
    """A thread cannot be stopped; the tool sees ``ctx.cancelled``."""


def _described(error: BaseException) -> CallError:
    """For the model: the text without a trace."""
    leaves = _leaves(error)
    if all(isinstance(leaf, ToolError) for leaf in leaves):
        code = leaves[0].code if isinstance(leaves[0], ToolError) else ""
        message = "; ".join(_own_text(leaf) or "the tool failed" for leaf in leaves[:_SHOWN_ERRORS])
    else:
        code = "tool_failed"
        message = "; ".join(_text_of(leaf) for leaf in leaves[:_SHOWN_ERRORS])
    if len(leaves) > _SHOWN_ERRORS:
        message += f"; and {len(leaves) - _SHOWN_ERRORS} more"
    return CallError(code, clean(message[:_MESSAGE_CHARACTERS]))


def _leaves(error: BaseException) -> list[BaseException]:
    """What an exception group is about, groups in it included; else the exception itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def _text_of(error: BaseException) -> str:
    name, text = type(error).__name__, _own_text(error)
    return f"{name}: {text}" if text else name


def _own_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception's own __str__ may raise, and this is the last one to ask
        return ""
