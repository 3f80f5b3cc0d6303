"""Usage, arguments and results in few words, clean for a terminal."""

from __future__ import annotations

from typing import Protocol

import msgspec

from legato.cli.seen import SeenTurn
from legato.cli.untrusted import clean, one_line
from legato.core.blocks import Json

_CALL_MAX = 200
"""Characters of a call's arguments."""


class Figures(Protocol):
    """A usage, from an event or from the API's JSON. An unknown figure is None."""

    @property
    def input_tokens(self) -> int | None: ...
    @property
    def cache_read_tokens(self) -> int | None: ...
    @property
    def output_tokens(self) -> int | None: ...
    @property
    def reasoning_tokens(self) -> int | None: ...
    @property
    def cost_usd(self) -> float | None: ...
    @property
    def source(self) -> str: ...


def usage_line(usage: Figures) -> str:
    """`1,234 tokens in (1,000 cached), 56 out (12 thinking), $0.0012`. What is not known is not said to be 0."""
    said = []
    if usage.input_tokens is not None:
        cached = f" ({usage.cache_read_tokens:,} cached)" if usage.cache_read_tokens else ""
        said.append(f"{usage.input_tokens:,} tokens in{cached}")
    if usage.output_tokens is not None:
        thinking = f" ({usage.reasoning_tokens:,} thinking)" if usage.reasoning_tokens else ""
        said.append(f"{usage.output_tokens:,} out{thinking}")
    if usage.cost_usd is not None:
        said.append(f"${usage.cost_usd:.4g}")
    if not said:
        return "usage unknown"
    return ", ".join(said) + ("" if usage.source == "reported" else f" ({clean(usage.source)})")


def arguments_line(input: Json, width: int) -> str:
    """`query="dragon", limit=3`; what is no object as its JSON."""
    if not isinstance(input, dict):
        return value_line(input, width) if input is not None else ""
    return one_line(", ".join(f"{name}={value_line(value, width)}" for name, value in input.items()), width)


def call_line(turn: SeenTurn, call_id: str, ran: Json = None) -> str:
    """`drop(name="a")`; of a call that the turn does not show, its id. ``ran``: what it runs with instead."""
    for block in turn.blocks:
        if block.type == "tool_use" and block.call_id == call_id:
            shown = arguments_line(block.input if ran is None else ran, _CALL_MAX)
            return f"{one_line(block.tool_name, 64)}({shown})"
    return one_line(call_id, 64)


def value_line(value: Json, width: int) -> str:
    return one_line(msgspec.json.encode(value).decode(), width)


def result_line(output: Json, width: int) -> str:
    """A text as it is, all else as compact JSON."""
    return one_line(output, width) if isinstance(output, str) else value_line(output, width)


def seconds_between(start: str, end: str) -> float | None:
    """Of two times of the API."""
    from datetime import datetime

    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except ValueError:
        return None
