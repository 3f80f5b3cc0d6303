"""The live log: a reader is one integer, and what many read is encoded once."""

from __future__ import annotations

import anyio

from legato.core import events as e
from legato.runtime.reading.live import KEPT_LINES, LiveLog


def line(seq: int) -> bytes:
    return e.encode(e.BlockDelta(seq=seq, index=0, text=f"w{seq} "))


def filled(count: int) -> LiveLog:
    log = LiveLog(first_seq=1)
    for seq in range(1, count + 1):
        log.append(line(seq))
    return log


async def test_a_waiting_reader_is_woken_by_what_is_said() -> None:
    log = filled(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.changed)
        await anyio.wait_all_tasks_blocked()
        log.append(line(2))
        log.wake()
    assert log.read(1) == [line(2)]


async def test_a_cursor_beyond_the_end_reads_nothing_and_waits() -> None:
    log = filled(3)
    assert log.read(99) == []
    assert log.holds(99)


async def test_a_thousand_readers_share_one_encoding() -> None:
    encoded: list[bytes] = []

    def encode(line: bytes) -> bytes:
        encoded.append(line)
        return b"data: " + line + b"\n\n"

    log = filled(10)
    frames = {log.frames(0, encode) for _ in range(1000)}
    assert frames == {b"".join(b"data: " + line(seq) + b"\n\n" for seq in range(1, 11))}
    assert len(encoded) == 10


async def test_readers_at_different_cursors_get_what_comes_after_theirs() -> None:
    log = filled(5)
    assert log.frames(4, bytes) == line(5)
    assert log.frames(2, bytes) == line(3) + line(4) + line(5)
    log.append(line(6))
    assert log.frames(5, bytes) == line(6)


async def test_only_stored_lines_are_let_go_and_readers_behind_them_are_sent_to_the_store() -> None:
    log = filled(KEPT_LINES * 2)
    log.frames(0, bytes)
    log.trim(durable_seq=10)
    assert log.holds(0)
    log.trim(durable_seq=KEPT_LINES * 2)
    assert not log.holds(0)
    assert log.last_seq == KEPT_LINES * 2
    assert log.holds(log.first_seq - 1)
    assert log.read(log.first_seq - 1)[0] == line(log.first_seq)
    assert log.frames(log.last_seq - 1, bytes) == line(log.last_seq)


async def test_a_reader_that_is_cancelled_while_it_waits_leaves_nothing_behind() -> None:
    log = filled(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.changed)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert not log._waiting


async def test_nobody_is_given_what_is_hidden_until_it_is_shown() -> None:
    log = LiveLog(first_seq=1, hidden=True)
    log.append(line(1))
    heard: list[bool] = []
    log.listen(lambda: heard.append(log.has_after(0)))
    log.wake()
    assert (heard, log.has_after(0)) == ([], False)
    log.show()
    assert heard == [True]


async def test_a_log_that_is_closed_while_it_is_hidden_lets_its_readers_go_without_a_word() -> None:
    log = LiveLog(first_seq=1, hidden=True)
    log.append(line(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.changed)
        await anyio.wait_all_tasks_blocked()
        log.close()
    assert not log.has_after(0)
