"""OpenAI's chat completions wire, as OpenAI and those who imitate it write it: chunks, bodies, errors, headers. Pure.

From the vendor's API reference and recorded responses of a dozen vendors, 2026-11. How they differ is ``ChatStyle``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec

from legato.core.blocks import Json
from legato.testing.names import made_up
from legato.testing.script import (
    AfterSeal,
    Call,
    Cut,
    End,
    ErrorEvent,
    Failure,
    FailureKind,
    Gate,
    Ping,
    Raw,
    Reason,
    Say,
    Script,
    Stall,
    Step,
    Think,
    Wait,
)
from legato.testing.timeline import Act, Frame, Pause, Sever, Silence, paced

FINISH_REASONS: Mapping[Reason, str] = {
    "end": "stop",
    "calls": "tool_calls",
    "length": "length",
    "refusal": "content_filter",
    "other": "unheard_of",
}

# Status, type, code, message of each way to fail.
FAILURES: Mapping[FailureKind, tuple[int, str, str | None, str]] = {
    "auth": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-nobody."),
    "bad_gateway": (502, "", None, "<html><head><title>502 Bad Gateway</title></head></html>\n"),
    "context_overflow": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 214315 tokens.",
    ),
    "invalid_request": (
        400,
        "invalid_request_error",
        None,
        "Invalid value for 'content': expected a string, got null.",
    ),
    "not_found": (404, "invalid_request_error", "model_not_found", "The model `gpt-nobody` does not exist."),
    "overloaded": (
        503,
        "service_unavailable_error",
        None,
        "The server is currently overloaded with other requests. Please try again later.",
    ),
    "quota": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "rate_limit": (429, "requests", "rate_limit_exceeded", "Rate limit reached for requests per min (RPM): Limit 500."),
    "server_error": (
        500,
        "server_error",
        None,
        "The server had an error while processing your request. Sorry about that!",
    ),
    "timeout": (504, "server_error", None, "The request timed out."),
    "too_large": (413, "invalid_request_error", None, "Request too large."),
}

PING = b": OPENROUTER PROCESSING\n\n"  # chat completions have no ping; OpenRouter keeps connections open with this
DONE = b"data: [DONE]\n\n"
CREATED = 1_764_000_000  # seconds since 1970; the same in every response, so that a script gives the same bytes


def render(script: Script, *, number: int, body: Json) -> Iterator[Act]:
    """The acts of the answer to the ``number``-th request. Raises ``ValueError`` for a step this wire has no words
    for."""
    asked = (body.get("stream_options") or {}).get("include_usage") is True
    return _Writer(script, number, str(body.get("model")), include_usage=asked).acts()


class _Writer:
    def __init__(self, script: Script, number: int, model: str, *, include_usage: bool) -> None:
        self.script = script
        self.style = script.chat_style
        self.number = number
        self.model = model
        self.usage_asked = include_usage
        self.calls = 0
        self.frames = 0

    def acts(self) -> Iterator[Act]:
        opening = "" if self.style.first_delta == "empty" else None
        yield Frame(self._chunk({"role": "assistant", "content": opening, "refusal": None}))
        for step in self.script.steps:
            yield from self._step(step)
            if isinstance(step, End | ErrorEvent | Stall):
                return
        yield from self._end(End(self.script.reason))

    def _step(self, step: Step) -> Iterator[Act]:
        match step:
            case Think():
                yield from paced(step, self._thinking(step))
            case Say():
                pieces = [*([step.first] if step.first else []), *step.deltas()]
                frames = [self._chunk({"content": piece}) for piece in pieces]
                if step.first:
                    yield Frame(frames.pop(0))
                yield from paced(step, frames)
            case Call():
                yield from self._call(step)
            case AfterSeal():
                yield Frame(self._fragment(step.call, name=step.name or None, arguments=step.arguments or None))
            case Wait():
                yield Pause(step.seconds)
            case Gate():
                yield step
            case Ping():
                yield Frame(PING)
            case Raw():
                if step.openai_chat:
                    yield Frame(step.openai_chat)
            case Cut():
                yield Sever(step.how, step.into)
            case Stall():
                yield Silence(step.pings, PING)
            case ErrorEvent():
                yield Frame(b"data: " + msgspec.json.encode(error_body(step.kind, step.message)) + b"\n\n")
            case End():
                yield from self._end(step)

    def _thinking(self, step: Think) -> list[bytes]:
        pieces = list(step.deltas())
        match self.style.reasoning:
            case "think_tag":
                said: list[Json] = [{"content": piece} for piece in ("<think>", *pieces, "</think>")]
                return [self._chunk(said[0]) + self._chunk(said[1]), *map(self._chunk, said[2:])] if pieces else []
            case "reasoning_details":
                return [
                    self._chunk({"reasoning_details": [{"type": "reasoning.text", "text": piece, "index": 0}]})
                    for piece in pieces
                ]
            case field:
                return [self._chunk({field: piece}) for piece in pieces]

    def _call(self, step: Call) -> Iterator[Act]:
        ordinal = self.calls
        self.calls += 1
        call_id = made_up("call_", 24, self.number, self.calls) if step.id is None else step.id
        pieces: Sequence[str] = step.deltas()
        if self.style.calls == "whole":
            yield from paced(step, [])
            yield Frame(self._fragment(ordinal, id=call_id, name=step.name, arguments="".join(pieces)))
            return
        if self.style.calls == "cumulative":
            pieces = list(accumulate(pieces))
        ids, names = self.style.ids, self.style.names
        split = len(step.name) // 2 if names == "pieces" else len(step.name)
        yield Frame(
            self._fragment(
                ordinal,
                id="" if ids == "late" else call_id,
                name="" if names == "late" else step.name[:split],
                arguments="",
            )
        )
        if names == "pieces":
            yield Frame(self._fragment(ordinal, name=step.name[split:]))
        last = len(pieces) - 1
        frames = [
            self._fragment(
                ordinal,
                id=call_id if ids == "each" or (ids == "late" and at == last) else None,
                name=step.name if names == "each" or (names == "late" and at == last) else None,
                arguments=piece,
            )
            for at, piece in enumerate(pieces)
        ]
        yield from paced(step, frames)

    def _fragment(
        self, ordinal: int, *, id: str | None = None, name: str | None = None, arguments: str | None = None
    ) -> bytes:
        """A piece of a call; what is None is left out."""
        function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
        index: Json = {"counted": ordinal, "zero": 0, "null": None, "missing": None}[self.style.index]
        call: dict[str, Json] = {} if self.style.index == "missing" else {"index": index}
        if id is not None:
            call |= {"id": id, "type": "function"}
        return self._chunk({"tool_calls": [{**call, "function": function}]})

    def _end(self, step: End) -> Iterator[Act]:
        usage = self._usage()
        with_finish = usage if self.style.usage == "finish" else None
        yield Frame(self._chunk({}, finish_reason=self._reason(step), usage=with_finish))
        if self.usage_asked and self.style.usage == "last":
            yield Frame(self._frame({**self._envelope(), "choices": [], "usage": usage}))
        yield Frame(DONE)

    def _reason(self, step: End) -> str:
        if step.raw is not None:
            return step.raw
        if step.reason not in FINISH_REASONS:
            raise ValueError(f"chat completions have no word for {step.reason!r}")
        return FINISH_REASONS[step.reason]

    def _envelope(self) -> dict[str, Json]:
        return {
            "id": made_up("chatcmpl-", 29, self.number),
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb",
        }

    def _chunk(self, delta: Json, *, finish_reason: str | None = None, usage: Json = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk: dict[str, Json] = {**self._envelope(), "choices": [choice]}
        if self.usage_asked or usage is not None:
            chunk["usage"] = usage
        return self._frame(chunk)

    def _frame(self, chunk: dict[str, Json]) -> bytes:
        # OpenAI adds noise of changing length, so that a frame's length tells nothing.
        self.frames += 1
        noise = made_up("", self.frames * 7 % 13, self.number, self.frames)
        return b"data: " + msgspec.json.encode({**chunk, "obfuscation": noise}) + b"\n\n"

    def _usage(self) -> dict[str, Json]:
        figures, said = self.script.usage, self.script.output_tokens
        prompt = figures.input_tokens + figures.cache_read_tokens + figures.cache_write_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": said,
            "total_tokens": prompt + said,
            "prompt_tokens_details": {"cached_tokens": figures.cache_read_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": figures.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def whole(self) -> Json:
        """The response as one body, for a request that did not ask for a stream."""
        said, thought, calls = "", "", []
        end = End(self.script.reason)
        for step in self.script.steps:
            match step:
                case Think():
                    thought += "".join(step.deltas())
                case Say():
                    said += step.first + "".join(step.deltas())
                case Call():
                    self.calls += 1
                    call_id = made_up("call_", 24, self.number, self.calls) if step.id is None else step.id
                    function = {"name": step.name, "arguments": "".join(step.deltas())}
                    calls.append({"id": call_id, "type": "function", "function": function})
                case End():
                    end = step
                case _:  # times and faults mean nothing to a body that comes whole
                    pass
        message: dict[str, Json] = {"role": "assistant", "content": said or None, "refusal": None}
        if thought:
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason(end)}
        return {**self._envelope(), "object": "chat.completion", "choices": [choice], "usage": self._usage()}


def whole(script: Script, *, number: int, body: Json) -> Json:
    """The response as one body, for a request that did not ask for a stream."""
    return _Writer(script, number, str(body.get("model")), include_usage=True).whole()


def error_body(kind: FailureKind, message: str | None) -> dict[str, Json]:
    _, error_type, code, usual = FAILURES[kind]
    said = usual if message is None else message
    return {"error": {"message": said, "type": error_type, "param": None, "code": code}}


def failure(failed: Failure, *, number: int) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    status, error_type, _, usual = FAILURES[failed.kind]
    if not error_type:  # a proxy in front of the vendor answers in HTML
        return failed.status or status, {"content-type": "text/html"}, (failed.message or usual).encode()
    headers = {"content-type": "application/json", **headers_of(number)}
    if failed.retry_after is not None:
        headers["retry-after"] = failed.retry_after
    return failed.status or status, headers, msgspec.json.encode(error_body(failed.kind, failed.message))


def headers_of(number: int) -> dict[str, str]:
    """What the vendor adds to every answer."""
    return {
        "x-request-id": made_up("req_", 32, number),
        "openai-organization": "org-nobody",
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
    }
