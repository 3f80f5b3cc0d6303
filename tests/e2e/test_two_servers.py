"""Two servers on one database: what is asked of either reaches the turn, wherever it runs (hazard 19)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.e2e.house import BOUND, MODELS, Child, House, configured, serving, spawned, upstream_environ

from legato.core import events as e
from legato.testing.upstream import Gate, Say, Script, Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MODEL = MODELS["anthropic"]


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Child, House, Upstream]]:
    """The first runs what it is asked, the second one is this process."""
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        async with (
            spawned(folder, environ=environ) as first,
            serving(configured(folder, environ=environ)) as second,
        ):
            yield first, second, upstream


async def talking(first: Child, upstream: Upstream, *, turn_id: str = "mine") -> str:
    """A turn of the first one that stands at the gate; its chat's id."""
    upstream.enqueue(Script([Say("First."), Gate("talking")]))
    started = await first.post("One", turn_id=turn_id, model=MODEL)
    await upstream.reached("talking")
    chat_id: str = started["chat"]["id"]
    return chat_id


async def test_a_cancel_asked_of_one_server_stops_the_turn_of_the_other(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second, upstream):
        await talking(first, upstream)
        assert (await second.cancel("mine"))["stored"] is True
        turn = await first.folded("mine")
        await upstream.hung_up(1)
    assert (turn.status, turn.blocks[0].text) == ("cancelled", "First.")


async def test_a_cancel_after_the_round_keeps_its_mode_on_the_way(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second, upstream):
        await talking(first, upstream)
        await second.client.post("/v1/turns/mine/cancel", json={"mode": "after_round"})
        await second.client.post("/v1/turns/mine/steer", json={"text": "Heard?"})
        await first.until("mine", lambda event: isinstance(event, e.Steer))  # the first one has looked
        upstream.release("talking")
        turn = await first.folded("mine")
    assert (turn.status, turn.rounds[0].commitment) == ("cancelled", "committed")
    assert [steer.state for steer in turn.steers] == ["accepted", "returned"]


async def test_a_steer_said_to_one_server_reaches_the_turn_of_the_other(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second, upstream):
        await talking(first, upstream)
        answer = await second.client.post("/v1/turns/mine/steer", json={"text": "Shorter.", "steer_id": "s1"})
        assert (answer.status_code, answer.json()["steer"]["state"]) == (202, "accepted")
        await first.until("mine", lambda event: isinstance(event, e.Steer))
        upstream.enqueue(Script([Say("Short.")]))
        upstream.release("talking")
        turn = await second.folded("mine")
        again = await second.client.post("/v1/turns/mine/steer", json={"text": "Shorter.", "steer_id": "s1"})
    assert turn.rounds[1].steers == ("Shorter.",)
    assert again.json()["steer"]["state"] == "delivered"


@pytest.mark.parametrize("on_busy", ["queue", "interrupt"])
async def test_a_turn_queued_at_one_server_begins_once_after_that_of_the_other(on_busy: str, tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second, upstream):
        chat_id = await talking(first, upstream)
        upstream.enqueue(Script([Say("Second.")]))
        turn_id = await second.ask("Two", chat_id=chat_id, on_busy=on_busy, model=MODEL)
        if on_busy == "queue":
            upstream.release("talking")
        turn = await second.folded(turn_id)
        before = await first.folded("mine")
        assert len(upstream.requests) == 2
    assert turn.blocks[0].text == "Second."
    assert before.status == ("complete" if on_busy == "queue" else "cancelled")


async def test_a_queued_turn_that_the_other_server_ended_is_forgotten(tmp_path: Path) -> None:
    """Seen by reading: such turns stayed in the memory of the server that had queued them."""
    async with two(tmp_path) as (first, second, upstream):
        chat_id = await talking(first, upstream)
        queued = await second.ask("Two", chat_id=chat_id, on_busy="queue", model=MODEL)
        assert list(second.service._running._queued) == [queued]
        await first.cancel(queued)
        assert (await first.folded(queued)).status == "cancelled"
        with anyio.fail_after(BOUND):
            while second.service._running._queued:
                await anyio.lowlevel.checkpoint()
        upstream.release("talking")
