"""docs/testing.md: a user's suite as it stands there passes, and what it says of the upstream is so."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import httpx
import pytest
from tests.docs.pages import ROOT, code, fences, rows, text_of
from tests.docs.shell import BOUND, Shell, desk, server

import legato.testing.upstream
from legato.core.blocks import Json
from legato.providers import script as provider_script
from legato.testing import chance, script, script_file
from legato.testing.marks import PATIENCE

PAGE = "docs/testing.md"


SUITE = {fence.file or "": fence.body for fence in fences(PAGE, "python")}
SLOW = SUITE.keys() - {"test_weather.py"}
"""They start servers of their own, or wait for their faults to be over."""


@pytest.mark.parametrize("file", [pytest.param(one, marks=[pytest.mark.slow] if one in SLOW else []) for one in SUITE])
def test_the_suite_on_the_page_passes(file: str, tmp_path: Path) -> None:
    """In a folder of its own, without this project's settings for pytest."""
    (tmp_path / file).write_text(SUITE[file])
    shutil.copy(ROOT / "examples" / "tools.py", tmp_path / "tools.py")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    wanted = len(re.findall(r"^(?:async )?def test_", SUITE[file], re.MULTILINE))
    with desk(tmp_path, {}) as at:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", file],
            cwd=tmp_path,
            env=at.environ,
            capture_output=True,
            text=True,
            timeout=3 * BOUND,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    ended = re.match(r"(\d+) passed in", last)
    assert ended is not None, last
    assert int(ended[1]) >= wanted  # a test that is run for several seeds counts several times


def test_every_step_and_every_answer_is_in_the_tables_and_no_other() -> None:
    shown = {code(row[0])[0] for row in rows(PAGE, "### What a script says")}
    kinds = {*get_args(script.Step), *get_args(script.Answer)} - {script.Script}
    assert shown == {kind.__name__ for kind in kinds}
    assert shown < set(legato.testing.upstream.__all__)


def test_every_fault_that_a_seed_may_choose_is_in_the_table_of_its_seam_and_no_other() -> None:
    kinds = {
        "provider": get_args(chance.ProviderKind),
        "store": get_args(chance.StoreKind),
        "process": get_args(chance.ProcessKind),
        "clock": get_args(chance.ClockKind),
    }
    table = {row[0]: code(row[1]) for row in rows(PAGE, "## Faults at every seam") if row[0]}
    assert {seam: tuple(table[seam]) for seam in kinds} == kinds
    drawn = {row[0]: code(row[3])[0] for row in rows(PAGE, "## Faults at every seam") if row[0]}
    for seam, call in drawn.items():
        assert call.removeprefix("await ").startswith(f"chance.{seam}().")
        assert hasattr(chance.Chance, seam)


def test_every_step_of_a_line_is_in_the_table() -> None:
    table = rows(PAGE, "## On the command line")
    shown = {name for row in table for name in code(row[0])}
    assert shown == set(provider_script._FIELDS) == set(script_file.KINDS) - {"gate", "ping", "usage"}
    takes = {name: set(code(row[1])) for row in table for name in code(row[0])}
    for kind, fields in provider_script._FIELDS.items():
        assert fields - {kind} - {"new", "signature"} <= takes[kind], kind
    by_name = {code(row[0])[0]: row[2] for row in table}
    assert set(get_args(provider_script.Fault)) == set(code(by_name["fail"]))
    assert set(get_args(script.Reason)) == set(code(by_name["end"]))


def test_both_readers_of_scripts_read_the_one_on_the_page_alike() -> None:
    (shown,) = fences(PAGE, "script")
    rounds = provider_script.rounds(provider_script.parse(shown.body))
    assert len(rounds) == len(script_file.parse(shown.body)) == 2


def test_the_upstream_on_the_command_line_plays_the_script_to_a_server(tmp_path: Path) -> None:
    command = next(fence.body for fence in fences(PAGE, "sh") if "legato.testing.upstream" in fence.body)
    (shown,) = fences(PAGE, "script")
    assert shown.file is not None
    (tmp_path / shown.file).write_text(shown.body)
    program, *arguments = command.replace("--port 9000", "--port 0").split()
    assert program == ".venv/bin/python"
    with subprocess.Popen([sys.executable, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as upstream:
        try:
            assert upstream.stdout is not None
            environ = {"ANTHROPIC_API_KEY": "any", "ANTHROPIC_BASE_URL": upstream.stdout.readline().split()[-1]}
            with desk(tmp_path, environ) as at, server(at, "examples/tools.py") as running:
                turn = _turn(running.url, {"input": "How is the weather?"})
        finally:
            upstream.send_signal(signal.SIGINT)
            upstream.wait(BOUND)
    assert upstream.returncode == 0
    texts = [block["text"] for block in turn["blocks"] if block["type"] == "text"]
    assert texts == ["I will look in Oslo. ", "and on " * 5, "4 degrees."]
    assert [block["outcome"] for block in turn["blocks"] if block["type"] == "tool_result"] == ["ok"]


def _turn(url: str, body: dict[str, str]) -> Json:
    with httpx.Client(base_url=url, timeout=BOUND, trust_env=False) as client:
        started = client.post("/v1/turns", json=body).json()
        client.get(started["events_url"])
        return client.get(f"/v1/turns/{started['assistant_turn']['id']}").json()


def test_the_fenced_script_on_the_page_is_played(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    command = next(fence.body for fence in fences(PAGE, "sh") if "script/echo" in fence.body)
    with desk(tmp_path, {}) as at, server(at) as running:
        said = Shell(at, running.url).run(command)
        bad = httpx.post(
            f"{running.url}/v1/turns", json={"input": '```script\n{"text": "Hi"}\n{"txet": 1}\n```'}, trust_env=False
        )
    end = json.loads(said.strip().rpartition("data: ")[2])
    assert (end["type"], end["error"]["code"]) == ("turn_end", "provider_cut")
    assert (bad.status_code, bad.json()["code"]) == (422, "script_invalid")
    assert "line 2" in bad.json()["detail"]


def test_the_names_of_the_page_are_those_of_the_source() -> None:
    text = " ".join(text_of(PAGE).split())
    assert f"after {PATIENCE:g} s" in text
    assert f"{script.ARGUMENT_PIECE} characters" in text
    for name in ("reached", "received", "hung_up", "answered", "wait_reached", "wait_received", "wait_hung_up"):
        assert hasattr(legato.testing.upstream.Upstream, name)
        assert f"{name}" in text
