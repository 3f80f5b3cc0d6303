"""The scenarios of docs/performance.md: which tools a model calls and how long all takes. Pure; times are seconds.

Model: first token after ``FIRST_TOKEN``, ``TEXT`` of text, the calls one after the other, ``text_after``; a second
round of ``SECOND_ROUND``. A ``read`` may start when its call is sealed, a ``write`` when the response has ended, one
at a time.
"""

from __future__ import annotations

from typing import Literal

import msgspec

FIRST_TOKEN = 0.3
TEXT = 0.3
SECOND_ROUND = 0.4


class Job(msgspec.Struct, frozen=True):
    """One call: its arguments take ``args`` to stream, the tool takes ``takes``."""

    takes: float
    args: float
    effect: Literal["read", "write"] = "read"


class Scenario(msgspec.Struct, frozen=True):
    id: str
    jobs: tuple[Job, ...]
    text_after: float = 0.05

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

    def ideal(self) -> float:
        """The turn if nothing costs anything: the longest path through it."""
        ends = self.stream_ends()
        lane = ends  # when the one lane of calls with effects is free
        last = ends
        for job, sealed in zip(self.jobs, self.sealed(), strict=True):
            if job.effect == "write":
                lane += job.takes
                last = max(last, lane)
            else:
                last = max(last, sealed + job.takes)
        return last + SECOND_ROUND

    def after_the_stream(self) -> float:
        """The turn if all tools start, together, when the response has ended."""
        return self.stream_ends() + max(job.takes for job in self.jobs) + SECOND_ROUND


def reads(*takes: float, args: float) -> tuple[Job, ...]:
    return tuple(Job(one, args) for one in takes)


SCENARIOS = (
    Scenario("S1", reads(1.0, args=0.4)),
    Scenario("S2", reads(1.5, args=0.4), text_after=2.0),
    Scenario("S3", reads(1.0, 1.0, 1.0, 1.0, args=0.4)),
    Scenario("S4", reads(3.0, 0.2, 0.2, 0.2, 0.2, 0.2, args=0.5)),
    Scenario("S5", reads(0.2, 0.2, 0.2, 0.2, 0.2, 3.0, args=0.5)),
    Scenario("S6", (Job(1.5, 0.2), Job(0.3, 3.0, "write"))),
    Scenario("S7", reads(0.5, 0.8, 1.2, 1.5, 0.7, 2.0, 0.9, 1.1, 0.4, 0.6, args=0.3)),
    Scenario("S8", reads(*[0.005] * 8, args=0.25)),
    Scenario("S9", (Job(3.0, 0.05), Job(0.01, 2.3))),
)
