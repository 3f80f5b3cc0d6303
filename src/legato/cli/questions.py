"""What a person is asked while an answer streams, and what they type to it: words in, the body of an approval out."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec import UnsetType

from legato.cli.brief import arguments_line
from legato.cli.untrusted import clean, one_line
from legato.core import events as e
from legato.core.blocks import Json, ToolUseBlock
from legato.core.fold import Turn

PEOPLE: Final = ("approval", "input")
_CALL_MAX: Final = 300
_MESSAGE_MAX: Final = 2_000


class Edit(NamedTuple):
    """The arguments, to be changed on the line."""

    line: str


Reply: TypeAlias = dict[str, Json] | Edit | None
"""The fields of an answer beside ``call_id``; None for words that are none."""


class Question(NamedTuple):
    """One need of a call. ``arguments`` are the model's."""

    need: e.CallWaiting
    tool_name: str
    arguments: Json

    @property
    def asked(self) -> str:
        if self.need.kind == "approval":
            return f"run {self.tool_name}({arguments_line(self.arguments, _CALL_MAX)})? y/N/e(dit)"
        message = "" if isinstance(self.need.message, UnsetType) else one_line(self.need.message, _MESSAGE_MAX)
        if self._field is not None:
            return f"{self.tool_name} asks: {message} ({clean(self._field)}, or n)"
        return f"{self.tool_name} asks: {message} ({'a JSON object, or n' if self._takes_input else 'y/N'})"

    def reply(self, line: str) -> Reply:
        word, _, rest = line.strip().partition(" ")
        match word.lower():
            case "n" | "no":
                return {"decision": "deny", **({"reason": rest.strip()} if rest.strip() else {})}
            case "y" | "yes" if not rest and not self._takes_input:
                return {"decision": "approve"}
            case "" if not self._takes_input:
                return {"decision": "deny"}
            case "e" | "edit" if not rest and self.need.kind == "approval":
                return Edit(msgspec.json.encode(self.arguments).decode())
        given = _value(line.strip())
        if isinstance(given, dict) and (self.need.kind == "approval" or self._takes_input):
            return {"decision": "approve", "input": given}
        if self._field is not None and line.strip():
            return {"decision": "approve", "input": {self._field: line.strip() if self._is_text else given}}
        return None

    @property
    def _takes_input(self) -> bool:
        return self.need.kind == "input" and not isinstance(self.need.input_schema, UnsetType)

    @property
    def _properties(self) -> dict[str, Json]:
        schema = {} if isinstance(self.need.input_schema, UnsetType) else self.need.input_schema
        properties = schema.get("properties")
        return properties if isinstance(properties, dict) else {}

    @property
    def _field(self) -> str | None:
        """The only one that is asked for: then its value is enough."""
        properties = self._properties
        return next(iter(properties)) if self.need.kind == "input" and len(properties) == 1 else None

    @property
    def _is_text(self) -> bool:
        (shape,) = self._properties.values()
        return isinstance(shape, dict) and shape.get("type") == "string"


def questions(turn: Turn) -> list[Question]:
    """What waits for a person, the oldest first."""
    return [_question(need, turn) for need in turn.waiting.values() if need.kind in PEOPLE]


def _question(need: e.CallWaiting, turn: Turn) -> Question:
    block = turn.closed.get(need.index)
    if isinstance(block, ToolUseBlock):
        return Question(need, one_line(block.tool_name, 64), block.input)
    return Question(need, one_line(need.call_id, 64), None)


def _value(text: str) -> Json:
    """JSON, or a text as it is."""
    try:
        value: Json = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value
