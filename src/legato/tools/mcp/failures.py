"""What may go wrong between us and a server, in our own words."""

from __future__ import annotations


class ConnectionDied(Exception):
    """The connection is of no use any more, or never was. The text says why, and what to do about it."""


class NotTaken(Exception):
    """The server says that it has not run this call, and would on a new connection."""


def reason_of(error: BaseException) -> str:
    """The innermost of a group: task groups wrap what happened in them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split())
    if isinstance(error, ConnectionDied) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
