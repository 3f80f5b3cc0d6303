"""What a running tool is given: who asks, its key, and a way to show text while it runs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

_Json = Any


class Emitted:
    """Done already; ``await`` it in an async tool, ignore it in a plain function."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


_EMITTED = Emitted()


class ToolContext:
    """Filled in for a parameter annotated ``ToolContext``; hidden from the model.

    ``idempotency_key`` is the same for every try of this call, after a restart too. ``state`` is one dict for the whole
    turn, not stored. A tool that works long looks at ``cancelled`` and returns.
    """

    def __init__(
        self,
        *,
        turn_id: str,
        chat_id: str,
        call_id: str,
        principal: str,
        idempotency_key: str,
        state: dict[str, _Json],
        emit: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self.turn_id = turn_id
        self.chat_id = chat_id
        self.call_id = call_id
        self.principal = principal
        self.idempotency_key = idempotency_key
        self.state = state
        self._emit = emit
        self._cancelled = cancelled

    @property
    def cancelled(self) -> bool:
        return self._cancelled()

    def emit(self, text: str) -> Emitted:
        """Show ``text`` to readers at once; it is not sent to the model. ``await`` it or not: both are right."""
        self._emit(text)
        return _EMITTED
