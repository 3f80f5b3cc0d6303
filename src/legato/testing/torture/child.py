"""`legato serve` as a process of its own, and what can be done to it from outside."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

READY_SECONDS: Final = 30.0
"""Until a server has said where it listens; one takes half a second on an idle machine."""
END_SECONDS: Final = 30.0
"""Until a server has ended that was told to: its drain of 3 s, its grace, and a busy machine."""
TOOLS_MODULE: Final = "legato.testing.torture.tools"


class DidNotStart(Exception):
    """The server ended, or said nothing, before it listened."""


class Child:
    """One server at a time, always on the same port and file."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *, port: int) -> None:
        self._folder = folder
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self._port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    async def start(self) -> None:
        """Until it listens. Raises ``DidNotStart``."""
        command = (sys.executable, "-m", "legato", "serve", TOOLS_MODULE, "--port", str(self._port))
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        with (self._folder / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                "--db",
                "legato.db",
                "--drain",
                "3",
                cwd=self._folder,
                env={**kept, **self._environ},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(READY_SECONDS):
                first = await self._process.stdout.readline()
        except TimeoutError:
            first = b""
        if b"http" not in first:
            await self.kill()
            raise DidNotStart(f"the server did not start; {self._folder / 'server.log'} says why")

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def end(self) -> int:
        """Told to by SIGTERM. The exit code; -9 where it had to be killed."""
        self._signal(signal.SIGTERM)
        assert self._process is not None
        try:
            async with asyncio.timeout(END_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return -signal.SIGKILL

    async def freeze(self, seconds: float) -> None:
        self._signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._signal(signal.SIGCONT)

    async def fill_disk(self, seconds: float) -> None:
        """Every write of it to a file fails for so long. Linux only; elsewhere nothing happens."""
        if sys.platform != "linux":
            return
        _, most = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (0, most))
        try:
            await asyncio.sleep(seconds)
        finally:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (most, most))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


async def hold_lock(db: Path, seconds: float) -> None:
    """Nobody else can write to the file for so long."""
    held = await asyncio.to_thread(_locked, db)
    try:
        await asyncio.sleep(seconds)
    finally:
        held.close()


def _locked(db: Path) -> sqlite3.Connection:
    held = sqlite3.connect(db, isolation_level=None, timeout=10, check_same_thread=False)
    held.execute("BEGIN IMMEDIATE")
    return held


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
