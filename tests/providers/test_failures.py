"""What vendors say when they refuse, and what it is in our codes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import UNSET

from legato.core.blocks import Json
from legato.providers import anthropic, openai_chat
from legato.providers.failures import MESSAGE_MAX, failed, kept, refused
from legato.providers.stream import retry_after

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


AUTH, RATE, BUSY = "provider_auth", "provider_rate_limited", "provider_overloaded"
NO, FAILED, OVERFLOW = "provider_rejected", "provider_failed", "context_overflow"


def openai(code: str | None, message: str, kind: str = "invalid_request_error") -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def claude(kind: str, message: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}}


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (401, claude("authentication_error", "invalid x-api-key"), AUTH, False),
        (400, claude("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), OVERFLOW, False),
        (413, claude("request_too_large", "Request exceeds the maximum size"), OVERFLOW, False),
        (429, claude("rate_limit_error", "rate limit of 40,000 input tokens per minute"), RATE, True),
        (529, claude("overloaded_error", "Overloaded"), BUSY, True),
        (500, claude("api_error", "Internal server error"), FAILED, True),
        (None, claude("overloaded_error", "Overloaded"), BUSY, True),
        (400, claude("invalid_request_error", "messages: roles must alternate"), NO, False),
        (400, claude("an_unheard_of_error", "what"), NO, False),
    ],
)
def test_anthropic_refusals(status: int | None, body: Json, code: str, retryable: bool) -> None:
    error = anthropic.failure(status, body).error
    assert (error.code, error.retryable) == (code, retryable)
    assert error.provider_status == (UNSET if status is None else status)


GROQ_RATE = "Request too large for model `x` on tokens per minute (TPM): Limit 6000"
OPENAI_RATE = (
    "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 50000. "
    "The input or output tokens must be reduced in order to run successfully."
)
TOO_LONG = "This model's maximum context length is 128000 tokens."
VLLM_TOO_LONG = "the input is longer than the model's context length"


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (401, openai("invalid_api_key", "Incorrect API key provided"), AUTH, False),
        (400, openai("context_length_exceeded", TOO_LONG), OVERFLOW, False),
        (400, openai(None, "Please reduce the length of the messages or completion."), OVERFLOW, False),
        (413, openai("rate_limit_exceeded", GROQ_RATE), OVERFLOW, False),
        (429, openai("rate_limit_exceeded", OPENAI_RATE, "tokens"), OVERFLOW, False),
        (429, openai(None, TOO_LONG), OVERFLOW, False),
        (429, openai("rate_limit_exceeded", "Rate limit reached on tokens per min (TPM)", "tokens"), RATE, True),
        (429, openai("insufficient_quota", "You exceeded your quota", "insufficient_quota"), RATE, False),
        (429, openai("rate_limit_exceeded", "Rate limit reached for requests per min", "requests"), RATE, True),
        (503, openai(None, "overloaded", "service_unavailable_error"), BUSY, True),
        (500, openai(None, "The server had an error", "server_error"), FAILED, True),
        (404, openai("model_not_found", "The model does not exist"), NO, False),
        (None, {"error": {"code": 400, "message": "Token limit reached"}}, NO, False),
        (None, {"error": {"code": "tool_use_failed", "message": "no match", "status_code": 400}}, FAILED, True),
        (None, {"error": {"message": "who knows"}}, FAILED, True),
        (None, {"error": "out of memory"}, FAILED, True),
        (400, {"object": "error", "message": VLLM_TOO_LONG, "code": 400}, OVERFLOW, False),
        (422, {"detail": [{"loc": ["body"], "msg": "extra"}]}, NO, False),
        (400, [{"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}], NO, False),
        (502, "nonsense", FAILED, True),
        (402, openai(None, "Insufficient credits"), NO, False),
    ],
)
def test_chat_completions_refusals(status: int | None, body: Json, code: str, retryable: bool) -> None:
    error = openai_chat.failure(status, body).error
    assert (error.code, error.retryable) == (code, retryable)


def test_the_words_of_the_vendor_behind_a_router_are_kept() -> None:
    body = {"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "upstream melted"}}}
    assert openai_chat.failure(None, body).error.message == "Provider returned error: upstream melted"


@pytest.mark.parametrize(
    "secret", ["sk-ant-api03-abcdefgh12345678", "gsk_abcdefgh12345678", "Bearer abc.def", "sk-proj-abc_def-12345678"]
)
def test_a_key_in_a_message_is_left_out(secret: str) -> None:
    assert secret not in kept(f"key {secret} is wrong")
    assert kept(f"key {secret} is wrong").startswith("key [key]")


def test_a_message_is_cut_at_its_bound() -> None:
    assert len(failed("provider_failed", "x" * 10_000).error.message) == MESSAGE_MAX


def test_a_rate_is_no_overflow_though_it_speaks_of_tokens() -> None:
    assert refused("too many input tokens per minute", status=429).error.code == "provider_rate_limited"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": (NOW + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT")}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2020 12:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_may_be_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds
