"""Each fault of docs/testing.md is on the wire what its name says, as our own decoders read it."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from legato.core.inputs import (
    BlockClosed,
    BlockOpened,
    CallPoisoned,
    Delta,
    ProviderInput,
    ResponseEnded,
    ResponseFailed,
)
from legato.providers import anthropic, openai_chat
from legato.testing.faults import FAULTS, faulty
from legato.testing.script import Wire
from legato.testing.timeline import Frame, severed
from legato.testing.upstream import WIRES, Call

CALLS = [Call("look", {"city": "Oslo", "days": number}) for number in range(4)]


def decoded(wire: Wire, fault: str) -> list[ProviderInput]:
    acts = severed(WIRES[wire].render(faulty(fault, CALLS), number=1, body={"model": "m"}))
    body = b"".join(act.data for act in acts if isinstance(act, Frame))
    decoder = anthropic.Decoder() if wire == "anthropic" else openai_chat.Decoder(seal="object")
    return [*decoder.feed(body), *decoder.end()]


def whole_calls(told: list[ProviderInput]) -> list[str]:
    """The arguments of each call that was closed."""
    calls = {one.key: "" for one in told if isinstance(one, BlockOpened) and one.block_type == "tool_use"}
    closed = [one.key for one in told if isinstance(one, BlockClosed) and one.key in calls]
    for one in told:
        if isinstance(one, Delta) and one.key in calls:
            calls[one.key] += one.text
    return [calls[key] for key in closed]


CASES = list(itertools.product(get_args(Wire), FAULTS))
GOOD = [call.arguments for call in CALLS]


@pytest.mark.parametrize(("wire", "fault"), CASES)
def test_a_fault_is_what_it_is_called(wire: Wire, fault: str) -> None:
    told = decoded(wire, fault)
    calls, last = whole_calls(told), told[-1]
    assert calls[:3] == GOOD[:3]
    match fault:
        case "none" | "all calls with one id" | "all calls with empty ids":
            assert calls == GOOD
            assert isinstance(last, ResponseEnded)
            assert last.stop_reason == "calls"
        case "max_tokens inside the last call":
            assert GOOD[3] not in calls
            assert isinstance(last, ResponseEnded)
            assert last.stop_reason == "length"
        case "refusal at the end":
            assert isinstance(last, ResponseEnded)
            assert last.stop_reason == "refusal"
        case "bad JSON in the last call":
            assert GOOD[3] not in calls
            assert isinstance(last, ResponseEnded)
        case "arguments that change after the seal":
            assert any(isinstance(one, CallPoisoned) for one in told)
            assert isinstance(last, ResponseEnded)
        case _:
            assert len(calls) == 3
            assert isinstance(last, ResponseFailed)
