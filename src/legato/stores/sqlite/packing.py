"""Turning the segments of an ended turn into one compressed row.

It is a chore, not a part of any write: what is left to do stands in the database (``turn.packed``), so a crash, or
another process that died, only leaves it to whoever opens the file next.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator

from legato.stores.segments import without_hole

RAW, ZLIB = 0, 1
UNPACKED, PACKED, HAS_HOLE = 0, 1, 2
# Bytes of segments read and compressed in one step, about 5 ms: what a queued write may have to wait for.
STEP = 256 * 1024
# Bytes. Shorter logs are not worth the call.
WORTH_IT = 256


def unpacked(lines: bytes, packed: int) -> bytes:
    return zlib.decompress(lines) if packed == ZLIB else lines


def pack_one(lines: bytes) -> tuple[int, bytes]:
    """A whole log at once, for one that comes whole: compressed where that makes it shorter."""
    if len(lines) >= WORTH_IT and len(shorter := zlib.compress(lines)) < len(lines):
        return ZLIB, shorter
    return RAW, lines


def pack_ended(connection: sqlite3.Connection) -> Iterator[None]:
    """Every ended turn that is not packed yet, oldest first, a step at a time."""
    while True:
        found = connection.execute(
            "SELECT id FROM turn WHERE packed = 0 AND ended_at IS NOT NULL ORDER BY nr LIMIT 1"
        ).fetchone()
        if found is None:
            return
        yield from _pack(connection, found[0])


def _pack(connection: sqlite3.Connection, turn_id: str) -> Iterator[None]:
    segments = connection.execute(
        "SELECT rowid, first_seq, last_seq, packed, length(lines) FROM log WHERE turn_id = ? ORDER BY first_seq",
        (turn_id,),
    ).fetchall()
    if not without_hole((first, last) for _, first, last, _, _ in segments):
        # The journal writes a turn's events in their order, so this is what was torn out by hand. It is kept as it is.
        connection.execute("UPDATE turn SET packed = ? WHERE id = ?", (HAS_HOLE, turn_id))
        return
    compressor = zlib.compressobj()
    pieces: list[bytes] = []
    since_yield = 0
    for rowid, _, _, packed, size in segments:
        row = connection.execute("SELECT lines FROM log WHERE rowid = ?", (rowid,)).fetchone()
        if row is None:
            return
        pieces.append(compressor.compress(unpacked(row[0], packed)))
        since_yield += size
        if since_yield >= STEP:
            since_yield = 0
            yield
    pieces.append(compressor.flush())
    yield
    _replace(connection, turn_id, segments, b"".join(pieces))
    yield


def _replace(
    connection: sqlite3.Connection, turn_id: str, segments: list[tuple[int, int, int, int, int]], packed: bytes
) -> None:
    """In one transaction, unless the segments are no longer those that were read (a late write, another process)."""
    connection.execute("BEGIN IMMEDIATE")
    now = connection.execute(
        "SELECT rowid, first_seq, last_seq, packed, length(lines) FROM log WHERE turn_id = ? ORDER BY first_seq",
        (turn_id,),
    ).fetchall()
    if now == segments:
        if segments and _is_worth_it(segments, packed):
            connection.execute("DELETE FROM log WHERE turn_id = ?", (turn_id,))
            connection.execute(
                "INSERT INTO log (turn_id, first_seq, last_seq, packed, lines) VALUES (?, ?, ?, ?, ?)",
                (turn_id, segments[0][1], segments[-1][2], ZLIB, packed),
            )
        connection.execute("UPDATE turn SET packed = ? WHERE id = ?", (PACKED, turn_id))
    connection.execute("COMMIT")


def _is_worth_it(segments: list[tuple[int, int, int, int, int]], packed: bytes) -> bool:
    """Many rows always become one; a single row is left alone where it would not become shorter."""
    return len(segments) > 1 or (segments[0][3] == RAW and len(packed) < segments[0][4])
