"""An owner that is stopped and wakes up after its lease says nothing, starts nothing and writes nothing (hazard 25)."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from pathlib import Path

import anyio
import httpx
import pytest
from tests.e2e.house import MODELS, Child, spawned, unpaired, upstream_environ

from legato.core import events as e
from legato.core.blocks import TextBlock, ToolResultBlock
from legato.core.fold import fold
from legato.core.records import LEASE_SECONDS
from legato.testing.upstream import Call, Gate, Say, Script, Upstream

pytestmark = pytest.mark.anyio

TOOLS = '''
from pathlib import Path

from legato import tool

@tool(effect="write")
def note(what: str) -> str:
    """Write it down."""
    with Path("effects").open("a") as file:
        file.write(what + "\\n")
    return "noted"
'''
WAIT = LEASE_SECONDS + 30


async def gone_on(path: Path, turn_id: str) -> None:
    """Until the turn has ended in the file."""
    while True:
        with contextlib.closing(sqlite3.connect(path)) as database:
            [(ended_at,)] = database.execute("SELECT ended_at FROM turn WHERE id = ?", [turn_id]).fetchall()
        if ended_at is not None:
            return
        await anyio.sleep(0.2)


async def heard(child: Child, turn_id: str, events: list[e.Event]) -> None:
    with contextlib.suppress(httpx.TransportError):
        async for event in child.events(turn_id, each=True):
            events.append(event)  # noqa: PERF401 - what came before the line broke counts


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_process_that_wakes_up_after_its_lease_has_lost_its_turn(tmp_path: Path) -> None:
    """Its provider goes on talking the moment it wakes up, and the second process has long ended the turn."""
    events: list[e.Event] = []
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        upstream.enqueue(
            Script([Say("The first says this."), Gate("asleep"), Call("note", {"what": "first"})]),
            Script([Call("note", {"what": "second"})]),
            Script([Say("The second ends it.")]),
        )
        async with (
            spawned(tmp_path, environ=environ, tools=TOOLS) as first,
            spawned(tmp_path, environ=environ, tools=TOOLS) as second,
            anyio.create_task_group() as readers,
        ):
            turn_id = await first.ask("Go", model=MODELS["anthropic"])
            readers.start_soon(heard, first, turn_id, events)
            await upstream.reached("asleep")
            await first.until(turn_id, lambda event: isinstance(event, e.BlockDelta))
            first.signal(signal.SIGSTOP)
            with anyio.fail_after(WAIT):
                await gone_on(tmp_path / "legato.db", turn_id)
            upstream.release("asleep")
            first.signal(signal.SIGCONT)
            whole = await second.followed(turn_id, each=True)
            again = await first.followed(turn_id, each=True)
            readers.cancel_scope.cancel()
        assert not unpaired(upstream.requests[-1].body)
    turn = fold(whole)
    assert (turn.error, turn.status) == (None, "complete")
    assert [block.text for block in turn.blocks if isinstance(block, TextBlock)] == ["The second ends it."]
    assert [block.outcome for block in turn.blocks if isinstance(block, ToolResultBlock)] == ["ok"]
    assert (tmp_path / "effects").read_text() == "second\n"
    assert fold(again).blocks == turn.blocks
    said_by_the_first = [event for event in events if event.seq < e.EPOCH_SIZE]
    assert not [event for event in said_by_the_first if isinstance(event, e.BlockStart) and event.block_type != "text"]
