"""History of blocks -> what the model is sent (docs/architecture.md, "What the model is sent").

What is sent only grows: the messages of a request begin with those of the request before it. So everything here is a
function of stored rows and looks only backwards. Committed and adopted rounds count, others never did. Results are
read as their ``Reading`` says, which was stored before they were first sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import UNSET, UnsetType

from legato.core import ask
from legato.core.blocks import (
    Block,
    FileBlock,
    ImageBlock,
    OpaqueBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from legato.core.records import Reading, RoundRecord, StoredTurn

CORRECTION = "correction"
"""Names as its formatter what is read instead of a result that was said before its call proved wrong."""
NO_RESULT = "no result is known for this call"

_COUNT = ("committed", "adopted")
"""What became of a response that is history; others never were."""


def messages(history: Sequence[StoredTurn]) -> tuple[ask.Message, ...]:
    """``history`` is a branch, oldest first; its last turn may still run (its open blocks left out).

    Every ``tool_result`` of ours that ``unread`` names must have its reading by now; one that has none is sent as
    ``NO_RESULT``.
    """
    said = _Messages()
    for place, turn in enumerate(history):
        if turn.row.role == "user":
            following = history[place + 1] if place + 1 < len(history) else None
            said.user(_system_of(following))
            for block in turn.blocks:
                said.add("user", _said_by_user(block))
        else:
            _add_assistant(said, turn)
    return said.whole()


def unread(history: Sequence[StoredTurn]) -> list[tuple[StoredTurn, ToolResultBlock]]:
    """The results that will be sent and have no reading yet, in order."""
    return [
        (turn, block)
        for turn in history
        for block in turn.blocks
        if isinstance(block, ToolResultBlock)
        and block.origin != "provider"
        and block.state != "open"
        and block.call_id not in turn.readings
        and any(record.round == block.round and record.commitment in _COUNT for record in turn.rounds)
    ]


class _Messages:
    """Neighbours of one role are one message."""

    def __init__(self) -> None:
        self._messages: list[tuple[Literal["user", "assistant"], list[ask.SentBlock]]] = []

    def add(self, role: Literal["user", "assistant"], block: ask.SentBlock | None) -> None:
        if block is None:
            return
        if not self._messages or self._messages[-1][0] != role:
            self._messages.append((role, []))
        self._messages[-1][1].append(block)

    def user(self, text: str | None) -> None:
        if text and text.strip():
            self.add("user", ask.SentText(text=text))

    def whole(self) -> tuple[ask.Message, ...]:
        return tuple(ask.Message(role, tuple(blocks)) for role, blocks in self._messages)


def _system_of(turn: StoredTurn | None) -> str | None:
    """A turn's own ``system`` stands in front of the user's text that it answers."""
    return None if turn is None or turn.row.request is None else turn.row.request.system


def _said_by_user(block: Block) -> ask.SentBlock | None:
    match block:
        case TextBlock():
            return ask.SentText(text=block.text) if block.text.strip() else None
        case ImageBlock():
            return ask.SentImage(media_type=block.media_type, url=block.url, sha256=block.sha256)
        case FileBlock():
            return ask.SentFile(name=block.name, media_type=block.media_type, url=block.url, sha256=block.sha256)
        case _:
            return None


def _add_assistant(said: _Messages, turn: StoredTurn) -> None:
    """A paused round and those that go on with it are one reply; what a round is told meanwhile, the next one reads."""
    reply: list[RoundRecord] = []
    told: list[str] = []
    for record in turn.rounds:
        if record.attempt == _first_attempt(turn, record):
            told += (*record.notices, *record.steers)
        if not reply:
            for words in told:
                said.user(words)
            told = []
        if record.commitment not in _COUNT:
            continue
        reply.append(record)
        if record.stop_reason != "pause":
            _add_reply(said, turn, reply, goes_on=False)
            reply = []
    if reply:
        _add_reply(said, turn, reply, goes_on=turn.rounds[-1].commitment is None)


def _first_attempt(turn: StoredTurn, record: RoundRecord) -> int:
    """A round is told what it is told once, however often it is asked."""
    return min(other.attempt for other in turn.rounds if other.round == record.round)


def _add_reply(said: _Messages, turn: StoredTurn, reply: Sequence[RoundRecord], *, goes_on: bool) -> None:
    """The model's blocks, then the results of its calls. ``goes_on``: it paused, and is asked to go on with just this.

    Calls of ours in a paused round wait for the end of the reply: they cannot be answered before, and what has been
    sent stays in front.
    """
    sent: list[ask.SentBlock] = []
    calls: list[ToolUseBlock] = []
    waiting: list[ToolUseBlock] = []
    pairs = _provider_pairs(turn.blocks, reply, goes_on=goes_on)
    for record in reply:
        for block in _kept(turn.blocks, record):
            if not isinstance(block, ToolUseBlock) or block.origin == "provider":
                sent += _said_by_model(block, pairs)
            elif block.state != "complete":
                continue
            elif record.stop_reason == "pause":
                waiting.append(block)
            else:
                calls += [*waiting, block]
                sent += [_call(call) for call in (*waiting, block)]
                waiting = []
    if not goes_on:
        calls += waiting
        sent += [_call(call) for call in waiting]
        while sent and isinstance(sent[-1], ask.SentThinking):
            # Anthropic: 400 if an assistant's message ends in thinking, unless it paused. So a reply that paused there,
            # and said nothing when asked to go on, is shorter than it was sent: `prompt_prefix_changed` says so.
            sent.pop()
    for each in sent:
        said.add("assistant", each)
    results = _results(turn)
    for call in calls:
        said.add("user", _result(call, results.get(call.call_id), turn.readings))


def _kept(blocks: Sequence[Block], record: RoundRecord) -> list[Block]:
    """The model's blocks of a round that count."""
    return [
        block
        for block in blocks
        if block.round == record.round
        and block.state != "open"
        and not (isinstance(block, ToolResultBlock) and block.origin != "provider")
        and (record.kept_to is None or block.index <= record.kept_to)
    ]


def _provider_pairs(blocks: Sequence[Block], reply: Sequence[RoundRecord], *, goes_on: bool) -> set[int]:
    """The indexes of the provider's own calls and results that may be sent: each call with its one result within the
    reply, and those whose result will come when it goes on."""
    calls: dict[str, int] = {}
    pairs: set[int] = set()
    for record in reply:
        for block in _kept(blocks, record):
            if block.state != "complete":
                continue
            if isinstance(block, ToolUseBlock) and block.origin == "provider":
                calls[block.call_id] = block.index
            elif isinstance(block, ToolResultBlock) and block.call_id in calls:
                pairs |= {calls.pop(block.call_id), block.index}
    return pairs | set(calls.values()) if goes_on else pairs


def _said_by_model(block: Block, pairs: set[int]) -> list[ask.SentBlock]:
    """What is sent of a block: itself, or nothing."""
    match block:
        case TextBlock():
            text = block.text.rstrip() if block.state == "partial" else block.text
            return [ask.SentText(text=text, provider_data=block.provider_data)] if text.strip() else []
        case ThinkingBlock():
            return _thinking(block)
        case ToolUseBlock():
            return [_call(block)] if block.index in pairs else []
        case ToolResultBlock():
            return [_provider_result(block)] if block.index in pairs else []
        case ImageBlock():
            return [ask.SentImage(media_type=block.media_type, url=block.url, sha256=block.sha256)]
        case FileBlock():
            return [ask.SentFile(name=block.name, media_type=block.media_type, url=block.url, sha256=block.sha256)]
        case OpaqueBlock():
            return [ask.SentOpaque(provider_data=block.provider_data)]


def _call(block: ToolUseBlock) -> ask.SentToolUse:
    return ask.SentToolUse(
        call_id=block.call_id,
        tool_name=block.tool_name,
        input=block.input or {},
        origin=block.origin,
        provider_data=block.provider_data,
    )


def _thinking(block: ThinkingBlock) -> list[ask.SentBlock]:
    """Only what its provider signed or sealed goes back, whole and as it was (hazard 13)."""
    signed = block.signature is not UNSET or block.redacted is not UNSET or block.provider_data is not UNSET
    if block.state != "complete" or not signed:
        return []
    return [
        ask.SentThinking(
            text=block.text, signature=block.signature, redacted=block.redacted, provider_data=block.provider_data
        )
    ]


def _provider_result(block: ToolResultBlock) -> ask.SentToolResult:
    return ask.SentToolResult(
        call_id=block.call_id,
        tool_name=block.tool_name,
        text="",
        is_error=block.outcome != "ok",
        origin="provider",
        output=block.output,
        provider_data=block.provider_data,
    )


def _results(turn: StoredTurn) -> dict[str, ToolResultBlock]:
    """Of calls that are ours to answer, by call id."""
    return {
        block.call_id: block
        for block in turn.blocks
        if isinstance(block, ToolResultBlock) and block.origin != "provider"
    }


def _result(call: ToolUseBlock, result: ToolResultBlock | None, readings: Mapping[str, Reading]) -> ask.SentToolResult:
    reading = readings.get(call.call_id)
    return ask.SentToolResult(
        call_id=call.call_id,
        tool_name=call.tool_name,
        text=NO_RESULT if reading is None else reading.text,
        is_error=result is None or result.outcome != "ok" or (reading is not None and reading.formatter == CORRECTION),
        origin=call.origin,
    )


def first_difference(earlier: Sequence[ask.Message], later: Sequence[ask.Message]) -> str | None:
    """Where the later request does not begin with the earlier one, counted from 1; None if it only grew (hazard 27)."""
    said = [(message.role, block) for message in later for block in message.blocks]
    place = 0
    for number, message in enumerate(earlier, start=1):
        for index, block in enumerate(message.blocks, start=1):
            if place >= len(said) or said[place] != (message.role, block):
                return f"message {number}, block {index}"
            place += 1
    return None


def data_needed(sent: Sequence[ask.Message]) -> set[str]:
    """The hashes of the images and files that the messages carry."""
    return {
        block.sha256
        for message in sent
        for block in message.blocks
        if isinstance(block, ask.SentImage | ask.SentFile) and not isinstance(block.sha256, UnsetType)
    }
