"""All MCP servers of a configuration, as one source of tools.

Opening the host waits for no server: each is opened by its owner in the background, and its tools are there once it has
been listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from legato.ports import Tool
from legato.tools.formatters import FormatterDeclaration, FormatterRegistry
from legato.tools.mcp.failures import ConnectionDied
from legato.tools.mcp.mcp_tool import McpTool
from legato.tools.mcp.names import prefix_of
from legato.tools.mcp.owner import Open, Owner
from legato.tools.mcp.settings import McpServer, McpStatus
from legato.tools.mcp.text import VERSION, mcp_text
from legato.tools.places import place_of

_FAREWELL = 6.0
"""Seconds in which connections are closed in good order: a process is asked, then killed, a second each."""


class McpHost:
    """Implements ``registry.ToolSource``. A context manager, left by the task that entered it. ``formatters`` gets ours
    for each tool that has none of its own."""

    def __init__(self, servers: Iterable[McpServer], *, formatters: FormatterRegistry) -> None:
        self._formatters = formatters
        self._owners = [Owner(server, on_list=self._format) for server in servers]
        self._open_owners = 0
        self._closed = anyio.Event()

    async def __aenter__(self) -> Self:
        self._tasks: TaskGroup = anyio.create_task_group()
        await self._tasks.__aenter__()
        for owner in self._owners:
            self._open_owners += 1
            self._tasks.start_soon(self._own, owner)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for owner in self._owners:
            owner.stop()
        with anyio.move_on_after(_FAREWELL, shield=True):
            if self._open_owners:
                await self._closed.wait()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    def tools(self) -> Sequence[Tool]:
        """In the order of the configuration, then of each server's first list."""
        return [tool for owner in self._owners for tool in owner.catalogue.tools]

    def find(self, name: str) -> Tool | None:
        found = (owner.catalogue.find(name) for owner in self._owners if name.startswith(prefix_of(owner.server.name)))
        return next((tool for tool in found if tool is not None), None)

    def expects(self, name: str) -> bool:
        """May a tool of that name still come?"""
        return any(name.startswith(prefix_of(owner.server.name)) for owner in self._owners)

    def status(self) -> Sequence[McpStatus]:
        return [owner.status for owner in self._owners]

    async def _own(self, owner: Owner) -> None:
        try:
            await owner.run(_sdk)
        finally:
            self._open_owners -= 1
            if not self._open_owners:
                self._closed.set()

    def _format(self, tools: Sequence[McpTool]) -> None:
        theirs = set(self._formatters.names())
        for tool in tools:
            if tool.spec.name not in theirs:
                self._formatters.add(FormatterDeclaration(tool.spec.name, VERSION, mcp_text, place_of(mcp_text)))


def _sdk() -> Open:
    """Imports the SDK: a second. Raises ``ConnectionDied`` where it is not installed."""
    try:
        from legato.tools.mcp.session import SdkSession
    except ImportError as error:
        package = (error.name or "mcp").partition(".")[0]
        message = f'MCP needs a package that is not installed ({package}): pip install "legato[mcp]"'
        raise ConnectionDied(message) from error
    return SdkSession
