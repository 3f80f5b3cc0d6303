"""What a turn is made of.

A block is one piece of a turn, at its ``index``. These structs are the closed or open block as readers, rows and
clients see it; their JSON is in docs/http.md. Fields that do not apply are left out (``UNSET``), never null, save
``input``, which is null until it is whole, and ``outcome``, which is null while the result is open.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

# Any is right at this one border: a tool's arguments, its output and what a vendor sent are whatever JSON they are.
Json: TypeAlias = Any
ProviderData: TypeAlias = dict[str, Json]
"""What a provider sent and we have no name for: ``{wire: {…}}``, sent back unchanged to that wire and to no other."""

BlockType: TypeAlias = Literal["text", "thinking", "tool_use", "tool_result", "image", "file", "opaque"]
BlockState: TypeAlias = Literal["open", "complete", "partial"]
Origin: TypeAlias = Literal["server", "client", "provider"]
Outcome: TypeAlias = Literal["ok", "error", "timeout", "cancelled", "denied", "unknown"]


class Citation(msgspec.Struct, frozen=True, kw_only=True):
    """A source of a text block; ``start`` and ``end`` are character offsets into its text, null if not given."""

    url: str | None
    title: str | None
    start: int | None = None
    end: int | None = None


class CallError(msgspec.Struct, frozen=True):
    """Why a call has no good result. ``message`` is what the model reads."""

    code: str
    message: str


class BaseBlock(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """``length`` is the UTF-8 bytes of ``text``, ``sha256`` their hash in hex; set once it is closed."""

    index: int
    round: int
    state: BlockState
    text: str = ""
    length: int | UnsetType = UNSET
    sha256: str | UnsetType = UNSET
    provider_data: ProviderData | UnsetType = UNSET


class TextBlock(BaseBlock, frozen=True, kw_only=True, tag="text"):
    citations: tuple[Citation, ...] | UnsetType = UNSET


class ThinkingBlock(BaseBlock, frozen=True, kw_only=True, tag="thinking"):
    """A signature belongs to the wire that ``provider_data`` names. ``redacted``: the words are only there."""

    signature: str | UnsetType = UNSET
    redacted: bool | UnsetType = UNSET


class ToolUseBlock(BaseBlock, frozen=True, kw_only=True, tag="tool_use"):
    """``text`` is the raw JSON of the arguments; ``input`` the object, null until whole or where it is none."""

    call_id: str
    tool_name: str
    origin: Origin
    input: dict[str, Json] | None = None


class ToolResultBlock(BaseBlock, frozen=True, kw_only=True, tag="tool_result"):
    """``output`` is the raw result; ``text`` what the tool showed to readers while it ran. Where ``href`` is set the
    whole output, of ``bytes``, is there, and ``output`` is its beginning and its end. ``ran_input`` are the arguments
    it ran with, where a person approved others than the model's."""

    call_id: str
    tool_name: str
    origin: Origin
    outcome: Outcome | None = None
    output: Json = None
    error: CallError | UnsetType = UNSET
    ran_input: dict[str, Json] | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    href: str | UnsetType = UNSET


class ImageBlock(BaseBlock, frozen=True, kw_only=True, tag="image"):
    """Either ``url``, or ``bytes``, ``sha256`` and ``href`` of the data, which lies beside the turn. No ``length``."""

    media_type: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    href: str | UnsetType = UNSET


class FileBlock(BaseBlock, frozen=True, kw_only=True, tag="file"):
    """As an image, with a name."""

    name: str | UnsetType = UNSET
    media_type: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    href: str | UnsetType = UNSET


class OpaqueBlock(BaseBlock, frozen=True, kw_only=True, tag="opaque"):
    """A block of a kind only its provider knows: the whole of it is in ``provider_data``."""


Block: TypeAlias = TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock | ImageBlock | FileBlock | OpaqueBlock
