"""A reader who is there before what a test does, and stays to the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
from tests.e2e.house import Visitor
from tests.patience import BOUND

from legato.core import events as e


@contextlib.asynccontextmanager
async def reading(house: Visitor, turn_id: str) -> AsyncIterator[list[e.Event]]:
    """A reader who has joined, and has read to the end when the block is left."""
    read: list[e.Event] = []
    joined = anyio.Event()

    async def follow() -> None:
        async for event in house.events(turn_id, each=True):
            read.append(event)
            joined.set()

    with anyio.fail_after(2 * BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await joined.wait()
            yield read
