"""A host of many servers: none of them delays a start, and none touches another."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest
from tests.mcp.house import PATIENCE, SERVERS, alive, hosting, made_with_sdk, pids, raw, until

from legato import compose, formatter, tool
from legato.config import load
from legato.observability import causes
from legato.tools.mcp.host import McpHost
from legato.tools.mcp.settings import McpServer
from legato.tools.registry import ToolRegistry

pytestmark = pytest.mark.anyio


async def test_opening_a_host_waits_for_no_server(tmp_path: Path) -> None:
    registry = ToolRegistry()
    async with McpHost([raw("mute", tmp_path)], formatters=registry.formatters) as host:
        assert [one.state for one in host.status()] == ["starting"]
        assert registry.names() == ()


async def test_dead_slow_and_lying_servers_leave_the_others_alone(tmp_path: Path) -> None:
    servers = [
        McpServer(name="gone", command="no-such-command"),
        McpServer(name="nobody", url="http://127.0.0.1:9/mcp"),
        raw("mute", tmp_path, name="mute", connect_timeout=1.0),
        raw("exits", tmp_path, name="exits"),
        raw("storm", tmp_path, name="storm"),
        raw("normal", tmp_path),
        made_with_sdk(tmp_path),
    ]
    async with hosting(*servers) as house:
        states = {one.name: one.state for one in house.host.status()}
        assert states == {
            **dict.fromkeys(["gone", "nobody", "mute", "exits"], "down"),
            **dict.fromkeys(["storm", "raw", "sdk"], "ready"),
        }
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(house.error, "gone__say")
            tasks.start_soon(house.error, "raw__die")
            for _ in range(10):
                assert await house.output("sdk__echo", text="fine") == "fine"
    assert any(
        one.message == "mcp server exits: it ended with exit code 1; its last words: cannot find the licence"
        for one in causes()
    )


async def test_a_server_that_comes_late_is_found_by_the_call_that_wants_it(tmp_path: Path) -> None:
    command = tmp_path / "late"
    server = McpServer(
        name="late",
        command=str(command),
        args=("-u", str(SERVERS / "raw.py"), "normal"),
        env={"MCP_TEST_FOLDER": str(tmp_path)},
    )
    async with hosting(server) as house:
        assert house.status("late").state == "down"
        command.symlink_to(sys.executable)
        await until(lambda: house.status("late").state == "ready")
        assert await house.output("late__say", text="here") == "here"


async def test_many_connections_are_opened_used_by_others_and_closed_without_a_trace(tmp_path: Path) -> None:
    """Elsewhere: "exit cancel scope in a different task than it was entered in", and the host goes along."""
    for _ in range(3):
        servers = [raw("normal", tmp_path, name=f"raw{number}") for number in range(4)]
        async with hosting(*servers) as house, anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(house.output, f"raw{number}__noise")
                tasks.start_soon(house.run, f"raw{number}__die")
    assert not any(map(alive, pids(tmp_path)))


async def test_a_host_that_is_cancelled_while_calls_run_closes_all(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:

        async def hosted() -> None:
            async with hosting(
                raw("normal", tmp_path), raw("mute", tmp_path, name="mute", connect_timeout=1.0)
            ) as house:
                await house.run("raw__silent")

        tasks.start_soon(hosted)
        await until(lambda: "silent" in (tmp_path / "heard").read_text() if (tmp_path / "heard").exists() else False)
        tasks.cancel_scope.cancel()
    assert not any(map(alive, pids(tmp_path)))


async def test_a_formatter_of_ones_own_goes_before_ours_and_is_no_stranger(tmp_path: Path) -> None:
    @formatter("raw__say")
    def loud(output: str) -> str:
        return output.upper()

    registry = ToolRegistry([loud])
    async with McpHost([raw("normal", tmp_path)], formatters=registry.formatters) as host:
        registry.attach(host)
        await until(lambda: host.status()[0].state == "ready")
        reading = registry.formatters.read(
            call_id="call", tool_name="raw__say", outcome="ok", output="hello", error=None, max_bytes=100
        )
        assert (reading.text, reading.formatter) == ("HELLO", "raw__say")


async def test_a_tool_of_ones_own_goes_before_a_servers_of_the_same_name_which_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @tool(name="raw__say")
    async def mine(text: str) -> str:
        """Mine."""
        return f"mine: {text}"

    registry = ToolRegistry([mine])
    async with McpHost([raw("normal", tmp_path)], formatters=registry.formatters) as host:
        registry.attach(host)
        await until(lambda: host.status()[0].state == "ready")
        for _ in range(2):
            assert [one.spec.description for one in registry if one.spec.name == "raw__say"] == ["Mine."]
        assert "raw__silent" in registry.names()
    (said,) = [record.getMessage() for record in caplog.records if "raw__say" in record.getMessage()]
    assert said.startswith("mcp:raw offers a tool 'raw__say', which is never called: tests/mcp/test_host.py:")


async def said_by(script: str) -> str:
    with anyio.fail_after(PATIENCE):
        ran = await anyio.run_process([sys.executable, "-c", script])
    return ran.stdout.decode().strip()


TRYING = """
import sys, anyio
{first}
from legato.tools.mcp.host import McpHost
from legato.tools.mcp.settings import McpServer
from legato.tools.registry import ToolRegistry
async def main():
    async with McpHost([McpServer(name="a", command="x")], formatters=ToolRegistry().formatters) as host:
        while host.status()[0].state == "starting":
            await anyio.sleep(0.01)
        print(host.status()[0].problem)
anyio.run(main)
"""


async def test_without_the_extra_the_sentence_says_what_to_install() -> None:
    said = await said_by(TRYING.format(first='sys.modules["mcp"] = None'))
    assert said == 'MCP needs a package that is not installed (mcp): pip install "legato[mcp]"'


async def test_a_package_that_is_broken_takes_nobody_along(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise RuntimeError('half a package')")
    said = await said_by(TRYING.format(first=f"sys.path.insert(0, {str(tmp_path)!r})"))
    assert said == "RuntimeError: half a package"


async def test_the_sdk_is_imported_only_where_a_server_is_configured() -> None:
    script = "import sys, legato.compose; print([one for one in ('mcp', 'mcp_types', 'httpx2') if one in sys.modules])"
    assert await said_by(script) == "[]"


async def test_the_configuration_names_servers_with_the_values_of_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_TEST_FOLDER", str(tmp_path))
    file = tmp_path / "legato.toml"
    file.write_text(
        f'[mcp.raw]\ncommand = "{sys.executable}"\nargs = ["-u", "{SERVERS / "raw.py"}", "normal"]\n'
        'env = { MCP_TEST_FOLDER = "${MCP_TEST_FOLDER}" }\n'
        '[mcp.secret]\nurl = "http://127.0.0.1:9/mcp"\nheaders = { Authorization = "Bearer ${NOT_SET_ANYWHERE}" }\n'
    )
    config = load(file=file)
    registry = compose.tool_registry(config)
    async with compose.mcp_tools(config, registry) as host:
        assert isinstance(host, McpHost)
        await until(lambda: all(one.state != "starting" for one in host.status()))
        assert "raw__say" in registry.names()
        assert [one.problem for one in host.status()] == [
            None,
            "NOT_SET_ANYWHERE is not set: set it where Legato is started, or take it out",
        ]
