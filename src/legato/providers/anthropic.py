"""The Messages wire of Anthropic: the response, read.

Pure. The hot path is one text delta: one typed struct, about 1 µs with its splitting. Every other frame is read as
plain JSON, because all of a block must come back: what has no name in our blocks is kept in
``provider_data["anthropic"]`` and is sent back unchanged by ``anthropic_request``. Under ``legato`` in it stands what
we note ourselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.blocks import CallError, Citation, Json, ProviderData
from legato.core.events import StopReason
from legato.core.inputs import (
    BlockClosed,
    BlockOpened,
    CallPoisoned,
    Delta,
    ProviderInput,
    ResponseEnded,
    ResponseFailed,
    UsageReported,
)
from legato.core.usage import Usage
from legato.providers import json_text
from legato.providers.failures import failed, refused, status_in
from legato.providers.objects import ObjectScanner
from legato.providers.sse import FrameTooLong, Splitter, data_of

WIRE = "anthropic"

STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "tool_use": "calls",
    "pause_turn": "pause",
    "compaction": "pause",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_ERRORS = {
    "overloaded_error": "provider_overloaded",
    "rate_limit_error": "provider_rate_limited",
    "authentication_error": "provider_auth",
    "permission_error": "provider_auth",
    "invalid_request_error": "provider_rejected",
    "not_found_error": "provider_rejected",
    "request_too_large": "provider_rejected",
    "billing_error": "provider_rejected",
    "timeout_error": "provider_timeout",
    "api_error": "provider_failed",
}


class _Piece(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""


class _Frame(msgspec.Struct, gc=False):
    """What a delta of text, thinking or arguments needs; whatever else a frame has is skipped here."""

    type: str
    index: int = 0
    delta: _Piece | None = None


_frames = msgspec.json.Decoder(_Frame)

_Kind = Literal["text", "thinking", "call", "whole"]


class _Open:
    """A block between its start and its stop. ``raw`` is the block as the vendor sent it, less what our blocks name."""

    __slots__ = ("arguments", "key", "kind", "raw")

    def __init__(self, key: int, kind: _Kind, raw: dict[str, Json]) -> None:
        self.key = key
        self.kind = kind
        self.raw = raw
        self.arguments = ObjectScanner() if kind == "call" else None


class Decoder:
    """One response. Feed it bytes; after ``ResponseEnded`` or ``ResponseFailed`` it says nothing more.

    ``model`` is the name the request had: newer models take back only the thinking they themselves signed. ``price``
    adds the cost to what was reported.
    """

    def __init__(self, *, model: str = "", price: Callable[[Usage], Usage] = lambda usage: usage) -> None:
        self._model = model
        self._price = price
        self._splitter = Splitter()
        self._halves = json_text.Halves()
        self._open: dict[int, _Open] = {}
        self._sealed_calls: dict[int, int] = {}  # the key of each, by the vendor's index
        self._names: dict[str, str] = {}
        self._keys = 0
        self._unsealed: list[_Open] = []
        self._usage: dict[str, Json] = {}
        self._stop: str | None = None
        self._extras: dict[str, Json] = {}
        self._over = False

    def ended(self) -> bool:
        return self._over

    def feed(self, data: bytes) -> list[ProviderInput]:
        if self.ended():
            return []
        out: list[ProviderInput] = []
        try:
            for frame in self._splitter.feed(data):
                self._read(data_of(frame), out)
                if self.ended():
                    break
        except FrameTooLong as error:
            self._end(out, failed("provider_garbled", str(error)))
        return out

    def end(self) -> list[ProviderInput]:
        """The connection has ended. A last frame without its empty line counts if it is whole."""
        if self.ended():
            return []
        out: list[ProviderInput] = []
        rest = data_of(self._splitter.rest())
        if rest.rstrip().endswith(b"}"):
            try:
                json_text.loads(rest)
            except ValueError:
                pass
            else:
                self._read(rest, out)
        if not self.ended():
            said = f"after stop reason {self._stop!r}" if self._stop else "in the middle of the response"
            self._end(out, failed("provider_cut", f"the stream was cut {said}"))
        return out

    def _read(self, data: bytes, out: list[ProviderInput]) -> None:
        try:
            frame = _frames.decode(data)
        except (ValueError, RecursionError):
            frame = None
        if frame is not None and (piece := frame.delta) is not None:
            block = self._open.get(frame.index)
            if block is not None and frame.type == "content_block_delta" and self._append(block, piece, out):
                return
        if not data:
            return
        try:
            value, may_have_halves = json_text.loads(data)
        except ValueError as error:
            self._end(out, failed("provider_garbled", f"a frame is no JSON: {error}"))
            return
        if isinstance(value, dict):
            self._react(value, out, may_have_halves=may_have_halves)

    def _append(self, block: _Open, piece: _Piece, out: list[ProviderInput]) -> bool:
        """Say a delta that our blocks have a name for; False if this is none."""
        kind = piece.type
        if kind == "text_delta" and block.kind == "text":
            text = piece.text
        elif kind == "input_json_delta" and block.arguments is not None:
            text = piece.partial_json
            block.arguments.feed(text)
        elif kind == "thinking_delta" and block.kind == "thinking":
            text = piece.thinking
        else:
            return False
        if self._halves:
            text = self._halves.joined(block.key, text)
        if text:
            out.append(Delta(block.key, text))
        return True

    def _react(self, value: dict[str, Json], out: list[ProviderInput], *, may_have_halves: bool) -> None:
        if value.get("type") == "content_block_delta":
            self._react_to_delta(value, out, may_have_halves=may_have_halves)
            return
        match json_text.scrubbed(value) if may_have_halves else value:
            case {"type": "content_block_start", "index": int(index), "content_block": dict(raw)}:
                self._start(index, raw, out)
            case {"type": "content_block_stop", "index": int(index)}:
                self._stop_block(index, out)
            case {"type": "message_start", "message": dict(message)}:
                self._report(message.get("usage"), out)
            case {"type": "message_delta"}:
                self._report(value.get("usage"), out)
                self._note(value.get("delta"))
                self._seal_or_leave(out)
            case {"type": "message_stop"}:
                self._finish(out)
            case {"type": "error"}:
                self._end(out, failure(None, value))
            case _:  # ping, and kinds that are still to come
                pass

    def _react_to_delta(self, value: dict[str, Json], out: list[ProviderInput], *, may_have_halves: bool) -> None:
        index, delta = value.get("index"), value.get("delta")
        if not isinstance(index, int) or not isinstance(delta, dict):
            return
        block = self._open.get(index)
        if block is None:
            self._poison(index, _text(delta.get("partial_json")), out)
            return
        # Half a character in a text waits for the block's next delta; anywhere else it will never be whole.
        said = _Piece(**{name: _text(delta.get(name)) for name in _Piece.__struct_fields__})
        if may_have_halves:
            self._halves.expect(block.key)
            delta = json_text.scrubbed(delta)
        if not self._append(block, said, out):
            self._keep(block, delta)

    def _poison(self, index: int, text: str, out: list[ProviderInput]) -> None:
        """Arguments that go on after their block has stopped: the vendor does not, who imitates it may."""
        if not text or text.isspace() or index not in self._sealed_calls:
            return
        key = self._sealed_calls.pop(index)
        out.append(CallPoisoned(key=key, message=f"after its end its arguments went on with {text[:80]!r}"))

    def _start(self, index: int, raw: dict[str, Json], out: list[ProviderInput]) -> None:
        self._sealed_calls.pop(index, None)
        self._keys += 1
        key = self._keys
        kind = raw.get("type")
        if kind == "text":
            block = _Open(key, "text", raw)
            out.append(BlockOpened(key=key, block_type="text"))
            self._begin(block, raw.pop("text", None), out)
        elif kind == "thinking":
            block = _Open(key, "thinking", raw)
            out.append(BlockOpened(key=key, block_type="thinking"))
            self._begin(block, raw.pop("thinking", None), out)
        elif kind == "redacted_thinking":
            block = _Open(key, "whole", raw)
            out.append(BlockOpened(key=key, block_type="thinking"))
        elif isinstance(kind, str) and kind.endswith("tool_use"):
            block = _Open(key, "call", raw)
            self._start_call(block, out, origin="server" if kind == "tool_use" else "provider")
        elif isinstance(kind, str) and kind.endswith("_tool_result"):
            block = _Open(key, "whole", raw)
            called = _text(raw.get("tool_use_id"))
            # After a pause the result comes without its call: the vendor's own kind is the best name there is.
            name = self._names.get(called, kind.removesuffix("_tool_result"))
            out.append(
                BlockOpened(
                    key=key, block_type="tool_result", tool_name=name, origin="provider", provider_call_id=called
                )
            )
        else:
            block = _Open(key, "whole", raw)
            out.append(BlockOpened(key=key, block_type="opaque"))
        self._open[index] = block

    def _begin(self, block: _Open, text: Json, out: list[ProviderInput]) -> None:
        """A block may start with text already in it."""
        if isinstance(text, str) and text:
            out.append(Delta(block.key, text))

    def _start_call(self, block: _Open, out: list[ProviderInput], *, origin: Literal["server", "provider"]) -> None:
        name, called = _text(block.raw.get("name")), _text(block.raw.get("id"))
        given = block.raw.pop("input", None)
        self._names[called] = name
        out.append(
            BlockOpened(
                key=block.key,
                block_type="tool_use",
                tool_name=name,
                origin=origin,
                provider_call_id=called,
                input=given if isinstance(given, dict) and given else UNSET,
            )
        )

    def _keep(self, block: _Open, delta: dict[str, Json]) -> None:
        """Fold a delta that our blocks have no name for into the raw block, as the vendor's own client would."""
        if (citation := delta.get("citation")) is not None and delta.get("type") == "citations_delta":
            cited = block.raw.get("citations")
            block.raw["citations"] = [*(cited if isinstance(cited, list) else []), citation]
            return
        for name, item in delta.items():
            if name != "type":
                # The vendor's clients replace a signature and append the rest (anthropic-sdk-python 0.75).
                block.raw[name] = item if name == "signature" else _joined(block.raw.get(name), item)

    def _stop_block(self, index: int, out: list[ProviderInput]) -> None:
        block = self._open.pop(index, None)
        if block is None:
            return
        if rest := self._halves.rest(block.key):
            out.append(Delta(block.key, rest))
        if block.arguments is not None and block.arguments.begun and not block.arguments.complete:
            # Cut at max_tokens, or bad JSON? The stop reason tells: the one is dropped, the other answered.
            self._unsealed.append(block)
            return
        if block.kind == "call":
            self._sealed_calls[index] = block.key
        out.append(_closed(block, self._model))

    def _seal_or_leave(self, out: list[ProviderInput]) -> None:
        if self._stop is None:
            return
        if STOP_REASONS.get(self._stop) in {"end", "calls", "pause"}:
            out.extend(_closed(block, self._model) for block in self._unsealed)
        self._unsealed.clear()

    def _report(self, usage: Json, out: list[ProviderInput]) -> None:
        if isinstance(usage, dict):
            # Cumulative, and the last report leaves out what the first one said.
            self._usage.update({name: figure for name, figure in usage.items() if figure is not None})
            out.append(UsageReported(usage=self._price(_usage(self._usage))))

    def _note(self, delta: Json) -> None:
        if not isinstance(delta, dict):
            return
        if isinstance(reason := delta.get("stop_reason"), str):
            self._stop = reason
        known = {"type", "stop_reason", "stop_sequence"}
        self._extras.update({name: item for name, item in delta.items() if name not in known and item is not None})

    def _finish(self, out: list[ProviderInput]) -> None:
        if self._extras:
            self._keys += 1
            out.append(BlockOpened(key=self._keys, block_type="opaque"))
            out.append(BlockClosed(key=self._keys, provider_data={WIRE: {"legato": {"response": self._extras}}}))
        reason = STOP_REASONS.get(self._stop or "", "other")
        self._end(out, ResponseEnded(stop_reason=reason, provider_reason=self._stop))

    def _end(self, out: list[ProviderInput], last: ResponseEnded | ResponseFailed) -> None:
        out.append(last)
        self._over = True


def _closed(block: _Open, model: str) -> BlockClosed:
    raw = block.raw
    match raw.get("type"):
        case "text":
            cited = raw.get("citations")
            extras = {name: item for name, item in raw.items() if name != "type" and item not in (None, [])}
            return BlockClosed(
                key=block.key,
                citations=tuple(_citation(one) for one in cited) if isinstance(cited, list) and cited else UNSET,
                provider_data=_data(extras),
            )
        case "thinking":
            signature = raw.get("signature")
            if not isinstance(signature, str) or not signature:
                return BlockClosed(key=block.key)
            return BlockClosed(key=block.key, signature=signature, provider_data=_signed(raw, model))
        case "redacted_thinking":
            return BlockClosed(key=block.key, redacted=True, provider_data=_signed(raw, model))
        case str(kind) if kind.endswith("_tool_result"):
            output = raw.pop("content", None)
            return BlockClosed(key=block.key, output=output, error=_error_of(raw, output), provider_data=_data(raw))
        case _:
            return BlockClosed(key=block.key, provider_data=_data(raw))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _joined(before: Json, item: Json) -> Json:
    if isinstance(before, str) and isinstance(item, str):
        return before + item
    if isinstance(before, list) and isinstance(item, list):
        return [*before, *item]
    return item


def _data(kept: dict[str, Json]) -> ProviderData | UnsetType:
    return {WIRE: kept} if kept else UNSET


def _signed(raw: dict[str, Json], model: str) -> ProviderData:
    return {WIRE: {**raw, "legato": {"model": model}} if model else raw}


def _citation(raw: Json) -> Citation:
    """Where a source is. Their offsets are into the source, ours into the text, so none is given."""
    said = raw if isinstance(raw, dict) else {}
    url, title = said.get("url") or said.get("source"), said.get("title") or said.get("document_title")
    return Citation(url=str(url) if url else None, title=str(title) if title else None)


def _error_of(raw: dict[str, Json], output: Json) -> CallError | UnsetType:
    """Of a server tool: its content is an object of a kind that ends in ``_error``; MCP says ``is_error``."""
    if isinstance(output, dict) and str(output.get("type", "")).endswith("_error"):
        code = str(output.get("error_code") or "provider_tool_error")
        return CallError(code, str(output.get("error_message") or code))
    if raw.get("is_error") is True:
        return CallError("provider_tool_error", "the provider's tool answered with an error")
    return UNSET


def _usage(raw: dict[str, Json]) -> Usage:
    fresh = _figure(raw, "input_tokens")
    read, written = _figure(raw, "cache_read_input_tokens"), _figure(raw, "cache_creation_input_tokens")
    details = raw.get("output_tokens_details")
    return Usage(
        input_tokens=None if fresh is None else fresh + (read or 0) + (written or 0),
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=_figure(raw, "output_tokens"),
        reasoning_tokens=_figure(details, "thinking_tokens") if isinstance(details, dict) else None,
        source="reported",
    )


def _figure(raw: dict[str, Json], name: str) -> int | None:
    figure = raw.get(name)
    return figure if isinstance(figure, int) and not isinstance(figure, bool) else None


def failure(status: int | None, body: Json) -> ResponseFailed:
    """What a body means that is an error: of an HTTP answer with ``status``, or of an event inside a stream."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return refused(str(error or body), status=status)
    code = _ERRORS.get(str(error.get("type")))
    return refused(str(error.get("message") or error), code=code, status=status or status_in(error.get("code")))
