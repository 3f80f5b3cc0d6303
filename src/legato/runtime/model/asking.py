"""From a branch of stored turns to one request: the same for the model and for ``model_view``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from legato.core.ask import Ask, Params, ToolSpec
from legato.core.blocks import Block, ToolResultBlock
from legato.core.messages import CORRECTION, messages, unread
from legato.core.records import Reading, StoredTurn
from legato.ports import Formatters, Tools

READ_RESULT = "read_result"
"""The built-in tool with which a model reads what was cut for it."""
MODEL_OUTPUT = 65_536
"""Bytes of a result that the model reads where its tool, no longer registered, cannot say."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same over all rounds of a turn. ``before`` is the branch up to and with the user turn."""

    model: str
    system: str | None
    tools: tuple[ToolSpec, ...]
    params: Params
    before: tuple[StoredTurn, ...]

    @property
    def said(self) -> tuple[Block, ...]:
        return self.before[-1].blocks if self.before else ()


def ask(question: Question, current: StoredTurn, *, round: int, last: bool, data: Mapping[str, bytes]) -> Ask:
    """The request of one round. A forced call holds for the first round only; in the last one none is possible."""
    params = question.params
    if last:
        params = replace(params, tool_choice="none")
    elif round > 1 and params.tool_choice != "none":
        params = replace(params, tool_choice=UNSET)
    return Ask(
        model=question.model,
        system=question.system,
        tools=question.tools,
        messages=messages((*question.before, current)),
        params=params,
        round=round,
        said=question.said,
        data=data,
    )


def system_prompt(*parts: str | None) -> str | None:
    """The server's default and the chat's own, in this order."""
    said = [part.strip() for part in parts if part and part.strip()]
    return "\n\n".join(said) or None


def as_of_round(turn: StoredTurn, round: int) -> StoredTurn:
    """The turn as it stood when ``round`` was asked: earlier rounds whole, of this one only what it was told."""
    rounds = tuple(
        record if record.round < round else replace(record, commitment=None)
        for record in turn.rounds
        if record.round <= round
    )
    blocks = tuple(block for block in turn.blocks if block.round < round)
    return replace(turn, rounds=rounds, blocks=blocks)


def read_results(
    turns: Sequence[StoredTurn],
    question: Question,
    *,
    formatters: Formatters,
    tools: Tools,
    corrections: Mapping[str, str],
) -> dict[str, list[Reading]]:
    """What the model will read of results it has not read yet, by turn id."""
    reads_on = any(spec.name == READ_RESULT for spec in question.tools)
    readings: dict[str, list[Reading]] = {}
    for turn, block in unread(turns):
        correction = corrections.get(block.call_id)
        if correction is not None:
            reading = Reading(call_id=block.call_id, text=correction, formatter=CORRECTION, version=1)
        else:
            reading = _read(block, formatters, tools, reads_on=reads_on)
        readings.setdefault(turn.row.id, []).append(reading)
    return readings


def _read(block: ToolResultBlock, formatters: Formatters, tools: Tools, *, reads_on: bool) -> Reading:
    tool = tools.get(block.tool_name)
    return formatters.read(
        call_id=block.call_id,
        tool_name=block.tool_name,
        outcome=block.outcome or "unknown",
        output=block.output,
        error=None if isinstance(block.error, UnsetType) else block.error,
        max_bytes=MODEL_OUTPUT if tool is None else tool.max_output,
        kept_bytes=None if isinstance(block.bytes, UnsetType) else block.bytes,
        reads_on=reads_on,
    )


def with_readings(turn: StoredTurn, readings: Sequence[Reading]) -> StoredTurn:
    return replace(turn, readings=turn.readings | {reading.call_id: reading for reading in readings})
