"""From a seed to all that is done, in its order. Pure: the same seed and number of turns give the same plan, whatever
came of it the last time. When exactly things meet is up to the machine."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from legato.testing.script import Wire

ProviderFault: TypeAlias = Literal[
    "none", "cut", "reset", "stall", "garbage", "slow", "overloaded", "refusal", "length"
]
TOOLS: Final = ("look", "put", "change", "change_early", "change_apart", "settle", "change_if_allowed", "pick")
"""``pick`` is the client's."""
LEASE_OVER: Final = 34.0
"""Seconds a server is stopped for when its turns are to be another's meanwhile: a lease is 30 s."""
LONG: Final = 200
"""Turns from which on a plan has the time for that."""


class PlannedCall(msgspec.Struct, frozen=True):
    tool: str
    what: str
    ms: int


class PlannedRound(msgspec.Struct, frozen=True, kw_only=True):
    """``fault`` comes when the round is asked first, and not again. ``pace`` is deltas a second, 0 at once."""

    words: int
    pace: float
    calls: tuple[PlannedCall, ...]
    fault: ProviderFault


class PlannedReader(msgspec.Struct, frozen=True, kw_only=True):
    """``drops``: after how many bytes it is cut off, each time it has come back. ``late``: seconds before it comes."""

    late: float
    each: bool
    drops: tuple[int, ...]


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Post turn ``turn`` to a chat. A person needs ``thinks`` seconds for each answer, and says ``no`` or not."""

    turn: int
    chat: int
    wire: Wire
    rounds: tuple[PlannedRound, ...]
    readers: tuple[PlannedReader, ...]
    thinks: float
    no: bool


class Cancel(msgspec.Struct, frozen=True, tag=True):
    turn: int


class Kill(msgspec.Struct, frozen=True, tag=True):
    """``kill -9`` after so many seconds; then it is started again on the same file."""

    after: float


class Freeze(msgspec.Struct, frozen=True, tag=True):
    """SIGSTOP, and SIGCONT so many seconds later."""

    seconds: float


class Lock(msgspec.Struct, frozen=True, tag=True):
    """Somebody else holds the file's write lock."""

    seconds: float


class Full(msgspec.Struct, frozen=True, tag=True):
    """The server can write to no file."""

    seconds: float


class Restart(msgspec.Struct, frozen=True, tag=True):
    """SIGTERM, and another is started once it has ended."""


class Twin(msgspec.Struct, frozen=True, tag=True):
    """A second server on the same file from now on; it is killed after so many further steps."""

    steps: int


class Pause(msgspec.Struct, frozen=True, tag=True):
    seconds: float


Step: TypeAlias = Ask | Cancel | Kill | Freeze | Lock | Full | Restart | Twin | Pause


def make_plan(seed: int, turns: int) -> tuple[Step, ...]:
    """With at least one fault of each kind, from a dozen turns on."""
    chance = random.Random(seed)  # noqa: S311  (nobody is to be kept from guessing)
    steps: list[Step] = []
    for turn in range(1, turns + 1):
        steps.append(_ask(turn, chance))
        if chance.random() < 0.1:
            steps.append(Cancel(chance.randint(max(1, turn - 3), turn)))
        if chance.random() < 0.3:
            steps.append(Pause(round(chance.uniform(0, 0.3), 3)))
    faults = [*_faults(turns // 10, chance)]
    chance.shuffle(faults)
    places = sorted(chance.sample(range(2, len(steps)), min(len(faults), max(len(steps) - 2, 0))), reverse=True)
    for place, fault in zip(places, faults, strict=False):
        steps.insert(place, fault)
    if turns >= LONG:
        # Right behind a few turns, so that the one that is stopped owns some.
        middle = len(steps) // 2
        asked = [place for place in range(middle, len(steps)) if isinstance(steps[place], Ask)]
        steps.insert(asked[5] + 1, Freeze(LEASE_OVER))
        steps.insert(asked[0], Twin(40))
    return tuple(steps)


def _faults(count: int, chance: random.Random) -> Iterator[Step]:
    """``count`` kills, and of the others as many together, each at least once."""
    yield from (Kill(round(chance.uniform(0, 0.5), 3)) for _ in range(max(count, 2)))
    for number in range(max(count, 5)):
        match number % 5:
            case 0:
                yield Freeze(round(chance.uniform(0.2, 1.5), 3))
            case 1:
                yield Lock(round(chance.uniform(0.2, 2.0), 3))
            case 2:
                yield Full(round(chance.uniform(0.2, 1.5), 3))
            case 3:
                yield Twin(chance.randint(3, 12))
            case _:
                yield Restart()


def _ask(turn: int, chance: random.Random) -> Ask:
    rounds = tuple(_round(turn, number, chance) for number in range(chance.randint(1, 3)))
    readers = tuple(_reader(chance) for _ in range(chance.randint(1, 3)))
    wire: Wire = chance.choice(get_args(Wire))
    return Ask(
        turn=turn,
        chat=turn if chance.random() < 0.7 else chance.randint(max(1, turn - 10), turn),
        wire=wire,
        rounds=rounds,
        readers=readers,
        thinks=round(chance.uniform(0, 2), 3),
        no=chance.random() < 0.3,
    )


def _round(turn: int, number: int, chance: random.Random) -> PlannedRound:
    names = chance.choices(TOOLS, k=chance.randint(0, 4), weights=(4, 3, 3, 2, 2, 2, 1, 1))
    calls = (
        PlannedCall(name, f"t{turn}-r{number}-c{at}", chance.choice((0, 10, 100))) for at, name in enumerate(names)
    )
    faults: Sequence[ProviderFault] = get_args(ProviderFault)
    return PlannedRound(
        words=chance.randint(1, 40),
        pace=chance.choice((0, 50, 100, 500)),
        calls=tuple(calls),
        fault=chance.choice(faults[1:]) if chance.random() < 0.25 else "none",
    )


def _reader(chance: random.Random) -> PlannedReader:
    drops = tuple(chance.randint(0, 4000) for _ in range(chance.randint(0, 4)))
    late = 0.0 if chance.random() < 0.6 else round(chance.uniform(0, 3), 3)
    return PlannedReader(late=late, each=chance.random() < 0.5, drops=drops)
