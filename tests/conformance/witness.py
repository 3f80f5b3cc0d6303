"""What is kept of a turn is what its readers saw: one who was there from the start, one who came late, and the rows."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
from tests.e2e.house import Visitor
from tests.patience import BOUND

from legato.core import events as e
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn, fold

Json = Any


class Witness:
    """Reads one turn from its first event on, each delta as it was."""

    def __init__(self, turn_id: str) -> None:
        self.turn_id = turn_id
        self.events: list[e.Event] = []
        self._more = anyio.Event()

    @property
    def after(self) -> int:
        return self.events[-1].seq if self.events else 0

    @property
    def turn(self) -> Turn:
        return fold(self.events)

    async def watch(self, visitor: Visitor) -> None:
        """Until the stream closes. Goes on where an earlier ``watch`` stopped."""
        async for event in visitor.events(self.turn_id, after=self.after, each=True):
            self.hear(event)

    def hear(self, event: e.Event) -> None:
        self.events.append(event)
        self._more.set()
        self._more = anyio.Event()

    async def saw(self, count: int, kind: type[e.Event]) -> None:
        """Return once so many events of the kind were read."""
        with anyio.fail_after(BOUND):
            while sum(isinstance(event, kind) for event in self.events) < count:
                await self._more.wait()

    async def saw_results(self, count: int) -> None:
        """Return once so many calls have their result."""
        with anyio.fail_after(BOUND):
            while sum(isinstance(block, ToolResultBlock) for block in self.turn.closed.values()) < count:
                await self._more.wait()


async def agree(visitor: Visitor, witness: Witness) -> Turn:
    """The turn, which has ended, once it is seen that all tell the same of it."""
    seen = witness.turn
    assert isinstance(witness.events[-1], e.TurnEnd)
    assert not seen.open
    turn_id = witness.turn_id
    for each in (True, False):
        late = fold(await visitor.followed(turn_id, each=each))
        assert (late.blocks, late.rounds, late.status) == (seen.blocks, seen.rounds, seen.status)
    rows = await visitor.turn(turn_id)
    assert rows["blocks"] == plain(seen.blocks)
    assert rows["rounds"] == plain(seen.rounds)
    assert (rows["status"], rows["stop_reason"], rows["last_seq"]) == (seen.status, seen.stop_reason, witness.after)
    assert answered_once(seen)
    return seen


def answered_once(turn: Turn) -> bool:
    """Each call that is whole has one result, and each result a call."""
    calls = [block.call_id for block in turn.blocks if isinstance(block, ToolUseBlock) and block.state == "complete"]
    results = [block.call_id for block in turn.blocks if isinstance(block, ToolResultBlock)]
    return sorted(calls) == sorted(results)


def plain(value: object) -> Json:
    return msgspec.json.decode(msgspec.json.encode(value))
