"""A signal is heard whichever thread took it, whatever holds the main thread, and only our own (note 0016)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from legato.signals import heard

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its signals come to no chosen thread")

BOUND = 5


@contextlib.contextmanager
def handled(*numbers: int) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_it_is_heard_while_the_main_thread_is_held_and_another_one_took_it() -> None:
    held = threading.Lock()
    held.acquire()
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()

    def tell(number: int) -> None:
        numbers.put(number)
        held.release()

    with handled(signal.SIGUSR1), heard(tell):
        other = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        other.start()
        assert held.acquire(timeout=BOUND), "not heard before the main thread went on"
        other.join()
    assert numbers.get_nowait() == signal.SIGUSR1


def test_two_of_a_kind_are_two() -> None:
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    with handled(signal.SIGUSR1), heard(numbers.put):
        for _ in range(2):
            signal.raise_signal(signal.SIGUSR1)
            assert numbers.get(timeout=BOUND) == signal.SIGUSR1


def test_a_loop_hears_its_own_handlers_meanwhile() -> None:
    async def main() -> None:
        called = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, called.set)
        with heard(lambda _: None):
            other = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
            other.start()
            await asyncio.wait_for(called.wait(), BOUND)
            other.join()

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_childs_signals_are_its_own_and_hold_up_nobody() -> None:
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    with handled(signal.SIGUSR1, signal.SIGUSR2), contextlib.ExitStack() as after, heard(numbers.put):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGUSR2)
            os.write(writing, b".")
            signal.pause()  # with all that it has inherited open
        after.callback(os.waitpid, child, 0)
        after.callback(os.kill, child, signal.SIGKILL)
        os.read(reading, 1)
        os.close(reading)
        os.close(writing)
        signal.raise_signal(signal.SIGUSR1)
        assert numbers.get(timeout=BOUND) == signal.SIGUSR1
    assert numbers.empty()


def test_what_was_there_before_is_put_back() -> None:
    with heard(lambda _: None):
        pass
    assert signal.set_wakeup_fd(-1) == -1
