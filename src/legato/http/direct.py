"""Writing a piece of a streamed answer straight to the socket, which ASGI's ``send`` reaches by several awaits.

``connection.Connection`` offers it as an extension of the scope; under another server there is none, and ``send`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import Scope

DIRECT: Final = "legato.direct"
"""The scope extension: ``{"write": callable}``."""


def direct_of(scope: Scope) -> Callable[[bytes], bool] | None:
    """Takes one piece of the body at once and whole, or says False and takes nothing: the socket is full, or gone."""
    write: Callable[[bytes], bool] | None = scope.get("extensions", {}).get(DIRECT, {}).get("write")
    return write
