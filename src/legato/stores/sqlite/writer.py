"""The one thread that writes.

Whatever is queued when the thread looks goes into one transaction, each job in a savepoint of its own: a job that is
refused fails alone, a commit that fails fails them all. A job that was queued is done, whether or not its caller still
waits. Between groups, and never longer than one step at a time, the thread does its chore: packing logs of ended turns.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

from legato.core.errors import StoreUnavailable
from legato.observability import count, warn_once
from legato.stores.sqlite.failures import translated, unavailable
from legato.stores.sqlite.jobs import Job, Signal, T, Work, deliver

log = logging.getLogger(__name__)

# Jobs that may wait. Callers wait for their own job, so only those who gave up on a stuck disk pile up; past the bound
# a new job is refused at once.
MAX_QUEUED = 10_000
# Jobs in one transaction: the first of them waits for the last. 256 flushes of a busy server are some 10 ms of work.
MAX_GROUP = 256
# Seconds. What is queued at the close is still written, unless the disk takes longer than this: nobody waits for it any
# more, and a stop has 5 s for everything. The thread is not cut, and does not hold the process' exit.
CLOSE_TIMEOUT = 1.0
# Milliseconds, for the last checkpoint: another process that reads meanwhile will make its own.
CHECKPOINT_PATIENCE = 100

Chore: TypeAlias = Callable[[sqlite3.Connection], Iterator[None]]
"""Work that is done when there is time: a step at a time, outside any transaction between steps. It ends when there is
nothing left to do, and is begun again after the next group."""


class Writer:
    def __init__(self, connect: Callable[[], sqlite3.Connection], chore: Chore) -> None:
        self._connect = connect
        self._chore = chore
        self._queue: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._opened = Signal()
        self._ended = Signal()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="legato-sqlite-writer", daemon=True)

    async def open(self) -> None:
        """Start the thread, which opens the database. Raises what ``connect`` raises; then nothing is left behind."""
        self._thread.start()
        try:
            await self._opened.future
        except BaseException:
            self._stop()
            raise

    async def run(self, work: Work[T]) -> T:
        """Do the work in the next group; return once it is committed."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._queue.qsize() >= MAX_QUEUED:
            raise StoreUnavailable(f"{self._queue.qsize()} writes wait for the disk, limit is {MAX_QUEUED}")
        job = Job(work)
        self._queue.put(job)
        return await job.future

    async def close(self) -> None:
        """Write what is queued, then end the thread. May be called again."""
        self._stop()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.shield(self._ended.future)
        except TimeoutError:
            log.warning("the database did not close in %s s; %d writes wait", CLOSE_TIMEOUT, self._queue.qsize())
        else:
            self._thread.join()

    def _stop(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def _run(self) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - the caller of open() is told, whatever it was
            self._opened.fail(error)
            deliver([self._opened, self._ended])
            return
        try:
            deliver([self._opened])
            self._serve(connection)
        finally:
            connection.close()
            deliver([self._ended])

    def _serve(self, connection: sqlite3.Connection) -> None:
        chore: Iterator[None] | None = self._chore(connection)
        stopping = False
        while not stopping:
            jobs, stopping = self._take(wait=chore is None)
            if jobs:
                self._commit(connection, jobs)
                jobs = []  # while the thread waits, it would hold what was written last
                chore = chore or self._chore(connection)
            if chore is not None and not stopping:
                chore = _step(connection, chore)
        _checkpoint(connection)

    def _take(self, *, wait: bool) -> tuple[list[Job[object]], bool]:
        """What is queued, and whether it is the last."""
        jobs: list[Job[object]] = []
        try:
            while len(jobs) < MAX_GROUP:
                job = self._queue.get(block=wait and not jobs)
                if job is None:
                    return jobs, True
                jobs.append(job)
        except queue.Empty:
            pass
        return jobs, False

    @staticmethod
    def _commit(connection: sqlite3.Connection, jobs: list[Job[object]]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                _do(connection, job)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            count("store_commits", store="sqlite", outcome="failed")
            for job in jobs:
                job.fail(unavailable(error))
        else:
            count("store_commits", store="sqlite", outcome="ok")
        deliver(jobs)


def _do(connection: sqlite3.Connection, job: Job[object]) -> None:
    """Raises ``sqlite3.Error`` only where it took the whole group with it."""
    connection.execute("SAVEPOINT job")
    try:
        job.do(connection)
    except Exception as error:  # the group is the work of many: one job's failure is told to its own caller
        # A full disk and some I/O errors end the transaction on their own (sqlite.org/lang_transaction.html, 2026-11).
        if isinstance(error, sqlite3.Error) and not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO job")
        job.fail(translated(error))
    connection.execute("RELEASE job")


def _step(connection: sqlite3.Connection, chore: Iterator[None]) -> Iterator[None] | None:
    """The chore, or None when it has nothing more to do."""
    try:
        next(chore)
    except StopIteration:
        return None
    except Exception as error:  # noqa: BLE001 - writing goes on whatever a chore stumbles over
        _roll_back(connection)
        warn_once(log, f"store_chore:{type(error).__name__}", f"ended turns stay unpacked for now: {error}")
        return None
    return chore


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Leave one file behind, if nobody else has it open."""
    try:
        connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_PATIENCE}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        log.warning("the write-ahead log stays beside the database: %s", error)
