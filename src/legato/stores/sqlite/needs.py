"""What calls wait for, what somebody answered, and which waiting turns must be taken up."""

# ruff: noqa: S608 - the names put into SQL are columns of rows.py; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec import structs

from legato.core.errors import NotFound
from legato.core.records import Answer, KeptNeed, TurnRow
from legato.stores.answers import is_repeat
from legato.stores.sqlite import rows
from legato.stores.sqlite.failures import GUILTY_ROW, refused

MEANT = f"""
SELECT {rows.KEPT_NEED}, place, (SELECT ended_at IS NOT NULL FROM turn WHERE id = turn_id)
FROM need WHERE turn_id = :turn AND call_id = :call AND :nr IN (0, nr) ORDER BY nr DESC LIMIT 1
"""
# Three small indexes, so that thousands of turns that wait on cost nothing.
TO_WAKE = f"""
SELECT {rows.TURN} FROM turn WHERE nr IN (
    SELECT turn.nr FROM need JOIN turn ON turn.id = need.turn_id
    WHERE need.answer IS NOT NULL AND need.taken = 0 AND turn.status = 'waiting'
    UNION ALL SELECT nr FROM turn WHERE status = 'waiting' AND cancel_requested = 1
    UNION ALL SELECT nr FROM turn WHERE status = 'waiting' AND wait_until <= ?
) ORDER BY created_at, nr
"""


def answer(connection: sqlite3.Connection, turn_id: str, answers: Sequence[Answer]) -> None:
    try:
        for one in answers:
            _answer_one(connection, turn_id, one)
    except GUILTY_ROW as error:
        raise refused(error, turn_id) from error


def _answer_one(connection: sqlite3.Connection, turn_id: str, one: Answer) -> None:
    found = connection.execute(MEANT, {"turn": turn_id, "call": one.call_id, "nr": one.nr}).fetchone()
    if found is None:
        raise NotFound(f"turn {turn_id} has no call {one.call_id} that waits", code="unknown_call")
    *kept, place, ended = found
    one = structs.replace(one, nr=0)
    if not is_repeat(turn_id, one, rows.kept_need_of(tuple(kept)), ended=bool(ended)):
        connection.execute("UPDATE need SET answer = ? WHERE place = ?", (rows.as_json(one), place))


def needs(connection: sqlite3.Connection, turn_id: str) -> Sequence[KeptNeed]:
    found = connection.execute(f"SELECT {rows.KEPT_NEED} FROM need WHERE turn_id = ? ORDER BY place", (turn_id,))
    return [rows.kept_need_of(one) for one in found.fetchall()]


def to_wake(connection: sqlite3.Connection, now: str) -> Sequence[TurnRow]:
    return [rows.turn_of(one) for one in connection.execute(TO_WAKE, (now,)).fetchall()]
