"""What became of a call that a dead process had begun: the outside says, or nobody knows. Nothing runs again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import anyio
import anyio.lowlevel
import pytest
from tests.runtime.calls import PATIENCE, Bench, until

from legato import ToolError, tool
from legato.core.blocks import CallError
from legato.core.inputs import ToolFinished

pytestmark = pytest.mark.anyio

UNKNOWN = ToolFinished(
    call_id="call",
    outcome="unknown",
    error=CallError("interrupted", "interrupted; it may have taken effect; check before repeating"),
)


def pays(reconcile: Callable[[str], object] | None, *, timeout: float = PATIENCE) -> Callable[..., object]:
    @tool(reconcile=reconcile, timeout=timeout)
    def pay() -> None:
        """x"""
        raise AssertionError("it must not run again")

    return pay


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def test_what_the_outside_says_is_the_result_and_the_tool_is_not_run() -> None:
    def plain(key: str) -> object:
        assert threading.current_thread() is not threading.main_thread(), "it may block"
        return {"key": key}

    async def waiting(key: str) -> object:
        assert threading.current_thread() is threading.main_thread()
        await anyio.lowlevel.checkpoint()
        return {"key": key}

    def gives_an_awaitable(key: str) -> object:
        return waiting(key)

    for ask in (plain, waiting, gives_an_awaitable):
        assert await Bench(pays(ask)).reconcile() == ToolFinished(call_id="call", outcome="ok", output={"key": "key"})


async def test_what_is_large_is_kept_as_any_output_is() -> None:
    bench = Bench(pays(lambda _: "x" * 2_000_000))
    finished = await bench.reconcile()
    assert (finished.outcome, finished.bytes) == ("ok", 2_000_000)
    assert bench.kept.only == b"x" * 2_000_000


async def test_who_knows_that_nothing_happened_says_so() -> None:
    def ask(key: str) -> object:
        raise ToolError(f"no payment {key} came in")

    assert await Bench(pays(ask)).reconcile() == ToolFinished(
        call_id="call", outcome="error", error=CallError("tool_error", "no payment key came in")
    )


async def test_that_nothing_happened_is_not_believed_while_whoever_began_the_call_may_live() -> None:
    def ask(key: str) -> object:
        raise ToolError(f"no payment {key} came in")

    finished = await Bench(pays(ask)).reconcile(dead=False)
    assert finished.outcome == "unknown"
    assert "may be alive and still do it" in str(finished.error)
    assert (await Bench(pays(lambda _: "paid")).reconcile(dead=False)).outcome == "ok"


async def broken(key: str) -> object:
    raise ConnectionError("refused")


def interrupted(key: str) -> object:
    raise SystemExit


@pytest.mark.parametrize("ask", [None, lambda _: None, broken, interrupted])
async def test_where_nobody_can_tell_it_is_unknown(ask: Callable[[str], object] | None) -> None:
    assert await Bench(pays(ask)).reconcile() == UNKNOWN


async def test_a_tool_that_is_gone_is_unknown() -> None:
    assert await Bench().reconcile("gone") == UNKNOWN


@pytest.mark.parametrize("dead", [True, False])
async def test_an_output_that_is_no_json_says_that_it_ran(dead: bool) -> None:
    finished = await Bench(pays(lambda _: object())).reconcile(dead=dead)
    assert finished.error == CallError("not_json", "the tool ran, but what it returned is not JSON: object is not JSON")


async def test_what_failed_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await Bench(pays(broken)).reconcile()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "its reconcile raised" in caplog.text


async def test_asking_takes_no_longer_than_the_tools_timeout(gate: threading.Event) -> None:
    async def never(key: str) -> object:
        await anyio.sleep_forever()
        return None

    for ask in (never, lambda _: gate.wait(PATIENCE)):
        assert await Bench(pays(ask, timeout=0.05), grace=0.05).reconcile() == UNKNOWN


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_cancel_ends_the_asking(kind: str, gate: threading.Event) -> None:
    started = threading.Event()

    def plain(key: str) -> object:
        started.set()
        return gate.wait(PATIENCE)

    async def waiting(key: str) -> object:
        started.set()
        await anyio.sleep_forever()
        return None

    bench, ends = Bench(pays(plain if kind == "sync" else waiting), grace=0.05), []

    async def run() -> None:
        ends.append(await bench.reconcile())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await until(started)
        bench.flag.cancel()
    assert ends == [UNKNOWN]


async def test_after_a_cancel_nobody_is_asked() -> None:
    asked: list[str] = []
    bench = Bench(pays(asked.append))
    bench.flag.cancel()
    assert await bench.reconcile() == UNKNOWN
    assert asked == []


async def test_without_a_free_thread_it_is_unknown_and_not_said_to_be_undone(gate: threading.Event) -> None:
    bench = Bench(pays(lambda _: gate.wait(PATIENCE), timeout=0.02), grace=0.02, left_behind=1)
    for _ in range(2):
        assert await bench.reconcile() == UNKNOWN
