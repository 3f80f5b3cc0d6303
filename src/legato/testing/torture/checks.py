"""What was promised, each promise as a check from outside: what its readers, its effects and its answers say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from legato.core.blocks import Json, ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn
from legato.testing.torture.readers import Reader
from legato.testing.torture.tools import Effect

PROMISES: Final = {
    "P2": "tools run on the arguments that were sealed, and unasked only where nobody need be asked",
    "P3": "each whole call has one result",
    "P4": "what was accepted is there",
    "P7": "a write takes effect at most once, an idempotent one always under its key; no result lies about it",
    "P8": "every turn ends by itself",
    "P9": "every reader folds the same, and so do the rows; nothing is missing, twice or after the end",
    "P11": "a cancel is taken at any time",
    "hazard 1": "the vendor takes every request, and every chat can be gone on with",
    "verify": "legato verify finds nothing",
}
WRITES: Final = ("change", "change_early", "change_apart", "settle", "change_if_allowed")


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A promise that did not hold; ``step`` counts from 1 in the plan, 0 where it is no step's."""

    promise: str
    step: int
    turn_id: str | None
    found: str


class Told(msgspec.Struct, kw_only=True):
    """All that was seen of one turn. ``late`` came after its end, ``rows`` is what GET gave."""

    step: int
    turn_id: str
    readers: list[Reader] = []
    late: list[Reader] = []
    rows: Json = None
    cancels: list[int] = []
    denied: set[str] = set()

    @property
    def turn(self) -> Turn | None:
        return next((reader.turn for reader in (*self.readers, *self.late) if reader.turn.ended), None)


def check_turn(told: Told, effects: Sequence[Effect]) -> Iterator[Broken]:
    """Of a turn that was accepted; ``effects`` are its own."""

    def broken(promise: str, found: str) -> Broken:
        return Broken(promise=promise, step=told.step, turn_id=told.turn_id, found=found)

    for reader in (*told.readers, *told.late):
        for wrong in reader.wrong:
            yield broken("P9", wrong)
    turn = told.turn
    if turn is None:
        yield broken("P8", "no reader has seen its end")
        return
    if told.rows is None:
        yield broken("P4", "the server does not know it")
        return
    for number, reader in enumerate((*told.readers, *told.late)):
        if not reader.turn.ended:
            yield broken("P8" if reader in told.readers else "P9", f"reader {number} has not seen its end")
        elif (differs := _differ(_plain(reader.turn), told.rows)) is not None:
            yield broken("P9", f"reader {number} and the rows differ in {differs}")
    yield from (broken("P3", found) for found in _unanswered(turn))
    yield from (broken("P2", found) for found in _on_other_arguments(turn, effects, told.denied))
    yield from (broken("P7", found) for found in _done_twice(turn, effects))


def _plain(turn: Turn) -> Json:
    said = {
        "blocks": turn.blocks,
        "rounds": turn.rounds,
        "status": turn.status,
        "stop_reason": turn.stop_reason,
        "last_seq": turn.last_seq,
    }
    return msgspec.json.decode(msgspec.json.encode(said))


def _differ(one: Json, rows: Json) -> str | None:
    for field, value in one.items():
        if value != rows[field]:
            if not isinstance(value, list):
                return f"{field}: {value!r}, {rows[field]!r}"
            at = next((at for at, (a, b) in enumerate(zip(value, rows[field], strict=False)) if a != b), None)
            return f"{field}, number {at}" if at is not None else f"{field}: {len(value)}, {len(rows[field])}"
    return None


def _unanswered(turn: Turn) -> Iterator[str]:
    whole = Counter(
        block.call_id for block in turn.blocks if isinstance(block, ToolUseBlock) and block.state == "complete"
    )
    results = Counter(block.call_id for block in turn.blocks if isinstance(block, ToolResultBlock))
    for call_id in whole.keys() | results.keys():
        if (whole[call_id], results[call_id]) != (1, 1):
            yield f"{call_id} is {whole[call_id]} whole calls and has {results[call_id]} results"
    for block in turn.blocks:
        if isinstance(block, ToolResultBlock) and block.outcome is None:
            yield f"the result of {block.call_id} has no outcome"


def _on_other_arguments(turn: Turn, effects: Sequence[Effect], denied: set[str]) -> Iterator[str]:
    """A call that was lost with its response may have had the same id; only a read can have run by then, and an early
    write is never lost."""
    calls = {block.call_id: block for block in turn.blocks if isinstance(block, ToolUseBlock)}
    for line in effects:
        call = calls.get(line.call_id)
        if line.call_id in denied:
            yield f"{line.tool} of {line.call_id} ran though it was denied"
        if line.tool == "look":
            continue
        if call is None or call.state != "complete":
            yield f"{line.tool} ran for {line.call_id}, which is no whole call of the turn"
        elif call.tool_name != line.tool or call.input != {"what": line.what, "ms": line.ms}:
            yield f"{line.tool} of {line.call_id} ran on what={line.what} ms={line.ms}, sealed was {call.text}"


def _done_twice(turn: Turn, effects: Sequence[Effect]) -> Iterator[str]:
    results = {block.call_id: block for block in turn.blocks if isinstance(block, ToolResultBlock)}
    begun = Counter(line.call_id for line in effects if line.deed == "begun" and line.tool in WRITES)
    done = Counter(line.call_id for line in effects if line.deed == "effect" and line.tool in WRITES)
    for call_id, times in begun.items():
        if times > 1:
            yield f"{call_id} was begun {times} times"
    for call_id in {line.call_id for line in effects if line.tool != "look"}:
        keys = {line.key for line in effects if line.call_id == call_id}
        if len(keys) > 1:
            yield f"{call_id} ran under {len(keys)} keys"
    for call_id, result in results.items():
        if result.tool_name not in WRITES:
            continue
        # Told to stop, or out of time, it may have taken effect: the result says only that nobody waited for it.
        if result.outcome == "ok" and done[call_id] != 1:
            yield f"{call_id} is ok and took effect {done[call_id]} times"
        if result.outcome == "denied" and begun[call_id]:
            yield f"{call_id} is denied and was begun"
        if result.outcome == "error" and done[call_id]:
            yield f"{call_id} is an error and took effect"


def check_keys(effects: Sequence[Effect]) -> Iterator[Broken]:
    """Over all turns: a key of a write takes effect once."""
    done = Counter((line.key, line.turn_id) for line in effects if line.deed == "effect" and line.tool in WRITES)
    for (key, turn_id), times in done.items():
        if times > 1:
            yield Broken(promise="P7", step=0, turn_id=turn_id, found=f"key {key} took effect {times} times")


def check_verified(lines: bytes) -> Iterator[Broken]:
    """From what `legato verify --json` printed."""
    for line in lines.splitlines():
        found: Json = msgspec.json.decode(line)
        if found.get("type") != "summary":
            said = re.sub(r"\s+", " ", f"{found['promise']} at {found['place']}: {found['message']}")
            yield Broken(promise="verify", step=0, turn_id=found["turn_id"], found=said)
