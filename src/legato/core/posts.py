"""What clients may post (docs/http.md). Unknown fields are refused; bounds that a type can say are said here."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from legato.core.ask import Params
from legato.core.blocks import Json
from legato.core.inputs import CancelMode
from legato.core.records import ClientTool, Limits

# "(?!\n)$": in Python "$" alone also stands before a last line break; in JSON Schema's dialect the two say the same.
Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+(?!\n)$")]
Url: TypeAlias = Annotated[str, Meta(max_length=2048, pattern="^https://")]
"""The server never fetches it; it is handed to a provider that takes URLs."""
ModelName: TypeAlias = Annotated[str, Meta(max_length=256)]
ChatSystem: TypeAlias = Annotated[str, Meta(max_length=262_144)]
"""A list of chats has it of each, so a chat's has a bound beside the body's; a turn's own goes with that turn."""
MediaType: TypeAlias = Annotated[
    str, Meta(max_length=127, pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?!\n)$")
]


class PostedText(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str


class PostedImage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="image", forbid_unknown_fields=True):
    """``data`` (base64) or ``url``, not both."""

    media_type: MediaType | UnsetType = UNSET
    data: str | UnsetType = UNSET
    url: Url | UnsetType = UNSET


class PostedFile(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="file", forbid_unknown_fields=True):
    """``data`` (base64) or ``url``, not both."""

    name: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    media_type: MediaType | UnsetType = UNSET
    data: str | UnsetType = UNSET
    url: Url | UnsetType = UNSET


PostedBlock: TypeAlias = PostedText | PostedImage | PostedFile


OnBusy: TypeAlias = Literal["reject", "queue", "steer", "interrupt", "replace"]
"""Where the chat has a turn that has not ended: refuse; wait for it; say it into that turn; stop that turn and keep
what it said; or stop it and take its place."""


class PostTurn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/turns``. ``prev_turn_id`` left out means the chat's head; null with a ``chat_id`` means a new root."""

    blocks: tuple[PostedBlock, ...] | UnsetType = UNSET
    input: str | UnsetType = UNSET
    turn_id: Id | UnsetType = UNSET
    user_turn_id: Id | UnsetType = UNSET
    chat_id: Id | UnsetType = UNSET
    prev_turn_id: Id | None | UnsetType = UNSET
    model: Annotated[str, Meta(min_length=1, max_length=256)] | UnsetType = UNSET
    system: str | None | UnsetType = UNSET
    params: Params = Params()
    tools: tuple[str, ...] | UnsetType = UNSET
    client_tools: tuple[ClientTool, ...] = ()
    limits: Limits = Limits()
    on_busy: OnBusy = "reject"
    metadata: dict[str, Json] = {}


class PostCancel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mode: CancelMode = "now"


class PostSteer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/turns/{id}/steer``. The same ``steer_id`` with the same text is the same steer."""

    text: str
    steer_id: Id | UnsetType = UNSET


class PostedResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client's tool gave: ``output``, or ``error`` in words for the model."""

    call_id: Id
    output: Json | UnsetType = UNSET
    error: Annotated[str, Meta(min_length=1, max_length=8192)] | UnsetType = UNSET


class PostToolResults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/turns/{id}/tool_results``: all of them are kept, or none."""

    results: Annotated[tuple[PostedResult, ...], Meta(min_length=1, max_length=128)]


class PostApproval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/turns/{id}/approvals``. ``input``: of a call that needs a yes, the arguments to run it with instead of
    the model's; of a tool that asks something, the answer. ``reason`` is told to the model at a ``deny``. ``nr`` says
    which question of the call is answered: without it the newest, or an older one that had this very answer."""

    call_id: Id
    nr: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    decision: Literal["approve", "deny"]
    input: dict[str, Json] | UnsetType = UNSET
    reason: Annotated[str, Meta(max_length=2000)] | UnsetType = UNSET


class PostChat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Id | UnsetType = UNSET
    title: Annotated[str, Meta(max_length=1000)] = ""
    system: ChatSystem | None = None
    model: ModelName | None = None
    metadata: dict[str, Json] = {}


class PatchChat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields left out stay as they are."""

    title: Annotated[str, Meta(max_length=1000)] | UnsetType = UNSET
    system: ChatSystem | None | UnsetType = UNSET
    model: ModelName | None | UnsetType = UNSET
    metadata: dict[str, Json] | UnsetType = UNSET
    head_turn_id: Id | UnsetType = UNSET
