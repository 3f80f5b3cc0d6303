"""Two servers on one database: what is asked of either reaches the turn, wherever it runs (hazard 19)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
from tests.e2e.house import MODELS, Child, House, configured, serving, spawned, upstream_environ
from tests.patience import BOUND

from legato import tool
from legato.core import events as e
from legato.ports import Store
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, Gate, Say, Script, Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MODEL = MODELS["anthropic"]


@asynccontextmanager
async def two(
    folder: Path, *, around: Callable[[Store], Store] = lambda store: store
) -> AsyncIterator[tuple[Child, House, Upstream]]:
    """The first runs what it is asked, the second one is this process, with something ``around`` its store."""
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        async with (
            spawned(folder, environ=environ) as first,
            serving(configured(folder, environ=environ), around=around) as second,
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


@pytest.mark.parametrize("times", range(4))
async def test_a_steer_that_was_taken_is_said_though_its_turn_ends_at_once_elsewhere(
    times: int, tmp_path: Path
) -> None:
    """It comes in the second in which the owner has not looked: it is taken and said, or refused and not said."""
    store = FaultyStore()
    answers: list[httpx.Response] = []
    async with two(tmp_path, around=store.over) as (first, second, upstream):
        await talking(first, upstream)
        upstream.enqueue(Script([Say("Short.")]))

        async def say() -> None:
            body = {"text": "Shorter.", "steer_id": "s1"}
            answers.append(await second.client.post("/v1/turns/mine/steer", json=body))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say)
            await store.reached("steers")  # it lies in the store
            upstream.release("talking")
        turn = await first.folded("mine")
        await say()
    assert answers[0].status_code == answers[1].status_code
    states = [steer.state for steer in turn.steers]
    if answers[0].status_code == 202:
        assert states == ["accepted", "delivered"]
        assert answers[1].json()["steer"]["state"] == "delivered"
    else:
        assert (answers[0].json()["code"], states) == ("turn_ended", [])


async def test_a_cancel_asked_of_one_server_before_its_turn_is_posted_to_the_other(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second, upstream):
        early = await second.client.post("/v1/turns/mine/cancel")
        assert (early.status_code, early.json()["stored"]) == (202, True)
        await first.post("One", turn_id="mine", model=MODEL)
        turn = await second.folded("mine")
        assert not upstream.requests
    assert turn.status == "cancelled"


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


async def test_a_chat_is_deleted_once_the_other_server_has_stopped_its_turn(tmp_path: Path) -> None:
    """It may be in the middle of a tool, and says nothing for as long as that takes."""
    started, stopped = anyio.Event(), anyio.Event()

    @tool(effect="read")
    async def look() -> str:
        """Never comes back by itself."""
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()
        return ""

    async with Upstream.open() as upstream:
        config = configured(tmp_path, environ=upstream_environ(upstream))
        async with serving(config, tools=(look,)) as here, spawned(tmp_path) as other:
            upstream.enqueue(Script([Call("look", {})]))
            chat_id = (await here.post("One", turn_id="mine", model=MODEL))["chat"]["id"]
            with anyio.fail_after(BOUND):
                await started.wait()
            deleted = await other.client.delete(f"/v1/chats/{chat_id}")
            assert deleted.status_code == 204
            assert stopped.is_set()
            assert (await here.client.get("/v1/turns/mine")).status_code == 404
