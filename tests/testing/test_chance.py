"""A seed and its faults: the same again, each seam for itself, and what each does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import get_args

import anyio
import pytest

from legato.core.errors import StoreUnavailable
from legato.stores.memory import MemoryStore
from legato.testing.chance import (
    Chance,
    ClockFault,
    ClockKind,
    FileFault,
    ProcessFault,
    ProcessKind,
    ProviderFault,
    ProviderKind,
    StoreFault,
    StoreKind,
)
from legato.testing.clock import JumpingClock
from legato.testing.process import PORT, ServerProcess
from legato.testing.script import Call, Cut, Failure, HangUp, Say, Script, Wait
from legato.testing.store import FaultyStore
from legato.testing.timeline import Frame
from legato.testing.upstream import WIRES

SEAMS: dict[str, Callable[[Chance], object]] = {
    "provider": Chance.provider,
    "store": Chance.store,
    "process": Chance.process,
    "clock": Chance.clock,
    "file": Chance.file,
    "happens": lambda chance: chance.happens(0.5),
}
SCRIPT = Script([Say("one two three", over=3.0), Wait(1), Call("look", {"what": "0123456789" * 4}), Say("four five")])
"""Three deltas, four of arguments, and two."""


@pytest.mark.parametrize("seam", SEAMS)
def test_a_seed_gives_the_same_faults_whatever_is_drawn_elsewhere(seam: str) -> None:
    draw = SEAMS[seam]
    alone, among = Chance(7), Chance(7)
    drawn = [draw(alone) for _ in range(50)]
    for one in drawn:
        for other in SEAMS.values():
            if other is not draw:
                other(among)
        assert draw(among) == one
    assert [draw(Chance(8)) for _ in range(50)] != drawn


def test_a_seed_means_the_same_tomorrow() -> None:
    """Whoever wrote a seed down finds the fault again, in every process."""
    chance = Chance(7)
    assert [chance.process().kind for _ in range(5)] == ["stop", "terminate", "kill", "kill", "stop"]


def test_every_kind_comes_and_none_but_those_that_are_named() -> None:
    chance = Chance(1)
    assert {chance.provider().kind for _ in range(200)} == set(get_args(ProviderKind))
    assert {chance.store().kind for _ in range(200)} == set(get_args(StoreKind))
    assert {chance.process().kind for _ in range(200)} == set(get_args(ProcessKind))
    assert {chance.clock().kind for _ in range(200)} == set(get_args(ClockKind))
    assert {chance.provider("cut", "slow").kind for _ in range(50)} == {"cut", "slow"}
    assert 10 < sum(chance.happens(0.25) for _ in range(100)) < 45


@pytest.mark.parametrize("kind", get_args(ProviderKind))
@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_every_response_with_a_fault_can_be_said_on_both_wires(kind: ProviderKind, place: float) -> None:
    answer = ProviderFault(kind=kind, place=place, seconds=0.5).of(SCRIPT)
    if isinstance(answer, Failure | HangUp):
        assert kind in ("refused", "hang_up")
        return
    assert isinstance(answer, Script)
    assert answer.lag == (0.5 if kind == "slow" else 0)
    for wire in WIRES.values():
        whole = b"".join(act.data for act in wire.render(SCRIPT, number=1, body={}) if isinstance(act, Frame))
        acts = list(wire.render(answer, number=1, body={}))
        assert whole
        assert acts


def test_a_response_breaks_off_within_a_text_and_within_a_calls_arguments() -> None:
    def broken(place: float) -> list[object]:
        answer = ProviderFault(kind="cut", place=place, seconds=0).of(SCRIPT)
        assert isinstance(answer, Script)
        return list(answer.steps)

    first = Say("one two three", over=2.0, pieces=["one", " two"], stop=False)
    assert broken(2 / 9) == [first, Cut()]
    call = SCRIPT.steps[2]
    assert isinstance(call, Call)
    begun = broken(5 / 9)[2]
    assert isinstance(begun, Call)
    assert (list(begun.deltas()), begun.stop) == (list(call.deltas())[:2], False)
    assert broken(1.0) == [*SCRIPT.steps, Cut()]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["away", "full", "loses_answers"])
async def test_a_store_fails_for_its_time_and_is_back(kind: StoreKind) -> None:
    store = FaultyStore(MemoryStore())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(StoreFault(kind=kind, seconds=0.2).on, store)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(StoreUnavailable):
            await store.renew("nobody")
    await store.renew("nobody")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["slow", "stands"])
async def test_a_store_that_is_slow_or_stands_is_back_when_the_fault_is_cancelled(kind: StoreKind) -> None:
    store = FaultyStore(MemoryStore())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(StoreFault(kind=kind, seconds=1000).on, store)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.05) as scope:
            await store.ping()
        assert scope.cancelled_caught
        tasks.cancel_scope.cancel()
    with anyio.fail_after(5):
        await store.ping()


@pytest.mark.anyio
async def test_a_process_is_running_again_after_each_fault(tmp_path: Path) -> None:
    command = ("python3", "-m", "http.server", "--bind", "127.0.0.1", PORT)
    async with ServerProcess(tmp_path, command=command) as server:
        pids = [server.pid]
        for kind in get_args(ProcessKind):
            await ProcessFault(kind=kind, after=0, seconds=0.05).on(server)
            assert server.running
            pids.append(server.pid)
    assert [one == two for one, two in pairwise(pids)] == [False, True, False]


@pytest.mark.anyio
async def test_a_clock_is_left_where_it_was_put() -> None:
    clock = JumpingClock()
    before = clock.monotonic()
    await ClockFault(kind="forwards", seconds=60).on(clock)
    await ClockFault(kind="backwards", seconds=100).on(clock)
    await ClockFault(kind="skip", seconds=50).on(clock)
    assert clock.ahead == -40
    assert clock.monotonic() >= before + 50


def test_a_file_loses_its_end_and_no_more_than_it_has(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    FileFault(bytes=3).on(file)
    assert file.read_bytes() == b"0123456"
    FileFault(bytes=4096).on(file)
    assert file.read_bytes() == b""
