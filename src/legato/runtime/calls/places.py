"""Places for the calls of a process: so many run at once, so many of one tool, and the others wait.

First come, first served, but nobody waits for a tool that is not his: where one tool has all its places, the calls of
others go past those that wait for it. All bookkeeping is on the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from legato.observability import count, gauge, warn_once
from legato.runtime.calls.cancel import CancelFlag

_log = logging.getLogger(__name__)

RUNNING = 1_024
"""Calls that run at once in a process: as many as there may be turns."""
OF_TOOL = 256
"""Of one tool: what it asks is mostly one service, and the other tools shall have places left."""


class Places:
    def __init__(self, running: int = RUNNING, *, of_tool: int = OF_TOOL) -> None:
        self._most = running
        self._most_of_tool = of_tool
        self._running: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}  # in the order they came

    async def take(self, tool_name: str, cancel: CancelFlag) -> bool:
        """Wait for a place, which is to be given back. False, and there is none, if the call was cancelled before."""
        if self._has_room(tool_name):
            self._running[tool_name] += 1
            return True
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[granted] = tool_name
        self._say_full(tool_name)
        try:
            await asyncio.wait({granted, cancel.future()}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not self._withdraw(granted):
                self.give_back(tool_name)
            raise
        return not self._withdraw(granted)

    def give_back(self, tool_name: str) -> None:
        self._running[tool_name] -= 1
        if not self._running[tool_name]:
            del self._running[tool_name]
        for granted, name in list(self._waiting.items()):
            if self._running.total() >= self._most:
                break
            if self._has_room(name):
                del self._waiting[granted]
                self._running[name] += 1
                granted.set_result(None)
        self._show()

    def _has_room(self, tool_name: str) -> bool:
        return self._running.total() < self._most and self._running[tool_name] < self._most_of_tool

    def _withdraw(self, granted: asyncio.Future[None]) -> bool:
        """Wait no more. False if it has been given its place."""
        if granted.done():
            return False
        del self._waiting[granted]
        self._show()
        return True

    def _say_full(self, tool_name: str) -> None:
        count("tool_places_waited", tool=tool_name)
        running = self._running[tool_name]
        if running >= self._most_of_tool:
            message = f"{running} calls of {tool_name} run at once, limit is {self._most_of_tool}; the others wait"
            warn_once(_log, f"tool_places_full:{tool_name}", message)
        else:
            names = ", ".join(f"{name} ({calls})" for name, calls in self._running.most_common(5))
            message = f"{self._most} calls run at once, which is the limit; the others wait. Most are of {names}"
            warn_once(_log, "tool_places_full", message)
        self._show()

    def _show(self) -> None:
        gauge("tool_places_waiting", len(self._waiting))
