"""Four ``read`` calls in one response in which one thing goes wrong, on every wire (docs/testing.md).

Of each fault: what ran and how often, what the next request carried, whether the turn went on, and that what is stored
is what was seen. The stream stands at a gate just before the fault, so that all of it happens in a known order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import anyio
import pytest
from tests.conformance.stage import CALLS, stage
from tests.conformance.wires import EVERY_WIRE, said_in

from legato.core import events as e
from legato.core.blocks import TextBlock, ToolResultBlock
from legato.testing.check import check_growth
from legato.testing.faults import BEGINNING, FAULTS, faulty
from legato.testing.script import Wire
from legato.testing.upstream import Say, Script

ALL, THREE = [0, 1, 2, 3], [0, 1, 2]


class Row(NamedTuple):
    """What a fault must come to. ``ran`` are the calls that ran, once each; ``errors`` those whose result in the next
    request is an error, with words of it."""

    ran: list[int]
    commitment: e.Commitment
    sent: int
    errors: Mapping[int, str] = MappingProxyType({})


ROWS: dict[str, Row] = {
    "none": Row(ALL, "committed", 4),
    "max_tokens inside the last call": Row(THREE, "committed", 3),
    "cut before the last call": Row(THREE, "adopted", 3),
    "cut inside the last call": Row(THREE, "adopted", 3),
    "cut inside a frame of the last call": Row(THREE, "adopted", 3),
    "reset before the last call": Row(THREE, "adopted", 3),
    "ended without an end before the last call": Row(THREE, "adopted", 3),
    "overloaded before the last call": Row(THREE, "adopted", 3),
    "silence before the last call": Row(THREE, "adopted", 3),
    "all calls with one id": Row(ALL, "committed", 4),
    "all calls with empty ids": Row(ALL, "committed", 4),
    "bad JSON in the last call": Row(THREE, "committed", 4, {3: "JSON"}),
    "arguments that change after the seal": Row(ALL, "committed", 4, {0: "changed"}),
}
REFUSAL = "refusal at the end"
FURTHER = {name for name in ROWS if name.startswith(("cut inside", "reset", "ended", "silence"))}
"""Other ways to break off: each waits for its retry, so they are left to the slow tests."""
EVERY_FAULT = [pytest.param(name, marks=[pytest.mark.slow] if name in FURTHER else []) for name in ROWS]


def test_every_fault_has_its_row() -> None:
    assert {*ROWS, REFUSAL} == set(FAULTS)


@EVERY_WIRE
@pytest.mark.parametrize("fault", EVERY_FAULT)
@pytest.mark.parametrize("moment", ["while they run", "when they have ended"])
async def test_a_fault_comes_to_what_it_must(
    fault: str, wire: Wire, moment: Literal["while they run", "when they have ended"], tmp_path: Path
) -> None:
    row = ROWS[fault]
    async with stage(tmp_path, wire) as on:
        on.upstream.enqueue(faulty(fault, CALLS, gate="fault"), Script([Say("It is dry in all of them.")]))
        await on.ask("Where is it dry?")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.witness.watch, on.house)
            await on.witness.saw(len(row.ran), e.ToolStart)
            if moment == "when they have ended":
                on.let_go.set()
                await on.witness.saw_results(len(row.ran))
            on.upstream.release("fault")
            await on.witness.saw(1, e.RoundStop)
            on.let_go.set()
        turn = await on.agree()
        first, second = (request.body for request in on.upstream.requests)
        sent = on.sent()
    assert on.ran == Counter(row.ran)
    assert (turn.status, turn.stop_reason) == ("complete", "end")
    assert [record.commitment for record in turn.rounds] == [row.commitment, "committed"]
    assert check_growth(first, second) is None
    assert len(sent) == len({call.id for call in sent}) == row.sent
    assert all(call.id for call in sent)
    assert [call.result for call in sent if call.result == f"seen {sent.index(call)}"] == [
        f"seen {number}" for number in row.ran if number not in row.errors
    ]
    for number, words in row.errors.items():
        assert words in str(sent[number].result)
    assert said_in(second).count(BEGINNING.text) == 1
    assert [block.text for block in turn.blocks if isinstance(block, TextBlock)][-1] == "It is dry in all of them."


@EVERY_WIRE
@pytest.mark.parametrize("moment", ["while they run", "when they have ended"])
async def test_a_refusal_ends_the_turn_and_leaves_no_history(wire: Wire, moment: str, tmp_path: Path) -> None:
    """What ran is in the ledger, and shown; the model is not asked again, and never reads of it."""
    async with stage(tmp_path, wire) as on:
        on.upstream.enqueue(faulty(REFUSAL, CALLS, gate="fault"))
        await on.ask("Where is it dry?")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(on.witness.watch, on.house)
            await on.witness.saw(4, e.ToolStart)
            if moment == "when they have ended":
                on.let_go.set()
                await on.witness.saw_results(4)
            on.upstream.release("fault")
        turn = await on.agree()
        assert len(on.upstream.requests) == 1
        on.upstream.enqueue(Script([Say("Yes?")]))
        await on.ask("And now?")
        await on.witness.watch(on.house)
        again = await on.agree()
        sent, body = on.sent(), on.upstream.requests[-1].body
    assert on.ran == Counter(ALL)
    assert (turn.status, turn.stop_reason, again.status) == ("complete", "refusal", "complete")
    assert [record.commitment for record in turn.rounds] == ["orphaned"]
    ended = moment == "when they have ended"
    assert {block.outcome for block in turn.blocks if isinstance(block, ToolResultBlock)} == (
        {"ok"} if ended else {"cancelled"}
    )
    assert sorted(on.cancelled) == ([] if ended else ALL)
    assert sent == []
    assert BEGINNING.text not in said_in(body)
