"""The threads of plain tools: so many and no more, seen from outside when they are all taken, and never holding a
cancel."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator

import anyio
import pytest
from tests.runtime.calls import PATIENCE, Bench, until

from legato import tool
from legato.core.inputs import ToolFinished
from legato.observability import Counters
from legato.runtime.calls import threads
from legato.runtime.calls.threads import PLACES
from legato.runtime.calls.toolbox import CancelFlag

pytestmark = pytest.mark.anyio


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    own = Counters()
    for name in ("count", "gauge", "warn_once"):
        monkeypatch.setattr(threads, name, getattr(own, name))
    return own


async def test_with_every_thread_stuck_a_cancel_answers_the_stuck_and_the_waiting(gate: threading.Event) -> None:
    ran: list[str] = []

    @tool(effect="read", timeout=1000)
    def stuck() -> None:
        """x"""
        gate.wait(PATIENCE)

    @tool(effect="read")
    def never_runs() -> None:
        """x"""
        ran.append("it was cancelled before it had a thread")

    bench = Bench(stuck, never_runs, places=PLACES, left_behind=2 * PLACES, grace=0.05)
    ends: dict[str, list[ToolFinished]] = {"stuck": [], "never_runs": []}

    async def run(name: str) -> None:
        ends[name].append(await bench.run(name))

    async with anyio.create_task_group() as tasks:
        for _ in range(PLACES):
            tasks.start_soon(run, "stuck")
        await until(lambda: bench.threads.busy == PLACES)
        tasks.start_soon(run, "never_runs")
        await until(lambda: bench.threads.waiting == 1)
        bench.flag.cancel()
    assert [end.outcome for end in ends["stuck"]] == ["cancelled"] * PLACES
    assert [str(end.error) for end in ends["never_runs"]] == [
        "CallError(code='cancelled', message='cancelled before it started')"
    ]
    assert bench.threads.left_behind == PLACES
    await until(lambda: bench.threads.busy == bench.threads.waiting == 0)
    assert ran == []


async def test_with_every_thread_stuck_a_tool_on_the_loop_goes_on_also_with_a_large_output(
    gate: threading.Event,
) -> None:
    @tool
    def stuck() -> None:
        """x"""
        gate.wait(PATIENCE)

    @tool
    async def many() -> list[int]:
        """x"""
        return list(range(10_000))

    bench = Bench(stuck, many, places=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, "stuck")
        await until(lambda: bench.threads.busy == 1)
        assert (await bench.run("many")).output == list(range(10_000))
        gate.set()


async def test_taken_waiting_and_left_behind_places_are_shown(counters: Counters, gate: threading.Event) -> None:
    def shown() -> list[float]:
        names = ("places", "busy", "waiting", "left_behind")
        return [counters.value(f"tool_threads_{name}", pool="tools") for name in names]

    @tool(effect="read")
    def stuck() -> None:
        """x"""
        gate.wait(PATIENCE)

    bench, one, other = Bench(stuck, places=1, grace=0.02), CancelFlag(), CancelFlag()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bench.run(flag=one))
        await until(lambda: bench.threads.busy == 1)
        tasks.start_soon(lambda: bench.run(flag=other))
        await until(lambda: bench.threads.waiting == 1)
        assert shown() == [1, 1, 1, 0]
        one.cancel()
        await until(lambda: bench.threads.waiting == 0)
        assert shown() == [1, 1, 0, 1]
        gate.set()
    await until(lambda: bench.threads.left_behind == 0)
    assert shown() == [1, 0, 0, 0]


async def test_a_full_pool_is_logged_once_with_those_who_fill_it(
    counters: Counters, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    @tool
    def greedy() -> None:
        """x"""
        gate.wait(PATIENCE)

    @tool
    def modest() -> None:
        """x"""
        gate.wait(PATIENCE)

    caplog.set_level(logging.WARNING)
    bench = Bench(greedy, modest, places=3)
    async with anyio.create_task_group() as tasks:
        for name in ("greedy", "modest", "greedy"):
            tasks.start_soon(bench.run, name)
        await until(lambda: bench.threads.busy == 3)
        for waiting in (1, 2):
            tasks.start_soon(bench.run, "modest")
            await until(lambda waiting=waiting: bench.threads.waiting == waiting)  # type: ignore[misc]
        gate.set()
    [record] = caplog.records
    said, _, cause = record.getMessage().partition(" [")
    assert said == "all 3 threads for tools are taken, calls wait; they run greedy (2), modest (1)"
    assert cause == "tool_threads_full:tools:greedy]"
    assert counters.value("tool_threads_waited", pool="tools") == 2


async def test_a_thread_that_waits_holds_nothing_of_its_last_call() -> None:
    """Seen in ten thousand turns: each idle thread held the turn of its last call, with all that was said before it."""

    class Given:
        pass

    pool = threads.Threads[Given](1)
    job = pool.submit(Given, name="x")
    given = weakref.ref(await job.done)
    del job
    await until(lambda: given() is None)
    pool.close()


async def test_a_call_whose_turn_was_lost_while_it_waited_for_its_place_is_not_started(gate: threading.Event) -> None:
    """The lease is looked at where the call begins, not where it was asked for."""
    ran: list[str] = []

    @tool(effect="read")
    def holds() -> None:
        """Has the only place."""
        gate.wait(PATIENCE)

    @tool
    def pay() -> None:
        """x"""
        ran.append("pay")

    @tool
    async def send() -> None:
        """x"""
        ran.append("send")

    bench, owned = Bench(holds, pay, send, places=1), [True]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, "holds")
        await until(lambda: bench.threads.busy == 1)
        ends: list[object] = []

        async def begin(name: str) -> None:
            ends.append(await bench.end(name, owned=lambda: owned[0]))

        tasks.start_soon(begin, "pay")
        await until(lambda: bench.threads.waiting == 1)
        owned[0] = False
        tasks.start_soon(begin, "send")
        await until(lambda: len(ends) == 1)
        gate.set()
    assert ran == []
    assert [end.outcome for end in ends if isinstance(end, ToolFinished)] == ["cancelled", "cancelled"]
