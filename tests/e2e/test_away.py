"""A store that is away from one process for longer than a lease, and comes back: whose the turn is by then (P6, P8).

Two servers on one file. The one that runs the turn is this process, and only its own store fails; the clock is moved
for both, so that by the file the lease is over and whoever looks may take the turn up.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.core.test_verifying import found_in
from tests.e2e.house import MODELS, Child, House, configured, serving, spawned, upstream_environ
from tests.e2e.joined import reading
from tests.patience import BOUND, until

from legato import tool
from legato.core import events as e
from legato.core.fold import fold
from legato.core.records import LEASE_SECONDS
from legato.runtime.owning.lease import MARGIN_SECONDS, RENEW_SECONDS
from legato.testing.clock import JumpingClock
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, Gate, Say, Script, Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SAVE = '''
from pathlib import Path

from legato import tool

@tool(effect="write")
def save(what: str) -> str:
    """Save it."""
    with Path("effects").open("a") as effects:
        effects.write(what)
    return "saved"
'''


class Two(NamedTuple):
    owner: House
    store: FaultyStore
    """The owner's."""
    other: Child
    upstream: Upstream
    clock: JumpingClock


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[Two]:
    @tool(effect="write")
    def save(what: str) -> str:
        """Save it."""
        with (folder / "effects").open("a") as effects:
            effects.write(what)
        return "saved"

    clock, store = JumpingClock(folder / "clock"), FaultyStore()

    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        async with (
            spawned(folder, environ=environ, clock=clock, tools=SAVE) as other,
            serving(configured(folder, environ=environ), tools=(save,), clock=clock, around=store.over) as owner,
        ):
            try:
                yield Two(owner, store, other, upstream, clock)
            finally:
                store.back()


def row(folder: Path, turn_id: str) -> tuple[int, str, bool]:
    """Epoch and status by the file, and whether it has ended."""
    with contextlib.closing(sqlite3.connect(folder / "legato.db")) as database:
        query = "SELECT epoch, status, ended_at IS NOT NULL FROM turn WHERE id = ?"
        [(epoch, status, ended)] = database.execute(query, [turn_id]).fetchall()
    return epoch, status, bool(ended)


async def ended_for_want_of_a_store(two: Two, folder: Path) -> tuple[str, str, list[e.Event]]:
    """A turn of the owner that has had its effect, and talks when the store goes away from it. Its chat and itself, and
    what its reader heard to the end. By then the lease is over, and nobody has renewed it."""
    owner, store, _, upstream, clock = two
    upstream.enqueue(
        Script([Call("save", {"what": "once."})]),
        Script([Say("Saved. "), Gate("here"), Say("And more."), Gate("never")]),
    )
    started = await owner.post("Save it", model=MODELS["anthropic"])
    turn_id = started["assistant_turn"]["id"]
    await upstream.reached("here")
    async with reading(owner, turn_id) as read:
        store.away()
        # As much as may pass, and leave the owner the seconds in which it gives up on its store.
        clock.skip(LEASE_SECONDS - MARGIN_SECONDS - RENEW_SECONDS - 4)
        upstream.release("here")
    end = read[-1]
    assert isinstance(end, e.TurnEnd)
    assert isinstance(end.error, e.ErrorInfo)
    assert end.error.code == "persistence_failed"
    assert fold(read).blocks[-2].text + fold(read).blocks[-1].text == "Saved. And more."
    clock.skip(LEASE_SECONDS)
    clock.jump(2 * LEASE_SECONDS)
    return started["chat"]["id"], turn_id, read


async def test_what_its_owner_spooled_is_stored_by_the_other_before_it_would_take_the_turn_up(tmp_path: Path) -> None:
    """So it is ended as its reader heard, by nobody but its owner; nothing is lost, and nothing done twice."""
    async with two(tmp_path) as servers:
        chat_id, turn_id, read = await ended_for_want_of_a_store(servers, tmp_path)
        owner, store, other, upstream, _ = servers
        await until(lambda: row(tmp_path, turn_id)[2], bound=2 * BOUND)
        assert row(tmp_path, turn_id) == (0, "error", True)
        assert await other.followed(turn_id, each=True) == read
        assert "turn" in store.calls  # its own store is away all this time
        store.back()
        await until(lambda: not list((tmp_path / "legato.db.spool").iterdir()), bound=2 * BOUND)
        assert await owner.followed(turn_id, each=True) == read
        assert len(upstream.requests) == 2
        for server in (owner, other):
            upstream.enqueue(Script([Say("Yes.")]))
            next_turn = await server.ask("And now?", chat_id=chat_id, model=MODELS["anthropic"])
            assert (await server.folded(next_turn)).status == "complete"
    assert (tmp_path / "effects").read_text() == "once."
    assert found_in(tmp_path / "legato.db") == []


async def test_where_the_owner_has_no_spool_either_the_other_goes_on_from_what_is_stored(tmp_path: Path) -> None:
    """All else is spent: what the owner said since is lost, and its reader heard of an end that the turn did not have.
    It is one turn with one owner all the same, and its write is not done again."""
    (tmp_path / "legato.db.spool").write_text("a file where the folder would be")
    async with two(tmp_path) as servers:
        _, turn_id, read = await ended_for_want_of_a_store(servers, tmp_path)
        owner, store, other, upstream, _ = servers
        upstream.enqueue(Script([Say("It is saved.")]))
        turn = await other.folded(turn_id)
        assert (turn.status, turn.error, turn.blocks[-1].text) == ("complete", None, "It is saved.")
        assert row(tmp_path, turn_id) == (1, "complete", True)
        store.back()
        seen = await owner.followed(turn_id, each=True)
        assert fold(seen).blocks == turn.blocks
        own = [event for event in seen if event.seq < e.EPOCH_SIZE]
        assert own == read[: len(own)]
        assert len(upstream.requests) == 3
        assert row(tmp_path, turn_id) == (1, "complete", True)
    assert (tmp_path / "effects").read_text() == "once."
    assert found_in(tmp_path / "legato.db") == []
