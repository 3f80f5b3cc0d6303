"""Legato: a self-hosted LLM turn server.

What a file of tools needs is here, and costs little to import; the server is behind ``open``.
"""

from __future__ import annotations

from legato.core.context import ToolContext
from legato.core.errors import ToolError
from legato.tools.declare import tool
from legato.tools.formatters import formatter

__version__ = "0.1.0"

__all__ = ["ToolContext", "ToolError", "__version__", "formatter", "tool"]
