"""Signals, heard by a thread of their own.

The kernel gives a signal to any thread of the process, and Python's handlers run only in the main thread, between two
lines of it. A main thread that is held in one call (a tool that sleeps on the loop) may so not hear of a signal that
another thread took, until the call ends. What is done at once, in whichever thread, is to write the signal's number to
the wakeup descriptor; so somebody reads there who is never held.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

_CHUNK = 512


@contextlib.contextmanager
def heard(tell: Callable[[int], None]) -> Iterator[None]:
    """While this is open, ``tell`` is called in a thread of its own with the number of every signal that has a handler
    in Python. The main thread alone may open it, inside its loop: a loop that hears by the same descriptor still does.
    """
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)  # noqa: FBT003 - its only argument
    before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    loops = None if before == -1 else socket.fromfd(before, socket.AF_INET, socket.SOCK_STREAM)
    if hasattr(os, "register_at_fork"):
        # A child that is forked would write its own signals here, and be taken for us.
        os.register_at_fork(after_in_child=lambda: _leave(pythons.fileno()))
    listening = threading.Thread(target=_listen, args=(ours, loops, tell), name="legato-signals", daemon=True)
    listening.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        pythons.shutdown(socket.SHUT_WR)  # a forked child may have it open too
        pythons.close()
        listening.join()


def _listen(ours: socket.socket, loops: socket.socket | None, tell: Callable[[int], None]) -> None:
    with ours, loops or contextlib.nullcontext():
        while numbers := ours.recv(_CHUNK):
            for number in numbers:
                tell(number)
            if loops is not None:
                with contextlib.suppress(OSError):  # full: it is awake
                    loops.send(numbers)


def _leave(descriptor: int) -> None:
    current = signal.set_wakeup_fd(-1)
    if current != descriptor:
        signal.set_wakeup_fd(current, warn_on_full_buffer=False)
