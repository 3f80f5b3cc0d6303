"""``kill -9`` around what a call waits for: a person's approval, or the result of a client's tool.

What was asked stays asked, what was answered stays answered, and nobody is asked twice. A turn at rest has no process
that could be killed: whoever answers finds a server, which is its next owner.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from signal import SIGKILL
from typing import NamedTuple

import anyio
import httpx
import pytest
from tests.conformance.ledger import Ledger
from tests.conformance.nursery import Life, Nursery
from tests.conformance.wires import EVERY_WIRE, calls_in
from tests.conformance.witness import Witness, agree
from tests.e2e.house import MODELS, Json, unpaired, upstream_environ
from tests.patience import BOUND

from legato.core import events as e
from legato.core.blocks import ToolResultBlock
from legato.testing.script import Step, Wire
from legato.testing.upstream import Answer, Call, Gate, Request, Say, Script, Upstream, round_of

PICK: Json = {"name": "pick", "description": "Asks the person.", "input_schema": {"type": "object"}}


class Kill(NamedTuple):
    """One call of ``tool``, killed ``at`` in its ``owner``-th owner, counted from 0. ``answered`` before the kill, or
    after it, or never (None). ``stands``: the stream had not ended."""

    tool: str
    at: str
    owner: int
    answered: bool | None
    outcome: str
    effects: int
    stands: bool = False


READ, WRITE = "look_if_allowed", "change_if_allowed"
KILLS = [
    # The reply was cut, and adopted: what has no effects is still asked for, what has is held, and never runs.
    Kill(READ, "need", 0, answered=False, outcome="ok", effects=1, stands=True),
    Kill(WRITE, "need", 0, answered=None, outcome="error", effects=0, stands=True),
    Kill(READ, "rest", 0, answered=False, outcome="ok", effects=1),
    Kill(WRITE, "rest", 0, answered=False, outcome="ok", effects=1),
    Kill("pick", "rest", 0, answered=False, outcome="ok", effects=0),
    Kill(READ, "answered", 0, answered=True, outcome="ok", effects=1),
    Kill(WRITE, "answered", 0, answered=True, outcome="ok", effects=1),
    Kill("pick", "answered", 0, answered=True, outcome="ok", effects=0),
    # Whoever was at rest is taken up for the answer, and its next owner dies.
    Kill(READ, "claimed", 1, answered=True, outcome="ok", effects=1),
    Kill(WRITE, "claimed", 1, answered=True, outcome="ok", effects=1),
    Kill(READ, "taken", 1, answered=True, outcome="ok", effects=1),
    Kill("pick", "taken", 1, answered=True, outcome="ok", effects=0),
    # With the answer taken the intent is stored, so that it may have begun.
    Kill(WRITE, "taken", 1, answered=True, outcome="unknown", effects=0),
    Kill(WRITE, f"effect_{WRITE}", 1, answered=True, outcome="unknown", effects=1),
]
USUAL = [KILLS[0], KILLS[3], KILLS[7]]


async def answer(life: Life, witness: Witness) -> None:
    """What somebody says to whatever the call waits for."""
    [waiting] = [event for event in witness.events if isinstance(event, e.CallWaiting)]
    path = f"/v1/turns/{witness.turn_id}"
    if waiting.kind == "client_tool":
        said: Json = {"results": [{"call_id": waiting.call_id, "output": "this one"}]}
        answer = await life.client.post(f"{path}/tool_results", json=said)
    else:
        said = {"call_id": waiting.call_id, "decision": "approve"}
        answer = await life.client.post(f"{path}/approvals", json=said)
    assert answer.status_code == 202, answer.text


async def until_it_dies(life: Life, witness: Witness, kill: Kill, model: str) -> None:
    with contextlib.suppress(httpx.TransportError):
        await life.ask("Go on", model=model, turn_id=witness.turn_id, client_tools=[PICK])
        if kill.answered:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read_on, life, witness)
                await witness.saw(1, e.TurnWaiting)
                with contextlib.suppress(httpx.TransportError):
                    await answer(life, witness)
        else:
            await witness.watch(life)
    assert await life.died() == SIGKILL


async def read_on(life: Life, witness: Witness) -> None:
    with contextlib.suppress(httpx.TransportError):
        await witness.watch(life)


async def to_the_end(life: Life, witness: Witness) -> None:
    """A turn that waits may close its readers' streams; whoever wants to know comes back."""
    with anyio.fail_after(BOUND):
        while not (witness.events and isinstance(witness.events[-1], e.TurnEnd)):
            await witness.watch(life)


@EVERY_WIRE
@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(kill, id=f"{kill.tool}-{kill.at}", marks=[] if kill in USUAL else [pytest.mark.slow])
        for kill in KILLS
    ],
)
async def test_what_was_asked_and_answered_outlives_its_process(
    home: Nursery, kill: Kill, wire: Wire, tmp_path: Path
) -> None:
    witness = Witness("-".join([*["nowhere"] * kill.owner, kill.at]) + f"--{kill.tool}")
    steps: list[Step] = [Call(kill.tool, {"what": "it"}), *([Gate("for ever")] if kill.stands else [])]

    def vendor(request: Request) -> Answer:
        return Script([Say("So be it.")] if round_of(request) else steps)

    async with Upstream.open(default=vendor) as upstream:
        environ = upstream_environ(upstream)
        async with home.life(tmp_path, environ) as life:
            await until_it_dies(life, witness, kill, MODELS[wire])
        async with home.life(tmp_path, environ) as life:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(to_the_end, life, witness)
                if kill.answered is False:
                    await witness.saw(1, e.CallWaiting)
                    await answer(life, witness)
            turn = await agree(life, witness)
        assert (upstream.refused, unpaired(upstream.requests[-1].body)) == ([], [])
        [sent] = calls_in(wire, upstream.requests[-1].body)
    [result] = [block for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert (turn.status, turn.stop_reason) == ("complete", "end")
    assert (result.tool_name, result.outcome) == (kill.tool, kill.outcome)
    assert sum(isinstance(event, e.CallWaiting) for event in witness.events) == 1
    assert len(Ledger(tmp_path).lines("effect")) == kill.effects
    assert sent.result is not None
