"""What people say into turns that have not ended, and which of it their owners have not heard."""

# ruff: noqa: S608 - the names put into SQL are columns of rows.py; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from legato.core.errors import NotFound
from legato.core.records import KeptSteer
from legato.core.steers import judged
from legato.stores.sqlite import rows
from legato.stores.sqlite.failures import GUILTY_ROW, refused


def keep(connection: sqlite3.Connection, turn_id: str, steer: KeptSteer, limit: int) -> KeptSteer:
    found = connection.execute("SELECT ended_at IS NOT NULL FROM turn WHERE id = ?", (turn_id,)).fetchone()
    if found is None:
        raise NotFound(f"there is no turn {turn_id}")
    kept = judged(turn_id, steer, steers(connection, turn_id), ended=bool(found[0]), limit=limit)
    if kept is None:
        try:
            connection.execute(
                f"INSERT INTO steer ({rows.STEER}) VALUES (?, ?, ?, ?, ?)", rows.steer_row(turn_id, steer, 0)
            )
        except GUILTY_ROW as error:
            raise refused(error, turn_id) from error
    return kept or steer


def steers(connection: sqlite3.Connection, turn_id: str) -> Sequence[KeptSteer]:
    found = connection.execute(f"SELECT {rows.KEPT_STEER} FROM steer WHERE turn_id = ? ORDER BY place", (turn_id,))
    return [rows.kept_steer_of(one) for one in found.fetchall()]


def unheard(connection: sqlite3.Connection, owner: str) -> Sequence[tuple[str, KeptSteer]]:
    """Asked every second: the plus keeps SQLite on the index of those that are posted, which are few."""
    found = connection.execute(
        f"SELECT turn_id, {rows.KEPT_STEER} FROM steer JOIN turn ON turn.id = turn_id"
        " WHERE state = 'posted' AND turn.owner = ? AND turn.status NOT IN ('waiting', 'queued') ORDER BY +place",
        (owner,),
    )
    return [(turn_id, rows.kept_steer_of(tuple(steer))) for turn_id, *steer in found.fetchall()]


def of_chat(connection: sqlite3.Connection, chat_id: str, steer_id: str) -> tuple[str, KeptSteer] | None:
    found = connection.execute(
        f"SELECT turn_id, {rows.KEPT_STEER} FROM steer JOIN turn ON turn.id = turn_id"
        " WHERE turn.chat_id = ? AND steer_id = ? ORDER BY place LIMIT 1",
        (chat_id, steer_id),
    ).fetchone()
    return None if found is None else (found[0], rows.kept_steer_of(found[1:]))
