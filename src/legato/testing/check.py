"""Whether a vendor would take a request, and in what words it would refuse. Pure.

The words are the vendors' own where they are known (each vendor's reports of 400s, seen until 2026-11), so that a
test's failure reads like the real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import assert_never

import msgspec

from legato.core.blocks import Json
from legato.testing import anthropic_check, openai_check
from legato.testing.script import Wire


def check_request(wire: Wire, body: Json, *, signatures: Mapping[str, str] | None = None) -> str | None:
    """What is wrong with the body, in the vendor's words; None if nothing is.

    ``signatures`` are those of other vendors' thinking that may come back, each with the thinking it signs
    (``signatures_in``).
    """
    match wire:
        case "anthropic":
            said = anthropic_check.complaints(body, signatures or {})
        case "openai_chat":
            said = openai_check.complaints(body)
        case _:
            assert_never(wire)
    return next(said, None)


def check_growth(earlier: Json, later: Json) -> str | None:
    """Where a later request's prompt stops beginning with an earlier one's, so that the vendor's cache is lost; None if
    it does not. Tools, system and messages count, marks for the cache do not."""
    for field in ("tools", "system", "messages"):
        before, after = _pieces(earlier.get(field)), _pieces(later.get(field))
        for at, piece in enumerate(before):
            now = after[at] if at < len(after) else b"nothing"
            if piece != now:
                same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(piece, now, strict=False)))
                was, is_now = piece[same:][:60], now[same:][:60]
                return f"{field}: piece {at} differs from byte {same} on: it was {was!r}, is {is_now!r}"
    return None


def _pieces(value: Json) -> list[bytes]:
    """A prompt as what is compared whole: a tool, a text, a block with its role."""
    pieces: list[Json] = []
    parts: list[Json] = [value] if isinstance(value, str) else value or []
    for one in parts:
        content = one.get("content") if isinstance(one, dict) else None
        if isinstance(content, list):
            pieces += [{"role": one.get("role"), **block} for block in content]
            pieces += [{**one, "content": None}] if "tool_calls" in one else []
        else:
            pieces.append(one)
    return [msgspec.json.encode(_unmarked(piece)) for piece in pieces]


def _unmarked(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _unmarked(inner) for key, inner in value.items() if key != "cache_control"}
    return [_unmarked(inner) for inner in value] if isinstance(value, list) else value


def signatures_in(recording: bytes) -> dict[str, str]:
    """The signatures of a recorded Anthropic body, each with the thinking it signs, and the data of its redacted
    thinking, each with an empty text."""
    found: dict[str, str] = {}
    thinking: dict[int, str] = {}
    for line in recording.splitlines():
        if not line.startswith(b"data:"):
            continue
        try:
            event: Json = msgspec.json.decode(line[5:])
        except msgspec.DecodeError:  # other wires end with a frame that is no JSON
            continue
        match event:
            case {"content_block": {"type": "redacted_thinking", "data": str(data)}}:
                found[data] = ""
            case {"index": int(index), "content_block": {"type": "thinking", "thinking": str(text)}}:
                thinking[index] = text
            case {"index": int(index), "delta": {"type": "thinking_delta", "thinking": str(text)}}:
                thinking[index] = thinking.get(index, "") + text
            case {"index": int(index), "delta": {"type": "signature_delta", "signature": str(signature)}}:
                found[signature] = thinking.get(index, "")
            case _:
                pass
    return found
