"""Anthropic's Messages wire, as the vendor writes it: events, bodies, errors, headers. Pure.

From the vendor's API reference ("Streaming Messages", "Errors") and recorded responses, 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from legato.core.blocks import Json
from legato.testing.names import made_up, sealed_words, signature_of
from legato.testing.script import (
    AfterSeal,
    Call,
    Cut,
    End,
    ErrorEvent,
    Failure,
    FailureKind,
    Figures,
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

STOP_REASONS: Mapping[Reason, str] = {
    "end": "end_turn",
    "calls": "tool_use",
    "pause": "pause_turn",
    "length": "max_tokens",
    "refusal": "refusal",
    "other": "unheard_of",
}

# Status, error type and message of each way to fail.
FAILURES: Mapping[FailureKind, tuple[int, str, str]] = {
    "auth": (401, "authentication_error", "invalid x-api-key"),
    "bad_gateway": (502, "", "<html><head><title>502 Bad Gateway</title></head></html>\n"),
    "context_overflow": (400, "invalid_request_error", "prompt is too long: 214315 tokens > 200000 maximum"),
    "invalid_request": (400, "invalid_request_error", "messages: at least one message is required"),
    "not_found": (404, "not_found_error", "model: claude-nobody"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "quota": (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    "rate_limit": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 50 requests per minute.",
    ),
    "server_error": (500, "api_error", "Internal server error"),
    "timeout": (504, "timeout_error", "Request timed out"),
    "too_large": (413, "request_too_large", "Request exceeds the maximum size"),
}

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def render(script: Script, *, number: int, body: Json) -> Iterator[Act]:
    """The acts of the answer to the ``number``-th request. Raises ``ValueError`` for a step this wire has no words
    for."""
    return _Writer(script, number, str(body.get("model"))).acts()


class _Writer:
    def __init__(self, script: Script, number: int, model: str) -> None:
        self.script = script
        self.number = number
        self.model = model
        self.index = 0
        self.calls: list[int] = []  # the block index of each call
        self.frames = 0
        self.pinged = False

    def acts(self) -> Iterator[Act]:
        yield self._event("message_start", message=self._message(content=[], stop_reason=None, output_tokens=1))
        for step in self.script.steps:
            yield from self._step(step)
            if isinstance(step, End | ErrorEvent | Stall):
                return
        yield from self._end(End(self.script.reason))

    def _step(self, step: Step) -> Iterator[Act]:
        match step:
            case Think():
                yield from self._thinking(step)
            case Say():
                yield from self._text(step)
            case Call():
                yield from self._call(step)
            case AfterSeal():
                if step.name:
                    raise ValueError("this wire gives a name with the block's start only")
                yield self._delta(self.calls[step.call], type="input_json_delta", partial_json=step.arguments)
            case Wait():
                yield Pause(step.seconds)
            case Gate():
                yield step
            case Ping():
                yield Frame(PING)
            case Raw():
                if step.anthropic:
                    yield Frame(step.anthropic)
            case Cut():
                yield Sever(step.how, step.into)
            case Stall():
                yield Silence(step.pings, PING)
            case ErrorEvent():
                yield self._event("error", **error_body(step.kind, step.message, self._request_id))
            case End():
                yield from self._end(step)

    @property
    def _request_id(self) -> str:
        return request_id(self.number)

    def _thinking(self, step: Think) -> Iterator[Act]:
        if step.redacted:
            yield from paced(step, [])
            yield from self._start({"type": "redacted_thinking", "data": sealed_words(step.text)})
            yield from self._stop()
            return
        yield from self._start({"type": "thinking", "thinking": "", "signature": ""})
        deltas = [self._delta(self.index, type="thinking_delta", thinking=piece) for piece in step.deltas()]
        yield from paced(step, [frame.data for frame in deltas])
        if step.signed:
            yield self._delta(self.index, type="signature_delta", signature=signature_of("".join(step.deltas())))
        yield from self._stop()

    def _text(self, step: Say) -> Iterator[Act]:
        yield from self._start({"type": "text", "text": step.first})
        deltas = [self._delta(self.index, type="text_delta", text=piece) for piece in step.deltas()]
        yield from paced(step, [frame.data for frame in deltas])
        if step.stop:
            yield from self._stop()
        else:
            self.index += 1

    def _call(self, step: Call) -> Iterator[Act]:
        self.calls.append(self.index)
        block = {"type": "tool_use", "id": self._call_id(step), "name": step.name, "input": {}}
        if step.early_input:
            yield from self._start({**block, "input": step.input})
            yield from paced(step, [])
        else:
            yield from self._start(block)
            yield self._delta(self.index, type="input_json_delta", partial_json="")
            deltas = [self._delta(self.index, type="input_json_delta", partial_json=piece) for piece in step.deltas()]
            yield from paced(step, [frame.data for frame in deltas])
        if step.stop:
            yield from self._stop()
        else:
            self.index += 1

    def _call_id(self, step: Call) -> str:
        return made_up("toolu_01", 22, self.number, len(self.calls)) if step.id is None else step.id

    def _start(self, block: Json) -> Iterator[Act]:
        yield self._event("content_block_start", index=self.index, content_block=block)
        if not self.pinged:  # the vendor pings once after the first block's start
            self.pinged = True
            yield Frame(PING)

    def _stop(self) -> Iterator[Act]:
        yield self._event("content_block_stop", index=self.index)
        self.index += 1

    def _end(self, step: End) -> Iterator[Act]:
        usage = usage_of(self.script.usage, self.script.output_tokens)
        delta = {"stop_reason": step.raw or STOP_REASONS[step.reason], "stop_sequence": None}
        yield self._event("message_delta", delta=delta, usage=usage)
        yield self._event("message_stop")

    def _delta(self, index: int, **delta: Json) -> Frame:
        return self._event("content_block_delta", index=index, delta=delta)

    def _event(self, event: str, **fields: Json) -> Frame:
        data = msgspec.json.encode({"type": event, **fields})
        # The vendor pads its frames with white space before the last brace, so that their length tells nothing.
        self.frames += 1
        padding = b" " * (self.frames * 7 % 15)
        return Frame(b"event: %s\ndata: %s%s}\n\n" % (event.encode(), data[:-1], padding))

    def _message(self, *, content: Json, stop_reason: str | None, output_tokens: int) -> Json:
        usage = {**usage_of(self.script.usage, output_tokens), "service_tier": "standard"}
        return {
            "id": made_up("msg_01", 22, self.number),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def whole(self) -> Json:
        """The response as one body, for a request that did not ask for a stream."""
        content: list[Json] = []
        end = End(self.script.reason)
        for step in self.script.steps:
            match step:
                case Think(redacted=True):
                    content.append({"type": "redacted_thinking", "data": sealed_words(step.text)})
                case Think():
                    text = "".join(step.deltas())
                    content.append({"type": "thinking", "thinking": text, "signature": signature_of(text)})
                case Say():
                    content.append({"type": "text", "text": step.first + "".join(step.deltas())})
                case Call():
                    self.calls.append(len(content))
                    block = {"type": "tool_use", "id": self._call_id(step), "name": step.name, "input": step.input}
                    content.append(block)
                case End():
                    end = step
                case _:  # times and faults mean nothing to a body that comes whole
                    pass
        reason = end.raw or STOP_REASONS[end.reason]
        return self._message(content=content, stop_reason=reason, output_tokens=self.script.output_tokens)


def whole(script: Script, *, number: int, body: Json) -> Json:
    """The response as one body, for a request that did not ask for a stream."""
    return _Writer(script, number, str(body.get("model"))).whole()


def usage_of(figures: Figures, output_tokens: int) -> dict[str, Json]:
    return {
        "input_tokens": figures.input_tokens,
        "cache_creation_input_tokens": figures.cache_write_tokens,
        "cache_read_input_tokens": figures.cache_read_tokens,
        "output_tokens": output_tokens,
    }


def request_id(number: int) -> str:
    return made_up("req_011C", 20, number)


def error_body(kind: FailureKind, message: str | None, request: str) -> dict[str, Json]:
    _, error_type, usual = FAILURES[kind]
    error = {"type": error_type, "message": usual if message is None else message}
    return {"type": "error", "error": error, "request_id": request}


def failure(failed: Failure, *, number: int) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    status, error_type, usual = FAILURES[failed.kind]
    if not error_type:  # a proxy in front of the vendor answers in HTML
        return failed.status or status, {"content-type": "text/html"}, (failed.message or usual).encode()
    body = msgspec.json.encode(error_body(failed.kind, failed.message, request_id(number)))
    headers = {"content-type": "application/json", **headers_of(number)}
    if failed.kind in {"overloaded", "rate_limit", "server_error", "timeout"}:
        headers["x-should-retry"] = "true"
    if failed.retry_after is not None:
        headers["retry-after"] = failed.retry_after
    return failed.status or status, headers, body


def headers_of(number: int) -> dict[str, str]:
    """What the vendor adds to every answer."""
    return {
        "request-id": request_id(number),
        "anthropic-organization-id": "00000000-0000-4000-8000-000000000000",
        "anthropic-ratelimit-requests-limit": "4000",
        "anthropic-ratelimit-requests-remaining": "3999",
        "anthropic-ratelimit-requests-reset": "2026-11-01T00:00:00Z",
    }
