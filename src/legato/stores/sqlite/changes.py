"""What is written, each a function of a connection inside the writer's transaction. Every one may be repeated."""

# ruff: noqa: S608 - the names put into SQL are columns of rows.py; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from msgspec import structs

from legato.core.errors import Conflict, NotFound
from legato.core.inputs import CancelMode
from legato.core.records import (
    LEASE_SECONDS,
    Accepted,
    AlreadyMade,
    Busy,
    Chat,
    NewTurns,
    Queued,
    QueueFull,
    TurnRow,
    TurnWrite,
)
from legato.ports import Begun, ChatField, Clock
from legato.stores.sqlite import early, queries, rows
from legato.stores.sqlite.batch import Batch
from legato.stores.sqlite.failures import GUILTY_ROW, refused
from legato.stores.sqlite.packing import PACKED, pack_one
from legato.stores.sqlite.rows import Row
from legato.stores.taken import turn_taken


def begin(connection: sqlite3.Connection, new: NewTurns, clock: Clock) -> Begun:
    if (made := _already_made(connection, new.assistant.id)) is not None:
        return made
    active = _place_in_chat(connection, new)
    places = None if active is None else _queue(connection, new.assistant.chat_id)
    if active is not None and new.on_busy == "reject":
        return Busy(active)
    if places is not None and len(places) >= new.queue_limit:
        return QueueFull(len(places))
    if new.user is not None:
        _insert_turn(connection, new.user)
        if new.user_write is not None:
            write(connection, [new.user_write])
            _pack_whole(connection, new.user.id)
        _insert(connection, "datum", rows.DATUM, [rows.datum_row(new.user.id, datum) for datum in new.user_data])
    if active is not None:
        _insert_queued(connection, new, places or [0], active)
        return Queued(active, cancelled=_cancelled_before(connection, new, clock))
    _insert_turn(connection, new.assistant)
    connection.execute(
        "UPDATE chat SET head_turn_id = ?, active_turn_id = ?, updated_at = max(updated_at, ?) WHERE id = ?",
        (
            new.assistant.id,
            new.assistant.id if new.assistant.ended_at is None else None,
            new.assistant.created_at,
            new.assistant.chat_id,
        ),
    )
    return Accepted(cancelled=_cancelled_before(connection, new, clock))


def _cancelled_before(connection: sqlite3.Connection, new: NewTurns, clock: Clock) -> bool:
    cancelled = early.take(connection, new.owner, new.assistant.id, clock)
    if cancelled:
        request_cancel(connection, new.assistant.id)
    return cancelled


def _already_made(connection: sqlite3.Connection, turn_id: str) -> AlreadyMade | None:
    row = queries.turn(connection, turn_id)
    if row is None:
        return None
    (owner,) = connection.execute("SELECT owner FROM chat WHERE id = ?", (row.chat_id,)).fetchone()
    return AlreadyMade(row, owner)


def _queue(connection: sqlite3.Connection, chat_id: str) -> list[int]:
    """The places of those that wait in the chat, the active one's behind which they do not count."""
    found = connection.execute(
        "SELECT queue_place FROM turn WHERE chat_id = ? AND status = 'queued'"
        " AND id <> (SELECT active_turn_id FROM chat WHERE chat.id = turn.chat_id) ORDER BY queue_place",
        (chat_id,),
    )
    return [place for (place,) in found.fetchall()]


def _insert_queued(connection: sqlite3.Connection, new: NewTurns, places: list[int], active: str) -> None:
    place = places[-1] + 1 if new.on_busy == "behind" else places[0] - 1
    row = structs.replace(new.assistant, status="queued", owner=None, lease_until=None)
    _insert_turn(connection, row)
    connection.execute("UPDATE turn SET queue_place = ? WHERE id = ?", (place, row.id))
    connection.execute(
        "UPDATE chat SET head_turn_id = ?, updated_at = max(updated_at, ?) WHERE id = ?",
        (row.id, row.created_at, row.chat_id),
    )
    if new.on_busy == "in_front":
        request_cancel(connection, active)


def _place_in_chat(connection: sqlite3.Connection, new: NewTurns) -> str | None:
    """The chat's active turn, if it has one."""
    chat_id = new.assistant.chat_id
    if new.chat is not None and not create_chat(connection, new.chat):
        raise Conflict(f"chat {new.chat.id} is there already", code="chat_id_taken")
    found = connection.execute("SELECT owner, active_turn_id FROM chat WHERE id = ?", (chat_id,)).fetchone()
    if found is None or found[0] != new.owner:
        raise NotFound(f"there is no chat {chat_id}")
    active: str | None = found[1]
    return active


def _insert_turn(connection: sqlite3.Connection, row: TurnRow) -> None:
    if connection.execute("SELECT 1 FROM turn WHERE id = ?", (row.id,)).fetchone() is not None:
        raise turn_taken(row.id)
    if connection.execute("SELECT 1 FROM spent WHERE turn_id = ?", (row.id,)).fetchone() is not None:
        raise turn_taken(row.id, spent=True)
    try:
        _insert(connection, "turn", rows.TURN, [rows.turn_row(row)])
    except GUILTY_ROW as error:
        raise refused(error, row.id) from error


def _pack_whole(connection: sqlite3.Connection, turn_id: str) -> None:
    """A user's turn is born ended, in one segment: packing it here saves it the chore."""
    found = connection.execute("SELECT lines FROM log WHERE turn_id = ?", (turn_id,)).fetchall()
    if len(found) == 1:
        connection.execute("UPDATE log SET packed = ?, lines = ? WHERE turn_id = ?", (*pack_one(found[0][0]), turn_id))
        connection.execute("UPDATE turn SET packed = ? WHERE id = ?", (PACKED, turn_id))


def write(connection: sqlite3.Connection, writes: Sequence[TurnWrite]) -> None:
    """Raises ``StaleEpoch`` or ``RowRefused``; what is half stored then is taken back by the job's savepoint."""
    try:
        Batch(connection, writes).store()
    except GUILTY_ROW as error:
        _name_the_guilty(connection, writes)
        raise refused(error, writes[0].turn_id) from error


def _name_the_guilty(connection: sqlite3.Connection, writes: Sequence[TurnWrite]) -> None:
    """Rows are stored by table, for all turns at once, and one was refused: its turn has to be known. What is stored of
    the others already is no matter, for each write may be repeated."""
    for one in writes:
        try:
            Batch(connection, [one]).store()
        except GUILTY_ROW as error:
            raise refused(error, one.turn_id) from error


def request_cancel(connection: sqlite3.Connection, turn_id: str, mode: CancelMode = "now") -> None:
    connection.execute(
        "UPDATE turn SET cancel_requested = 1, cancel_mode = CASE"
        " WHEN 'now' IN (cancel_mode, :mode) THEN 'now'"
        " WHEN 'after_block' IN (cancel_mode, :mode) THEN 'after_block' ELSE :mode END"
        " WHERE id = :id AND ended_at IS NULL",
        {"id": turn_id, "mode": mode},
    )


def claim(connection: sqlite3.Connection, turn_id: str, epoch: int, owner: str, clock: Clock) -> bool:
    claimed = connection.execute(
        "UPDATE turn SET epoch = :epoch, owner = :owner, wait_until = NULL, lease_until = :lease,"
        " status = CASE WHEN status IN ('waiting', 'queued') THEN 'running'"
        " WHEN epoch < :epoch THEN 'recovering' ELSE status END"
        " WHERE id = :id AND ended_at IS NULL"
        " AND (epoch < :epoch OR epoch = :epoch AND (owner = :owner OR status = 'queued' AND queue_place IS NOT NULL))",
        {"id": turn_id, "epoch": epoch, "owner": owner, "lease": clock.after(LEASE_SECONDS)},
    )
    return claimed.rowcount == 1


def renew(connection: sqlite3.Connection, owner: str, clock: Clock) -> None:
    connection.execute(
        "UPDATE turn SET lease_until = ?"
        " WHERE ended_at IS NULL AND role = 'assistant' AND status <> 'waiting' AND owner = ?",
        (clock.after(LEASE_SECONDS), owner),
    )


def release(connection: sqlite3.Connection, turn_ids: Sequence[str], owner: str) -> None:
    connection.executemany(
        "UPDATE turn SET owner = NULL, lease_until = NULL WHERE id = ? AND owner = ? AND ended_at IS NULL",
        [(turn_id, owner) for turn_id in turn_ids],
    )


def create_chat(connection: sqlite3.Connection, chat: Chat) -> bool:
    inserted = connection.execute(
        f"INSERT INTO chat ({rows.CHAT}) VALUES ({_places(rows.CHAT)}) ON CONFLICT DO NOTHING", rows.chat_row(chat)
    )
    return inserted.rowcount == 1


def update_chat(connection: sqlite3.Connection, chat: Chat, fields: Collection[ChatField]) -> None:
    values: dict[ChatField, str | None] = {
        "title": chat.title,
        "system": chat.system,
        "model": chat.model,
        "metadata": rows.as_json(chat.metadata),
        "head_turn_id": chat.head_turn_id,
    }
    changed = [name for name in values if name in fields]
    connection.execute(
        f"UPDATE chat SET {''.join(f'{name} = ?, ' for name in changed)}updated_at = ? WHERE id = ?",
        (*(values[name] for name in changed), chat.updated_at, chat.id),
    )


def delete_chat(connection: sqlite3.Connection, chat_id: str) -> None:
    """Everything that is of it goes by its foreign keys; the ids of its turns stay spent."""
    connection.execute("INSERT INTO spent (turn_id) SELECT id FROM turn WHERE chat_id = ?", (chat_id,))
    connection.execute("DELETE FROM chat WHERE id = ?", (chat_id,))


def _insert(connection: sqlite3.Connection, table: str, columns: str, values: Sequence[Row]) -> None:
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({_places(columns)})", values)


def _places(columns: str) -> str:
    return ", ".join("?" * (columns.count(",") + 1))
