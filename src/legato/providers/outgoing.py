"""What every wire's request is made of: ids that are each taken once, tools, and the bytes of images and files."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.ask import Ask, SentFile, SentImage, SentToolResult, SentToolUse, ToolSpec
from legato.core.blocks import Json, ProviderData

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_CHARACTERS = 64
_TEXT_KINDS = {"application/json", "application/xml", "application/yaml", "application/x-yaml", "application/toml"}


class Request(msgspec.Struct, frozen=True):
    """One HTTP POST. ``path`` is put behind the base URL; ``headers`` hold the key, so they are never shown."""

    path: str
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Request({self.path!r}, {len(self.body)} bytes)"


def kept(provider_data: ProviderData | UnsetType, wire: str) -> dict[str, Json] | None:
    """What this wire keeps of a block, None if the block is not its own."""
    if provider_data is UNSET:
        return None
    mine = provider_data.get(wire)
    return mine if isinstance(mine, dict) else None


def vendors(mine: Mapping[str, Json]) -> dict[str, Json]:
    """Of what is kept, that which the vendor sent."""
    return {name: item for name, item in mine.items() if name != "legato"}


def noted(mine: Mapping[str, Json], name: str) -> Json:
    """Of what is kept, our own note of that name, or None."""
    notes = mine.get("legato")
    return notes.get(name) if isinstance(notes, dict) else None


class CallIds:
    """The ids of one request's calls: the vendor's own where it is usable and not taken yet, else ours.

    ``shortened``, where the vendor's ids have a fixed form, makes one of it from ours.
    """

    def __init__(self, usable: re.Pattern[str], *, shortened: Callable[[str], str] | None = None) -> None:
        self._usable = usable
        self._shortened = shortened
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def of_call(self, call: SentToolUse, vendors_id: Json, *, own: re.Pattern[str] | None = None) -> str:
        """``own`` is what the vendor's ids may look like where they go back to the vendor itself."""
        chosen = call.call_id if self._shortened is None else self._shortened(call.call_id)
        usable = own or self._usable
        if isinstance(vendors_id, str) and usable.fullmatch(vendors_id) and vendors_id not in self._taken:
            chosen = vendors_id
        self._taken.add(chosen)
        self._given[call.call_id] = chosen
        return chosen

    def of_result(self, result: SentToolResult) -> str | None:
        """The id its call was sent with; None if the call was not sent before it."""
        return self._given.get(result.call_id)


def name_of(call: SentToolUse) -> str:
    """The name of a call as every vendor takes it back: models make up names with dots, spaces, or nothing in them,
    and a history with one is refused for ever (Anthropic and OpenAI: 400, seen 2026-11)."""
    return _NOT_IN_NAMES.sub("_", call.tool_name)[:_NAME_CHARACTERS] or "unnamed"


def tools(ask: Ask) -> tuple[Sequence[ToolSpec], bool]:
    """The tools to name, and whether they may be called.

    While the history has calls, their tools stay named (some answer 400 without any), though none may be called.
    """
    if ask.tools:
        return ask.tools, True
    names = dict.fromkeys(
        name_of(block)
        for message in ask.messages
        for block in message.blocks
        if isinstance(block, SentToolUse) and block.origin != "provider"
    )
    return [ToolSpec(name, "No longer available.", {"type": "object", "properties": {}}) for name in names], False


def data_of(ask: Ask, block: SentImage | SentFile) -> bytes | None:
    return None if block.sha256 is UNSET else ask.data.get(block.sha256)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def is_text(media_type: str | UnsetType) -> bool:
    """Whether a file of this type can be read to the model as it is."""
    return media_type is not UNSET and (media_type.startswith("text/") or media_type in _TEXT_KINDS)


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\x00", "\ufffd")
