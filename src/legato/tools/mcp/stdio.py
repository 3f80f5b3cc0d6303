"""A server that is a process: lines of JSON over its standard input and output.

The SDK joins what comes until a line ends, whatever its length (``mcp`` 2.3), so a server that never ends one takes all
memory there is. Here a line has a bound; past it the request it would have answered is answered with an error.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import anyio
import anyio.lowlevel
import anyio.to_thread
import mcp_types as types
from anyio.abc import ByteReceiveStream, Process, TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage

from legato.core.text import clean
from legato.tools.mcp.failures import ConnectionDied
from legato.tools.mcp.lines import Lines, TooLong
from legato.tools.mcp.settings import McpServer

_log = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_LINES_A_TURN = 64
"""Lines that are taken before the loop is given its turn: a chunk has thousands of those that are no message."""
_LAST_WORDS = 2_000
"""Bytes of a process' standard error that are kept, to be told when it dies."""
_LAST_WORDS_WAIT = 0.2
"""Seconds."""
_GRACE = 1.0
"""Seconds to exit in after standard input was closed, and again after SIGTERM (MCP 2025-11-25, lifecycle, shutdown)."""
_POLL = 0.01
_ID = rb'"id"\s*:\s*(\d+)'
_ID_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID)
_ID_LAST = re.compile(_ID + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')

Read: TypeAlias = MemoryObjectReceiveStream[SessionMessage | Exception]
Write: TypeAlias = MemoryObjectSendStream[SessionMessage]


class Pipes:
    """A transport for the SDK's ``Client``: entered and left by one task. ``on_end`` is told why, once the process says
    nothing more."""

    def __init__(self, server: McpServer, *, on_end: Callable[[str], None]) -> None:
        self._server = server
        self._on_end = on_end
        self._lines = Lines(server.message_bytes)
        self._noise = 0
        self._first_noise = ""
        self._last_words = b""
        self._all_heard = anyio.Event()
        self._closing = False
        self.ended = False
        """Nothing that is sent from now on reaches it."""

    async def __aenter__(self) -> tuple[Read, Write]:
        self._process = await _started(self._server)
        # From here to the task group nothing is awaited: a cancel in between would leave the process to itself.
        self._incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, self._outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        self._ends = (read, write)
        self._tasks: TaskGroup = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._read)
        self._tasks.start_soon(self._write)
        self._tasks.start_soon(self._listen)
        return read, write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        # Each wait in it has a bound, and a cancelled caller must not leave the process behind.
        with anyio.CancelScope(shield=True):
            for end in (*self._ends, self._incoming, self._outgoing):
                end.close()
            await _stopped(self._process)
            await self._heard()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)
        with suppress(Exception):
            await self._process.aclose()

    def account(self) -> str:
        """What is known of a process that is of no use."""
        code = self._process.returncode
        told = "its output has ended" if code is None else f"it ended with exit code {code}"
        words = clean(self._last_words.decode(errors="replace")).strip().splitlines()
        if words:
            told = f"{told}; its last words: {' '.join(words[-1].split())[:300]}"
        if self._noise:
            told = f"{told}; {self._noise} of its lines were not MCP, the first: {self._first_noise!r}"
        return told

    async def exited(self) -> None:
        """Once it has ended, or clearly does not: ``account`` has its exit code then."""
        await _exited(self._process, _GRACE)
        await self._heard()

    async def _heard(self) -> None:
        """Its last words come by another pipe, which a child of its may hold open."""
        with anyio.move_on_after(_LAST_WORDS_WAIT):
            await self._all_heard.wait()

    @property
    def noise(self) -> str | None:
        """The first line that was not MCP."""
        return self._first_noise or None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            async with self._incoming:
                while data := await _received(self._process.stdout):
                    for number, line in enumerate(self._lines.feed(data), start=1):
                        await self._take(line)
                        if number % _LINES_A_TURN == 0:
                            await anyio.lowlevel.checkpoint()
                self.ended = True
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._drain()
        if not self._closing:
            await self.exited()
            self._on_end(self.account())

    async def _drain(self) -> None:
        """A process that still writes cannot end before it was read."""
        assert self._process.stdout is not None
        while await _received(self._process.stdout):
            pass

    async def _take(self, line: bytes | TooLong) -> None:
        if isinstance(line, TooLong):
            await self._answer(_id_in(line.head, line.tail), self._too_long(line))
            return
        if not line.strip():
            return
        try:
            message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            self._noise += 1
            self._first_noise = self._first_noise or clean(line[:120].decode(errors="replace"))
            await self._answer(_id_in(line[:256], line[-128:]), "its answer is not JSON-RPC")
            return
        await self._incoming.send(SessionMessage(message))

    def _too_long(self, line: TooLong) -> str:
        size = f"{line.size}" if line.whole else f"more than {line.size}"
        return f"its message has {size} bytes, limit is {self._server.message_bytes}"

    async def _answer(self, request_id: int | None, why: str) -> None:
        """In place of what cannot be read. Without an id nobody waits for it, or will be told by a timeout."""
        _log.debug("mcp server %s: %s", self._server.name, why)
        if request_id is not None:
            error = types.ErrorData(code=types.PARSE_ERROR, message=why)
            await self._incoming.send(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=request_id, error=error)))

    async def _write(self) -> None:
        assert self._process.stdin is not None
        try:
            async with self._outgoing:
                async for said in self._outgoing:
                    line = said.message.model_dump_json(by_alias=True, exclude_unset=True)
                    # Every call that may keep it from reading has timed out by then.
                    with anyio.fail_after(self._server.timeout):
                        await self._process.stdin.send(line.encode() + b"\n")
        except TimeoutError:
            self._give_up()
            self._on_end(f"it has read nothing for {self._server.timeout:g} s")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            self._give_up()

    def _give_up(self) -> None:
        """Who waits for an answer hears that none will come."""
        self.ended = True
        self._incoming.close()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while data := await _received(self._process.stderr):
                self._last_words = (self._last_words + data)[-_LAST_WORDS:]
                _log.debug("mcp server %s says: %s", self._server.name, data.decode(errors="replace").rstrip())
        self._all_heard.set()


async def _started(server: McpServer) -> Process:
    env = get_default_environment() | server.env
    command = server.command or ""
    found = await anyio.to_thread.run_sync(_found, server, env.get("PATH"))
    try:
        return await anyio.open_process([found, *server.args], env=env, cwd=server.cwd, start_new_session=True)
    except (OSError, ValueError) as error:
        raise ConnectionDied(f"{command!r} could not be started: {error}") from error


def _found(server: McpServer, path: str | None) -> str:
    if server.cwd is not None and not Path(server.cwd).is_dir():
        raise ConnectionDied(f"there is no folder {server.cwd!r} to start it in: correct cwd")
    found = shutil.which(server.command or "", path=path)
    if found is None:
        raise ConnectionDied(f"there is no command {server.command!r}: install it, or give its whole path")
    return found


async def _stopped(process: Process) -> None:
    """As the protocol says: its input is closed, then it is asked, then it is killed, with all it has started."""
    assert process.stdin is not None
    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        with anyio.move_on_after(_GRACE):
            await process.stdin.aclose()
    for sign in (signal.SIGTERM, None):
        if await _exited(process, _GRACE):
            return
        _signal(process, sign)
    if not await _exited(process, _GRACE):
        _log.warning("process %d of an mcp server is alive after it was killed; it is left behind", process.pid)


def _signal(process: Process, sign: signal.Signals | None) -> None:
    """``None`` kills. The group of the process is its own, so what it has started gets it too."""
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL if sign is None else sign)


async def _exited(process: Process, seconds: float) -> bool:
    """Not ``process.wait()``: that waits for its pipes too, which a child of its may hold."""
    with anyio.move_on_after(seconds):
        while process.returncode is None:  # noqa: ASYNC110 - nothing else tells of the process without its pipes
            await anyio.sleep(_POLL)
    return process.returncode is not None


async def _received(stream: ByteReceiveStream) -> bytes:
    """Empty at its end."""
    try:
        return await stream.receive(_CHUNK)
    except (anyio.EndOfStream, ConnectionError):
        return b""


def _id_in(head: bytes, tail: bytes) -> int | None:
    """The id of an answer whose middle is not at hand: ours are whole numbers, and stand first or last."""
    found = _ID_FIRST.match(head) or _ID_LAST.search(tail)
    return None if found is None else int(found[1])
