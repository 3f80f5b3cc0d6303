"""What the model says in each round of the plan, and where its response breaks."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, assert_never

import msgspec

from legato.core.blocks import Json
from legato.testing.script import Answer, Call, Cut, End, ErrorEvent, Raw, Say, Script, Stall, Step
from legato.testing.torture.plan import Ask, PlannedRound, ProviderFault
from legato.testing.upstream import Request

SAID: Final = "torture turn {}."
"""What a user's turn says, by which its requests are known."""
FURTHER: Final = "torture further."
STEERED: Final = "torture steer {}."
_KNOWN: Final = re.compile(rb"torture (?:turn (\d+)|further)\.")
_SAID: Final = re.compile(rb"torture (?:turn|steer) \d+\.")
SLOW: Final = 1.5
"""Seconds before a slow vendor's headers."""


class Broke(NamedTuple):
    """``at`` is monotonic seconds."""

    kind: ProviderFault
    turn: int
    at: float


class Vendor:
    def __init__(self, asks: Sequence[Ask]) -> None:
        self._asks = {ask.turn: ask for ask in asks}
        self._asked: set[tuple[int, int]] = set()
        self.broke: list[Broke] = []
        self.heard: set[str] = set()
        """What users said that some request had."""
        self.twice: set[str] = set()
        """What some request had more than once."""

    def answer(self, request: Request) -> Answer:
        said = Counter(text.decode() for text in _SAID.findall(request.raw))
        self.heard |= said.keys()
        self.twice |= {text for text, times in said.items() if times > 1}
        turn, number = _place(request.body)
        rounds = self._asks[turn].rounds if turn in self._asks else ()
        if number >= len(rounds):
            return Script([Say("Done.")])
        again = (turn, number) in self._asked
        self._asked.add((turn, number))
        fault: ProviderFault = "none" if again else rounds[number].fault
        if fault != "none":
            self.broke.append(Broke(fault, turn, time.monotonic()))
        return script_of(rounds[number], fault)


def script_of(planned: PlannedRound, fault: ProviderFault) -> Script:
    """Words, half of the calls, the fault, the other half, and a few words more."""
    calls = [Call(call.tool, {"what": call.what, "ms": call.ms}, pace=planned.pace * 4) for call in planned.calls]
    half = (len(calls) + 1) // 2
    first: list[Step] = [Say("word " * planned.words, pace=planned.pace), *calls[:half]]
    last: list[Step] = [*calls[half:], Say("And so on, and on. ", pace=planned.pace)]
    steps, lag = _broken(first, last, fault)
    return Script(steps, lag=lag)


def _broken(first: Sequence[Step], last: Sequence[Step], fault: ProviderFault) -> tuple[Sequence[Step], float]:
    match fault:
        case "none":
            return [*first, *last], 0
        case "slow":
            return [*first, *last], SLOW
        case "cut":
            return [*first, Cut(into=20), *last], 0
        case "reset":
            return [*first, Cut(how="reset")], 0
        case "stall":
            return [*first, Stall()], 0
        case "garbage":
            return [*first, Raw.garbage(b'data: {"type":\n\n'), Cut()], 0
        case "overloaded":
            return [*first, ErrorEvent()], 0
        case "refusal" | "length":
            return [*first, End(fault)], 0
        case _:
            assert_never(fault)


def _place(body: Json) -> tuple[int, int]:
    """The turn, 0 if it is none of the plan's, and the round that a request asks for."""
    turn = number = 0
    for message in body["messages"]:
        said = _KNOWN.findall(msgspec.json.encode(message)) if message["role"] == "user" else []
        if said:
            turn, number = int(said[-1] or 0), 0
        elif message["role"] == "assistant":
            number += 1
    return turn, number
