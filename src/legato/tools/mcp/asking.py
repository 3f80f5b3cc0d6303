"""What a server asks of a person while it runs a call, and what it is told.

Since 2026-07-28 a server answers ``input_required`` and forgets the call; what it wants is asked one by one, what was
said is collected in the state of the turn's need, and the call is sent again with all of it. Before, it asked over the
open connection and waited. Both are pure here.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from legato.core.blocks import Json
from legato.core.errors import InputNeeded, ToolError
from legato.core.records import Answer

ROUNDS = 10
"""Times that one call may come back with ``input_required``. The SDKs take as many."""
REQUESTS = 20
"""Things that a server may want at once: each is a question to a person."""


class Question(NamedTuple):
    message: str
    input_schema: dict[str, Json] | None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a call that waits (JSON): what the server wants, in its order, and what was said to it so far.
    ``request_state`` is the server's own, given back as it was."""

    requests: dict[str, Json] = {}
    responses: dict[str, Json] = {}
    request_state: str | None = None
    rounds: int = 0

    def need(self) -> InputNeeded | None:
        """The next question; None where all were asked."""
        for key, request in self.requests.items():
            if key not in self.responses:
                question = question_of(request)
                state = msgspec.to_builtins(self)
                return InputNeeded(question.message, input_schema=question.input_schema, state=state)
        return None

    def answered(self, answer: Answer) -> Wanted:
        """With what was said to the question of ``need``."""
        key = next(key for key in self.requests if key not in self.responses)
        said = reply_of(answer, question_of(self.requests[key]).input_schema)
        return msgspec.structs.replace(self, responses={**self.responses, key: said})


def wanted_of(state: Json) -> Wanted:
    """Raises ``ToolError`` for what is no such state."""
    try:
        wanted = msgspec.convert(state, Wanted)
    except msgspec.ValidationError as error:
        raise ToolError(f"this call cannot go on: what it waited with is of another version ({error})") from error
    if wanted.need() is None:
        raise ToolError("this call cannot go on: nothing of it was left to be asked")
    return wanted


def question_of(request: Json) -> Question:
    """Raises ``ToolError`` for what we cannot ask a person."""
    match request:
        case {"method": "elicitation/create", "params": {"mode": "url", "message": str(message), "url": str(url)}}:
            return Question(f"{message}\n{url}", None)
        case {"method": "elicitation/create", "params": {"message": str(message), "requestedSchema": dict(schema)}}:
            return Question(message, {key: value for key, value in schema.items() if key != "$schema"})
        case {"method": str(method)}:
            raise ToolError(f"the server wants {method}, which it was not offered")
        case _:
            raise ToolError("the server wants something that is no request of the protocol")


def reply_of(answer: Answer, schema: dict[str, Json] | None) -> dict[str, Json]:
    """An ``ElicitResult``. A question that nobody answered in its time is one that was dismissed; what an answer leaves
    out is what the question says it is then (SEP-1034)."""
    if answer.decision == "deny":
        return {"action": "decline"}
    if answer.decision != "approve":
        return {"action": "cancel"}
    if schema is None:
        return {"action": "accept"}
    said = answer.input if isinstance(answer.input, dict) else {}
    return {"action": "accept", "content": {**_defaults(schema), **said}}


def _defaults(schema: dict[str, Json]) -> dict[str, Json]:
    properties = schema.get("properties")
    declared = properties.items() if isinstance(properties, dict) else ()
    return {name: one["default"] for name, one in declared if isinstance(one, dict) and "default" in one}
