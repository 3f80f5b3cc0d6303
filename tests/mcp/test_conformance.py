"""Servers and scenarios that nobody here wrote. They need npm and its registry, so they run when asked for.

``@modelcontextprotocol/conformance`` plays a server to the host, each scenario with its own checks. Those named
``auth/…`` are left out: OAuth is not spoken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mcp.house import hosting

from legato.tools.mcp.settings import McpServer

pytestmark = [pytest.mark.service, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
CONFORMANCE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
"""The newest that has scenarios of 2026-07-28 (2026-11)."""
EVERYTHING = "@modelcontextprotocol/server-everything@2026.8.31"
OLD = [
    "initialize",
    "tools_call",
    "elicitation-sep1034-client-defaults",
    "sse-retry",
    "json-schema-2020-12-preservation",
]
NEW = [
    "tools_call",
    "request-metadata",
    "sep-2322-client-request-state",
    "http-standard-headers",
    "http-custom-headers",
    "http-invalid-tool-headers",
    "json-schema-ref-no-deref",
    "json-schema-2020-12-preservation",
]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages, and a node that is new enough for them."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--no-fund", "--no-audit", "node@22", CONFORMANCE, EVERYTHING]
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not come to an end")
    if ran.returncode:
        pytest.skip(f"npm: {ran.stderr.strip()[-300:]}")
    return folder / "node_modules"


@pytest.mark.parametrize(
    ("version", "scenario"), [*(("2025-11-25", one) for one in OLD), *(("2026-07-28", one) for one in NEW)]
)
def test_a_scenario_of_the_conformance_suite_passes(node: Path, version: str, scenario: str) -> None:
    suite = node / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    client = f"{sys.executable} -m tests.mcp.conformance_client"
    command = [str(node / "node" / "bin" / "node"), str(suite), "client", "--command", client]
    command += ["--scenario", scenario, "--spec-version", version]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=50, check=False)
    # It tells by standard error, and ends with 0 where a scenario was skipped.
    assert "OVERALL: PASSED" in ran.stderr, ran.stderr[-3000:]


@pytest.mark.anyio
async def test_the_server_with_everything_is_listed_and_called(node: Path) -> None:
    script = node / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    server = McpServer(name="everything", command=str(node / "node" / "bin" / "node"), args=(str(script), "stdio"))
    async with hosting(server) as house:
        assert house.status("everything").state == "ready", house.status("everything")
        assert await house.output("everything__echo", message="hello") == "Echo: hello"
        picture = await house.output("everything__get-tiny-image")
        assert "[image: image/png, " in house.reading("everything__get-tiny-image", picture)
        end = await house.run("everything__trigger-long-running-operation", duration=1, steps=2)
        assert end.outcome == "ok"
        assert house.shown == ["1 of 2\n", "2 of 2\n"]
        structured = await house.output("everything__get-structured-content", location="Chicago")
        assert structured["structuredContent"].keys() == {"temperature", "conditions", "humidity"}
