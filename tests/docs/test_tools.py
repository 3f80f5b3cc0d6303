"""docs/tools.md: its file of tools is loaded and called, its tables are those of the source."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.docs.pages import code, fences, rows, text_of
from tests.docs.shell import desk, server, vendor_environ

import legato
from legato.config import load
from legato.core import events as e
from legato.core.blocks import Outcome, ToolResultBlock, ToolUseBlock
from legato.core.context import ToolContext
from legato.core.errors import ConfigError
from legato.core.fold import Turn, fold
from legato.core.inputs import ToolEnd, ToolFinished, ToolNeedsInput
from legato.core.records import Answer, Resumed
from legato.runtime.calls import keeping, person, spill, threads, toolbox
from legato.runtime.calls.toolbox import CancelFlag, StartedCall
from legato.testing.upstream import Call, Gate, Say, Script, Step, Upstream
from legato.tools.declare import tool_of
from legato.tools.formatters import formatters_of
from legato.tools.loading import load_module
from legato.tools.read_result import read_result
from legato.tools.registry import load_modules

PAGE = "docs/tools.md"

Json = Any


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's blocks as one file, as a reader would have it at the end."""
    shown = [fence.body for fence in fences(PAGE, "python")]
    assert all(fence.file == "tools.py" for fence in fences(PAGE, "python"))
    file = tmp_path_factory.mktemp("tools") / "tools.py"
    file.write_text("\n\n".join(shown), encoding="utf-8")
    return file


async def called(
    file: Path, monkeypatch: pytest.MonkeyPatch, *calls: Call, gate: str | None = None
) -> tuple[Turn, list[e.Event], Json]:
    """A turn that makes these calls of the page's tools: its fold, its events, and the request with the results."""
    async with Upstream.open() as upstream:
        monkeypatch.chdir(file.parent)
        for name, value in vendor_environ(upstream).items():
            monkeypatch.setenv(name, value)
        tail: list[Step] = [] if gate is None else [Gate(gate), Say("And so on.")]
        upstream.enqueue(Script([Say("I will look."), *calls, *tail]), Script([Say("So it is.")]))
        tools = list(load_modules([str(file)]))
        async with legato.open(file.parent / "tools.db", tools=_functions(file)) as service:
            assert [one.name for one in service.tools().data] == [*(one.spec.name for one in tools), "read_result"]
            turn = await service.start("Look")
            said = []
            async for event in service.follow(turn.id):
                said.append(event)
                if isinstance(event, e.ToolStart) and gate is not None:
                    upstream.release(gate)
            return fold(said), said, upstream.requests[-1].body


def _functions(file: Path) -> list[Any]:
    module = load_module(str(file))
    tree = ast.parse(file.read_text(encoding="utf-8"))
    named = [one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    functions = [getattr(module, one.name) for one in named]
    return [one for one in functions if tool_of(one) is not None or formatters_of(one)]


def results(turn: Turn) -> Iterator[ToolResultBlock]:
    return (block for block in turn.blocks if isinstance(block, ToolResultBlock))


async def test_every_tool_of_the_page_can_be_called(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, said, request = await called(
        file,
        monkeypatch,
        Call("get_weather", {"city": "Oslo"}),
        Call("get_weather", {"city": "Atlantis"}),
        Call("find_order", {"number": 7}),
        Call("find_order", {"number": "7"}),
        Call("read_log", {}),
        Call("send_mail", {"to": "Ada", "text": "it is cold"}),
        Call("set_state", {"number": 7, "state": "open"}),
    )
    calls = {block.call_id: block.index for block in turn.blocks if isinstance(block, ToolUseBlock)}
    by_call = sorted(results(turn), key=lambda one: calls[one.call_id])
    assert [(one.tool_name, one.outcome) for one in by_call] == [
        ("get_weather", "ok"),
        ("get_weather", "error"),
        ("find_order", "ok"),
        ("find_order", "error"),
        ("read_log", "ok"),
        ("send_mail", "ok"),
        ("set_state", "ok"),
    ]
    assert by_call[0].text == "asking the station in Oslo …\n"
    assert by_call[2].output == {"number": 7, "state": "sent"}
    assert by_call[4].output == by_call[4].text == "line 0\nline 1\n"
    assert by_call[6].output == "order 7 is open"
    read = [part["content"] for part in request["messages"][-1]["content"]]
    assert "Oslo: 4 degrees" in str(read[0])
    assert "there are stations in Oslo, Lisbon" in str(read[1])
    assert "asking the station" not in str(read)
    ended = next(at for at, event in enumerate(said) if isinstance(event, e.RoundStop))
    early, late = (
        {event.tool_name for event in some if isinstance(event, e.ToolStart)} for some in (said[:ended], said[ended:])
    )
    assert (early, late) == ({"get_weather", "find_order", "read_log"}, {"send_mail", "set_state"})


def test_a_refund_of_the_page_asks_a_person_above_its_bound(file: Path) -> None:
    (refund,) = (tool for one in _functions(file) if (tool := tool_of(one)) is not None and tool.spec.name == "refund")
    assert [refund.asks_approval({"order": 1, "amount": amount}) for amount in (100, 101)] == [False, True]


async def test_a_read_of_the_page_starts_while_the_model_still_talks(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream stands behind the call until the tool has started."""
    turn, said, _ = await called(file, monkeypatch, Call("get_weather", {"city": "Oslo"}), gate="talking")
    assert turn.status == "complete"
    start = next(event.seq for event in said if isinstance(event, e.ToolStart))
    assert start < next(event.seq for event in said if isinstance(event, e.RoundStop))


def test_the_page_says_how_a_file_of_tools_is_served(file: Path, tmp_path: Path) -> None:
    (serve,) = fences(PAGE, "sh")
    with desk(tmp_path, {}) as at:
        (tmp_path / "tools.py").symlink_to(file)
        command, *arguments = serve.body.split()
        assert (command, arguments[0]) == (".venv/bin/legato", "serve")
        with server(at, *arguments[1:]) as running:
            assert "get_weather, find_order, read_log, send_mail, set_state" in running.said[2]


def test_the_message_on_the_page_is_what_is_said_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools.py").write_text("from legato import tool\n\n\n@tool\ndef forget(name: str) -> None: ...\n")
    with pytest.raises(ConfigError) as said:
        load_modules(["tools.py"])
    (shown,) = fences(PAGE, "text")
    assert shown.body.strip() == said.value.message


def test_every_option_of_tool_is_in_the_table_with_its_default_and_no_other() -> None:
    parameters = dict(inspect.signature(legato.tool).parameters)
    parameters.pop("function")
    shown = {code(name)[0]: default for name, default, _ in rows(PAGE, "## What can be declared")}
    assert set(shown) == set(parameters)
    for name, default in shown.items():
        want = parameters[name].default
        assert default == "the function's" if name == "name" else ast.literal_eval(code(default)[0]) == want


def test_every_attribute_of_the_context_is_in_the_table_and_no_other() -> None:
    async def emit() -> None: ...

    context = ToolContext(
        turn_id="t",
        chat_id="c",
        call_id="call",
        principal="local",
        idempotency_key="k",
        state={},
        emit=lambda _: None,
        cancelled=lambda: False,
    )
    there = {f"ctx.{name}" for name in dir(context) if not name.startswith("_")}
    assert {name for row in rows(PAGE, "## The context") for name in code(row[0])} == there


def test_every_outcome_is_in_the_table_and_no_other() -> None:
    assert [code(row[0])[0] for row in rows(PAGE, "## How a call ends")] == list(get_args(Outcome))


class _NoResults:
    async def result(self, chat_id: str, call_id: str) -> None:
        raise AssertionError(f"nobody reads {call_id} of {chat_id}")

    async def output(self, turn_id: str, call_id: str, *, offset: int, limit: int) -> bytes:
        raise AssertionError(f"nobody reads {limit} bytes from {offset} of {call_id} of {turn_id}")


def test_every_argument_of_read_result_is_in_the_table_and_no_other() -> None:
    taken = read_result(_NoResults()).spec.input_schema["properties"]
    assert [code(row[0])[0] for row in rows(PAGE, "## Large outputs")] == list(taken)


async def test_a_tool_of_the_page_that_asks_goes_on_with_the_answer(file: Path) -> None:
    """Both ways: it is called again, or waits in the middle of its run."""
    asked: list[str] = []

    async def ask(message: str, _: dict[str, Json] | None) -> Answer:
        asked.append(message)
        return yes

    async def run(name: str, input: dict[str, Json], resumed: Resumed | None = None) -> ToolEnd:
        call = StartedCall(
            turn_id="t",
            chat_id="c",
            call_id="k",
            tool_name=name,
            input=input,
            principal="local",
            idempotency_key="key",
            epoch=0,
            state={},
            ask=ask,
            resumed=resumed,
        )
        return await box.run(call, emit=print, cancel=CancelFlag())

    yes = Answer(call_id="k", decision="approve", input={"room": 9})
    box = toolbox.Toolbox(load_modules([str(file)]))
    needs = await run("book_room", {"nights": 2})
    assert isinstance(needs, ToolNeedsInput)
    assert needs.message == "Which room, 7 or 9?"
    booked = await run("book_room", {"nights": 2}, Resumed(state=needs.state, answer=yes))
    assert isinstance(booked, ToolFinished)
    assert booked.output == "booked room 9 of offer 17 for 2 nights"
    looked = await run("look_at_shelf", {"shelf": "A"})
    assert isinstance(looked, ToolFinished)
    assert (looked.output, asked) == ("something is left", ["Is anything left on shelf A?"])


def test_every_effect_is_in_the_table() -> None:
    assert [code(row[0])[0] for row in rows(PAGE, "## Effects")] == ["read", "idempotent", "write"]


def test_the_figures_of_the_page_are_those_of_the_source() -> None:
    text = " ".join(text_of(PAGE).split())
    assert f"({threads.PLACES} at once;" in text
    assert f"at {threads.LEFT_BEHIND} of them" in text
    assert f"within the {toolbox.GRACE:g} s it has" in text
    assert f"up to {toolbox.SHOWN_TEXT // 2**20} MiB a call" in text
    assert f"({load().limits.tool_output_bytes // 2**20} MiB)" in text
    assert f"Up to {spill.LARGE // 2**20} MiB it stands in the result" in text
    assert f"a text of up to {keeping.CUT // 2**10} KiB" in text
    assert f"a text of up to {person.MESSAGE_BYTES // 2**10} KiB, `input_schema`" in text
    assert f"of up to {person.SCHEMA_BYTES // 2**10} KiB, or `None`" in text
    assert f"any JSON of up to {person.STATE_BYTES // 2**10} KiB" in text
