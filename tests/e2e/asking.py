"""Calls that wait for people and clients: find them over HTTP, and answer them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import anyio
from tests.e2e.house import Json, Visitor
from tests.patience import BOUND

from legato.core import events as e
from legato.core.blocks import ToolResultBlock
from legato.core.fold import Turn

PICK: Json = {"name": "pick", "description": "Let the user pick.", "input_schema": {"type": "object"}}
"""A client's tool, as it is posted with a turn."""


def gave(output: str, event: e.Event) -> bool:
    """The end of a result with this output."""
    return isinstance(event, e.BlockStop) and event.output == output


def results(turn: Turn) -> dict[str, ToolResultBlock]:
    """By call id."""
    return {block.call_id: block for block in turn.blocks if isinstance(block, ToolResultBlock)}


def result(turn: Turn) -> ToolResultBlock:
    """The only one."""
    (only,) = results(turn).values()
    return only


async def asked(visitor: Visitor, turn_id: str, *, times: int = 1, after: int = 0) -> list[e.CallWaiting]:
    """The first ``call_waiting`` after that seq."""
    found: list[e.CallWaiting] = []
    with anyio.fail_after(BOUND):
        async with aclosing(visitor.events(turn_id, after=after, each=True)) as events:
            async for event in events:
                if isinstance(event, e.CallWaiting):
                    found.append(event)
                    if len(found) == times:
                        return found
    raise AssertionError(f"the turn asked {len(found)} times")


async def rests(visitor: Visitor, turn_id: str, *, after: int = 0) -> int:
    """The seq of the first ``turn_waiting`` after that one."""
    with anyio.fail_after(BOUND):
        async with aclosing(visitor.events(turn_id, after=after, each=True)) as events:
            async for event in events:
                if isinstance(event, e.TurnWaiting):
                    return event.seq
    raise AssertionError("the turn never waited")


async def answer(visitor: Visitor, turn_id: str, call_id: str, *, status: int = 202, **fields: Json) -> Json:
    """To what waits for a person; approves if nothing else is said."""
    body = {"call_id": call_id, "decision": "approve", **fields}
    said = await visitor.client.post(f"/v1/turns/{turn_id}/approvals", json=body)
    assert said.status_code == status, said.text
    return said.json()


async def give(visitor: Visitor, turn_id: str, *given: Json, status: int = 202) -> Json:
    """The results of a client's tools."""
    said = await visitor.client.post(f"/v1/turns/{turn_id}/tool_results", json={"results": given})
    assert said.status_code == status, said.text
    return said.json()


def row_of(folder: Path, turn_id: str) -> tuple[str, str | None]:
    """The turn's status and owner as SQL has them."""
    with contextlib.closing(sqlite3.connect(folder / "legato.db")) as database:
        status, owner = database.execute("SELECT status, owner FROM turn WHERE id = ?", [turn_id]).fetchone()
    return status, owner


def owners(spans: Sequence[Json]) -> list[Json]:
    return [span for span in spans if span["kind"] == "owner"]


has_given = partial(partial, gave)
"""``has_given("seen")`` is true of the end of a result with this output."""
