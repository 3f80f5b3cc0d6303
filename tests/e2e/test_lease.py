"""An owner that is stopped and wakes up after its lease says nothing, starts nothing and writes nothing (hazard 25)."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest
from tests.e2e.house import MODELS, Child, results_in, spawned, unpaired, upstream_environ
from tests.patience import BOUND

from legato.core import events as e
from legato.core.blocks import TextBlock, ToolResultBlock
from legato.core.fold import fold
from legato.core.records import LEASE_SECONDS
from legato.testing.upstream import Call, Gate, Say, Script, Upstream

pytestmark = pytest.mark.anyio

TOOLS = '''
from pathlib import Path

from legato import ToolContext, ToolError, tool

def paid(key: str) -> str:
    """Nothing has come in so far."""
    raise ToolError("no payment came in")

@tool(effect="write", reconcile=paid)
def pay(*, ctx: ToolContext) -> str:
    """Take your time."""
    ctx.emit("begun")
    Path("go").read_text()
    Path("landed").write_text("paid")
    return "paid"

@tool(effect="write")
def note(what: str) -> str:
    """Write it down."""
    with Path("effects").open("a") as file:
        file.write(what + "\\n")
    return "noted"
'''
WAIT = LEASE_SECONDS + 30


def lease_over(path: Path, turn_id: str) -> None:
    """As if the turn's owner had not renewed it for long."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE turn SET lease_until = '2000-01-01T00:00:00.000Z' WHERE id = ?", [turn_id])


async def ended(child: Child, turn_id: str) -> list[e.Event]:
    """All that is said of the turn, to its end; the lease of its owner may have to run out first."""
    with anyio.fail_after(WAIT):
        return [event async for event in child.events(turn_id, each=True)]


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
            whole = await ended(second, turn_id)
            upstream.release("asleep")
            first.signal(signal.SIGCONT)
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


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_that_a_write_was_not_done_is_not_believed_while_its_owner_is_only_stopped(tmp_path: Path) -> None:
    """P7: the outside says so, and the effect lands when the owner wakes up."""
    for name in ("go", "landed"):
        os.mkfifo(tmp_path / name)
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        upstream.enqueue(Script([Call("pay")]), Script([Say("I will look.")]))
        async with (
            spawned(tmp_path, environ=environ, tools=TOOLS) as first,
            spawned(tmp_path, environ=environ, tools=TOOLS) as second,
        ):
            turn_id = await first.ask("Go", model=MODELS["anthropic"])
            await first.until(turn_id, lambda event: isinstance(event, e.BlockDelta) and event.text == "begun")
            first.signal(signal.SIGSTOP)
            lease_over(tmp_path / "legato.db", turn_id)
            turn = fold(await ended(second, turn_id))
            first.signal(signal.SIGCONT)
            with anyio.fail_after(BOUND):
                await anyio.to_thread.run_sync((tmp_path / "go").write_text, "go", abandon_on_cancel=True)
                landed = await anyio.to_thread.run_sync((tmp_path / "landed").read_text, abandon_on_cancel=True)
        [told] = results_in(upstream.requests[-1].body).values()
    [result] = [block for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert (turn.status, result.outcome, landed) == ("complete", "unknown", "paid")
    assert "check before repeating" in told
