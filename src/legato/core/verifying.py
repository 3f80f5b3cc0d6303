"""Does what is kept of a turn prove itself? The log is read back, folded again and held against every row beside it.

A log that is broken proves nothing of the rows: then these are held against themselves only.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec
from msgspec import UNSET

from legato.core import events as e
from legato.core.arguments import canonical_sha256, idempotency_key
from legato.core.blocks import Block, FileBlock, ImageBlock, Json, ToolResultBlock, ToolUseBlock
from legato.core.evidence import ChatEvidence, Evidence, Finding, Promise
from legato.core.fold import Turn
from legato.core.messages import CORRECTION
from legato.core.reading_back import LogReader
from legato.core.records import Intent, KeptNeed
from legato.core.results import kept_as
from legato.core.text import measure

T = TypeVar("T", bound=msgspec.Struct)


class Verified(msgspec.Struct, frozen=True):
    """``events`` were read back."""

    findings: list[Finding]
    events: int


def verify(evidence: Evidence) -> Verified:
    """All that is wrong with one turn. Never raises, whatever is stored."""
    proof = _Proof(evidence)
    proof.find()
    return Verified(proof.findings, proof.log.events)


class _Proof:
    def __init__(self, evidence: Evidence) -> None:
        self.findings: list[Finding] = []
        self.log = LogReader()
        self._evidence = evidence
        self._unreadable = {each.place for each in evidence.unreadable}
        self._blocks = {block.index: block for block in evidence.blocks}
        self._uses = {
            block.call_id: block
            for block in evidence.blocks
            if isinstance(block, ToolUseBlock) and block.origin != "provider"
        }
        self._results = {
            block.call_id: block
            for block in evidence.blocks
            if isinstance(block, ToolResultBlock) and block.origin != "provider"
        }

    def find(self) -> None:
        for each in self._evidence.unreadable:
            self._say("P9" if each.place.startswith("event") else "P5", each.place, f"cannot be read: {each.why}")
        self._read_log()
        self._look_at_blocks()
        self._look_at_data()
        self._look_at_outputs()
        self._look_at_calls()
        self._look_at_intents()
        self._look_at_readings()
        self._look_at_needs()

    def _say(self, promise: Promise, place: str, message: str) -> None:
        row = self._evidence.row
        self.findings.append(
            Finding(chat_id=row.chat_id, turn_id=row.id, place=place, promise=promise, message=message)
        )

    # The log, and what it makes

    def _read_log(self) -> None:
        row, log = self._evidence.row, self.log
        for segment in self._evidence.segments:
            log.take(segment)
        for place, said in log.complaints:
            self._say("P9", place, said)
        if row.last_seq != log.last_seq and not any(place.startswith("event") for place in self._unreadable):
            self._say("P9", "turn", f"its last event is {log.last_seq}, its row says {row.last_seq}")
        elif log.whole and not any(place.startswith("event") for place in self._unreadable):
            self._compare_row(log.turn)
            self._compare_blocks(log.turn)
            self._compare_rounds(log.turn)
            self._compare_needs(log.turn)
            self._compare_steers(log.turn)

    def _compare_row(self, turn: Turn) -> None:
        row, begun = self._evidence.row, self.log.begun
        if begun is not None:
            for name, said in (
                ("id", begun.turn_id),
                ("chat_id", begun.chat_id),
                ("prev_turn_id", begun.prev_turn_id),
                ("created_at", begun.created_at),
            ):
                if getattr(row, name) != said:
                    self._say("P5", "turn", f"its row and its log have another {name}")
        if turn.ended and row.ended_at is None:
            self._say("P5", "turn", "its log has turn_end, its row no ended_at")
        elif row.ended_at is not None and not turn.ended:
            self._say("P5", "turn", "its row has ended_at, its log no turn_end")
        elif turn.ended:
            for name in ("status", "stop_reason", "usage", "error"):
                if not _same(getattr(row, name), getattr(turn, name)):
                    self._say("P5", "turn", f"its {name} is not that of its turn_end")
        else:
            self._compare_status(turn)

    def _compare_status(self, turn: Turn) -> None:
        """A turn that waits may have been claimed since: then its next owner has said nothing yet."""
        row = self._evidence.row
        said_epoch = max(0, turn.last_seq - 1) // e.EPOCH_SIZE
        if row.epoch < said_epoch:
            self._say("P5", "turn", f"its row has epoch {row.epoch}, its log {said_epoch}")
        if row.stop_reason is not None or row.error is not None:
            self._say("P5", "turn", "its row says how it ended, its log that it has not")
        if row.status == "waiting" and turn.status != "waiting":
            self._say("P5", "turn", f"its row says that it waits, its log that it is {turn.status}")
        if row.status != "waiting" and turn.status == "waiting" and row.epoch == said_epoch:
            self._say("P5", "turn", f"its log says that it waits, its row that it is {row.status}")
        if (row.wait_until is not None) != (row.status == "waiting"):
            self._say("P5", "turn", f"wait_until is {'' if row.wait_until else 'not '}set and it is {row.status}")

    def _compare_blocks(self, turn: Turn) -> None:
        for index in sorted(turn.closed.keys() | self._blocks.keys()):
            place = f"block {index}"
            row, folded = self._blocks.get(index), turn.closed.get(index)
            if folded is None:
                self._say("P5", place, "has a row, and the log closes no such block")
            elif row is None:
                if place not in self._unreadable:
                    self._say("P5", place, "has no row")
            elif differing := _differing(row, folded):
                self._say("P5", place, f"its row differs from what the log makes in {', '.join(differing)}")

    def _compare_rounds(self, turn: Turn) -> None:
        rows = {(record.round, record.attempt): record for record in self._evidence.rounds}
        folded = {(record.round, record.attempt): record for record in turn.rounds}
        for key in sorted(rows.keys() | folded.keys()):
            place = f"round {key[0]}, attempt {key[1]}"
            if key not in folded:
                self._say("P5", place, "has a row, and the log no such round")
            elif key not in rows:
                if place not in self._unreadable:
                    self._say("P5", place, "has no row")
            elif differing := _differing(rows[key], folded[key]):
                self._say("P5", place, f"its row differs from what the log makes in {', '.join(differing)}")

    def _compare_needs(self, turn: Turn) -> None:
        newest = self._newest_needs()
        kinds = {(kept.need.call_id, kept.need.kind) for kept in self._evidence.needs}
        for call_id, kind in sorted(kinds - self.log.waited):
            self._say("P5", _call(call_id), f"a need of kind {kind} was never said")
        for call_id, kind in sorted(self.log.waited - kinds):
            # A need falls to a rewind with its call.
            if call_id in self._uses and _call(call_id) not in self._unreadable:
                self._say("P5", _call(call_id), f"waited for {kind}, and nothing is kept of it")
        for call_id, waiting in turn.waiting.items():
            need = newest.get(call_id)
            if need is not None and (need.need.kind != waiting.kind or need.taken):
                self._say("P5", _call(call_id), "waits, and the need that is kept is another one")
        for call_id, kept in newest.items():
            if not kept.taken and call_id not in turn.waiting and not turn.ended:
                self._say("P5", _call(call_id), "has an open need, and does not wait")

    def _compare_steers(self, turn: Turn) -> None:
        """One that its owner has not heard yet is in no event, and goes with the turn's end."""
        kept = {steer.steer_id: steer for steer in self._evidence.steers}
        for steer_id, said in turn.steered.items():
            row, place = kept.get(steer_id), f"steer {steer_id}"
            if row is None:
                if place not in self._unreadable:
                    self._say("P5", place, "has no row")
            elif row.text != said.text:
                self._say("P5", place, "its row and its log have another text")
            elif turn.ended and row.state != said.state:
                self._say("P5", place, f"its row says {row.state}, its log {said.state}")
        for steer_id in kept.keys() - turn.steered.keys() if turn.ended else ():
            self._say("P5", f"steer {steer_id}", f"is {kept[steer_id].state}, and its log says nothing of it")

    # What each row says of itself

    def _look_at_blocks(self) -> None:
        for index, block in self._blocks.items():
            place = f"block {index}"
            if block.state == "open":
                self._say("P5", place, "has a row, and is open")
            if isinstance(block, ImageBlock | FileBlock):
                continue
            length, sha256 = measure(block.text)
            if block.length != length:
                self._say("P9", place, f"has {length} bytes of text, its length says {_shown(block.length)}")
            elif block.sha256 != sha256:
                self._say("P9", place, "its text has another hash than its sha256")

    def _look_at_data(self) -> None:
        data = {datum.index: datum for datum in self._evidence.data}
        for index in sorted(data.keys() - self._blocks.keys()):
            if f"block {index}" not in self._unreadable:
                self._say("P4", f"data of block {index}", "there is no such block")
        for index, block in self._blocks.items():
            if not isinstance(block, ImageBlock | FileBlock) or block.bytes is UNSET:
                continue
            datum, place = data.get(index), f"data of block {index}"
            if datum is None:
                if place not in self._unreadable:
                    self._say("P4", place, "is missing")
            elif len(datum.data) != block.bytes:
                self._say("P4", place, f"has {len(datum.data)} bytes, its block says {block.bytes}")
            elif not hashlib.sha256(datum.data).hexdigest() == datum.sha256 == block.sha256:
                self._say("P4", place, "has another hash than its sha256")

    def _look_at_outputs(self) -> None:
        for call_id, result in self._results.items():
            if result.href is UNSET:
                continue
            kept = 0
            for first, length in self._evidence.outputs.get(kept_as(result), ()):
                if first != kept:
                    break
                kept += length
            if kept != result.bytes:
                self._say("P5", _output(call_id), f"has {kept} bytes, its result says {_shown(result.bytes)}")

    def _look_at_calls(self) -> None:
        """Sealed calls and results of ours are pairs; of a turn that has ended, all of them."""
        ended = self._evidence.row.ended_at is not None
        counted = Counter(
            block.call_id
            for block in self._evidence.blocks
            if isinstance(block, ToolResultBlock) and block.origin != "provider"
        )
        for call_id, use in self._uses.items():
            sealed = use.state == "complete"
            if counted[call_id] > 1:
                self._say("P3", _call(call_id), f"has {counted[call_id]} results")
            elif sealed and not counted[call_id] and ended:
                self._say("P3", _call(call_id), "is sealed and has no result")
            elif not sealed and counted[call_id]:
                self._say("P3", _call(call_id), f"is {use.state} and has a result")
        for call_id, result in self._results.items():
            if call_id not in self._uses:
                self._say("P3", _call(call_id), "has a result, and was never called")
            else:
                self._look_at_result(self._uses[call_id], result)

    def _look_at_result(self, use: ToolUseBlock, result: ToolResultBlock) -> None:
        place = _call(use.call_id)
        for name in ("tool_name", "origin", "round"):
            if getattr(use, name) != getattr(result, name):
                self._say("P3", place, f"its result has another {name}")
        noted = self._evidence.results.get(use.call_id)
        if place not in self._unreadable and noted != result.index:
            self._say("P5", place, f"its result is block {result.index}, and {_shown(noted)} is noted")
        if isinstance(result.ran_input, dict) and not self._is_approved(use.call_id, result.ran_input):
            self._say("P2", place, "ran with other arguments than the model's, and nobody approved them")

    def _look_at_intents(self) -> None:
        for intent in self._evidence.intents:
            place, use = _call(intent.call_id), self._uses.get(intent.call_id)
            if use is None:
                self._say("P7", place, "has an intent, and was never called")
                continue
            for name in ("round", "index", "tool_name"):
                if getattr(use, name) != getattr(intent, name):
                    self._say("P7", place, f"its intent has another {name}")
            if not _same(intent.input, use.input or {}) and not self._is_approved(use.call_id, intent.input):
                self._say("P2", place, "its intent has other arguments than those sealed or approved")
            if canonical_sha256(intent.input) != intent.input_sha256:
                self._say("P7", place, "the arguments of its intent have another hash than is kept with them")
            if self.log.whole and use.index in self.log.turn.starts and self._key(intent) != intent.idempotency_key:
                self._say("P7", place, "its idempotency key is not the one that its place and its arguments make")

    def _key(self, intent: Intent) -> str:
        """Calls are counted within their response, whatever became of them."""
        turn = self.log.turn
        opened = turn.starts[intent.index].seq
        since = max((folded.started for folded in turn.folded_rounds if folded.started < opened), default=0)
        ordinal = sum(
            start.block_type == "tool_use" and start.origin != "provider" and since < start.seq < opened
            for start in turn.starts.values()
        )
        return idempotency_key(
            turn_id=self._evidence.row.id,
            round=intent.round,
            ordinal=ordinal,
            tool_name=intent.tool_name,
            input=intent.input,
        )

    def _look_at_readings(self) -> None:
        for reading in self._evidence.readings:
            if reading.call_id not in self._results and reading.formatter != CORRECTION:
                self._say("P5", _call(reading.call_id), "was read by a formatter, and has no result")

    def _look_at_needs(self) -> None:
        counted: Counter[str] = Counter()
        for kept in self._evidence.needs:
            need, place = kept.need, _call(kept.need.call_id)
            counted[need.call_id] += 1
            use = self._uses.get(need.call_id)
            if use is None:
                self._say("P5", place, "has a need, and was never called")
                continue
            if need.nr != counted[need.call_id]:
                self._say("P5", place, f"need {counted[need.call_id]} has number {need.nr}")
            inputs = [use.input or {}, *self._approved(need.call_id)]
            if need.input_sha256 not in map(canonical_sha256, inputs):
                self._say("P2", place, "its need is bound to other arguments than those sealed or approved")
        if self._evidence.row.status == "waiting" and all(kept.taken for kept in self._evidence.needs):
            self._say("P5", "turn", "it waits, and for nothing")

    def _newest_needs(self) -> Mapping[str, KeptNeed]:
        return {kept.need.call_id: kept for kept in self._evidence.needs}

    def _approved(self, call_id: str) -> Iterator[dict[str, Json]]:
        for kept in self._evidence.needs:
            answer = kept.answer
            if kept.need.call_id != call_id or answer is None or answer.decision != "approve":
                continue
            if isinstance(answer.input, dict):
                yield answer.input

    def _is_approved(self, call_id: str, input: dict[str, Json]) -> bool:
        return any(_same(input, approved) for approved in self._approved(call_id))


def verify_chat(evidence: ChatEvidence) -> list[Finding]:
    """All that is wrong with how the turns of a chat hang together."""
    chat, findings = evidence.chat, list[Finding]()
    turns = {row.id: row for row in evidence.turns}

    def say(turn_id: str | None, place: str, message: str) -> None:
        findings.append(Finding(chat_id=chat.id, turn_id=turn_id, place=place, promise="P4", message=message))

    unended = [row.id for row in evidence.turns if row.ended_at is None and row.role == "assistant"]
    queued = {row.id for row in evidence.turns if row.status == "queued"}
    if chat.active_turn_id is None and unended:
        say(unended[0], "chat", "the turn has not ended, and its chat has no active turn")
    elif chat.active_turn_id is not None and chat.active_turn_id not in unended:
        say(
            None,
            "chat",
            f"its active turn {chat.active_turn_id} {'has ended' if chat.active_turn_id in turns else 'is missing'}",
        )
    for turn_id in unended if chat.active_turn_id is not None else ():
        if turn_id != chat.active_turn_id and turn_id not in queued:
            say(turn_id, "chat", "the turn has not ended, and another one is active")
    if chat.head_turn_id is not None and chat.head_turn_id not in turns:
        say(None, "chat", f"its head {chat.head_turn_id} is missing")
    for row in evidence.turns:
        prev = None if row.prev_turn_id is None else turns.get(row.prev_turn_id)
        depth = 1 if prev is None else prev.depth + 1
        if row.prev_turn_id is not None and prev is None:
            say(row.id, "turn", f"the turn before it, {row.prev_turn_id}, is missing")
        elif row.depth != depth:
            say(row.id, "turn", f"its depth is {row.depth}, its place in the chat makes it {depth}")
        if prev is not None and prev.role == row.role == "assistant":
            say(row.id, "turn", "it answers an answer")
    return findings


def _differing(row: T, folded: Block | T) -> list[str]:
    """Names of the fields that are not the same, byte for byte."""
    if _same(row, folded):
        return []
    if type(row) is not type(folded):
        return ["type"]
    names = row.__struct_fields__
    return [name for name in names if not _same(getattr(row, name), getattr(folded, name))] or ["its bytes"]


def _same(one: object, other: object) -> bool:
    if one is UNSET or other is UNSET:
        return one is other
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def _shown(value: object) -> str:
    return "nothing" if value is None or value is UNSET else str(value)


def _call(call_id: str) -> str:
    return f"call {call_id}"


def _output(call_id: str) -> str:
    return f"output of call {call_id}"
