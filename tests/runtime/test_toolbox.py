"""One call of a tool: whatever the tool does, one result, bounded in time and size, and nobody else is touched."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import anyio.lowlevel
import pytest
from tests.runtime.calls import PATIENCE, Bench, counted, until

from legato import ToolContext, ToolError, tool
from legato.core.blocks import CallError, Json
from legato.core.inputs import ToolFinished
from legato.runtime.calls.outputs import is_small
from legato.runtime.calls.showing import Showing
from legato.runtime.calls.toolbox import CancelFlag

pytestmark = pytest.mark.anyio


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Threads wait for it, and none waits longer than its test."""
    event = threading.Event()
    yield event
    event.set()


# results


async def test_an_async_tool_gives_what_it_returns() -> None:
    @tool
    async def add(a: int, b: int) -> dict[str, int]:
        """x"""
        return {"sum": a + b}

    assert await Bench(add).run(a=1, b=2) == ToolFinished(call_id="call", outcome="ok", output={"sum": 3})


async def test_a_plain_tool_gives_what_it_returns_from_a_thread_of_its_own() -> None:
    @tool
    def where() -> bool:
        """x"""
        return threading.current_thread() is threading.main_thread()

    assert (await Bench(where).run()).output is False


async def test_the_pieces_of_a_stream_are_shown_and_joined_are_its_output() -> None:
    @tool
    async def count() -> AsyncIterator[str]:
        """x"""
        for one in "abc":
            yield one
            await asyncio.sleep(0)

    bench = Bench(count)
    assert (await bench.run()).output == "abc"
    assert "".join(bench.shown) == "abc"


async def test_the_context_says_whose_call_it_is_and_state_belongs_to_the_turn() -> None:
    @tool
    async def look(*, ctx: ToolContext) -> list[Json]:
        """x"""
        ctx.state["seen"] = ctx.state.get("seen", 0) + 1
        return [ctx.turn_id, ctx.chat_id, ctx.call_id, ctx.principal, ctx.idempotency_key, ctx.cancelled]

    bench = Bench(look)
    assert (await bench.run()).output == ["turn", "chat", "call", "local", "key", False]
    await bench.run()
    assert bench.state == {"seen": 2}


async def test_context_variables_reach_a_thread() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    @tool
    def look() -> str:
        """x"""
        return variable.get()

    variable.set("set")
    assert (await Bench(look).run()).output == "set"


async def test_a_tool_that_does_not_exist_is_an_error_result() -> None:
    finished = await Bench().run("nothing")
    assert (finished.outcome, finished.error) == ("error", CallError("unknown_tool", "there is no tool 'nothing'"))


async def test_what_is_not_json_is_an_error_result() -> None:
    @tool
    async def give() -> object:
        """x"""
        return object()

    finished = await Bench(give).run()
    assert finished.error == CallError("not_json", "the tool ran, but what it returned is not JSON: object is not JSON")


async def test_a_plain_tool_that_gives_a_coroutine_says_what_to_do() -> None:
    @tool
    def give() -> object:
        """x"""
        return anyio.lowlevel.checkpoint()

    finished = await Bench(give).run()
    assert finished.error == CallError(
        "not_json", "the tool is a plain function that gave a coroutine; make it `async def`"
    )


async def test_a_stream_of_something_else_than_text_is_an_error_result() -> None:
    @tool
    async def numbers() -> AsyncIterator[str]:
        """x"""
        yield "a"
        yield 1  # type: ignore[misc]

    finished = await Bench(numbers).run()
    assert finished.error == CallError("not_json", "the tool ran, but a piece of its stream is int, not text")
    assert finished.output == "a"


async def test_nul_and_lone_surrogates_in_an_output_are_replaced() -> None:
    @tool
    async def dirty() -> dict[str, list[str]]:
        """x"""
        return {"a\0": ["b\ud800", "\ud83d\ude00", "ok"]}

    assert (await Bench(dirty).run()).output == {"a\ufffd": ["b\ufffd", "\U0001f600", "ok"]}


# size


async def test_an_output_over_the_hard_bound_is_an_error_that_names_both_numbers() -> None:
    @tool
    async def long() -> list[str]:
        """x"""
        return ["é" * 60]

    finished = await Bench(long, hard_output_bytes=100).run()
    assert finished.error == CallError("output_too_large", "the tool ran, but its output has 124 bytes, limit is 100")
    assert finished.output is None
    assert (await Bench(long, hard_output_bytes=124).run()).outcome == "ok"


async def test_an_output_of_a_gigabyte_is_refused_before_it_is_copied() -> None:
    @tool
    def huge() -> list[str]:
        """x"""
        return ["x" * 2**20] * 1024

    finished = await Bench(huge).run()
    assert isinstance(finished.error, CallError)
    assert finished.error.code == "output_too_large"
    assert finished.error.message.startswith("the tool ran, but its output has at least ")


async def test_a_stream_without_end_is_stopped_at_the_hard_bound() -> None:
    made = 0

    @tool
    async def endless() -> AsyncIterator[str]:
        """x"""
        nonlocal made
        while True:
            made += 1
            yield "x" * 1000

    finished = await Bench(endless, hard_output_bytes=10_000).run()
    assert isinstance(finished.error, CallError)
    assert finished.error.code == "output_too_large"
    assert made == 11


async def test_a_stream_that_never_waits_lets_the_loop_have_its_turn() -> None:
    turns = 0

    @tool
    async def eager() -> AsyncIterator[str]:
        """x"""
        for _ in range(1000):
            yield "x"

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await Bench(eager).run()
        tasks.cancel_scope.cancel()
    assert turns > 5


def test_small_values_are_told_from_large_ones_without_looking_at_all_of_them() -> None:
    assert is_small({"a": [1, 2.5, None, True, "x"]})
    assert not is_small(list(range(3000)))
    assert not is_small("x" * 100_000)
    assert not is_small([[1] * 1500, [2] * 1500])
    assert not is_small(object())


async def test_a_large_value_gives_the_same_output_as_a_small_one() -> None:
    @tool
    async def many() -> list[int]:
        """x"""
        return list(range(10_000))

    assert (await Bench(many).run()).output == list(range(10_000))


# what it shows


async def test_text_of_a_thread_comes_whole_in_order_and_before_the_result() -> None:
    @tool
    def talk(*, ctx: ToolContext) -> None:
        """x"""
        for number in range(5000):
            ctx.emit(f"{number} ")

    bench = Bench(talk)
    assert (await bench.run()).outcome == "ok"
    assert "".join(bench.shown) == "".join(f"{number} " for number in range(5000))


async def test_text_of_an_async_tool_is_shown_at_once_and_a_burst_of_it_in_one_piece() -> None:
    bench: Bench

    @tool
    async def talk(*, ctx: ToolContext) -> bool:
        """x"""
        await ctx.emit("first ")
        at_once = bench.shown == ["first "]
        for number in range(1000):
            await ctx.emit(f"{number} ")
        return at_once

    bench = Bench(talk)
    assert (await bench.run()).output is True
    assert "".join(bench.shown) == "first " + "".join(f"{number} " for number in range(1000))
    assert len(bench.shown) == 2


async def test_a_reader_sees_text_while_a_plain_tool_still_runs(gate: threading.Event) -> None:
    @tool
    def talk(*, ctx: ToolContext) -> None:
        """x"""
        ctx.emit("working")
        gate.wait(PATIENCE)

    bench = Bench(talk)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        with anyio.fail_after(PATIENCE):
            while not bench.shown:
                await anyio.lowlevel.checkpoint()
        gate.set()
    assert bench.shown == ["working"]


async def test_emitting_what_is_no_text_is_an_error_result() -> None:
    @tool
    async def talk(*, ctx: ToolContext) -> None:
        """x"""
        await ctx.emit(5)  # type: ignore[arg-type]

    finished = await Bench(talk).run()
    assert finished.error == CallError("tool_failed", "TypeError: emit takes text, this is int")


async def test_text_over_its_bound_is_left_out_said_once_and_counted() -> None:
    @tool
    async def shout(*, ctx: ToolContext) -> str:
        """x"""
        for _ in range(10):
            await ctx.emit("é" * 7)
        return "done"

    bench = Bench(shout, shown_bytes=31)
    before = counted("tool_text_cut", tool="shout")
    assert (await bench.run()).output == "done"
    said = "[… the tool showed more than 31 bytes, the rest is left out …]"
    assert "".join(bench.shown) == "é" * 15 + f"\n{said}\n"
    assert counted("tool_text_cut", tool="shout") == before + 1


async def test_a_thread_that_was_left_behind_shows_nothing_any_more(gate: threading.Event) -> None:
    ended = threading.Event()

    @tool(timeout=0.05)
    def late(*, ctx: ToolContext) -> None:
        """x"""
        gate.wait(PATIENCE)
        ctx.emit("too late")
        ended.set()

    bench = Bench(late, grace=0.05)
    assert (await bench.run()).outcome == "timeout"
    gate.set()
    await until(ended)
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert bench.shown == []


# exceptions


async def test_of_an_exception_the_model_sees_the_text_and_the_log_the_whole(caplog: pytest.LogCaptureFixture) -> None:
    @tool
    async def fail() -> None:
        """x"""
        raise KeyError("city")

    finished = await Bench(fail).run()
    assert (finished.outcome, finished.error) == ("error", CallError("tool_failed", "KeyError: 'city'"))
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "tool fail (test_toolbox.py:" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_a_tool_error_is_an_answer_and_is_not_logged_as_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    @tool
    def refuse() -> None:
        """x"""
        raise ToolError("no such city", code="no_city")

    finished = await Bench(refuse).run()
    assert (finished.outcome, finished.error) == ("error", CallError("no_city", "no such city"))
    assert caplog.records == []


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even that")


ODDITIES: list[tuple[BaseException, str]] = [
    (SystemExit(3), "SystemExit: 3"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (asyncio.CancelledError(), "CancelledError"),
    (GeneratorExit(), "GeneratorExit"),
    (ExceptionGroup("two", [ValueError("a"), ExceptionGroup("in", [KeyError("b")])]), "ValueError: a; KeyError: 'b'"),
    (BaseExceptionGroup("one", [SystemExit(1)]), "SystemExit: 1"),
    (
        ExceptionGroup("many", [ValueError(str(at)) for at in range(5)]),
        "ValueError: 0; ValueError: 1; ValueError: 2; and 2 more",
    ),
    (Unspeakable(), "Unspeakable"),
    (ValueError("a\0\ud800"), "ValueError: a\ufffd\ufffd"),
    (ValueError("x" * 100_000), ("ValueError: " + "x" * 100_000)[:8192]),
]


@pytest.mark.parametrize(("odd", "text"), ODDITIES, ids=[type(odd).__name__ for odd, _ in ODDITIES])
@pytest.mark.parametrize("kind", ["sync", "async", "stream"])
async def test_whatever_is_raised_is_an_error_result(
    kind: str, odd: BaseException, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # a lone surrogate in a captured log cannot pass between xdist's processes

    @tool(name="odd")
    def plain() -> None:
        """x"""
        raise odd

    @tool(name="odd")
    async def waiting() -> None:
        """x"""
        raise odd

    @tool(name="odd")
    async def streaming() -> AsyncIterator[str]:
        """x"""
        yield ""
        raise odd

    function: Callable[..., object] = {"sync": plain, "async": waiting, "stream": streaming}[kind]
    finished = await Bench(function).run()
    assert (finished.outcome, finished.error) == ("error", CallError("tool_failed", text))


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_stop_iteration_is_an_error_result(kind: str) -> None:
    @tool(name="odd")
    def plain() -> None:
        """x"""
        raise StopIteration(1)

    @tool(name="odd")
    async def waiting() -> None:
        """x"""
        raise StopIteration(1)

    finished = await Bench(plain if kind == "sync" else waiting).run()
    assert isinstance(finished.error, CallError)
    assert (finished.outcome, finished.error.code) == ("error", "tool_failed")


async def test_a_group_of_tool_errors_is_their_texts() -> None:
    @tool
    async def both() -> None:
        """x"""
        async with anyio.create_task_group():
            raise ToolError("the one")

    assert (await Bench(both).run()).error == CallError("tool_error", "the one")


async def test_an_exception_of_one_call_touches_no_other() -> None:
    failed = anyio.Event()

    @tool
    async def fail() -> None:
        """x"""
        raise SystemExit

    @tool
    async def wait() -> str:
        """x"""
        await failed.wait()
        return "untouched"

    bench, found = Bench(fail, wait), []

    async def run_wait() -> None:
        found.append(await bench.run("wait"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_wait)
        assert (await bench.run("fail")).outcome == "error"
        failed.set()
    assert found[0].output == "untouched"


async def test_a_stream_that_fails_keeps_what_it_gave() -> None:
    @tool
    async def half() -> AsyncIterator[str]:
        """x"""
        yield "the first half"
        raise ValueError("gone")

    finished = await Bench(half).run()
    assert (finished.outcome, finished.output) == ("error", "the first half")


# retries


async def test_a_read_is_tried_again_with_the_same_key() -> None:
    keys: list[str] = []

    @tool(effect="read", retries=2)
    async def shaky(*, ctx: ToolContext) -> str:
        """x"""
        keys.append(ctx.idempotency_key)
        if len(keys) < 3:
            raise ConnectionError("reset")
        return "at last"

    before = counted("tool_retries", tool="shaky")
    assert (await Bench(shaky).run()).output == "at last"
    assert keys == ["key"] * 3
    assert counted("tool_retries", tool="shaky") == before + 2


async def test_after_the_last_try_the_error_is_the_result() -> None:
    tries: list[int] = []

    @tool(effect="idempotent", retries=1)
    def never() -> None:
        """x"""
        tries.append(1)
        raise ConnectionError("reset")

    assert (await Bench(never).run()).error == CallError("tool_failed", "ConnectionError: reset")
    assert len(tries) == 2


async def test_a_tool_error_and_a_cancelled_call_are_not_tried_again() -> None:
    tries: list[int] = []

    @tool(effect="read", retries=5)
    async def refuse() -> None:
        """x"""
        tries.append(1)
        raise ToolError("no")

    @tool(effect="read", retries=5)
    async def fail() -> None:
        """x"""
        tries.append(2)
        bench.flag.cancel()
        raise ValueError("no")

    bench = Bench(refuse, fail)
    await bench.run("refuse")
    await bench.run("fail")
    assert tries == [1, 2]


async def test_no_try_is_begun_for_which_there_is_no_time() -> None:
    tries: list[int] = []

    @tool(effect="read", retries=5, timeout=0.05)
    async def fail() -> None:
        """x"""
        tries.append(1)
        raise ValueError("no")

    assert (await Bench(fail).run()).error == CallError("tool_failed", "ValueError: no")
    assert tries == [1]


# time


DOUBT = "its outcome is unknown, it may have taken effect"


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        ("read", "timed out after 0.05 s"),
        ("idempotent", f"timed out after 0.05 s; {DOUBT}"),
        ("write", f"timed out after 0.05 s; {DOUBT}: check before repeating it"),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_tool_that_takes_too_long_times_out_and_says_what_it_may_have_done(
    kind: str, effect: str, said: str, gate: threading.Event
) -> None:
    @tool(name="slow", effect=effect, timeout=0.05)  # type: ignore[call-overload,untyped-decorator]
    def plain() -> None:
        """x"""
        gate.wait(PATIENCE)

    @tool(name="slow", effect=effect, timeout=0.05)  # type: ignore[call-overload,untyped-decorator]
    async def waiting() -> None:
        """x"""
        await anyio.sleep_forever()

    finished = await Bench(plain if kind == "sync" else waiting, grace=0.05).run()
    assert (finished.outcome, finished.error) == ("timeout", CallError("timeout", said))


async def test_a_tool_without_progress_times_out_though_it_has_time_left() -> None:
    @tool(effect="read", timeout=1000, idle_timeout=0.05)
    async def silent(*, ctx: ToolContext) -> AsyncIterator[str]:
        """x"""
        yield "so far "
        await anyio.sleep_forever()

    bench = Bench(silent)
    finished = await bench.run()
    assert finished.error == CallError("idle_timeout", "timed out: it showed no progress for 0.05 s")
    assert (finished.outcome, finished.output, bench.shown) == ("timeout", "so far ", ["so far "])


async def test_every_text_is_progress_also_where_nothing_more_is_shown() -> None:
    shown: list[str] = []
    showing = Showing(shown.append, tool_name="x", limit=1)
    seen = [showing.progress]
    for text in ("a", "over the limit", ""):
        showing.show(text)
        seen.append(showing.progress)
    assert seen == sorted(set(seen)), "each time is later than the one before"


async def test_a_timeout_gives_an_async_tool_the_grace_to_clean_up() -> None:
    cleaned = False

    @tool(timeout=0.05)
    async def tidy() -> None:
        """x"""
        nonlocal cleaned
        try:
            await anyio.sleep_forever()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    assert (await Bench(tidy).run()).outcome == "timeout"
    assert cleaned


# cancel


async def test_a_call_that_was_cancelled_before_it_started_never_runs() -> None:
    ran = False

    @tool
    async def act() -> None:
        """x"""
        nonlocal ran
        ran = True

    bench = Bench(act)
    bench.flag.cancel()
    finished = await bench.run()
    assert (finished.outcome, finished.error) == ("cancelled", CallError("cancelled", "cancelled before it started"))
    assert not ran


async def cancelled_once_started(bench: Bench, started: anyio.Event | threading.Event) -> ToolFinished:
    found: list[ToolFinished] = []

    async def run() -> None:
        found.append(await bench.run())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        if isinstance(started, threading.Event):
            await until(started)
        else:
            with anyio.fail_after(PATIENCE):
                await started.wait()
        bench.flag.cancel()
        bench.flag.cancel()
    return found[0]


async def test_a_running_async_tool_is_cancelled() -> None:
    started = anyio.Event()

    @tool(effect="read")
    async def wait() -> None:
        """x"""
        started.set()
        await anyio.sleep_forever()

    finished = await cancelled_once_started(Bench(wait), started)
    assert (finished.outcome, finished.error) == ("cancelled", CallError("cancelled", "cancelled while it ran"))


async def test_a_cancelled_write_says_that_it_may_have_taken_effect() -> None:
    started = anyio.Event()

    @tool
    async def act() -> None:
        """x"""
        started.set()
        await anyio.sleep_forever()

    finished = await cancelled_once_started(Bench(act), started)
    assert finished.error == CallError("cancelled", f"cancelled while it ran; {DOUBT}: check before repeating it")


async def test_a_running_stream_is_cancelled_closed_and_keeps_what_it_gave() -> None:
    started, closed = anyio.Event(), False

    @tool(effect="read")
    async def stream() -> AsyncIterator[str]:
        """x"""
        nonlocal closed
        try:
            yield "half "
            started.set()
            await anyio.sleep_forever()
        finally:
            closed = True

    finished = await cancelled_once_started(Bench(stream), started)
    assert (finished.outcome, finished.output, closed) == ("cancelled", "half ", True)


async def test_a_plain_tool_that_looks_at_cancelled_keeps_its_good_result() -> None:
    started = threading.Event()

    @tool
    def listen(*, ctx: ToolContext) -> str:
        """x"""
        started.set()
        while not ctx.cancelled:
            threading.Event().wait(0.001)
        return "stopped in good order"

    finished = await cancelled_once_started(Bench(listen), started)
    assert (finished.outcome, finished.output) == ("ok", "stopped in good order")


async def test_an_async_tool_that_ends_well_within_the_grace_keeps_its_result() -> None:
    started = anyio.Event()

    @tool
    async def finish(*, ctx: ToolContext) -> list[bool]:
        """x"""
        before = ctx.cancelled
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        return [before, ctx.cancelled]

    finished = await cancelled_once_started(Bench(finish), started)
    assert (finished.outcome, finished.output) == ("ok", [False, True])


async def test_an_exception_after_the_cancel_is_logged_and_the_call_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    started = anyio.Event()

    @tool(effect="read")
    async def trip() -> None:
        """x"""
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    finished = await cancelled_once_started(Bench(trip), started)
    assert finished.outcome == "cancelled"
    assert "raised while it was stopped" in caplog.records[0].getMessage()


async def test_a_thread_that_does_not_listen_is_left_behind_and_its_place_is_free(
    gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    started = threading.Event()

    @tool
    def stuck() -> None:
        """x"""
        started.set()
        gate.wait(PATIENCE)

    @tool
    def quick() -> str:
        """x"""
        return "ran"

    bench, before = Bench(stuck, quick, places=1, grace=0.05), counted("tool_threads_abandoned", tool="stuck")
    assert (await cancelled_once_started(bench, started)).outcome == "cancelled"
    assert counted("tool_threads_abandoned", tool="stuck") == before + 1
    assert "did not stop within 0.05 s, its thread is left behind" in caplog.text
    assert (bench.threads.busy, bench.threads.left_behind) == (0, 1)
    assert (await bench.run("quick", flag=CancelFlag())).output == "ran"
    gate.set()
    with anyio.fail_after(PATIENCE):
        while bench.threads.left_behind:
            await anyio.lowlevel.checkpoint()


async def test_a_task_that_swallows_its_cancellation_is_left_behind() -> None:
    started, release = anyio.Event(), asyncio.Event()

    @tool
    async def deaf() -> None:
        """x"""
        started.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    before = counted("tool_tasks_abandoned", tool="deaf")
    assert (await cancelled_once_started(Bench(deaf, grace=0.05), started)).outcome == "cancelled"
    assert counted("tool_tasks_abandoned", tool="deaf") == before + 1
    release.set()


async def test_a_call_that_waits_for_a_thread_can_be_cancelled_and_never_runs(gate: threading.Event) -> None:
    started, ran = threading.Event(), []

    @tool
    def hold() -> None:
        """x"""
        started.set()
        gate.wait(PATIENCE)

    @tool
    def queued() -> None:
        """x"""
        ran.append(1)

    bench, flag, found = Bench(hold, queued, places=1), CancelFlag(), []

    async def run_queued() -> None:
        found.append(await bench.run("queued", flag=flag))
        gate.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, "hold")
        await until(started)
        tasks.start_soon(run_queued)
        await until(lambda: bench.threads.waiting == 1)
        flag.cancel()
    assert found[0].error == CallError("cancelled", "cancelled before it started")
    assert ran == []


async def test_a_call_that_waited_for_a_thread_runs_once_one_is_free(gate: threading.Event) -> None:
    running: list[str] = []
    started = threading.Event()

    @tool(timeout=PATIENCE)
    def work(name: str) -> str:
        """x"""
        running.append(name)
        if name == "first":
            started.set()
            gate.wait(PATIENCE)
        return name

    bench, found = Bench(work, places=1), []

    async def run(name: str) -> None:
        found.append((await bench.run(name=name)).output)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: run("first"))
        await until(started)
        tasks.start_soon(lambda: run("second"))
        tasks.start_soon(lambda: run("third"))
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert running == ["first"]
        gate.set()
    assert found == ["first", "second", "third"]


async def test_past_the_bound_of_threads_left_behind_plain_tools_are_refused(gate: threading.Event) -> None:
    @tool(effect="read", timeout=0.02)
    def stuck() -> None:
        """x"""
        gate.wait(PATIENCE)

    bench = Bench(stuck, grace=0.02, left_behind=2)
    assert [(await bench.run()).outcome for _ in range(2)] == ["timeout", "timeout"]
    finished = await bench.run()
    assert finished.error == CallError("threads_exhausted", "not executed: 2 threads did not stop, limit is 2")


async def test_the_loop_goes_on_while_a_plain_tool_blocks(gate: threading.Event) -> None:
    started = threading.Event()

    @tool
    def block() -> str:
        """x"""
        started.set()
        return "released by the loop" if gate.wait(PATIENCE) else "the loop stood still"

    bench, found = Bench(block), []

    async def run() -> None:
        found.append((await bench.run()).output)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await until(started)
        gate.set()
    assert found == ["released by the loop"]


# the caller itself is cancelled


async def test_when_the_caller_is_cancelled_the_tool_is_told_and_may_clean_up() -> None:
    started, cleaned = anyio.Event(), False

    @tool
    async def wait(*, ctx: ToolContext) -> None:
        """x"""
        nonlocal cleaned
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            await asyncio.sleep(0)
            cleaned = ctx.cancelled

    bench = Bench(wait)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert cleaned


async def test_when_the_caller_is_cancelled_a_stuck_thread_does_not_hold_it(gate: threading.Event) -> None:
    started = threading.Event()

    @tool
    def stuck() -> None:
        """x"""
        started.set()
        gate.wait(PATIENCE)

    bench = Bench(stuck, grace=0.02)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        await until(started)
        tasks.cancel_scope.cancel()
    assert bench.threads.left_behind == 1


async def test_when_the_caller_is_cancelled_while_it_waits_for_a_thread_the_call_never_runs(
    gate: threading.Event,
) -> None:
    started, ran = threading.Event(), []

    @tool
    def hold() -> None:
        """x"""
        started.set()
        gate.wait(PATIENCE)

    @tool
    def queued() -> None:
        """x"""
        ran.append(1)

    bench = Bench(hold, queued, places=1)
    async with anyio.create_task_group() as outer:
        outer.start_soon(bench.run, "hold")
        await until(started)
        async with anyio.create_task_group() as inner:
            inner.start_soon(bench.run, "queued")
            await until(lambda: bench.threads.waiting == 1)
            inner.cancel_scope.cancel()
        gate.set()
    assert ran == []


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_tool_that_never_ends_does_not_hold_the_process(kind: str) -> None:
    body = "threading.Event().wait()" if kind == "def" else "await deaf()"
    code = f"""
        import asyncio, threading
        from legato import tool
        from legato.runtime.calls.toolbox import CancelFlag, StartedCall, Toolbox
        from legato.tools.registry import ToolRegistry

        async def deaf():
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        @tool(timeout=0.05)
        {kind} stuck():
            "x"
            {body}

        async def main():
            call = StartedCall(turn_id="t", chat_id="c", call_id="k", tool_name="stuck", input={{}}, principal="p",
                               idempotency_key="i", epoch=0, state={{}})
            toolbox = Toolbox(ToolRegistry([stuck]), grace=0.05)
            print((await toolbox.run(call, emit=print, cancel=CancelFlag())).outcome)

        asyncio.run(main())
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=True
    )
    assert said.stdout == "timeout\n"
