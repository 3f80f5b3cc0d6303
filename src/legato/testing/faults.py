"""The faults of docs/testing.md: a response with four calls in which one thing goes wrong, for a conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from legato.testing.script import AfterSeal, Call, Cut, End, ErrorEvent, Gate, Say, Script, Stall, Step

BEGINNING = Say("I will look in four places.")
ENDING = Say("That is all.")
BROKEN = '{"city": Oslo, "days": '

Fault: TypeAlias = Callable[[Sequence[Call], Sequence[Step]], Sequence[Step]]
"""From the calls of a response, and what stands before the fault, to its steps."""


def _before_the_last(*fault: Step) -> Fault:
    return lambda calls, gate: [BEGINNING, *calls[:-1], *gate, *fault]


def _last(calls: Sequence[Call], **changes: object) -> Call:
    return msgspec.structs.replace(calls[-1], **changes)


def _with_ids(calls: Sequence[Call], id: str) -> list[Call]:
    return [msgspec.structs.replace(call, id=id) for call in calls]


FAULTS: Mapping[str, Fault] = {
    "none": lambda calls, gate: [BEGINNING, *calls, *gate, ENDING],
    "max_tokens inside the last call": lambda calls, gate: [
        BEGINNING,
        *calls[:-1],
        *gate,
        _last(calls, raw=calls[-1].arguments[:-1]),
        End("length"),
    ],
    "cut before the last call": _before_the_last(Cut()),
    "cut inside the last call": lambda calls, gate: [
        BEGINNING,
        *calls[:-1],
        *gate,
        _last(calls, raw=calls[-1].arguments[:-1], stop=False),
        Cut(),
    ],
    "cut inside a frame of the last call": lambda calls, gate: [
        BEGINNING,
        *calls[:-1],
        *gate,
        Cut(into=40),
        calls[-1],
    ],
    "reset before the last call": _before_the_last(Cut(how="reset")),
    "ended without an end before the last call": _before_the_last(Cut(how="complete")),
    "overloaded before the last call": _before_the_last(ErrorEvent()),
    "silence before the last call": _before_the_last(Stall()),
    "refusal at the end": lambda calls, gate: [BEGINNING, *calls, *gate, End("refusal")],
    "all calls with one id": lambda calls, gate: [BEGINNING, *_with_ids(calls, "call_1"), *gate],
    "all calls with empty ids": lambda calls, gate: [BEGINNING, *_with_ids(calls, ""), *gate],
    "bad JSON in the last call": lambda calls, gate: [
        BEGINNING,
        *calls[:-1],
        *gate,
        _last(calls, raw=BROKEN),
        ENDING,
    ],
    "arguments that change after the seal": lambda calls, gate: [
        BEGINNING,
        *calls,
        *gate,
        AfterSeal(call=0, arguments=', "more": true}'),
    ],
}
"""Each fault by its name."""


def faulty(fault: str, calls: Sequence[Call], *, gate: str | None = None) -> Script:
    """The response with the fault, at once; give the calls ``over`` or ``pace`` for time to pass. With a ``gate``, the
    stream stands there just before the fault."""
    return Script(FAULTS[fault](calls, () if gate is None else (Gate(gate),)))
