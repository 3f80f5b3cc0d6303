"""A tool of an MCP server (``ports.Tool``)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Literal, Protocol

from legato.core.ask import ToolSpec
from legato.core.blocks import Json
from legato.core.context import ToolContext
from legato.core.shapes import misfit
from legato.core.text import clean, cut
from legato.ports import Effect
from legato.tools.mcp.settings import Listed, McpServer
from legato.tools.results import jsonable

DESCRIPTION_BYTES = 16 * 1024
"""Of what the model chooses a tool by; all tools of a turn share its context."""


class Caller(Protocol):
    """Who hands calls on to the server."""

    async def call(self, tool: McpTool, arguments: dict[str, Json], ctx: ToolContext) -> Json:
        """The call's output. Raises ``ToolError``, ``InputNeeded``."""


class McpTool:
    """``name`` is the server's own. One that is not ``listed`` yet is offered to nobody, and can be called: a turn that
    was offered it may go on in a process that has just started."""

    def __init__(self, server: McpServer, offered: str, listed: Listed | None, caller: Caller) -> None:
        self.kind: Literal["async", "sync", "stream"] = "async"
        self.eager = False
        self.retries = 0
        self.reconcile: Callable[[str], object] | None = None
        self.name = None if listed is None else listed.name
        self.listed = listed
        self.spec = _spec(server, offered, listed)
        self.effect = _effect(server, listed)
        self.timeout = server.timeout
        self.idle_timeout = server.idle_timeout
        self.max_output = server.max_output
        self.source = f"mcp:{server.name}"
        self.needs_approval = bool(server.needs_approval) if listed is None else _asks(server, listed.name)
        self._caller = caller

    def check(self, input: dict[str, Json]) -> str | None:
        """Required arguments and plain types only: the rest the server checks itself. A stranger's patterns are not run
        here, for one of them can hold the loop for good."""
        return misfit(input, self.spec.input_schema)

    def asks_approval(self, input: dict[str, Json]) -> bool:  # noqa: ARG002 - by name alone, as it was configured
        return self.needs_approval

    def lane(self, input: dict[str, Json]) -> str | None:  # noqa: ARG002 - no server says which calls disturb which
        return None

    def bind(self, input: dict[str, Json], ctx: ToolContext) -> Callable[[], object]:
        return functools.partial(self._caller.call, self, input, ctx)

    def jsonable(self, value: object) -> Json:
        return jsonable(value)


def _spec(server: McpServer, offered: str, listed: Listed | None) -> ToolSpec:
    if listed is None:
        return ToolSpec(offered, f"a tool of {server.name}, which has not been listed yet", {"type": "object"})
    description = clean(listed.description).strip() or f"{clean(listed.name)}, a tool of {server.name}"
    # JSON Schema has no null here. The SDK lets it pass; it is what a nil slice of Go becomes: `"required": null`.
    said = {keyword: value for keyword, value in listed.input_schema.items() if value is not None}
    schema = {"type": "object", "properties": {}, **said}
    return ToolSpec(offered, cut(description, DESCRIPTION_BYTES), schema)


def _effect(server: McpServer, listed: Listed | None) -> Effect:
    if listed is None or not server.trust_hints:
        return "write"
    if listed.read_only:
        return "read"
    return "idempotent" if listed.idempotent else "write"


def _asks(server: McpServer, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in server.needs_approval)
