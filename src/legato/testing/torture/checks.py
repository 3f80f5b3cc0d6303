"""What was promised, each promise as a check from outside: what its readers, its effects and its answers say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from legato.core.blocks import Json, ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn
from legato.testing.torture import check_calls, check_people, check_readers
from legato.testing.torture.seen import Seen
from legato.testing.torture.told import Told, World
from legato.testing.torture.tools import Effect

PROMISES: Final = {
    "P2": "tools run on the arguments that were sealed or approved, and unasked only where nobody need be asked",
    "P3": "each whole call has one result",
    "P4": "what was accepted is there",
    "P7": "a write takes effect at most once, an idempotent one always under its key; no result lies about it",
    "P8": "every turn ends by itself",
    "P9": "every reader folds the same, and so do the rows; nothing is missing, twice or after the end",
    "P11": "a cancel is taken at any time, and stops the turn",
    "steers": "what was said into a turn is delivered once or given back; what was queued is asked once",
    "answers": "an answer may be repeated, and counts once",
    "hazard 1": "the vendor takes every request, and every chat can be gone on with",
    "hazard 14": "nothing is said to run once it has ended",
    "hazard 22": "a server that is told to stop ends in order, within its drain and 5 s",
    "verify": "legato verify finds nothing",
}
TURNS_LOST: Final = ("P4", "P8", "steers")
EVENTS_LOST: Final = ("P9", "verify")
EFFECTS_DOUBLED: Final = ("P7",)
Check: TypeAlias = Callable[[Seen], Iterator[str]]


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A promise that did not hold; ``step`` counts from 1 in the plan, 0 where it is no step's."""

    promise: str
    step: int
    turn_id: str | None
    found: str


def check_turn(told: Told, effects: Sequence[Effect], world: World) -> Iterator[Broken]:
    """Of a turn that was accepted; ``effects`` are its own."""
    for promise, found in _found(told, effects, world):
        yield Broken(promise=promise, step=told.step, turn_id=told.turn_id, found=found)


def _found(told: Told, effects: Sequence[Effect], world: World) -> Iterator[tuple[str, str]]:
    yield from (("P9", found) for found in check_readers.out_of_order(told))
    yield from (("answers", found) for found in told.misheard)
    turn = told.turn
    if turn is None:
        yield "P8", "no reader has seen its end"
    elif told.rows is None:
        yield "P4", "the server does not know it"
    else:
        seen = Seen(told=told, turn=turn, effects=effects, world=world)
        for promise, check in CHECKS:
            yield from ((promise, found) for found in check(seen))


def _unanswered(seen: Seen) -> Iterator[str]:
    blocks = seen.turn.blocks
    whole = Counter(block.call_id for block in blocks if isinstance(block, ToolUseBlock) and block.state == "complete")
    results = Counter(block.call_id for block in blocks if isinstance(block, ToolResultBlock))
    for call_id in whole.keys() | results.keys():
        if (whole[call_id], results[call_id]) != (1, 1):
            yield f"{call_id} is {whole[call_id]} whole calls and has {results[call_id]} results"
    for block in blocks:
        if isinstance(block, ToolResultBlock) and block.outcome is None:
            yield f"the result of {block.call_id} has no outcome"


def _still_runs(seen: Seen) -> Iterator[str]:
    views = [view for reader in seen.told.readers for view in reader.views]
    for view in (seen.told.rows, *(view for view in views if view["last_seq"] == seen.turn.last_seq)):
        if view["ended_at"] is None or view["status"] not in ("complete", "cancelled", "error"):
            yield f"it has ended, and is said to be {view['status']}"


CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("P8", check_readers.left_waiting),
    ("P9", check_readers.otherwise),
    ("P9", check_readers.other_views),
    ("P9", check_readers.other_bytes),
    ("P3", _unanswered),
    ("hazard 14", _still_runs),
    ("P2", check_calls.other_arguments),
    ("P2", check_calls.unasked),
    ("P2", check_calls.never_started),
    ("P7", check_calls.done_twice),
    ("P7", check_calls.lies),
    ("P11", check_people.not_cancelled),
    ("P11", check_people.started_after_a_cancel),
    ("steers", check_people.steers_lost),
)


def check_keys(effects: Sequence[Effect]) -> Iterator[Broken]:
    """Over all turns: a key of a write takes effect once."""
    done = Counter(
        (line.key, line.turn_id) for line in effects if line.deed == "effect" and line.tool in check_calls.WRITES
    )
    for (key, turn_id), times in done.items():
        if times > 1:
            yield Broken(promise="P7", step=0, turn_id=turn_id, found=f"key {key} took effect {times} times")


def check_heard(told: Told, turn: Turn | None, said: str, heard: set[str]) -> Iterator[Broken]:
    """Who waited in a queue is asked at last: a turn cannot be complete of which no vendor has heard."""
    if turn is not None and turn.status == "complete" and said not in heard:
        yield Broken(promise="steers", step=told.step, turn_id=told.turn_id, found="it is complete and was never asked")


def check_chat(chat: Json) -> Iterator[Broken]:
    """Once all its turns have ended."""
    if chat["active_turn_id"] is not None:
        found = f"chat {chat['id']} is said to be busy"
        yield Broken(promise="hazard 14", step=0, turn_id=chat["active_turn_id"], found=found)


def check_verified(lines: bytes) -> Iterator[Broken]:
    """From what `legato verify --json` printed."""
    for line in lines.splitlines():
        found: Json = msgspec.json.decode(line)
        if found.get("type") != "summary":
            said = re.sub(r"\s+", " ", f"{found['promise']} at {found['place']}: {found['message']}")
            yield Broken(promise="verify", step=0, turn_id=found["turn_id"], found=said)
