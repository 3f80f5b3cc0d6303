"""How much was said and is not stored, of all turns together, and who waits until it is less."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator


class Backlog:
    """``limit`` is bytes. Past it no turn hears more of its provider: it awaits this, until there is room again.

    Every delta adds to ``bytes``, and every wake-up compares them: no call, no property. ``hurry`` has them stored.
    """

    __slots__ = ("_hurry", "_roomy", "bytes", "limit")

    def __init__(self, limit: int, hurry: Callable[[], None]) -> None:
        self.bytes = 0
        self.limit = limit
        self._hurry = hurry
        self._roomy = asyncio.Event()

    def less(self, stored: int) -> None:
        """So many bytes do not wait any more."""
        self.bytes -= stored
        if self.bytes <= self.limit:
            self._roomy.set()

    def __await__(self) -> Generator[object, None, None]:
        return self._until_there_is_room().__await__()

    async def _until_there_is_room(self) -> None:
        while self.bytes > self.limit:
            self._hurry()
            self._roomy.clear()
            await self._roomy.wait()
