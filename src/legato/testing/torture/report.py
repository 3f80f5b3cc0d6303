"""What is said of a torture: what was done, what held, and how to have again what did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from legato.testing.torture.checks import EFFECTS_DOUBLED, EVENTS_LOST, PROMISES, TURNS_LOST, Broken
from legato.testing.torture.readers import Gap
from legato.testing.torture.told import Told, Window

NO_FAULT: Final = "(none)"
SEVERAL: Final = "(several)"
"""Of these nobody can say which it was."""


class Toll(msgspec.Struct, kw_only=True):
    """What was met under a fault, ``times`` it was there. ``longest`` is the longest time in seconds that a reader
    heard nothing while the turn had something to do."""

    times: int = 0
    turns_lost: int = 0
    events_lost: int = 0
    effects_doubled: int = 0
    longest: float = 0.0


class Report(msgspec.Struct, kw_only=True):
    """``refused`` met a busy chat, ``steered`` went into a turn that ran; all others were ``accepted``. ``outcomes`` is
    how turns ended."""

    seed: int
    turns: int
    steps: int
    seconds: float = 0.0
    tolls: dict[str, Toll] = {}
    accepted: int = 0
    refused: int = 0
    steered: int = 0
    ended: int = 0
    events: int = 0
    readers: int = 0
    came: int = 0
    views: int = 0
    effects: int = 0
    cancels: int = 0
    steers: int = 0
    answers: int = 0
    slowest_cancel: float = 0.0
    outcomes: dict[str, int] = {}
    broken: list[Broken] = []


def tolls(windows: Sequence[Window], told: Sequence[Told], broken: Iterable[Broken]) -> dict[str, Toll]:
    """By fault. What several faults touch counts for ``SEVERAL``, what none touches for ``NO_FAULT``. A silence that
    several touch counts for the first one too, as long as it was alone."""
    found = {fault: Toll(times=times) for fault, times in Counter(window.fault for window in windows).items()}
    for one in told:
        for gap in (gap for reader in one.readers for gap in reader.gaps):
            for fault, seconds in _shares(gap, _touching(windows, one.turn_id, gap.since, gap.until)):
                toll = found.setdefault(fault, Toll())
                toll.longest = max(toll.longest, seconds)
    lives = {one.turn_id: (one.posted, one.ended or one.posted) for one in told}
    for each in broken:
        faults = {window.fault for window in _touching(windows, each.turn_id, *lives.get(each.turn_id or "", (0, 0)))}
        toll = found.setdefault(faults.pop() if len(faults) == 1 else SEVERAL if faults else NO_FAULT, Toll())
        toll.turns_lost += each.promise in TURNS_LOST
        toll.events_lost += each.promise in EVENTS_LOST
        toll.effects_doubled += each.promise in EFFECTS_DOUBLED
    return found


def _touching(windows: Iterable[Window], turn_id: str | None, since: float, until: float) -> list[Window]:
    """The first one first."""
    there = (window for window in windows if window.since <= until and window.until >= since)
    return sorted((window for window in there if window.turn_id in (None, turn_id)), key=lambda window: window.since)


def _shares(gap: Gap, touching: Sequence[Window]) -> Iterator[tuple[str, float]]:
    whole = gap.until - gap.since
    if not touching:
        yield NO_FAULT, whole
        return
    first = touching[0]
    second = next((window for window in touching if window.fault != first.fault), None)
    if second is None:
        yield first.fault, whole
        return
    yield SEVERAL, whole
    if second.since > gap.since:
        yield first.fault, second.since - gap.since


def lines(report: Report) -> Iterator[str]:
    yield (
        f"{report.turns:,} turns in {report.steps:,} steps of seed {report.seed}, {report.seconds:.0f} s: "
        f"{report.accepted:,} accepted and {report.ended:,} ended, {report.steered:,} said into a turn that ran, "
        f"{report.refused:,} met a busy chat"
    )
    yield (
        f"{report.readers:,} readers came {report.came:,} times, heard {report.events:,} events and looked "
        f"{report.views:,} times at the turn; "
        f"{report.effects:,} effects; {report.answers:,} answers, {report.steers:,} steers, {report.cancels:,} "
        f"cancels, the slowest answered in {report.slowest_cancel:.2f} s"
    )
    yield "ended: " + ", ".join(f"{name} {count:,}" for name, count in sorted(report.outcomes.items()))
    yield from table(report.tolls)
    counted = Counter(one.promise for one in report.broken)
    for promise, said in PROMISES.items():
        held = "held" if not counted[promise] else f"BROKEN {counted[promise]:,} times"
        yield f"{promise:<9} {held:<8} {said}"
    for one in report.broken:
        where = "" if not one.step else f"step {one.step}, "
        yield f"seed {report.seed}, {where}turn {one.turn_id or '-'}: {one.promise}: {one.found}"
    if report.broken:
        yield f"again: legato torture --turns {report.turns} --seed {report.seed}"


def table(tolls: Mapping[str, Toll]) -> Iterator[str]:
    yield f"{'fault':<18} {'times':>6} {'turns lost':>11} {'events lost':>12} {'effects doubled':>16} {'silence':>9}"
    for fault, toll in sorted(tolls.items(), key=lambda one: (one[0].startswith("("), one[0])):
        yield (
            f"{fault:<18} {toll.times or '':>6} {toll.turns_lost:>11,} {toll.events_lost:>12,} "
            f"{toll.effects_doubled:>16,} {toll.longest:>7.1f} s"
        )
