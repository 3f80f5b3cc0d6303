"""One turn as ``MemoryStore`` keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from legato.core.blocks import Block, ToolResultBlock, ToolUseBlock
from legato.core.errors import NotFound
from legato.core.inputs import CancelMode
from legato.core.records import (
    Answer,
    Datum,
    Intent,
    KeptNeed,
    KeptSteer,
    LogSegment,
    Need,
    Reading,
    Rest,
    RoundRecord,
    Span,
    StoredTurn,
    TurnEnding,
    TurnRow,
    TurnWrite,
)
from legato.stores.answers import is_repeat
from legato.stores.segments import missing, order, without_hole

T = TypeVar("T")

ROW = msgspec.json.Decoder(TurnRow)
_block: msgspec.json.Decoder[Block] = msgspec.json.Decoder(Block)
_result = msgspec.json.Decoder(ToolResultBlock)
_round = msgspec.json.Decoder(RoundRecord)
_intent = msgspec.json.Decoder(Intent)
_reading = msgspec.json.Decoder(Reading)
_kept_need = msgspec.json.Decoder(KeptNeed)
_need = msgspec.json.Decoder(Need)
_steer = msgspec.json.Decoder(KeptSteer)
_answer = msgspec.json.Decoder(Answer)
_spans = msgspec.json.Decoder(tuple[Span, ...])
_ending = msgspec.json.Decoder(TurnEnding)


def again(decoder: msgspec.json.Decoder[T], value: T) -> T:
    return decoder.decode(msgspec.json.encode(value))


@dataclass
class Kept:
    """A turn as it is kept; blocks, rounds and spans with the seq up to which they are true."""

    row: TurnRow
    segments: dict[int, LogSegment] = field(default_factory=dict)
    blocks: dict[int, tuple[int, Block]] = field(default_factory=dict)
    rounds: dict[tuple[int, int], tuple[int, RoundRecord]] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)
    needs: dict[tuple[str, int], tuple[int, KeptNeed]] = field(default_factory=dict)
    steers: dict[str, tuple[int, KeptSteer]] = field(default_factory=dict)
    outputs: dict[str, dict[int, bytes]] = field(default_factory=dict)
    spans: tuple[int, tuple[Span, ...]] = (0, ())
    data: dict[int, Datum] = field(default_factory=dict)
    cancel_mode: CancelMode = "now"

    def copy(self) -> Kept:
        return replace(
            self,
            segments=dict(self.segments),
            blocks=dict(self.blocks),
            rounds=dict(self.rounds),
            intents=dict(self.intents),
            readings=dict(self.readings),
            needs=dict(self.needs),
            steers=dict(self.steers),
        )

    def take(self, one: TurnWrite) -> None:
        seq = order(one)
        if one.segment is not None:
            self._take_segment(one.segment)
        status = "running" if self.row.status == "recovering" else self.row.status
        self.row = msgspec.structs.replace(self.row, epoch=one.epoch, status=status)
        self._drop(one, seq)
        for block in one.blocks:
            if block.index not in self.blocks or self.blocks[block.index][0] <= seq:
                self.blocks[block.index] = (seq, again(_block, block))
        for record in one.rounds:
            key = (record.round, record.attempt)
            if key not in self.rounds or self.rounds[key][0] <= seq:
                self.rounds[key] = (seq, again(_round, record))
        for intent in one.intents:
            there = self.intents.get(intent.call_id)
            if there is None or there.idempotency_key == intent.idempotency_key:
                self.intents[intent.call_id] = again(_intent, intent)
        for reading in one.readings:
            self.readings.setdefault(reading.call_id, again(_reading, reading))
        for need in one.needs:
            self._take_need(need, seq)
        for place in one.taken:
            if place in self.needs:
                since, kept = self.needs[place]
                self.needs[place] = (since, msgspec.structs.replace(kept, taken=True))
        for steer in one.steers:
            if steer.steer_id not in self.steers or self.steers[steer.steer_id][0] <= seq:
                self.steers[steer.steer_id] = (seq, again(_steer, steer))
        if one.spans and self.spans[0] <= seq:
            self.spans = (seq, again(_spans, one.spans))

    def _drop(self, one: TurnWrite, seq: int) -> None:
        """What is older than the write: what it put itself, or a later one, stays when it comes again."""
        for index in one.dropped_blocks:
            if index in self.blocks and self.blocks[index][0] < seq:
                _, block = self.blocks.pop(index)
                if isinstance(block, ToolUseBlock):
                    self._drop_call(block.call_id)
        for key in one.dropped_rounds:
            if key in self.rounds and self.rounds[key][0] < seq:
                del self.rounds[key]

    def _drop_call(self, call_id: str) -> None:
        self.intents.pop(call_id, None)
        self.readings.pop(call_id, None)
        for place in [place for place in self.needs if place[0] == call_id]:
            del self.needs[place]

    def _take_need(self, need: Need, seq: int) -> None:
        place = (need.call_id, need.nr)
        since, kept = self.needs.get(place, (seq, KeptNeed(need=need)))
        if since <= seq:
            self.needs[place] = (seq, msgspec.structs.replace(kept, need=again(_need, need)))

    def _take_segment(self, segment: LogSegment) -> None:
        first, last = segment.first_seq, segment.last_seq
        overlapping = [
            (stored.first_seq, stored.last_seq)
            for stored in self._in_order()
            if stored.last_seq >= first and stored.first_seq <= last
        ]
        for one in missing(self.row.id, segment, overlapping):
            self.segments[one.first_seq] = one
        self.row = msgspec.structs.replace(self.row, last_seq=max(self.row.last_seq, last))

    def rest(self, rest: Rest) -> None:
        self.row = msgspec.structs.replace(
            self.row, status="waiting", owner=None, lease_until=None, wait_until=rest.wait_until
        )

    def said_needs(self) -> list[KeptNeed]:
        return [again(_kept_need, kept) for _, kept in self.needs.values()]

    def said_steers(self) -> list[KeptSteer]:
        return [steer for _, steer in self.steers.values()]

    def wakes(self, now: str) -> bool:
        if self.row.status != "waiting":
            return False
        over = self.row.wait_until is not None and self.row.wait_until <= now
        answered = any(kept.answer is not None and not kept.taken for _, kept in self.needs.values())
        return over or answered or self.row.cancel_requested

    def answer(self, answers: Sequence[Answer]) -> None:
        """On a copy: all of them or none."""
        for one in answers:
            places = [place for place in self.needs if place[0] == one.call_id and one.nr in (0, place[1])]
            if not places:
                said = f"turn {self.row.id} has no call {one.call_id} that waits"
                raise NotFound(said, code="unknown_call")
            since, meant = self.needs[max(places)]
            said_to_it = msgspec.structs.replace(again(_answer, one), nr=0)
            if not is_repeat(self.row.id, said_to_it, meant, ended=self.row.ended_at is not None):
                self.needs[max(places)] = (since, msgspec.structs.replace(meant, answer=said_to_it))

    def keep_output(self, call_id: str, offset: int, piece: bytes) -> None:
        """Another piece takes the place of what an earlier run of the call kept from there on."""
        pieces = self.outputs.setdefault(call_id, {})
        if pieces.get(offset) != piece:
            before = {first: one[: offset - first] for first, one in pieces.items() if first < offset}
            self.outputs[call_id] = before | {offset: piece}

    def output(self, call_id: str, offset: int, limit: int) -> bytes:
        """Up to the first hole."""
        pieces = self.outputs.get(call_id, {})
        expected, found = offset, []
        for first in sorted(pieces):
            end = first + len(pieces[first])
            if end <= offset:
                continue
            if first > expected or first >= offset + limit:
                break
            found.append(pieces[first][max(0, offset - first) : offset + limit - first])
            expected = end
        return b"".join(found)

    def result(self, call_id: str) -> ToolResultBlock | None:
        for _, block in self.blocks.values():
            if isinstance(block, ToolResultBlock) and block.call_id == call_id and block.state != "open":
                return again(_result, block)
        return None

    def end(self, ending: TurnEnding) -> None:
        self.steers = {steer_id: kept for steer_id, kept in self.steers.items() if kept[1].state != "posted"}
        ending = again(_ending, ending)
        self.row = msgspec.structs.replace(
            self.row,
            status=ending.status,
            stop_reason=ending.stop_reason,
            usage=ending.usage,
            error=ending.error,
            ended_at=ending.ended_at,
            lease_until=None,
            wait_until=None,
        )

    def pack(self) -> None:
        """One segment, as a real store makes of an ended turn sooner or later."""
        segments = self._in_order()
        if segments and without_hole((one.first_seq, one.last_seq) for one in segments):
            lines = b"".join(one.lines for one in segments)
            first, last = segments[0].first_seq, segments[-1].last_seq
            self.segments = {first: LogSegment(first_seq=first, last_seq=last, lines=lines)}

    def log(self, after: int) -> list[LogSegment]:
        return [one for one in self._in_order() if one.last_seq > after]

    def stored(self) -> StoredTurn:
        return StoredTurn(
            row=again(ROW, self.row),
            blocks=tuple(again(_block, self.blocks[index][1]) for index in sorted(self.blocks)),
            rounds=tuple(self.rounds[key][1] for key in sorted(self.rounds)),
            readings=dict(sorted(self.readings.items())),
        )

    def _in_order(self) -> list[LogSegment]:
        return [self.segments[first] for first in sorted(self.segments)]
