"""What a server's tool is called among all tools: ``server__tool``.

The name follows from the server's name and the tool's alone, so it is the same after a reconnect and in another
process. A server's name has no ``__``, so two servers never meet.
"""

from __future__ import annotations

import hashlib
import re

SEPARATOR = "__"
LONGEST = 64
"""Characters. The vendors take as many, of letters, digits, ``_`` and ``-``."""
_MARK = 8
"""Hex digits that tell names apart that were made to fit: among a thousand tools two agree once in 8,000 servers."""


def offered_name(server: str, tool: str) -> str:
    """A name that does not fit is cut, its odd characters become ``_``, and a mark of the whole name is put behind."""
    fitting = re.sub(r"[^a-zA-Z0-9_-]", "_", tool)
    whole = f"{server}{SEPARATOR}{fitting}"
    if tool and fitting == tool and len(whole) <= LONGEST:
        return whole
    mark = hashlib.sha256(tool.encode(errors="replace")).hexdigest()[:_MARK]
    return f"{whole[: LONGEST - _MARK - 1]}_{mark}"


def prefix_of(server: str) -> str:
    """What the names of all its tools begin with."""
    return f"{server}{SEPARATOR}"
