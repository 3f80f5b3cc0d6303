"""What a request to a model used. An unknown figure is None, never 0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

Source: TypeAlias = Literal["reported", "estimated", "unknown"]
_WEAKNESS: dict[Source, int] = {"reported": 0, "estimated": 1, "unknown": 2}


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """``input_tokens`` includes both cache figures, ``output_tokens`` the reasoning (docs/http.md)."""

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    source: Source = "unknown"


UNKNOWN = Usage()

BYTES_PER_TOKEN = 4
"""Of English and of JSON, with the tokenizers of 2026; other languages have fewer. An estimate says that it is one."""


def estimated_tokens(text: str) -> int:
    """What a text may come to at a vendor's: a token for ``BYTES_PER_TOKEN`` characters of ASCII, and one for each
    other, as of Chinese and Japanese. Counted in one pass, with no tokenizer."""
    other = len(text) - len(text.encode("ascii", "ignore"))
    return other + -(-(len(text) - other) // BYTES_PER_TOKEN)


class Prices(msgspec.Struct, frozen=True):
    """USD per million tokens; None where not known."""

    input: float | None = None
    output: float | None = None


def of_a_death(reported: Usage, *, said: int, asked: int | None, prices: Prices) -> Usage:
    """What a response used that came to no end. ``reported`` are the vendor's last figures, ``said`` the bytes that
    came of it, ``asked`` those of the request. Nothing is made up where nothing came: a request may have cost nothing.
    """
    if not said:
        return UNKNOWN if reported.source == "unknown" else msgspec.structs.replace(reported, source="estimated")
    before = reported.output_tokens or 0
    written = max(before, -(-said // BYTES_PER_TOKEN))
    read = reported.input_tokens
    if read is None and asked is not None:
        read = -(-asked // BYTES_PER_TOKEN)
    cost = reported.cost_usd
    if prices.output is None:
        cost = cost if written == before else None
    elif cost is not None:
        cost += (written - before) * prices.output / 1e6
    elif read is not None and prices.input is not None:
        cost = (read * prices.input + written * prices.output) / 1e6
    return msgspec.structs.replace(
        reported,
        input_tokens=read,
        output_tokens=written,
        cost_usd=None if cost is None else round(cost, 9),
        source="estimated",
    )


def total(usages: Iterable[Usage]) -> Usage:
    """The sum, with the weakest source. A figure that one of them does not know is summed over those that do,
    and is None if nobody knows it; the source then says that the sum is not whole."""
    known = list(usages)
    if not known:
        return UNKNOWN
    weakest = max((usage.source for usage in known), key=_WEAKNESS.__getitem__)
    return Usage(
        input_tokens=_sum(usage.input_tokens for usage in known),
        cache_read_tokens=_sum(usage.cache_read_tokens for usage in known),
        cache_write_tokens=_sum(usage.cache_write_tokens for usage in known),
        output_tokens=_sum(usage.output_tokens for usage in known),
        reasoning_tokens=_sum(usage.reasoning_tokens for usage in known),
        cost_usd=_cost(usage.cost_usd for usage in known),
        source=weakest,
    )


def _sum(figures: Iterable[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def _cost(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None
