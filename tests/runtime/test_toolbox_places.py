"""So many calls run at once in a process, so many of one tool: the others wait, and never hold a cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from tests.patience import until
from tests.runtime.calls import Bench, counted

from legato import tool
from legato.core.inputs import ToolFinished
from legato.observability import process
from legato.runtime.calls.places import Places
from legato.runtime.calls.toolbox import CancelFlag

pytestmark = pytest.mark.anyio


class Gates:
    """Tools that say when they begin, and end when they are let."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._open: dict[str, anyio.Event] = {}

    def tools(self) -> tuple[Callable[..., object], Callable[..., object]]:
        @tool(effect="read")
        async def slow(who: str) -> str:
            """x"""
            return await self._through(who)

        @tool(effect="read")
        async def other(who: str) -> str:
            """x"""
            return await self._through(who)

        return slow, other

    async def _through(self, who: str) -> str:
        self.begun.append(who)
        self._open[who] = anyio.Event()
        await self._open[who].wait()
        return who

    def let(self, *whom: str) -> None:
        for who in whom:
            self._open[who].set()


def waiting() -> float:
    return process.value("tool_places_waiting")


async def test_of_one_tool_so_many_run_and_the_others_wait_in_order_while_another_tool_goes_past() -> None:
    gates = Gates()
    bench = Bench(*gates.tools(), of_tool=2)
    waited = counted("tool_places_waited", tool="slow")
    ends: list[object] = []

    async def run(name: str, who: str) -> None:
        ends.append((await bench.run(name, who=who)).output)

    async with anyio.create_task_group() as tasks:
        for who in ("a", "b", "c", "d"):
            tasks.start_soon(run, "slow", who)
        await until(lambda: gates.begun == ["a", "b"] and waiting() == 2)
        tasks.start_soon(run, "other", "e")
        await until(lambda: gates.begun == ["a", "b", "e"])
        gates.let("b")
        await until(lambda: gates.begun == ["a", "b", "e", "c"] and waiting() == 1)
        gates.let("e", "a")
        await until(lambda: gates.begun == ["a", "b", "e", "c", "d"])
        gates.let("c", "d")
    assert sorted(map(str, ends)) == ["a", "b", "c", "d", "e"]
    assert counted("tool_places_waited", tool="slow") - waited == 2
    assert waiting() == 0


async def test_in_all_so_many_run_whoever_asks() -> None:
    gates = Gates()
    bench = Bench(*gates.tools(), running=2)
    async with anyio.create_task_group() as tasks:
        for name, who in (("slow", "a"), ("slow", "b"), ("slow", "c"), ("other", "d")):
            tasks.start_soon(partial(bench.run, name, who=who))
        await until(lambda: gates.begun == ["a", "b"] and waiting() == 2)
        gates.let("a")
        await until(lambda: gates.begun == ["a", "b", "c"] and waiting() == 1)
        gates.let("b")
        await until(lambda: gates.begun == ["a", "b", "c", "d"])
        gates.let("c", "d")


async def test_a_call_that_is_cancelled_while_it_waits_never_runs_and_takes_no_place() -> None:
    gates, flag = Gates(), CancelFlag()
    bench = Bench(*gates.tools(), of_tool=1)
    ends: list[ToolFinished] = []

    async def wait() -> None:
        ends.append(await bench.run("slow", flag=flag, who="b"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bench.run("slow", who="a"))
        await until(lambda: gates.begun == ["a"])
        tasks.start_soon(wait)
        await until(lambda: waiting() == 1)
        flag.cancel()
        await until(lambda: bool(ends))
        assert (ends[0].outcome, str(ends[0].error)) == (
            "cancelled",
            "CallError(code='cancelled', message='cancelled before it started')",
        )
        tasks.start_soon(lambda: bench.run("slow", who="c"))
        await until(lambda: waiting() == 1)
        gates.let("a")
        await until(lambda: gates.begun == ["a", "c"])
        gates.let("c")


async def test_a_turn_that_is_gone_leaves_its_place_also_in_the_moment_it_was_given_one() -> None:
    places, never = Places(of_tool=1), CancelFlag()
    assert await places.take("slow", never)
    waits, next_one = (asyncio.create_task(places.take("slow", never)) for _ in range(2))
    await until(lambda: waiting() == 2)
    places.give_back("slow")  # it is the first one's now, who has not heard of it
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert await next_one
    gone = asyncio.create_task(places.take("slow", never))
    await until(lambda: waiting() == 1)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert waiting() == 0
    places.give_back("slow")
    assert await places.take("slow", never)
