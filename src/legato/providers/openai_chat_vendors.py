"""How the vendors of chat completions differ, by the host of the base URL.

Each entry has its reason and the date it was seen or read. A host that is not here is one we know nothing of: it gets
the plain wire, and a call is sealed at the finish reason only.
"""

from __future__ import annotations

from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

Seal: TypeAlias = Literal["object", "next", "finish"]


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """``seal``: when a call's arguments are whole, where the configuration says ``auto`` (docs/tools.md).

    ``max_tokens``: the parameter's name. ``effort``: how thinking is asked for. ``thinking_back``: the field that the
    model's own thinking is sent back in; None where it is not wanted. ``strict``: unknown fields of a message are
    refused, so none is sent back. ``files``: file parts are taken, from URLs too where ``file_urls``. ``usage_asked``:
    usage comes only when asked for, and asking is allowed. ``thinks_in_text``: the text may begin with ``<think>``.
    ``short_ids``: ids are nine letters and digits.
    """

    seal: Seal = "finish"
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    effort: Literal["reasoning_effort", "reasoning", "thinking"] = "reasoning_effort"
    thinking_back: Literal["reasoning_content", "reasoning"] | None = None
    strict: bool = False
    files: bool = False
    file_urls: bool = False
    usage_asked: bool = True
    thinks_in_text: bool = True
    short_ids: bool = False


# Arguments are sampled under a grammar or come whole, so an object that has closed never changes again; seen in
# every recording of the vendor. `<think>` is never the vendor's own.
_OPENAI = Vendor(
    seal="object", max_tokens="max_completion_tokens", strict=True, files=True, thinks_in_text=False
)  # 2026-11: recorded, and its documentation on streaming function calls and file inputs
_VENDORS = {
    "api.openai.com": _OPENAI,
    "openai.azure.com": _OPENAI,
    # 2026-11: recorded; each call comes whole in one chunk. Unknown fields of a message: 400 "property … unsupported".
    "api.groq.com": Vendor(seal="object", max_tokens="max_completion_tokens", strict=True),
    # 2026-11: its documentation (thinking mode): 400 unless the thinking of a message with calls is sent back.
    "api.deepseek.com": Vendor(seal="object", effort="thinking", thinking_back="reasoning_content"),
    # 2026-11: recorded; many vendors behind one host, so only the next call or the end tells. Its documentation:
    # signed details must come back unchanged; files are passed on or parsed, from URLs too.
    "openrouter.ai": Vendor(seal="next", effort="reasoning", thinking_back="reasoning", files=True, file_urls=True),
    # 2026-11: its documentation (preserved thinking): thinking goes back when it is not to be cleared.
    "api.z.ai": Vendor(seal="next", effort="thinking", thinking_back="reasoning_content"),
    "open.bigmodel.cn": Vendor(seal="next", effort="thinking", thinking_back="reasoning_content"),
    # 2026-11: its documentation (thinking models): thinking goes back within the turn.
    "api.moonshot.ai": Vendor(thinking_back="reasoning_content"),
    # 2026-11: its documentation: calls come whole, ids are nine letters and digits, stream options are refused.
    "api.mistral.ai": Vendor(seal="object", strict=True, usage_asked=False, short_ids=True),
}
UNKNOWN = Vendor()


def host_of(base_url: str) -> str:
    return urlsplit(base_url).hostname or ""


def vendor_of(host: str) -> Vendor:
    """The entry of the host, or of the domain it stands below."""
    while host:
        if host in _VENDORS:
            return _VENDORS[host]
        host = host.partition(".")[2]
    return UNKNOWN


def seal_of(host: str, configured: Literal["auto", "object", "next", "finish"]) -> Seal:
    return vendor_of(host).seal if configured == "auto" else configured
