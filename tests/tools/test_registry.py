"""Tools out of files and modules, in order, and every way that can go wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from legato import formatter, tool
from legato.core.ask import ToolSpec
from legato.core.blocks import Json
from legato.core.context import ToolContext
from legato.core.errors import ConfigError
from legato.ports import Effect, Formatters, Tool, Tools
from legato.tools.registry import ToolRegistry, load_modules

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file into the current folder, which is a fresh one. Modules loaded meanwhile are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    yield written
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refused(*sources: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_modules(sources)
    return caught.value.message


WEATHER = """\
from legato import formatter, tool

@tool(effect="read")
def get_weather(city: str) -> dict:
    "Weather."
    return {"city": city}

@tool
def set_alarm(at: str) -> None:
    "Alarm."

@formatter("get_weather", version=2)
def words(output) -> str:
    return output["city"]
"""


def test_a_registry_is_the_ports_it_implements() -> None:
    registry = ToolRegistry()
    tools: Tools = registry
    formatters: Formatters = registry.formatters
    assert tools.names() == ()
    assert formatters is registry.formatters


def test_every_tool_and_formatter_of_a_file_is_found_in_order(write: Write) -> None:
    write("weather.py", WEATHER)
    registry = load_modules(["weather.py"])
    assert registry.names() == ("get_weather", "set_alarm")
    assert [one.source for one in registry] == ["weather.py:3", "weather.py:8"]
    assert registry.formatters.names() == ["get_weather"]
    assert registry.get("nothing") is None
    assert len(registry) == 2


def test_a_dotted_module_of_the_current_folder_is_found_with_what_it_imports(write: Write) -> None:
    write(
        "mine_a/__init__.py", "from mine_a.weather import get_weather\nfrom legato import tool\n@tool\ndef b(): 'x'\n"
    )
    write("mine_a/weather.py", WEATHER)
    assert load_modules(["mine_a"]).names() == ("get_weather", "b")
    assert load_modules(["mine_a.weather"]).names() == ("get_weather", "set_alarm")


def test_a_file_may_import_its_neighbours_and_none_of_them_hides_pythons_own(write: Write) -> None:
    write("here/neighbour_b.py", "CITY = 'Oslo'\n")
    write("here/random.py", "raise RuntimeError('not me')\n")
    write("here/tools.py", "import random\nfrom neighbour_b import CITY\n" + WEATHER)
    assert load_modules(["here/tools.py"]).names() == ("get_weather", "set_alarm")


def test_files_of_one_name_in_two_folders_are_two_modules(write: Write) -> None:
    write("a/tools.py", "from legato import tool\n@tool\ndef one(): 'x'\n")
    write("b/tools.py", "from legato import tool\n@tool\ndef two(): 'x'\n")
    assert load_modules(["a/tools.py", "b/tools.py"]).names() == ("one", "two")


def test_the_same_file_twice_is_once(write: Write) -> None:
    path = write("weather.py", WEATHER)
    assert load_modules(["weather.py", "weather.py", str(path), "weather"]).names() == ("get_weather", "set_alarm")


def test_two_registries_do_not_share_what_they_load(write: Write) -> None:
    write("weather.py", WEATHER)
    assert load_modules(["weather.py"]).get("get_weather") is not load_modules(["weather.py"]).get("get_weather")
    assert ToolRegistry().names() == ()


def test_tools_made_in_a_loop_and_tools_kept_in_a_list_are_found(write: Write) -> None:
    write(
        "tools.py",
        "from legato import tool\n"
        "def make(name):\n    @tool(name=name)\n    def made(): 'x'\n    return made\n"
        "LIST = [make('a'), make('b')]\n"
        "for name in 'cd':\n    @tool(name=name)\n    def looped(): 'x'\n",
    )
    assert sorted(load_modules(["tools.py"]).names()) == ["a", "b", "c", "d"]


def test_classes_and_dataclasses_of_the_file_can_be_named_in_annotations(write: Write) -> None:
    write(
        "tools.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom legato import tool\n"
        "@dataclass\nclass P:\n    x: int\n    next: P | None = None\n@tool\ndef look(p: P) -> None: 'x'\n",
    )
    look = load_modules(["tools.py"]).get("look")
    assert look is not None
    assert look.check({"p": {"x": 1, "next": {"x": 2}}}) is None


def test_two_tools_with_one_name_are_an_error_that_names_both_places(write: Write) -> None:
    write("a.py", "from legato import tool\n@tool\ndef look(): 'x'\n")
    write("b.py", "from legato import tool\n\n@tool(name='look')\ndef see(): 'x'\n")
    assert refused("a.py", "b.py") == "b.py:3: there is a tool 'look' already, from a.py:2; rename one"


def test_a_function_that_hides_an_earlier_tool_of_its_name_is_an_error_too(write: Write) -> None:
    write("a.py", "from legato import tool\n@tool\ndef look(): 'x'\n\n@tool\ndef look(): 'y'\n")
    assert refused("a.py") == "a.py:5: there is a tool 'look' already, from a.py:2; rename one"


@pytest.mark.parametrize(
    "wrapper",
    ["functools.wraps(function)(lambda: function())", "lambda: function()", "functools.lru_cache(function)"],
)
def test_a_decorator_around_tool_is_an_error_since_the_model_would_go_past_it(write: Write, wrapper: str) -> None:
    write(
        "a.py",
        "import functools\nfrom legato import tool\n"
        f"def guarded(function):\n    return {wrapper}\n"
        "@guarded\n@tool\ndef look(): 'x'\n",
    )
    assert refused("a.py") == (
        "a.py:5: tool 'look' is wrapped or replaced after @tool, and calls of the model would not see that; "
        "make @tool the outermost decorator"
    )


def test_a_decorator_below_tool_is_part_of_it(write: Write) -> None:
    write(
        "a.py",
        "import functools\nfrom legato import tool\n"
        "def twice(function):\n    @functools.wraps(function)\n"
        "    def wrapper(*args, **kwargs): return function(*args, **kwargs)\n    return wrapper\n"
        "@tool\n@twice\nasync def look(city: str): 'x'\n",
    )
    look = load_modules(["a.py"]).get("look")
    assert look is not None
    assert look.kind == "async"
    assert look.check({"city": "Oslo"}) is None


def test_a_deleted_tool_is_gone(write: Write) -> None:
    write("a.py", "from legato import tool\n@tool\ndef look(): 'x'\n@tool\ndef see(): 'x'\ndel look\n")
    assert load_modules(["a.py"]).names() == ("see",)


# Name and text of the file there is, what is loaded, and what is said.
WRONG = [
    ("tools.py", "", "tols.py", "tols.py: there is no such file (looked in {here}); did you mean tools.py?"),
    ("x.txt", "", "tools.py", "tools.py: there is no such file (looked in {here})"),
    ("x.txt", "", "sub/x.txt", "sub/x.txt: there is no such file (looked in {here}/sub)"),
    ("sub/x.txt", "", "sub/x.txt", "sub/x.txt: it is not a Python file; its name must end in .py"),
    ("sub/a.py", "", "sub", "sub: it is a folder; name its files, such as sub/a.py"),
    ("sub/a.txt", "", "sub/", "sub: it is a folder; it has no Python files"),
    ("a.py", "x = 1\n", "a.py", "a.py: there is no @tool and no @formatter in it"),
    ("a.py", "x = 1\ndef f(:\n", "a.py", "a.py:2: it is not valid Python: invalid syntax"),
    (
        "a.py",
        "import math\n\nmath.sqrt(-1)\n",
        "a.py",
        "a.py:3: importing it raised ValueError: math domain error",
    ),
    (
        "a.py",
        "def f():\n    import missing_c\nf()\n",
        "a.py",
        "a.py:2: importing it raised ModuleNotFoundError: No module named 'missing_c'",
    ),
    (
        "a.py",
        "import sys\nsys.exit(1)\n",
        "a.py",
        'a.py:2: importing it ends the program; put that under if __name__ == "__main__":',
    ),
    ("mine_d.py", "1 / 0\n", "mine_d", "mine_d.py:1: importing it raised ZeroDivisionError: division by zero"),
    (
        "mine_e.py",
        "import missing_f\n",
        "mine_e",
        "mine_e.py:1: importing it raised ModuleNotFoundError: No module named 'missing_f'",
    ),
    ("mine_g/x.txt", "", "mine_h.tools", "there is no module 'mine_h.tools' (looked in {here} and sys.path)"),
    (
        "x.txt",
        "",
        "not a module",
        "'not a module' is neither a Python file nor a dotted module; write path/tools.py or package.tools",
    ),
]


@pytest.mark.parametrize(("name", "text", "source", "expected"), WRONG, ids=[f"{w[2]} {w[1]!r}" for w in WRONG])
def test_what_cannot_be_loaded_is_said_in_a_sentence(
    name: str, text: str, source: str, expected: str, write: Write, tmp_path: Path
) -> None:
    write(name, text)
    assert refused(source) == expected.format(here=tmp_path)


def test_a_file_that_failed_can_be_mended_and_loaded(write: Write) -> None:
    write("a.py", "1 / 0\n")
    refused("a.py")
    write("a.py", "from legato import tool\n@tool\ndef look_again(): 'mended'\n")
    assert load_modules(["a.py"]).names() == ("look_again",)


def test_a_function_without_tool_is_refused_where_it_stands() -> None:
    def look() -> None: ...

    with pytest.raises(ConfigError, match=r"test_registry\.py:\d+: 'look' has no @tool"):
        ToolRegistry([look])


def test_functions_and_formatters_are_added_one_by_one() -> None:
    def shown(output: Json) -> str:
        return "shown"

    @tool(formatter=shown)
    def look() -> None:
        """x"""

    @tool
    def see() -> None:
        """x"""

    @formatter("see")
    def seen(output: Json) -> str:
        return "seen"

    registry = ToolRegistry([look, see, seen, look])
    assert registry.names() == ("look", "see")
    assert sorted(registry.formatters.names()) == ["look", "see"]


class Foreign:
    """A tool that no ``@tool`` made, as one from a server elsewhere is."""

    effect: Effect = "write"
    eager = False
    timeout = 1.0
    idle_timeout: float | None = None
    max_output = 100
    retries = 0
    source = "elsewhere"
    needs_approval = False
    kind = "async"

    def __init__(self, name: str) -> None:
        self.spec = ToolSpec(name, "x", {"type": "object"})

    def check(self, input: dict[str, Json]) -> str | None:
        return "no" if input else None

    def lane(self, input: dict[str, Json]) -> str | None:
        return "one" if input else None

    def bind(self, input: dict[str, Json], ctx: ToolContext) -> Callable[[], object]:
        return lambda: (input, ctx)

    def jsonable(self, value: object) -> Json:
        return value


def test_a_tool_of_another_making_is_taken_and_its_name_is_guarded_too() -> None:
    foreign: Tool = Foreign("look")  # type: ignore[assignment]  # `kind` is any str there

    @tool
    def look() -> None:
        """x"""

    assert ToolRegistry([foreign]).get("look") is foreign
    with pytest.raises(
        ConfigError, match=r"test_registry\.py:\d+: there is a tool 'look' already, from elsewhere; rename one"
    ):
        ToolRegistry([foreign, look])


def test_the_example_is_a_file_that_loads() -> None:
    example = Path(__file__).parents[2] / "examples" / "tools.py"
    found = load_modules([str(example)]).get("get_weather")
    assert found is not None
    assert found.effect == "read"
