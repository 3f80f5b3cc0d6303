"""A turn that lost its server is seen as ``recovering`` until its next owner has spoken (docs/http.md)."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.e2e.house import MODELS, House, Json, configured, playing, serving, unpaired, upstream_environ
from tests.patience import BOUND

from legato.core import events as e
from legato.core.resuming import RECOVERED, RECOVERIES, RELEASED
from legato.runtime.owning.owner import this_process
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, Gate, Say, Script, Upstream

pytestmark = pytest.mark.anyio

PAST, FUTURE = "2000-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"
DEAD = this_process().rpartition(":")[0] + ":1"
"""A process of this machine that had our number before us."""


async def left(folder: Path, upstream: Upstream, *, owner: str | None, lease: str | None) -> str:
    """A turn in the midst of its reply, whose server is gone; the row says who has it, and until when."""
    upstream.enqueue(Script([Say("Half of"), Gate("never")]))
    async with serving(configured(folder, environ=upstream_environ(upstream))) as house:
        turn_id = await house.ask("Go", model=MODELS["anthropic"])
        await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta))
    with contextlib.closing(sqlite3.connect(folder / "legato.db")) as database, database:
        database.execute("UPDATE turn SET owner = ?, lease_until = ? WHERE id = ?", [owner, lease, turn_id])
    return turn_id


async def seen(house: House, turn_id: str) -> set[str]:
    """The turn's status, wherever it is shown."""
    view = await house.turn(turn_id)
    branch = await house.get(f"/v1/chats/{view['chat_id']}/turns")
    tree = await house.get(f"/v1/chats/{view['chat_id']}/turns?tree=1")
    shown = [one["status"] for page in (branch, tree) for one in page["data"] if one["id"] == turn_id]
    return {view["status"], *shown}


@pytest.mark.parametrize(
    ("owner", "lease"),
    [
        # What the store says of a lease is watched for ten seconds before it is believed.
        pytest.param("elsewhere:1:1", PAST, id="lease over", marks=pytest.mark.slow),
        pytest.param(DEAD, FUTURE, id="dead"),
        pytest.param(None, None, id="let go of"),
    ],
)
async def test_a_turn_that_nobody_runs_is_recovering_until_it_goes_on(
    owner: str | None, lease: str | None, tmp_path: Path
) -> None:
    store = FaultyStore()
    store.hold("claim")
    async with Upstream.open() as upstream:
        turn_id = await left(tmp_path, upstream, owner=owner, lease=lease)
        upstream.enqueue(Script([Say("All of it."), Gate("on")]))
        async with serving(configured(tmp_path, environ=upstream_environ(upstream)), around=store.over) as house:
            await store.reached("claim", patience=BOUND)
            before = await seen(house, turn_id)
            store.back()
            store.hold("intents")
            await store.reached("intents")
            claimed = await seen(house, turn_id)
            store.back()
            await upstream.reached("on")
            after = await seen(house, turn_id)
            upstream.release("on")
            events = await house.followed(turn_id)
            ended = await seen(house, turn_id)
    assert (before, claimed, after, ended) == ({"recovering"}, {"recovering"}, {"running"}, {"complete"})
    assert [event.code for event in events if isinstance(event, e.Notice)] == [RELEASED, RECOVERED]


async def test_a_turn_of_another_machine_runs_as_long_as_its_lease_does(tmp_path: Path) -> None:
    async with Upstream.open() as upstream:
        turn_id = await left(tmp_path, upstream, owner="elsewhere:1:1", lease=FUTURE)
        async with serving(configured(tmp_path, environ=upstream_environ(upstream))) as house:
            assert await seen(house, turn_id) == {"running"}


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["begin", "claim"])
async def test_a_turn_that_a_server_was_given_unheard_does_not_run_for_ever(lost: str, tmp_path: Path) -> None:
    """The store did it and could not say so: the server has the turn, lives on, and does not know."""
    store = FaultyStore()
    async with playing(tmp_path, around=store.over) as (house, upstream):
        upstream.enqueue(Script([Say("First."), Gate("talking")]), Script([Say("Second.")]))
        post = {"input": "Two", "turn_id": "two", "model": MODELS["anthropic"]}
        if lost == "begin":
            store.lose_answers("begin")
            assert (await house.client.post("/v1/turns", json=post)).status_code == 503
            upstream.release("talking")
        else:
            started = await house.post("One", model=MODELS["anthropic"])
            await upstream.reached("talking")
            await house.post(**post, chat_id=started["chat"]["id"], on_busy="queue")
            store.lose_answers("claim")
            upstream.release("talking")
            await store.reached("claim")
            await store.reached("to_wake", times=store.calls.count("to_wake") + 2)  # it has heard of the failure
        store.back()
        turn = await house.folded("two")
    assert turn.status == "complete"


async def test_a_turn_that_is_handed_on_again_and_again_is_not_given_up(tmp_path: Path) -> None:
    """Servers that stop in good order take nothing of its budget, though it comes no further."""
    async with Upstream.open() as upstream:
        config = configured(tmp_path, environ=upstream_environ(upstream))
        for _ in range(RECOVERIES + 3):
            upstream.enqueue(Script([Say("Half of"), Gate("never")]))
        upstream.enqueue(Script([Say("All of it.")]))
        async with serving(config) as house:
            turn_id = await house.ask("Go", model=MODELS["anthropic"])
            await upstream.reached("never")
        for times in range(2, RECOVERIES + 4):
            async with serving(config):
                await upstream.reached("never", times=times)
        async with serving(config) as house:
            turn = await house.folded(turn_id)
    assert (turn.error, [block.text for block in turn.blocks]) == (None, ["All of it."])


@pytest.mark.parametrize("spoiled", [b"block_stop", b"round_start", b"turn_start"])
async def test_a_turn_whose_log_cannot_be_read_is_ended_and_costs_nobody_else_anything(
    spoiled: bytes, tmp_path: Path
) -> None:
    """As when a disk has lost a bit, or an older server meets events of a newer one. What stands before it stands."""
    async with Upstream.open() as upstream:
        config = configured(tmp_path, environ=upstream_environ(upstream))
        upstream.enqueue(Script([Call("look", {}), Say("Half of"), Gate("never")]))
        async with serving(config) as house:
            started = await house.post("Go", model=MODELS["anthropic"])
            turn_id = started["assistant_turn"]["id"]
            await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta) and "Half" in event.text)
        with contextlib.closing(sqlite3.connect(tmp_path / "legato.db")) as database, database:
            database.execute(
                "UPDATE log SET lines = CAST(replace(CAST(lines AS TEXT), ?, 'block_blown') AS BLOB) WHERE turn_id = ?",
                [spoiled.decode(), turn_id],
            )
        upstream.enqueue(Script([Say("As ever.")]), Script([Say("Go on.")]))
        async with serving(config) as house:
            other = await house.folded(await house.ask("Other", model=MODELS["anthropic"]))
            with anyio.fail_after(BOUND):
                while (view := await looked_at(house, turn_id)) is None:
                    await anyio.lowlevel.checkpoint()
            after = await house.folded(await house.ask("On", chat_id=started["chat"]["id"], model=MODELS["anthropic"]))
        assert not unpaired(upstream.requests[-1].body)
    assert (other.status, after.status) == ("complete", "complete")
    assert (view["status"], view["error"]["code"]) == ("error", "log_unreadable")
    assert [block["type"] for block in view["blocks"]] == (["tool_use"] if spoiled == b"block_stop" else [])


async def looked_at(house: House, turn_id: str) -> Json | None:
    """The turn, once it has ended: until then what is stored of it cannot be shown."""
    answer = await house.client.get(f"/v1/turns/{turn_id}")
    return answer.json() if answer.status_code == 200 and answer.json()["ended_at"] else None
