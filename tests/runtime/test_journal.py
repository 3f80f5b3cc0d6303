"""The journal: one task stores what all turns say; who waits may be cancelled, the write is not."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from tests.patience import until
from tests.runtime.faults import FaultyStore
from tests.stores.values import Make, lines

from legato.core import events as e
from legato.core.errors import StaleEpoch, StoreUnavailable
from legato.core.records import Intent, TurnEnding, TurnWrite
from legato.core.usage import UNKNOWN
from legato.observability import process
from legato.runtime.owning.lease import Lease
from legato.runtime.storing.journal import Journal, JournalSettings, PersistenceFailedError, Tail
from legato.runtime.storing.spool import Spool
from legato.runtime.storing.spool_file import files_in, kept_in
from legato.runtime.storing.tries import MOST_OPEN, PATIENCE
from legato.stores.memory import MemoryStore

NEVER = 3600.0
"""A flush interval that no test waits for: only who waits makes the journal store."""


@asynccontextmanager
async def running(
    store: FaultyStore, *, spool: Spool | None = None, lease: Lease | None = None, **settings: float
) -> AsyncIterator[Journal]:
    journal = Journal(store, JournalSettings(**{"flush_interval": NEVER, **settings}), spool=spool, lease=lease)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.run)
        try:
            yield journal
        finally:
            assert await journal.close(timeout=10)


make = Make()


async def begun(store: FaultyStore, journal: Journal) -> Tail:
    new = await make.begun(store)
    return journal.tail(new.assistant.id, epoch=0)


def say(tail: Tail, *numbers: int) -> bytes:
    said = [e.encode(e.BlockDelta(seq=seq, index=0, text=f"w{seq} ")) for seq in numbers]
    for seq, line in zip(numbers, said, strict=True):
        tail.add_line(line, seq)
    return b"".join(line + b"\n" for line in said)


async def test_who_waits_makes_the_journal_store_at_once() -> None:
    store = FaultyStore()
    async with running(store) as journal:
        tail = await begun(store, journal)
        said = say(tail, 1, 2, 3)
        with anyio.fail_after(10):
            await tail.stored()
        assert await lines(store, tail.turn_id) == said
        assert tail.durable_seq == 3


async def test_nobody_waits_and_the_interval_stores() -> None:
    store = FaultyStore()
    async with running(store, flush_interval=0.01) as journal:
        tail = await begun(store, journal)
        stored = asyncio.Event()
        tail.on_stored = lambda _: stored.set()
        said = say(tail, 1)
        with anyio.fail_after(10):
            await stored.wait()
        assert await lines(store, tail.turn_id) == said


async def test_a_cancelled_wait_does_not_cut_the_write() -> None:
    store = FaultyStore()
    store.gate.clear()
    async with running(store) as journal:
        tail = await begun(store, journal)
        said = say(tail, 1, 2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tail.stored)
            await store.tried.wait()
            tasks.cancel_scope.cancel()
        store.gate.set()
        with anyio.fail_after(10):
            await tail.stored()
        assert await lines(store, tail.turn_id) == said
        assert len(store.tries) == 1


async def test_what_is_said_while_a_write_hangs_is_stored_by_the_next_one() -> None:
    store = FaultyStore()
    store.gate.clear()
    async with running(store) as journal:
        tail = await begun(store, journal)
        first = say(tail, 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tail.stored)
            await store.tried.wait()
            second = say(tail, 2)
            store.gate.set()
        with anyio.fail_after(10):
            await tail.stored()
        assert await lines(store, tail.turn_id) == first + second


async def test_a_write_that_does_not_answer_in_time_is_repeated_as_it_was() -> None:
    store = FaultyStore()
    store.gate.clear()
    async with running(store, persist_timeout=0.02) as journal:
        tail = await begun(store, journal)
        said = say(tail, 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tail.stored)
            with anyio.fail_after(10):
                while len(store.tries) < 2:
                    store.tried.clear()
                    await store.tried.wait()
            store.gate.set()
        assert store.tries[0] == store.tries[1]
        assert await lines(store, tail.turn_id) == said


async def test_a_store_that_is_away_for_a_while_loses_nothing() -> None:
    store = FaultyStore()
    store.failures = 3
    async with running(store) as journal:
        tail = await begun(store, journal)
        said = say(tail, 1, 2)
        with anyio.fail_after(10):
            await tail.stored()
        assert len(store.tries) == 4
        assert await lines(store, tail.turn_id) == said


# A store that is slow


class OneByOne(FaultyStore):
    """Each write stands until its own number is let go of: the first is 0."""

    def __init__(self) -> None:
        super().__init__()
        self._standing: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)

    def let_go(self, number: int) -> None:
        self._standing[number].set()

    async def write(self, writes: Sequence[TurnWrite]) -> None:
        self.tries.append(tuple(writes))
        await self._standing[len(self.tries) - 1].wait()
        for write in writes:
            if write.turn_id in self.stale:
                raise StaleEpoch("somebody else owns it", turn_id=write.turn_id)
        await MemoryStore.write(self, writes)


def waited_for() -> Callable[[int], Callable[[], bool]]:
    """So often since now somebody had waited as long as a try may take."""
    before = process.value("journal_write_retries")
    return lambda times: lambda: process.value("journal_write_retries") - before >= times


async def test_a_store_that_takes_longer_than_one_try_may_is_slow_and_not_away(tmp_path: Path) -> None:
    """What hangs is not cut: the first try is the one that counts, whoever waits for it has waited twice over."""
    store, spool = OneByOne(), Spool(tmp_path)
    async with running(store, spool=spool, persist_timeout=0.01, retry_window=NEVER) as journal:
        tail = await begun(store, journal)
        for number in range(3):
            so_often, first = waited_for(), len(store.tries)
            said = say(tail, number + 1)
            journal.hurry()
            await until(so_often(PATIENCE))
            store.let_go(first)
            with anyio.fail_after(10):
                await tail.stored()
            assert (await lines(store, tail.turn_id)).endswith(said)
        assert tail.durable_seq == 3
    assert files_in(tmp_path) == []


async def test_a_store_that_hangs_is_asked_once_more_and_not_by_more_and_more_at_once() -> None:
    store = OneByOne()
    async with running(store, persist_timeout=0.01, retry_window=NEVER) as journal:
        tail = await begun(store, journal)
        so_often = waited_for()
        said = say(tail, 1)
        journal.hurry()
        await until(so_often(PATIENCE - 1))
        assert len(store.tries) == 1
        await until(so_often(2 * PATIENCE))
        assert len(store.tries) == MOST_OPEN
        assert store.tries[0] == store.tries[1]
        store.let_go(1)  # the later one gets past the one that hangs
        with anyio.fail_after(10):
            await tail.stored()
        assert await lines(store, tail.turn_id) == said


async def test_a_try_that_hung_and_then_names_a_turn_that_is_lost_by_now_costs_no_other_turn() -> None:
    store = OneByOne()
    async with running(store, persist_timeout=0.01, retry_window=NEVER) as journal:
        lost, good = await begun(store, journal), await begun(store, journal)
        say(lost, 1)
        said = say(good, 1)
        journal.hurry()
        await until(lambda: len(store.tries) == 1)
        lost.fail(PersistenceFailedError("another owner's", stale=True))
        await until(lambda: len(store.tries) == 2)
        assert [[write.turn_id for write in one] for one in store.tries] == [
            [lost.turn_id, good.turn_id],
            [good.turn_id],
        ]
        store.stale.add(lost.turn_id)
        store.let_go(0)
        await until(lambda: len(store.tries) == 3)
        store.let_go(2)
        with anyio.fail_after(10):
            await good.stored()
        assert await lines(store, good.turn_id) == said


class Unsure(FaultyStore):
    """Takes what it is given, and loses each answer."""

    async def write(self, writes: Sequence[TurnWrite]) -> None:
        await super().write(writes)
        raise StoreUnavailable("the connection was lost", unsure=True)


@pytest.mark.parametrize("fault", ["hangs", "loses its answers", "is full"])
async def test_past_the_window_an_end_is_said_otherwise_unless_the_store_may_have_it_as_it_was(
    fault: str, tmp_path: Path
) -> None:
    """What the store has done, or does yet, is what readers must have heard."""
    ending = TurnEnding(
        status="complete", stop_reason="end", usage=UNKNOWN, error=None, ended_at="2026-11-24T06:00:00Z"
    )
    error = e.encode(e.TurnEnd(seq=1, status="error", stop_reason="error", usage=UNKNOWN))
    store = {"hangs": OneByOne, "loses its answers": Unsure, "is full": FaultyStore}[fault]()
    store.failures = 1000 if fault == "is full" else 0
    async with running(store, spool=Spool(tmp_path), retry_window=0.05) as journal:
        tail = await begun(store, journal)
        tail.last_word = lambda _: (error, ending)
        said = say(tail, 1)
        tail.end(ending, ())
        with anyio.fail_after(10):
            await tail.stored()
        other = FaultyStore()
        await Spool(tmp_path).drain(other)
        (kept,) = other.tries[0]
        assert kept.segment is not None
        assert kept.segment.lines == (error + b"\n" if fault == "is full" else said)


async def test_a_write_that_breaks_costs_its_own_turns_and_the_journal_goes_on() -> None:
    """Were it gone, nothing would be stored any more, and every turn would wait for ever."""
    store = FaultyStore()
    before = process.value("journal_broken")
    async with running(store) as journal:
        bad, good = await begun(store, journal), await begun(store, journal)
        store.broken.add(bad.turn_id)
        say(bad, 1)
        with pytest.raises(PersistenceFailedError, match="the log says how"), anyio.fail_after(10):
            await bad.stored()
        said = say(good, 1)
        with anyio.fail_after(10):
            await good.stored()
        assert await lines(store, good.turn_id) == said
        assert journal.unsaved_bytes() == 0
    assert process.value("journal_broken") == before + 1


@pytest.mark.parametrize("fault", ["refused", "stale"])
async def test_one_turns_own_fault_fails_it_alone(fault: str) -> None:
    store = FaultyStore()
    async with running(store) as journal:
        good, bad = await begun(store, journal), await begun(store, journal)
        getattr(store, fault).add(bad.turn_id)
        failures: list[PersistenceFailedError] = []
        bad.on_failure = failures.append
        said = say(good, 1)
        say(bad, 1)
        with pytest.raises(PersistenceFailedError), anyio.fail_after(10):
            await bad.stored()
        with anyio.fail_after(10):
            await good.stored()
        assert await lines(store, good.turn_id) == said
        assert await lines(store, bad.turn_id) == b""
        assert len(failures) == 1


async def test_past_the_retry_window_the_turn_is_told_that_it_cannot_be_stored() -> None:
    store = FaultyStore()
    store.failures = 1000
    async with running(store, retry_window=0.05) as journal:
        tail = await begun(store, journal)
        say(tail, 1)
        with pytest.raises(PersistenceFailedError, match="the disk is full"), anyio.fail_after(10):
            await tail.stored()
        with pytest.raises(PersistenceFailedError):
            await tail.stored()


async def test_a_store_that_fails_at_once_is_asked_again_less_and_less_often() -> None:
    """In 0.4 s after 0.05, 0.15 and 0.35; without a pause it would be thousands of times."""
    store = FaultyStore()
    store.failures = 1_000_000
    async with running(store, retry_window=0.4) as journal:
        tail = await begun(store, journal)
        say(tail, 1)
        with pytest.raises(PersistenceFailedError), anyio.fail_after(10):
            await tail.stored()
        assert 2 <= len(store.tries) <= 5


async def test_an_intent_is_stored_with_every_event_before_it() -> None:
    store = FaultyStore()
    async with running(store) as journal:
        tail = await begun(store, journal)
        say(tail, 1, 2)
        tail.add_intent(
            Intent(
                call_id="call_1",
                round=1,
                index=0,
                tool_name="send",
                input={},
                input_sha256="ab",
                idempotency_key="key",
            )
        )
        with anyio.fail_after(10):
            await tail.stored()
        (write,) = store.tries[0]
        assert write.segment is not None
        assert (write.segment.last_seq, [intent.call_id for intent in write.intents]) == (2, ["call_1"])


async def test_the_journal_closes_only_when_everything_is_stored() -> None:
    store = FaultyStore()
    store.failures = 2
    async with running(store) as journal:
        tail = await begun(store, journal)
        said = say(tail, 1, 2)
        tail.end(
            TurnEnding(
                status="complete", stop_reason="end", usage=UNKNOWN, error=None, ended_at="2026-11-24T06:00:00.000Z"
            ),
            (),
        )
    assert await lines(store, tail.turn_id) == said
    row = await store.turn(tail.turn_id)
    assert row is not None
    assert row.status == "complete"


# The spool


async def test_past_the_retry_window_what_was_said_is_in_the_spool_and_counts_as_stored(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    store.failures = 1000
    async with running(store, spool=spool, retry_window=0.05) as journal:
        tail = await begun(store, journal)
        told: list[PersistenceFailedError] = []
        trimmed: list[int] = []
        tail.on_failure, tail.on_stored = told.append, trimmed.append
        said = say(tail, 1, 2)
        with anyio.fail_after(10):
            await tail.stored()
        assert (tail.failure, tail.durable_seq, journal.unsaved_bytes()) == (None, 2, 0)
        assert ["the disk is full" in failure.message for failure in told] == [True]
        assert trimmed == []  # readers find it in no store
        tries = len(store.tries)
        said += say(tail, 3)
        with anyio.fail_after(10):
            await tail.stored()
        assert len(store.tries) == tries  # behind what is in the spool there is no way but the spool
        assert len(told) == 1
        assert await lines(store, tail.turn_id) == b""
        store.failures = 0
        assert await journal.drained()
        assert await lines(store, tail.turn_id) == said


async def test_what_is_said_later_while_the_store_is_away_has_no_window_of_its_own(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    store.failures = 1000
    async with running(store, spool=spool, retry_window=0.05) as journal:
        first, second = await begun(store, journal), await begun(store, journal)
        say(first, 1)
        with anyio.fail_after(10):
            await first.stored()
        tries = len(store.tries)
        say(second, 1)
        with anyio.fail_after(10):
            await second.stored()
        assert (second.spooled, len(store.tries)) == (True, tries + 1)


async def test_once_the_store_took_something_there_is_a_whole_window_again(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    async with running(store, spool=spool, retry_window=0.5) as journal:
        tail = await begun(store, journal)
        for seq in range(1, 15):  # 14 times a tenth of the window and more
            store.failures = 1
            say(tail, seq)
            with anyio.fail_after(10):
                await tail.stored()
        assert not tail.spooled
    assert files_in(tmp_path) == []


async def test_with_little_left_of_the_lease_the_spool_does_not_wait_for_the_window(tmp_path: Path) -> None:
    now = 0.0
    lease = Lease(lambda: now)
    store, spool = FaultyStore(), Spool(tmp_path)
    store.failures = 1000
    async with running(store, spool=spool, lease=lease, retry_window=NEVER) as journal:
        tail = await begun(store, journal)
        now = 26.0
        assert not lease.over
        say(tail, 1)
        with anyio.fail_after(10):
            await tail.stored()
        assert tail.spooled


async def test_a_store_that_is_away_at_the_close_costs_nobody_a_word_and_tells_no_turn_to_end(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    store.failures = 1000
    journal = Journal(store, JournalSettings(flush_interval=NEVER), spool=spool)
    told: list[PersistenceFailedError] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.run)
        tail = await begun(store, journal)
        tail.on_failure = told.append
        said = say(tail, 1, 2)
        journal.hurry()
        await store.tried.wait()
        assert await journal.close(timeout=5)
    assert told == []
    assert await lines(store, tail.turn_id) == b""
    store.failures = 0
    assert await spool.drain(store)
    assert await lines(store, tail.turn_id) == said


async def test_a_hanging_store_does_not_hold_up_the_close(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    store.gate.clear()
    journal = Journal(store, JournalSettings(flush_interval=NEVER, persist_timeout=NEVER), spool=spool)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.run)
        tail = await begun(store, journal)
        said = say(tail, 1, 2)
        journal.hurry()
        await store.tried.wait()
        assert await journal.close(timeout=0.05)
    store.gate.set()
    assert await spool.drain(store)
    assert await lines(store, tail.turn_id) == said


async def test_what_a_store_refuses_for_itself_lies_in_a_file_that_stays(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    async with running(store, spool=spool) as journal:
        good, bad = await begun(store, journal), await begun(store, journal)
        store.refused.add(bad.turn_id)
        said = say(good, 1)
        say(bad, 1)
        with pytest.raises(PersistenceFailedError), anyio.fail_after(10):
            await bad.stored()
        with anyio.fail_after(10):
            await good.stored()
        assert await lines(store, good.turn_id) == said
    assert [kept.turn_ids for kept in kept_in(tmp_path)] == [(bad.turn_id,)]
    assert files_in(tmp_path) == []


async def test_of_a_turn_that_was_deleted_meanwhile_nothing_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody wanted it gone, and its owner, in another process, has not heard of that yet."""
    store, spool = FaultyStore(), Spool(tmp_path)
    refused = process.value("journal_rows_refused")
    async with running(store, spool=spool) as journal:
        tail = await begun(store, journal)
        row = await store.turn(tail.turn_id)
        assert row is not None
        await store.delete_chat(row.chat_id)
        told: list[PersistenceFailedError] = []
        tail.on_failure = told.append
        say(tail, 1)
        with pytest.raises(PersistenceFailedError), anyio.fail_after(10):
            await tail.stored()
    assert [failure.stale for failure in told] == [True]
    assert kept_in(tmp_path) == []
    assert process.value("journal_rows_refused") == refused
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_where_the_spool_fails_too_the_turn_is_told_why(tmp_path: Path) -> None:
    store = FaultyStore()
    store.failures = 1000
    folder = tmp_path / "file"
    folder.write_text("")
    async with running(store, spool=Spool(folder / "spool"), retry_window=0.05) as journal:
        tail = await begun(store, journal)
        say(tail, 1)
        with pytest.raises(PersistenceFailedError, match="file/spool"), anyio.fail_after(10):
            await tail.stored()
        assert journal.unsaved_bytes() == 0
        say(tail, 2)  # whoever still talks does not count
        assert journal.unsaved_bytes() == 0


# How much is not stored


async def test_over_the_bound_who_waits_goes_on_once_it_is_stored() -> None:
    store = FaultyStore()
    store.gate.clear()
    journal = Journal(store, JournalSettings(flush_interval=NEVER), unsaved_bytes=100)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.run)
        tail = await begun(store, journal)
        say(tail, 1, 2, 3)
        assert journal.backlog.bytes > journal.backlog.limit
        went_on = anyio.Event()

        async def wait() -> None:
            await journal.backlog
            went_on.set()

        tasks.start_soon(wait)
        with anyio.fail_after(10):
            await store.tried.wait()  # nobody else made it hurry
        assert not went_on.is_set()
        store.gate.set()
        with anyio.fail_after(10):
            await went_on.wait()
        assert journal.unsaved_bytes() == 0
        assert await journal.close(timeout=10)
