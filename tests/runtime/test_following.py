"""A reader of a turn that runs in no log of this process: what is stored is read to its end, whenever that comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
import pytest
from tests.stores.values import Make, at

from legato.core import events as e
from legato.core.records import LogSegment, Rest, TurnWrite
from legato.core.usage import UNKNOWN
from legato.runtime.reading.following import Followers, Reader
from legato.runtime.reading.live import LiveLog
from legato.stores.memory import MemoryStore
from legato.testing.store import FaultyStore

make = Make()
WAIT = 10.0


def framed(line: bytes) -> bytes:
    return line + b"\n"


def elsewhere(store: FaultyStore, turn_id: str, *, after: int = 0) -> tuple[Followers, Reader]:
    """Who follows, where nothing runs."""
    followers = Followers(store, lambda _: None)
    return followers, followers.reader(turn_id, after=after, each=True, encode=framed)


def last_words(turn_id: str, seq: int) -> TurnWrite:
    """A delta, and the end of the turn with its event, as a next owner or a spool brings them: in one write."""
    end = e.TurnEnd(seq=seq + 1, status="complete", stop_reason="end", usage=UNKNOWN)
    said = b"".join(e.encode(one) + b"\n" for one in (e.BlockDelta(seq=seq, index=0, text="the last"), end))
    segment = LogSegment(first_seq=seq, last_seq=seq + 1, lines=said)
    return msgspec.structs.replace(make.ending(turn_id), segment=segment)


@asynccontextmanager
async def reading(reader: Reader) -> AsyncIterator[list[bytes | None]]:
    """All pieces until the end, None included, once the block is left."""
    pieces: list[bytes | None] = []

    async def read() -> None:
        while (piece := await reader.read()) is not None:
            pieces.append(piece)
        pieces.append(None)

    with anyio.fail_after(WAIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            yield pieces


@pytest.mark.parametrize("had", [0, 3], ids=["who has nothing yet", "who has all that was stored"])
async def test_what_ends_a_turn_between_the_look_at_its_log_and_the_look_at_its_row_is_read(had: int) -> None:
    """The reader has found nothing new in the log, and stands before the row when the end comes with what was said
    before it: the row says "ended", and there is more to read all the same."""
    stored = MemoryStore()
    turn_id = (await make.begun(stored)).assistant.id
    if had:
        await stored.write([make.said(turn_id, 1, had)])
    store = FaultyStore(stored)
    _, reader = elsewhere(store, turn_id, after=had)
    store.hold("turn")
    last = last_words(turn_id, had + 1)
    async with reading(reader) as pieces:
        await store.reached("turn")
        assert store.calls == ["log", "turn"]
        await stored.write([last])
        store.back()
    assert last.segment is not None
    assert pieces == [last.segment.lines, None]


async def test_what_was_stored_before_the_first_look_is_read_without_a_look_at_the_row() -> None:
    stored = MemoryStore()
    turn_id = (await make.begun(stored)).assistant.id
    last = last_words(turn_id, 1)
    await stored.write([last])
    store = FaultyStore(stored)
    async with reading(elsewhere(store, turn_id)[1]) as pieces:
        pass
    assert last.segment is not None
    assert (pieces, store.calls) == ([last.segment.lines, None], ["log"])


async def test_a_turn_that_ended_and_has_nothing_more_ends_its_reader_after_one_more_look() -> None:
    stored = MemoryStore()
    turn_id = (await make.begun(stored)).assistant.id
    await stored.write([last_words(turn_id, 1)])
    store = FaultyStore(stored)
    async with reading(elsewhere(store, turn_id, after=2)[1]) as pieces:
        pass
    assert (pieces, store.calls) == ([None], ["log", "turn", "log"])


async def test_a_turn_that_is_deleted_between_the_two_looks_ends_its_reader() -> None:
    stored = MemoryStore()
    new = await make.begun(stored)
    store = FaultyStore(stored)
    store.hold("turn")
    async with reading(elsewhere(store, new.assistant.id)[1]) as pieces:
        await store.reached("turn")
        await stored.delete_chat(new.assistant.chat_id)
        store.back()
    assert pieces == [None]


async def test_a_reader_behind_a_log_whose_turn_was_deleted_is_told_so_and_does_not_ask_for_ever() -> None:
    """What it misses was in the store alone, and the log that it had found is closed."""
    stored = MemoryStore()
    new = await make.begun(stored)
    await stored.write([make.said(new.assistant.id, 1, 3)])
    store, log = FaultyStore(stored), LiveLog(first_seq=e.EPOCH_SIZE + 1, after=3)
    runs = {new.assistant.id: log}
    reader = Followers(store, runs.get).reader(new.assistant.id, after=0, each=True, encode=framed)
    store.hold("log")
    async with reading(reader) as pieces:
        await store.reached("log")
        log.close()
        runs.clear()
        await stored.delete_chat(new.assistant.chat_id)
        store.back()
    assert pieces == [None]


@pytest.mark.parametrize("look", ["log", "turn"])
async def test_a_store_that_goes_away_at_any_look_ends_the_stream_and_not_the_turn(look: str) -> None:
    """The reader comes back with its cursor, and has missed nothing."""
    stored = MemoryStore()
    turn_id = (await make.begun(stored)).assistant.id
    store = FaultyStore(stored)
    store.away(look)
    async with reading(elsewhere(store, turn_id)[1]) as pieces:
        pass
    assert pieces == [None]
    store.back()
    last = last_words(turn_id, 1)
    await stored.write([last])
    async with reading(elsewhere(store, turn_id)[1]) as pieces:
        pass
    assert last.segment is not None
    assert pieces == [last.segment.lines, None]


async def test_a_store_that_goes_away_at_the_last_look_does_not_make_an_end_of_what_was_not_read() -> None:
    """The row says that the turn has ended; what ended it cannot be read: the stream ends without it."""
    stored = MemoryStore()
    turn_id = (await make.begun(stored)).assistant.id
    store = FaultyStore(stored)
    store.hold("turn")
    async with reading(elsewhere(store, turn_id)[1]) as pieces:
        await store.reached("turn")
        await stored.write([last_words(turn_id, 1)])
        store.back()
        store.away("log")
    assert pieces == [None]
    assert store.calls == ["log", "turn", "log"]


async def test_who_waits_for_a_turn_of_another_process_is_let_go_of_when_the_server_stops() -> None:
    stored = MemoryStore()
    turn_id = (await make.begun(stored)).assistant.id
    store = FaultyStore(stored)
    followers, reader = elsewhere(store, turn_id)
    async with reading(reader) as pieces:
        await store.reached("turn")
        followers.close()
    assert pieces == [None]


async def test_a_turn_that_is_taken_up_here_wakes_its_own_readers_and_sends_no_other_to_the_store() -> None:
    stored = MemoryStore()
    mine, other = [(await make.begun(stored)).assistant.id for _ in range(2)]
    await stored.write([TurnWrite(turn_id=turn_id, epoch=0, rest=Rest(wait_until=at(99))) for turn_id in (mine, other)])
    store, here = FaultyStore(stored), dict[str, LiveLog]()
    followers = Followers(store, here.get)
    readers = [followers.reader(turn_id, after=0, each=True, encode=framed) for turn_id in (mine, other)]
    async with reading(readers[0]) as pieces, reading(readers[1]) as others:
        await store.reached("turn", times=2)
        await anyio.wait_all_tasks_blocked()
        looks = len(store.calls)
        here[mine] = log = LiveLog(first_seq=1)
        log.append(b"said here")
        followers.appeared()
        await anyio.wait_all_tasks_blocked()
        assert (pieces, others) == ([b"said here\n"], [])
        assert store.calls[looks:] == []
        followers.close()
        log.close()
