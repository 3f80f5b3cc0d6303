"""One server, one chat, and a tool whose calls end when they are let go: where a fault is played."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from tests.conformance.wires import SentCall, calls_in
from tests.conformance.witness import Witness, agree
from tests.e2e.house import MODELS, House, Json, playing, unpaired
from tests.patience import BOUND

from legato import tool
from legato.core.fold import Turn
from legato.testing.script import Wire
from legato.testing.upstream import Call, Upstream

CALLS = [Call("look", {"number": number}) for number in range(4)]
SILENT: Json = {"providers__anthropic__idle_timeout": 0.3, "providers__openai__idle_timeout": 0.3}
"""A vendor that says nothing for so many seconds has broken off."""


class Stage:
    """``ran`` counts the runs of each call, by its number; ``witness`` reads the newest turn."""

    def __init__(self, house: House, upstream: Upstream, wire: Wire) -> None:
        self.house = house
        self.upstream = upstream
        self.wire = wire
        self.ran: Counter[int] = Counter()
        self.cancelled: list[int] = []
        self.let_go = anyio.Event()
        self.witness = Witness("")
        self.chat_id = ""

    async def look(self, number: int) -> str:
        self.ran[number] += 1
        try:
            with anyio.fail_after(BOUND):
                await self.let_go.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(number)
            raise
        return f"seen {number}"

    async def ask(self, said: str) -> None:
        started = await self.house.post(
            said, model=MODELS[self.wire], **({"chat_id": self.chat_id} if self.chat_id else {})
        )
        self.chat_id = started["chat"]["id"]
        self.witness = Witness(started["assistant_turn"]["id"])

    async def agree(self) -> Turn:
        """The turn as everybody has it, and no request broke a rule of its vendor's."""
        turn = await agree(self.house, self.witness)
        assert self.upstream.refused == []
        return turn

    def sent(self) -> list[SentCall]:
        """The calls that the newest request carried, each with its result."""
        body = self.upstream.requests[-1].body
        assert unpaired(body) == []
        return calls_in(self.wire, body)


@asynccontextmanager
async def stage(folder: Path, wire: Wire) -> AsyncIterator[Stage]:
    made: list[Stage] = []

    @tool(effect="read")
    async def look(number: int) -> str:
        """Looks in one place."""
        return await made[0].look(number)

    @tool(effect="read")
    async def glance() -> str:
        """Looks anywhere, at once."""
        return "glanced"

    async with playing(folder, tools=(look, glance), grace=0.05, **SILENT) as (house, upstream):
        made.append(Stage(house, upstream, wire))
        yield made[0]
