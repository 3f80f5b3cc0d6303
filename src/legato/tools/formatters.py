"""From a raw result to what the model reads (docs/tools.md, Formatters).

A formatter is applied when messages are built, never when results are stored. It sees good results only; of a failed
call the model reads the error. A formatter that raises, or gives no text, is replaced by the default one for that
result, is logged once for each tool and cause, and is counted: none ever fails in silence.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from legato.core.blocks import CallError, Json, Outcome
from legato.core.cut import Hint, cut_before, shorten
from legato.core.errors import ConfigError
from legato.core.records import Reading
from legato.core.text import clean
from legato.core.usage import estimated_tokens
from legato.observability import count, warn_once
from legato.tools.places import Place, place_of

_log = logging.getLogger(__name__)

DEFAULT = "default"
_DEFAULT_VERSION = 3
MAX_TOKENS = 50_000
"""Of one result, by ``core.usage``: a quarter of a context of 200,000, three times what 64 KiB of English are."""
READ_RESULT = "read_result"
"""The built-in tool that reads a result from where it was cut."""
_MARK = "__legato_formatters__"

_F = TypeVar("_F", bound=Callable[[Json], str])


class FormatterDeclaration(NamedTuple):
    tool_name: str
    version: int
    function: Callable[[Json], str]
    place: Place


def formatter(tool_name: str, *, version: int = 1) -> Callable[[_F], _F]:
    """Declare ``(output) -> str`` as what the model reads of this tool's results.

    Raise ``version`` when it changes: results that were read already keep the text they had.
    """

    def declare(function: _F) -> _F:
        declared = _checked(FormatterDeclaration(tool_name, version, function, place_of(function)))
        setattr(function, _MARK, (*formatters_of(function), declared))
        return function

    return declare


def formatters_of(thing: object) -> tuple[FormatterDeclaration, ...]:
    """The declarations of a function, in the order they were made; one function may serve several tools."""
    declared = getattr(thing, _MARK, ())
    return declared if isinstance(declared, tuple) else ()


def declared_for(tool_name: str, function: Callable[[Json], str], place: Place) -> FormatterDeclaration:
    """A formatter given with its tool: its own declaration for that tool if it has one, else version 1."""
    own = [one for one in formatters_of(function) if one.tool_name == tool_name]
    return own[-1] if own else _checked(FormatterDeclaration(tool_name, 1, function, place))


def _checked(declared: FormatterDeclaration) -> FormatterDeclaration:
    name: object = declared.tool_name
    version: object = declared.version
    function, place = declared.function, declared.place
    title = f"{place}: formatter of {name!r}"
    if not isinstance(name, str) or not name:
        raise ConfigError(f'{place}: @formatter takes the name of its tool, as in @formatter("get_weather")')
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigError(f"{title}: version is {version!r}; it is a whole number, at least 1")
    if not callable(function):
        raise ConfigError(f"{title}: it is {type(function).__name__}; it is a function of the output that gives text")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{title}: it is async; messages are built in one go, make it a plain function")
    if not takes_one(function):
        raise ConfigError(f"{title}: it takes one argument, the output")
    return declared


def takes_one(function: Callable[..., object]) -> bool:
    """Whether it can be called with one argument, as far as its signature tells."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except (NameError, ValueError):
        pass  # some built-in functions have none to look at, and from 3.14 on annotations are evaluated for it
    return True


class _Room(NamedTuple):
    """What the reading of one result may take, and whether its model can read on."""

    call_id: str
    max_bytes: int
    max_tokens: int
    reads_on: bool

    def default(self, text: str, *, as_stored: bool = True) -> Reading:
        return self.filled(text, DEFAULT, _DEFAULT_VERSION, as_stored=as_stored)

    def filled(self, text: str, formatter: str, version: int, *, as_stored: bool) -> Reading:
        """``as_stored``: it is the output itself, so its bytes are those that ``read_result`` counts."""
        whole = clean(text)
        shown = self._bounded(partial(shorten, whole), self._from_byte if as_stored else self._from_the_start)
        return Reading(call_id=self.call_id, text=shown, formatter=formatter, version=version)

    def cut_again(self, text: str, total: int, *, below: str = "") -> Reading:
        """Of an output of ``total`` bytes there is a beginning and an end already."""
        ends = cut_before(text, total)
        if ends is None:
            return self.default(below + text, as_stored=False)

        def within(max_bytes: int, hint: Hint) -> str:
            return shorten(below + ends.within(max_bytes - len(below.encode()), hint), max_bytes, hint)

        return self.default(self._bounded(within, self._from_byte), as_stored=False)

    def failure(self, message: str, output: Json, kept_bytes: int | None) -> Reading:
        if output is None:
            return self._replace(reads_on=False).default(message, as_stored=False)
        below = f"{clean(message)}\n"
        if kept_bytes is not None:
            return self.cut_again(plain(output), kept_bytes, below=below)
        return self.default(below + plain(output), as_stored=False)

    def _bounded(self, within: Callable[[int, Hint], str], reads_on: Hint) -> str:
        """As much as both bounds take. ``within`` gives what fits into so many bytes, with the line that the hint is
        put into: there the bound that was met says its number."""
        shown = within(self.max_bytes, lambda start: f", limit is {self.max_bytes} bytes{reads_on(start)}")
        while (tokens := estimated_tokens(shown)) > self.max_tokens:
            room = len(shown.encode()) * self.max_tokens // tokens
            shown = within(room, lambda start: f", limit is {self.max_tokens} tokens{reads_on(start)}")
        return shown

    def _from_byte(self, start: int) -> str:
        return f"; {READ_RESULT}(call_id={json.dumps(self.call_id)}, start={start}) reads on" if self.reads_on else ""

    def _from_the_start(self, _: int) -> str:
        return f"; {READ_RESULT}(call_id={json.dumps(self.call_id)}) reads all" if self.reads_on else ""


class FormatterRegistry:
    """Implements ``ports.Formatters``. Whatever a tool's own bound is, of one result no more is read than
    ``max_tokens``, as ``core.usage`` estimates them."""

    def __init__(self, declared: Iterable[FormatterDeclaration] = (), *, max_tokens: int = MAX_TOKENS) -> None:
        self._max_tokens = max_tokens
        self._by_tool: dict[str, FormatterDeclaration] = {}
        for one in declared:
            self.add(one)

    def add(self, declared: FormatterDeclaration) -> None:
        """Raises ``ConfigError`` if the tool has another formatter already."""
        there = self._by_tool.get(declared.tool_name)
        if there is not None and (there.place, there.version) != (declared.place, declared.version):
            raise ConfigError(
                f"{declared.place}: tool {declared.tool_name!r} has a formatter already, from {there.place}; keep one"
            )
        self._by_tool[declared.tool_name] = declared

    def names(self) -> list[str]:
        """Tools that have their own."""
        return list(self._by_tool)

    def warn_of_strangers(self, tools: Iterable[str]) -> list[FormatterDeclaration]:
        """Those whose tool does not exist, each logged: they would never fire. Ask once all tools are known."""
        known = set(tools)
        strangers = [one for one in self._by_tool.values() if one.tool_name not in known]
        for one in strangers:
            message = f"{one.place}: there is no tool {one.tool_name!r}, so its formatter never fires"
            warn_once(_log, f"formatter_without_tool:{one.tool_name}", message)
        return strangers

    def read(
        self,
        *,
        call_id: str,
        tool_name: str,
        outcome: Outcome,
        output: Json,
        error: CallError | None,
        max_bytes: int,
        kept_bytes: int | None = None,
        reads_on: bool = False,
    ) -> Reading:
        """What the model reads, at most ``max_bytes`` bytes of UTF-8. Never raises."""
        room = _Room(call_id, max_bytes, self._max_tokens, reads_on)
        if outcome != "ok":
            return room.failure(_failure(outcome, error), output, kept_bytes)
        if kept_bytes is not None:
            # A formatter asks for what the tool gave, and this is a piece of it: it would fail, or say what is not so.
            return room.cut_again(plain(output), kept_bytes)
        own = self._by_tool.get(tool_name)
        if own is None:
            # Counted for good results only: a failed call's name may be the model's invention, and labels are few.
            count("formatter_default", tool=tool_name)
            message = f"tool {tool_name!r} has no formatter of its own; the model reads its results as they are"
            warn_once(_log, f"formatter_missing:{tool_name}", message)
            return room.default(plain(output))
        text = self._formatted(own, output)
        if text is None:
            return room.default(plain(output))
        return room.filled(text, own.tool_name, own.version, as_stored=False)

    @staticmethod
    def _formatted(own: FormatterDeclaration, output: Json) -> str | None:
        """None where the formatter has no text for this output."""
        try:
            text: object = own.function(_copied(output))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it raises, the model is told the result
            _fell_back(own, type(error).__name__, f"raised {type(error).__name__}: {error}")
            return None
        if isinstance(text, str):
            return text
        _fell_back(own, "not_text", f"gave {type(text).__name__}, not a text")
        return None


def _fell_back(own: FormatterDeclaration, cause: str, what: str) -> None:
    count("formatter_fallbacks", tool=own.tool_name, cause=cause)
    message = f"{own.place}: formatter of {own.tool_name!r} {what}; the default one is used instead"
    warn_once(_log, f"formatter_failed:{own.tool_name}:{cause}", message)


def _copied(output: Json) -> Json:
    """A formatter that changes its argument must not change the stored result."""
    if isinstance(output, dict | list):
        return msgspec.json.decode(msgspec.json.encode(output))
    return output


def _failure(outcome: Outcome, error: CallError | None) -> str:
    return f"the call ended as {outcome}" if error is None else error.message


def plain(output: Json) -> str:
    """Text as it is, anything else as compact JSON."""
    if isinstance(output, str):
        return output
    try:
        return msgspec.json.encode(output).decode()
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        # Lone surrogates, or what no JSON reader ever gives; escaped, or shown as Python does, it still can be read.
        try:
            return json.dumps(output, separators=(",", ":"), default=repr)
        except (TypeError, ValueError, RecursionError):
            return repr(type(output))
