"""The few threads that read, each with a connection of its own. However many callers there are, they queue; none of
them holds a connection between two calls."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable

from legato.core.errors import StoreUnavailable
from legato.stores.sqlite.failures import translated
from legato.stores.sqlite.jobs import Job, Signal, T, Work, deliver

log = logging.getLogger(__name__)

# Seconds. What is queued at the close is still answered, unless the disk takes longer than this (writer.CLOSE_TIMEOUT).
CLOSE_TIMEOUT = 0.5


class Readers:
    def __init__(self, connect: Callable[[], sqlite3.Connection], size: int) -> None:
        self._connect = connect
        # Unbounded: each job in it has a caller that waits, and those who gave up are skipped when their turn comes.
        self._queue: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._closed = False
        self._ended = [Signal() for _ in range(size)]
        self._threads = [
            threading.Thread(target=self._run, args=(ended,), name=f"legato-sqlite-reader-{number}", daemon=True)
            for number, ended in enumerate(self._ended, start=1)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    async def run(self, work: Work[T]) -> T:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        job = Job(work)
        self._queue.put(job)
        return await job.future

    async def close(self) -> None:
        """Answer what is queued, then end the threads. May be called again."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                for ended in self._ended:
                    await asyncio.shield(ended.future)
        except TimeoutError:
            log.warning("the database's readers did not end in %s s; %d reads wait", CLOSE_TIMEOUT, self._queue.qsize())
        else:
            for thread in self._threads:
                thread.join()

    def _run(self, ended: Signal) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while (job := self._queue.get()) is not None:
                # Set by the loop's thread; seen late, it costs one read that nobody hears of.
                if not job.future.cancelled():
                    connection = self._do(connection, job)
                del job  # while the thread waits, it would hold what was read last
        finally:
            if connection is not None:
                connection.close()
            deliver([ended])

    def _do(self, connection: sqlite3.Connection | None, job: Job[object]) -> sqlite3.Connection | None:
        """Opened at its first use, and anew after a failure: a file that was away for a while comes back."""
        try:
            connection = connection or self._connect()
            job.do(connection)
        except Exception as error:  # noqa: BLE001 - one caller's failure is its own; the thread serves the next
            job.fail(translated(error))
            if connection is not None:
                connection.close()
                connection = None
        deliver([job])
        return connection
