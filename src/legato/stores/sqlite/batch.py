"""One write of many turns, stored table by table: a flush of 650 turns is a handful of statements.

First everything is judged and turned into rows, in the order it came; then the rows are stored. It is judged against
what the database says and what the earlier writes of the same batch have added to it.
"""

# ruff: noqa: S608 - the names put into SQL are columns of rows.py; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.errors import RowRefused, StaleEpoch
from legato.core.records import LogSegment, Rest, TurnEnding, TurnWrite
from legato.stores.segments import Range, missing, order
from legato.stores.sqlite import rows
from legato.stores.sqlite.failures import GUILTY_ROW, refused
from legato.stores.sqlite.packing import RAW, UNPACKED
from legato.stores.sqlite.rows import Row


def _upsert(table: str, columns: str, key: str, guard: str) -> str:
    names = columns.split(", ")
    replaced = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key.split(", "))
    places = ", ".join("?" * len(names))
    return (
        f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT ({key}) DO UPDATE SET {replaced} WHERE {guard}"
    )


# A row is replaced unless it says something newer; a reading is never replaced, an intent only by its own again.
UPSERT_BLOCK = _upsert("block", rows.BLOCK, "turn_id, idx", "excluded.seq >= block.seq")
UPSERT_ROUND = _upsert("round", rows.ROUND, "turn_id, round, attempt", "excluded.seq >= round.seq")
UPSERT_RESULT = _upsert("call", rows.RESULT, "turn_id, call_id", "true")
UPSERT_SPANS = _upsert("timeline", rows.TIMELINE, "turn_id", "excluded.seq >= timeline.seq")
ADD_INTENT = _upsert(
    "call",
    rows.INTENT,
    "turn_id, call_id",
    "call.idempotency_key IS NULL OR call.idempotency_key = excluded.idempotency_key",
)
ADD_READING = _upsert("call", rows.READING, "turn_id, call_id", "call.formatter IS NULL")
# The answer and what was made of it stay.
UPSERT_NEED = _upsert("need", rows.NEED, "turn_id, call_id, nr", "excluded.seq >= need.seq")
UPSERT_STEER = _upsert("steer", rows.STEER, "turn_id, steer_id", "excluded.seq >= steer.seq")
# Posted to a turn that ended before its owner heard of it: nobody was told that it was taken.
DROP_UNHEARD = "DELETE FROM steer WHERE turn_id = ? AND state = 'posted'"
TAKE_ANSWER = "UPDATE need SET taken = 1 WHERE turn_id = ? AND call_id = ? AND nr = ?"
ADD_SEGMENT = f"INSERT INTO log (turn_id, first_seq, last_seq, packed, lines) VALUES (?, ?, ?, {RAW}, ?)"

# What a rewind drops is older than the write that says so: what that write, or a later one, has put stays when it comes
# again. A call goes with the block that made it.
DROPPED = f"SELECT {rows.BLOCK} FROM block WHERE turn_id = ? AND idx = ? AND seq < ?"
DROP_BLOCK = "DELETE FROM block WHERE turn_id = ? AND idx = ? AND seq < ?"
DROP_ROUND = "DELETE FROM round WHERE turn_id = ? AND round = ? AND attempt = ? AND seq < ?"
DROP_CALL = "DELETE FROM call WHERE turn_id = ? AND call_id = ?"
DROP_NEEDS = "DELETE FROM need WHERE turn_id = ? AND call_id = ?"

# Of all turns at once: a write that comes again costs no more statements than a new one, however slow the disk is.
OVERLAPPING = """
SELECT log.turn_id, log.first_seq, log.last_seq
FROM json_each(?) AS asked JOIN log ON log.turn_id = json_extract(asked.value, '$[0]')
WHERE log.last_seq >= json_extract(asked.value, '$[1]') AND log.first_seq <= json_extract(asked.value, '$[2]')
"""
STANDINGS = """
SELECT id, epoch, last_seq, ended_at IS NOT NULL FROM turn WHERE id IN (SELECT value FROM json_each(?))
"""
ADVANCE = """
UPDATE turn
SET epoch = max(epoch, ?), last_seq = max(last_seq, ?),
    status = CASE status WHEN 'recovering' THEN 'running' ELSE status END
WHERE id = ?
"""
END_TURN = """
UPDATE turn
SET status = ?, stop_reason = ?, usage = ?, error = ?, ended_at = ?, lease_until = NULL, wait_until = NULL
WHERE id = ?
"""
REST = "UPDATE turn SET status = 'waiting', owner = NULL, lease_until = NULL, wait_until = ? WHERE id = ?"
FREE_CHAT = """
UPDATE chat
SET active_turn_id = CASE WHEN active_turn_id = :turn THEN (
        SELECT id FROM turn WHERE chat_id = chat.id AND queue_place IS NOT NULL AND status = 'queued'
        ORDER BY queue_place LIMIT 1
    ) ELSE active_turn_id END,
    updated_at = max(updated_at, :ended_at)
WHERE id = (SELECT chat_id FROM turn WHERE id = :turn)
"""


@dataclass(slots=True)
class _Standing:
    """What is stored of a turn, with what this batch adds."""

    epoch: int
    last_seq: int
    ended: bool


class Batch:
    def __init__(self, connection: sqlite3.Connection, writes: Sequence[TurnWrite]) -> None:
        self._connection = connection
        self._writes = writes
        self._standings = self._read_standings()
        self._ranges = self._read_ranges()
        self._segments: list[tuple[str, int, int, bytes]] = []
        self._blocks: list[Row] = []
        self._results: list[Row] = []
        self._rounds: list[Row] = []
        self._intents: list[Row] = []
        self._readings: list[Row] = []
        self._needs: list[tuple[str, Row]] = []  # of steers too; statements in their order: few turns have any
        self._spans: list[Row] = []
        self._rests: list[tuple[str, Rest]] = []
        self._endings: list[tuple[str, TurnEnding]] = []
        self._reopened: list[Row] = []

    def store(self) -> None:
        """Raises ``StaleEpoch`` or ``RowRefused``, which name a turn, and what sqlite3 raises, which does not."""
        for one in self._writes:
            standing = self._standings.get(one.turn_id)
            if standing is None:
                raise RowRefused(f"turn {one.turn_id} is not stored", turn_id=one.turn_id)
            if standing.epoch > one.epoch:
                said = f"turn {one.turn_id} is at epoch {standing.epoch}, the write is of {one.epoch}"
                raise StaleEpoch(said, turn_id=one.turn_id)
            if one.dropped_blocks or one.dropped_rounds:
                self._store_tables()  # what is dropped may have come earlier in this batch
                self._drop(one)
            try:
                self._take(one, standing)
            except GUILTY_ROW as error:
                raise refused(error, one.turn_id) from error
        self._store_rows()

    def _read_standings(self) -> dict[str, _Standing]:
        ids = rows.as_json([one.turn_id for one in self._writes])
        found = self._connection.execute(STANDINGS, (ids,)).fetchall()
        return {turn_id: _Standing(epoch, last_seq, bool(ended)) for turn_id, epoch, last_seq, ended in found}

    def _read_ranges(self) -> dict[str, list[Range]]:
        """What is stored already of what comes again."""
        again = [
            (one.turn_id, one.segment.first_seq, one.segment.last_seq)
            for one in self._writes
            if one.segment is not None
            and (standing := self._standings.get(one.turn_id)) is not None
            and one.segment.first_seq <= standing.last_seq
        ]
        ranges: dict[str, list[Range]] = {}
        if again:
            for turn_id, first, last in self._connection.execute(OVERLAPPING, (rows.as_json(again),)):
                ranges.setdefault(turn_id, []).append((first, last))
        return ranges

    def _take(self, one: TurnWrite, standing: _Standing) -> None:
        turn_id, seq = one.turn_id, order(one)
        standing.epoch = one.epoch
        if one.segment is not None:
            self._take_segment(turn_id, one.segment, standing)
        self._blocks += [rows.block_row(turn_id, block, seq) for block in one.blocks]
        self._results += [
            (turn_id, block.call_id, block.index) for block in one.blocks if isinstance(block, ToolResultBlock)
        ]
        self._rounds += [rows.round_row(turn_id, record, seq) for record in one.rounds]
        self._intents += [rows.intent_row(turn_id, intent) for intent in one.intents]
        self._readings += [rows.reading_row(turn_id, reading) for reading in one.readings]
        self._needs += [(UPSERT_NEED, rows.need_row(turn_id, need, seq)) for need in one.needs]
        self._needs += [(TAKE_ANSWER, (turn_id, call_id, nr)) for call_id, nr in one.taken]
        self._needs += [(UPSERT_STEER, rows.steer_row(turn_id, steer, seq)) for steer in one.steers]
        if one.spans:
            self._spans.append((turn_id, rows.as_json(one.spans), seq))
        if one.ending is not None and not standing.ended:
            standing.ended = True
            self._endings.append((turn_id, one.ending))
        if one.rest is not None and not standing.ended:
            self._rests.append((turn_id, one.rest))

    def _drop(self, one: TurnWrite) -> None:
        turn_id, seq = one.turn_id, order(one)
        for index in one.dropped_blocks:
            found = self._connection.execute(DROPPED, (turn_id, index, seq)).fetchone()
            block = None if found is None else rows.block_of(found)
            if isinstance(block, ToolUseBlock):
                self._connection.execute(DROP_CALL, (turn_id, block.call_id))
                self._connection.execute(DROP_NEEDS, (turn_id, block.call_id))
            self._connection.execute(DROP_BLOCK, (turn_id, index, seq))
        for round_, attempt in one.dropped_rounds:
            self._connection.execute(DROP_ROUND, (turn_id, round_, attempt, seq))

    def _take_segment(self, turn_id: str, segment: LogSegment, standing: _Standing) -> None:
        stored = self._overlapping(turn_id, segment) if segment.first_seq <= standing.last_seq else []
        new = missing(turn_id, segment, stored)
        self._segments += [(turn_id, one.first_seq, one.last_seq, one.lines) for one in new]
        standing.last_seq = max(standing.last_seq, segment.last_seq)
        if new and standing.ended:
            self._reopened.append((turn_id,))

    def _overlapping(self, turn_id: str, segment: LogSegment) -> list[Range]:
        """Of those stored, and those that this batch adds. Two writes of one turn may both have asked for one."""
        added = ((first, last) for of, first, last, _ in self._segments if of == turn_id)
        stored = {*self._ranges.get(turn_id, ()), *added}
        return sorted(one for one in stored if one[1] >= segment.first_seq and one[0] <= segment.last_seq)

    def _store_rows(self) -> None:
        advanced: list[Row] = [(one.epoch, one.last_seq, turn_id) for turn_id, one in self._standings.items()]
        self._store_all(ADVANCE, advanced)
        self._store_all(ADD_SEGMENT, self._segments)
        self._store_tables()
        self._store_all(REST, [(rest.wait_until, turn_id) for turn_id, rest in self._rests])
        self._store_all(END_TURN, [(*rows.ending_row(ending), turn_id) for turn_id, ending in self._endings])
        self._store_all(DROP_UNHEARD, [(turn_id,) for turn_id, _ in self._endings])
        # Once all have ended: the next turn of a chat is none that ended with the one before it.
        self._store_all(
            FREE_CHAT, [{"turn": turn_id, "ended_at": ending.ended_at} for turn_id, ending in self._endings]
        )
        self._store_all(f"UPDATE turn SET packed = {UNPACKED} WHERE id = ?", self._reopened)

    def _store_all(self, statement: str, found: Sequence[Row] | Sequence[dict[str, str]]) -> None:
        if found:
            self._connection.executemany(statement, found)

    def _store_tables(self) -> None:
        for statement, found in (
            (UPSERT_BLOCK, self._blocks),
            (UPSERT_RESULT, self._results),
            (UPSERT_ROUND, self._rounds),
            (ADD_INTENT, self._intents),
            (ADD_READING, self._readings),
            (UPSERT_SPANS, self._spans),
        ):
            self._store_all(statement, found)
            found.clear()
        for statement, row in self._needs:
            self._connection.execute(statement, row)
        self._needs.clear()
