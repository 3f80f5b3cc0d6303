"""Typing while words stream in: the terminal gives keys as they come and shows none of them by itself.

Where there is no such terminal (a pipe takes our output, or the system has no termios) lines are read as they are
entered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_PASTES_ON: Final = "\x1b[?2004h"
_PASTES_OFF: Final = "\x1b[?2004l"
_READ: Final = 4096


@contextmanager
def keys(pressed: Callable[[bytes], None], *, resumed: Callable[[], None]) -> Iterator[None]:
    """``pressed`` gets what is typed, b"" at its end. ``resumed`` is called when the terminal is ours again after
    Ctrl-Z, or has become another size. Ctrl-C and Ctrl-Z stay signals; one that asks us to go is the end of what is
    typed, so that the terminal is given back as it was."""
    import termios
    import tty

    loop = asyncio.get_running_loop()
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)

    def take() -> None:
        tty.setcbreak(stdin, termios.TCSADRAIN)
        sys.stdout.write(_PASTES_ON)
        sys.stdout.flush()
        resumed()

    def read() -> None:
        try:
            data = os.read(stdin, _READ)
        except OSError:  # the terminal is gone
            data = b""
        if not data:
            loop.remove_reader(stdin)
        pressed(data)

    loop.add_reader(stdin, read)
    loop.add_signal_handler(signal.SIGCONT, take)
    loop.add_signal_handler(signal.SIGWINCH, resumed)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, pressed, b"")
    try:
        take()
        yield
    finally:
        for number in (signal.SIGWINCH, signal.SIGCONT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
        loop.remove_reader(stdin)
        try:
            termios.tcsetattr(stdin, termios.TCSADRAIN, before)
            sys.stdout.write(_PASTES_OFF)
            sys.stdout.flush()
        except (OSError, termios.error):  # it is gone, and needs nothing back
            pass


def lines(entered: Callable[[bytes], None]) -> None:
    """``entered`` gets what stdin gives, b"" at its end."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        while True:
            data = os.read(sys.stdin.fileno(), _READ)
            try:
                loop.call_soon_threadsafe(entered, data)
            except RuntimeError:  # the loop is closed: the chat is over
                return
            if not data:
                return

    # A thread, as a console cannot be polled on every system, and a daemon, as nothing ends its read. It holds no lock
    # of sys.stdin that the interpreter would wait for at its end.
    threading.Thread(target=read, name="legato-stdin", daemon=True).start()


@contextmanager
def interrupts(interrupted: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls ``interrupted`` in the loop, and raises nothing."""
    loop = asyncio.get_running_loop()

    def tell(_: int, __: FrameType | None) -> None:
        loop.call_soon_threadsafe(interrupted)

    before = signal.signal(signal.SIGINT, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
