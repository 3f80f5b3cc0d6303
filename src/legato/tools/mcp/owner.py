"""Who owns the connection to one server: opens it, follows it, closes it, opens it again, all in one task.

Calls come from other tasks, and enter nothing that this one must leave: a scope that is left by another task than
entered it takes its host along (seen in several hosts). What a server does wrong is a sentence in its status and an
error of its own calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from legato.core.blocks import Json
from legato.core.context import ToolContext
from legato.core.errors import ToolError
from legato.observability import count, gauge, warn_once
from legato.tools.mcp.catalogue import Catalogue
from legato.tools.mcp.failures import NotTaken, reason_of
from legato.tools.mcp.mcp_tool import McpTool
from legato.tools.mcp.settings import Listed, McpServer, McpStatus, State

_log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between two tries to open a connection, doubled each time."""
LIVED_WELL = 60.0
"""Seconds after which a connection that died is opened again without a longer pause than the first."""


class Session(Protocol):
    """One connection, from its opening to its end."""

    protocol: str | None

    async def run(self, *, ready: Callable[[], None], listed: Callable[[Sequence[Listed]], None]) -> None:
        """Open, list, say ``ready``, follow. Comes back once told to ``stop``; raises when the connection is lost."""

    def stop(self) -> None: ...

    async def call(self, name: str, arguments: dict[str, Json], ctx: ToolContext, *, effect: str) -> Json:
        """Raises ``ToolError``, ``InputNeeded``, ``NotTaken``."""


Open = Callable[[McpServer], Session]


class Owner:
    """Implements ``mcp_tool.Caller``. ``run`` is its one task; ``loaded`` gives what opens a session, and may raise
    ``ConnectionDied`` for good: where the SDK is not installed."""

    def __init__(self, server: McpServer, *, on_list: Callable[[Sequence[McpTool]], None]) -> None:
        self.server = server
        self.catalogue = Catalogue(server, self)
        self._on_list = on_list
        self._session: Session | None = None
        """The one that is ready."""
        self._current: Session | None = None
        """It, or the one that is being opened."""
        self._state: State = "starting"
        self._problem: str | None = server.problem
        self._hopeless = server.problem is not None
        self._failures = 0
        self._failed_at = 0.0
        self._protocol: str | None = None
        self._stopping = False
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def status(self) -> McpStatus:
        return McpStatus(
            name=self.server.name,
            state=self._state,
            tools=len(self.catalogue.tools),
            problem=self._problem,
            protocol=self._protocol,
        )

    async def run(self, load: Callable[[], Open]) -> None:
        """Until ``stop``, or for as long as there is hope. Raises nothing but ``CancelledError``."""
        if self._problem is not None:
            self._fail(self._problem)
            return
        try:
            # A thread: a second of importing must not hold the loop up, nor the start.
            opened = await asyncio.to_thread(load)
        except Exception as error:  # noqa: BLE001 - a package that is broken must not take the server along
            self._hopeless = True
            self._fail(reason_of(error))
            return
        pause = FIRST_PAUSE
        while not self._stopping:
            began = time.monotonic()
            await self._once(opened(self.server))
            pause = FIRST_PAUSE if time.monotonic() - began > LIVED_WELL else pause
            await self._rest(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def stop(self) -> None:
        """``run`` comes back soon, the connection closed in good order."""
        self._stopping = True
        self._wanted.set()
        if self._current is not None:
            self._current.stop()
        self._tell()

    async def call(self, tool: McpTool, arguments: dict[str, Json], ctx: ToolContext) -> Json:
        session = await self._ready()
        name = self._name_of(tool)
        try:
            return await session.call(name, arguments, ctx, effect=tool.effect)
        except NotTaken:
            # The one case of a second sending: the server says that it knows nothing of the first.
            self._drop(session)
        try:
            return await (await self._ready()).call(name, arguments, ctx, effect=tool.effect)
        except NotTaken as error:
            raise ToolError(self._said(f"it does not take the call: {reason_of(error)}")) from error

    def _name_of(self, tool: McpTool) -> str:
        if tool.name is not None:
            return tool.name
        listed = self.catalogue.find(tool.spec.name)
        if listed is None or listed.name is None:
            raise ToolError(self._said(f"it has no tool {tool.spec.name!r} any more"), code="unknown_tool")
        return listed.name

    # the connection

    async def _once(self, session: Session) -> None:
        self._current = session
        try:
            await session.run(ready=lambda: self._is_ready(session), listed=self._list)
        except Exception as error:  # noqa: BLE001 - whatever a server or the SDK does, it ends this connection only
            if not self._stopping:
                self._fail(reason_of(error), opened=session.protocol is not None)
        finally:
            self._session = self._current = None

    async def _rest(self, pause: float) -> None:
        """Until a call wants the connection, but no longer than the pause."""
        with anyio.move_on_after(pause):
            await self._wanted.wait()
        self._wanted.clear()

    def _is_ready(self, session: Session) -> None:
        if self._state == "down":
            _log.info("mcp server %s is there again", self.server.name)
        self._session, self._state, self._problem = session, "ready", None
        self._protocol = session.protocol
        count("mcp_connections", server=self.server.name)
        gauge("mcp_up", 1, server=self.server.name)
        self._tell()

    def _list(self, listing: Sequence[Listed]) -> None:
        self.catalogue.take(listing)
        self._on_list(self.catalogue.tools)

    def _fail(self, problem: str, *, opened: bool = False) -> None:
        """``opened``: a connection that was there was lost, which says nothing of the next one."""
        self._state, self._problem = "down", problem
        if not opened:
            self._failures += 1
            self._failed_at = time.monotonic()
            self._wanted.clear()  # who waited has its answer
        gauge("mcp_up", 0, server=self.server.name)
        warn_once(_log, f"mcp_down:{self.server.name}:{problem[:80]}", f"mcp server {self.server.name}: {problem}")
        self._tell()

    def _drop(self, session: Session) -> None:
        """Its connection is of no use: opened anew, at once."""
        if self._session is session:
            self._session = None
            session.stop()

    async def _ready(self) -> Session:
        """The open connection; one that is down is tried at once, and waited for as long as that try takes."""
        failures = self._failures
        if self._hopeless or (self._state == "down" and time.monotonic() - self._failed_at < FIRST_PAUSE):
            raise ToolError(self._said(self._problem or "it cannot be reached"))
        while self._session is None:
            if self._failures > failures or self._stopping:
                raise ToolError(self._said(self._problem or "it is being closed"))
            changed = self._changed
            self._wanted.set()
            await changed.wait()
        return self._session

    def _tell(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _said(self, problem: str) -> str:
        return f"the MCP server {self.server.name} cannot run this: {problem}"
