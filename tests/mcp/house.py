"""Real servers as processes, a host that speaks to them, and calls as the toolbox makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
from tests import patience

from legato.core.blocks import CallError, Json
from legato.core.inputs import ToolEnd, ToolFinished
from legato.core.records import Answer, Resumed
from legato.runtime.calls.toolbox import CancelFlag, StartedCall, Toolbox
from legato.tools.mcp.host import McpHost
from legato.tools.mcp.settings import McpServer, McpStatus
from legato.tools.registry import ToolRegistry

PATIENCE = 30.0
"""Seconds after which a test gives up waiting; a process with the SDK takes two to start on a busy machine."""
SERVERS = Path(__file__).parent / "servers"

Ask = Callable[[str, dict[str, Json] | None], Awaitable[Answer]]


def raw(mode: str, folder: Path, **options: Any) -> McpServer:
    """A process without the SDK, called ``raw``."""
    named = {"name": "raw", "env": {"MCP_TEST_FOLDER": str(folder)}, **options}
    return McpServer(command=sys.executable, args=("-u", str(SERVERS / "raw.py"), mode), **named)


def made_with_sdk(folder: Path, **options: Any) -> McpServer:
    """A process made with the official SDK, called ``sdk``."""
    named = {"name": "sdk", "env": {"MCP_TEST_FOLDER": str(folder)}, **options}
    return McpServer(command=sys.executable, args=(str(SERVERS / "made_with_sdk.py"), "stdio"), **named)


class Over:
    """The same server over HTTP, in a process of its own."""

    def __init__(self, folder: Path, *, old: bool) -> None:
        self._folder = folder
        self._old = old
        self.port = 0

    def start(self) -> None:
        """On the port it had before, if it had one."""
        told = self._folder / "port"
        told.unlink(missing_ok=True)
        command = [
            sys.executable,
            str(SERVERS / "made_with_sdk.py"),
            "http",
            str(told),
            *(["--old"] if self._old else []),
        ]
        environ = {**os.environ, "MCP_TEST_FOLDER": str(self._folder), "MCP_TEST_PORT": str(self.port)}
        self._process = subprocess.Popen(command, env=environ)

    async def ready(self) -> None:
        await until((self._folder / "port").exists)
        self.port = int((self._folder / "port").read_text())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def server(self, **options: Any) -> McpServer:
        return McpServer(**{"name": "sdk", "url": f"http://127.0.0.1:{self.port}/mcp", **options})


@asynccontextmanager
async def over_http(folder: Path, *, old: bool = False) -> AsyncIterator[Over]:
    over = Over(folder, old=old)
    over.start()
    try:
        await over.ready()
        yield over
    finally:
        over.kill()


class House:
    """A host with its servers, and a toolbox over what they offer."""

    def __init__(self, host: McpHost, registry: ToolRegistry) -> None:
        self.host = host
        self.registry = registry
        self.toolbox = Toolbox(registry)
        self.shown: list[str] = []

    def status(self, name: str) -> McpStatus:
        return next(one for one in self.host.status() if one.name == name)

    async def tried(self) -> None:
        """Each server was listed, or could not be opened."""
        await until(lambda: all(one.state != "starting" for one in self.host.status()))

    async def run(
        self,
        name: str,
        /,
        *,
        turn_id: str = "turn",
        flag: CancelFlag | None = None,
        ask: Ask | None = None,
        resumed: Resumed | None = None,
        **input: Json,
    ) -> ToolFinished:
        end = await self.end(name, input, turn_id=turn_id, flag=flag, ask=ask, resumed=resumed)
        assert isinstance(end, ToolFinished), end
        return end

    async def end(
        self,
        name: str,
        input: dict[str, Json],
        *,
        turn_id: str = "turn",
        flag: CancelFlag | None = None,
        ask: Ask | None = None,
        resumed: Resumed | None = None,
    ) -> ToolEnd:
        call = StartedCall(
            turn_id=turn_id,
            chat_id="chat",
            call_id="call",
            tool_name=name,
            input=input,
            principal="local",
            idempotency_key="the key",
            epoch=0,
            state={},
            resumed=resumed,
            ask=ask,
        )
        with anyio.fail_after(PATIENCE):
            return await self.toolbox.run(call, emit=self.shown.append, cancel=flag or CancelFlag())

    async def output(self, name: str, /, **input: Json) -> Json:
        """Of a call that ends well."""
        end = await self.run(name, **input)
        assert end.outcome == "ok", end.error
        return end.output

    async def error(self, name: str, /, **input: Json) -> str:
        """Of a call that does not."""
        end = await self.run(name, **input)
        assert isinstance(end.error, CallError), end
        assert end.outcome == "error"
        return end.error.message

    def reading(self, name: str, output: Json) -> str:
        """What the model reads."""
        return self.registry.formatters.read(
            call_id="call", tool_name=name, outcome="ok", output=output, error=None, max_bytes=10_000
        ).text


@asynccontextmanager
async def hosting(*servers: McpServer) -> AsyncIterator[House]:
    """Until each server was tried."""
    registry = ToolRegistry()
    async with McpHost(servers, formatters=registry.formatters) as host:
        registry.attach(host)
        house = House(host, registry)
        await house.tried()
        try:
            yield house
        finally:
            house.toolbox.close()


async def until(true: Callable[[], bool]) -> None:
    """Looks now and then: what is waited for happens in another process."""
    await patience.until(true, every=0.01, bound=PATIENCE)


def heard(folder: Path, method: str) -> list[Json]:
    """Messages of that method that the raw server got."""
    lines = (folder / "heard").read_text().splitlines()
    return [one for one in map(json.loads, lines) if one.get("method") == method]


def pids(folder: Path) -> list[int]:
    """Of each raw server that was started there."""
    return [int(path.suffix[1:]) for path in folder.glob("pid.*")]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def memory_grows_less_than(mebibytes: int) -> Iterator[None]:
    before = _peak()
    yield
    assert _peak() - before < mebibytes * 1024 * 1024


def _peak() -> int:
    """Bytes that this process ever had in memory at once."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
