"""What a provider's refusal means, in our codes, whatever the wire.

Vendors say one thing in many ways: an HTTP status, a name in the body, words in a message, and any of it inside a
stream that began with 200. The most telling wins: words of an overflow, then the name (which each dialect knows), then
the status. The vendor's message is kept; keys never are.
"""

from __future__ import annotations

import re

from msgspec import UNSET

from legato.core.blocks import Json
from legato.core.events import ErrorInfo
from legato.core.inputs import ResponseFailed

MESSAGE_MAX = 2_000
"""Characters of a vendor's message that are kept; some repeat the whole request in it."""

_OVERFLOW = re.compile(
    r"context.?(length|window)|maximum context|prompt is too long|too many input tokens|input is too long"
    r"|input (length|tokens?)\b.*(exceed|limit)|exceeds? the (model'?s? )?max\w* .*tokens|available context size"
    r"|reduce the length of|token count.*exceeds",
    re.IGNORECASE,
)
# Speaks of a rate, but one request alone is over it, so waiting is vain: Groq's 413 and OpenAI's 429 (2026-11).
_OVER_THE_RATE_ALONE = re.compile(r"request too large for|tokens must be reduced", re.IGNORECASE)
# Looks like an overflow and is a rate, which waiting helps.
_RATE = re.compile(r"per[ -](second|minute|hour|day)|\b(TPM|RPM|TPD|RPD)\b|rate.?limit", re.IGNORECASE)
_OUT_OF_MONEY = re.compile(r"quota|billing|credit|balance|payment", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|gsk|pk|rk|xai|hf)[-_][A-Za-z0-9_*-]{8,}|\bAIza[A-Za-z0-9_-]{20,}|\bBearer\s+[^\s\"']+")

_RETRYABLE = {
    "provider_unreachable",
    "provider_timeout",
    "provider_overloaded",
    "provider_rate_limited",
    "provider_cut",
    "provider_garbled",
    "provider_runaway",
    "provider_failed",
}
_BY_STATUS = {
    401: "provider_auth",
    403: "provider_auth",
    408: "provider_timeout",
    409: "provider_failed",
    429: "provider_rate_limited",
    498: "provider_overloaded",  # Groq: flex capacity exceeded (its documentation, 2026-11)
    502: "provider_failed",
    503: "provider_overloaded",
    504: "provider_timeout",
    529: "provider_overloaded",  # Anthropic: overloaded (its documentation, 2026-11)
}


def failed(code: str, message: str, *, status: int | None = None, retryable: bool | None = None) -> ResponseFailed:
    """``retryable`` left out follows the code."""
    return ResponseFailed(
        error=ErrorInfo(
            code=code,
            message=kept(message),
            retryable=code in _RETRYABLE if retryable is None else retryable,
            provider_status=UNSET if status is None else status,
        )
    )


def refused(message: str, *, code: str | None = None, status: int | None = None) -> ResponseFailed:
    """A refusal in the vendor's words: ``code`` is what its name for it means, where the dialect knows the name."""
    if code not in {"provider_overloaded", "provider_auth"} and (status == 413 or overflows(message)):
        return failed("context_overflow", message, status=status)
    if code is None:
        code = _of_status(status)
    if code == "provider_rate_limited" and _OUT_OF_MONEY.search(message) and not _RATE.search(message):
        return failed(code, message, status=status, retryable=False)
    return failed(code, message, status=status)


def overflows(message: str) -> bool:
    if _OVER_THE_RATE_ALONE.search(message) is not None:
        return True
    return _OVERFLOW.search(message) is not None and _RATE.search(message) is None


def _of_status(status: int | None) -> str:
    if status is None or status >= 500:
        return _BY_STATUS.get(status or 0, "provider_failed")
    return _BY_STATUS.get(status, "provider_rejected")


def kept(message: str) -> str:
    """The words without keys, cut to ``MESSAGE_MAX``."""
    message = _SECRET.sub("[key]", message.strip()) or "no message"
    return message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 1] + "…"


def status_in(value: Json) -> int | None:
    """An HTTP status that a body names as a number or as digits; None for anything else."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:4])
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599 else None
