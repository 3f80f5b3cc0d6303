"""What the model is sent, in our words. A provider's ``request`` turns an ``Ask`` into its wire.

``model_view`` (docs/http.md) shows these same structs, so what a person reads there is what the wire was made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.blocks import Block, Json, Origin, ProviderData


class BaseSent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """``provider_data`` is keyed by wire: a wire reads its own entry and no other."""

    provider_data: ProviderData | UnsetType = UNSET


class SentText(BaseSent, frozen=True, kw_only=True, tag="text"):
    text: str


class SentThinking(BaseSent, frozen=True, kw_only=True, tag="thinking"):
    text: str
    signature: str | UnsetType = UNSET
    redacted: bool | UnsetType = UNSET


class SentToolUse(BaseSent, frozen=True, kw_only=True, tag="tool_use"):
    """``call_id`` is unique over all turns. A wire gives its vendor back the vendor's own id,
    ``provider_data[wire]["id"]``, where that is usable and not yet taken by another call of the request, else
    ``call_id``."""

    call_id: str
    tool_name: str
    input: dict[str, Json]
    origin: Origin


class SentToolResult(BaseSent, frozen=True, kw_only=True, tag="tool_result"):
    """``text`` is what the formatter made of the result. Of a provider's own result ``output`` is sent instead."""

    call_id: str
    tool_name: str
    text: str
    is_error: bool
    origin: Origin
    output: Json | UnsetType = UNSET


class SentImage(BaseSent, frozen=True, kw_only=True, tag="image"):
    """Either ``url`` or ``sha256``, the key of its bytes in ``Ask.data``."""

    media_type: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    sha256: str | UnsetType = UNSET


class SentFile(BaseSent, frozen=True, kw_only=True, tag="file"):
    name: str | UnsetType = UNSET
    media_type: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    sha256: str | UnsetType = UNSET


class SentOpaque(BaseSent, frozen=True, kw_only=True, tag="opaque"):
    """Only the wire it came from sends it."""


SentBlock: TypeAlias = SentText | SentThinking | SentToolUse | SentToolResult | SentImage | SentFile | SentOpaque


class Message(msgspec.Struct, frozen=True):
    """Roles alternate, and no message is empty. In a user message results of calls come first, in call order."""

    role: Literal["user", "assistant"]
    blocks: tuple[SentBlock, ...]


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as the model sees it. ``input_schema`` is JSON Schema of an object."""

    name: str
    description: str
    input_schema: dict[str, Json]


class Thinking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either ``effort`` or ``budget_tokens``."""

    effort: Literal["low", "medium", "high"] | UnsetType = UNSET
    budget_tokens: int | UnsetType = UNSET


class NamedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


ToolChoice: TypeAlias = Literal["auto", "none", "required"] | NamedTool


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """docs/http.md, ``params``. ``provider`` is merged into the request's body as it is."""

    max_tokens: int | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    stop: tuple[str, ...] | UnsetType = UNSET
    thinking: Thinking | UnsetType = UNSET
    tool_choice: ToolChoice | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    provider: dict[str, Json] | UnsetType = UNSET


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request to a model.

    ``model`` is the provider's own name for it. ``params.tool_choice`` already is this round's. ``data`` holds the
    bytes of images and files by their sha256. ``said`` is the new user turn as it was posted, ``round`` counts from 1:
    the script provider plays by them; the wires do not look at them.
    """

    model: str
    system: str | None
    tools: tuple[ToolSpec, ...]
    messages: tuple[Message, ...]
    params: Params
    round: int
    said: tuple[Block, ...] = ()
    data: Mapping[str, bytes] = {}
