"""Keeps the house in order by reading the source: who may import whom, what core may not know, whose words are whose,
and how long a file or a function may be. If it fails, move the code, not the rule.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "legato"

# Each room of the house and what it may import of the others; a room may always import itself. "" is the public
# package `legato`, whose names are for users: inside, import from where a thing lives.
#   - observability is a leaf that imports the standard library only, so that all that does I/O may log and count;
#     clock is another, for whoever was given no clock.
#   - http knows of runtime its façade alone. It may read web, the built page.
#   - config knows the tree of exceptions; it is read by those that put the parts together, never by the parts.
#   - cli reads a turn from the database file as the server would show it, where no server answers.
#   - testing is for users' tests: it ships with the product, and nothing in the product may lean on it, but for the
#     command that tortures a server of its own. Its tools are declared as a user's are.
PARTS = ("core", "ports", "observability")
ADAPTERS = ("providers", "tools", "stores", "eventlog")
ROOMS: dict[str, tuple[str, ...]] = {
    "core": (),
    "ports": ("core",),
    "observability": (),
    "clock": (),
    "runtime": (*PARTS, "clock"),
    "providers": PARTS,
    "tools": PARTS,
    "stores": (*PARTS, "clock"),
    "eventlog": PARTS,
    "web": (),
    "http": (*PARTS, "runtime.service", "web"),
    "config": ("core",),
    "compose": (*PARTS, "clock", "runtime", *ADAPTERS, "http", "web", "config", "deadline", "signals", "serve"),
    "deadline": (),
    "signals": (),
    "serve": (*PARTS, "runtime.service", "http", "config", "deadline", "signals"),
    "cli": (*PARTS, "config", "compose", "serve", "runtime.reading.looking", "testing.torture", ""),
    "__main__": ("cli",),
    "testing": (*PARTS, "clock", "providers", "tools.declare"),
    "": ("core", "ports", "tools"),
}
# `legato.open` composes a service, and imports compose when it is asked for: importing legato for `tool` stays cheap.
# What stands under `if TYPE_CHECKING:` is no import at run time.
LAZY: dict[str, tuple[str, ...]] = {"": ("compose", "config", "runtime.service")}

NOT_IN_CORE = {
    "aiohttp", "anyio", "asyncio", "concurrent", "datetime", "logging", "multiprocessing", "os", "random", "secrets",
    "selectors", "signal", "socket", "sqlite3", "ssl", "starlette", "subprocess", "threading", "time", "uuid",
    "uuid_utils", "uvicorn",
}  # fmt: skip

# Words of a foreign wire, and the files that may hold them. A word counts with what follows an underscore:
# `output_item` is also `output_item_id`. Docstrings and comments may say anything. Words that we might well choose
# ourselves (`end_turn`, `output_text`) are left out.
TESTING = "testing/*"
DIALECTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("providers/anthropic*", "http/anthropic*", TESTING): (
        "content_block_start", "content_block_delta", "content_block_stop", "message_start", "message_delta",
        "message_stop", "input_json_delta", "thinking_delta", "signature_delta", "redacted_thinking", "tool_use_id",
        "server_tool_use", "pause_turn", "overloaded_error",
    ),
    ("providers/openai_chat*", "http/openai_chat*", TESTING): (
        "tool_calls", "tool_call_id", "finish_reason", "reasoning_content", "reasoning_details", "stream_options",
        "max_completion_tokens", "chat.completion",
    ),
    ("providers/openai_responses*", "http/responses*", TESTING): (
        "output_item", "function_call_arguments", "function_call_output", "encrypted_content",
    ),
    ("providers/gemini*", TESTING): (
        "functionCall", "functionResponse", "thoughtSignature", "finishReason", "usageMetadata", "generateContent",
    ),
    ("http/ui_stream*", TESTING): (
        "text-start", "text-delta", "text-end", "reasoning-start", "tool-input-start", "tool-input-available",
        "tool-output-available",
    ),
}  # fmt: skip

# The environment is read by those that put the parts together; everybody else is told.
READS_THE_ENVIRONMENT = ("", "cli", "compose", "testing")

MAX_FILE = 600  # lines; a file is one noun
MAX_FUNCTION = 100  # lines from `def` to its end; a function fits a screen, and the longest one tells


class Violation(NamedTuple):
    file: str
    line: int
    rule: str
    said: str

    def __str__(self) -> str:
        return f"src/legato/{self.file}:{self.line}: {self.rule}: {self.said}"


def room_of(module: str) -> str:
    """The room of a module named below legato: ``runtime.live`` is in ``runtime``."""
    return module.partition(".")[0]


def module_of(file: str) -> str:
    """``http/sse.py`` is ``http.sse``, ``core/__init__.py`` is ``core``, ``__init__.py`` is ``""``."""
    parts = file.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def check(file: str, source: str) -> list[Violation]:
    """All that is wrong with one file, ``file`` being its path below src/legato."""
    tree = ast.parse(source)
    found = [*imports_it_may_not(file, tree), *foreign_words(file, tree), *environment(file, tree)]
    if room_of(module_of(file)) == "core":
        found += impure(file, tree)
    return sorted([*found, *too_long(file, tree, source)])


def imported(file: str, tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Line, absolute name and whether it is inside a function, of each import, those for types included."""
    inside = {
        id(node)
        for function in nodes(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or _is_for_types_only(function)
        for node in ast.walk(function)
    }
    for node in nodes(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name, id(node) in inside
            case ast.ImportFrom(module=module, names=names, level=level):
                base = _absolute(file, module, level)
                for alias in names:
                    yield node.lineno, f"{base}.{alias.name}", id(node) in inside
            case _:
                pass


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _absolute(file: str, module: str | None, level: int) -> str:
    if level == 0:
        return module or ""
    package = ("legato/" + file).split("/")[:-level]
    return ".".join([*package, *([module] if module else [])])


def imports_it_may_not(file: str, tree: ast.AST) -> Iterator[Violation]:
    room = room_of(module_of(file))
    if room not in ROOMS:
        yield Violation(file, 1, "who may import whom", f"{room!r} is no room of the house; name it in ROOMS")
        return
    for line, name, inside in imported(file, tree):
        top, _, rest = name.partition(".")
        if top != "legato":
            continue
        target = rest if room_of(rest) in ROOMS else ""  # `from legato import tool`: the public package
        if room_of(target) == room:
            continue
        allowed = ROOMS[room] + (LAZY.get(room, ()) if inside else ())
        if not any(target == one or target.startswith(f"{one}.") for one in allowed):
            shown = ", ".join(allowed) or "nothing of legato"
            yield Violation(
                file, line, "who may import whom", f"{room or 'legato'} imports {name}; it may import {shown}"
            )


def impure(file: str, tree: ast.AST) -> Iterator[Violation]:
    rule = "core is pure"
    for line, name, _ in imported(file, tree):
        if name.partition(".")[0] in NOT_IN_CORE:
            yield Violation(file, line, rule, f"core imports {name}")
    for node in nodes(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
            yield Violation(file, node.lineno, rule, "core has async or await")
        elif isinstance(node, ast.comprehension) and node.is_async:
            yield Violation(file, node.target.lineno, rule, "core has async or await")


def foreign_words(file: str, tree: ast.AST) -> Iterator[Violation]:
    docstrings = {id(node.value) for node in nodes(tree) if isinstance(node, ast.Expr)}
    said = [(node, text) for node in nodes(tree) if id(node) not in docstrings for text in _said(node)]
    for files, words in DIALECTS.items():
        if any(fnmatch(file, pattern) for pattern in files):
            continue
        pattern = re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(map(re.escape, words))})(?![A-Za-z0-9])")
        for node, text in said:
            if (word := pattern.search(text)) is not None:
                line = getattr(node, "lineno", 1)
                where = f"{word[0]!r} belongs in {' or '.join(files)}"
                yield Violation(file, line, "foreign words stay in their dialect's file", where)


@lru_cache(maxsize=1)  # every rule walks the same file
def nodes(tree: ast.AST) -> list[ast.AST]:
    return list(ast.walk(tree))


def _said(node: ast.AST) -> tuple[str, ...]:
    """The words a node puts into the program: names, and what stands in strings."""
    match node:
        case ast.Constant(value=str(text)):
            return (text,)
        case ast.Constant(value=bytes(raw)):
            return (raw.decode("latin-1"),)
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
            return (name,)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return (name,)
        case ast.MatchClass(kwd_attrs=names):
            return tuple(names)
        case _:
            return ()


def environment(file: str, tree: ast.AST) -> Iterator[Violation]:
    if room_of(module_of(file)) in READS_THE_ENVIRONMENT:
        return
    for node in nodes(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" as name):
                yield Violation(
                    file, node.lineno, "the environment is read in one place", f"os.{name} is for cli, compose"
                )
            case ast.ImportFrom(module="os", names=names):
                for alias in names:
                    if alias.name in {"environ", "environb", "getenv"}:
                        said = f"os.{alias.name} is for cli, compose"
                        yield Violation(file, node.lineno, "the environment is read in one place", said)
            case _:
                pass


def too_long(file: str, tree: ast.AST, source: str) -> Iterator[Violation]:
    lines = source.count("\n") + (not source.endswith("\n"))
    if lines > MAX_FILE:
        yield Violation(file, lines, "a file is one noun", f"it has {lines} lines, limit is {MAX_FILE}")
    for node in nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                said = f"{node.name} has {length} lines, limit is {MAX_FUNCTION}"
                yield Violation(file, node.lineno, "a function fits a screen", said)


def test_every_file_keeps_the_rules_of_the_house() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert files, f"no source below {PACKAGE}"
    found = [
        violation
        for path in files
        for violation in check(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(map(str, found))


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * MAX_FUNCTION
LONG_FILE = "x = 1\n" * (MAX_FILE + 1)


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("core/turn.py", "from legato.ports import Store", "1: who may import whom: core imports legato.ports.Store"),
        ("core/turn.py", "from legato import ports", "who may import whom: core imports legato.ports"),
        ("core/turn.py", "import legato.observability", "who may import whom: core imports legato.observability"),
        ("core/turn.py", "\nimport time", "2: core is pure: core imports time"),
        ("core/turn.py", "from datetime import UTC", "core is pure: core imports datetime.UTC"),
        ("core/turn.py", "def f():\n    import uuid_utils.compat", "2: core is pure: core imports uuid_utils.compat"),
        ("core/turn.py", "async def f(): ...", "core is pure: core has async or await"),
        ("core/turn.py", "x = lambda xs: [x async for x in xs]", "core is pure: core has async or await"),
        ("ports.py", "from legato.runtime.live import Live", "ports imports legato.runtime.live.Live"),
        ("ports.py", "from legato.observability import count", "ports imports legato.observability.count"),
        ("observability.py", "from legato.core.events import Event", "it may import nothing of legato"),
        ("runtime/live.py", "from legato.providers.anthropic import Wire", "runtime imports legato.providers"),
        ("runtime/live.py", "from ..stores import sqlite", "runtime imports legato.stores.sqlite"),
        ("runtime/live.py", "if TYPE_CHECKING:\n    from legato.tools import Registry", "2: who may import whom"),
        ("runtime/deep/er.py", "from ...http import sse", "runtime imports legato.http.sse"),
        ("tools/mcp.py", "from legato import tool", "tools imports legato.tool; it may import"),
        ("stores/sqlite.py", "import legato", "stores imports legato;"),
        ("stores/sqlite.py", "from legato.eventlog.redis import Log", "stores imports legato.eventlog.redis.Log"),
        ("http/native.py", "from legato.runtime.journal import Journal", "http imports legato.runtime.journal.Journal"),
        ("http/native.py", "from legato.runtime import journal", "http imports legato.runtime.journal"),
        ("http/native.py", "from legato.config import Config", "http imports legato.config.Config"),
        ("http/native.py", "from legato.compose import compose", "http imports legato.compose.compose"),
        ("compose.py", "from legato.testing import Faults", "compose imports legato.testing.Faults"),
        ("compose.py", "from legato.cli import main", "compose imports legato.cli.main"),
        ("serve.py", "from legato.compose import compose", "serve imports legato.compose.compose"),
        ("cli.py", "from legato.runtime.runner import Runner", "cli imports legato.runtime.runner.Runner"),
        ("__init__.py", "from legato.compose import compose", "legato imports legato.compose.compose"),
        ("testing/upstream.py", "from legato.runtime.service import Service", "testing imports legato.runtime.service"),
        ("utils.py", "x = 1", "'utils' is no room of the house; name it in ROOMS"),
        ("runtime/runner.py", "x = 'content_block_delta'", "'content_block_delta' belongs in providers/anthropic*"),
        ("runtime/runner.py", "x = b'event: message_start'", "'message_start' belongs in providers/anthropic*"),
        ("providers/anthropic.py", "class A:\n    tool_calls: int", "2: foreign words stay in their dialect's file"),
        ("core/fold.py", "x = chunk.finish_reason", "'finish_reason' belongs in providers/openai_chat*"),
        ("http/native.py", "x = 'response.output_item.done'", "'output_item' belongs in providers/openai_responses*"),
        ("http/responses.py", "x = f'{a} text-start'", "'text-start' belongs in http/ui_stream*"),
        ("http/auth.py", "import os\nx = os.environ['A']", "2: the environment is read in one place: os.environ"),
        ("http/auth.py", "from os import getenv", "the environment is read in one place: os.getenv"),
        ("runtime/runner.py", LONG_FUNCTION, "1: a function fits a screen: f has 101 lines, limit is 100"),
        ("runtime/runner.py", LONG_FILE, "a file is one noun: it has 601 lines, limit is 600"),
    ],
)
def test_a_breach_is_named_with_its_file_its_line_and_its_rule(file: str, source: str, expected: str) -> None:
    found = check(file, source)
    assert len(found) == 1, found
    assert str(found[0]).startswith(f"src/legato/{file}:")
    assert expected in str(found[0])


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "core/turn.py",
            '"""It awaits nothing; tool_calls is foreign."""\nfrom legato.core.events import Event',
        ),
        ("core/turn.py", "from . import events\nfrom .events import Event\nimport timeit_is_not_time"),
        ("ports.py", "from legato.core.blocks import Block\n\nasync def f(): ..."),
        ("runtime/live.py", "import asyncio\nfrom legato import core, ports\nfrom legato.observability import count"),
        ("http/native.py", "from legato.runtime.service import Service\nfrom legato.http import sse"),
        ("http/native.py", "from legato.runtime import service"),
        ("compose.py", "from legato.runtime.runner import Runner\nfrom legato.stores.sqlite import Sqlite\nimport os"),
        ("compose.py", "import os\nfrom legato.config import load\nx = load(os.environ)"),
        ("cli.py", "from legato import compose, config, serve"),
        ("__main__.py", "from legato.cli import main"),
        ("__init__.py", "from legato.core.context import ToolContext\nfrom legato.tools.registry import tool"),
        ("__init__.py", "def open():\n    from legato.compose import compose"),
        ("providers/anthropic.py", "x = 'content_block_delta'"),
        ("providers/openai_chat.py", "class Delta:\n    tool_calls: int"),
        ("testing/upstream.py", "x = 'content_block_delta', 'finish_reason'\nfrom legato.providers import anthropic"),
        ("runtime/runner.py", LONG_FUNCTION.replace("    x = 1\n", "", 1)),
        ("runtime/runner.py", LONG_FILE.replace("x = 1\n", "", 1)),
    ],
)
def test_what_the_rules_allow_is_let_through(file: str, source: str) -> None:
    assert check(file, source) == []


def test_no_room_reaches_another_in_a_circle() -> None:
    reached: dict[str, set[str]] = {}

    def reach(room: str) -> set[str]:
        if room not in reached:
            reached[room] = set()
            reached[room] = {room_of(one) for one in ROOMS[room]}.union(*(reach(room_of(one)) for one in ROOMS[room]))
        return reached[room]

    assert [room for room in ROOMS if room in reach(room)] == []
