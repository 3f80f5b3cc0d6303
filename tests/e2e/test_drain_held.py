"""A stop that something holds up: the server is gone in time all the same, and at a second signal now (hazard 22)."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.e2e.holder import locked
from tests.e2e.house import MODELS, Child, playing, spawned
from tests.patience import BOUND, until

from legato.core import events as e
from legato.observability import process
from legato.testing.upstream import Gate, Say, Script

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DRAIN = 1
AFTER_DRAIN = 5
"""Seconds that a stop may take beyond the drain (docs/cli.md)."""
AT_ONCE = 2
"""Seconds after a second signal."""
LOOK = 0.02
"""Seconds between two looks at what another process does."""

TOOLS = '''
import time
from pathlib import Path

import anyio

from legato import formatter, tool

@tool(effect="read")
def deaf() -> str:
    """Holds its thread."""
    time.sleep(3600)

@tool(effect="read")
async def blocking() -> str:
    """Holds the loop."""
    Path("held").touch()
    time.sleep(3600)

@tool(effect="read")
async def stubborn() -> str:
    """Ends for nobody."""
    while True:
        try:
            await anyio.sleep_forever()
        except BaseException:
            continue

@tool(effect="read")
async def quick() -> str:
    """What the formatter is slow with."""
    return "there"

@formatter("quick")
def slow_words(output):
    time.sleep(3600)
'''


def script(*steps: dict[str, object]) -> str:
    return "```script\n" + "\n".join(map(json.dumps, steps)) + "\n```"


async def started(child: Child, *steps: dict[str, object]) -> str:
    return await child.ask(script(*steps), model="script/echo")


async def running(child: Child, *steps: dict[str, object]) -> str:
    """A turn that has called its tool."""
    turn_id = await started(child, *steps)
    await child.until(turn_id, lambda event: isinstance(event, e.ToolStart))
    return turn_id


# What may hold a stop


@contextlib.asynccontextmanager
async def silent_provider(child: Child, _: Path) -> AsyncIterator[None]:
    turn_id = await started(child, {"text": "As far as this. "}, {"wait": 3600})
    await child.until(turn_id, lambda event: isinstance(event, e.BlockDelta))
    yield


@contextlib.asynccontextmanager
async def tool_in_a_thread(child: Child, _: Path) -> AsyncIterator[None]:
    await running(child, {"tool": "deaf", "input": {}})
    yield


@contextlib.asynccontextmanager
async def tool_that_ends_for_nobody(child: Child, _: Path) -> AsyncIterator[None]:
    await running(child, {"tool": "stubborn", "input": {}})
    yield


@contextlib.asynccontextmanager
async def tool_on_the_loop(child: Child, folder: Path) -> AsyncIterator[None]:
    await started(child, {"wait": 0.5}, {"tool": "blocking", "input": {}})
    await until((folder / "held").exists, every=LOOK)
    yield


@contextlib.asynccontextmanager
async def formatter_in_a_thread(child: Child, _: Path) -> AsyncIterator[None]:
    turn_id = await started(child, {"tool": "quick", "input": {}})
    await child.until(turn_id, lambda event: isinstance(event, e.RoundStop))
    yield


@contextlib.asynccontextmanager
async def reader_that_takes_nothing(child: Child, _: Path) -> AsyncIterator[None]:
    turn_id = await started(child, {"text": "word " * 10, "repeat": 20_000}, {"wait": 3600})
    await child.until(turn_id, lambda event: isinstance(event, e.BlockDelta) and event.seq > 100_000)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", child.port))
        reader.sendall(f"GET /v1/turns/{turn_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await anyio.wait_readable(reader)
        yield


@contextlib.asynccontextmanager
async def locked_database(child: Child, folder: Path) -> AsyncIterator[None]:
    turn_id = await started(child, {"text": "on and ", "repeat": 2_000, "pace": 20})
    await child.until(turn_id, lambda event: isinstance(event, e.BlockDelta))
    with locked(folder):
        yield


Trouble = Callable[[Child, Path], AbstractAsyncContextManager[None]]
ORDERLY: list[Trouble] = [
    silent_provider,
    tool_in_a_thread,
    tool_that_ends_for_nobody,
    formatter_in_a_thread,
    reader_that_takes_nothing,
    locked_database,
]


@contextlib.asynccontextmanager
async def troubled(folder: Path, trouble: Trouble, *, drain: float) -> AsyncIterator[Child]:
    async with spawned(folder, "--drain", str(drain), tools=TOOLS) as child, trouble(child, folder):
        yield child


def commits_failed() -> float:
    return process.value("store_commits", store="sqlite", outcome="failed")


async def until_draining(child: Child) -> None:
    with anyio.fail_after(BOUND):
        while (await child.client.get("/readyz")).status_code == 200:
            await anyio.lowlevel.checkpoint()


def refuses(port: int) -> bool:
    """Nobody listens there any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("trouble", ORDERLY)
async def test_the_stop_is_over_in_time_and_in_order_whatever_holds_it(tmp_path: Path, trouble: Trouble) -> None:
    async with troubled(tmp_path, trouble, drain=DRAIN) as child:
        child.signal(signal.SIGTERM)
        with anyio.fail_after(DRAIN + AFTER_DRAIN):
            assert await child.ended() == 0


async def test_a_tool_that_holds_the_loop_is_ended_with_its_process(tmp_path: Path) -> None:
    """Nothing is done in order any more, and the exit code says so."""
    async with troubled(tmp_path, tool_on_the_loop, drain=DRAIN) as child:
        child.signal(signal.SIGTERM)
        with anyio.fail_after(DRAIN + AFTER_DRAIN):
            assert await child.ended() == 1


@pytest.mark.parametrize("trouble", [*ORDERLY, tool_on_the_loop])
async def test_a_second_signal_ends_it_at_once_whatever_holds_it(tmp_path: Path, trouble: Trouble) -> None:
    async with troubled(tmp_path, trouble, drain=3600) as child:
        child.signal(signal.SIGTERM)
        if trouble is tool_on_the_loop:  # nobody can see that it heard the first, and two of a kind would be one
            second = signal.SIGINT
        else:
            second = signal.SIGTERM
            await until_draining(child)
        child.signal(second)
        with anyio.fail_after(AT_ONCE):
            assert await child.ended() in (128 + signal.SIGTERM, 128 + second)


@pytest.mark.parametrize("trouble", [tool_in_a_thread, locked_database])
async def test_a_second_signal_after_the_drain_ends_it_at_once_too(tmp_path: Path, trouble: Trouble) -> None:
    """The listeners are closed, and what is left to do is done outside the server."""
    async with troubled(tmp_path, trouble, drain=0) as child:
        child.signal(signal.SIGTERM)
        await until(lambda: refuses(child.port), every=LOOK)
        with contextlib.suppress(ProcessLookupError):  # it may have ended by then
            child.signal(signal.SIGTERM)
        with anyio.fail_after(AT_ONCE):
            assert await child.ended() in (0, 128 + signal.SIGTERM, -signal.SIGTERM)


async def test_what_a_locked_database_did_not_take_until_the_end_is_in_the_next_server(tmp_path: Path) -> None:
    had: list[e.Event] = []

    async def read(child: Child, turn_id: str) -> None:
        async for event in child.events(turn_id, each=True):
            had.append(event)  # noqa: PERF401 - what came so far is looked at meanwhile

    async with spawned(tmp_path, "--drain", "0") as child, anyio.create_task_group() as tasks:
        turn_id = await started(child, {"text": "on and ", "repeat": 2_000, "pace": 50})
        tasks.start_soon(read, child, turn_id)
        await until(lambda: len(had) > 10)
        with locked(tmp_path):
            before = len(had)
            await until(lambda: len(had) > before + 20)
            child.signal(signal.SIGTERM)
            with anyio.fail_after(AFTER_DRAIN):
                assert await child.ended() == 0
    async with spawned(tmp_path) as child, contextlib.aclosing(child.events(turn_id, each=True)) as events:
        with anyio.fail_after(BOUND):
            assert [await anext(events) for _ in had] == had


async def test_a_turn_is_free_for_others_only_once_the_store_has_all_of_it(tmp_path: Path) -> None:
    """What lies in the spool of a living process nobody else can drain, and whoever takes the turn up shuts it out."""
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Before."), Gate("here"), Say("Then."), Gate("never")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        with locked(tmp_path):
            upstream.release("here")
            said = await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta) and event.text == "Then.")
            failed = commits_failed()
            await house.service.drain(0)
            await until(lambda: commits_failed() > failed)  # what is asked of the store from now on, it may do
        with contextlib.closing(sqlite3.connect(tmp_path / "legato.db")) as database, anyio.fail_after(BOUND):
            query = "SELECT last_seq FROM turn WHERE id = ? AND owner IS NULL"
            while (free := database.execute(query, [turn_id]).fetchone()) is None:
                await anyio.lowlevel.checkpoint()
        assert free[0] >= said.seq
