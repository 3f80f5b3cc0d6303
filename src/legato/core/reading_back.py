"""A stored log read back: every line is an event, as it was said, in its place, and says what can follow there.

What is folded from a log that is broken proves nothing of the rows beside it; ``whole`` says that it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from legato.core import events as e
from legato.core.blocks import ToolUseBlock
from legato.core.fold import Turn
from legato.core.records import LogSegment
from legato.core.text import measure


class LogReader:
    """``complaints`` are places and what is wrong there. ``waited`` has every call, and for what, that was ever said to
    wait, those included that a rewind took back."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.events = 0
        self.last_seq = 0
        self.complaints: list[tuple[str, str]] = []
        self.waited: set[tuple[str, e.NeedKind]] = set()
        self.begun: e.TurnStart | None = None

    @property
    def whole(self) -> bool:
        return not self.complaints

    def take(self, segment: LogSegment) -> None:
        *lines, rest = segment.lines.split(b"\n")
        place = f"events {segment.first_seq} to {segment.last_seq}"
        if rest:
            self._complain(place, "the last line has no end")
        if segment.first_seq <= self.last_seq:
            self._complain(place, f"events up to {self.last_seq} are stored before")
        before = self.events
        for line in lines:
            self._take_line(line, first=segment.first_seq if self.events == before else None)
        if self.last_seq != segment.last_seq:
            self._complain(place, f"the last event is {self.last_seq}")

    def _take_line(self, line: bytes, *, first: int | None) -> None:
        self.events += 1
        try:
            event = e.decode(line)
            said = e.encode(event)
        except (ValueError, OverflowError, RecursionError) as error:
            self.last_seq += 1
            self._complain(f"event {self.last_seq}", f"is no event: {error}")
            return
        place = f"event {event.seq}"
        if said != line:
            self._complain(place, "its bytes are not those of an event as it is said")
        if first is not None and event.seq != first:
            self._complain(place, f"is stored as event {first}")
        misnumbered = _misnumbered(event, self.last_seq)
        self.last_seq = event.seq
        if misnumbered is not None:
            self._complain(place, misnumbered)
        elif self.whole:
            self._take_event(event, place)

    def _take_event(self, event: e.Event, place: str) -> None:
        wrong = self._out_of_place(event) or _CHECKS[type(event)](self.turn, event)
        if wrong is not None:
            self._complain(place, wrong)
            return
        if isinstance(event, e.TurnStart):
            self.begun = event
        if isinstance(event, e.CallWaiting):
            self.waited.add((event.call_id, event.kind))
        self.turn.apply(event)

    def _out_of_place(self, event: e.Event) -> str | None:
        if self.turn.ended:
            return "comes after turn_end"
        if isinstance(event, e.TurnStart):
            return None if self.begun is None else "is a second turn_start"
        if self.begun is None and not isinstance(event, e.Rewind):
            return "comes before turn_start"
        return None

    def _complain(self, place: str, said: str) -> None:
        self.complaints.append((place, said))


def _misnumbered(event: e.Event, last: int) -> str | None:
    seq = event.seq
    epoch, number = divmod(seq - 1, e.EPOCH_SIZE)
    if seq <= last:
        return f"comes after event {last}"
    if number == 0 and epoch > 0:
        return None if isinstance(event, e.Rewind) else "an owner's first event must be a rewind"
    if isinstance(event, e.Rewind):
        return "is a rewind, and not its owner's first event"
    if seq != last + 1:
        first = max(last, epoch * e.EPOCH_SIZE) + 1
        return f"the events from {first} to {seq - 1} before it are missing"
    return None


def _anything(_: Turn, __: e.Event) -> str | None:
    return None


def _round_start(turn: Turn, event: e.RoundStart) -> str | None:
    known = any((each.round, each.attempt) == (event.round, event.attempt) for each in turn.rounds)
    return f"round {event.round}, attempt {event.attempt} has begun before" if known else None


def _round_stop(turn: Turn, event: e.RoundStop) -> str | None:
    for record in turn.rounds:
        if (record.round, record.attempt) == (event.round, event.attempt):
            return None if record.commitment is None else f"round {event.round}, attempt {event.attempt} is over"
    return f"round {event.round}, attempt {event.attempt} has not begun"


def _block_start(turn: Turn, event: e.BlockStart) -> str | None:
    return f"block {event.index} has begun before" if event.index in turn.starts else None


def _block_delta(turn: Turn, event: e.BlockDelta) -> str | None:
    if event.first_seq is not msgspec.UNSET:
        return f"is several deltas of block {event.index} in one"
    return None if event.index in turn.open else f"block {event.index} is not open"


def _block_stop(turn: Turn, event: e.BlockStop) -> str | None:
    block = turn.open.get(event.index)
    if block is None:
        return f"block {event.index} is not open"
    if event.state == "open":
        return f"leaves block {event.index} open"
    if block.start.block_type in ("image", "file"):
        return None
    length, sha256 = measure(block.text)
    if event.length != length:
        return f"says that block {event.index} has {event.length} bytes, its deltas have {length}"
    return None if event.sha256 == sha256 else f"block {event.index} has another hash than its deltas"


def _of_a_call(turn: Turn, event: e.ToolStart | e.CallWaiting) -> str | None:
    block = turn.closed.get(event.index)
    if not isinstance(block, ToolUseBlock) or block.state != "complete" or block.call_id != event.call_id:
        return f"block {event.index} is no sealed call {event.call_id}"
    return None


def _call_answered(turn: Turn, event: e.CallAnswered) -> str | None:
    return None if event.call_id in turn.waiting else f"call {event.call_id} does not wait"


def _turn_waiting(turn: Turn, _: e.TurnWaiting) -> str | None:
    return None if turn.waiting else "no call waits"


def _rewind(turn: Turn, event: e.Rewind) -> str | None:
    if event.to > turn.last_seq:
        return f"goes back to event {event.to}, the last one is {turn.last_seq}"
    there = {block.index: block for block in turn.blocks}
    for standing in event.blocks:
        block = there.get(standing.index)
        if block is None:
            return f"lets block {standing.index} stand, which is not there"
        if standing.length > (has := len(block.text.encode())):
            return f"lets {standing.length} bytes of block {standing.index} stand, it has {has}"
    return None


def _turn_end(turn: Turn, _: e.TurnEnd) -> str | None:
    if turn.open:
        return f"leaves block {min(turn.open)} open"
    running = [record.round for record in turn.rounds if record.commitment is None]
    return f"leaves round {running[0]} open" if running else None


# The value's parameter is the key's type, as in the fold's own table: no type can say so of a dict.
_CHECKS: dict[type[e.Event], Callable[[Turn, Any], str | None]] = {
    e.TurnStart: _anything,
    e.RoundStart: _round_start,
    e.RoundStop: _round_stop,
    e.BlockStart: _block_start,
    e.BlockDelta: _block_delta,
    e.BlockStop: _block_stop,
    e.ToolStart: _of_a_call,
    e.CallWaiting: _of_a_call,
    e.CallAnswered: _call_answered,
    e.TurnWaiting: _turn_waiting,
    e.Steer: _anything,
    e.Notice: _anything,
    e.Rewind: _rewind,
    e.TurnEnd: _turn_end,
}
