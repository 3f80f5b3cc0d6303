"""``kill -9`` after each record of a turn that is stored, on every wire: the next server goes on with it by itself.

A ``write`` takes effect at most once, an ``idempotent`` call under one key however often, every call is answered, and
whoever comes back to read folds what the rows hold. The turn's id says where its servers die (deadly.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from signal import SIGKILL
from types import MappingProxyType
from typing import NamedTuple

import httpx
import pytest
from tests.conformance.deadly import points_of
from tests.conformance.ledger import Ledger
from tests.conformance.nursery import Nursery
from tests.conformance.wires import EVERY_WIRE, calls_in
from tests.conformance.witness import Witness, agree
from tests.e2e.house import MODELS, Json, unpaired, upstream_environ

from legato.core.blocks import TextBlock, ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn
from legato.testing.script import Step, Wire
from legato.testing.upstream import Answer, Call, Gate, Request, Say, Script, Upstream, round_of

pytestmark = pytest.mark.slow

TOOLS = ("look", "put", "change", "settle")
LAST = "All is done."


class Kill(NamedTuple):
    """``adopted``: so many calls stand, of a response that was cut; 0 where all four do, of one that ended well.
    ``but`` says of a tool, where it is not ``ok`` after one effect, what its call comes to and its effects.
    ``asked``: how often the outside is asked what became of ``settle``."""

    at: str
    adopted: int = 0
    but: Mapping[str, tuple[str, int]] = MappingProxyType({})
    asked: int = 0


NEVER_KNOWN = {"change": ("unknown", 0)}
NOT_DONE = {"settle": ("error", 0)}
KILLS = [
    # Nothing of the response is stored: the model is asked again.
    Kill("accepted"),
    Kill("before_beginning"),
    Kill("round_start_1"),
    # The stream stands behind the sealed call: what was held is not executed.
    Kill("sealed_look", adopted=1),
    Kill("sealed_put", adopted=2),
    Kill("sealed_change", adopted=3),
    Kill("sealed_settle", adopted=4),
    Kill("result_look", adopted=1),
    # The response has ended well, and the calls with effects run one after the other. With each result the intent of
    # the next call is stored, so that it may have begun.
    Kill("round_stop_1"),
    Kill("begun_put"),
    Kill("effect_put"),
    Kill("before_result_put"),
    Kill("result_put", but=NEVER_KNOWN),
    Kill("intent_change", but=NEVER_KNOWN),
    Kill("begun_change", but=NEVER_KNOWN),
    Kill("effect_change", but={"change": ("unknown", 1)}),
    Kill("before_result_change", but={"change": ("unknown", 1)}),
    Kill("result_change", but=NOT_DONE, asked=1),
    Kill("intent_settle", but=NOT_DONE, asked=1),
    Kill("begun_settle", but=NOT_DONE, asked=1),
    Kill("effect_settle", asked=1),
    Kill("before_result_settle", asked=1),
    Kill("result_settle"),
    # Every call has its result.
    Kill("readings"),
    Kill("round_start_2"),
    Kill("before_end"),
    Kill("end"),
    # The next owner dies too.
    Kill("accepted-claimed"),
    Kill("sealed_put-round_stop_1", adopted=2),
    Kill("round_stop_1-before_beginning"),
    Kill("effect_put-effect_put"),
    Kill("intent_change-claimed", but=NEVER_KNOWN),
    Kill("effect_change-before_beginning", but={"change": ("unknown", 1)}),
    Kill("effect_settle-before_result_settle", asked=2),
    Kill("begun_settle-result_settle", but=NOT_DONE, asked=1),
]
USUAL = {"accepted", "sealed_change", "effect_put", "effect_change", "effect_settle"}
"""Those that the usual run of the tests has; the others are slow together."""
STANDS_BEHIND = {"round_start_1": 0, "before_beginning": 0, "result_look": 1} | {
    f"sealed_{name}": number for number, name in enumerate(TOOLS, start=1)
}
"""After how many calls the stream stands, so that the record is the last one stored."""


class Vendor:
    """Asks for the four calls in one response, and is then done. ``life`` counts the servers, from 0."""

    def __init__(self, at: str) -> None:
        self._points = points_of(at)
        self.life = 0

    def answer(self, request: Request) -> Answer:
        if round_of(request):
            return Script([Say(LAST)])
        steps: list[Step] = [Call(name, {"what": "it"}) for name in TOOLS]
        behind = STANDS_BEHIND.get(self._points[self.life]) if self.life < len(self._points) else None
        return Script(steps if behind is None else [*steps[:behind], Gate("for ever")])


class Played(NamedTuple):
    turn: Turn
    bodies: list[Json]
    """Of every request that the vendor took, those of a further turn of the chat included."""


async def play(home: Nursery, at: str, wire: Wire, folder: Path) -> Played:
    """Live until the turn has ended, in as many servers as it takes, and once more ask in its chat."""
    witness = Witness(f"{at}--{wire}")
    vendor = Vendor(witness.turn_id)
    async with Upstream.open(default=vendor.answer) as upstream:
        environ = upstream_environ(upstream)
        for vendor.life in range(len(points_of(witness.turn_id))):
            async with home.life(folder, environ) as life:
                with contextlib.suppress(httpx.TransportError):
                    if vendor.life == 0:
                        await life.ask("Go on", model=MODELS[wire], turn_id=witness.turn_id)
                    await witness.watch(life)
                assert await life.died() == SIGKILL
        vendor.life += 1
        async with home.life(folder, environ) as life:
            await witness.watch(life)
            turn = await agree(life, witness)
            view = await life.turn(witness.turn_id)
            upstream.enqueue(Script([Say("Yes.")]))
            further = await life.ask("And?", chat_id=view["chat_id"], model=MODELS[wire])
            assert (await life.folded(further)).status == "complete"
        assert upstream.refused == []
        return Played(turn, [request.body for request in upstream.requests])


def check(kill: Kill, turn: Turn, ledger: Ledger) -> None:
    """Each call came to what it must, and what is said of it is true."""
    calls = {block.tool_name: block for block in turn.blocks if isinstance(block, ToolUseBlock)}
    results = {block.tool_name: block for block in turn.blocks if isinstance(block, ToolResultBlock)}
    assert tuple(calls) == TOOLS[: kill.adopted or 4]
    for name in calls:
        effects = len(ledger.lines("effect", call_id=results[name].call_id))
        held = bool(kill.adopted) and name != "look"
        outcome, expected = ("error", 0) if held else kill.but.get(name, ("ok", 1))
        assert results[name].outcome == outcome, name
        if held:
            assert results[name].error.code == "not_executed"  # type: ignore[union-attr]
        if name in ("change", "settle") or expected == 0:
            assert effects == expected, name
        else:
            assert effects >= expected, name
    of_writes = [line for name in ("change", "settle") for line in ledger.lines("effect") if line.tool == name]
    assert len({line.key for line in of_writes}) == len(of_writes)
    assert len({line.key for line in ledger.lines("begun") if line.tool == "put"}) <= 1
    asked = ledger.lines("reconcile")
    assert len(asked) == kill.asked
    assert len({line.key for line in asked}) <= 1


@EVERY_WIRE
@pytest.mark.parametrize(
    "kill",
    [pytest.param(kill, id=kill.at, marks=[] if kill.at in USUAL else [pytest.mark.slow]) for kill in KILLS],
)
async def test_killed_at_any_record_a_turn_goes_on_and_no_write_is_done_twice(
    home: Nursery, kill: Kill, wire: Wire, tmp_path: Path
) -> None:
    turn, bodies = await play(home, kill.at, wire, tmp_path)
    assert (turn.status, turn.stop_reason) == ("complete", "end")
    assert [record.commitment for record in turn.rounds] == ["adopted" if kill.adopted else "committed", "committed"]
    assert [block.text for block in turn.blocks if isinstance(block, TextBlock)] == [LAST]
    check(kill, turn, Ledger(tmp_path))
    *_, last, further = bodies
    for body in (last, further):
        assert unpaired(body) == []
        sent = calls_in(wire, body)
        assert [call.name for call in sent] == list(TOOLS[: kill.adopted or 4])
        assert all(call.result is not None for call in sent)


@EVERY_WIRE
async def test_a_turn_that_kills_every_server_ends_in_an_error(home: Nursery, wire: Wire, tmp_path: Path) -> None:
    """Three times in a row it comes no further after its reply was adopted. Then it must end, its calls answered."""
    turn, bodies = await play(home, "-".join(["begun_look", *["beginning"] * 4]), wire, tmp_path)
    assert unpaired(bodies[-1]) == []
    assert (turn.status, turn.stop_reason) == ("error", "error")
    assert turn.error is not None
    assert turn.error.code == "recovery_exhausted"
