"""A server as it was configured, what it says of its tools, and how it does."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from legato.core.blocks import Json
from legato.tools.function_tool import MAX_OUTPUT, TIMEOUT


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """``command`` or ``url``. Times are seconds, ``message_bytes`` bounds one message of the server's.

    ``allow``, ``deny`` and ``needs_approval`` are glob patterns over the server's own names. ``problem`` is why it
    cannot be opened at all, found when the configuration was read.
    """

    name: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = {}
    timeout: float = TIMEOUT
    idle_timeout: float | None = None
    connect_timeout: float = 30.0
    max_output: int = MAX_OUTPUT
    message_bytes: int = 17 * 1024 * 1024
    trust_hints: bool = False
    needs_approval: tuple[str, ...] = ()
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    problem: str | None = None

    def __repr__(self) -> str:
        """Without what may be secret."""
        return f"McpServer({self.name!r})"


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as a server lists it. The hints are the server's word and nobody else's."""

    name: str
    description: str
    input_schema: dict[str, Json]
    read_only: bool = False
    idempotent: bool = False


State: TypeAlias = Literal["starting", "ready", "down"]


class McpStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``problem`` is a sentence that says what to do, set while it is down. ``protocol`` is the version agreed on."""

    name: str
    state: State
    tools: int
    problem: str | None = None
    protocol: str | None = None
