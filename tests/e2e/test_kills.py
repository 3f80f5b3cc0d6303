"""``kill -9`` at random moments, again and again, of many turns at once (P7, P8; hazards 1, 14, 23).

After each kill the next server goes on by itself with what it finds. Kills after each single record are in
``tests/conformance/test_kills.py``.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.conformance.ledger import Ledger
from tests.conformance.nursery import ROOT, Nursery, nursery
from tests.conformance.witness import Witness, agree
from tests.e2e.house import MODELS, Visitor, spawned, unpaired, upstream_environ

from legato.core.blocks import ToolResultBlock
from legato.core.fold import Turn
from legato.testing.upstream import Answer, Call, Request, Say, Script, Upstream, round_of

KILLS = 25  # of one seed: twenty seeds are five hundred
FIRST_SEED = int(os.environ.get("KILLS_SEED", "1"))
TURNS = 3  # begun in each life
TOOLS = ("look", "put", "change", "settle", "change_apart")
EFFECTS = {
    # tool: how often its effect may be there, by the outcome that is said of its call
    "change": {"ok": {1}, "unknown": {0, 1}},
    "change_apart": {"ok": {1}, "unknown": {0, 1}},
    "settle": {"ok": {1}, "unknown": {0, 1}},
}
SERVED = f"""
import sys
sys.path.append({str(ROOT)!r})
from pathlib import Path
from tests.conformance.ledger import Ledger, tools_of
look, put, change, settle, change_apart, *_ = tools_of(Ledger(Path()), lambda moment, ctx: None)
"""


class Vendor:
    """Three rounds of a few calls each, some words between them."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def answer(self, request: Request) -> Answer:
        if round_of(request) == 3:
            return Script([Say("Done.")])
        names = self._chance.choices(TOOLS, k=self._chance.randrange(1, 5))
        calls = [Call(name, {"what": f"{number}"}) for number, name in enumerate(names)]
        after = Say("And so on, and on. ", pace=self._chance.choice([0, 100]))  # so that some die with calls held
        return Script([Say("Some words. ", pace=self._chance.choice([0, 500, 100])), *calls, after])


class Moment:
    """When to kill: once so many events were read, or so much time is over, whichever chance has named."""

    def __init__(self, chance: random.Random) -> None:
        self._left = chance.randrange(1, 250)
        self._seconds = chance.choice([chance.uniform(0, 0.3), 1.0])
        self._come = anyio.Event()

    def heard(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._come.set()

    async def comes(self) -> None:
        with anyio.move_on_after(self._seconds):
            await self._come.wait()


async def live(visitor: Visitor, chance: random.Random) -> list[Witness]:
    """Begin a few turns, and read them until the moment comes; who has read them so far."""
    moment = Moment(chance)
    witnesses: list[Witness] = []

    async def read(witness: Witness) -> None:
        async for event in visitor.events(witness.turn_id, each=True):
            witness.hear(event)
            moment.heard()

    async with anyio.create_task_group() as tasks:
        for _ in range(TURNS):
            witnesses.append(Witness(await visitor.ask("Go", model=chance.choice(list(MODELS.values())))))
            tasks.start_soon(read, witnesses[-1])
        await moment.comes()
        tasks.cancel_scope.cancel()
    return witnesses


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("nursery") / "log") as one:
        yield one


def check(turn: Turn, ledger: Ledger, outcomes: Counter[str]) -> None:
    """What is said of each call is no lie."""
    if turn.status != "complete":
        assert turn.error is not None
        assert turn.error.code == "recovery_exhausted"
    outcomes[turn.status] += 1
    for result in turn.blocks:
        if not isinstance(result, ToolResultBlock):
            continue
        outcomes[f"{result.tool_name} {result.outcome}"] += 1
        # A call that was lost with its response may have had the same id; only a read can have run by then.
        effects = [line for line in ledger.lines("effect", call_id=result.call_id) if line.tool == result.tool_name]
        assert result.tool_name == "look" or len({line.key for line in effects}) <= 1
        allowed = EFFECTS.get(result.tool_name)
        if allowed is not None:
            assert len(effects) in allowed.get(str(result.outcome), {0}), result
        elif result.outcome == "ok":
            assert effects


async def check_all(visitor: Visitor, upstream: Upstream, witnesses: list[Witness], ledger: Ledger) -> Counter[str]:
    """Once each turn has ended: all tell the same of it, and its vendor takes its history. What came of all of them."""
    outcomes: Counter[str] = Counter()
    upstream._default = Script([Say("Go on.")])
    answered = set()
    for witness in witnesses:
        await witness.watch(visitor)
        turn = await agree(visitor, witness)
        check(turn, ledger, outcomes)
        answered |= {block.call_id for block in turn.blocks if isinstance(block, ToolResultBlock)}
        view = await visitor.turn(witness.turn_id)
        further = await visitor.ask("And?", chat_id=view["chat_id"], model=view["model"])
        assert (await visitor.folded(further)).status == "complete"
        assert not unpaired(upstream.requests[-1].body)
    of_writes = [line for line in ledger.lines("effect") if line.tool in EFFECTS]
    assert max(Counter(line.key for line in of_writes).values(), default=0) <= 1
    assert {line.call_id for line in of_writes} <= answered
    assert upstream.refused == []
    return outcomes


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 20))
async def test_a_write_runs_at_most_once_and_its_result_is_no_lie_through_five_hundred_kills(
    home: Nursery, seed: int, tmp_path: Path
) -> None:
    """Twenty-five of them for each seed."""
    chance = random.Random(seed)
    witnesses: list[Witness] = []
    async with Upstream.open(default=Vendor(seed).answer) as upstream:
        environ = upstream_environ(upstream)
        for _ in range(KILLS):
            async with home.life(tmp_path, environ) as life:
                witnesses += await live(life, chance)
        async with home.life(tmp_path, environ) as life:
            outcomes = await check_all(life, upstream, witnesses, Ledger(tmp_path))
    assert outcomes["complete"] > KILLS  # so that it was worth the while
    assert all(outcomes[f"{name} ok"] for name in TOOLS)
    assert outcomes["change unknown"] + outcomes["change_apart unknown"] > 0
    assert sum(outcomes[f"{name} error"] for name in EFFECTS) > 0


@pytest.mark.slow
async def test_legato_serve_goes_on_with_what_it_was_killed_in(tmp_path: Path) -> None:
    """The command itself, killed twice."""
    chance = random.Random(FIRST_SEED)
    witnesses: list[Witness] = []
    async with Upstream.open(default=Vendor(FIRST_SEED).answer) as upstream:
        environ = upstream_environ(upstream)
        for _ in range(2):
            async with spawned(tmp_path, environ=environ, tools=SERVED) as child:
                witnesses += await live(child, chance)
                await child.kill()
        async with spawned(tmp_path, environ=environ, tools=SERVED) as child:
            outcomes = await check_all(child, upstream, witnesses, Ledger(tmp_path))
    assert outcomes["complete"] == len(witnesses)
