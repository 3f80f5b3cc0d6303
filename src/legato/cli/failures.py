"""What ends a command: one sentence on stderr and an exit code. Nobody is shown a traceback for what they typed."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
"""It was asked for, and could not be done."""
MISUSED: Final = 2
"""The command line or the configuration is wrong: nothing was tried."""
INTERRUPTED: Final = 130
"""Ctrl-C: 128 and the number of the signal, as shells say it."""
BROKEN_PIPE: Final = 141
"""Whoever read our output went away (`legato tail … | head`): 128 and SIGPIPE."""


class Failed(Exception):
    """Raised with the sentence a person reads."""

    def __init__(self, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class Unreachable(Failed):
    """Nobody answered, or the line broke before the answer was whole. ``connected``: it broke after we had spoken, so
    that nobody knows what came of it."""

    def __init__(self, message: str, *, connected: bool) -> None:
        super().__init__(message)
        self.connected = connected


class Refused(Failed):
    """The server answered with an error (docs/http.md, Errors). ``retry_after`` is in seconds."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "",
        turn_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.turn_id = turn_id
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """It may be otherwise in a moment."""
        return self.status in {408, 429, 502, 503, 504}
