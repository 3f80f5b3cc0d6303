"""What is read, each a function of a connection.

What belongs to turns is fetched by set: as many statements for a thousand turns as for one.
"""

# ruff: noqa: S608 - the names put into SQL are columns of rows.py; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from legato.core.blocks import Block
from legato.core.inputs import CancelMode
from legato.core.records import (
    LEASE_SECONDS,
    Chat,
    Datum,
    Intent,
    LogSegment,
    Reading,
    RoundRecord,
    Span,
    StoredTurn,
    TurnRow,
)
from legato.ports import Clock
from legato.stores import cursors
from legato.stores.sqlite import rows
from legato.stores.sqlite.packing import unpacked
from legato.stores.sqlite.rows import Found

# More turns than any chat has, where no limit is asked for.
ALL = 1 << 62


def turn(connection: sqlite3.Connection, turn_id: str) -> TurnRow | None:
    found = connection.execute(f"SELECT {rows.TURN} FROM turn WHERE id = ?", (turn_id,)).fetchone()
    return None if found is None else rows.turn_of(found)


def load(connection: sqlite3.Connection, turn_id: str) -> StoredTurn | None:
    with _one_moment(connection):
        row = turn(connection, turn_id)
        return None if row is None else _with_their_rows(connection, [row])[0]


def branch(connection: sqlite3.Connection, leaf: str, limit: int | None) -> Sequence[StoredTurn]:
    with _one_moment(connection):
        found = connection.execute(
            f"""
            WITH RECURSIVE up (nr, prev_turn_id, step) AS (
                SELECT nr, prev_turn_id, 1 FROM turn WHERE id = :leaf AND :limit > 0
                UNION ALL
                SELECT turn.nr, turn.prev_turn_id, up.step + 1 FROM up JOIN turn ON turn.id = up.prev_turn_id
                WHERE up.step < :limit
            )
            SELECT {rows.TURN} FROM (SELECT nr, step FROM up) JOIN turn USING (nr) ORDER BY step DESC
            """,
            {"leaf": leaf, "limit": ALL if limit is None else limit},
        ).fetchall()
        return _with_their_rows(connection, [rows.turn_of(one) for one in found])


def log(connection: sqlite3.Connection, turn_id: str, after: int) -> Sequence[LogSegment]:
    found = connection.execute(
        """
        SELECT first_seq, last_seq, packed, lines FROM log
        WHERE turn_id = :turn_id AND last_seq > :after AND first_seq >= coalesce(
            (SELECT max(first_seq) FROM log WHERE turn_id = :turn_id AND first_seq <= :after), 0)
        ORDER BY first_seq
        """,
        {"turn_id": turn_id, "after": after},
    ).fetchall()
    return [
        LogSegment(first_seq=first, last_seq=last, lines=unpacked(lines, packed))
        for first, last, packed, lines in found
    ]


def spans(connection: sqlite3.Connection, turn_id: str) -> Sequence[Span]:
    found = connection.execute("SELECT spans FROM timeline WHERE turn_id = ?", (turn_id,)).fetchone()
    return () if found is None else rows.spans_of(found[0])


def intents(connection: sqlite3.Connection, turn_id: str) -> Sequence[Intent]:
    found = connection.execute(
        f"SELECT {rows.INTENT} FROM call WHERE turn_id = ? AND idempotency_key IS NOT NULL"
        " ORDER BY round, idx, call_id",
        (turn_id,),
    ).fetchall()
    return [rows.intent_of(one) for one in found]


def datum(connection: sqlite3.Connection, turn_id: str, index: int) -> Datum | None:
    found = connection.execute(
        f"SELECT {rows.DATUM} FROM datum WHERE turn_id = ? AND idx = ?", (turn_id, index)
    ).fetchone()
    return None if found is None else rows.datum_of(found)


def siblings(connection: sqlite3.Connection, row: TurnRow) -> Sequence[str]:
    found = connection.execute(
        "SELECT id FROM turn WHERE chat_id = ? AND prev_turn_id IS ? AND role = ? ORDER BY nr",
        (row.chat_id, row.prev_turn_id, row.role),
    ).fetchall()
    return [turn_id for (turn_id,) in found]


def unended(connection: sqlite3.Connection) -> Sequence[TurnRow]:
    return _turns(connection, "ended_at IS NULL AND role = 'assistant'")


def overdue(connection: sqlite3.Connection, turn_id: str | None, clock: Clock) -> Sequence[TurnRow]:
    only, ids = ("", ()) if turn_id is None else ("id = ? AND ", (turn_id,))
    return _turns(
        connection,
        f"{only}ended_at IS NULL AND role = 'assistant' AND status NOT IN ('waiting', 'queued')"
        " AND (owner IS NULL OR coalesce(lease_until < ?, created_at < ?))",
        *ids,
        clock.now(),
        clock.after(-LEASE_SECONDS),
    )


def to_start(connection: sqlite3.Connection) -> Sequence[TurnRow]:
    return _turns(
        connection,
        "status = 'queued' AND (cancel_requested = 1"
        " OR id = (SELECT active_turn_id FROM chat WHERE chat.id = turn.chat_id))",
    )


def to_cancel(connection: sqlite3.Connection, owner: str) -> Sequence[tuple[str, CancelMode]]:
    return connection.execute(
        "SELECT id, coalesce(cancel_mode, 'now') FROM turn"
        " WHERE owner = ? AND cancel_requested = 1 AND ended_at IS NULL",
        (owner,),
    ).fetchall()


def tree(connection: sqlite3.Connection, chat_id: str) -> Sequence[TurnRow]:
    # By created_at an answer would stand before its question where the clock was set back between them.
    return _turns(connection, "chat_id = ?", chat_id, order="nr")


def chat(connection: sqlite3.Connection, chat_id: str) -> Chat | None:
    found = connection.execute(f"SELECT {rows.CHAT} FROM chat WHERE id = ?", (chat_id,)).fetchone()
    return None if found is None else rows.chat_of(found)


def chats(
    connection: sqlite3.Connection, owner: str, limit: int, before: str | None
) -> tuple[Sequence[Chat], str | None]:
    where, values = "owner = ?", [owner]
    if before is not None:
        where += " AND (updated_at, id) < (?, ?)"
        values += cursors.read(before)
    found = connection.execute(
        f"SELECT {rows.CHAT} FROM chat WHERE {where} ORDER BY updated_at DESC, id DESC LIMIT ?", (*values, limit + 1)
    ).fetchall()
    page = [rows.chat_of(one) for one in found[:limit]]
    return page, cursors.after(page[-1]) if page and len(found) > limit else None


def ping(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT 1 FROM turn LIMIT 1").fetchone()


def _turns(
    connection: sqlite3.Connection, where: str, *values: str, order: str = "created_at, nr"
) -> Sequence[TurnRow]:
    found = connection.execute(f"SELECT {rows.TURN} FROM turn WHERE {where} ORDER BY {order}", values)
    return [rows.turn_of(one) for one in found.fetchall()]


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Statements inside see the database as it was at the first of them. An error leaves it open: the reader closes."""
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")


def _with_their_rows(connection: sqlite3.Connection, turns: Sequence[TurnRow]) -> Sequence[StoredTurn]:
    ids = rows.as_json([row.id for row in turns])

    def fetched(columns: str, table: str, order: str, where: str = "") -> list[Found]:
        return connection.execute(
            f"SELECT {columns} FROM {table} WHERE turn_id IN (SELECT value FROM json_each(?)) {where} ORDER BY {order}",
            (ids,),
        ).fetchall()

    blocks: dict[str, list[Block]] = {row.id: [] for row in turns}
    rounds: dict[str, list[RoundRecord]] = {row.id: [] for row in turns}
    readings: dict[str, dict[str, Reading]] = {row.id: {} for row in turns}
    for found in fetched(rows.BLOCK, "block", "turn_id, idx"):
        blocks[found[0]].append(rows.block_of(found))
    for found in fetched(rows.ROUND, "round", "turn_id, round, attempt"):
        rounds[found[0]].append(rows.round_of(found))
    for found in fetched(rows.READING, "call", "turn_id, call_id", "AND formatter IS NOT NULL"):
        reading = rows.reading_of(found)
        readings[found[0]][reading.call_id] = reading
    return [
        StoredTurn(row=row, blocks=tuple(blocks[row.id]), rounds=tuple(rounds[row.id]), readings=readings[row.id])
        for row in turns
    ]
