"""A tool that raises NotNow or InputNeeded has not failed, and is called again with what it waited for."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from tests.runtime.calls import Bench, counted

from legato import ToolContext, ToolError, tool
from legato.core.blocks import CallError, Json
from legato.core.errors import InputNeeded, NotNow
from legato.core.inputs import ToolDeferred, ToolFinished, ToolNeedsInput
from legato.core.records import Answer, Resumed

pytestmark = pytest.mark.anyio

SCHEMA: dict[str, object] = {"type": "object", "properties": {"size": {"type": "string"}}}


def of_each_kind(raised: Callable[[], BaseException]) -> list[Callable[..., object]]:
    @tool(effect="read", retries=3)
    def plain(*, ctx: ToolContext) -> None:
        """x"""
        ctx.emit("looked, ")
        raise raised()

    @tool(effect="read", retries=3)
    async def waiting(*, ctx: ToolContext) -> None:
        """x"""
        ctx.emit("looked, ")
        raise raised()

    @tool(effect="read", retries=3)
    async def grouped(*, ctx: ToolContext) -> None:
        """x"""
        ctx.emit("looked, ")
        async with anyio.create_task_group():
            raise raised()

    @tool(effect="read", retries=3)
    async def streaming() -> AsyncIterator[str]:
        """x"""
        yield "looked, "
        raise raised()

    return [plain, waiting, grouped, streaming]


KINDS = ["plain", "waiting", "grouped", "streaming"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_of_any_kind_may_ask_to_be_run_later(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(*of_each_kind(NotNow))
    before = counted("tool_retries", tool=kind)
    assert await bench.end(kind) == ToolDeferred(call_id="call")
    assert bench.shown == ["looked, "]
    assert caplog.records == []
    assert counted("tool_retries", tool=kind) == before


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_of_any_kind_may_ask_for_an_answer(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(*of_each_kind(lambda: InputNeeded("Which size?", input_schema=SCHEMA, state={"cart": [7]})))
    assert await bench.end(kind) == ToolNeedsInput(
        call_id="call", message="Which size?", input_schema=SCHEMA, state={"cart": [7]}
    )
    assert bench.shown == ["looked, "]
    assert caplog.records == []


async def test_called_again_it_has_its_state_and_the_answer() -> None:
    @tool
    async def order(*, ctx: ToolContext) -> list[Json]:
        """x"""
        if ctx.resumed is None:
            raise InputNeeded("Sure?", state={"step": 1})
        return [ctx.resumed.state, ctx.resumed.answer.decision]

    bench = Bench(order)
    needs = await bench.end()
    assert isinstance(needs, ToolNeedsInput)
    resumed = Resumed(state=needs.state, answer=Answer(call_id="call", decision="approve"))
    again = await bench.end(resumed=resumed)
    assert again == ToolFinished(call_id="call", outcome="ok", output=[{"step": 1}, "approve"])


async def test_the_state_is_a_copy_and_made_of_text_that_every_store_takes() -> None:
    state: dict[str, Json] = {"seen": ["a\0"]}

    @tool
    async def order() -> None:
        """x"""
        raise InputNeeded("Sure?\0", state=state)

    needs = await Bench(order).end()
    state["seen"].append("b")
    assert isinstance(needs, ToolNeedsInput)
    assert (needs.message, needs.state) == ("Sure?\ufffd", {"seen": ["a\ufffd"]})


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (InputNeeded(" "), "the message is what a person reads: a text that is not empty"),
        (InputNeeded("é" * 5000), "the message has 10000 bytes, limit is 8192"),
        (InputNeeded("Sure?", state=object()), "state is not JSON: "),
        (InputNeeded("Sure?", state="x" * 70_000), "state has 70002 bytes of JSON, limit is 65536"),
        (
            InputNeeded("Sure?", input_schema={"type": "string"}),
            'input_schema is JSON Schema of an object: {"type": "object", "properties": {…}}',
        ),
        (InputNeeded("Sure?", input_schema={"properties": {1: object()}}), "input_schema is not JSON: "),
        (
            InputNeeded("Sure?", input_schema={"description": "x" * 70_000}),
            "input_schema has 70018 bytes of JSON, limit is 65536",
        ),
    ],
    ids=range(7),
)
async def test_a_question_that_cannot_be_put_is_an_error_that_says_so(wish: InputNeeded, said: str) -> None:
    @tool
    async def order() -> None:
        """x"""
        raise wish

    finished = await Bench(order).run()
    assert finished.outcome == "error"
    assert isinstance(finished.error, CallError)
    assert finished.error.code == "cannot_ask"
    assert finished.error.message.startswith(f"nobody can be asked: {said}")


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (
            [InputNeeded("Which size?"), InputNeeded("Which color?")],
            CallError(
                "tool_error",
                "the tool asks 2 things at once, and there is one answer: Which size?; Which color?",
            ),
        ),
        ([NotNow(), ToolError("no such city", code="no_city")], None),
        (
            [NotNow(), ValueError("bad")],
            CallError("tool_failed", "NotNow: not before the response has ended; ValueError: bad"),
        ),
    ],
    ids=["two questions", "an answer", "a failure"],
)
async def test_a_wish_beside_something_else_is_an_error(raised: list[Exception], error: CallError | None) -> None:
    @tool
    async def both() -> None:
        """x"""
        raise ExceptionGroup("both", raised)

    finished = await Bench(both).run()
    assert finished.outcome == "error"
    assert error is None or finished.error == error


async def test_two_that_both_want_to_run_later_are_one_wish() -> None:
    @tool
    async def both() -> None:
        """x"""
        raise ExceptionGroup("both", [NotNow(), ExceptionGroup("in", [NotNow()])])

    assert await Bench(both).end() == ToolDeferred(call_id="call")


@pytest.mark.parametrize("wish", [NotNow(), InputNeeded("Sure?")], ids=["later", "an answer"])
async def test_whoever_cancels_gets_an_end_and_no_wish(wish: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Cancelled before it raised, or while it was told: no call waits for anything any more."""
    caplog.set_level(logging.WARNING)

    @tool(effect="read")
    async def at_once() -> None:
        """x"""
        bench.flag.cancel()
        raise wish

    @tool(effect="read")
    async def when_told() -> None:
        """x"""
        bench.flag.cancel()
        try:
            await anyio.sleep_forever()
        finally:
            raise wish

    for function in (at_once, when_told):
        bench = Bench(function)
        finished = await bench.run()
        assert finished.error == CallError("cancelled", "cancelled while it ran")
        assert finished.outcome == "cancelled"
    assert caplog.records == []
