"""An output that may be large: in memory while it is small, in a file on disk past that, so that memory stays flat.

The file has no name: whatever happens to the process, the disk gets its room back. ``add`` never touches the disk;
``write`` and ``read`` do, and belong into a thread.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import suppress
from typing import IO

import anyio
import anyio.to_thread

from legato.core.cut import Ends

LARGE = 1024 * 1024
"""Bytes of an output that lie in memory and in the turn's log; what is larger goes to disk, and beside the turn."""
_HEAD = 32 * 1024
_TAIL = 16 * 1024
"""Bytes of a large output that stay at hand for its cut: two thirds and one third, as ``core.cut`` gives them."""

_DISK_THREADS = 8


class SpillClosedError(Exception):
    """Nobody wants the output any more."""


class Spill:
    """``size`` is the bytes so far. Used by one task, and by one thread at a time."""

    def __init__(self) -> None:
        self.size = 0
        self._head = b""
        self._tail = b""  # of what is on disk
        self._buffer = bytearray()
        self._file: IO[bytes] | None = None
        self._ended = False
        self._closed = False
        self._lock = threading.Lock()  # a thread is at the file

    def __del__(self) -> None:
        self._drop()  # of a call that was left behind nobody else is there to do it

    @property
    def large(self) -> bool:
        return self.size > LARGE

    @property
    def full(self) -> bool:
        """``write`` is due."""
        return len(self._buffer) > LARGE

    def add(self, data: bytes) -> None:
        if self._ended:
            raise SpillClosedError
        self._buffer += data
        self.size += len(data)

    def write(self) -> None:
        """Put what is in memory on disk. Raises ``OSError`` where there is no room."""
        with self._lock:
            if self._closed:
                raise SpillClosedError
            if self._file is None:
                self._head = bytes(self._buffer[:_HEAD])
                self._file = tempfile.TemporaryFile(prefix="legato-")  # noqa: SIM115 - it lives as long as this does
            self._file.seek(0, 2)
            self._file.write(self._buffer)
            self._file.flush()
            self._tail = self._last()
            self._buffer.clear()

    def read(self, offset: int, limit: int) -> bytes:
        """At most ``limit`` bytes from ``offset`` on; empty past the end only. ``OSError`` where the disk fails."""
        with self._lock:
            if self._closed:
                raise SpillClosedError
            on_disk = self.size - len(self._buffer)
            if self._file is None or offset >= on_disk:
                return bytes(self._buffer[offset - on_disk : offset - on_disk + limit])
            self._file.seek(offset)
            return self._file.read(limit)

    def text(self) -> str:
        """The whole of one that is not large: all of it is in memory."""
        return self._buffer.decode()

    def ends(self) -> Ends:
        head = self._head or bytes(self._buffer[:_HEAD])
        return Ends(head.decode(errors="ignore"), self._last().decode(errors="ignore"), self.size)

    def end(self) -> None:
        """It takes nothing more, and stays as it is."""
        self._ended = True

    def close(self) -> None:
        """From any thread, at once: a thread that is at the file keeps it until it is done, or for ever."""
        self._ended = self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._lock.release()

    def _last(self) -> bytes:
        return (self._tail + self._buffer[-_TAIL:])[-_TAIL:]

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            # The last kilobytes that found no room are tried once more here, which raises; it is closed all the same.
            with suppress(OSError):
                file.close()
        self._buffer.clear()


class Disk:
    """The threads that are at spilled outputs: their own, so that tools that block cannot take them away."""

    def __init__(self) -> None:
        self._threads = anyio.CapacityLimiter(_DISK_THREADS)

    async def write(self, spill: Spill) -> None:
        """As ``Spill.write``. Ends with its thread, also where it is cancelled."""
        await anyio.to_thread.run_sync(spill.write, limiter=self._threads)

    async def read(self, spill: Spill, offset: int, limit: int) -> bytes:
        return await anyio.to_thread.run_sync(spill.read, offset, limit, limiter=self._threads, abandon_on_cancel=True)
