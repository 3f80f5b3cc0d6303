"""One call of a tool, from its start to its one end (docs/tools.md).

``Toolbox.run`` always comes back with an end, bounded in time and size: whatever the tool raises, returns, or refuses
to stop doing. Once told to stop, by a cancel or a timeout, a tool has ``grace`` seconds; a good end within it is kept.
"""

from __future__ import annotations

from collections.abc import Callable

from legato.core.blocks import CallError
from legato.core.inputs import ToolEnd, ToolFinished
from legato.ports import KeepOutput, Tools
from legato.runtime.calls.cancel import CancelFlag
from legato.runtime.calls.converting import Outputs
from legato.runtime.calls.keeping import Keeping
from legato.runtime.calls.places import Places
from legato.runtime.calls.reconciling import Reconciling
from legato.runtime.calls.showing import Showing
from legato.runtime.calls.spill import Disk
from legato.runtime.calls.threads import Threads
from legato.runtime.calls.toolcall import RunningCall, StartedCall, Workshop
from legato.runtime.calls.watch import End

__all__ = ["CancelFlag", "StartedCall", "Toolbox"]

GRACE = 2.0
"""Seconds: long enough to close a connection, short enough for a person who has pressed Stop."""
HARD_OUTPUT = 64 * 1024 * 1024
"""Bytes that one output may have in the store; past it the call is an error, never a piece of the result."""
SHOWN_TEXT = 1024 * 1024
"""Bytes of text that one call may show to readers while it runs."""


class Toolbox:
    """``grace`` is seconds, ``hard_output_bytes`` and ``shown_bytes`` are of one call. ``keep`` is
    ``Store.keep_output``; without it what is too large for the log is cut for good. ``places`` bounds those that run
    at once. Used from one loop."""

    def __init__(
        self,
        tools: Tools,
        *,
        keep: KeepOutput | None = None,
        places: Places | None = None,
        threads: Threads[End] | None = None,
        grace: float = GRACE,
        hard_output_bytes: int = HARD_OUTPUT,
        shown_bytes: int = SHOWN_TEXT,
    ) -> None:
        disk = Disk()
        self._tools = tools
        self._workshop = Workshop(
            output=hard_output_bytes,
            shown=shown_bytes,
            grace=grace,
            places=places if places is not None else Places(),
            threads=threads if threads is not None else Threads[End](),
            left_behind=set(),
            outputs=Outputs(disk, limit=hard_output_bytes),
            keeping=Keeping(keep, disk, grace=grace),
        )

    async def run(self, call: StartedCall, *, emit: Callable[[str], None], cancel: CancelFlag) -> ToolEnd:
        """Run it to its end. Raises only ``CancelledError``, when the caller's own task is cancelled.

        ``emit`` is called on the loop, in order, and never after this has come back.
        """
        tool = self._tools.get(call.tool_name)
        if tool is None:
            error = CallError("unknown_tool", f"there is no tool {call.tool_name!r}")
            return ToolFinished(call_id=call.call_id, outcome="error", error=error)
        showing = Showing(emit, tool_name=call.tool_name, limit=self._workshop.shown)
        try:
            return await RunningCall(call, tool, showing, cancel, self._workshop).to_its_end()
        finally:
            showing.close()

    async def reconcile(
        self,
        *,
        turn_id: str,
        call_id: str,
        tool_name: str,
        idempotency_key: str,
        epoch: int,
        dead: bool,
        cancel: CancelFlag,
    ) -> ToolFinished:
        """Ask the tool's ``reconcile`` what became of a call that may have taken effect. Raises as ``run`` does.

        ``ok`` with its output, ``error`` where it surely did not, else ``unknown``. ``dead``: the process that began
        the call surely does not run any more, so what has not taken effect will not.
        """
        tool = self._tools.get(tool_name)
        asked = Reconciling(
            turn_id=turn_id, call_id=call_id, epoch=epoch, dead=dead, cancel=cancel, workshop=self._workshop
        )
        return await asked.settled(tool, idempotency_key)

    def close(self) -> None:
        """Let idle threads end; call it after the last ``run``. Threads left behind end with the process."""
        self._workshop.threads.close()
        self._workshop.outputs.close()
