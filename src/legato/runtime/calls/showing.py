"""The way of a running tool's text to its readers.

A tool may show text from the loop or from a thread, as fast as it likes. What comes within one turn of the loop leaves
as one piece, so that neither the loop's queue nor the turn's events grow with the number of calls; the bytes are
bounded for the whole call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic

from legato.core.text import clean
from legato.core.text import cut as first_bytes
from legato.observability import count


class Showing:
    """``progress`` is the monotonic time of the last text, or of the start."""

    def __init__(self, emit: Callable[[str], None], *, tool_name: str, limit: int) -> None:
        self.progress = monotonic()
        self._emit = emit
        self._tool_name = tool_name
        self._limit = limit
        self._left = limit
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._lock = threading.Lock()
        self._pending: list[str] = []
        self._armed = False  # somebody will come and take what is pending
        self._closed = False

    def show(self, text: object) -> None:
        """From any thread. Raises ``TypeError`` for what is not text. After the end it does nothing."""
        if not isinstance(text, str):
            raise TypeError(f"emit takes text, this is {type(text).__name__}")
        self.progress = monotonic()
        with self._lock:
            if self._closed or not (text := self._within_limit(text)):
                return
            here = threading.get_ident() == self._loop_thread
            at_once = here and not self._armed
            if not at_once:
                self._pending.append(text)
            if not self._armed:
                self._armed = self._arm(here=here)
        if at_once:
            self._emit(text)

    def close(self) -> None:
        """On the loop: what is pending leaves now, what comes later is not taken."""
        self._take()
        with self._lock:
            self._closed = True

    def _arm(self, *, here: bool) -> bool:
        if here:
            self._loop.call_soon(self._take)
            return True
        try:
            self._loop.call_soon_threadsafe(self._take)
        except RuntimeError:  # the loop is closed: nobody reads any more
            return False
        return True

    def _take(self) -> None:
        with self._lock:
            text = "".join(self._pending)
            self._pending.clear()
            self._armed = False
        if text and not self._closed:
            self._emit(text)

    def _within_limit(self, text: str) -> str:
        """What of it may still be shown. Where the limit is met a line says so, once."""
        if self._left < 0:
            return ""
        text = clean(text[: self._left + 1])  # no more characters than bytes are left: a gigabyte is not copied
        size = len(text.encode())
        if size <= self._left:
            self._left -= size
            return text
        text = first_bytes(text, self._left)
        self._left = -1
        count("tool_text_cut", tool=self._tool_name)
        return f"{text}\n[… the tool showed more than {self._limit} bytes, the rest is left out …]\n"
