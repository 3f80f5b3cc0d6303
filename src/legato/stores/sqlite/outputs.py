"""Results of calls: the closed block of one, and the bytes of those that are too large for a block."""

# ruff: noqa: S608 - the names put into SQL are columns of rows.py; values are always bound

from __future__ import annotations

import sqlite3

from legato.core.blocks import ToolResultBlock
from legato.core.errors import RowRefused
from legato.stores.sqlite import rows
from legato.stores.sqlite.failures import GUILTY_ROW, refused

# From the piece that holds the first byte on. ``substr`` counts in 32 bits (SQLite 3.40, 2026-11), hence the ``min``.
RANGE = """
SELECT first, length(piece), substr(piece, max(1, :from - first + 1), min(:limit, length(piece))) FROM output
WHERE turn_id = :turn_id AND call_id = :call_id AND first < :from + :limit AND first >= coalesce(
    (SELECT max(first) FROM output WHERE turn_id = :turn_id AND call_id = :call_id AND first <= :from), 0)
ORDER BY first
"""
RESULT = f"""
SELECT {", ".join(f"block.{name}" for name in rows.BLOCK.split(", "))}
FROM block JOIN turn ON turn.id = block.turn_id
WHERE block.call_id = ? AND block.type = 'tool_result' AND block.state <> 'open' AND turn.chat_id = ?
ORDER BY turn.nr DESC, block.idx DESC LIMIT 1
"""


def keep_output(connection: sqlite3.Connection, turn_id: str, call_id: str, offset: int, piece: bytes) -> None:
    """A call may run again after a crash: another piece takes the place of what its first run kept from there on."""
    if not piece:
        return
    key = (turn_id, call_id, offset)
    found = connection.execute("SELECT piece FROM output WHERE turn_id = ? AND call_id = ? AND first = ?", key)
    if found.fetchone() == (piece,):
        return
    if connection.execute("SELECT 1 FROM turn WHERE id = ?", (turn_id,)).fetchone() is None:
        raise RowRefused(f"turn {turn_id} is not stored", turn_id=turn_id)
    connection.execute("DELETE FROM output WHERE turn_id = ? AND call_id = ? AND first >= ?", key)
    try:
        connection.execute("INSERT INTO output (turn_id, call_id, first, piece) VALUES (?, ?, ?, ?)", (*key, piece))
    except GUILTY_ROW as error:
        raise refused(error, turn_id) from error


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
    found = connection.execute(RESULT, (call_id, chat_id)).fetchone()
    if found is None:
        return None
    block = rows.block_of(found)
    assert isinstance(block, ToolResultBlock)
    return found[0], block
