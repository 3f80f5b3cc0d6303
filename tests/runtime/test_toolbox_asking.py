"""``ctx.ask``: a running tool asks a person, one thing after the other, and no clock runs meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import anyio
import pytest
from tests.runtime.calls import PATIENCE, Bench

from legato import ToolContext, ToolError, tool
from legato.core.blocks import CallError, Json
from legato.core.inputs import ToolFinished
from legato.core.records import Answer
from legato.runtime.calls.patience import Patience

pytestmark = pytest.mark.anyio

YES = Answer(call_id="call", decision="approve")


class Desk:
    """Somebody who answers when the test says so. ``asked`` is set at each question."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, dict[str, Json] | None]] = []
        self.waiting = 0
        self.asked = asyncio.Event()
        self._answer: asyncio.Future[Answer] | None = None

    async def ask(self, message: str, input_schema: dict[str, Json] | None) -> Answer:
        self.questions.append((message, input_schema))
        self._answer = asyncio.get_running_loop().create_future()
        self.waiting += 1
        self.asked.set()
        try:
            return await self._answer
        finally:
            self.waiting -= 1

    def answer(self, answer: Answer = YES) -> None:
        assert self._answer is not None
        self._answer.set_result(answer)


async def asked(desk: Desk) -> None:
    with anyio.fail_after(PATIENCE):
        await desk.asked.wait()
    desk.asked.clear()


async def test_a_running_tool_asks_and_goes_on_with_the_answer() -> None:
    @tool
    async def order(*, ctx: ToolContext) -> list[Json]:
        """x"""
        first = await ctx.ask("Sure?")
        second = await ctx.ask("How many?", input_schema={"type": "object"})
        return [first.decision, second.input]

    bench, desk, ends = Bench(order), Desk(), []

    async def run() -> None:
        ends.append(await bench.end(ask=desk.ask))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await asked(desk)
        desk.answer()
        await asked(desk)
        desk.answer(Answer(call_id="call", decision="approve", input={"number": 3}))
    assert ends == [ToolFinished(call_id="call", outcome="ok", output=["approve", {"number": 3}])]
    assert desk.questions == [("Sure?", None), ("How many?", {"type": "object"})]


@pytest.mark.parametrize("kind", ["async", "stream"])
async def test_the_time_a_person_takes_is_in_no_timeout(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("legato.runtime.calls.patience.monotonic", lambda: now)
    monkeypatch.setattr("legato.runtime.calls.showing.monotonic", lambda: now)

    @tool(name="slow", timeout=500, idle_timeout=400)
    async def waiting(*, ctx: ToolContext) -> str:
        """x"""
        await ctx.ask("Sure?")
        return "done"

    @tool(name="slow", timeout=500, idle_timeout=400)
    async def streaming(*, ctx: ToolContext) -> AsyncIterator[str]:
        """x"""
        await ctx.ask("Sure?")
        yield "done"

    bench, desk, ends = Bench(waiting if kind == "async" else streaming), Desk(), []

    async def run() -> None:
        ends.append(await bench.run_asking(desk.ask))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await asked(desk)
        now += 5000
        desk.answer()
    assert (ends[0].outcome, ends[0].output) == ("ok", "done")


async def test_after_the_answer_the_clocks_run_on() -> None:
    @tool(effect="read", timeout=1000, idle_timeout=0.05)
    async def stalls(*, ctx: ToolContext) -> None:
        """x"""
        await ctx.ask("Sure?")
        await anyio.sleep_forever()

    bench, desk, ends = Bench(stalls), Desk(), []

    async def run() -> None:
        ends.append(await bench.run_asking(desk.ask))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await asked(desk)
        desk.answer()
    assert ends[0].error == CallError("idle_timeout", "timed out: it showed no progress for 0.05 s")


async def test_a_clock_that_stood_still_has_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("legato.runtime.calls.patience.monotonic", lambda: now)
    patience = Patience(10, 4, progress=lambda: 101.0)
    patience.begin()
    now = 103.0
    assert patience.left() == (2.0, "idle_timeout")
    with patience.standing_still():
        now = 1000.0
        assert patience.left()[0] is None
    assert patience.left() == (4.0, "idle_timeout"), "the answer is a sign of life"
    now = 1006.5
    assert patience.left()[0] == -2.5
    patience = Patience(10, None, progress=lambda: 0.0)
    patience.begin()
    with patience.standing_still():
        now = 2000.0
    assert patience.left() == (10.0, "timeout")


async def test_one_call_asks_one_thing_at_a_time() -> None:
    @tool
    async def both(*, ctx: ToolContext) -> str:
        """x"""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_answer_of, ctx, "one")
            tasks.start_soon(_answer_of, ctx, "two")
        return "both were asked"

    bench, desk = Bench(both), Desk()
    finished = await bench.run_asking(desk.ask)
    expected = "nobody can be asked: this call waits for an answer already; ask one thing after the other"
    assert finished.error == CallError("cannot_ask", expected)
    assert (len(desk.questions), desk.waiting) == (1, 0)


async def _answer_of(ctx: ToolContext, message: str) -> Answer:
    return await ctx.ask(message)


async def test_a_plain_function_is_told_at_once_what_to_do_instead() -> None:
    @tool
    def plain(*, ctx: ToolContext) -> None:
        """x"""
        ctx.ask("Sure?")

    desk = Desk()
    finished = await Bench(plain).run_asking(desk.ask)
    said = "nobody can be asked here: make the tool an `async def`, or raise InputNeeded"
    assert finished.error == CallError("cannot_ask", said)
    assert desk.questions == []


async def test_where_nobody_can_be_asked_it_is_said() -> None:
    @tool
    async def alone(*, ctx: ToolContext) -> None:
        """x"""
        await ctx.ask("Sure?")

    finished = await Bench(alone).run()
    assert isinstance(finished.error, CallError)
    assert finished.error.code == "cannot_ask"


async def test_a_question_that_cannot_be_put_reaches_nobody() -> None:
    @tool
    async def order(*, ctx: ToolContext) -> None:
        """x"""
        await ctx.ask("Sure?", input_schema={"type": "array"})

    desk = Desk()
    finished = await Bench(order).run_asking(desk.ask)
    assert isinstance(finished.error, CallError)
    assert finished.error.code == "cannot_ask"
    assert desk.questions == []


async def test_a_cancel_ends_the_wait_for_an_answer() -> None:
    @tool(effect="read")
    async def order(*, ctx: ToolContext) -> None:
        """x"""
        await ctx.ask("Sure?")

    bench, desk, ends = Bench(order), Desk(), []

    async def run() -> None:
        ends.append(await bench.run_asking(desk.ask))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await asked(desk)
        bench.flag.cancel()
    assert ends[0].error == CallError("cancelled", "cancelled while it ran")
    assert desk.waiting == 0


async def test_a_tool_that_was_told_to_stop_asks_nobody() -> None:
    refused: list[str] = []

    @tool(effect="read", timeout=0.05)
    async def late(*, ctx: ToolContext) -> None:
        """x"""
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        try:
            await ctx.ask("May I go on?")
        except ToolError as error:
            refused.append(error.message)
            raise

    desk = Desk()
    assert (await Bench(late).run_asking(desk.ask)).outcome == "timeout"
    assert refused == ["nobody can be asked: the call has ended, or was told to stop"]
    assert desk.questions == []


async def test_a_task_that_outlives_its_call_asks_nobody() -> None:
    refused = asyncio.Event()
    ended = asyncio.Event()
    children: list[asyncio.Task[None]] = []

    async def later(ctx: ToolContext) -> None:
        await ended.wait()
        try:
            await ctx.ask("Is anybody there?")
        except ToolError:
            refused.set()

    @tool
    async def leaks(*, ctx: ToolContext) -> str:
        """x"""
        children.append(asyncio.create_task(later(ctx)))
        return "done"

    desk = Desk()
    assert (await Bench(leaks).run_asking(desk.ask)).output == "done"
    ended.set()
    with anyio.fail_after(PATIENCE):
        await refused.wait()
    await children[0]
    assert desk.questions == []
