"""Faults of a seed, on a whole server: however a response breaks, and whatever the store does meanwhile, what was heard
is what is kept, and the chat goes on."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from tests.conformance.witness import Witness, agree
from tests.core.test_verifying import found_in
from tests.e2e.house import MODELS, Json, playing

from legato import tool
from legato.testing.chance import Chance
from legato.testing.script import Wire
from legato.testing.store import FaultyStore
from legato.testing.upstream import Answer, Call, Request, Say, Script, round_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TURNS = 12


@tool(effect="idempotent")
async def put(what: str) -> str:
    """Put something somewhere."""
    return f"put {what}"


class Vendor:
    """Two rounds of words and calls, and a last one; every other response has a fault."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def answer(self, request: Request) -> Answer:
        number = round_of(request)
        if number == 2:
            return Script([Say("Done.")])
        script = Script([Say("I put it there. ", pace=200), Call("put", {"what": f"{number}"}), Say("And on.")])
        return self._chance.provider().of(script) if self._chance.happens(0.5) else script


@pytest.mark.parametrize("wire", MODELS)
@pytest.mark.parametrize("seed", [1, 2])
async def test_what_was_heard_is_kept_and_the_chat_goes_on_however_responses_break(
    seed: int, wire: Wire, tmp_path: Path
) -> None:
    flags: dict[str, Json] = {f"providers__{name}__idle_timeout": 0.5 for name in ("anthropic", "openai")}
    vendor = Vendor(Chance(seed))
    async with playing(tmp_path, tools=(put,), **flags) as (house, upstream):
        upstream._default = vendor.answer
        witnesses = [Witness(await house.ask("Go", model=MODELS[wire])) for _ in range(TURNS)]
        async with anyio.create_task_group() as readers:
            for witness in witnesses:
                readers.start_soon(witness.watch, house)
        ended = {(await agree(house, witness)).status for witness in witnesses}
        upstream._default = Script([Say("Go on.")])
        for witness in witnesses:
            chat_id = (await house.turn(witness.turn_id))["chat_id"]
            further = await house.ask("And?", chat_id=chat_id, model=MODELS[wire])
            assert (await house.folded(further)).status == "complete"
        assert upstream.refused == []
    assert ended == {"complete", "error"}
    assert found_in(tmp_path / "legato.db") == []


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_was_said_is_kept_however_the_store_fails_for_a_while(seed: int, tmp_path: Path) -> None:
    chance, store = Chance(seed), FaultyStore()
    async with playing(tmp_path, tools=(put,), around=store.over) as (house, upstream):
        said = Say("I put it there. " * 10, pace=100)
        calls = [Script([said, Call("put", {"what": f"{number}"})]) for number in (1, 2)]
        upstream._default = lambda request: (*calls, Script([Say("Done.")]))[round_of(request)]
        witnesses = [Witness(await house.ask("Go", model=MODELS["anthropic"])) for _ in range(TURNS)]
        async with anyio.create_task_group() as readers:
            for witness in witnesses:
                readers.start_soon(witness.watch, house)
            for _ in range(3):
                await chance.store().on(store)
        for witness in witnesses:
            assert (await agree(house, witness)).status == "complete"
    assert found_in(tmp_path / "legato.db") == []
