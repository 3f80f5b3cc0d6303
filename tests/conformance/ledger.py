"""Effects on the outside, in a file that outlives every process, and the tools that leave them there.

A line is one fact, written in one piece: what was done, by which tool, for which call, under which key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import anyio.lowlevel

from legato import ToolContext, ToolError, tool

Deed: TypeAlias = Literal["begun", "effect", "reconcile"]


class Line(NamedTuple):
    deed: str
    tool: str
    call_id: str
    key: str


class Ledger:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger"

    def note(self, deed: Deed, name: str, *, call_id: str, key: str) -> None:
        ledger = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(ledger, f"{deed} {name} {call_id} {key}\n".encode())
        os.close(ledger)

    def lines(self, deed: Deed, *, call_id: str | None = None, key: str | None = None) -> list[Line]:
        """Those of a call, or of a key."""
        if not self._path.exists():
            return []
        lines = [Line(*line.split()) for line in self._path.read_text().splitlines()]
        return [
            line for line in lines if line.deed == deed and call_id in (None, line.call_id) and key in (None, line.key)
        ]


def tools_of(ledger: Ledger, reached: Callable[[str, ToolContext], None]) -> tuple[Callable[..., object], ...]:
    """A tool of each effect, some of them plain functions. ``reached`` is told before and after each effect, and may
    end the process there."""

    def act(name: str, ctx: ToolContext) -> None:
        ledger.note("begun", name, call_id=ctx.call_id, key=ctx.idempotency_key)
        reached(f"begun_{name}", ctx)
        ledger.note("effect", name, call_id=ctx.call_id, key=ctx.idempotency_key)
        reached(f"effect_{name}", ctx)

    def asked(key: str) -> str:
        ledger.note("reconcile", "settle", call_id="-", key=key)
        if not ledger.lines("effect", key=key):
            raise ToolError("it did not take effect", code="not_done")
        return "settled"

    @tool(effect="read")
    async def look(what: str, *, ctx: ToolContext) -> str:
        """Has no effect."""
        await anyio.lowlevel.checkpoint()
        act("look", ctx)
        return f"seen {what}"

    @tool(effect="idempotent")
    async def put(what: str, *, ctx: ToolContext) -> str:
        """May be done again with its key."""
        await anyio.lowlevel.checkpoint()
        act("put", ctx)
        return f"put {what}"

    @tool(effect="write")
    def change(what: str, *, ctx: ToolContext) -> str:
        """Must not be done twice; in a thread."""
        act("change", ctx)
        return f"changed {what}"

    @tool(effect="write", reconcile=asked)
    async def settle(what: str, *, ctx: ToolContext) -> str:
        """Must not be done twice, and the outside can be asked."""
        await anyio.lowlevel.checkpoint()
        act("settle", ctx)
        return "settled"

    @tool(effect="write", lane=lambda given: str(given["what"]))
    def change_apart(what: str, *, ctx: ToolContext) -> str:
        """Must not be done twice, each in a lane of its own."""
        act("change_apart", ctx)
        return f"changed {what}"

    @tool(effect="read", needs_approval=True)
    async def look_if_allowed(what: str, *, ctx: ToolContext) -> str:
        """Has no effect, and not everybody may see it."""
        act("look_if_allowed", ctx)
        return f"seen {what}"

    @tool(effect="write", needs_approval=True)
    def change_if_allowed(what: str, *, ctx: ToolContext) -> str:
        """Must not be done twice, nor unasked."""
        act("change_if_allowed", ctx)
        return f"changed {what}"

    return look, put, change, settle, change_apart, look_if_allowed, change_if_allowed
