"""The end that comes for a process that was told to stop, whatever still holds it.

A stop is done in order and in its time (serve.py). But a tool may hold the loop, so that nothing is done any more; and
a thread may hang in a formatter, a disk or a name server, and the interpreter waits for it without a bound. So one
thread watches: it does nothing until the process is told to stop, and ends it when the time is over. What is stored or
spooled by then is safe; the rest is as after a crash.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from typing import Final, NamedTuple

_log = logging.getLogger(__name__)

# Seconds after the drain that a stop may take: a bound that is promised (docs/cli.md).
AFTER_DRAIN: Final = 5.0
# Of it, for the end itself on a busy machine.
_SPARE: Final = 0.3
# Seconds after a second signal: to store what was said, if the store takes it at once.
_FORCED: Final = 1.0
# Seconds that the interpreter has to leave once everything is done: tools may have something to flush at the exit.
_LEAVING: Final = 3.0
# Seconds to write to a log that may hang as well.
_LOGGING: Final = 0.2
OVERDUE: Final = 1
"""The exit code of a stop that did not come to its end in order."""


class _Word(NamedTuple):
    within: float
    exit_code: int
    why: str


class Deadline:
    """``watch`` is called once, and what follows in any thread. ``drain`` is seconds."""

    def __init__(self, drain: float) -> None:
        self._drain = drain
        self._signalled = False
        self._said: queue.SimpleQueue[_Word] = queue.SimpleQueue()

    def watch(self) -> None:
        """Begin. The thread does not hold the exit itself."""
        threading.Thread(target=self._run, name="legato-deadline", daemon=True).start()

    def signalled(self, sig: int) -> None:
        """By the first one the process is told to stop, by any second one to stop at once."""
        if self._signalled:
            self._said.put(_Word(_FORCED, 128 + sig, ""))
        else:
            seconds = self._drain + AFTER_DRAIN - _SPARE
            self._said.put(_Word(seconds, OVERDUE, f"the stop is not over after {seconds:g} s: the process is ended"))
        self._signalled = True

    def stopped(self, exit_code: int) -> None:
        """Everything was done in order; only the interpreter has to leave."""
        self._said.put(_Word(_LEAVING, exit_code, "everything is closed, but a thread does not end: it is left behind"))

    def _run(self) -> None:
        word = self._said.get()
        until = time.monotonic() + word.within
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                word = self._said.get(timeout=min(left, threading.TIMEOUT_MAX))
                until = min(until, time.monotonic() + word.within)
        if word.why:
            saying = threading.Thread(target=_log.error, args=(word.why,), daemon=True)
            saying.start()
            saying.join(_LOGGING)
        # Nothing gentler ends a process whose main thread does not come back.
        os._exit(word.exit_code)
