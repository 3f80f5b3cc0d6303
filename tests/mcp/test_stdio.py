"""A server that is a process: what it may do wrong, and what becomes of it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.mcp.house import alive, heard, hosting, memory_grows_less_than, pids, raw, until

from legato.runtime.calls.toolbox import CancelFlag
from legato.tools.mcp.settings import McpServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_a_tool_is_listed_and_called_and_its_text_is_the_output(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path)) as house:
        assert house.registry.names()[0] == "raw__say"
        assert house.status("raw").protocol == "2025-11-25"
        assert await house.output("raw__say", text="hello") == "hello"


async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(tmp_path: Path) -> None:
    flag = CancelFlag()
    async with hosting(raw("normal", tmp_path)) as house, anyio.create_task_group() as tasks:

        async def cancel() -> None:
            await until(lambda: bool(heard(tmp_path, "tools/call")))
            flag.cancel()

        tasks.start_soon(cancel)
        end = await house.run("raw__silent", flag=flag)
        assert end.outcome == "cancelled"
        await until(lambda: bool(heard(tmp_path, "notifications/cancelled")))
        (called,) = heard(tmp_path, "tools/call")
        (cancelled,) = heard(tmp_path, "notifications/cancelled")
        assert cancelled["params"]["requestId"] == called["id"]


async def test_a_call_that_is_never_answered_ends_at_its_timeout_and_its_sibling_does_not(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path, timeout=0.5)) as house:
        assert (await house.run("raw__silent")).outcome == "timeout"
        assert await house.output("raw__say", text="still there") == "still there"


async def test_a_server_that_dies_fails_its_call_and_is_there_for_the_next_one(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path)) as house:
        message = await house.error("raw__die")
        assert "it ended with exit code 7" in message
        assert "may have taken effect, check before repeating" in message
        assert await house.output("raw__say", text="again") == "again"
        assert len(pids(tmp_path)) == 2


async def test_what_is_no_result_is_an_error_of_its_call_only(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path)) as house:
        assert "its answer is not JSON-RPC" in await house.error("raw__garbled")
        assert "gave no valid result: content" in await house.error("raw__foreign")
        assert await house.output("raw__noise") == "after noise"
        assert len(pids(tmp_path)) == 1


async def test_a_server_that_reads_nothing_any_more_is_started_anew(tmp_path: Path) -> None:
    """Else each later call would wait for its timeout, for as long as the process lives."""
    async with hosting(raw("normal", tmp_path, timeout=1.0)) as house:
        assert (await house.run("raw__sulk")).outcome == "timeout"
        assert (await house.run("raw__say", text="x" * 1_000_000)).outcome != "ok"  # more than the pipe holds
        await until(lambda: house.status("raw").problem == "it has read nothing for 1 s")
        assert await house.output("raw__say", text="hello") == "hello"
        assert len(pids(tmp_path)) == 2


async def test_a_server_that_babbles_lets_the_loop_have_its_turn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A chunk of its output has thousands of such lines, each of which is looked at and logged."""
    caplog.set_level(logging.DEBUG, "legato.tools.mcp.stdio")
    most = 0

    async def look() -> None:
        nonlocal most
        while True:
            before = len(caplog.records)
            await anyio.lowlevel.checkpoint()
            most = max(most, len(caplog.records) - before)

    async with hosting(raw("normal", tmp_path)) as house, anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        assert await house.output("raw__babble", line="x\n", times=50_000) == "after all that"
        tasks.cancel_scope.cancel()
    assert len(caplog.records) >= 50_000
    assert most < 1_000


@pytest.mark.parametrize("tool", ["huge", "huge_tail"])
async def test_a_message_over_the_bound_is_an_error_of_its_call_only(tmp_path: Path, tool: str) -> None:
    async with hosting(raw("normal", tmp_path, message_bytes=1024 * 1024)) as house:
        message = await house.error(f"raw__{tool}", mebibytes=2)
        assert "its message has " in message
        assert message.endswith("limit is 1048576")
        assert await house.output("raw__say", text="still there") == "still there"
        assert len(pids(tmp_path)) == 1


@pytest.mark.slow
async def test_a_gibibyte_of_output_grows_memory_by_less_than_64_mebibytes(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path, timeout=50.0)) as house:
        await house.output("raw__say", text="warm")
        with memory_grows_less_than(64):
            assert "limit is" in await house.error("raw__huge", mebibytes=1024)
            # The line is read to its end before what comes behind it.
            assert await house.output("raw__say", text="still there") == "still there"


async def test_a_line_that_never_ends_takes_no_memory_and_fails_its_own_call(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path, timeout=1.0, message_bytes=1024 * 1024)) as house:
        with memory_grows_less_than(32):
            assert (await house.run("raw__endless", mebibytes=64)).outcome == "timeout"


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("exits", "it ended with exit code 1; its last words: cannot find the licence"),
        ("no-mcp", "it did not answer within 1 s, and wrote what is not MCP: 'Welcome!'; is it a server for stdio?"),
        ("mute", "it did not answer within 1 s; where it needs longer, raise connect_timeout"),
        ("wrong-list", "what it says is not valid MCP: tools.0.inputSchema: Field required"),
    ],
)
async def test_a_process_that_is_no_server_is_a_sentence_in_the_status(tmp_path: Path, mode: str, problem: str) -> None:
    async with hosting(raw(mode, tmp_path, connect_timeout=1.0)) as house:
        assert house.status("raw").state == "down"
        assert house.status("raw").problem == problem
        assert house.registry.names() == ()


async def test_a_command_that_cannot_be_started_is_a_sentence_in_the_status(tmp_path: Path) -> None:
    gone = McpServer(name="gone", command="no-such-command")
    nowhere = McpServer(name="nowhere", command=sys.executable, cwd=str(tmp_path / "none"))
    async with hosting(gone, nowhere) as house:
        assert house.status("gone").problem == (
            "there is no command 'no-such-command': install it, or give its whole path"
        )
        problem = house.status("nowhere").problem
        assert problem is not None
        assert problem.startswith("there is no folder ")


@pytest.mark.parametrize("mode", ["normal", "mute", "deaf"])
async def test_no_process_is_left_behind(tmp_path: Path, mode: str) -> None:
    async with hosting(raw(mode, tmp_path, connect_timeout=1.0)):
        assert all(map(alive, pids(tmp_path))) or mode == "mute"
    assert pids(tmp_path)
    assert not any(map(alive, pids(tmp_path)))


async def test_a_process_gets_its_own_variables_and_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    told = tmp_path / "told"
    script = "import os, sys; open(sys.argv[1], 'w').write(repr(dict(os.environ)))"
    server = McpServer(name="env", command=sys.executable, args=("-c", script, str(told)), env={"MINE": "yes"})
    async with hosting(server):
        environ = told.read_text()
    assert "'MINE': 'yes'" in environ
    assert "'PATH'" in environ
    assert "s3cret" not in environ
