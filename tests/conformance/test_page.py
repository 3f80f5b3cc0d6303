"""A page of calls in one response: as many as ``limits.calls_per_round`` allows, and not one more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.conformance.wires import EVERY_WIRE, calls_in
from tests.conformance.witness import Witness, agree
from tests.e2e.house import MODELS, Json, playing, unpaired

from legato import tool
from legato.testing.script import Wire
from legato.testing.upstream import Call, Script

PAGE = 100


@EVERY_WIRE
async def test_a_page_of_a_hundred_calls_runs_where_the_limit_is_raised(wire: Wire, tmp_path: Path) -> None:
    """At the default 64 run, and the 65th and those behind it are refused with their numbers."""
    ran: Counter[int] = Counter()

    @tool(effect="read")
    async def look(number: int) -> str:
        """Looks in one place."""
        ran[number] += 1
        return f"seen {number}"

    raised: Json = {"limits__calls_per_round": PAGE}
    for limits, allowed in ((raised, PAGE), ({}, 64)):
        folder = tmp_path / str(allowed)
        folder.mkdir()
        ran.clear()
        async with playing(folder, tools=(look,), **limits) as (house, upstream):
            upstream.enqueue(Script([Call("look", {"number": number}) for number in range(PAGE)]))
            witness = Witness(await house.ask("Look everywhere", model=MODELS[wire]))
            await witness.watch(house)
            turn = await agree(house, witness)
            body = upstream.requests[-1].body
            assert (upstream.refused, unpaired(body)) == ([], [])
        sent = calls_in(wire, body)
        assert turn.status == "complete"
        assert ran == Counter(range(allowed))
        assert len({call.id for call in sent}) == PAGE
        assert [call.result for call in sent[:allowed]] == [f"seen {number}" for number in range(allowed)]
        for number, call in enumerate(sent[allowed:], start=allowed + 1):
            assert f"this is call {number} of the reply, limit is {allowed}" in str(call.result)
