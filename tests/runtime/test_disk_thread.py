"""A disk that hangs holds up nobody for longer than he may wait, and what comes of it late is taken back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from legato.runtime.storing.disk_thread import DiskThread

WAIT = 10.0


class Standing:
    """Work that stands until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go.wait(WAIT)
        return "done"


@pytest.fixture
def standing() -> Iterator[Standing]:
    standing = Standing()
    yield standing
    standing.go.set()


async def idle(disk: DiskThread) -> None:
    with anyio.fail_after(WAIT):
        while disk.hung_for:
            await anyio.lowlevel.checkpoint()


async def test_work_is_done_in_its_order_and_what_it_raises_is_raised() -> None:
    disk, done = DiskThread(WAIT, name="test"), list[int]()

    def fail() -> None:
        raise OSError(28, "No space left on device")

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(disk.run, lambda number=number: done.append(number))
    assert done == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="No space"):
        await disk.run(fail)
    assert await disk.run(lambda: "and on") == "and on"


async def test_while_something_hangs_nothing_else_is_begun_and_nobody_waits_for_it(standing: Standing) -> None:
    disk, begun = DiskThread(0.02, name="test"), list[int]()
    with pytest.raises(TimeoutError, match=r"did not answer in 0\.02 s"):
        await disk.run(standing)
    assert disk.hung_for > 0
    disk.seconds = 3600
    for _ in range(3):
        with pytest.raises(TimeoutError, match="has not answered for"):
            await disk.run(lambda: begun.append(1))
    standing.go.set()
    await idle(disk)
    assert begun == []
    assert await disk.run(lambda: "well again") == "well again"


async def test_what_is_done_when_nobody_waits_any_more_is_taken_back_once(standing: Standing) -> None:
    disk, taken_back = DiskThread(0.02, name="test"), list[str]()
    with pytest.raises(TimeoutError):
        await disk.run(standing, undo=taken_back.append)
    assert taken_back == []
    standing.go.set()
    await idle(disk)
    assert taken_back == ["done"]
    assert await disk.run(lambda: "kept", undo=taken_back.append) == "kept"
    assert taken_back == ["done"]


async def test_what_waited_behind_it_and_was_given_up_on_is_never_begun(standing: Standing) -> None:
    disk, begun = DiskThread(WAIT, name="test"), list[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(disk.run, standing)
        await anyio.to_thread.run_sync(standing.begun.wait, WAIT)
        disk.seconds = 0.02
        with pytest.raises(TimeoutError):
            await disk.run(lambda: begun.append(1))
        standing.go.set()
    assert await disk.run(lambda: "next") == "next"
    assert begun == []


async def test_who_is_cancelled_waits_for_what_was_begun_and_no_longer_than_he_may(standing: Standing) -> None:
    disk, taken_back = DiskThread(0.2, name="test"), list[str]()

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            await disk.run(standing, taken_back.append)

    with anyio.fail_after(WAIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.to_thread.run_sync(standing.begun.wait, WAIT)
            tasks.cancel_scope.cancel()
    standing.go.set()
    await idle(disk)
    assert taken_back == ["done"]


async def test_a_failure_that_comes_late_is_nobodys(standing: Standing) -> None:
    disk = DiskThread(0.02, name="test")

    def stand_and_fail() -> None:
        standing()
        raise OSError(5, "Input/output error")

    with pytest.raises(TimeoutError):
        await disk.run(stand_and_fail)
    standing.go.set()
    await idle(disk)
    assert await disk.run(lambda: "well again") == "well again"


async def test_a_thread_that_nobody_needs_any_more_ends() -> None:
    disk = DiskThread(WAIT, name="legato-test-that-ends")
    await disk.run(lambda: None)
    (thread,) = [one for one in threading.enumerate() if one.name == "legato-test-that-ends"]
    del disk
    await anyio.to_thread.run_sync(thread.join, WAIT)
    assert not thread.is_alive()
