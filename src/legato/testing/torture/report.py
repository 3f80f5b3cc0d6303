"""What is said of a torture: what was done, what held, and how to have again what did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from legato.testing.torture.checks import PROMISES, Broken
from legato.testing.torture.readers import Gap


class Window(NamedTuple):
    """When a fault was there, in monotonic seconds; of one turn, or of all."""

    fault: str
    since: float
    until: float
    turn_id: str | None = None


class Report(msgspec.Struct, kw_only=True):
    """``longest`` is by fault the longest time in seconds that a reader heard nothing while the turn had something to
    do; ``outcomes`` is how turns ended and what became of calls."""

    seed: int
    turns: int
    steps: int
    seconds: float = 0.0
    faults: dict[str, int] = {}
    longest: dict[str, float] = {}
    accepted: int = 0
    ended: int = 0
    events: int = 0
    readers: int = 0
    came: int = 0
    effects: int = 0
    cancels: int = 0
    slowest_cancel: float = 0.0
    outcomes: dict[str, int] = {}
    broken: list[Broken] = []


def longest(windows: Iterable[Window], gaps: Mapping[str, Iterable[Gap]]) -> dict[str, float]:
    """By fault, over the gaps of each turn's readers that a window of it touches."""
    found: dict[str, float] = {}
    for window in windows:
        asked = [gaps.get(window.turn_id, ())] if window.turn_id is not None else gaps.values()
        for gap in (gap for one in asked for gap in one):
            if gap.since < window.until and gap.until > window.since:
                found[window.fault] = max(found.get(window.fault, 0.0), gap.until - gap.since)
        found.setdefault(window.fault, 0.0)
    return found


def lines(report: Report) -> Iterator[str]:
    yield (
        f"{report.turns:,} turns in {report.steps:,} steps of seed {report.seed}, {report.seconds:.0f} s: "
        f"{report.accepted:,} accepted, {report.ended:,} ended"
    )
    yield (
        f"{report.readers:,} readers came {report.came:,} times and heard {report.events:,} events; "
        f"{report.effects:,} effects; {report.cancels:,} cancels, the slowest answered in {report.slowest_cancel:.2f} s"
    )
    yield "ended: " + ", ".join(f"{name} {count:,}" for name, count in sorted(report.outcomes.items()))
    yield f"{'fault':<12} {'times':>6} {'longest silence':>16}"
    for fault, times in sorted(report.faults.items()):
        yield f"{fault:<12} {times:>6,} {report.longest.get(fault, 0.0):>14.1f} s"
    counted = Counter(one.promise for one in report.broken)
    for promise, said in PROMISES.items():
        held = "held" if not counted[promise] else f"BROKEN {counted[promise]:,} times"
        yield f"{promise:<9} {held:<8} {said}"
    for one in report.broken:
        where = "" if not one.step else f"step {one.step}, "
        yield f"seed {report.seed}, {where}turn {one.turn_id or '-'}: {one.promise}: {one.found}"
    if report.broken:
        yield f"again: legato torture --turns {report.turns} --seed {report.seed}"
