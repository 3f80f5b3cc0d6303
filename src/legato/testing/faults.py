"""The faults of docs/testing.md: a response with four calls in which one thing goes wrong, for a conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from legato.testing.script import AfterSeal, Call, Cut, End, ErrorEvent, Say, Script, Stall, Step, Wire

BEGINNING = Say("I will look in four places.")
ENDING = Say("That is all.")
BROKEN = '{"city": Oslo, "days": '


def _before_the_last(calls: Sequence[Call], *fault: Step) -> Sequence[Step]:
    return [BEGINNING, *calls[:-1], *fault]


def _broken_last(calls: Sequence[Call], **changes: object) -> Sequence[Step]:
    return [*calls[:-1], msgspec.structs.replace(calls[-1], **changes)]


FAULTS: Mapping[str, Callable[[Sequence[Call]], Sequence[Step]]] = {
    "none": lambda calls: [BEGINNING, *calls, ENDING],
    "max_tokens inside the last call": lambda calls: [
        BEGINNING,
        *_broken_last(calls, raw=calls[-1].arguments[:-1]),
        End("length"),
    ],
    "cut before the last call": lambda calls: _before_the_last(calls, Cut()),
    "cut inside a frame of the last call": lambda calls: [*_before_the_last(calls, Cut(into=40)), calls[-1]],
    "reset before the last call": lambda calls: _before_the_last(calls, Cut(how="reset")),
    "ended without an end before the last call": lambda calls: _before_the_last(calls, Cut(how="complete")),
    "overloaded before the last call": lambda calls: _before_the_last(calls, ErrorEvent()),
    "silence before the last call": lambda calls: _before_the_last(calls, Stall()),
    "refusal at the end": lambda calls: [BEGINNING, *calls, End("refusal")],
    "all calls with one id": lambda calls: [
        BEGINNING,
        *(msgspec.structs.replace(call, id="call_1") for call in calls),
    ],
    "all calls with empty ids": lambda calls: [BEGINNING, *(msgspec.structs.replace(call, id="") for call in calls)],
    "bad JSON in the last call": lambda calls: [BEGINNING, *_broken_last(calls, raw=BROKEN), ENDING],
    "arguments that change after the seal": lambda calls: [
        BEGINNING,
        *calls,
        AfterSeal(call=0, arguments=', "more": true}'),
    ],
}
"""Each fault by its name: from the calls of a response to its steps."""

ONLY_ON: Mapping[str, Wire] = {"arguments that change after the seal": "openai_chat"}
"""Anthropic ends a block by an event of its own, after which nothing of it may come."""


def faulty(fault: str, calls: Sequence[Call]) -> Script:
    """The response with the fault, at once; give the calls ``over`` or ``pace`` for time to pass."""
    return Script(FAULTS[fault](calls))
