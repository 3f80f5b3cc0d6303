"""The tools of one server, in the order of their declaration, and the formatters that came with them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Protocol, TypeGuard

from legato.core.ask import ToolSpec
from legato.core.errors import ConfigError
from legato.observability import warn_once
from legato.ports import Tool
from legato.tools.declare import declared_in, tool_of
from legato.tools.formatters import MAX_TOKENS, FormatterRegistry, formatters_of
from legato.tools.function_tool import FunctionTool
from legato.tools.loading import load_module
from legato.tools.places import place_of

_log = logging.getLogger(__name__)


class ToolSource(Protocol):
    """Where tools come from that come and go: a server that lists its own."""

    def tools(self) -> Sequence[Tool]:
        """Those that are offered now, in an order that stays."""

    def find(self, name: str) -> Tool | None:
        """One of those, or one that a turn was offered before and may still call."""


class ToolRegistry:
    """Implements ``ports.Tools``. ``formatters`` is always there, and is filled as tools come in; ``result_tokens`` are
    what a model reads of one result at most.

    Declared tools come first, then those of attached sources; a source's tool whose name is taken is not seen, and that
    is logged.
    """

    def __init__(self, things: Iterable[Tool | Callable[..., object]] = (), *, result_tokens: int = MAX_TOKENS) -> None:
        self.formatters = FormatterRegistry(max_tokens=result_tokens)
        self._tools: dict[str, Tool] = {}
        self._sources: list[ToolSource] = []
        for thing in things:
            self.add(thing)

    def names(self) -> Sequence[str]:
        return tuple(dict.fromkeys(tool.spec.name for tool in self))

    def get(self, name: str) -> Tool | None:
        declared = self._tools.get(name)
        if declared is not None:
            return declared
        found = (source.find(name) for source in self._sources)
        return next((tool for tool in found if tool is not None), None)

    def __iter__(self) -> Iterator[Tool]:
        yield from self._tools.values()
        for source in self._sources:
            yield from (tool for tool in source.tools() if self._is_seen(tool))

    def __len__(self) -> int:
        return len(self.names())

    def attach(self, source: ToolSource) -> None:
        """Offer what it lists, from now on and as it changes."""
        self._sources.append(source)

    def add(self, thing: Tool | Callable[..., object]) -> None:
        """A function with ``@tool`` or ``@formatter``, or a tool of any other making.

        The same one twice is once. Raises ``ConfigError`` for a name that is taken and for a function without either.
        """
        if not self._took(thing):
            named = getattr(thing, "__name__", type(thing).__name__)
            where = f"{place_of(thing)}: " if callable(thing) else ""
            raise ConfigError(f"{where}{named!r} has no @tool")

    def load(self, sources: Iterable[str]) -> None:
        """Import each ``path/file.py`` or ``dotted.module``, and add every tool and formatter found in it."""
        for source in dict.fromkeys(sources):
            found = [self._took(thing) for thing in _things_of(load_module(source))]
            if not any(found):
                raise ConfigError(f"{source}: there is no @tool and no @formatter in it")

    def _is_seen(self, tool: Tool) -> bool:
        name = tool.spec.name
        there = self._tools.get(name)
        if there is not None:
            message = f"{tool.source} offers a tool {name!r}, which is never called: {_where(there)} has that name"
            warn_once(_log, f"tool_hidden:{name}", message)
        return there is None

    def _took(self, thing: object) -> bool:
        """False if it declares nothing."""
        tool = tool_of(thing) or (thing if _is_tool(thing) else None)
        formatters = formatters_of(thing)
        if tool is not None:
            self._put(tool)
        if isinstance(tool, FunctionTool) and tool.formatter is not None:
            formatters = (*formatters, tool.formatter)
        for one in formatters:
            self.formatters.add(one)
        return tool is not None or bool(formatters)

    def _put(self, tool: Tool) -> None:
        name = tool.spec.name
        there = self._tools.get(name)
        if there is not None and there is not tool and not _imported_twice(there, tool):
            raise ConfigError(f"{_where(tool)}: there is a tool {name!r} already, from {_where(there)}; rename one")
        self._tools[name] = tool


def load_modules(sources: Iterable[str]) -> ToolRegistry:
    """The registry of the tools and formatters in these files and modules."""
    registry = ToolRegistry()
    registry.load(sources)
    return registry


def _things_of(module: ModuleType) -> list[object]:
    """What the module has from elsewhere, then what it declares, in order, then what it keeps in lists."""
    names = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    own = [one for one in declared_in(vars(module)) if one.function.__name__ in names]
    for declared in own:
        _check_outermost(declared, names[declared.function.__name__])
    elsewhere = [value for value in names.values() if tool_of(value) not in own]
    listed = [one for value in names.values() if isinstance(value, list | tuple) for one in value]
    return [*elsewhere, *(declared.function for declared in own), *listed]


def _check_outermost(declared: FunctionTool, bound: object) -> None:
    """A decorator around ``@tool`` would be left out of the calls the model makes."""
    if bound is not declared.function and tool_of(bound) in (None, declared):
        name = declared.function.__name__
        raise ConfigError(
            f"{declared.place}: tool {name!r} is wrapped or replaced after @tool, and calls of the model would not "
            "see that; make @tool the outermost decorator"
        )


def _is_tool(thing: object) -> TypeGuard[Tool]:
    return isinstance(getattr(thing, "spec", None), ToolSpec) and not isinstance(thing, type)


def _imported_twice(one: Tool, other: Tool) -> bool:
    """One file under two module names: the same lines, run in two namespaces."""
    if not isinstance(one, FunctionTool) or not isinstance(other, FunctionTool):
        return False
    apart = one.function.__globals__ is not other.function.__globals__
    return apart and one.place == other.place


def _where(tool: Tool) -> str:
    return str(tool.place) if isinstance(tool, FunctionTool) else tool.source
