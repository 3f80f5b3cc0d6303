"""What a running tool may ask a person: one thing at a time, in JSON, within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from legato.core.blocks import Json
from legato.core.errors import InputNeeded, ToolError
from legato.core.inputs import ToolNeedsInput
from legato.core.records import Answer
from legato.core.text import clean
from legato.runtime.calls.outputs import cleaned
from legato.runtime.calls.patience import Patience

MESSAGE_BYTES = 8 * 1024
"""Of what a person reads."""
SCHEMA_BYTES = 64 * 1024
STATE_BYTES = 64 * 1024
"""Of JSON. A tool's state is what it needs to find its way back, and is stored with the turn."""

Ask: TypeAlias = Callable[[str, dict[str, Json] | None], Awaitable[Answer]]


class Person:
    """The other end of one call's ``ctx.ask``, whose time counts in no timeout of the call. ``told``: the call was told
    to stop."""

    def __init__(self, ask: Ask, patience: Patience, *, told: Callable[[], bool]) -> None:
        self._ask = ask
        self._patience = patience
        self._told = told
        self._asking = False
        self._gone = False

    async def ask(self, message: str, input_schema: dict[str, Json] | None) -> Answer:
        """Raises ``ToolError`` with code ``cannot_ask``."""
        if self._gone or self._told():
            raise _cannot("the call has ended, or was told to stop")
        if self._asking:
            raise _cannot("this call waits for an answer already; ask one thing after the other")
        message, schema = _message(message), _schema(input_schema)
        self._asking = True
        try:
            with self._patience.standing_still():
                return await self._ask(message, schema)
        finally:
            self._asking = False

    def leave(self) -> None:
        """Nobody is asked any more."""
        self._gone = True


def need_of(call_id: str, wish: InputNeeded) -> ToolNeedsInput:
    """Raises ``ToolError`` with code ``cannot_ask``."""
    return ToolNeedsInput(
        call_id=call_id,
        message=_message(wish.message),
        input_schema=_schema(wish.input_schema),
        state=_json("state", wish.state, STATE_BYTES),
    )


def _message(message: object) -> str:
    if not isinstance(message, str) or not message.strip():
        raise _cannot("the message is what a person reads: a text that is not empty")
    message = clean(message)
    if (size := len(message.encode())) > MESSAGE_BYTES:
        raise _cannot(f"the message has {size} bytes, limit is {MESSAGE_BYTES}")
    return message


def _schema(schema: object) -> dict[str, Json] | None:
    if schema is None:
        return None
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise _cannot('input_schema is JSON Schema of an object: {"type": "object", "properties": {…}}')
    read = _json("input_schema", schema, SCHEMA_BYTES)
    assert isinstance(read, dict)
    return read


def _json(what: str, value: object, limit: int) -> Json:
    """A copy: what the tool does with its own afterwards changes nothing."""
    try:
        data = msgspec.json.encode(value)
        copy = msgspec.json.decode(data)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise _cannot(f"{what} is not JSON: {error}") from error
    if len(data) > limit:
        raise _cannot(f"{what} has {len(data)} bytes of JSON, limit is {limit}")
    return cleaned(copy)


def _cannot(why: str) -> ToolError:
    return ToolError(f"nobody can be asked: {why}", code="cannot_ask")
