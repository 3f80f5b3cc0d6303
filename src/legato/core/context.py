"""What a running tool is given: who asks, its key, and a way to show text while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

from legato.core.errors import ToolError
from legato.core.records import Answer, Resumed

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
    turn, not stored. A tool that works long looks at ``cancelled`` and returns. ``resumed`` is set where the tool
    raised ``InputNeeded`` and is called again with the answer.
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
        ask: Callable[[str, dict[str, _Json] | None], Awaitable[Answer]] | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        self.turn_id = turn_id
        self.chat_id = chat_id
        self.call_id = call_id
        self.principal = principal
        self.idempotency_key = idempotency_key
        self.state = state
        self._emit = emit
        self.resumed = resumed
        self._cancelled = cancelled
        self._ask = ask

    @property
    def cancelled(self) -> bool:
        return self._cancelled()

    def emit(self, text: str) -> Emitted:
        """Show ``text`` to readers at once; it is not sent to the model. ``await`` it or not: both are right."""
        self._emit(text)
        return _EMITTED

    def ask(self, message: str, *, input_schema: dict[str, _Json] | None = None) -> Awaitable[Answer]:
        """Ask a person, and wait for the answer while this call runs; the time counts in no timeout. A wait that
        must survive a restart is ``InputNeeded``. Raises ``ToolError``, at once, where nobody can be asked: in a plain
        function, which would hold a thread for as long as a person thinks.
        """
        if self._ask is None:
            message = "nobody can be asked here: make the tool an `async def`, or raise InputNeeded"
            raise ToolError(message, code="cannot_ask")
        return self._ask(message, input_schema)
