"""What the machine is told: by a provider's decoder, by the tools that run, by people, by timers.

A decoder names a block of the response it reads by ``key``, any number it likes as long as each block of one response
has its own. The machine gives the block its index. Per response a decoder says, in the order of the wire:
``BlockOpened``, ``Delta`` …, ``BlockClosed`` for each block (blocks may interleave), ``UsageReported`` whenever the
vendor says figures, and last exactly one of ``ResponseEnded`` and ``ResponseFailed``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.blocks import BlockType, CallError, Citation, Json, Origin, Outcome, ProviderData
from legato.core.events import ErrorInfo, StopReason
from legato.core.records import Answer
from legato.core.usage import Usage


class BlockOpened(msgspec.Struct, frozen=True, kw_only=True):
    """A block of the response begins. For ``tool_use`` and ``tool_result`` ``tool_name`` is whole by now.

    ``provider_call_id`` pairs a provider's own ``tool_result`` with its call (origin ``provider``). A decoder keeps the
    vendor's id of every call in ``provider_data[wire]["id"]`` of the ``BlockClosed``. ``input`` is what came already
    with the start: it counts when no delta follows.
    """

    key: int
    block_type: BlockType
    tool_name: str | UnsetType = UNSET
    origin: Origin = "server"
    provider_call_id: str = ""
    input: dict[str, Json] | UnsetType = UNSET


class Delta(msgspec.Struct, frozen=True, gc=False):
    """Text of an open block; for a ``tool_use``, a piece of its arguments' JSON."""

    key: int
    text: str


class BlockClosed(msgspec.Struct, frozen=True, kw_only=True):
    """The block is whole, and a ``tool_use`` is sealed: its arguments will not change.

    ``output`` and ``error`` are for a provider's own ``tool_result``. ``provider_data`` is added to the block.
    """

    key: int
    citations: tuple[Citation, ...] | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    redacted: bool | UnsetType = UNSET
    output: Json | UnsetType = UNSET
    error: CallError | UnsetType = UNSET
    media_type: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    provider_data: ProviderData | UnsetType = UNSET


class CallPoisoned(msgspec.Struct, frozen=True, kw_only=True):
    """After the seal the wire brought something else for the call's name or arguments; ``message`` says what."""

    key: int
    message: str


class RequestSent(msgspec.Struct, frozen=True):
    """The request that was asked for is on its way, and has so many bytes."""

    bytes: int


class UsageReported(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of this response so far; each report replaces the one before."""

    usage: Usage


class ResponseEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The response ended as the wire says an end: every block that was whole has been closed before."""

    stop_reason: StopReason
    provider_reason: str | None


class ResponseFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The response died: refused, cut, garbled, too slow. Open blocks stay open; the machine decides about them."""

    error: ErrorInfo
    retry_after: float | None = None


class IntentStored(msgspec.Struct, frozen=True, kw_only=True):
    """The intent of a call with effects, and all events before it, are stored: it may start."""

    call_id: str


class ToolEmitted(msgspec.Struct, frozen=True, kw_only=True):
    """Text a running tool shows to readers."""

    call_id: str
    text: str


class ToolFinished(msgspec.Struct, frozen=True, kw_only=True):
    """A running call has ended, in whatever way. ``bytes`` and ``href`` are set where the output was too large for the
    log: the whole is kept beside the turn, and ``output`` is its beginning and its end."""

    call_id: str
    outcome: Outcome
    output: Json = None
    error: CallError | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    href: str | UnsetType = UNSET


class ToolDeferred(msgspec.Struct, frozen=True, kw_only=True):
    """Instead of ``ToolFinished``: it asks to be run once the response has ended (``NotNow``)."""

    call_id: str


class ToolNeedsInput(msgspec.Struct, frozen=True, kw_only=True):
    """Instead of ``ToolFinished``: it has stopped, and goes on when a person has answered (``InputNeeded``)."""

    call_id: str
    message: str
    input_schema: dict[str, Json] | None = None
    state: Json = None


class ToolAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A tool asks a person and waits while it runs (``ctx.ask``); the answer comes back as ``TellTool``."""

    call_id: str
    message: str
    input_schema: dict[str, Json] | None = None


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody answered the need of a call. It is stored. ``nr`` says which need it was given to, where that is known:
    an answer that comes again is not taken for the answer to the call's next question."""

    answer: Answer
    nr: int | None = None


class Steered(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody says something into the turn. One of this ``steer_id`` that is known already is ignored."""

    steer_id: str
    text: str


class WaitOver(msgspec.Struct, frozen=True):
    """Nobody answered within ``wait_timeout``: the calls that wait are answered ``timeout``."""


class EarlyStartOff(msgspec.Struct, frozen=True):
    """The arguments of a call of this tool changed after it was started, here or in another turn: from now on its calls
    start once their response has ended."""

    tool_name: str


CancelMode: TypeAlias = Literal["now", "after_block", "after_round"]
"""Stop at once; once the model's open block is whole, or its next one; or once the round and its calls have ended."""


class CancelRequested(msgspec.Struct, frozen=True, kw_only=True):
    """``drops``: what the model says at this moment is shown and kept, but no history."""

    mode: CancelMode = "now"
    drops: bool = False


class TimeUp(msgspec.Struct, frozen=True, kw_only=True):
    """The turn's own bound of seconds: ``soft`` (the next round is the last) or ``hard`` (it stops here)."""

    kind: Literal["soft", "hard"]


class Interrupted(msgspec.Struct, frozen=True, kw_only=True):
    """The turn cannot go on: the server stops, the store gave up, or we have a bug. It ends in this error."""

    error: ErrorInfo


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """Something degraded and readers must know (P13): said once for each code and message."""

    code: str
    message: str


ProviderInput: TypeAlias = (
    BlockOpened | Delta | BlockClosed | CallPoisoned | UsageReported | ResponseEnded | ResponseFailed
)
"""What a decoder may say."""

ToolEnd: TypeAlias = ToolFinished | ToolDeferred | ToolNeedsInput
"""How a ``StartTool`` comes back: exactly one of these."""

Input: TypeAlias = (
    ProviderInput
    | RequestSent
    | IntentStored
    | ToolEmitted
    | ToolEnd
    | ToolAsked
    | Answered
    | Steered
    | WaitOver
    | EarlyStartOff
    | CancelRequested
    | TimeUp
    | Interrupted
    | Noted
)
