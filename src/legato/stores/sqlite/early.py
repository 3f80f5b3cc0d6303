"""Cancels that come before their turn, kept for whichever process gets the post."""

from __future__ import annotations

import sqlite3

from legato.ports import Clock

KEEP = "INSERT OR REPLACE INTO early_cancel (turn_id, owner, until) VALUES (?, ?, ?)"
FORGET_OLD = "DELETE FROM early_cancel WHERE until <= ?"
FORGET_MANY = """
DELETE FROM early_cancel WHERE (turn_id, owner) IN
    (SELECT turn_id, owner FROM early_cancel ORDER BY until DESC LIMIT -1 OFFSET ?)
"""
TAKE = "DELETE FROM early_cancel WHERE turn_id = ? AND owner = ? AND until > ?"


def keep(connection: sqlite3.Connection, owner: str, turn_id: str, *, seconds: float, limit: int, clock: Clock) -> None:
    connection.execute(FORGET_OLD, (clock.now(),))
    connection.execute(KEEP, (turn_id, owner, clock.after(seconds)))
    connection.execute(FORGET_MANY, (limit,))


def take(connection: sqlite3.Connection, owner: str, turn_id: str, clock: Clock) -> bool:
    """Whether there was one; asked once."""
    return connection.execute(TAKE, (turn_id, owner, clock.now())).rowcount == 1
