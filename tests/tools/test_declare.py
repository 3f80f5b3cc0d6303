"""``@tool``: what it makes of a function, and what it says of one it cannot take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from legato import ToolContext, ToolError, tool
from legato.core.errors import ConfigError
from legato.tools.declare import tool_of
from legato.tools.function_tool import FunctionTool
from legato.tools.registry import load_modules


def declared(function: Callable[..., object]) -> FunctionTool:
    found = tool_of(function)
    assert found is not None
    return found


def context(**emitted: list[str]) -> ToolContext:
    return ToolContext(
        turn_id="t",
        chat_id="c",
        call_id="k",
        principal="local",
        idempotency_key="key",
        state={},
        emit=emitted.get("emitted", []).append,
        cancelled=lambda: False,
    )


def test_a_bare_tool_is_a_write_that_starts_late_and_ends_within_a_minute() -> None:
    @tool
    def greet(name: str) -> str:
        """Say hello."""
        return f"hello {name}"

    found = declared(greet)
    assert (found.spec.name, found.spec.description) == ("greet", "Say hello.")
    assert (found.effect, found.eager, found.timeout, found.idle_timeout) == ("write", False, 60.0, None)
    assert (found.max_output, found.retries, found.needs_approval) == (65536, 0, False)
    assert found.lane({"name": "x"}) is None
    assert found.kind == "sync"


def test_a_decorated_function_is_called_as_before() -> None:
    @tool(effect="read")
    def greet(name: str, *, ctx: ToolContext | None = None) -> str:
        """Say hello."""
        return f"hello {name}"

    assert greet("you") == "hello you"
    assert greet.__name__ == "greet"


def test_the_kind_follows_the_function() -> None:
    @tool
    async def waits() -> None:
        """x"""

    @tool
    def plain() -> None:
        """x"""

    @tool
    async def streams() -> AsyncIterator[str]:
        """x"""
        yield "x"

    assert [declared(one).kind for one in (waits, plain, streams)] == ["async", "sync", "stream"]


def test_the_context_is_filled_and_hidden_from_the_model() -> None:
    @tool
    def show(text: str, *, where: ToolContext) -> str:
        """x"""
        where.emit(text)
        return where.call_id

    seen: list[str] = []
    assert "where" not in declared(show).spec.input_schema["properties"]
    assert declared(show).bind({"text": "hi"}, context(emitted=seen))() == "k"
    assert seen == ["hi"]


def test_a_model_cannot_fill_in_the_context_itself() -> None:
    @tool
    def show(text: str, *, ctx: ToolContext) -> None:
        """x"""

    assert declared(show).check({"text": "hi", "ctx": {}}) == "there is no argument 'ctx', the arguments are: text"


def test_arguments_are_bound_with_the_types_the_function_asks_for_and_its_defaults() -> None:
    seen: list[object] = []

    @tool
    def keep(days: list[int], unit: str = "c") -> None:
        """x"""
        seen.extend([days, unit])

    given = {"days": [1, 2]}
    declared(keep).bind(given, context())()
    assert seen == [[1, 2], "c"]
    assert seen[0] is not given["days"], "a tool that changes its argument would change the stored call"


def test_binding_refuses_what_the_check_refuses() -> None:
    @tool
    def keep(days: int) -> None:
        """x"""

    with pytest.raises(ToolError) as caught:
        declared(keep).bind({}, context())
    assert caught.value.code == "invalid_arguments"


def test_a_lane_may_be_a_constant_or_a_function_of_the_arguments() -> None:
    @tool(lane="disk")
    def one(path: str) -> None:
        """x"""

    @tool(lane=lambda given: str(given["path"]))
    def each(path: str = "/") -> None:
        """x"""

    assert declared(one).lane({"path": "a"}) == "disk"
    assert declared(each).lane({"path": "a"}) == "a"
    assert declared(each).lane({}) == "/"


@pytest.mark.parametrize("lane", [lambda given: given["nothing"], len])
def test_a_lane_function_that_fails_puts_the_call_into_the_tools_own_lane(
    lane: Callable[[dict[str, object]], str | None],
) -> None:
    @tool(lane=lane)
    def failing_lane(path: str) -> None:
        """x"""

    assert declared(failing_lane).lane({"path": "a"}) == "failing_lane"


def test_approval_may_depend_on_the_arguments_and_is_asked_where_it_cannot_be_told() -> None:
    @tool(needs_approval=lambda given: int(str(given["amount"])) > 100)
    def pay(amount: int | str) -> None:
        """x"""

    found = declared(pay)
    assert found.needs_approval
    assert not found.asks_approval({"amount": 5})
    assert found.asks_approval({"amount": 500})
    assert found.asks_approval({"amount": "much"})


def test_everything_that_may_be_said_is_kept() -> None:
    def settle(key: str) -> str:
        return key

    def shown(output: object) -> str:
        return "x"

    @tool(
        name="send-mail",
        eager=True,
        timeout=5,
        idle_timeout=1,
        needs_approval=True,
        max_output=100,
        reconcile=settle,
        formatter=shown,
    )
    def send() -> None:
        """x"""

    found = declared(send)
    assert (found.spec.name, found.eager, found.timeout, found.idle_timeout) == ("send-mail", True, 5.0, 1.0)
    assert (found.needs_approval, found.max_output, found.reconcile) == (True, 100, settle)
    assert found.formatter is not None
    assert (found.formatter.tool_name, found.formatter.function) == ("send-mail", shown)


def test_a_read_may_be_tried_again() -> None:
    @tool(effect="read", retries=2)
    def look() -> None:
        """x"""

    assert declared(look).retries == 2


def test_a_tool_says_the_file_and_the_line_it_comes_from() -> None:
    @tool
    def here() -> None:
        """x"""

    name, _, line = declared(here).source.partition(":")
    assert name == "test_declare.py"
    assert "@tool" in Path(__file__).read_text(encoding="utf-8").split("\n")[int(line) - 1]


def test_the_description_ends_before_the_sections_and_the_sections_describe_the_parameters() -> None:
    @tool
    def find(query: str, limit: int = 10, *, where: str = "here") -> None:
        """Find a thing.

        It may be anywhere.

        Args:
            query: Words to look for,
                any of them.
            limit (int): How many.
        Returns:
            What was found.
        """

    spec = declared(find).spec
    assert spec.description == "Find a thing.\n\nIt may be anywhere."
    described = {name: one.get("description") for name, one in spec.input_schema["properties"].items()}
    assert described == {"query": "Words to look for, any of them.", "limit": "How many.", "where": None}


HEAD = "from legato import ToolContext, tool\n"

# The body of a file that begins with HEAD, and all that is said of it.
WRONG = [
    (
        "@tool\ndef look(city): 'x'",
        "tools.py:2: tool 'look': parameter 'city' has no annotation; write its type, such as city: str",
    ),
    (
        "@tool\ndef look(ctx): 'x'",
        "tools.py:2: tool 'look': parameter 'ctx' has no annotation; write ctx: ToolContext",
    ),
    (
        "@tool\ndef look(): pass",
        "tools.py:2: tool 'look': it has no docstring; write what it does, the model chooses by that",
    ),
    (
        "@tool\ndef look(*cities: str): 'x'",
        "tools.py:2: tool 'look': *cities cannot be described to a model; name each parameter, or take a list",
    ),
    (
        "@tool\ndef look(**more: str): 'x'",
        "tools.py:2: tool 'look': **more cannot be described to a model; name each parameter",
    ),
    (
        "@tool\ndef look(city: str, /): 'x'",
        "tools.py:2: tool 'look': parameter 'city' is positional-only, and arguments come by name; remove the '/'",
    ),
    (
        "@tool\ndef look(a: ToolContext, b: ToolContext): 'x'",
        "tools.py:2: tool 'look': 'a' and 'b' are both ToolContext; keep one",
    ),
    (
        "@tool(name='get weather')\ndef look(): 'x'",
        "tools.py:2: tool 'get weather': a name is 1 to 64 of a-z, A-Z, 0-9, _ and -; give one with name=",
    ),
    (
        "@tool(name=7)\ndef look(): 'x'",
        "tools.py:2: tool 7: a name is 1 to 64 of a-z, A-Z, 0-9, _ and -; give one with name=",
    ),
    (
        "@tool\ndef wetter_für(): 'x'",
        "tools.py:2: tool 'wetter_für': a name is 1 to 64 of a-z, A-Z, 0-9, _ and -; give one with name=",
    ),
    (
        "@tool(effect='reads')\ndef look(): 'x'",
        "tools.py:2: tool 'look': effect is 'reads'; it is one of read, idempotent, write",
    ),
    ("@tool(timeout=0)\ndef look(): 'x'", "tools.py:2: tool 'look': timeout is 0; it is seconds, more than 0"),
    ("@tool(timeout='5')\ndef look(): 'x'", "tools.py:2: tool 'look': timeout is '5'; it is seconds, more than 0"),
    (
        "@tool(idle_timeout=float('inf'))\ndef look(): 'x'",
        "tools.py:2: tool 'look': idle_timeout is inf; it is seconds, more than 0",
    ),
    (
        "@tool(max_output=0)\ndef look(): 'x'",
        "tools.py:2: tool 'look': max_output is 0; it is a whole number, at least 1",
    ),
    (
        "@tool(retries=True)\ndef look(): 'x'",
        "tools.py:2: tool 'look': retries is True; it is a whole number, at least 0",
    ),
    (
        "@tool(retries=1)\ndef look(): 'x'",
        'tools.py:2: tool \'look\': retries= would run it twice; that takes effect="read" or "idempotent"',
    ),
    (
        "@tool(lane=3)\ndef look(): 'x'",
        "tools.py:2: tool 'look': lane is 3; it is a text, or a function of the arguments",
    ),
    (
        "@tool(needs_approval='yes')\ndef look(): 'x'",
        "tools.py:2: tool 'look': needs_approval is 'yes'; it is True, False, or a function of the arguments",
    ),
    (
        "@tool(lane=lambda: 'x')\ndef look(): 'x'",
        "tools.py:2: tool 'look': lane must take one argument, one dict with the call's arguments",
    ),
    (
        "@tool(needs_approval=lambda amount, to: True)\ndef look(amount: int, to: str): 'x'",
        "tools.py:2: tool 'look': needs_approval must take one argument, one dict with the call's arguments",
    ),
    (
        "@tool(eager='no')\ndef look(): 'x'",
        "tools.py:2: tool 'look': eager is 'no'; it is True or False",
    ),
    (
        "@tool(idle_timeout=90)\ndef look(): 'x'",
        "tools.py:2: tool 'look': idle_timeout is 90, and timeout is up before, after 60; raise timeout=",
    ),
    (
        "@tool(name='read_result')\ndef look(): 'x'",
        "tools.py:2: tool 'read_result': a built-in tool has this name; give it another with name=",
    ),
    (
        "@tool(effect='idempotent', reconcile=print)\ndef look(): 'x'",
        (
            "tools.py:2: tool 'look': reconcile= would never be asked: "
            'with effect="idempotent" the call runs again with its key'
        ),
    ),
    (
        "@tool(reconcile=lambda: 'x')\ndef look(): 'x'",
        "tools.py:2: tool 'look': reconcile must take one argument, the idempotency key",
    ),
    (
        "@tool\nasync def look() -> str:\n    'x'\n    yield 'x'",
        "tools.py:2: tool 'look': it yields, so it gives a stream and not str; write -> AsyncIterator[str]",
    ),
    (
        "import typing as t\n@tool\nasync def look() -> t.AsyncIterator[dict]:\n    'x'\n    yield {}",
        "tools.py:3: tool 'look': it yields dict, and a stream is text; yield str, or return a list",
    ),
    (
        "import typing as t\n@tool\nasync def look() -> 't.AsyncGenerator[int, None]':\n    'x'\n    yield 1",
        "tools.py:3: tool 'look': it yields int, and a stream is text; yield str, or return a list",
    ),
    (
        "async def ask(given): return True\n@tool(needs_approval=ask)\ndef look(): 'x'",
        "tools.py:3: tool 'look': needs_approval is async; it is asked while the model talks, make it a plain function",
    ),
    (
        "@tool(reconcile='x')\ndef look(): 'x'",
        "tools.py:2: tool 'look': reconcile is 'x'; it is a function of an idempotency key",
    ),
    (
        "@tool(effect='read', reconcile=print)\ndef look(): 'x'",
        "tools.py:2: tool 'look': reconcile= asks what became of an effect; a tool with effect=\"read\" has none",
    ),
    (
        "import socket\n@tool\ndef look(city: str, line: socket.socket): 'x'",
        "tools.py:3: tool 'look': parameter 'line' has the type socket.socket, which has no JSON form",
    ),
    (
        "from collections.abc import Callable\n@tool\ndef look(then: Callable[[], int]): 'x'",
        "tools.py:3: tool 'look': parameter 'then' has the type collections.abc.Callable[[], int], which has no JSON",
    ),
    (
        "@tool\ndef look(city: 'City'): 'x'",
        (
            "tools.py:2: tool 'look': the annotation of parameter 'city' cannot be read: name 'City' is not defined; "
            "what it names must be defined above the tool, and not for type checkers only"
        ),
    ),
    (
        "class A:\n    @tool\n    def do(self, city: str): 'x'",
        "tools.py:3: tool 'do': a method cannot be a tool; make it a function, inside another if it needs an object",
    ),
    (
        "@tool\nclass Look: 'x'",
        "tools.py:2: @tool takes a function, not type; wrap what you have in a function that calls it",
    ),
    (
        "@tool\ndef look():\n    'x'\n    yield 1",
        "tools.py:2: tool 'look' is a plain generator; make it an `async def` that yields text, or return a list",
    ),
    (
        "@tool('look')\ndef see(): 'x'",
        "tools.py:2: @tool('look') has no meaning; for a name write @tool(name='look')",
    ),
    (
        "@tool(efect='read')\ndef look(): 'x'",
        "tools.py:2: importing it raised TypeError: tool() got an unexpected keyword argument 'efect'",
    ),
    (
        "@tool(formatter=lambda: 'x')\ndef look(): 'x'",
        "tools.py:2: formatter of 'look': it takes one argument, the output",
    ),
]


@pytest.mark.parametrize(("body", "expected"), WRONG, ids=[body.replace("\n", " ") for body, _ in WRONG])
def test_what_is_wrong_is_said_with_file_line_and_what_to_do(
    body: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tools.py").write_text(HEAD + body + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_modules(["tools.py"])
    assert caught.value.message.startswith(expected)
    if "has no JSON" not in expected and "keyword" not in expected:  # pydantic's own reason follows, or python's guess
        assert caught.value.message == expected


@pytest.mark.parametrize(
    "returned",
    ["", " -> AsyncIterator[str]", " -> 'AsyncGenerator[Literal[\"a\"], None]'", " -> AsyncIterable", " -> Nowhere"],
)
def test_a_stream_of_text_may_be_written_in_many_ways(returned: str, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(
        "from __future__ import annotations\nfrom typing import *\nfrom legato import tool\n"
        f"@tool\nasync def look(){returned}:\n    'x'\n    yield 'a'\n",
        encoding="utf-8",
    )
    found = load_modules([str(tmp_path / "tools.py")]).get("look")
    assert found is not None
    assert found.kind == "stream"


def test_the_context_is_found_though_it_is_imported_for_type_checkers_only(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nfrom legato import tool\n"
        "if TYPE_CHECKING:\n    from legato import ToolContext\n"
        "@tool\ndef look(city: str, *, ctx: ToolContext) -> None: 'x'\n",
        encoding="utf-8",
    )
    found = load_modules([str(tmp_path / "tools.py")]).get("look")
    assert found is not None
    assert list(found.spec.input_schema["properties"]) == ["city"]


def test_annotations_may_name_classes_of_the_function_that_makes_the_tool() -> None:
    from pydantic import BaseModel

    class Place(BaseModel):
        city: str

    @tool
    def look(place: Place) -> None:
        """x"""

    assert declared(look).check({"place": {"city": "Oslo"}}) is None
    assert declared(look).check({"place": {}}) == "argument 'place.city' is missing"


def test_importing_the_public_names_stays_cheap() -> None:
    import subprocess
    import sys

    code = "import sys; from legato import tool, formatter, ToolContext, ToolError; print('pydantic' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout.strip() == "False"


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    import legato

    assert legato.__version__ == version("legato")
