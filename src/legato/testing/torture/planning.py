"""From a seed to all that is done, in its order. Pure: the same seed and number of turns give the same plan, whatever
came of it the last time. When exactly things meet is up to the machine."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Final, get_args

import msgspec

from legato.core.inputs import CancelMode
from legato.core.posts import OnBusy
from legato.testing.script import Wire
from legato.testing.torture.plan import (
    TOOLS,
    Again,
    Ask,
    Cancel,
    Fault,
    Freeze,
    Full,
    Jump,
    Kill,
    Lock,
    Pause,
    PlannedCall,
    PlannedReader,
    PlannedRound,
    ProviderFault,
    Restart,
    Says,
    Slow,
    Spool,
    Steer,
    Step,
    Twin,
)

LEASE_OVER: Final = 34.0
"""Seconds a server is stopped for when its turns are to be another's meanwhile: a lease is 30 s."""
LONG: Final = 200
"""Turns from which on a plan has the time for that, and for faults that last."""
HASTE: Final = 0.3
"""Of the seconds that things last, in a plan that is not long."""
FAULTS: Final[tuple[tuple[Callable[[random.Random, float], Fault], int], ...]] = (
    (lambda chance, share: Slow(_seconds(chance, 2, 4, share), round(chance.uniform(0.2, 0.5), 3)), 2),
    (lambda _chance, _share: Spool(), 1),
    (lambda chance, share: Lock(_seconds(chance, 0.2, 1.8, share)), 2),
    (lambda _chance, _share: Restart(), 3),
    (lambda chance, share: Full(_seconds(chance, 0.2, 1.2, share)), 2),
    (lambda chance, _share: Twin(chance.randint(3, 12)), 3),
    (lambda chance, _share: Jump(round(chance.choice((-7200, -40, 40, 7200)) * chance.uniform(0.5, 1), 3)), 1),
    (lambda chance, share: Freeze(_seconds(chance, 0.2, 1.5, share)), 2),
)
"""Beside kills, each with how often among sixteen. Every third one, with a kill as the last, is for the same
short plan, which has no time to start more than three servers."""


def make_plan(seed: int, turns: int) -> tuple[Step, ...]:
    chance = random.Random(seed)  # noqa: S311  (nobody is to be kept from guessing)
    share = 1.0 if turns >= LONG else HASTE
    broken: tuple[ProviderFault, ...] = get_args(ProviderFault)[1:]
    breaks = itertools.cycle((*broken[3 * seed % len(broken) :], *broken[: 3 * seed % len(broken)]))
    steps: list[Step] = []
    for turn in range(1, turns + 1):
        steps.append(_ask(turn, breaks, chance, share))
        if chance.random() < 0.12:
            steps.append(Cancel(chance.randint(max(1, turn - 2), turn), chance.choice(get_args(CancelMode))))
        if chance.random() < 0.2:
            steps.append(Steer(chance.randint(max(1, turn - 2), turn), turn))
        if chance.random() < 0.3:
            steps.append(Pause(_seconds(chance, 0, 0.3, share)))
    faults = _faults(seed, turns // 10, chance, share)
    chance.shuffle(faults)
    places = sorted(chance.sample(range(2, len(steps)), min(len(faults), max(len(steps) - 2, 0))), reverse=True)
    for place, fault in zip(places, faults, strict=False):
        if isinstance(fault, Spool):
            spoken = next(at for at in range(place - 1, -1, -1) if isinstance(steps[at], Ask))
            steps[spoken : spoken + 1] = [_talkative(steps[spoken]), fault]
        else:
            steps.insert(place, fault)
    if turns >= LONG:
        # Right behind a few turns, so that the one that is stopped owns some.
        middle = len(steps) // 2
        asked = [place for place in range(middle, len(steps)) if isinstance(steps[place], Ask)]
        steps.insert(asked[5] + 1, Freeze(LEASE_OVER))
        steps.insert(asked[0], Twin(40))
    return tuple(steps)


def _faults(seed: int, count: int, chance: random.Random, share: float) -> list[Fault]:
    """``count`` kills, and of the others as many together, at least one of each; where there is time for one kill only,
    a third of them all."""
    others = [make for make, _ in FAULTS]
    if count > 1:
        often = itertools.cycle([make for make, times in FAULTS for _ in range(times)])
        kinds = [*others, *itertools.islice(often, max(count - len(others), 0)), *[_kill] * count]
    else:
        kinds = [*others, _kill][seed % 3 :: 3]
    return [make(chance, share) for make in kinds]


def _kill(chance: random.Random, share: float) -> Fault:
    return Kill(_seconds(chance, 0, 0.5, share))


def _seconds(chance: random.Random, least: float, most: float, share: float) -> float:
    return round(chance.uniform(least, most) * share, 3)


def _ask(turn: int, breaks: Iterator[ProviderFault], chance: random.Random, share: float) -> Ask:
    rounds = tuple(_round(turn, number, breaks, chance, share) for number in range(chance.randint(1, 3)))
    readers = tuple(_reader(chance, share) for _ in range(chance.randint(1, 3)))
    wire: Wire = chance.choice(get_args(Wire))
    says: Says = chance.choices(get_args(Says), weights=(4, 3, 3))[0]
    again: Again = chance.choices(get_args(Again), weights=(6, 2, 2))[0]
    on_busy: OnBusy = chance.choices(get_args(OnBusy), weights=(1, 5, 2, 1, 1))[0]
    return Ask(
        turn=turn,
        chat=turn if chance.random() < 0.6 else chance.randint(max(1, turn - 4), turn),
        wire=wire,
        rounds=rounds,
        readers=readers,
        thinks=_seconds(chance, 0, 2, share),
        says=says,
        again=again,
        on_busy=on_busy,
        unwanted=chance.random() < 0.04,
    )


def _talkative(step: Step) -> Step:
    """It says something for two seconds, so that there is something to spool."""
    if not isinstance(step, Ask):
        return step
    talks = PlannedRound(words=50, pace=50, calls=(PlannedCall("look", f"t{step.turn}-r0-c0", 0),), fault="none")
    more = msgspec.structs.replace(talks, calls=())
    return msgspec.structs.replace(step, chat=step.turn, rounds=(talks, more), unwanted=False)


def _round(
    turn: int, number: int, breaks: Iterator[ProviderFault], chance: random.Random, share: float
) -> PlannedRound:
    names = chance.choices(TOOLS, k=chance.randint(0, 4), weights=(4, 3, 3, 2, 2, 2, 2, 1))
    calls = (
        PlannedCall(name, f"t{turn}-r{number}-c{at}", chance.choice((0, 10, 100))) for at, name in enumerate(names)
    )
    return PlannedRound(
        words=chance.randint(1, 40),
        pace=chance.choice((0, 50, 100, 500)),
        calls=tuple(calls),
        fault=next(breaks) if chance.random() < (0.25 if share == 1 else 0.4) else "none",
    )


def _reader(chance: random.Random, share: float) -> PlannedReader:
    drops = tuple(chance.randint(0, 4000) for _ in range(chance.randint(0, 4)))
    late = 0.0 if chance.random() < 0.6 else _seconds(chance, 0, 3, share)
    return PlannedReader(late=late, each=chance.random() < 0.5, drops=drops)
