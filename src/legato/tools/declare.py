"""``@tool``: a function becomes something a model may call (docs/tools.md).

The function stays what it was and keeps its declaration as an attribute; nothing is registered anywhere until a
registry is given the function or its file. What is wrong is a ``ConfigError`` with file and line.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import TypeVar, overload

from legato.core.errors import ConfigError
from legato.ports import Effect
from legato.tools.function_tool import MAX_OUTPUT, TIMEOUT, Approval, Formatter, FunctionTool, Lane, Options, Reconcile
from legato.tools.places import Place

_MARK = "__legato_tool__"
_DECLARED_HERE = "__legato_declared__"

_F = TypeVar("_F", bound=Callable[..., object])


@overload
def tool(function: _F, /) -> _F: ...


@overload
def tool(
    *,
    name: str | None = None,
    effect: Effect = "write",
    eager: bool = False,
    timeout: float = TIMEOUT,
    idle_timeout: float | None = None,
    needs_approval: Approval = False,
    lane: Lane = None,
    max_output: int = MAX_OUTPUT,
    retries: int = 0,
    reconcile: Reconcile | None = None,
    formatter: Formatter | None = None,
) -> Callable[[_F], _F]: ...


def tool(
    function: _F | None = None,
    /,
    *,
    name: str | None = None,
    effect: Effect = "write",
    eager: bool = False,
    timeout: float = TIMEOUT,
    idle_timeout: float | None = None,
    needs_approval: Approval = False,
    lane: Lane = None,
    max_output: int = MAX_OUTPUT,
    retries: int = 0,
    reconcile: Reconcile | None = None,
    formatter: Formatter | None = None,
) -> _F | Callable[[_F], _F]:
    """Declare a function as a tool. docs/tools.md says what each argument means.

    ``lane`` and ``needs_approval`` may be functions of the call's arguments, one dict; ``reconcile`` is a function of
    an idempotency key. The function is given back and can be called as before.
    """

    caller = sys._getframe(1)  # noqa: SLF001 - annotations may name classes that only the calling function knows
    written = Place(caller.f_code.co_filename, caller.f_lineno)
    local_names = dict(caller.f_locals)

    def declare(function: _F) -> _F:
        _check_function(function, written)
        options = Options(
            effect=effect,
            eager=eager,
            timeout=timeout,
            idle_timeout=idle_timeout,
            needs_approval=needs_approval,
            lane=lane,
            max_output=max_output,
            retries=retries,
            reconcile=reconcile,
            formatter=formatter,
        )
        declared = FunctionTool(function, name=name, options=options, local_names=local_names)
        setattr(function, _MARK, declared)
        _note_in_module(function, declared)
        return function

    return declare if function is None else declare(function)


def _check_function(function: object, written: Place) -> None:
    if isinstance(function, str):
        raise ConfigError(f"{written}: @tool({function!r}) has no meaning; for a name write @tool(name={function!r})")
    if not inspect.isfunction(function):
        raise ConfigError(
            f"{written}: @tool takes a function, not {type(function).__name__}; "
            "wrap what you have in a function that calls it"
        )


def _note_in_module(function: Callable[..., object], declared: FunctionTool) -> None:
    """In the module's own namespace: a second function of one name hides the first, and a loader must still see it."""
    names = getattr(function, "__globals__", None)
    if names is not None and "." not in function.__qualname__:
        names.setdefault(_DECLARED_HERE, []).append(declared)


def tool_of(thing: object) -> FunctionTool | None:
    """The declaration of a function that has one."""
    declared = getattr(thing, _MARK, None)
    return declared if isinstance(declared, FunctionTool) else None


def declared_in(names: dict[str, object]) -> list[FunctionTool]:
    """Every tool that was declared at the top of a module, in order, those hidden by a later one included."""
    declared = names.get(_DECLARED_HERE, [])
    assert isinstance(declared, list)
    return declared
