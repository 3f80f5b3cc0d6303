"""What the tortured server offers its model. An effect is a line in the file ``effects`` of the folder it runs in.

Each line is written in one piece, before and after a moment of work, so that a kill finds calls at every point.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

import anyio
import msgspec

from legato.core.context import ToolContext
from legato.core.errors import ToolError
from legato.tools.declare import tool

EFFECTS: Final = Path("effects")
Deed: TypeAlias = Literal["begun", "effect", "given_up"]


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """``key`` is the call's idempotency key; ``what`` and ``ms`` are the arguments that the tool ran with; ``at`` is
    monotonic seconds, which all processes of a machine count alike."""

    deed: Deed
    tool: str
    turn_id: str
    call_id: str
    key: str
    what: str
    ms: int
    at: float = 0.0


def read_effects(file: Path) -> list[Effect]:
    if not file.exists():
        return []
    return [msgspec.json.decode(line, type=Effect) for line in file.read_bytes().splitlines()]


@contextmanager
def _outside() -> Iterator[int]:
    """The file, for one at a time."""
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _note(deed: Deed, tool: str, what: str, ms: int, ctx: ToolContext) -> None:
    line = Effect(
        deed=deed,
        tool=tool,
        turn_id=ctx.turn_id,
        call_id=ctx.call_id,
        key=ctx.idempotency_key,
        what=what,
        ms=ms,
        at=time.monotonic(),
    )
    with _outside() as file:
        if tool == "settle" and _is(line.key, "given_up"):
            raise ToolError("this key was given up")
        os.write(file, msgspec.json.encode(line) + b"\n")


def _is(key: str, deed: Deed) -> bool:
    return any(line.key == key and line.deed == deed for line in read_effects(EFFECTS))


async def _act(tool: str, what: str, ms: int, ctx: ToolContext) -> str:
    _note("begun", tool, what, ms, ctx)
    await anyio.sleep(ms / 1000)
    _note("effect", tool, what, ms, ctx)
    return f"{tool}: {what}"


def _act_in_a_thread(tool: str, what: str, ms: int, ctx: ToolContext) -> str:
    _note("begun", tool, what, ms, ctx)
    time.sleep(ms / 1000)
    _note("effect", tool, what, ms, ctx)
    return f"{tool}: {what}"


def _asked(key: str) -> str:
    """What became of a key, as the outside tells it. One that it calls not done it refuses from then on: a server that
    was stopped in the midst of it may wake up yet (seen with seed 7)."""
    with _outside() as file:
        if _is(key, "effect"):
            return "settled"
        line = Effect(deed="given_up", tool="settle", turn_id="", call_id="", key=key, what="", ms=0)
        os.write(file, msgspec.json.encode(line) + b"\n")
    raise ToolError("it did not take effect", code="not_done")


@tool(effect="read")
async def look(what: str, ms: int, *, ctx: ToolContext) -> str:
    """Has no effect."""
    await ctx.emit("looking\n")
    return await _act("look", what, ms, ctx)


@tool(effect="idempotent")
async def put(what: str, ms: int, *, ctx: ToolContext) -> str:
    """May be done again with its key."""
    return await _act("put", what, ms, ctx)


@tool(effect="write")
def change(what: str, ms: int, *, ctx: ToolContext) -> str:
    """Must not be done twice; in a thread."""
    return _act_in_a_thread("change", what, ms, ctx)


@tool(effect="write", eager=True)
async def change_early(what: str, ms: int, *, ctx: ToolContext) -> str:
    """Must not be done twice, and need not wait for the end of the response."""
    return await _act("change_early", what, ms, ctx)


@tool(effect="write", lane=lambda given: str(given["what"]))
def change_apart(what: str, ms: int, *, ctx: ToolContext) -> str:
    """Must not be done twice, each in a lane of its own."""
    return _act_in_a_thread("change_apart", what, ms, ctx)


@tool(effect="write", reconcile=_asked)
async def settle(what: str, ms: int, *, ctx: ToolContext) -> str:
    """Must not be done twice, and the outside can be asked."""
    return await _act("settle", what, ms, ctx)


@tool(effect="write", needs_approval=True)
async def change_if_allowed(what: str, ms: int, *, ctx: ToolContext) -> str:
    """Must not be done twice, nor unasked."""
    return await _act("change_if_allowed", what, ms, ctx)
