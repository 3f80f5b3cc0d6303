"""Results of calls: the closed block of one, and the bytes of those that are too large for a block."""

# ruff: noqa: S608 - the names put into SQL are columns of rows.py; values are always bound

from __future__ import annotations

import sqlite3

from legato.core.blocks import ToolResultBlock
from legato.core.errors import RowRefused, StaleEpoch
from legato.stores.sqlite import rows
from legato.stores.sqlite.failures import GUILTY_ROW, refused

# Pieces that go in one step. Where SQLite overwrites what it deletes, as Debian builds it, a piece of 1 MiB takes 5 to
# 15 ms (2026-11): a queued write waits for a step, not for a gigabyte.
STEP = 4

DROP_BEHIND = f"""
DELETE FROM output WHERE rowid IN (
    SELECT rowid FROM output WHERE turn_id = ? AND call_id = ? AND first >= ? ORDER BY first DESC LIMIT {STEP}
)
"""
# What reaches into the new piece's place. Only the last piece before it can.
CUT_BEFORE = """
UPDATE output SET piece = substr(piece, 1, :offset - first)
WHERE turn_id = :turn_id AND call_id = :call_id AND first + length(piece) > :offset AND first = (
    SELECT max(first) FROM output WHERE turn_id = :turn_id AND call_id = :call_id AND first < :offset)
"""
DROP_OF_CHAT = f"""
DELETE FROM output WHERE rowid IN (
    SELECT output.rowid FROM turn CROSS JOIN output ON output.turn_id = turn.id WHERE turn.chat_id = ? LIMIT {STEP}
)
"""
# From the piece that holds the first byte on. ``substr`` counts in 32 bits (SQLite 3.40, 2026-11), hence the ``min``.
RANGE = """
SELECT first, length(piece), substr(piece, max(1, :from - first + 1), min(:limit, length(piece))) FROM output
WHERE turn_id = :turn_id AND call_id = :call_id AND first < :from + :limit AND first >= coalesce(
    (SELECT max(first) FROM output WHERE turn_id = :turn_id AND call_id = :call_id AND first <= :from), 0)
ORDER BY first
"""
# One look for each turn of the chat, 1 µs: call ids are only as unique as those who made them.
RESULT = f"""
SELECT {", ".join(f"block.{name}" for name in rows.BLOCK.split(", "))}
FROM turn
CROSS JOIN call ON call.turn_id = turn.id AND call.call_id = :call_id
CROSS JOIN block ON block.turn_id = turn.id AND block.idx = call.result_idx
WHERE turn.chat_id = :chat_id ORDER BY turn.nr DESC
"""


def keep_output(
    connection: sqlite3.Connection, turn_id: str, call_id: str, offset: int, piece: bytes, *, epoch: int
) -> bool:
    """False where more has to go first: call again. A call may run again after a crash, and another piece then takes
    the place of what its first run kept from there on; the last pieces go first, so that there never is a hole."""
    standing = connection.execute("SELECT epoch FROM turn WHERE id = ?", (turn_id,)).fetchone()
    if standing is None:
        raise RowRefused(f"turn {turn_id} is not stored", turn_id=turn_id)
    if standing[0] > epoch:
        raise StaleEpoch(f"turn {turn_id} is at epoch {standing[0]}, the write is of {epoch}", turn_id=turn_id)
    key = (turn_id, call_id, offset)
    found = connection.execute("SELECT piece FROM output WHERE turn_id = ? AND call_id = ? AND first = ?", key)
    if found.fetchone() == (piece,):
        return True
    if connection.execute(DROP_BEHIND, key).rowcount == STEP:
        return False
    connection.execute(CUT_BEFORE, {"turn_id": turn_id, "call_id": call_id, "offset": offset})
    try:
        connection.execute("INSERT INTO output (turn_id, call_id, first, piece) VALUES (?, ?, ?, ?)", (*key, piece))
    except GUILTY_ROW as error:
        raise refused(error, turn_id) from error
    return True


def drop_some(connection: sqlite3.Connection, chat_id: str) -> bool:
    """A step towards a chat without outputs. False where there are none any more."""
    return connection.execute(DROP_OF_CHAT, (chat_id,)).rowcount > 0


def output(connection: sqlite3.Connection, turn_id: str, call_id: str, offset: int, limit: int) -> bytes:
    found = connection.execute(RANGE, {"turn_id": turn_id, "call_id": call_id, "from": offset, "limit": limit})
    pieces: list[bytes] = []
    left, expected = limit, offset
    for first, length, cut in found:
        if first > expected:
            break  # a hole
        pieces.append(cut[:left])
        left -= len(pieces[-1])
        expected = first + length
    return b"".join(pieces)


def result(connection: sqlite3.Connection, chat_id: str, call_id: str) -> tuple[str, ToolResultBlock] | None:
    for found in connection.execute(RESULT, {"chat_id": chat_id, "call_id": call_id}).fetchall():
        block = rows.block_of(found)
        # Another block may stand in its place since, after a rewind.
        if isinstance(block, ToolResultBlock) and block.call_id == call_id and block.state != "open":
            return found[0], block
    return None
