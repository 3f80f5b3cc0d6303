"""A call that runs: one tool, told to stop or not, up to the one way it ends."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator, Callable

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.blocks import CallError, Json, Outcome
from legato.core.context import ToolContext
from legato.core.errors import InputNeeded, NotNow, ToolError
from legato.core.inputs import ToolDeferred, ToolEnd, ToolFinished
from legato.core.records import Resumed
from legato.core.text import clean
from legato.observability import count
from legato.ports import Tool
from legato.runtime.calls.cancel import CancelFlag
from legato.runtime.calls.converting import Outputs
from legato.runtime.calls.keeping import Keeping
from legato.runtime.calls.outputs import goes_beside, too_large
from legato.runtime.calls.patience import Patience
from legato.runtime.calls.person import Ask, Person, need_of
from legato.runtime.calls.places import Places
from legato.runtime.calls.raised import described, is_answer, wish_of
from legato.runtime.calls.showing import Showing
from legato.runtime.calls.spill import Spill
from legato.runtime.calls.threads import Threads
from legato.runtime.calls.watch import End, Raised, Returned, Stopped, Watch, Whose

_BACKOFF = 0.1
_BACKOFF_MAX = 2.0
"""Seconds before a second try, doubled at each further one up to the most."""
_PIECES_A_TURN = 64
"""Pieces of a stream that may come without waiting before the loop is given its turn."""


class StartedCall(msgspec.Struct, frozen=True, kw_only=True):
    """What a call is started with. ``input`` was checked. ``state`` is the one dict of the turn, shared. ``epoch`` is
    its owner's, who may start it as long as ``owned`` says so, asked from any thread. ``resumed``: the tool had asked a
    person, and goes on. ``ask`` asks one while it runs; None where nobody can be asked."""

    turn_id: str
    chat_id: str
    call_id: str
    tool_name: str
    input: dict[str, Json]
    principal: str
    idempotency_key: str
    epoch: int
    state: dict[str, Json]
    owned: Callable[[], bool] = lambda: True
    resumed: Resumed | None = None
    ask: Ask | None = None


class Workshop(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of a process share. ``output`` is bytes of one output, ``shown`` of the text one call shows."""

    output: int
    shown: int
    grace: float
    places: Places
    threads: Threads[End]
    left_behind: set[asyncio.Task[End]]
    outputs: Outputs
    keeping: Keeping


class RunningCall:
    """``to_its_end`` is called once."""

    def __init__(self, call: StartedCall, tool: Tool, showing: Showing, cancel: CancelFlag, workshop: Workshop) -> None:
        self._call = call
        self._tool = tool
        self._showing = showing
        self._cancel = cancel
        self._workshop = workshop
        self._patience = Patience(tool.timeout, tool.idle_timeout, progress=lambda: showing.progress)
        self._watch = Watch(
            Whose(tool_name=tool.spec.name, source=tool.source, call_id=call.call_id, turn_id=call.turn_id),
            patience=self._patience,
            cancel=cancel,
            grace=workshop.grace,
            left_behind=workshop.left_behind,
        )
        self._person: Person | None = None
        if call.ask is not None and tool.kind != "sync":
            self._person = Person(call.ask, self._patience, told=self._told)
        self._stream = Spill()

    async def to_its_end(self) -> ToolEnd:
        """Raises only ``CancelledError``, when the caller's own task is cancelled: the tool is told to stop then."""
        name, places = self._tool.spec.name, self._workshop.places
        if not await places.take(name, self._cancel):
            return await self._said(Stopped("cancelled", started=False))
        try:
            return await self._to_its_end()
        finally:
            places.give_back(name)

    async def _to_its_end(self) -> ToolEnd:
        end: End = Stopped("cancelled", started=False)
        try:
            for attempt in itertools.count():
                if self._cancel.cancelled:
                    break
                end = await self._once()
                if not self._worth_another(end, attempt):
                    break
                count("tool_retries", tool=self._tool.spec.name)
                await asyncio.wait({self._cancel.future()}, timeout=_pause(attempt))
            self._leave()
            return await self._said(end)
        finally:
            self._leave()
            self._stream.close()

    def _leave(self) -> None:
        """Who was left behind asks nobody and adds nothing any more."""
        self._stream.end()
        if self._person is not None:
            self._person.leave()

    async def _once(self) -> End:
        self._stream.close()
        self._stream = Spill()
        try:
            bound = self._tool.bind(self._call.input, self._context())
        except Exception as error:  # noqa: BLE001 - a tool may be of anybody's making
            return Raised(error)
        if self._tool.kind == "sync":
            return await self._watch.in_thread(lambda: self._in_thread(bound), self._workshop.threads)
        end = await self._watch.on_loop(lambda: self._on_loop(bound))
        if isinstance(end, Returned) and not end.whole:
            return await self._workshop.outputs.whole_on_loop(end.value, self._tool, self._watch)
        return end

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
            cancelled=self._told,
            ask=None if self._person is None else self._person.ask,
            resumed=call.resumed,
        )

    def _told(self) -> bool:
        """Shall it stop? Asked from any thread."""
        return self._watch.told or self._cancel.cancelled

    def _worth_another(self, end: End, attempt: int) -> bool:
        """Only what the tool did not mean to say is tried again."""
        if self._tool.effect == "write" or attempt >= self._tool.retries or not isinstance(end, Raised):
            return False
        if is_answer(end.error) or self._watch.told or not self._patience.begun:
            return False
        left, _ = self._patience.left()
        return left is not None and left > _pause(attempt)

    # where it runs

    # A call that waited, for its place or with its whole process, is not started by who has lost the turn meanwhile.

    def _in_thread(self, bound: Callable[[], object]) -> End:
        if not self._call.owned():
            return Stopped("cancelled", started=False)
        try:
            value = bound()
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end nothing but this call
            return Raised(error)
        return self._workshop.outputs.whole(value, self._tool)

    async def _on_loop(self, bound: Callable[[], object]) -> End:
        if not self._call.owned():
            return Stopped("cancelled", started=False)
        value = bound()
        if self._tool.kind == "stream":
            return await self._streamed(value, self._stream)
        return Returned(await value if inspect.isawaitable(value) else value)

    async def _streamed(self, pieces: object, stream: Spill) -> End:
        if not isinstance(pieces, AsyncIterator):
            raise ToolError(f"the tool gave {type(pieces).__name__}, not a stream of text", code="not_json")
        try:
            number = 0
            async for piece in pieces:
                self._take(piece, stream)
                number += 1
                if stream.full:
                    await self._workshop.outputs.to_disk(stream)
                if number % _PIECES_A_TURN == 0:
                    await asyncio.sleep(0)
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
        return Returned(_streamed_output(stream), whole=True)

    def _take(self, piece: object, stream: Spill) -> None:
        """Show and keep it."""
        limit = self._workshop.output
        if not isinstance(piece, str):
            message = f"the tool ran, but a piece of its stream is {type(piece).__name__}, not text"
            raise ToolError(message, code="not_json")
        if stream.size + len(piece) > limit:  # before anything is copied
            raise too_large(stream.size + len(piece), limit, at_least=True)
        data = clean(piece).encode()
        if stream.size + len(data) > limit:
            raise too_large(stream.size + len(data), limit, at_least=True)
        self._showing.show(piece)
        stream.add(data)

    # what became of it

    async def _said(self, end: End) -> ToolEnd:
        wish = wish_of(end.error) if isinstance(end, Raised) else None
        if wish is not None and self._cancel.cancelled:
            end = Stopped("cancelled")  # whoever cancels wants an end, and no further call
        elif isinstance(wish, NotNow):
            count("tool_deferred", tool=self._tool.spec.name)
            return ToolDeferred(call_id=self._call.call_id)
        elif isinstance(wish, InputNeeded):
            try:
                return need_of(self._call.call_id, wish)
            except ToolError as error:
                end = Raised(error)
        if isinstance(end, Returned):
            return await self._finished("ok", end.value, UNSET)
        return await self._finished(*self._failure(end))

    async def _finished(self, outcome: Outcome, output: Json | Spill, error: CallError | UnsetType) -> ToolFinished:
        count("tool_results", tool=self._tool.spec.name, outcome=outcome)
        return await self._workshop.keeping.finished(
            output,
            turn_id=self._call.turn_id,
            call_id=self._call.call_id,
            epoch=self._call.epoch,
            outcome=outcome,
            error=error,
            cancel=self._cancel,
        )

    def _failure(self, end: Raised | Stopped) -> tuple[Outcome, Json | Spill, CallError]:
        """A stream keeps what it gave."""
        given = _streamed_output(self._stream) or None
        if isinstance(end, Raised):
            error = described(end.error)
            if error.code == "tool_failed":
                self._watch.log_raised(end.error, "raised")
            return "error", given, error
        if not end.started:
            return "cancelled", None, CallError("cancelled", "cancelled before it started")
        doubt = "" if self._tool.effect == "read" else "; its outcome is unknown, it may have taken effect"
        if doubt and self._tool.effect == "write":
            doubt += ": check before repeating it"
        if end.why == "cancelled":
            return "cancelled", given, CallError("cancelled", f"cancelled while it ran{doubt}")
        if end.why == "timeout":
            return "timeout", given, CallError("timeout", f"timed out after {self._tool.timeout:g} s{doubt}")
        message = f"timed out: it showed no progress for {self._tool.idle_timeout:g} s{doubt}"
        return "timeout", given, CallError("idle_timeout", message)


def _streamed_output(stream: Spill) -> str | Spill:
    if stream.large:
        return stream
    text = stream.text()
    return stream if goes_beside(text, stream) else text


def _pause(attempt: int) -> float:
    return min(_BACKOFF * 2.0**attempt, _BACKOFF_MAX)
