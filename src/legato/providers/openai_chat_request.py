"""The chat completions wire of OpenAI: the request, written, for whichever vendor the base URL names.

Pure. What a response left in ``provider_data["openai_chat"]`` goes back to the host it came from, and to no other. The
messages of a request begin with those of the request before it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from legato.core.ask import (
    Ask,
    Message,
    NamedTool,
    Params,
    SentFile,
    SentImage,
    SentOpaque,
    SentText,
    SentThinking,
    SentToolResult,
    SentToolUse,
    Thinking,
)
from legato.core.blocks import Block, FileBlock, ImageBlock, Json
from legato.core.errors import InvalidRequest
from legato.ports import Dropped
from legato.providers.catalogue import Model
from legato.providers.openai_chat import WIRE
from legato.providers.openai_chat_vendors import Vendor, vendor_of
from legato.providers.outgoing import (
    CallIds,
    Request,
    base64_of,
    data_of,
    is_text,
    kept,
    name_of,
    noted,
    text_of,
    tools,
    vendors,
)

# OpenAI: an id has at most 40 characters (400 otherwise, seen 2026-11).
_IDS = re.compile(r"[a-zA-Z0-9_-]{1,40}")
# A vendor's own ids may look like anything, and Moonshot wants `functions.name:0` back.
_OWN_IDS = re.compile(r"[\x21-\x7e]{1,128}")
_SHORT_IDS = re.compile(r"[a-zA-Z0-9]{9}")
_STOPS_MAX = 4  # OpenAI's bound
_EFFORT_UP_TO = {"low": 4_096, "medium": 16_384}
_OURS = {"model", "messages", "stream"}


def request(ask: Ask, *, host: str, api_key: str | None) -> Request:
    """``ask`` has been through ``fit``."""
    vendor = vendor_of(host)
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    body: dict[str, Json] = {"model": ask.model, "stream": True}
    if vendor.usage_asked:
        body["stream_options"] = {"include_usage": True}
    named, may_call = tools(ask)
    if named:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.input_schema},
            }
            for tool in named
        ]
        if (choice := _tool_choice(ask.params, may_call=may_call)) is not None:
            body["tool_choice"] = choice
        if ask.params.parallel_tool_calls is not UNSET and may_call:
            body["parallel_tool_calls"] = ask.params.parallel_tool_calls
    body["messages"] = _Messages(ask, host, vendor).whole()
    body.update(_params(ask.params, vendor))
    if ask.params.provider is not UNSET:
        for name, item in ask.params.provider.items():
            if name == "tools" and isinstance(item, list):
                body["tools"] = [*body.get("tools", []), *item]
            elif name not in _OURS:
                body[name] = item
    return Request("/chat/completions", headers, msgspec.json.encode(body))


class _Messages:
    def __init__(self, ask: Ask, host: str, vendor: Vendor) -> None:
        self._ask = ask
        self._host = host
        self._vendor = vendor
        self._ids = CallIds(_SHORT_IDS, shortened=_short) if vendor.short_ids else CallIds(_IDS)
        self._sent: list[dict[str, Json]] = []

    def whole(self) -> list[dict[str, Json]]:
        if self._ask.system and self._ask.system.strip():
            self._sent.append({"role": "system", "content": self._ask.system})
        for message in self._ask.messages:
            if message.role == "user":
                self._user(message)
            else:
                self._assistant(message)
        return self._sent

    def _user(self, message: Message) -> None:
        parts: list[dict[str, Json]] = []
        for block in message.blocks:
            match block:
                case SentToolResult() if (called := self._ids.of_result(block)) is not None:
                    self._sent.append({"role": "tool", "tool_call_id": called, "content": block.text})
                case SentText(text=text) if text.strip():
                    parts.append({"type": "text", "text": text})
                case SentImage() if (part := self._image(block)) is not None:
                    parts.append(part)
                case SentFile() if (part := self._file(block)) is not None:
                    parts.append(part)
                case _:
                    pass
        if parts:
            texts = [part["text"] for part in parts if part["type"] == "text"]
            # Plain text where it will do: not every vendor reads a list of parts.
            content = "\n\n".join(texts) if len(texts) == len(parts) else parts
            self._sent.append({"role": "user", "content": content})

    def _assistant(self, message: Message) -> None:
        text, thought = "", ""
        details: list[Json] = []
        calls: list[dict[str, Json]] = []
        extras: dict[str, Json] = {}
        for block in message.blocks:
            mine = kept(block.provider_data, WIRE) or {}
            at_home = noted(mine, "host") == self._host
            fields = vendors(mine) if at_home else {}
            match block:
                case SentText():
                    text += block.text
                case SentThinking():
                    thought += block.text if at_home else ""
                case SentToolUse() if block.origin != "provider":
                    calls.append(self._call(block, mine, fields))
                    continue
                case SentOpaque():
                    pass
                case _:
                    continue
            details += fields.pop("reasoning_details", [])
            extras.update(fields)
        if not text.strip() and not calls:
            return
        sent: dict[str, Json] = {"role": "assistant", "content": text if text.strip() else None}
        if calls:
            sent["tool_calls"] = calls
        self._sent.append({**sent, **self._back(thought, details, extras)})

    def _back(self, thought: str, details: list[Json], extras: dict[str, Json]) -> dict[str, Json]:
        """What the vendor wants to see again of its own."""
        if self._vendor.strict:
            return {}
        if details:
            return {**extras, "reasoning_details": details}
        if thought and self._vendor.thinking_back is not None:
            return {**extras, self._vendor.thinking_back: thought}
        return extras

    def _call(self, call: SentToolUse, mine: dict[str, Json], fields: dict[str, Json]) -> dict[str, Json]:
        vendors_id = mine.get("id")
        fields.pop("id", None)
        at_home = noted(mine, "host") == self._host
        called = self._ids.of_call(call, vendors_id, own=_OWN_IDS if at_home and not self._vendor.short_ids else None)
        function = {"name": name_of(call), "arguments": msgspec.json.encode(call.input).decode()}
        more = fields.pop("function", None)
        if self._vendor.strict:
            fields = {}
        elif isinstance(more, dict):
            function.update(more)
        return {**fields, "id": called, "type": "function", "function": function}

    def _image(self, block: SentImage) -> dict[str, Json] | None:
        if block.url is not UNSET:
            return {"type": "image_url", "image_url": {"url": block.url}}
        data = data_of(self._ask, block)
        if data is None:
            return None
        media_type = "image/png" if block.media_type is UNSET else block.media_type
        return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{base64_of(data)}"}}

    def _file(self, block: SentFile) -> dict[str, Json] | None:
        name = "file" if block.name is UNSET else block.name
        if block.url is not UNSET:
            return (
                {"type": "file", "file": {"filename": name, "file_data": block.url}} if self._vendor.file_urls else None
            )
        data = data_of(self._ask, block)
        if data is None:
            return None
        if is_text(block.media_type):
            return {"type": "text", "text": f'<file name="{name}">\n{text_of(data)}\n</file>'}
        if not self._vendor.files:
            return None
        file_data = f"data:{block.media_type};base64,{base64_of(data)}"
        return {"type": "file", "file": {"filename": name, "file_data": file_data}}


def _short(call_id: str) -> str:
    """Nine letters and digits, the same for the same call in every request."""
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _tool_choice(params: Params, *, may_call: bool) -> Json:
    choice = params.tool_choice if may_call else "none"
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return None if choice is UNSET else choice


def _params(params: Params, vendor: Vendor) -> dict[str, Json]:
    body: dict[str, Json] = {}
    if params.max_tokens is not UNSET:
        body[vendor.max_tokens] = params.max_tokens
    if params.temperature is not UNSET:
        body["temperature"] = params.temperature
    if params.top_p is not UNSET:
        body["top_p"] = params.top_p
    if params.stop is not UNSET and params.stop:
        body["stop"] = list(params.stop[:_STOPS_MAX])
    if params.thinking is not UNSET:
        body.update(_thinking(params.thinking, vendor))
    return body


def _thinking(thinking: Thinking, vendor: Vendor) -> dict[str, Json]:
    match vendor.effort:
        case "reasoning" if thinking.budget_tokens is not UNSET:
            return {"reasoning": {"max_tokens": thinking.budget_tokens}}
        case "reasoning":
            return {"reasoning": {"effort": _effort(thinking)}}
        case "thinking":
            return {"thinking": {"type": "enabled"}}
        case "reasoning_effort":
            return {"reasoning_effort": _effort(thinking)}


def _effort(thinking: Thinking) -> str:
    if thinking.effort is not UNSET:
        return thinking.effort
    if thinking.budget_tokens is UNSET:
        return "medium"
    return next((effort for effort, most in _EFFORT_UP_TO.items() if thinking.budget_tokens <= most), "high")


# ---- what the model cannot take


def fit(ask: Ask, model: Model | None) -> tuple[Ask, list[Dropped]]:
    """The ask without what the vendor would refuse with 400, and what was left out."""
    dropped: list[Dropped] = []
    params = ask.params
    if model is not None and not model.sampling:
        for name in ("temperature", "top_p"):
            if getattr(params, name) is not UNSET:
                params = msgspec.structs.replace(params, **{name: UNSET})
                dropped.append(_dropped(name, f"{ask.model} takes no sampling parameters"))
    if params.thinking is not UNSET and model is not None:
        if model.thinks == "no":
            params = msgspec.structs.replace(params, thinking=UNSET)
            dropped.append(_dropped("thinking", f"{ask.model} does not think"))
        elif not model.thinks_with_tools and tools(ask)[0]:
            params = msgspec.structs.replace(params, thinking=UNSET)
            dropped.append(_dropped("thinking", f"{ask.model} takes it beside tools on another wire only"))
    if params.stop is not UNSET and len(params.stop) > _STOPS_MAX:
        dropped.append(_dropped("stop", f"{len(params.stop)} given, the first {_STOPS_MAX} are sent"))
    if params.provider is not UNSET:
        dropped += [
            _dropped(f"provider.{name}", "the server sets it") for name in sorted(_OURS & params.provider.keys())
        ]
    return msgspec.structs.replace(ask, params=params), dropped


def _dropped(name: str, why: str) -> Dropped:
    return Dropped("param_dropped", f"{name}: {why}")


def reads(block: SentImage | SentFile, *, host: str) -> bool:
    """Whether this vendor takes it; it may come from a turn that another provider answered."""
    vendor = vendor_of(host)
    if isinstance(block, SentImage):
        return block.url is not UNSET or block.media_type is UNSET or block.media_type.startswith("image/")
    if block.url is not UNSET:
        return vendor.file_urls
    return is_text(block.media_type) or (vendor.files and block.media_type == "application/pdf")


def admit(said: Sequence[Block], *, host: str) -> None:
    """Raise ``InvalidRequest`` for an image or a file of a kind that this vendor never takes."""
    vendor = vendor_of(host)
    for place, block in enumerate(said):
        if isinstance(block, ImageBlock) and block.url is UNSET and not str(block.media_type).startswith("image/"):
            raise InvalidRequest.at(f"/blocks/{place}/media_type", f"expected an image type, got {block.media_type!r}")
        if not isinstance(block, FileBlock):
            continue
        if block.url is not UNSET and not vendor.file_urls:
            raise InvalidRequest.at(
                f"/blocks/{place}/url", "this provider reads no files from URLs", code="url_not_supported"
            )
        is_pdf = vendor.files and block.media_type == "application/pdf"
        if block.url is UNSET and not (is_pdf or is_text(block.media_type)):
            expected = "application/pdf or text" if vendor.files else "text"
            raise InvalidRequest.at(f"/blocks/{place}/media_type", f"expected {expected}, got {block.media_type!r}")
