"""Closing a connection without an answer, which ASGI has no word for: uvicorn answers 500 for an application that says
nothing. ``connection.Connection`` offers it as an extension of the scope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Scope

HANG_UP: Final = "legato.hang_up"
"""The scope extension: ``{"close": callable}``."""


async def hang_up(scope: Scope, receive: Receive) -> bool:
    """Close the connection with nothing more said. False, and nothing done, where the server offers no way to."""
    close: Callable[[], None] | None = scope.get("extensions", {}).get(HANG_UP, {}).get("close")
    if close is None:
        return False
    close()
    # uvicorn notes the loss in the loop's next turn; to return before that would be taken for a missing answer.
    while (await receive())["type"] != "http.disconnect":
        pass
    return True
