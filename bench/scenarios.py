"""The scenarios of docs/performance.md: which tools a model calls and how long all takes. Pure; times are seconds.

Model: first token after ``FIRST_TOKEN``, ``TEXT`` of text, the calls one after the other, ``text_after``; a second
round of ``SECOND_ROUND``. A call may start: a ``read`` when it is sealed, a ``write`` when the response has ended, and
either not before a person, who is asked at the seal, has approved it. Those that may start are given a place in call
order; one with effects, and a ``read`` that names a lane, waits for the earlier ones with effects in its lane.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from legato.core.schedule import TURN_LANE

FIRST_TOKEN = 0.3
TEXT = 0.3
SECOND_ROUND = 0.4
PLACES = 16  # limits.parallel_calls
CALLS = 64  # limits.calls_per_round


class Job(msgspec.Struct, frozen=True):
    """One call: its arguments take ``args`` to stream, the tool takes ``takes``. ``person`` is how long somebody thinks
    until the call is approved, None where nobody is asked. ``blocks``: a plain function, which blocks its thread."""

    takes: float
    args: float
    effect: Literal["read", "write"] = "read"
    lane: str | None = None
    person: float | None = None
    blocks: bool = False

    @property
    def in_lane(self) -> str | None:
        return self.lane or (TURN_LANE if self.effect == "write" else None)


class Scenario(msgspec.Struct, frozen=True):
    """``places`` bounds the calls that run at once. ``jitter`` spreads the waits between the deltas of a step, by so
    much of each, without changing what the step takes."""

    id: str
    jobs: tuple[Job, ...]
    text_after: float = 0.05
    places: int = PLACES
    jitter: float = 0.0

    def sealed(self) -> list[float]:
        """When each call's arguments are whole."""
        at = FIRST_TOKEN + TEXT
        times = []
        for job in self.jobs:
            at += job.args
            times.append(at)
        return times

    def stream_ends(self) -> float:
        return self.sealed()[-1] + self.text_after

    def may_start(self) -> list[float]:
        """When each call may, lanes and places aside."""
        return [
            max(sealed + (job.person or 0.0), self.stream_ends() if job.effect == "write" else 0.0)
            for job, sealed in zip(self.jobs, self.sealed(), strict=True)
        ]

    def ends(self, may_start: Sequence[float]) -> list[float]:
        """When each call ends if nothing costs anything: from one moment at which something may start to the next."""
        ends: dict[int, float] = {}
        now = 0.0
        while len(ends) < len(self.jobs):
            busy = {number for number, end in ends.items() if end > now}
            taken: set[str | None] = set()
            for number, job in enumerate(self.jobs):
                if number in ends and number not in busy:
                    continue
                free = len(busy) < self.places and job.in_lane not in taken
                if number not in ends and may_start[number] <= now and free:
                    ends[number] = now + job.takes
                    busy.add(number)
                if job.effect == "write":
                    taken.add(job.in_lane)
            now = min((*(ends[number] for number in busy), *(at for at in may_start if at > now)), default=now)
        return [ends[number] for number in range(len(self.jobs))]

    def ideal(self) -> float:
        """The turn if nothing costs anything: the longest path through it."""
        return max(self.stream_ends(), *self.ends(self.may_start())) + SECOND_ROUND

    def after_the_stream(self) -> float:
        """The turn if no call starts, and nobody is asked, before the response has ended."""
        ended = self.stream_ends()
        return max(self.ends([ended + (job.person or 0.0) for job in self.jobs])) + SECOND_ROUND

    def gaps(self, step: int, deltas: int, over: float) -> Sequence[float] | None:
        """The waits before each delta of a step, the same in every run; None where they are all alike."""
        if not self.jitter or not deltas:
            return None
        chance = random.Random(f"{self.id} {step}")
        spread = [1 + chance.uniform(-self.jitter, self.jitter) for _ in range(deltas)]
        return [over * one / sum(spread) for one in spread]

    @property
    def limits(self) -> tuple[tuple[str, int], ...]:
        """What its server is told, where the default does not do."""
        told = [("parallel_calls", self.places)] if self.places != PLACES else []
        return (*told, *([("calls_per_round", len(self.jobs))] if len(self.jobs) > CALLS else []))


def reads(*takes: float, args: float) -> tuple[Job, ...]:
    return tuple(Job(one, args) for one in takes)


def writes(*lanes: str | None, takes: float, args: float) -> tuple[Job, ...]:
    return tuple(Job(takes, args, "write", lane) for lane in lanes)


TEN = (0.5, 0.8, 1.2, 1.5, 0.7, 2.0, 0.9, 1.1, 0.4, 0.6)

SCENARIOS = (
    Scenario("S1", reads(1.0, args=0.4)),
    Scenario("S2", reads(1.5, args=0.4), text_after=2.0),
    Scenario("S3", reads(1.0, 1.0, 1.0, 1.0, args=0.4)),
    Scenario("S4", reads(3.0, 0.2, 0.2, 0.2, 0.2, 0.2, args=0.5)),
    Scenario("S5", reads(0.2, 0.2, 0.2, 0.2, 0.2, 3.0, args=0.5)),
    Scenario("S6", (Job(1.5, 0.2), Job(0.3, 3.0, "write"))),
    Scenario("S7", reads(*TEN, args=0.3)),
    Scenario("S8", reads(*[0.005] * 8, args=0.25)),
    Scenario("S9", (Job(3.0, 0.05), Job(0.01, 2.3))),
)

FURTHER = (
    # Two places: those that wait for one start in call order, and waiting is not tool time.
    Scenario("C1", reads(*[0.5] * 6, args=0.1), places=2),
    Scenario("C2", reads(3.0, 0.2, 0.2, 0.2, 0.2, 0.2, args=0.5), places=2),
    # Effects one after the other in their lane, and two lanes side by side.
    Scenario("L1", writes(*[None] * 4, takes=0.5, args=0.2)),
    Scenario("L2", writes("a", "b", "a", "b", takes=0.5, args=0.2)),
    # A person takes two seconds: while the stream goes on, with an effect and without, and longer than the stream.
    Scenario("A1", (Job(0.5, 0.4, "write", person=2.0),), text_after=2.5),
    Scenario("A2", (Job(1.0, 0.4, person=2.0),), text_after=3.0),
    Scenario("A3", (Job(0.5, 0.4, "write", person=2.0),)),
    # A model that stutters.
    Scenario("J3", reads(1.0, 1.0, 1.0, 1.0, args=0.4), jitter=0.5),
    Scenario("J7", reads(*TEN, args=0.3), jitter=0.5),
    # A plain function that blocks its thread while the model talks.
    Scenario("B1", (Job(1.0, 0.4, blocks=True),), text_after=1.5),
    # A page of calls in one response.
    Scenario("page of 100", reads(*[0.3] * 100, args=0.02)),
)
