"""What became of a call that had begun when its process died: the outside is asked, by the tool's ``reconcile``.

Nothing is run again here. Where the outside does not say, the model is told that nobody knows. Where it says that
nothing happened, that is believed only of a process that surely is dead: one that was stopped, or is on another
machine, may wake up and go on with what it was at.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from functools import partial

from msgspec import UNSET, UnsetType

from legato.core.blocks import CallError, Json, Outcome
from legato.core.errors import ToolError
from legato.core.inputs import ToolFinished
from legato.observability import count
from legato.ports import Tool
from legato.runtime.calls.cancel import CancelFlag
from legato.runtime.calls.patience import Patience
from legato.runtime.calls.raised import described
from legato.runtime.calls.spill import Spill
from legato.runtime.calls.toolcall import Workshop
from legato.runtime.calls.watch import End, Raised, Returned, Watch, Whose

UNKNOWN = CallError("interrupted", "interrupted; it may have taken effect; check before repeating")
NOT_YET = CallError(
    "interrupted",
    "interrupted; it has not taken effect so far, but its server may be alive and still do it; check before repeating",
)

NOT_ASKED = "threads_exhausted"


class Reconciling:
    """``settled`` is called once."""

    def __init__(
        self, *, turn_id: str, call_id: str, epoch: int, dead: bool, cancel: CancelFlag, workshop: Workshop
    ) -> None:
        self._turn_id = turn_id
        self._call_id = call_id
        self._epoch = epoch
        self._dead = dead
        self._cancel = cancel
        self._workshop = workshop

    async def settled(self, tool: Tool | None, key: str) -> ToolFinished:
        """Raises only ``CancelledError``, when the caller's own task is cancelled."""
        ask = None if tool is None else tool.reconcile
        if tool is None or ask is None:
            return await self._finished("unknown", None, UNKNOWN)
        watch = self._watch(tool)
        end = await self._asked(partial(ask, key), watch)
        happened = isinstance(end, Returned) and end.value is not None
        if isinstance(end, Returned) and happened:
            end = await self._workshop.outputs.whole_on_loop(end.value, tool, watch)
        outcome, output, error = self._meaning(end, happened=happened)
        count("tool_reconciled", tool=tool.spec.name, outcome=outcome)
        return await self._finished(outcome, output, error)

    def _watch(self, tool: Tool) -> Watch:
        started = time.monotonic()
        return Watch(
            Whose(tool_name=tool.spec.name, source=tool.source, call_id=self._call_id, turn_id=self._turn_id),
            patience=Patience(tool.timeout, None, progress=lambda: started),
            cancel=self._cancel,
            grace=self._workshop.grace,
            left_behind=self._workshop.left_behind,
        )

    async def _asked(self, ask: Callable[[], object], watch: Watch) -> End:
        """Within the tool's ``timeout``. It may block, and may give an awaitable."""
        if self._cancel.cancelled:
            return Returned(None)
        end = await watch.in_thread(partial(_called, ask), self._workshop.threads)
        if isinstance(end, Returned) and inspect.isawaitable(end.value):
            end = await _awaited(end.value, watch)
        if isinstance(end, Raised) and not isinstance(end.error, ToolError):
            watch.log_raised(end.error, "could not say what became of a call: its reconcile raised")
        return end

    def _meaning(self, end: End, *, happened: bool) -> tuple[Outcome, Json | Spill, CallError | UnsetType]:
        """``happened``: the outside has said that it did, whatever became of what it gave."""
        if isinstance(end, Returned) and end.value is not None:
            return "ok", end.value, UNSET
        if isinstance(end, Raised) and isinstance(end.error, ToolError) and end.error.code != NOT_ASKED:
            sure = happened or self._dead
            return ("error", None, described(end.error)) if sure else ("unknown", None, NOT_YET)
        return "unknown", None, UNKNOWN

    async def _finished(self, outcome: Outcome, output: Json | Spill, error: CallError | UnsetType) -> ToolFinished:
        return await self._workshop.keeping.finished(
            output,
            turn_id=self._turn_id,
            call_id=self._call_id,
            epoch=self._epoch,
            outcome=outcome,
            error=error,
            cancel=self._cancel,
        )


def _called(ask: Callable[[], object]) -> End:
    try:
        return Returned(ask())
    except BaseException as error:  # noqa: BLE001 - whatever it raises, it is no answer
        return Raised(error)


async def _awaited(value: Awaitable[object], watch: Watch) -> End:
    async def wait() -> End:
        return Returned(await value)

    try:
        return await watch.on_loop(wait)
    finally:
        if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
            value.close()  # cancelled before it began
