"""From what a tool returned to an output that can be stored, without holding up the loop.

A tool's own types are asked for their JSON, and may block: what is not surely small is done in threads, watched like
the tool itself. They are not the threads that plain tools run in: a tool that blocks takes none of them.
"""

from __future__ import annotations

import inspect
from functools import partial

import msgspec

from legato.core.blocks import Json
from legato.core.errors import ToolError
from legato.ports import Tool
from legato.runtime.calls.outputs import bounded_output, is_small
from legato.runtime.calls.raised import text_of
from legato.runtime.calls.spill import Disk, Spill
from legato.runtime.calls.threads import Threads
from legato.runtime.calls.watch import End, Raised, Returned, Stopped, Watch

_PLACES = 8


class Outputs:
    """``limit`` is bytes of one output. Used from one loop."""

    def __init__(self, disk: Disk, *, limit: int) -> None:
        self._disk = disk
        self._limit = limit
        self._threads = Threads[End](_PLACES, pool="outputs")

    def whole(self, value: object, tool: Tool) -> End:
        """In a thread: it may block. Never raises."""
        try:
            return Returned(self._stored(value, tool), whole=True)
        except BaseException as error:  # noqa: BLE001 - in a thread nobody else is there to take it
            return Raised(error)

    async def whole_on_loop(self, value: object, tool: Tool, watch: Watch) -> End:
        """A million numbers must not stop the loop."""
        if is_small(value):
            return self.whole(value, tool)
        end = await watch.in_thread(partial(self.whole, value, tool), self._threads)
        return msgspec.structs.replace(end, started=True) if isinstance(end, Stopped) else end

    async def to_disk(self, stream: Spill) -> None:
        """Raises ``ToolError``."""
        try:
            await self._disk.write(stream)
        except OSError as error:
            raise _no_room(error) from error

    def close(self) -> None:
        self._threads.close()

    def _stored(self, value: object, tool: Tool) -> Json | Spill:
        if inspect.iscoroutine(value):
            value.close()
            raise ToolError("the tool is a plain function that gave a coroutine; make it `async def`", code="not_json")
        try:
            output = tool.jsonable(value)
        except ToolError:
            raise
        except Exception as error:
            raise _not_json(error) from error
        try:
            return bounded_output(output, self._limit)
        except OSError as error:
            raise _no_room(error) from error
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise _not_json(error) from error


def _not_json(error: Exception) -> ToolError:
    return ToolError(f"the tool ran, but what it returned is not JSON: {text_of(error)}", code="not_json")


def _no_room(error: OSError) -> ToolError:
    return ToolError(f"the tool ran, but its output found no room on disk: {error.strerror}", code="output_too_large")
