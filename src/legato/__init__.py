"""Legato: a self-hosted LLM turn server.

What a file of tools needs is here. Each name is imported when it is first asked for, so that `legato --help` does not
wait for what it does not show.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from legato.compose import open_library as open  # noqa: A004 - ``legato.open`` reads as what it does
    from legato.core.context import ToolContext
    from legato.core.errors import InputNeeded, NotNow, ToolError
    from legato.tools.declare import tool
    from legato.tools.formatters import formatter

__version__ = "0.1.0"

__all__ = ["InputNeeded", "NotNow", "ToolContext", "ToolError", "__version__", "formatter", "open", "tool"]

_HOMES = {
    "InputNeeded": ("legato.core.errors", "InputNeeded"),
    "NotNow": ("legato.core.errors", "NotNow"),
    "ToolContext": ("legato.core.context", "ToolContext"),
    "ToolError": ("legato.core.errors", "ToolError"),
    "formatter": ("legato.tools.formatters", "formatter"),
    "open": ("legato.compose", "open_library"),
    "tool": ("legato.tools.declare", "tool"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, home_name = _HOMES[name]
    value: object = getattr(import_module(module), home_name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
