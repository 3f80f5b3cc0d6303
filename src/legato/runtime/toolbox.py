"""One call of a tool, from its start to its one result (docs/tools.md).

``Toolbox.run`` always comes back with a result, bounded in time and size: whatever the tool raises, returns, or refuses
to stop doing. Once told to stop, by a cancel or a timeout, a tool has ``grace`` seconds; a good end within it is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from legato.core.blocks import CallError
from legato.core.inputs import ToolFinished
from legato.ports import Tools
from legato.runtime.showing import Showing
from legato.runtime.threads import Threads
from legato.runtime.toolcall import Bounds, CancelFlag, End, RunningCall, StartedCall

__all__ = ["CancelFlag", "StartedCall", "Toolbox"]

GRACE = 2.0
"""Seconds: long enough to close a connection, short enough for a person who has pressed Stop."""
HARD_OUTPUT = 8 * 1024 * 1024
"""Bytes of JSON that one result may have in the store; past it the call is an error, never a piece of the result."""
SHOWN_TEXT = 1024 * 1024
"""Bytes of text that one call may show to readers while it runs."""


class Toolbox:
    """``grace`` is seconds, ``hard_output_bytes`` and ``shown_bytes`` are of one call. Used from one loop."""

    def __init__(
        self,
        tools: Tools,
        *,
        threads: Threads[End] | None = None,
        grace: float = GRACE,
        hard_output_bytes: int = HARD_OUTPUT,
        shown_bytes: int = SHOWN_TEXT,
    ) -> None:
        self._tools = tools
        self._threads = threads if threads is not None else Threads[End]()
        self._bounds = Bounds(grace=grace, output=hard_output_bytes, shown=shown_bytes)
        self._left_behind: set[asyncio.Task[End]] = set()

    async def run(self, call: StartedCall, *, emit: Callable[[str], None], cancel: CancelFlag) -> ToolFinished:
        """Run it to its end. Raises only ``CancelledError``, when the caller's own task is cancelled.

        ``emit`` is called on the loop, in order, and never after this has come back.
        """
        tool = self._tools.get(call.tool_name)
        if tool is None:
            error = CallError("unknown_tool", f"there is no tool {call.tool_name!r}")
            return ToolFinished(call_id=call.call_id, outcome="error", error=error)
        showing = Showing(emit, tool_name=call.tool_name, limit=self._bounds.shown)
        running = RunningCall(
            call,
            tool,
            showing,
            cancel,
            bounds=self._bounds,
            threads=self._threads,
            left_behind=self._left_behind,
        )
        try:
            return await running.to_its_end()
        finally:
            showing.close()

    def close(self) -> None:
        """Let idle threads end; call it after the last ``run``. Threads left behind end with the process."""
        self._threads.close()
