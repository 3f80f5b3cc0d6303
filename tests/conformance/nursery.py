"""Many lives of a server, one after the other, each a process of its own that costs a fork instead of a start.

``python -m tests.conformance.nursery`` reads a line of JSON for each life, forks it, and says on stdout first where it
listens, then how it ended. It has imported everything, and never starts a thread or a loop itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import msgspec
from tests.conformance.deadly import DeadlyStore
from tests.conformance.ledger import Ledger, tools_of
from tests.e2e.house import Visitor, configured, serving
from tests.patience import BOUND

from legato import ToolContext
from legato.ports import Store

ROOT = Path(__file__).parents[2]
Json = Any


class Life(Visitor):
    """A server that lives until it is killed; it may be dead before it listened."""

    def __init__(self, nursery: Nursery, client: httpx.AsyncClient, born: Json) -> None:
        super().__init__(client, born.get("port", 0))
        self._pid = born.get("pid")
        self._killed_by: int | None = born.get("killed_by")
        self._nursery = nursery

    async def died(self) -> int:
        """The number of the signal that killed it, once one has."""
        if self._killed_by is None:
            self._killed_by = (await self._nursery.said())["killed_by"]
        return self._killed_by

    async def kill(self) -> None:
        """Unless it is dead already."""
        if self._killed_by is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            await self.died()


class Nursery:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    async def said(self) -> Json:
        """Its next line."""
        assert self._process.stdout is not None
        with anyio.fail_after(BOUND):
            line = await anyio.to_thread.run_sync(self._process.stdout.readline, abandon_on_cancel=True)
        assert line, "the nursery is gone"
        return msgspec.json.decode(line)

    @asynccontextmanager
    async def life(self, folder: Path, environ: Mapping[str, str]) -> AsyncIterator[Life]:
        """One at a time; it is dead when the block is left."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode({"folder": str(folder), "environ": environ}) + b"\n")
        self._process.stdin.flush()
        born = await self.said()
        url = f"http://127.0.0.1:{born.get('port', 0)}"
        async with httpx.AsyncClient(base_url=url, timeout=BOUND, trust_env=False) as client:
            life = Life(self, client, born)
            try:
                with contextlib.suppress(httpx.TransportError):
                    await life.read_document()
                yield life
            finally:
                with anyio.CancelScope(shield=True):
                    await life.kill()


@contextmanager
def nursery(log: Path) -> Iterator[Nursery]:
    """Open until the block is left; what its lives log goes to the file."""
    command = [sys.executable, "-m", "tests.conformance.nursery"]
    with (
        log.open("ab") as out,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out) as process,
    ):
        try:
            yield Nursery(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


async def live(folder: Path, environ: Mapping[str, str]) -> None:
    stores: list[DeadlyStore] = []

    def around(store: Store) -> Store:
        stores.append(DeadlyStore(store))
        return stores[0]

    config = configured(folder, environ=environ, providers__openai__seal="object", storage__flush_interval=0.02)

    def reached(moment: str, ctx: ToolContext) -> None:
        stores[0].in_tool(moment, ctx)

    async with serving(config, tools=tools_of(Ledger(folder), reached), around=around) as house:
        say({"pid": os.getpid(), "port": house.port})
        await anyio.sleep_forever()


def say(line: Json) -> None:
    os.write(1, msgspec.json.encode(line) + b"\n")


def main() -> None:
    for line in sys.stdin:
        life = msgspec.json.decode(line)
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            anyio.run(live, Path(life["folder"]), life["environ"], backend_options={"use_uvloop": True})
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        say({"killed_by": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0})


if __name__ == "__main__":
    main()
