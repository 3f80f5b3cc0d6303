"""What clients are shown (docs/http.md). HTTP encodes these as they are, and its OpenAPI is made from them."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.ask import Message, ToolSpec
from legato.core.blocks import Block, Json
from legato.core.events import ErrorInfo, NeedKind, TurnStatus, TurnStopReason
from legato.core.records import RoundRecord, Span, TurnRequest
from legato.core.usage import Usage


class WaitingFor(msgspec.Struct, frozen=True, kw_only=True):
    """``message`` and ``input_schema`` are what a tool asks, of kind ``input`` only. ``nr``: it is the call's second
    question, or a later one."""

    call_id: str
    kind: NeedKind
    nr: int | UnsetType = UNSET
    message: str | UnsetType = UNSET
    input_schema: dict[str, Json] | UnsetType = UNSET


class TurnView(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v1/turns/{id}``: the fold up to ``last_seq``; follow it with ``?after={last_seq}``."""

    id: str
    chat_id: str
    prev_turn_id: str | None
    siblings: tuple[str, ...]
    role: Literal["user", "assistant"]
    status: TurnStatus
    model: str | None
    provider: str | None
    request: TurnRequest | None
    last_seq: int
    blocks: tuple[Block, ...]
    rounds: tuple[RoundRecord, ...]
    waiting_for: tuple[WaitingFor, ...]
    usage: Usage
    stop_reason: TurnStopReason | None
    error: ErrorInfo | None
    metadata: dict[str, Json]
    created_at: str
    ended_at: str | None


class ChatView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    title: str
    system: str | None
    model: str | None
    metadata: dict[str, Json]
    head_turn_id: str | None
    active_turn_id: str | None
    created_at: str
    updated_at: str


class ChatPage(msgspec.Struct, frozen=True, kw_only=True):
    """``next`` is given back as ``before`` for the page that follows; null on the last."""

    data: tuple[ChatView, ...]
    next: str | None


class TurnPage(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest first; ``next`` leads to older ones."""

    data: tuple[TurnView, ...]
    next: str | None


class TreeNode(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    prev_turn_id: str | None
    role: Literal["user", "assistant"]
    status: TurnStatus
    created_at: str


class TreePage(msgspec.Struct, frozen=True, kw_only=True):
    data: tuple[TreeNode, ...]
    next: None = None


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``POST /v1/turns``."""

    chat: ChatView
    user_turn: TurnView
    assistant_turn: TurnView
    events_url: str


class Cancelled(TurnView, frozen=True, kw_only=True):
    """The turn, and whether the cancel is on its row yet: the owner acts at once either way."""

    stored: bool


class CancelKept(msgspec.Struct, frozen=True, kw_only=True):
    """No turn of this id is known yet. If one is posted before ``until`` it is accepted, and ends cancelled."""

    id: str
    stored: bool
    until: str


class SteerView(msgspec.Struct, frozen=True, kw_only=True):
    """``accepted``: it is stored; ``delivered``: a request to the model has it; ``returned``: the turn ended first."""

    steer_id: str
    text: str
    state: Literal["accepted", "delivered", "returned"]


class Steered(TurnView, frozen=True, kw_only=True):
    """The turn, and what became of what was said into it."""

    steer: SteerView


class ReadResult(msgspec.Struct, frozen=True, kw_only=True):
    """A result as the model reads it, by which formatter. ``bytes`` is the UTF-8 length of ``text``."""

    call_id: str
    bytes: int
    text: str
    formatter: str
    version: int


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    system: str | None
    tools: tuple[ToolSpec, ...]
    messages: tuple[Message, ...]
    results: tuple[ReadResult, ...]


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """``overlap_ms`` is the time early start saved."""

    spans: tuple[Span, ...]
    overlap_ms: float


class ToolView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    input_schema: dict[str, Json]
    effect: Literal["read", "idempotent", "write"]
    needs_approval: bool
    timeout: float
    source: str


class ToolPage(msgspec.Struct, frozen=True, kw_only=True):
    data: tuple[ToolView, ...]
    next: None = None


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """USD per million tokens; null where not known."""

    input: float | None
    output: float | None


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model, with what the OpenAI client reads (``object``, ``created``, ``owned_by``), what the Anthropic client
    reads (``type``, ``display_name``, ``created_at``), and ours."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    type: Literal["model"] = "model"
    display_name: str
    created_at: str
    context: int | None
    max_output: int | None
    prices: Prices
    takes: tuple[str, ...]


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: tuple[ModelEntry, ...]
    has_more: bool = False
    first_id: str | None
    last_id: str | None
    next: None = None


class ProblemView(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    message: str


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True):
    """``application/problem+json`` (RFC 9457) and what ours adds to it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    limit: int | UnsetType = UNSET
    actual: int | UnsetType = UNSET
    errors: tuple[ProblemView, ...] | UnsetType = UNSET
    turn_id: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    column: int | UnsetType = UNSET
