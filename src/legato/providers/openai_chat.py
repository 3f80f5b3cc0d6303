"""The chat completions wire of OpenAI, as its many vendors speak it: the response, read.

Pure. The hot path is one delta of text, thinking or arguments: one typed struct that refuses fields it does not know.
A chunk it refuses is read as plain JSON, so that what has no name in our blocks is kept in
``provider_data["openai_chat"]``, with the host it came from under ``legato``: vendors refuse each other's fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Literal

import msgspec
from msgspec import UNSET

from legato.core.blocks import Citation, Json, ProviderData
from legato.core.events import StopReason
from legato.core.inputs import (
    BlockClosed,
    BlockOpened,
    Delta,
    ProviderInput,
    ResponseEnded,
    ResponseFailed,
    UsageReported,
)
from legato.core.usage import Usage
from legato.providers import json_text
from legato.providers.failures import failed, refused, status_in
from legato.providers.openai_chat_calls import Calls, Piece
from legato.providers.openai_chat_vendors import Seal, vendor_of
from legato.providers.sse import FrameTooLong, Splitter, data_of, event_of
from legato.providers.think_tag import ThinkTag

WIRE = "openai_chat"

STOP_REASONS: dict[str, StopReason] = {
    "stop": "end",
    "eos": "end",
    "end_turn": "end",
    "stop_sequence": "end",
    "tool_calls": "calls",
    "function_call": "calls",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Mistral
    "content_filter": "refusal",
    "sensitive": "refusal",  # Z.ai
    "refusal": "refusal",
}
# Finish reasons that say the vendor failed, and what each means.
_FAILED_REASONS = {
    "error": "provider_failed",
    "network_error": "provider_failed",  # Z.ai
    "insufficient_system_resource": "provider_overloaded",  # DeepSeek
}
_ERRORS = {
    "context_length_exceeded": "context_overflow",
    "model_context_window_exceeded": "context_overflow",
    "invalid_api_key": "provider_auth",
    "authentication_error": "provider_auth",
    "permission_error": "provider_auth",
    "rate_limit_exceeded": "provider_rate_limited",
    "rate_limit_error": "provider_rate_limited",
    "insufficient_quota": "provider_rate_limited",
    "server_error": "provider_failed",
    "internal_server_error": "provider_failed",
    "tool_use_failed": "provider_failed",  # Groq: the model's own call did not validate; it may do better next time
    "service_unavailable": "provider_overloaded",
    "service_unavailable_error": "provider_overloaded",
    "engine_overloaded_error": "provider_overloaded",
    "overloaded": "provider_overloaded",
}
# Fields of a delta that say nothing: who speaks, and how the vendor's machine wrote it down.
_NOISE = {"role", "channel", "token_id", "token_ids", "logprobs", "stop_reason"}
_KNOWN = {"content", "refusal", "reasoning", "reasoning_content", "reasoning_details", "tool_calls", "function_call"}
# Of a chunk itself only these are more than its label: what a search found (Perplexity).
_KEPT_OF_CHUNK = ("citations", "search_results")


class _Function(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    channel: str | None = None
    token_id: int | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False, rename={"groq": "x_groq"}):
    """``None`` for the rare fields means that the chunk must be read as a whole."""

    choices: list[_Choice]
    usage: None = None
    error: None = None
    groq: None = None
    citations: None = None
    search_results: None = None


_chunks = msgspec.json.Decoder(_Chunk)


class _Said:
    """One delta in our words, whatever form it came in."""

    __slots__ = ("extras", "pieces", "reasoning", "refusal", "text")

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.refusal = ""
        self.pieces: Sequence[Piece] = ()
        self.extras: dict[str, Json] = {}


_CONTENT, _THINKING, _ARGUMENTS = -1, -2, 0


class Decoder:
    """One response. Feed it bytes; after ``ResponseEnded`` or ``ResponseFailed`` it says nothing more.

    ``host`` is the vendor's. ``price`` adds the cost where the vendor did not report it.
    """

    def __init__(
        self, *, seal: Seal = "finish", host: str = "", price: Callable[[Usage], Usage] = lambda usage: usage
    ) -> None:
        self._host = host
        self._price = price
        self._vendor = vendor_of(host)
        self._splitter = Splitter()
        self._halves = json_text.Halves()
        self._next_key = count(1).__next__
        self._calls = Calls(seal, self._next_key, self._kept)
        self._tag = ThinkTag(sought=self._vendor.thinks_in_text)
        self._speaking: Literal["text", "thinking"] | None = None
        self._key = 0
        self._extras: dict[str, Json] = {}
        self._details: list[Json] = []
        self._thought_in_field = False
        self._refused = False
        self._broken = False
        self._finish: str | None = None
        self._over = False

    def ended(self) -> bool:
        return self._over

    def feed(self, data: bytes) -> list[ProviderInput]:
        if self.ended():
            return []
        out: list[ProviderInput] = []
        try:
            for frame in self._splitter.feed(data):
                self._read(frame, out)
                if self.ended():
                    break
        except FrameTooLong as error:
            self._end(out, failed("provider_garbled", str(error)))
        return out

    def end(self) -> list[ProviderInput]:
        """The connection has ended: well if a finish reason came, for ``[DONE]`` is left out by some."""
        if self.ended():
            return []
        out: list[ProviderInput] = []
        rest = self._splitter.rest()
        data = data_of(rest).strip()
        if data == b"[DONE]" or (data.endswith(b"}") and _is_json(data)):
            self._read(rest, out)
        if not self.ended():
            self._done(out)
        return out

    # ---- reading

    def _read(self, frame: bytes, out: list[ProviderInput]) -> None:
        data = data_of(frame)
        if not data:
            return
        try:
            chunk = _chunks.decode(data)
        except (ValueError, RecursionError):
            self._read_whole(frame, data, out)
            return
        for choice in chunk.choices:
            if not choice.index:
                if choice.delta is not None:
                    self._hear(choice.delta, out)
                if choice.finish_reason:
                    self._finished(choice.finish_reason, out)

    def _hear(self, delta: _Delta, out: list[ProviderInput]) -> None:
        """The hot path: a delta without a field that is unknown."""
        if (thought := delta.reasoning_content or delta.reasoning) is not None and thought:
            self._think(thought, out)
        if delta.content:
            self._speak(delta.content, out)
        if delta.refusal:
            self._refuse(delta.refusal, out)
        if delta.tool_calls:
            for call in delta.tool_calls:
                function = call.function
                piece = Piece(index=call.index, id=call.id)
                if function is not None:
                    piece.name = function.name
                    piece.arguments = function.arguments or ""
                self._call(piece, out)

    def _read_whole(self, frame: bytes, data: bytes, out: list[ProviderInput]) -> None:
        if data.strip() == b"[DONE]":
            self._done(out)
            return
        try:
            value, may_have_halves = json_text.loads(data)
        except ValueError as error:
            self._end(out, failed("provider_garbled", f"a frame is no JSON: {error}"))
            return
        if not isinstance(value, dict):
            return
        self._report(value, out)
        self._broken = bool(value.get("error")) or event_of(frame) == b"error" or value.get("object") == "error"
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                self._choose(choice, out, may_have_halves=may_have_halves)
        for name in _KEPT_OF_CHUNK:
            if value.get(name):
                self._extras[name] = json_text.scrubbed(value[name]) if may_have_halves else value[name]
        if self._broken:
            self._end(out, failure(None, json_text.scrubbed(value)))

    def _choose(self, choice: dict[str, Json], out: list[ProviderInput], *, may_have_halves: bool) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            if may_have_halves:
                self._halves.expect(_CONTENT)
                self._halves.expect(_THINKING)
            self._listen(_said(delta), out, may_have_halves=may_have_halves)
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            self._finished(reason, out)

    def _listen(self, said: _Said, out: list[ProviderInput], *, may_have_halves: bool) -> None:
        details = said.extras.pop("reasoning_details", None)
        if may_have_halves:
            details, said.extras = json_text.scrubbed(details), json_text.scrubbed(said.extras)
        if isinstance(details, list) and details:
            self._detail(details, out)
            said.reasoning = said.reasoning or _words(details)
        if said.reasoning:
            self._think(said.reasoning, out)
        if said.text:
            self._speak(said.text, out)
        if said.refusal:
            self._refuse(json_text.joined(said.refusal), out)
        for piece in said.pieces:
            if may_have_halves:
                self._halves.expect(_ARGUMENTS + (piece.index or 0))
                piece.name = piece.name and json_text.joined(piece.name)
                piece.id = piece.id and json_text.joined(piece.id)
                piece.extras = json_text.scrubbed(piece.extras)
            self._call(piece, out)
        for name, item in said.extras.items():
            self._extras[name] = merged(self._extras.get(name), item)

    # ---- saying

    def _speak(self, text: str, out: list[ProviderInput]) -> None:
        if self._halves:
            text = self._halves.joined(_CONTENT, text)
        for kind, words in self._tag.feed(text):
            self._say(kind, words, out)

    def _think(self, text: str, out: list[ProviderInput]) -> None:
        if not self._thought_in_field:
            self._thought_in_field = True
            for kind, words in self._tag.leave():
                self._say(kind, words, out)
        if self._halves:
            text = self._halves.joined(_THINKING, text)
        self._say("thinking", text, out)

    def _refuse(self, text: str, out: list[ProviderInput]) -> None:
        self._refused = True
        self._say("text", text, out)

    def _detail(self, details: list[Json], out: list[ProviderInput]) -> None:
        """Signed thinking: it must go back as it came, in its place. Behind text it stays with the text."""
        if self._speaking is None:
            self._open("thinking", out)
        held = self._details if self._speaking == "thinking" else self._extras.setdefault("reasoning_details", [])
        for detail in details:
            _add_detail(held, detail)

    def _call(self, piece: Piece, out: list[ProviderInput]) -> None:
        if self._halves and piece.arguments:
            piece.arguments = self._halves.joined(_ARGUMENTS + (piece.index or 0), piece.arguments)
        self._hush(out)
        self._calls.feed(piece, out)

    def _say(self, kind: Literal["text", "thinking"], text: str, out: list[ProviderInput]) -> None:
        if not text:
            return
        if self._speaking != kind:
            self._close(out)
            self._open(kind, out)
        out.append(Delta(self._key, text))

    def _open(self, kind: Literal["text", "thinking"], out: list[ProviderInput]) -> None:
        self._speaking = kind
        self._key = self._next_key()
        out.append(BlockOpened(key=self._key, block_type=kind))

    def _hush(self, out: list[ProviderInput]) -> None:
        """Text and thinking make room for calls, or for the end."""
        for channel in (_CONTENT, _THINKING):
            if rest := self._halves.rest(channel):
                self._say("text" if channel == _CONTENT else "thinking", rest, out)
        for kind, words in self._tag.rest():
            self._say(kind, words, out)
        self._close(out)

    def _close(self, out: list[ProviderInput]) -> None:
        if self._speaking == "thinking":
            kept: dict[str, Json] = {"reasoning_details": self._details} if self._details else {}
            # Thinking that no vendor wants back says so by having nothing kept: then it is not sent.
            wanted = bool(kept) or (self._thought_in_field and self._vendor.thinking_back is not None)
            out.append(BlockClosed(key=self._key, provider_data=self._kept(kept) if wanted else UNSET))
            self._details = []
        elif self._speaking == "text":
            cited = _citations(self._extras)
            kept_too, self._extras = self._extras, {}
            out.append(
                BlockClosed(
                    key=self._key,
                    citations=cited or UNSET,
                    provider_data=self._kept(kept_too) if kept_too else UNSET,
                )
            )
        self._speaking = None

    def _kept(self, kept: dict[str, Json]) -> ProviderData:
        return {WIRE: {**kept, "legato": {"host": self._host}}}

    # ---- ending

    def _finished(self, reason: str, out: list[ProviderInput]) -> None:
        """A finish reason came. Text may still follow it at some vendors, so the response ends at its end only."""
        self._finish = self._finish or reason
        if self._broken:
            return
        if code := _FAILED_REASONS.get(reason):
            self._end(out, failed(code, f"the provider stopped with finish reason {reason!r}"))
            return
        self._seal(out)

    def _seal(self, out: list[ProviderInput]) -> None:
        match self._reason():
            case "end" | "calls" | "pause":
                self._calls.finish("well", out)
            case "length" | "other":
                self._calls.finish("cut", out)
            case "refusal":
                self._calls.finish("refused", out)

    def _reason(self) -> StopReason:
        reason = STOP_REASONS.get(self._finish or "", "other")
        return "refusal" if reason == "end" and self._refused else reason

    def _done(self, out: list[ProviderInput]) -> None:
        if self._finish is None:
            self._end(out, failed("provider_cut", "the stream ended without a finish reason"))
            return
        self._hush(out)
        self._seal(out)
        if self._extras:
            key = self._next_key()
            out.append(BlockOpened(key=key, block_type="opaque"))
            out.append(BlockClosed(key=key, provider_data=self._kept(self._extras)))
        reason = self._reason()
        if reason == "end" and self._calls.sealed:
            reason = "calls"  # Gemini's and others' compatible endpoints say `stop` for calls too
        self._end(out, ResponseEnded(stop_reason=reason, provider_reason=self._finish))

    def _end(self, out: list[ProviderInput], last: ResponseEnded | ResponseFailed) -> None:
        out.append(last)
        self._over = True

    def _report(self, value: dict[str, Json], out: list[ProviderInput]) -> None:
        groq = value.get("x_groq")
        raw = value.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
        if isinstance(raw, dict) and raw:
            out.append(UsageReported(usage=self._price(usage(raw))))


def _is_json(data: bytes) -> bool:
    try:
        json_text.loads(data)
    except ValueError:
        return False
    return True


def _said(delta: dict[str, Json]) -> _Said:
    said = _Said()
    said.text, thought = _spoken(delta.get("content"))
    said.reasoning = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")) or thought
    said.refusal = _text(delta.get("refusal"))
    calls = delta.get("tool_calls")
    said.pieces = [_piece(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else ()
    if isinstance(function := delta.get("function_call"), dict):  # the form of 2023, still spoken by some
        said.pieces = [_piece({"index": 0, "function": function})]
    named = _KNOWN - {"reasoning_details"} | _NOISE
    said.extras = {name: item for name, item in delta.items() if name not in named and item not in (None, [], {}, "")}
    return said


def _spoken(content: Json) -> tuple[str, str]:
    """Text and thinking of a content, which may be a list of parts (Mistral)."""
    if not isinstance(content, list):
        return _text(content), ""
    text, thought = "", ""
    for part in content:
        if isinstance(part, dict) and part.get("type") == "thinking":
            inner = part.get("thinking")
            thought += _spoken(inner)[0]
        elif isinstance(part, dict):
            text += _text(part.get("text"))
    return text, thought


def _piece(call: dict[str, Json]) -> Piece:
    index, function = call.get("index"), call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments")
    if isinstance(arguments, dict):  # some send the object itself: the call is whole
        arguments = msgspec.json.encode(arguments).decode()
    extras = {name: item for name, item in call.items() if name not in {"index", "id", "type", "function"}}
    if more := {name: item for name, item in function.items() if name not in {"name", "arguments"}}:
        extras["function"] = more
    return Piece(
        index=index if isinstance(index, int) else None,
        id=call["id"] if isinstance(call.get("id"), str) else None,
        name=function["name"] if isinstance(function.get("name"), str) else None,
        arguments=_text(arguments),
        extras={name: item for name, item in extras.items() if item is not None},
    )


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def merged(before: Json, item: Json) -> Json:
    """A field that comes in pieces: items of one index are one item, and a later one adds to it or replaces."""
    if not isinstance(before, list) or not isinstance(item, list):
        return item
    whole = list(before)
    for one in item:
        index = one.get("index") if isinstance(one, dict) else None
        for place, earlier in enumerate(whole):
            if index is not None and isinstance(earlier, dict) and earlier.get("index") == index:
                whole[place] = {**earlier, **one}
                break
        else:
            whole.append(one)
    return whole


def _add_detail(held: list[Json], detail: Json) -> None:
    """OpenRouter: pieces of one detail follow each other; texts are appended, the rest is said once."""
    last = held[-1] if held else None
    same = ("type", "index")
    if isinstance(last, dict) and isinstance(detail, dict) and all(last.get(n) == detail.get(n) for n in same):
        for name, item in detail.items():
            if name in {"text", "summary"} and isinstance(item, str):
                last[name] = _text(last.get(name)) + item
            elif item is not None:
                last[name] = item
    else:
        held.append(dict(detail) if isinstance(detail, dict) else detail)


def _words(details: list[Json]) -> str:
    """What of the details a person can read, where the vendor does not say it beside them."""
    return "".join(
        _text(detail.get("text")) or _text(detail.get("summary")) for detail in details if isinstance(detail, dict)
    )


def _citations(extras: dict[str, Json]) -> tuple[Citation, ...]:
    annotations = extras.get("annotations")
    cited = []
    for annotation in annotations if isinstance(annotations, list) else ():
        raw = annotation.get("url_citation") if isinstance(annotation, dict) else None
        if isinstance(raw, dict):
            start, end = raw.get("start_index"), raw.get("end_index")
            placed = isinstance(start, int) and isinstance(end, int) and end > start  # OpenRouter says 0 to 0 for none
            cited.append(
                Citation(
                    url=_text(raw.get("url")) or None,
                    title=_text(raw.get("title")) or None,
                    start=start if placed else None,
                    end=end if placed else None,
                )
            )
    listed = extras.get("citations")
    cited += (
        [Citation(url=one, title=None) for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    )
    return tuple(cited)


def usage(raw: dict[str, Json]) -> Usage:
    """The vendors' figures in ours. Some count the reasoning beside the completion; their total tells."""
    asked, said, total = _figure(raw, "prompt_tokens"), _figure(raw, "completion_tokens"), _figure(raw, "total_tokens")
    into, out_of = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    into, out_of = into if isinstance(into, dict) else {}, out_of if isinstance(out_of, dict) else {}
    reasoning = _figure(out_of, "reasoning_tokens")
    if said is not None and asked is not None and reasoning and total == asked + said + reasoning:
        said += reasoning
    read = _figure(into, "cached_tokens")
    for elsewhere in ("prompt_cache_hit_tokens", "cached_tokens"):  # DeepSeek, Moonshot
        read = _figure(raw, elsewhere) if read is None else read
    cost = raw.get("cost")
    return Usage(
        input_tokens=asked,
        cache_read_tokens=read,
        cache_write_tokens=_figure(into, "cache_write_tokens"),
        output_tokens=said,
        reasoning_tokens=reasoning,
        cost_usd=float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None,
        source="reported",
    )


def _figure(raw: dict[str, Json], name: str) -> int | None:
    figure = raw.get(name)
    return figure if isinstance(figure, int) and not isinstance(figure, bool) else None


def failure(status: int | None, body: Json) -> ResponseFailed:
    """What a body means that is an error: of an HTTP answer with ``status``, or of a chunk inside a stream."""
    if isinstance(body, list) and body:  # Gemini's compatible endpoint wraps it in a list
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        error = body if isinstance(body, dict) and not isinstance(error, str) else {"message": error or body}
    status = status or status_in(error.get("code")) or status_in(error.get("status_code"))
    names = [str(error.get(name)).lower() for name in ("code", "type", "status") if error.get(name)]
    code = next((_ERRORS[name] for name in names if name in _ERRORS), None)
    message = error.get("message") or error.get("detail") or error
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and metadata.get("raw"):  # OpenRouter: the words of the vendor behind it
        message = f"{message}: {metadata['raw']}"
    return refused(
        message if isinstance(message, str) else msgspec.json.encode(message).decode(), code=code, status=status
    )
