"""What has happened how often, and who waits for it; and the gates at which streams stand.

An upstream's loop reports; any thread and any loop may ask and wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future

PATIENCE = 10.0  # seconds a test waits for what should have happened long ago


class Marks:
    """Counts of named happenings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._waiting: list[tuple[str, int, Future[None]]] = []

    def hit(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1
            now = self._counts[name]
            ready = [one for one in self._waiting if one[0] == name and one[1] <= now]
            self._waiting = [one for one in self._waiting if one not in ready]
        for _, _, future in ready:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def count(self, name: str) -> int:
        with self._lock:
            return self._counts[name]

    async def wait(self, name: str, times: int, patience: float) -> None:
        """Return once ``name`` has happened ``times`` times. Raises ``TimeoutError`` that says what has."""
        future = self._future(name, times)
        try:
            await asyncio.wait_for(asyncio.wrap_future(future), patience)
        except TimeoutError:
            raise self._impatient(name, times, patience) from None

    def wait_blocking(self, name: str, times: int, patience: float) -> None:
        """The same for a thread."""
        future = self._future(name, times)
        try:
            future.result(patience)
        except TimeoutError:
            future.cancel()
            raise self._impatient(name, times, patience) from None

    def _future(self, name: str, times: int) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            if self._counts[name] >= times:
                future.set_result(None)
            else:
                self._waiting.append((name, times, future))
        return future

    def _impatient(self, name: str, times: int, patience: float) -> TimeoutError:
        with self._lock:
            self._waiting = [one for one in self._waiting if not one[2].cancelled()]
            happened = ", ".join(f"{name} x {count}" for name, count in self._counts.items()) or "nothing"
        return TimeoutError(f"{name} did not happen {times} times within {patience} s; what did: {happened}")


class Gates:
    """Where streams stand until they are let go. A gate that was released stays open. Used by the loop alone."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._open: set[str] = set()
        self._standing: dict[str, list[Callable[[], None]]] = {}

    def arrive(self, name: str, go: Callable[[], None]) -> bool:
        """Whether the gate is open; if not, ``go`` is called when it is released."""
        if name not in self._open:
            self._standing.setdefault(name, []).append(go)
        self._marks.hit(f"gate {name}")
        return name in self._open

    def release(self, name: str) -> None:
        self._open.add(name)
        for go in self._standing.pop(name, []):
            go()

    def leave(self, go: Callable[[], None]) -> None:
        """Somebody stands there no longer."""
        for standing in self._standing.values():
            if go in standing:
                standing.remove(go)
