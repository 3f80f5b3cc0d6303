"""Turning the segments of an ended turn into one compressed row.

It is a chore, not a part of any write: what is left to do stands in the database (``turn.packed``), so a crash, or
another process that died, only leaves it to whoever opens the file next.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Generator, Iterator
from typing import NamedTuple

from legato.stores.segments import without_hole

RAW, ZLIB = 0, 1
UNPACKED, PACKED, LEFT_AS_IT_IS = 0, 1, 2
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
    segments = _segments(connection, turn_id)
    packed = yield from _compressed(connection, segments)
    connection.execute("BEGIN IMMEDIATE")
    # Unless they are no longer those that were read: a late repeat, or another process with the same chore.
    if _segments(connection, turn_id) == segments:
        if packed is not None and _worth_it(segments, packed):
            connection.execute("DELETE FROM log WHERE turn_id = ?", (turn_id,))
            connection.execute(
                "INSERT INTO log (turn_id, first_seq, last_seq, packed, lines) VALUES (?, ?, ?, ?, ?)",
                (turn_id, segments[0].first_seq, segments[-1].last_seq, ZLIB, packed),
            )
        became = LEFT_AS_IT_IS if packed is None else PACKED
        connection.execute("UPDATE turn SET packed = ? WHERE id = ?", (became, turn_id))
    connection.execute("COMMIT")
    yield


class _Segment(NamedTuple):
    rowid: int
    first_seq: int
    last_seq: int
    packed: int
    size: int


def _segments(connection: sqlite3.Connection, turn_id: str) -> list[_Segment]:
    found = connection.execute(
        "SELECT rowid, first_seq, last_seq, packed, length(lines) FROM log WHERE turn_id = ? ORDER BY first_seq",
        (turn_id,),
    )
    return [_Segment(*one) for one in found.fetchall()]


def _compressed(connection: sqlite3.Connection, segments: list[_Segment]) -> Generator[None, None, bytes | None]:
    """All of them as one; None where they cannot be: the journal leaves no hole, so something was torn out by hand."""
    if not without_hole((one.first_seq, one.last_seq) for one in segments):
        return None
    compressor = zlib.compressobj()
    pieces: list[bytes] = []
    since = 0
    for one in segments:
        found = connection.execute("SELECT lines FROM log WHERE rowid = ?", (one.rowid,)).fetchone()
        try:
            pieces.append(compressor.compress(b"" if found is None else unpacked(found[0], one.packed)))
        except zlib.error:
            return None
        since += one.size
        if since >= STEP:
            since = 0
            yield
    pieces.append(compressor.flush())
    return b"".join(pieces)


def _worth_it(segments: list[_Segment], packed: bytes) -> bool:
    """Several rows always become one; a single one is left alone where it would not become shorter."""
    return len(segments) > 1 or (len(segments) == 1 and segments[0].packed == RAW and len(packed) < segments[0].size)
