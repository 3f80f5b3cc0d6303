"""A plain function that blocks its thread holds up nobody: neither the stream, nor its readers, nor the other calls.

How long the longest gap between two events is, is measured by ``bench.overlap`` and asserted nowhere. Here the tools
return only once a reader has had every word that the model said while they blocked.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import anyio
import pytest
from tests.conformance.wires import EVERY_WIRE, calls_in
from tests.conformance.witness import Witness, agree
from tests.e2e.house import MODELS, playing, unpaired
from tests.patience import BOUND

from legato import tool
from legato.core import events as e
from legato.core.blocks import ToolResultBlock
from legato.testing.script import Wire
from legato.testing.upstream import Call, Gate, Say, Script

WORDS = 100


@EVERY_WIRE
@pytest.mark.parametrize("effect", ["read", "write"])
async def test_words_keep_coming_while_tools_block_their_threads(effect: str, wire: Wire, tmp_path: Path) -> None:
    """The calls of the first turn block while a second turn, in another chat, is said from its first word to its end;
    where they may start early, their own response is said too."""
    let_go = threading.Event()
    ran: Counter[int] = Counter()

    @tool(effect="read" if effect == "read" else "write", name="block", lane=lambda given: str(given["number"]))
    def block(number: int) -> str:
        """Blocks until it is let go."""
        ran[number] += 1
        return f"let go {number}" if let_go.wait(BOUND) else "everything stood still"

    calls = [Call("block", {"number": number}) for number in range(4)]
    talk = Say("word " * WORDS)
    async with playing(tmp_path, tools=(block,)) as (house, upstream):
        early = effect == "read"
        upstream.enqueue(Script([*calls, Gate("blocked"), talk] if early else [*calls]))
        witness = Witness(await house.ask("Block", model=MODELS[wire]))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(witness.watch, house)
            await witness.saw(4, e.ToolStart)
            upstream.release("blocked")
            if early:
                await witness.saw(1, e.RoundStop)
            upstream.enqueue(Script([talk]))
            beside = Witness(await house.ask("Talk", model=MODELS[wire]))
            await beside.watch(house)
            await agree(house, beside)
            assert not any(isinstance(one, ToolResultBlock) for one in witness.turn.blocks)
            let_go.set()
        turn = await agree(house, witness)
        body = upstream.requests[-1].body
        assert (upstream.refused, unpaired(body)) == ([], [])
    assert ran == Counter(range(4))
    assert (turn.status, turn.stop_reason) == ("complete", "end")
    assert [call.result for call in calls_in(wire, body)] == [f"let go {number}" for number in range(4)]
