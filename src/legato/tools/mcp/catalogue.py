"""What one server offers, in an order that stays: a prompt cache keys on the list of tools.

A tool keeps the place it had when it was first listed; new ones come behind. One that the server took back keeps its
place too, for when it comes again, and can still be called by turns that were offered it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from legato.observability import warn_once
from legato.tools.mcp.mcp_tool import Caller, McpTool
from legato.tools.mcp.names import offered_name, prefix_of
from legato.tools.mcp.settings import Listed, McpServer

_log = logging.getLogger(__name__)

TOOLS = 256
"""Of one server. Vendors take 128 in a request, and models choose badly among more than some dozens."""
SCHEMA_BYTES = 64 * 1024
"""JSON of one tool's arguments' schema."""


class Catalogue:
    """``tools`` are those that are offered now."""

    def __init__(self, server: McpServer, caller: Caller) -> None:
        self._server = server
        self._caller = caller
        self._known: dict[str, McpTool] = {}
        """By offered name, each that was ever listed, in the order of its first time."""
        self._offered: set[str] = set()
        self._prefix = prefix_of(server.name)
        self.listed = False
        self.tools: tuple[McpTool, ...] = ()

    def find(self, offered: str) -> McpTool | None:
        """Before the first list each name of this server's is taken on trust."""
        known = self._known.get(offered)
        if known is None and not self.listed and offered.startswith(self._prefix):
            return McpTool(self._server, offered, None, self._caller)
        return known

    def take(self, listing: Sequence[Listed]) -> None:
        """What the server lists now, all of it."""
        self.listed = True
        self._offered = set()
        for listed in listing:
            if self._wanted(listed.name):
                self._put(listed)
        self.tools = tuple(tool for name, tool in self._known.items() if name in self._offered)

    def _put(self, listed: Listed) -> None:
        offered = offered_name(self._server.name, listed.name)
        if (wrong := self._wrong_with(listed, offered)) is not None:
            shown = listed.name[:80]
            warn_once(
                _log,
                f"mcp_tool_left_out:{self._server.name}:{shown}",
                f"mcp server {self._server.name}: its tool {shown!r} is left out: {wrong}",
            )
            return
        known = self._known.get(offered)
        if known is None or known.listed != listed:
            self._known[offered] = McpTool(self._server, offered, listed, self._caller)
        self._offered.add(offered)

    def _wrong_with(self, listed: Listed, offered: str) -> str | None:
        if offered in self._offered:
            return "there is another of that name"
        if len(self._offered) >= TOOLS or (offered not in self._known and len(self._known) >= 4 * TOOLS):
            return f"the server has more than {TOOLS}; choose some with allow or deny"
        size = len(msgspec.json.encode(listed.input_schema))
        return f"its schema has {size} bytes, limit is {SCHEMA_BYTES}" if size > SCHEMA_BYTES else None

    def _wanted(self, name: str) -> bool:
        """By the server's own name, as its documentation has it."""
        server = self._server
        allowed = any(fnmatchcase(name, pattern) for pattern in server.allow)
        return allowed and not any(fnmatchcase(name, pattern) for pattern in server.deny)
