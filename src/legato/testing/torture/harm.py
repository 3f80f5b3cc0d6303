"""What is done to a server and its file from outside, beside killing it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import sqlite3
import struct
import sys
import time
from pathlib import Path
from typing import Final

from legato.testing.process import ServerProcess

BETWEEN: Final = 0.12
"""Seconds that a slow file's lock is free: SQLite's waiters look again after at most 0.1 s (sqlite3.c, delays of the
default busy handler), so that one of them gets it."""
SPOOLED: Final = 8.0
"""Seconds until a server whose file is locked has spooled, if it has anything to say: its retry window, and more."""
_HEADER: Final = struct.Struct(">III")
"""Of a record in a spool: its length, and two checksums."""


async def freeze(server: ServerProcess, seconds: float) -> None:
    await server.stop()
    try:
        await asyncio.sleep(seconds)
    finally:
        server.go_on()


async def fill_disk(server: ServerProcess, seconds: float) -> None:
    """Every write of it to a file fails for so long. Linux only; elsewhere nothing happens."""
    if sys.platform != "linux":
        return
    _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, most))
    try:
        await asyncio.sleep(seconds)
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))


class Locked:
    """Nobody else can write to the file meanwhile."""

    def __init__(self, db: Path) -> None:
        self._db = db
        self._held: sqlite3.Connection | None = None

    async def __aenter__(self) -> None:
        self._held = await asyncio.to_thread(_lock, self._db)

    async def __aexit__(self, *_: object) -> None:
        assert self._held is not None
        self._held.close()


async def slow_down(db: Path, seconds: float, each: float) -> None:
    """Who writes to the file meanwhile waits, up to ``each`` seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        async with Locked(db):
            await asyncio.sleep(each)
        await asyncio.sleep(BETWEEN)


async def spooled(folder: Path) -> bool:
    """Once something lies in a spool there; False if nothing comes."""
    until = time.monotonic() + SPOOLED
    while time.monotonic() < until:
        if await asyncio.to_thread(_holds_something, folder):
            return True
        await asyncio.sleep(0.02)
    return False


def tear(folder: Path) -> int:
    """To the end of each spool whose process is gone, the beginning of a record that was on its way. How many."""
    torn = 0
    for path in folder.glob("*.spool"):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = path.read_bytes()
            at = data.index(b"\n") + 1
            length, _, _ = _HEADER.unpack_from(data, at)
            os.write(descriptor, data[at : at + _HEADER.size + length // 2])
            torn += 1
        except BlockingIOError:
            pass  # its process lives
        finally:
            os.close(descriptor)
    return torn


def _holds_something(folder: Path) -> bool:
    return any(file.stat().st_size > 2 * _HEADER.size for file in folder.glob("*.spool"))


def _lock(db: Path) -> sqlite3.Connection:
    held = sqlite3.connect(db, isolation_level=None, timeout=20, check_same_thread=False)
    held.execute("BEGIN IMMEDIATE")
    return held
