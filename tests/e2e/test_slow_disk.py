"""While statements stand, nothing but what must be stored waits for them (hazard 16, P6).

The disk is SQLite's own threads, each statement of which asks the test whether it may go on. So "before the statement
has ended" is an order of events, and no question of time; how long it takes is measured (bench/slow_store.py).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.e2e.house import MODELS, House, Json, Stage, playing
from tests.e2e.joined import reading
from tests.patience import until

from legato.core import events as e
from legato.core.fold import fold
from legato.observability import process
from legato.runtime.storing.journal import JournalSettings
from legato.runtime.storing.spool_file import files_in
from legato.testing.upstream import Gate, Say, Script

pytestmark = pytest.mark.anyio


class Disk:
    """Asked by every statement of the store, in the thread that makes it."""

    def __init__(self) -> None:
        self._asked = threading.Condition()
        self._held = False
        self._each = 0.0
        self._permits = 0
        self.standing = 0
        """Statements that stand now."""
        self.ended = 0
        """That have stood and gone on."""

    def hold(self) -> None:
        """From now on each statement stands until it is let go."""
        with self._asked:
            self._held = True

    def let_one_go(self) -> None:
        with self._asked:
            self._permits += 1
            self._asked.notify_all()

    def let_all_go(self) -> None:
        with self._asked:
            self._held, self._each = False, 0.0
            self._asked.notify_all()

    def slow(self, each: float) -> None:
        """Each statement takes so many seconds."""
        self._each = each

    def ask(self) -> None:
        time.sleep(self._each)
        with self._asked:
            if not self._held:
                return
            self.standing += 1
            self._asked.wait_for(lambda: self._permits or not self._held)
            self._permits -= bool(self._permits)
            self.standing -= 1
            self.ended += 1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Of every store that is opened in this process."""
    disk = Disk()

    class Asking(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            disk.ask()
            return super().execute(sql, *values)  # type: ignore[arg-type]

        def executemany(self, sql: str, *rows: object) -> sqlite3.Cursor:
            disk.ask()
            return super().executemany(sql, *rows)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *asked, **more: connect(*asked, **{"factory": Asking, **more}))
    yield disk
    disk.let_all_go()


@asynccontextmanager
async def on(disk: Disk, folder: Path, **flags: Json) -> AsyncIterator[Stage]:
    """A server on that disk, which holds nobody up once the block is left."""
    async with playing(folder, **flags) as stage:
        try:
            yield stage
        finally:
            disk.let_all_go()


def text_of(read: list[e.Event]) -> str:
    return "".join(event.text for event in read if isinstance(event, e.BlockDelta))


def hasten(house: House, settings: JournalSettings) -> None:
    """From now on: a turn is posted within the usual deadline."""
    house.service._journal._settings = settings


PIECES = [f" piece-{number}" for number in range(12)]


@pytest.mark.parametrize("statements", ["every one stands", "one stands all the time"])
async def test_each_delta_is_seen_before_the_statement_that_stood_when_it_was_said_has_ended(
    statements: str, disk: Disk, tmp_path: Path
) -> None:
    """The upstream says the next one only then; what waited for a statement would wait for ever."""
    async with on(disk, tmp_path) as (house, upstream):
        upstream.enqueue(Script([step for piece in PIECES for step in (Gate(piece), Say(piece))]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached(PIECES[0])
        async with reading(house, turn_id) as read:
            disk.hold()
            for number, piece in enumerate(PIECES):
                await until(lambda: disk.standing)
                ended = disk.ended
                upstream.release(piece)
                await until(lambda piece=piece: piece.strip() in text_of(read))  # type: ignore[misc]
                assert disk.ended == ended
                if statements == "every one stands":
                    disk.let_one_go()
                    await until(lambda number=number: disk.ended > number)  # type: ignore[misc]
            disk.let_all_go()
        assert fold(read).status == "complete"
        assert await house.followed(turn_id, each=True) == read


async def test_a_cancel_is_acted_upon_while_every_statement_stands(disk: Disk, tmp_path: Path) -> None:
    """202 and the vendor hung up on, its reader told: and no statement has ended."""
    async with on(disk, tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Talking"), Gate("never")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("never")
        async with reading(house, turn_id) as read:
            disk.hold()
            await until(lambda: disk.standing)
            cancelled = await house.cancel(turn_id)
            await upstream.hung_up(1)
            await until(lambda: any(isinstance(event, e.RoundStop) for event in read))
            assert (cancelled["stored"], disk.ended) == (False, 0)
            disk.let_all_go()
        assert fold(read).status == "cancelled"


async def test_while_statements_stand_what_is_unsaved_stays_by_its_bound_and_over_it_new_turns_are_503(
    disk: Disk, tmp_path: Path
) -> None:
    """Three turns whose vendors would say 12 MB. Over the bound each has what one read of its socket brought."""
    bound, turns, piece, one_read = 200_000, 3, "p" * 4_000, 400_000
    async with on(disk, tmp_path, limits__unsaved_bytes=bound) as (house, upstream):
        journal, most = house.service._journal, 0

        def looked() -> bool:
            nonlocal most
            most = max(most, journal.unsaved_bytes())
            return process.value("provider_slowed") >= slowed + turns

        turn_ids = []
        for number in range(turns):
            upstream.enqueue(Script([Say("Now:"), Gate(f"go {number}"), Say("", pieces=[piece] * 1_000)]))
            turn_ids.append(await house.ask("Talk", model=MODELS["anthropic"]))
            await upstream.reached(f"go {number}")
        slowed = process.value("provider_slowed")
        disk.hold()
        await until(lambda: disk.standing)
        for number in range(turns):
            upstream.release(f"go {number}")
        await until(looked)
        refused = await house.client.post("/v1/turns", json={"input": "And I?", "model": MODELS["anthropic"]})
        problem = refused.json()
        assert (refused.status_code, problem["code"], problem["limit"]) == (503, "store_behind", bound)
        assert problem["actual"] > bound
        assert (str(bound) in problem["detail"], int(refused.headers["retry-after"]) >= 1) == (True, True)
        assert looked()
        assert bound < most < bound + turns * one_read
        assert disk.ended == 0
        disk.let_all_go()
        for turn_id in turn_ids:
            assert text_of(await house.followed(turn_id, each=True)) == "Now:" + piece * 1_000
        assert journal.unsaved_bytes() == 0


@pytest.mark.slow
async def test_a_disk_that_is_slow_for_longer_than_a_write_is_tried_ends_no_turn(disk: Disk, tmp_path: Path) -> None:
    """Ten times as fast as in the hazard, and so is the patience: no write ends within its deadline, and the window is
    over many times."""
    async with on(disk, tmp_path) as (house, upstream):
        upstream.enqueue(Script([step for piece in PIECES for step in (Gate(piece), Say(piece))]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached(PIECES[0])
        hasten(house, JournalSettings(flush_interval=0.025, persist_timeout=0.2, retry_window=2.0))
        async with reading(house, turn_id) as read:
            disk.slow(0.05)
            late = process.value("journal_write_retries")
            for piece in PIECES:
                upstream.release(piece)
                before = process.value("journal_write_retries")
                await until(lambda before=before: process.value("journal_write_retries") > before)  # type: ignore[misc]
            disk.let_all_go()
        assert process.value("journal_write_retries") - late >= len(PIECES)
        assert (fold(read).status, text_of(read)) == ("complete", "".join(PIECES))
        assert files_in(tmp_path / "legato.db.spool") == []
