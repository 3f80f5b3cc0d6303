"""``ports.Documents`` on the store's own file: its writer writes, its readers read."""

# ruff: noqa: S608 - the names put into SQL are columns of shelf.py; values are always bound

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence

import msgspec

from legato.core.documents import (
    Bounds,
    Change,
    Changed,
    Document,
    DocumentPage,
    DocumentText,
    Entry,
    HitPage,
    Version,
    VersionPage,
    document_path,
    key_of,
)
from legato.core.workspace import Write, changed, decide, not_there, read, too_much, unchanged
from legato.ports import Clock
from legato.stores import pages
from legato.stores.sqlite.document_search import search
from legato.stores.sqlite.readers import Readers
from legato.stores.sqlite.shelf import DOCUMENT, SqliteShelf, document_of, inside
from legato.stores.sqlite.writer import Writer

# Calls whose outcome is kept. A call's fate is asked at the next start, long before so many others were made.
KEPT_CALLS = 10_000

# What was deleted first, over the bounds; nothing of the deletion itself.
FORGET_DELETED = """
DELETE FROM document WHERE nr IN (
    SELECT nr FROM (
        SELECT nr, version, row_number() OVER last_first AS place, sum(bytes) OVER last_first AS total
        FROM document WHERE owner = :owner AND deleted = 1
        WINDOW last_first AS (ORDER BY version DESC, key)
    ) WHERE version < :version AND (place > :most OR total > :bytes)
)
"""
# The oldest texts over the bounds; and what has none and is older than as many changes, for no text depends on it.
FORGET_VERSIONS = """
DELETE FROM document_version WHERE document = :nr AND (
    version < (
        SELECT min(version) FROM (
            SELECT version, row_number() OVER last_first AS place, sum(bytes) OVER last_first AS total
            FROM document_version WHERE document = :nr AND text IS NOT NULL
            WINDOW last_first AS (ORDER BY version DESC)
        ) WHERE place = 1 OR place <= :most AND total <= :bytes
    ) OR text IS NULL AND version < (
        SELECT version FROM document_version WHERE document = :nr ORDER BY version DESC LIMIT 1 OFFSET :most - 1
    )
)
"""

_changed = msgspec.json.Decoder(Changed)


class SqliteDocuments:
    """Made by ``SqliteStore.documents``."""

    def __init__(self, writer: Writer, readers: Readers, bounds: Bounds, clock: Clock) -> None:
        self._clock = clock
        self._writer = writer
        self._readers = readers
        self._bounds = bounds

    async def change(self, owner: str, change: Change, *, key: str | None = None) -> Changed:
        return await self._writer.run(
            lambda connection: _change(connection, owner, change, key, self._bounds, self._clock)
        )

    async def changed(self, key: str) -> Changed | None:
        return await self._readers.run(lambda connection: _called(connection, key))

    async def read(self, owner: str, path: str, *, version: int | None = None) -> DocumentText:
        return await self._readers.run(lambda connection: read(SqliteShelf(connection, owner), path, version))

    async def page(self, owner: str, *, folder: str, limit: int, before: str | None, deleted: bool) -> DocumentPage:
        if deleted:
            return await self._readers.run(lambda connection: _deleted(connection, owner, folder, limit, before))
        return await self._readers.run(lambda connection: _page(connection, owner, folder, limit, before))

    async def tree(self, owner: str, folder: str) -> Sequence[tuple[str, int]]:
        return await self._readers.run(lambda connection: _tree(connection, owner, folder))

    async def search(self, owner: str, query: str, *, folder: str, limit: int, before: str | None) -> HitPage:
        return await self._readers.run(lambda connection: search(connection, owner, query, folder, limit, before))

    async def versions(self, owner: str, path: str, *, limit: int, before: str | None) -> VersionPage:
        return await self._readers.run(
            lambda connection: _versions(connection, owner, document_path(path), limit, before)
        )

    async def entries(self, owner: str, folder: str, *, max_bytes: int) -> Sequence[Entry]:
        return await self._readers.run(lambda connection: _entries(connection, owner, folder, max_bytes))


# Writing


def _change(
    connection: sqlite3.Connection, owner: str, change: Change, key: str | None, bounds: Bounds, clock: Clock
) -> Changed:
    if key is not None and (before := _called(connection, key)) is not None:
        return before
    shelf = SqliteShelf(connection, owner)
    writes = decide(shelf, change, bounds)
    outcome = _carry_out(connection, owner, writes, bounds, clock) if writes else unchanged(shelf, change)
    if key is not None:
        connection.execute(
            "INSERT INTO document_call (key, changed) VALUES (?, ?)", (key, msgspec.json.encode(outcome).decode())
        )
        connection.execute(
            "DELETE FROM document_call WHERE nr <= (SELECT max(nr) FROM document_call) - ?", (KEPT_CALLS,)
        )
    return outcome


def _carry_out(
    connection: sqlite3.Connection, owner: str, writes: Sequence[Write], bounds: Bounds, clock: Clock
) -> Changed:
    (version,) = connection.execute(
        "INSERT INTO workspace (owner, changes) VALUES (?, 1)"
        " ON CONFLICT (owner) DO UPDATE SET changes = changes + 1 RETURNING changes",
        (owner,),
    ).fetchone()
    now = clock.now()
    documents = [_write(connection, owner, one, version, now, bounds) for one in writes]
    if writes[0].what == "deleted":
        connection.execute(
            FORGET_DELETED,
            {"owner": owner, "version": version, "most": bounds.deleted, "bytes": bounds.workspace_bytes},
        )
    return changed(version, writes[0].what if len({one.what for one in writes}) == 1 else "edited", documents)


def _write(connection: sqlite3.Connection, owner: str, one: Write, version: int, now: str, bounds: Bounds) -> Document:
    nr = _put_row(connection, owner, one, version, now)
    packed = None if one.text is None else zlib.compress(one.text.encode())
    connection.execute(
        "INSERT INTO document_version (document, version, what, path, text, bytes, words, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (nr, version, one.what, one.path, packed, one.bytes, one.words, now),
    )
    connection.execute(FORGET_VERSIONS, {"nr": nr, "most": bounds.versions, "bytes": bounds.version_bytes})
    return document_of(connection.execute(f"SELECT {DOCUMENT} FROM document WHERE nr = ?", (nr,)).fetchone())


def _put_row(connection: sqlite3.Connection, owner: str, one: Write, version: int, now: str) -> int:
    """The number of the row."""
    key = key_of(one.path)
    state = (one.bytes, one.words, version, now)
    if one.nr is None:
        (nr,) = connection.execute(
            "INSERT INTO document (owner, path, key, text, bytes, words, version, updated_at, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING nr",
            (owner, one.path, key, one.text, *state, now),
        ).fetchone()
        assert isinstance(nr, int)
        return nr
    connection.execute(
        "UPDATE document SET path = ?, key = ?, text = coalesce(?, text), bytes = ?, words = ?, version = ?,"
        " updated_at = ?, deleted = ?, created_at = iif(?, ?, created_at) WHERE nr = ?",
        (one.path, key, one.text, *state, one.what == "deleted", one.what == "created", now, one.nr),
    )
    return one.nr


# Reading


def _called(connection: sqlite3.Connection, key: str) -> Changed | None:
    row = connection.execute("SELECT changed FROM document_call WHERE key = ?", (key,)).fetchone()
    return None if row is None else _changed.decode(row[0])


def _page(connection: sqlite3.Connection, owner: str, folder: str, limit: int, before: str | None) -> DocumentPage:
    first, last = inside(folder)
    rows = connection.execute(
        f"SELECT {DOCUMENT}, key FROM document WHERE owner = ? AND deleted = 0 AND key >= ? AND key < ? AND key > ?"
        " ORDER BY key LIMIT ?",
        (owner, first, last, "" if before is None else pages.read_path(before), limit + 1),
    ).fetchall()
    follows = pages.after_path(rows[limit - 1][6]) if len(rows) > limit else None
    return DocumentPage(data=tuple(document_of(row[:6]) for row in rows[:limit]), next=follows)


def _deleted(connection: sqlite3.Connection, owner: str, folder: str, limit: int, before: str | None) -> DocumentPage:
    """The last deleted first; those of one deletion by path."""
    first, last = inside(folder)
    version, key = (2**63 - 1, "") if before is None else pages.read_deleted(before)
    rows = connection.execute(
        f"SELECT {DOCUMENT}, key FROM document WHERE owner = ? AND deleted = 1 AND key >= ? AND key < ?"
        " AND (version < ? OR version = ? AND key > ?) ORDER BY version DESC, key LIMIT ?",
        (owner, first, last, version, version, key, limit + 1),
    ).fetchall()
    follows = pages.after_deleted(rows[limit - 1][1], rows[limit - 1][6]) if len(rows) > limit else None
    return DocumentPage(data=tuple(document_of(row[:6]) for row in rows[:limit]), next=follows)


def _tree(connection: sqlite3.Connection, owner: str, folder: str) -> list[tuple[str, int]]:
    return connection.execute(
        "SELECT path, words FROM document WHERE owner = ? AND deleted = 0 AND key >= ? AND key < ? ORDER BY key",
        (owner, *inside(folder)),
    ).fetchall()


def _versions(connection: sqlite3.Connection, owner: str, path: str, limit: int, before: str | None) -> VersionPage:
    shelf = SqliteShelf(connection, owner)
    found = shelf.find(key_of(path)) or shelf.deleted(key_of(path))
    if found is None:
        raise not_there(path)
    rows = connection.execute(
        "SELECT version, what, path, bytes, words, at, text_version FROM ("
        " SELECT *, max(iif(text IS NULL, 0, version)) OVER (ORDER BY version) AS text_version"
        " FROM document_version WHERE document = ?) WHERE version < ? ORDER BY version DESC LIMIT ?",
        (found.nr, 2**63 - 1 if before is None else pages.read_version(before), limit + 1),
    ).fetchall()
    data = tuple(
        Version(version=version, what=what, path=at_path, bytes=size, words=words, at=at, text_version=text_version)
        for version, what, at_path, size, words, at, text_version in rows[:limit]
    )
    return VersionPage(data=data, next=pages.after_version(data[-1].version) if len(rows) > limit else None)


def _entries(connection: sqlite3.Connection, owner: str, folder: str, max_bytes: int) -> list[Entry]:
    place = (owner, *inside(folder))
    where = "FROM document WHERE owner = ? AND deleted = 0 AND key >= ? AND key < ?"
    (size,) = connection.execute(f"SELECT coalesce(sum(bytes), 0) {where}", place).fetchone()
    if size > max_bytes:
        raise too_much(size, max_bytes)
    return [Entry(*row) for row in connection.execute(f"SELECT path, text {where} ORDER BY key", place)]
