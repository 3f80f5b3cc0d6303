"""The README: a person who types what stands there sees what stands there."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from tests.docs.pages import ROOT, all_pages, fences, text_of
from tests.docs.shell import Desk, Shell, answer, desk, server, vendor_environ

from legato.testing.upstream import Upstream

PAGE = "README.md"
BOUND = 30.0

Json = Any


class Stage(NamedTuple):
    at: Desk
    shell: Shell


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The server of the first commands, with the tools it has while no key is set. In place of the script provider,
    which takes its time to be watched, a vendor answers at once."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    folder = tmp_path_factory.mktemp("readme")
    with (
        Upstream.open(default=answer) as upstream,
        desk(folder, vendor_environ(upstream)) as at,
        server(at, "legato.tools.demo") as running,
    ):
        yield Stage(at, Shell(at, running.url))


@pytest.fixture(scope="module")
def said(stage: Stage) -> dict[str, str]:
    """What each block of commands puts out; run once, in their order. Without those that set up, serve and torture."""
    left_out = r"make |\.venv/bin/legato (serve|torture)"
    ours = [fence.body for fence in fences(PAGE, "sh") if not re.match(left_out, fence.body)]
    return {body: stage.shell.run(body) for body in ours}


def output(said: dict[str, str], part: str) -> str:
    return next(out for body, out in said.items() if part in body)


def events(stream: str) -> list[Json]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]


def test_the_first_command_streams_thinking_text_and_tools(said: dict[str, str]) -> None:
    stream = events(output(said, "Find the dragon"))
    kinds = {event["block_type"] for event in stream if event["type"] == "block_start"}
    assert kinds == {"thinking", "text", "tool_use", "tool_result"}
    assert stream[0]["type"] == "turn_start"
    assert stream[-1]["status"] == "complete"


def test_who_comes_back_with_the_last_number_misses_nothing(said: dict[str, str]) -> None:
    whole, rest = events(output(said, "Find the dragon")), events(output(said, "last-event-id: 57"))
    assert rest[0].get("first_seq", rest[0]["seq"]) == 58
    assert (rest[-1]["type"], rest[-1]["seq"]) == ("turn_end", whole[-1]["seq"])
    assert rest[0]["seq"] < whole[-1]["seq"]


def test_the_terminal_shows_the_answer_and_what_was_stored(said: dict[str, str]) -> None:
    out = output(said, "legato chat")
    assert "Here is what I found" in out
    assert "Find the dragon" in out
    assert "doc_search" in out


def test_what_is_kept_proves_itself_and_nothing_is_degraded(said: dict[str, str]) -> None:
    out = output(said, "legato verify")
    assert re.search(r"legato\.db: \d+ turns of \d+ chats, \d+ events: nothing is wrong", out)
    assert "nothing is degraded" in out


def test_the_server_with_tools_of_your_own_says_its_model_and_its_tools(stage: Stage) -> None:
    (command,) = (fence.body for fence in fences(PAGE, "sh") if fence.body.startswith(".venv/bin/legato serve"))
    with server(stage.at, *command.split()[2:], "--db", "another.db") as running:
        listening, model, tools, _ = running.said
    assert listening == f"Legato is listening on {running.url}"
    assert model.split() == ["model", "anthropic/claude-sonnet-4-5"]
    assert tools.split() == ["tools", "get_weather,", "read_result"]


async def test_the_same_without_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Json] = {"__name__": "readme"}
    async with Upstream.open(default=answer) as upstream:
        for name, value in vendor_environ(upstream).items():
            monkeypatch.setenv(name, value)
        with anyio.fail_after(BOUND):
            for fence in fences(PAGE, "python"):
                running = eval(compile(fence.body, str(fence), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
                if running is not None:
                    await running
    printed = capsys.readouterr().out
    assert printed.startswith("TurnStart(seq=1, ")
    assert "ToolStart(" in printed
    assert "status='complete'" in printed.splitlines()[-1]


@pytest.mark.parametrize("page", all_pages())
def test_a_block_that_names_an_example_is_that_file(page: str) -> None:
    for fence in fences(page):
        if fence.file is not None and fence.file.startswith("examples/"):
            assert fence.body == (ROOT / fence.file).read_text(encoding="utf-8"), str(fence)


def test_the_commands_of_the_page_for_make_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for fence in fences(PAGE, "sh") for name in re.findall(r"^make (\w+)", fence.body, re.MULTILINE)}
    assert {"serve", "test"} <= named <= targets


@pytest.mark.slow
def test_without_a_key_the_script_provider_plays_the_first_command(tmp_path: Path) -> None:
    command = next(fence.body for fence in fences(PAGE, "sh") if "Find the dragon" in fence.body)
    with desk(tmp_path, {}) as at, server(at) as running:
        assert "script/demo" in running.said[1]
        stream = events(Shell(at, running.url).run(command))
    assert {event["block_type"] for event in stream if event["type"] == "block_start"} >= {"thinking", "tool_result"}
    assert stream[-1]["seq"] > 57


@pytest.mark.slow
def test_the_server_that_is_tortured_keeps_its_promises(tmp_path: Path) -> None:
    (command,) = (fence.body for fence in fences(PAGE, "sh") if "legato torture" in fence.body)
    with desk(tmp_path, {}) as at:
        out = Shell(at, "http://127.0.0.1:9").run(command, bound=50)
    assert out.startswith("20 turns in ")
    assert " held " in out
    assert "BROKEN" not in out


def test_every_page_is_reached_from_the_readme() -> None:
    text = text_of(PAGE)
    pages = [page for page in all_pages() if page.startswith("docs/") and "decisions/0" not in page]
    assert [page for page in pages if f"({page})" not in text] == []
