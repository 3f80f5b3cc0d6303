"""A tool whose arguments changed after the seal starts early no more (docs/tools.md)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
from tests.conformance.stage import CALLS, stage
from tests.conformance.wires import EVERY_WIRE

from legato.core import events as e
from legato.core.blocks import ToolResultBlock
from legato.core.fold import Turn
from legato.testing.faults import faulty
from legato.testing.script import Wire
from legato.testing.upstream import Call, Gate, Say, Script


def results(turn: Turn) -> list[ToolResultBlock]:
    return [block for block in turn.blocks if isinstance(block, ToolResultBlock)]


@EVERY_WIRE
async def test_a_tool_whose_arguments_changed_starts_early_no_more(wire: Wire, tmp_path: Path) -> None:
    """In any turn of the process: its calls wait until their response has ended; others go on starting early."""
    async with stage(tmp_path, wire) as on:
        on.let_go.set()
        fault = faulty("arguments that change after the seal", CALLS)
        on.upstream.enqueue(fault, Script([Say("So it is.")]))
        await on.ask("Where is it dry?")
        await on.witness.watch(on.house)
        first = await on.agree()
        on.ran.clear()
        on.upstream.enqueue(Script([Call("look", {"number": 7}), Call("glance"), Gate("talking")]))
        await on.ask("And elsewhere?")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.witness.watch, on.house)
            await on.witness.saw_results(1)  # of the call behind it, so that it could have started
            assert not on.ran
            on.upstream.release("talking")
        second = await on.agree()
    assert [block.outcome for block in results(first)].count("error") == 1
    assert on.ran == Counter([7])
    assert [block.tool_name for block in results(second)] == ["glance", "look"]
    order = [type(event) for event in on.witness.events if isinstance(event, e.ToolStart | e.RoundStop)]
    assert order[:3] == [e.ToolStart, e.RoundStop, e.ToolStart]
