"""What can happen to a turn, as facts (docs/http.md, the table of events).

``seq`` numbers the events of a turn 1, 2, 3 …; the machine alone gives numbers. ``encode`` makes the bytes that are
said and stored: one JSON object, ``type`` first and ``seq`` second, without a line break in it, so that a line of a
stored log can be told apart and numbered without being parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.blocks import BlockState, BlockType, CallError, Citation, Json, Origin, Outcome, ProviderData
from legato.core.usage import Usage

EPOCH_SIZE = 1_000_000
"""An owner's n-th event has seq ``epoch * EPOCH_SIZE + n`` (docs/http.md)."""

Commitment: TypeAlias = Literal["committed", "adopted", "orphaned"]
StopReason: TypeAlias = Literal["end", "calls", "pause", "length", "refusal", "other"]
"""Why a response ended, in our words; each decoder maps its vendor's."""
TurnStatus: TypeAlias = Literal["queued", "running", "waiting", "recovering", "complete", "cancelled", "error"]
TurnStopReason: TypeAlias = Literal[
    "end",
    "length",
    "refusal",
    "limit_rounds",
    "limit_seconds",
    "limit_events",
    "limit_budget",
    "cancelled",
    "error",
    "other",
]

NeedKind: TypeAlias = Literal["client_tool", "approval", "input"]
"""What a call waits for: a client that runs it, a person's yes, or an answer that its tool asks a person for."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The ``error`` of a turn."""

    code: str
    message: str
    retryable: bool = False
    provider: str | UnsetType = UNSET
    provider_status: int | UnsetType = UNSET


class BaseEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    seq: int


class TurnStart(BaseEvent, frozen=True, kw_only=True, tag="turn_start"):
    turn_id: str
    chat_id: str
    prev_turn_id: str | None
    created_at: str


class RoundStart(BaseEvent, frozen=True, kw_only=True, tag="round_start"):
    round: int
    attempt: int
    model: str
    provider: str


class RoundStop(BaseEvent, frozen=True, kw_only=True, tag="round_stop"):
    """``kept_to`` is the highest index that an adopted response keeps as history."""

    round: int
    attempt: int
    commitment: Commitment
    stop_reason: StopReason
    provider_reason: str | None
    usage: Usage
    kept_to: int | UnsetType = UNSET


class BlockStart(BaseEvent, frozen=True, kw_only=True, tag="block_start"):
    index: int
    round: int
    block_type: BlockType
    call_id: str | UnsetType = UNSET
    tool_name: str | UnsetType = UNSET
    origin: Origin | UnsetType = UNSET


class BlockDelta(BaseEvent, frozen=True, kw_only=True, tag="block_delta", gc=False):
    """``first_seq`` is set on merged deltas only, ``seq`` then is the last one's."""

    index: int
    text: str
    first_seq: int | UnsetType = UNSET


class BlockStop(BaseEvent, frozen=True, kw_only=True, tag="block_stop"):
    """Closes a block and adds what was not streamed. Which fields are set follows the block's type."""

    index: int
    state: BlockState
    length: int | UnsetType = UNSET
    sha256: str | UnsetType = UNSET
    citations: tuple[Citation, ...] | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    redacted: bool | UnsetType = UNSET
    input: dict[str, Json] | None | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET
    output: Json | UnsetType = UNSET
    error: CallError | UnsetType = UNSET
    ran_input: dict[str, Json] | UnsetType = UNSET
    name: str | UnsetType = UNSET
    media_type: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    href: str | UnsetType = UNSET
    provider_data: ProviderData | UnsetType = UNSET


class ToolStart(BaseEvent, frozen=True, kw_only=True, tag="tool_start"):
    """``index`` is the tool_use's. Not said of a call that never runs."""

    call_id: str
    tool_name: str
    index: int


class CallWaiting(BaseEvent, frozen=True, kw_only=True, tag="call_waiting"):
    """``message`` and ``input_schema`` are what a tool asks, of kind ``input`` only. ``nr`` counts what the call has
    asked, from its second question on."""

    call_id: str
    index: int
    kind: NeedKind
    nr: int | UnsetType = UNSET
    message: str | UnsetType = UNSET
    input_schema: dict[str, Json] | UnsetType = UNSET


class CallAnswered(BaseEvent, frozen=True, kw_only=True, tag="call_answered"):
    """``input`` are the arguments a person put in the model's place."""

    call_id: str
    decision: Literal["approve", "deny"] | UnsetType = UNSET
    input: dict[str, Json] | UnsetType = UNSET


class TurnWaiting(BaseEvent, frozen=True, kw_only=True, tag="turn_waiting"):
    pass


class Steer(BaseEvent, frozen=True, kw_only=True, tag="steer"):
    steer_id: str
    text: str
    state: Literal["accepted", "delivered", "returned"]


class Notice(BaseEvent, frozen=True, kw_only=True, tag="notice"):
    """``round`` is set where the model reads the message too, as input of that round (docs/architecture.md)."""

    code: str
    message: str
    round: int | UnsetType = UNSET


class Standing(msgspec.Struct, frozen=True):
    """A block that stands after a rewind, cut to ``length`` UTF-8 bytes."""

    index: int
    state: BlockState
    length: int


class Rewind(BaseEvent, frozen=True, kw_only=True, tag="rewind"):
    to: int
    blocks: tuple[Standing, ...]


class TurnEnd(BaseEvent, frozen=True, kw_only=True, tag="turn_end"):
    status: TurnStatus
    stop_reason: TurnStopReason
    usage: Usage
    error: ErrorInfo | UnsetType = UNSET


Event: TypeAlias = (
    TurnStart
    | RoundStart
    | RoundStop
    | BlockStart
    | BlockDelta
    | BlockStop
    | ToolStart
    | CallWaiting
    | CallAnswered
    | TurnWaiting
    | Steer
    | Notice
    | Rewind
    | TurnEnd
)

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


encode: Callable[[Event], bytes] = msgspec.json.Encoder().encode
"""The bytes of an event, as they are said and stored. The encoder's own method: a layer more is felt at every delta."""


def decode(line: bytes) -> Event:
    """The event of one stored line. Raises ``msgspec.DecodeError`` for what ``encode`` did not make."""
    return _decoder.decode(line)
