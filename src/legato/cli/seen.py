"""What the API's JSON is read into. A value that the API may add to later is plain text here, and what is not shown is
not read: a client of today must not fall over a server of tomorrow.
"""

from __future__ import annotations

import msgspec

from legato.core.blocks import Json


class SeenUsage(msgspec.Struct, kw_only=True):
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    source: str = "unknown"


class SeenError(msgspec.Struct, kw_only=True):
    code: str = ""
    message: str = ""
    provider: str | None = None
    provider_status: int | None = None


class SeenBlock(msgspec.Struct, kw_only=True):
    """Of any type; fields that a type does not have are at their defaults."""

    type: str
    index: int = -1
    round: int = 0
    state: str = "complete"
    text: str = ""
    call_id: str = ""
    tool_name: str = ""
    origin: str = "server"
    input: Json = None
    outcome: str | None = None
    output: Json = None
    error: SeenError | None = None
    ran_input: Json = None
    is_error: bool = False
    redacted: bool = False
    citations: tuple[dict[str, Json], ...] = ()
    name: str | None = None
    media_type: str | None = None
    url: str | None = None
    bytes: int | None = None
    href: str | None = None


class SeenRound(msgspec.Struct, kw_only=True):
    round: int
    attempt: int = 1
    model: str = ""
    commitment: str | None = None
    kept_to: int | None = None
    stop_reason: str | None = None
    usage: SeenUsage = msgspec.field(default_factory=SeenUsage)
    notices: tuple[str, ...] = ()


class SeenWaiting(msgspec.Struct, kw_only=True):
    """``message`` is what a tool asks, ``nr`` which question of its call this is, from the second on."""

    call_id: str
    kind: str
    nr: int | None = None
    message: str | None = None
    input_schema: dict[str, Json] | None = None


class SeenTurn(msgspec.Struct, kw_only=True):
    id: str
    chat_id: str
    prev_turn_id: str | None = None
    siblings: tuple[str, ...] = ()
    role: str
    status: str
    model: str | None = None
    last_seq: int = 0
    blocks: tuple[SeenBlock, ...] = ()
    rounds: tuple[SeenRound, ...] = ()
    waiting_for: tuple[SeenWaiting, ...] = ()
    usage: SeenUsage = msgspec.field(default_factory=SeenUsage)
    stop_reason: str | None = None
    error: SeenError | None = None
    created_at: str = ""
    ended_at: str | None = None

    def text(self) -> str:
        """What it says, without what it thought and called."""
        return "\n\n".join(block.text for block in self.blocks if block.type == "text")


class SeenChat(msgspec.Struct, kw_only=True):
    id: str
    title: str = ""
    model: str | None = None
    head_turn_id: str | None = None
    active_turn_id: str | None = None
    updated_at: str = ""


class SeenTurns(msgspec.Struct, kw_only=True):
    data: tuple[SeenTurn, ...]
    next: str | None = None


class SeenNode(msgspec.Struct, kw_only=True):
    id: str
    prev_turn_id: str | None
    role: str
    status: str
    created_at: str = ""


class SeenTree(msgspec.Struct, kw_only=True):
    data: tuple[SeenNode, ...]


class SeenStart(msgspec.Struct, kw_only=True):
    """The answer to a start."""

    chat: SeenChat
    user_turn: SeenTurn
    assistant_turn: SeenTurn


class SeenTool(msgspec.Struct, kw_only=True):
    name: str
    description: str = ""


class SeenMessage(msgspec.Struct, kw_only=True):
    role: str
    blocks: tuple[SeenBlock, ...] = ()


class SeenReading(msgspec.Struct, kw_only=True):
    call_id: str
    bytes: int
    formatter: str
    version: int


class SeenModelView(msgspec.Struct, kw_only=True):
    model: str
    system: str | None = None
    tools: tuple[SeenTool, ...] = ()
    messages: tuple[SeenMessage, ...] = ()
    results: tuple[SeenReading, ...] = ()


class SeenModel(msgspec.Struct, kw_only=True):
    id: str


class SeenModels(msgspec.Struct, kw_only=True):
    """The default first."""

    data: tuple[SeenModel, ...] = ()
