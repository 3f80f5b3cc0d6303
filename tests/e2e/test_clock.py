"""A wall clock that is set by hours while turns run, and a monotonic one that skips: nothing is lost or taken by it.

Two servers on one file have the machine's clock in common: ``two`` gives them one that jumps for both.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from tests.conformance.witness import Witness, agree
from tests.core.test_verifying import found_in
from tests.e2e.asking import answer, asked, owners, rests, result
from tests.e2e.house import MODELS, Child, House, configured, playing, serving, spawned, upstream_environ
from tests.patience import BOUND

from legato import tool
from legato.core import events as e
from legato.core.blocks import ToolResultBlock
from legato.core.records import LEASE_SECONDS
from legato.runtime.owning.lease import RENEW_SECONDS
from legato.testing.chance import Chance
from legato.testing.clock import JumpingClock
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, Gate, Say, Script, Upstream, round_of

pytestmark = pytest.mark.anyio

MODEL = MODELS["anthropic"]


@tool(effect="read")
async def look(at: str) -> str:
    """Look at something."""
    await anyio.sleep(0.02)
    return f"seen {at}"


@tool(effect="read", timeout=0.2)
async def stare() -> str:
    """Look at something for ever."""
    await anyio.sleep_forever()
    return "never"


@tool(effect="write", needs_approval=True)
async def drop(name: str) -> str:
    """Drop something, if a person agrees."""
    return f"dropped {name}"


# One server


@pytest.mark.parametrize("hours", [5, -5])
async def test_a_turn_runs_through_jumps_of_the_clock_at_each_of_its_moments(hours: int, tmp_path: Path) -> None:
    clock = JumpingClock()
    async with playing(tmp_path, tools=(look,), clock=clock) as (house, upstream):
        upstream.enqueue(
            Script([Say("I look. "), Gate("talking"), Call("look", {"at": "Oslo"}), Gate("called"), Say("Soon.")]),
            Script([Say("It "), Gate("in the last round"), Say("rains.")]),
        )
        turn_id = await house.ask("How is it?", model=MODEL)
        witness = Witness(turn_id)
        async with anyio.create_task_group() as readers:
            readers.start_soon(witness.watch, house)
            for gate in ("talking", "called", "in the last round"):
                await upstream.reached(gate)
                clock.jump(hours=hours)
                upstream.release(gate)
        turn = await agree(house, witness)
    assert (turn.status, turn.error, len(upstream.requests)) == ("complete", None, 2)
    assert [event.seq for event in witness.events] == list(range(1, witness.after + 1))
    assert found_in(tmp_path / "legato.db") == []


async def test_turns_and_their_versions_stand_in_the_order_they_were_made_though_the_clock_went_back(
    tmp_path: Path,
) -> None:
    clock = JumpingClock()
    async with playing(tmp_path, clock=clock) as (house, upstream):
        upstream.enqueue(*[Script([Say(f"Answer {number}.")]) for number in range(4)])
        first = await house.post("One", model=MODEL)
        made = [first["user_turn"]["id"], first["assistant_turn"]["id"]]
        chat_id = first["chat"]["id"]
        await house.followed(made[1])
        for said in ("Two", "Three"):
            clock.jump(hours=-2)
            more = await house.post(said, chat_id=chat_id, model=MODEL)
            made += [more["user_turn"]["id"], more["assistant_turn"]["id"]]
            await house.followed(made[-1])
        clock.jump(hours=-2)
        again = await house.post(prev_turn_id=made[-2], chat_id=chat_id, model=MODEL)
        made.append(again["assistant_turn"]["id"])
        await house.followed(made[-1])
        tree = await house.get(f"/v1/chats/{chat_id}/turns?tree=1")
        version = await house.turn(made[-1])
    assert [turn["id"] for turn in tree["data"]] == made
    assert made == sorted(made)
    assert version["siblings"] == made[-2:]
    assert found_in(tmp_path / "legato.db") == []


@pytest.mark.parametrize("hours", [5, -5])
async def test_the_times_that_a_turn_and_a_tool_have_are_counted_by_no_wall_clock(hours: int, tmp_path: Path) -> None:
    clock = JumpingClock()
    async with playing(tmp_path, tools=(stare,), clock=clock) as (house, upstream):
        upstream.enqueue(Script([Gate("asked"), Call("stare")]), Script([Say("Never mind."), Gate("never")]))
        turn_id = await house.ask("Stare", model=MODEL, limits={"seconds": 1.5})
        await upstream.reached("asked")
        clock.jump(hours=hours)
        upstream.release("asked")
        await upstream.reached("never")
        clock.jump(hours=hours)
        turn = await house.folded(turn_id)
    assert [block.outcome for block in turn.blocks if isinstance(block, ToolResultBlock)] == ["timeout"]
    assert (turn.status, turn.stop_reason) == ("complete", "limit_seconds")


async def test_where_the_time_went_stays_in_its_order_though_the_clock_went_back_while_the_turn_waited(
    tmp_path: Path,
) -> None:
    clock = JumpingClock()
    async with playing(tmp_path, tools=(drop,), clock=clock) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "it"})]), Script([Say("Gone.")]))
        turn_id = await house.ask("Drop it", model=MODEL)
        [asks] = await asked(house, turn_id)
        await rests(house, turn_id)
        clock.jump(hours=-5)
        await answer(house, turn_id, asks.call_id)
        turn = await house.folded(turn_id)
        spans = (await house.get(f"/v1/turns/{turn_id}/timeline"))["spans"]
    first, second = owners(spans)
    assert 0 <= first["start_ms"] < first["end_ms"] <= second["start_ms"] < second["end_ms"]
    assert result(turn).output == "dropped it"


@pytest.mark.parametrize("hours", [5, -5])
async def test_a_cancel_that_came_before_its_turn_is_remembered_through_a_jump(hours: int, tmp_path: Path) -> None:
    clock = JumpingClock()
    async with playing(tmp_path, clock=clock) as (house, _):
        await house.cancel("mine")
        clock.jump(hours=hours)
        turn = await house.folded(await house.ask("Go", turn_id="mine", model=MODEL))
    assert turn.status == "cancelled"


async def test_a_wait_is_a_date_and_over_once_the_clock_is_past_it(tmp_path: Path) -> None:
    """So a test need not wait for the week that a person has."""
    clock = JumpingClock()
    async with playing(tmp_path, tools=(drop,), clock=clock) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "it"})]), Script([Say("Nobody is there.")]))
        turn_id = await house.ask("Drop it", model=MODEL)
        await rests(house, turn_id)
        clock.jump(hours=24 * 7)
        turn = await house.folded(turn_id)
    assert (turn.status, result(turn).outcome) == ("complete", "timeout")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_many_turns_and_readers_lose_nothing_to_a_clock_that_never_stands_still(
    seed: int, tmp_path: Path
) -> None:
    chance, clock = Chance(seed), JumpingClock()
    witnesses: list[Witness] = []

    async def jump() -> None:
        while True:
            await chance.clock("forwards", "backwards").on(clock)
            await anyio.sleep(0.01)

    async with playing(tmp_path, tools=(look,), clock=clock) as (house, upstream):
        rounds = [Script([Say("Some words. " * 20, pace=200), Call("look", {"at": "x"})])] * 2
        upstream._default = lambda request: (*rounds, Script([Say("Done.")]))[round_of(request)]
        async with anyio.create_task_group() as jumps, anyio.create_task_group() as readers:
            jumps.start_soon(jump)
            for _ in range(12):
                witnesses.append(Witness(await house.ask("Go", model=MODEL)))
                readers.start_soon(witnesses[-1].watch, house)
                await anyio.sleep(0.02)
            readers.start_soon(_until_all_ended, witnesses, jumps.cancel_scope)
        for witness in witnesses:
            turn = await agree(house, witness)
            assert (turn.status, witness.after < e.EPOCH_SIZE) == ("complete", True)
    assert found_in(tmp_path / "legato.db") == []


async def _until_all_ended(witnesses: list[Witness], then: anyio.CancelScope) -> None:
    for witness in witnesses:
        await witness.saw(1, e.TurnEnd)
    then.cancel()


@pytest.mark.slow
async def test_a_process_that_overslept_its_lease_takes_its_own_turns_up_again_and_readers_lose_nothing(
    tmp_path: Path,
) -> None:
    clock = JumpingClock()
    async with playing(tmp_path, clock=clock) as (house, upstream):
        upstream.enqueue(Script([Say("One, "), Gate("talking"), Say("two.")]), Script([Say("One, two, three.")]))
        witness = Witness(await house.ask("Count", model=MODEL))
        async with anyio.create_task_group() as readers:
            readers.start_soon(witness.watch, house)
            await upstream.reached("talking")
            await witness.saw(1, e.BlockDelta)
            clock.skip(LEASE_SECONDS)
            upstream.release("talking")
        if not isinstance(witness.events[-1], e.TurnEnd):  # its stream was closed, and it comes back
            await witness.watch(house)
        turn = await agree(house, witness)
    assert (turn.status, [block.text for block in turn.blocks]) == ("complete", ["One, two, three."])
    assert witness.after > e.EPOCH_SIZE
    assert found_in(tmp_path / "legato.db") == []


# Two servers on one file


class Two(NamedTuple):
    first: Child
    second: House
    store: FaultyStore
    """The second one's."""
    upstream: Upstream
    clock: JumpingClock


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[Two]:
    """The first runs what it is asked, the second one is this process."""
    clock = JumpingClock(folder / "clock")
    store = FaultyStore()
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        async with (
            spawned(folder, environ=environ, clock=clock) as first,
            serving(configured(folder, environ=environ), clock=clock, around=store.over) as second,
        ):
            yield Two(first, second, store, upstream, clock)


@pytest.mark.slow
@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_jumps_takes_no_turn_from_a_living_owner(hours: int, tmp_path: Path) -> None:
    """By the file each lease is over at once after a jump forwards, and the other server looks for such."""
    async with two(tmp_path) as (first, second, _, upstream, clock):
        upstream.enqueue(Script([Say("One, "), Gate("talking"), Say("two.")]))
        witness = Witness(await first.ask("Count", model=MODEL))
        await upstream.reached("talking")
        for _ in range(8):
            clock.jump(hours=hours)
            await anyio.sleep(RENEW_SECONDS / 3)  # so that looks of either fall behind a jump
        upstream.release("talking")
        with anyio.fail_after(BOUND):
            await witness.watch(second)
        turn = await agree(second, witness)
        assert len(upstream.requests) == 1
    assert (turn.status, [block.text for block in turn.blocks]) == ("complete", ["One, ", "two."])
    assert witness.after < e.EPOCH_SIZE
    assert found_in(tmp_path / "legato.db") == []


@pytest.mark.slow
async def test_a_turn_whose_owner_stands_still_goes_on_elsewhere_though_the_clock_went_back(tmp_path: Path) -> None:
    """By the file its lease is good for five hours more. The two share the monotonic clock as well: the machine's."""
    async with two(tmp_path) as (first, second, store, upstream, clock):
        upstream.enqueue(Script([Say("The first "), Gate("asleep"), Say("says this.")]), Script([Say("The second.")]))
        witness = Witness(await first.ask("Who?", model=MODEL))
        await upstream.reached("asleep")
        await first.process.stop()
        clock.jump(hours=-5)
        for last in ("unended", "to_start"):  # a look that saw the turn, to its end
            await store.reached(last, times=store.calls.count(last) + 1, patience=BOUND)
        clock.skip(LEASE_SECONDS + 1)
        with anyio.fail_after(BOUND):
            await witness.watch(second)
        turn = await agree(second, witness)
        upstream.release("asleep")
        first.signal(signal.SIGCONT)
        assert (await first.folded(witness.turn_id)).blocks == turn.blocks
    assert (turn.status, [block.text for block in turn.blocks]) == ("complete", ["The second."])
    assert found_in(tmp_path / "legato.db") == []
