"""``kill -9`` again and again, at random events of many turns (P7, P8; hazards 1, 14, 23)."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from pathlib import Path

import anyio
import httpx
import pytest
from tests.e2e.house import BOUND, MODELS, Child, configured, serving, spawned, unpaired, upstream_environ

from legato import tool
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.testing.upstream import Answer, Call, Request, Say, Script, Upstream, round_of

TOOLS = '''
import os
from pathlib import Path

import anyio

from legato import ToolContext, tool

def note(call_id: str) -> None:
    ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, call_id.encode() + b"\\n")
    os.close(ledger)

@tool(effect="write")
async def act(what: str, *, ctx: ToolContext) -> str:
    """Leaves a line in the ledger, and takes a moment before and after."""
    await anyio.sleep(0.002)
    note(ctx.call_id)
    await anyio.sleep(0.002)
    return what

@tool(effect="write", lane=lambda arguments: arguments["what"])
def act_in_thread(what: str, *, ctx: ToolContext) -> str:
    """The same in a thread, each in a lane of its own."""
    note(ctx.call_id)
    return what

@tool(effect="read")
async def look(what: str) -> str:
    """Has no effect."""
    await anyio.sleep(0.001)
    return what
'''


@tool(effect="write")
async def act(what: str) -> str:
    """As in the file, so that its results can be sent."""
    return what


class Vendor:
    """Three rounds of a few calls each, some words between them."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def answer(self, request: Request) -> Answer:
        if round_of(request) == 3:
            return Script([Say("Done.")])
        names = self._chance.choices(["act", "act_in_thread", "look"], k=self._chance.randrange(1, 5))
        calls = [Call(name, {"what": f"{number}"}) for number, name in enumerate(names)]
        return Script([Say("Some words. ", pace=500), *calls])


async def killed_at(folder: Path, environ: dict[str, str], chance: random.Random) -> list[str]:
    """Four turns at once, and a kill when so many events of them were read; the turns' ids."""
    turns: list[str] = []
    left = chance.randrange(1, 150)
    enough = anyio.Event()

    async def read(child: Child, turn_id: str) -> None:
        nonlocal left
        with contextlib.suppress(httpx.TransportError):
            async for _ in child.events(turn_id, each=True):
                left -= 1
                if left == 0:
                    enough.set()

    async with spawned(folder, environ=environ, tools=TOOLS) as child, anyio.create_task_group() as tasks:
        for _ in range(4):
            turns.append(await child.ask("Go", model=MODELS["anthropic"]))
            tasks.start_soon(read, child, turns[-1])
        with anyio.move_on_after(BOUND / 10):  # they may all have ended before
            await enough.wait()
        await child.kill()
    return turns


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_a_write_runs_at_most_once_and_its_result_is_no_lie_through_many_kills(
    kills: int, tmp_path: Path
) -> None:
    """What is ``ok`` is in the ledger once, what is said not to have been executed is not in it."""
    chance = random.Random(kills)
    async with Upstream.open(default=Vendor(kills).answer) as upstream:
        environ = upstream_environ(upstream)
        turns = [one for _ in range(kills) for one in await killed_at(tmp_path, environ, chance)]
        written = tmp_path / "ledger"  # not there where every kill came before the first write
        ledger = Counter(written.read_text().split() if written.exists() else ())
        outcomes: Counter[str] = Counter()
        answered: set[str] = set()
        async with serving(configured(tmp_path, environ=environ), tools=(act,)) as house:
            upstream._default = Script([Say("Go on.")])
            for turn_id in turns:
                turn = await house.folded(turn_id)
                assert turn.ended
                calls = {one.call_id: one for one in turn.blocks if isinstance(one, ToolUseBlock)}
                results = [one for one in turn.blocks if isinstance(one, ToolResultBlock)]
                assert sorted(one.call_id for one in results) == sorted(
                    one.call_id for one in calls.values() if one.state == "complete"
                )
                for result in results:
                    if result.tool_name != "look":
                        outcomes[str(result.outcome)] += 1
                        answered.add(result.call_id)
                        expected = {"ok": {1}, "unknown": {0, 1}}.get(str(result.outcome), {0})
                        assert ledger[result.call_id] in expected, (turn_id, result)
                view = await house.turn(turn_id)
                again = await house.ask("And?", chat_id=view["chat_id"], model=MODELS["anthropic"])
                assert (await house.folded(again)).status == "complete"
                assert not unpaired(upstream.requests[-1].body)
            assert upstream.refused == []
    assert set(ledger.values()) <= {1}
    assert set(ledger) <= answered
    if kills >= 40:  # so that it was worth the while
        assert outcomes["ok"] > 0
        assert outcomes["unknown"] > 0
