"""`legato serve` with servers of MCP: it is ready at once, whatever they do, and their tools are in its turns."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import PATIENCE, Server
from tests.mcp.house import SERVERS, alive, pids

pytestmark = pytest.mark.slow

TOML = """
[mcp.gone]
command = "no-such-command"

[mcp.mute]
command = "{python}"
args = ["-u", "{raw}", "mute"]
env = {{ MCP_TEST_FOLDER = "{folder}" }}
connect_timeout = 3600

[mcp.raw]
command = "{python}"
args = ["-u", "{raw}", "normal"]
env = {{ MCP_TEST_FOLDER = "{folder}" }}
allow = ["say", "die"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    text = TOML.format(python=sys.executable, raw=SERVERS / "raw.py", folder=tmp_path)
    (tmp_path / "legato.toml").write_text(text)
    return tmp_path


def until_listed(server: Server, name: str) -> list[str]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        names = [tool["name"] for tool in server.ask("GET", "/v1/tools")["data"]]
        if name in names:
            return names
    raise AssertionError(f"{name} was never listed")


def results(server: Server, turn_id: str) -> list[dict[str, Any]]:
    blocks = server.ask("GET", f"/v1/turns/{turn_id}")["blocks"]
    return [block for block in blocks if block["type"] == "tool_result"]


def test_it_is_ready_while_one_server_is_dead_and_another_has_not_answered_yet(home: Path) -> None:
    with Server(cwd=home) as server:
        assert "mcp       gone, mute, raw: their tools come once they are listed" in server.until("provider answers")
        assert server.ask("GET", "/readyz")["status"] == "ok"
        assert until_listed(server, "raw__say")[-2:] == ["raw__say", "raw__die"]
        (result,) = results(server, server.play({"tool": "raw__say", "input": {"text": "hello"}}))
        assert (result["outcome"], result["output"]) == ("ok", "hello")
        (result,) = results(server, server.play({"tool": "raw__die", "input": {}}))
        assert "it ended with exit code 7" in result["error"]["message"]
        (result,) = results(server, server.play({"tool": "raw__say", "input": {"text": "again"}}))
        assert (result["outcome"], result["output"]) == ("ok", "again")
        server.until_complaint("mcp server gone: there is no command 'no-such-command'")
        assert server.complained.count("no-such-command': install it") == 2  # the sentence, and the cause it counts as
        assert server.stop() == 0
    assert not any(map(alive, pids(home)))


def test_a_server_that_stops_leaves_no_process_of_mcp_behind_though_a_call_runs(home: Path) -> None:
    (home / "legato.toml").write_text((home / "legato.toml").read_text().replace('"die"]', '"silent"]'))
    with Server("--drain", "0", cwd=home) as server:
        until_listed(server, "raw__say")
        server.start({"tool": "raw__silent", "input": {}})
        server.until_there_is(home / "heard")
        while "silent" not in (home / "heard").read_text():
            time.sleep(0.01)
        assert server.stop() == 0
    assert not any(map(alive, pids(home)))
