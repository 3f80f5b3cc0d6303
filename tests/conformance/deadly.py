"""Where a server is killed: a turn's id says after which of its records, or at which moment of a tool.

Turn ``sealed_look--1`` kills its server once the sealed call of ``look`` is stored, ``before_sealed_look--1`` just
before; ``first-second--1`` kills its first owner at ``first`` and its second at ``second``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence

from legato import ToolContext
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.records import Answer, NewTurns, TurnWrite
from legato.ports import Begun, Store
from legato.testing.store import FaultyStore


def points_of(turn_id: str) -> list[str]:
    """Where each owner of the turn is killed, by epoch."""
    said, mark, _ = turn_id.rpartition("--")
    return said.split("-") if mark else []


def die_if(reached: str, turn_id: str, *, epoch: int) -> None:
    points = points_of(turn_id)
    if epoch < len(points) and points[epoch] == reached:
        os.kill(os.getpid(), signal.SIGKILL)


class DeadlyStore(FaultyStore):
    """Keeps what it is given; at a turn's point nothing of this process comes after that."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.epochs: dict[str, int] = {}
        """Of each turn whose owner is this process."""

    async def begin(self, new: NewTurns) -> Begun:
        accepted = await super().begin(new)
        self.epochs[new.assistant.id] = 0
        die_if("accepted", new.assistant.id, epoch=0)
        return accepted

    async def claim(self, turn_id: str, *, epoch: int, owner: str) -> bool:
        claimed = await super().claim(turn_id, epoch=epoch, owner=owner)
        self.epochs[turn_id] = epoch
        die_if("claimed", turn_id, epoch=epoch)
        return claimed

    async def answer(self, turn_id: str, answers: Sequence[Answer]) -> None:
        await super().answer(turn_id, answers)
        die_if("answered", turn_id, epoch=self.epochs.get(turn_id, 0))

    async def write(self, writes: Sequence[TurnWrite]) -> None:
        reached = [(point, one) for one in writes for point in records_in(one)]
        for point, one in reached:
            die_if(f"before_{point}", one.turn_id, epoch=one.epoch)
        await super().write(writes)
        for point, one in reached:
            die_if(point, one.turn_id, epoch=one.epoch)

    def in_tool(self, moment: str, ctx: ToolContext) -> None:
        die_if(moment, ctx.turn_id, epoch=self.epochs[ctx.turn_id])


def records_in(write: TurnWrite) -> Iterator[str]:
    """What docs/tools.md says is stored, by the names of its tools and the numbers of its rounds."""
    if write.segment is not None and write.segment.first_seq % 1_000_000 == 1:
        yield "beginning"
    for block in write.blocks:
        if isinstance(block, ToolUseBlock) and block.state == "complete":
            yield f"sealed_{block.tool_name}"
        elif isinstance(block, ToolResultBlock):
            yield f"result_{block.tool_name}"
    for intent in write.intents:
        yield f"intent_{intent.tool_name}"
    for record in write.rounds:
        yield f"round_{'start' if record.commitment is None else 'stop'}_{record.round}"
    if write.readings:
        yield "readings"
    if write.needs:
        yield "need"
    if write.taken:
        yield "taken"
    if write.rest is not None:
        yield "rest"
    if write.ending is not None:
        yield "end"
