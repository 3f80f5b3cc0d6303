"""A Python function as a tool (``ports.Tool``), made by ``@tool`` from what was declared (docs/tools.md)."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, NoReturn, TypeAlias, TypeVar

from legato.core.ask import ToolSpec
from legato.core.blocks import Json
from legato.core.context import ToolContext
from legato.core.errors import ConfigError
from legato.observability import warn_once
from legato.ports import Effect
from legato.tools.arguments import Arguments
from legato.tools.docstring import read_docstring
from legato.tools.formatters import READ_RESULT, declared_for, takes_one
from legato.tools.places import place_of
from legato.tools.results import jsonable
from legato.tools.streams import not_a_stream_of_text

_log = logging.getLogger(__name__)

MAX_OUTPUT = 64 * 1024
"""Bytes of a result that the model reads, unless the tool says otherwise: about 16,000 tokens."""
TIMEOUT = 60.0
"""Seconds (docs/tools.md)."""

RESERVED = frozenset({READ_RESULT})
"""Names of built-in tools: what a model is told of one must not lead it to another."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

Kind: TypeAlias = Literal["async", "sync", "stream"]
Given: TypeAlias = dict[str, object]
"""A call's arguments as the function takes them: checked, defaults filled in, without the context."""
Lane: TypeAlias = str | Callable[[Given], str | None] | None
Approval: TypeAlias = bool | Callable[[Given], bool]
Reconcile: TypeAlias = Callable[[str], object]
Formatter: TypeAlias = Callable[[Json], str]

_EFFECTS: tuple[Effect, ...] = ("read", "idempotent", "write")
_Option = TypeVar("_Option")


class Options(NamedTuple):
    """What may be said with ``@tool(…)`` besides the name (docs/tools.md). Not checked yet."""

    effect: Effect = "write"
    eager: bool = False
    timeout: float = TIMEOUT
    idle_timeout: float | None = None
    needs_approval: Approval = False
    lane: Lane = None
    max_output: int = MAX_OUTPUT
    retries: int = 0
    reconcile: Reconcile | None = None
    formatter: Formatter | None = None


class FunctionTool:
    """A declared function (``ports.Tool``).

    ``place`` is where it was declared. ``formatter`` is the one given with ``formatter=``. ``reconcile`` asks the
    outside what became of an idempotency key, or is None. ``needs_approval`` says that some call may need a person's
    yes; ``asks_approval`` says it of one call.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *,
        name: str | None,
        options: Options,
        local_names: Mapping[str, object],
        built_in: bool = False,
    ) -> None:
        self.place = place_of(function)
        self.source = self.place.short
        self.function = function
        self.kind = self._kind_of(function)
        name = self._name_of(function, name, built_in=built_in)
        read = read_docstring(function.__doc__)
        if not read.description:
            self._refuse("it has no docstring; write what it does, the model chooses by that")
        if self.kind == "stream" and (wrong := not_a_stream_of_text(function, local_names)) is not None:
            self._refuse(wrong)
        self._take(name, options)
        self._arguments = Arguments(function, title=self._title, described=read.parameters, local_names=local_names)
        self.spec = ToolSpec(name, read.description, self._arguments.schema)

    def _take(self, name: str, options: Options) -> None:
        self.effect: Effect = self._effect(options.effect)
        self.eager = self._yes_or_no("eager", options.eager)
        self.timeout = self._seconds("timeout", options.timeout)
        idle = options.idle_timeout
        self.idle_timeout = None if idle is None else self._seconds("idle_timeout", idle)
        if self.idle_timeout is not None and self.idle_timeout > self.timeout:
            self._refuse(f"idle_timeout is {idle}, and timeout is up before, after {self.timeout:g}; raise timeout=")
        self.max_output = self._at_least(1, "max_output", options.max_output)
        self.retries = self._at_least(0, "retries", options.retries)
        if self.retries and self.effect == "write":
            self._refuse('retries= would run it twice; that takes effect="read" or "idempotent"')
        self._approval = self._asked("needs_approval", options.needs_approval, bool, what="True, False")
        self.needs_approval = options.needs_approval is not False
        self._lane = self._asked("lane", options.lane, str, type(None), what="a text")
        self.reconcile = options.reconcile
        self._check_reconcile(options.reconcile)
        self.formatter = None if options.formatter is None else declared_for(name, options.formatter, self.place)

    def check(self, input: dict[str, Json]) -> str | None:
        return self._arguments.check(input)

    def lane(self, input: dict[str, Json]) -> str | None:
        """Never raises: where the user's function does, all such calls share the tool's own lane."""
        if not callable(self._lane):
            return self._lane
        try:
            lane: object = self._lane(self._arguments.values(input))
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises, the turn goes on
            return self._lane_failed(f"raised {type(error).__name__}: {error}", type(error).__name__)
        if lane is not None and not isinstance(lane, str):
            return self._lane_failed(f"gave {type(lane).__name__}, not a text", "not_text")
        return lane

    def asks_approval(self, input: dict[str, Json]) -> bool:
        """Never raises: where the user's function does, a person is asked."""
        if not callable(self._approval):
            return bool(self._approval)
        try:
            return bool(self._approval(self._arguments.values(input)))
        except Exception as error:  # noqa: BLE001 - see lane
            cause = f"approval_failed:{self.spec.name}:{type(error).__name__}"
            warn_once(_log, cause, f"{self._title}: needs_approval raised {error}; a person is asked")
            return True

    def bind(self, input: dict[str, Json], ctx: ToolContext) -> Callable[[], object]:
        """Raises ``ToolError`` for arguments that ``check`` would refuse."""
        values = self._arguments.values(input)
        if self._arguments.context is not None:
            values[self._arguments.context] = ctx
        return functools.partial(self.function, **values)

    def jsonable(self, value: object) -> Json:
        return jsonable(value)

    def _lane_failed(self, what: str, cause: str) -> str:
        warn_once(_log, f"lane_failed:{self.spec.name}:{cause}", f"{self._title}: lane {what}; it has its own lane now")
        return self.spec.name

    # what may be wrong with a declaration

    def _refuse(self, message: str) -> NoReturn:
        raise ConfigError(f"{self._title}: {message}")

    def _kind_of(self, function: Callable[..., object]) -> Kind:
        inner = inspect.unwrap(function)  # a decorator's plain wrapper around an `async def` still gives an awaitable
        if inspect.isasyncgenfunction(inner):
            return "stream"
        if inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(function):
            return "async"
        if inspect.isgeneratorfunction(inner):
            raise ConfigError(
                f"{self.place}: tool {function.__name__!r} is a plain generator; "
                "make it an `async def` that yields text, or return a list"
            )
        return "sync"

    def _name_of(self, function: Callable[..., object], given: object, *, built_in: bool) -> str:
        name = function.__name__ if given is None else given
        self._title = f"{self.place}: tool {name!r}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._refuse("a name is 1 to 64 of a-z, A-Z, 0-9, _ and -; give one with name=")
        if name in RESERVED and not built_in:
            self._refuse("a built-in tool has this name; give it another with name=")
        return name

    def _effect(self, value: object) -> Effect:
        known = [effect for effect in _EFFECTS if effect == value]
        if not known:
            self._refuse(f"effect is {value!r}; it is one of {', '.join(_EFFECTS)}")
        return known[0]

    def _seconds(self, option: str, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            self._refuse(f"{option} is {value!r}; it is seconds, more than 0")
        return float(value)

    def _at_least(self, least: int, option: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self._refuse(f"{option} is {value!r}; it is a whole number, at least {least}")
        return value

    def _yes_or_no(self, option: str, value: object) -> bool:
        if not isinstance(value, bool):
            self._refuse(f"{option} is {value!r}; it is True or False")
        return value

    def _check_reconcile(self, value: object) -> None:
        if value is None:
            return
        if not callable(value):
            self._refuse(f"reconcile is {value!r}; it is a function of an idempotency key")
        if self.effect == "read":
            self._refuse('reconcile= asks what became of an effect; a tool with effect="read" has none')
        if self.effect == "idempotent":
            self._refuse('reconcile= would never be asked: with effect="idempotent" the call runs again with its key')
        self._check_takes_one("reconcile", value, "the idempotency key")

    def _asked(self, option: str, value: _Option, *constants: type, what: str) -> _Option:
        """A constant, or a plain function that is asked at each call."""
        if isinstance(value, constants):
            return value
        if not callable(value):
            self._refuse(f"{option} is {value!r}; it is {what}, or a function of the arguments")
        if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
            self._refuse(f"{option} is async; it is asked while the model talks, make it a plain function")
        self._check_takes_one(option, value, "one dict with the call's arguments")
        return value

    def _check_takes_one(self, option: str, function: Callable[..., object], what: str) -> None:
        if not takes_one(function):
            self._refuse(f"{option} must take one argument, {what}")
