"""What is kept of chats and turns: the values that go to a store and come back from it.

These are facts as rows, not SQL; a store keeps them however it likes and gives back equal ones. Times are RFC 3339,
UTC, with milliseconds: text that sorts as time does.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.ask import Params
from legato.core.blocks import Block, CallError, Json
from legato.core.events import Commitment, ErrorInfo, NeedKind, StopReason, TurnStatus, TurnStopReason
from legato.core.usage import UNKNOWN, Usage

Role: TypeAlias = Literal["user", "assistant"]
LEASE_SECONDS = 30.0
"""How long a turn is its owner's without a word from it: the longest that a turn waits for the next owner (P8)."""


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """``head_turn_id`` is the leaf to show; ``active_turn_id`` the one turn, on any branch, that has not ended."""

    id: str
    owner: str
    title: str
    system: str | None
    model: str | None
    metadata: dict[str, Json]
    head_turn_id: str | None
    active_turn_id: str | None
    created_at: str
    updated_at: str


class ClientTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    description: str = ""
    input_schema: dict[str, Json] = {}


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A turn's own bounds, never over the server's."""

    rounds: int | UnsetType = UNSET
    seconds: float | UnsetType = UNSET


class TurnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn was asked with, kept beside it. ``tools`` are the names it may call, settled when it was accepted."""

    params: Params = Params()
    system: str | None = None
    tools: tuple[str, ...] = ()
    client_tools: tuple[ClientTool, ...] = ()
    limits: Limits = Limits()


class TurnRow(msgspec.Struct, frozen=True, kw_only=True):
    """One turn without its blocks.

    ``fingerprint`` is the hash of the request that made it, for repeats. ``depth`` counts from 1 at the root. ``owner``
    (a process's own id), ``epoch`` and ``lease_until`` say who may write it; ``last_seq`` is the last stored event's.
    ``wait_until`` is set while ``status`` is ``waiting``.
    """

    id: str
    chat_id: str
    prev_turn_id: str | None
    role: Role
    status: TurnStatus
    created_at: str
    depth: int
    model: str | None = None
    provider: str | None = None
    request: TurnRequest | None = None
    fingerprint: str | None = None
    metadata: dict[str, Json] = {}
    stop_reason: TurnStopReason | None = None
    usage: Usage = UNKNOWN
    error: ErrorInfo | None = None
    ended_at: str | None = None
    cancel_requested: bool = False
    owner: str | None = None
    epoch: int = 0
    lease_until: str | None = None
    wait_until: str | None = None
    last_seq: int = 0


class RoundRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the model. ``commitment`` is null while it runs. ``notices``, and after them ``steers``, what
    people said meanwhile, are told to the model as input of this round. ``started_at`` and ``stopped_at`` are the
    owner's clock."""

    round: int
    attempt: int
    model: str
    provider: str
    commitment: Commitment | None = None
    kept_to: int | None = None
    stop_reason: StopReason | None = None
    provider_reason: str | None = None
    usage: Usage = UNKNOWN
    notices: tuple[str, ...] = ()
    steers: tuple[str, ...] = ()


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a formatter made of a result, kept before the model first reads it and used ever after."""

    call_id: str
    text: str
    formatter: str
    version: int


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A call with effects is about to start. ``input_sha256`` is over the canonical JSON of ``input``; ``owner`` is the
    process that starts it, the last one where it is started again with an answer."""

    call_id: str
    round: int
    index: int
    tool_name: str
    input: dict[str, Json]
    input_sha256: str
    idempotency_key: str
    owner: str | None = None


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A call waits for somebody. ``nr`` counts the needs of one call from 1. ``input_sha256`` is over the canonical
    JSON of the arguments: an approval is bound to them. ``state`` is the tool's own, of kind ``input``;
    ``running``: the tool runs on while it waits, so only the process that it runs in can go on with the answer."""

    call_id: str
    nr: int
    kind: NeedKind
    input_sha256: str
    message: str | None = None
    input_schema: dict[str, Json] | None = None
    state: Json = None
    running: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody said to a need, first come. ``decision`` (with ``input`` or ``reason``) is for kinds ``approval``
    and ``input``; ``output``, or ``error``, is the result of a client's tool. ``nr`` says which need of the call is
    meant, on the way to the store; 0 is its newest."""

    call_id: str
    nr: int = 0
    decision: Literal["approve", "deny"] | UnsetType = UNSET
    input: dict[str, Json] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    output: Json | UnsetType = UNSET
    error: CallError | UnsetType = UNSET


class KeptNeed(msgspec.Struct, frozen=True, kw_only=True):
    """``taken``: the turn has gone on with the answer."""

    need: Need
    answer: Answer | None = None
    taken: bool = False


class KeptSteer(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said into a turn that had not ended. ``posted``: its owner has not said so yet."""

    steer_id: str
    text: str
    state: Literal["posted", "accepted", "delivered", "returned"] = "posted"


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool that raised ``InputNeeded`` is called again with."""

    state: Json
    answer: Answer


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is left but people and clients: the turn waits, without an owner, until somebody answers.
    At ``wait_until`` (RFC 3339) its needs are answered ``timeout``."""

    wait_until: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a turn's time, in ms from its ``created_at`` (docs/http.md). ``end_ms`` is null while open."""

    kind: Literal["round", "block", "tool_held", "tool_wait", "tool_run", "store", "waiting", "owner"]
    name: str
    round: int
    start_ms: float
    end_ms: float | None
    index: int | UnsetType = UNSET
    call_id: str | UnsetType = UNSET


class TurnEnding(msgspec.Struct, frozen=True, kw_only=True):
    """What ``turn_end`` adds to the turn's row."""

    status: TurnStatus
    stop_reason: TurnStopReason
    usage: Usage
    error: ErrorInfo | None
    ended_at: str


class LogSegment(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive events of one turn as they were said: ``lines`` is one JSON object a line, each ended by ``\\n``.
    Across segments of one turn ``first_seq`` rises."""

    first_seq: int
    last_seq: int
    lines: bytes


class TurnWrite(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one turn that one flush stores, all of it or nothing of it. Writing it twice changes nothing.

    ``blocks`` are those closed by this segment. ``rounds`` replace the rows of the same (round, attempt), ``steers``
    those of the same id, ``intents`` those of the same key; ``readings`` never replace a row that is there. ``needs``
    are new; ``taken`` are those, by call id and ``nr``, whose answer the turn has gone on with. ``dropped_blocks`` (by
    index) and ``dropped_rounds`` (round, attempt) are stored already and fell to this segment's ``rewind``: their rows
    go, before ``blocks`` and ``rounds`` are put.
    """

    turn_id: str
    epoch: int
    segment: LogSegment | None = None
    blocks: tuple[Block, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()
    intents: tuple[Intent, ...] = ()
    readings: tuple[Reading, ...] = ()
    needs: tuple[Need, ...] = ()
    taken: tuple[tuple[str, int], ...] = ()
    steers: tuple[KeptSteer, ...] = ()
    dropped_blocks: tuple[int, ...] = ()
    dropped_rounds: tuple[tuple[int, int], ...] = ()
    spans: tuple[Span, ...] = ()
    rest: Rest | None = None
    ending: TurnEnding | None = None


class Datum(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of an image or file block."""

    index: int
    media_type: str
    sha256: str
    data: bytes
    name: str | None = None


class StoredTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as rows: blocks by ``index``, rounds by (round, attempt), readings by call id. Open blocks have no row."""

    row: TurnRow
    blocks: tuple[Block, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()
    readings: dict[str, Reading] = {}


class NewTurns(msgspec.Struct, frozen=True, kw_only=True):
    """What an accepted POST stores, in one transaction: perhaps a chat, perhaps a user turn with its log and data, and
    the assistant's turn. Where the chat is busy, ``on_busy`` says what becomes of them: nothing is stored, they are
    ``queued`` behind those that are, or in front of them while a cancel is requested for the active turn."""

    owner: str
    assistant: TurnRow
    chat: Chat | None = None
    user: TurnRow | None = None
    user_write: TurnWrite | None = None
    user_data: tuple[Datum, ...] = ()
    on_busy: Literal["reject", "behind", "in_front"] = "reject"
    queue_limit: int = 0


class Accepted(msgspec.Struct, frozen=True):
    """The turns are stored; the chat's head and active turn are the assistant's. ``cancelled``: that was before they
    were posted, and its row says so."""

    cancelled: bool = False


class AlreadyMade(msgspec.Struct, frozen=True):
    """A turn of this id is there already; nothing was stored."""

    row: TurnRow
    owner: str


class Busy(msgspec.Struct, frozen=True):
    """The chat's active turn has not ended; nothing was stored."""

    turn_id: str


class Queued(msgspec.Struct, frozen=True):
    """The turns are stored; the assistant's is ``queued`` and becomes the chat's active one when those before it have
    ended. ``turn_id`` is the active one; ``cancelled`` as of ``Accepted``."""

    turn_id: str
    cancelled: bool = False


class QueueFull(msgspec.Struct, frozen=True):
    """So many turns of the chat are queued already; nothing was stored."""

    queued: int
