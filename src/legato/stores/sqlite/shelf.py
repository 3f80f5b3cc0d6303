"""One owner's workspace inside a transaction (``core.workspace.Shelf``), and the rows of documents."""

# ruff: noqa: S608 - the names put into SQL are the columns below; values are always bound

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from typing import Final

from legato.core.documents import Document, key_of
from legato.core.workspace import Kept, Placed

DOCUMENT: Final = "path, version, bytes, words, created_at, updated_at"
_PLACED: Final = f"{DOCUMENT}, nr"
_KEPT: Final = f"{DOCUMENT}, nr, text"

Row = tuple[str, int, int, int, str, str]


def document_of(row: Row) -> Document:
    path, version, size, words, created_at, updated_at = row
    return Document(path=path, version=version, bytes=size, words=words, created_at=created_at, updated_at=updated_at)


def inside(folder: str) -> tuple[str, str | bytes]:
    """Keys from the first up to but not the second are below the folder. A text comes before every blob."""
    key = key_of(folder)
    return (key, f"{key[:-1]}0") if key else ("", b"")


def unpacked(text: bytes) -> str:
    return zlib.decompress(text).decode()


class SqliteShelf:
    def __init__(self, connection: sqlite3.Connection, owner: str) -> None:
        self._connection = connection
        self._owner = owner

    def find(self, key: str) -> Kept | None:
        return _kept(
            self._connection.execute(
                f"SELECT {_KEPT} FROM document WHERE owner = ? AND key = ? AND deleted = 0", (self._owner, key)
            ).fetchone()
        )

    def below(self, prefix: str) -> Sequence[Placed]:
        found = self._connection.execute(
            f"SELECT {_PLACED} FROM document WHERE owner = ? AND deleted = 0 AND key >= ? AND key < ? ORDER BY key",
            (self._owner, *inside(prefix)),
        )
        return [_placed(row) for row in found]

    def first_below(self, prefix: str, *, but: str | None) -> str | None:
        first, last = inside(but) if but is not None and but.endswith("/") else (but, f"{but}\0")
        row = self._connection.execute(
            "SELECT path FROM document WHERE owner = ? AND deleted = 0 AND key >= ? AND key < ?"
            " AND (? IS NULL OR key < ? OR key >= ?) ORDER BY key LIMIT 1",
            (self._owner, *inside(prefix), but, first, last),
        ).fetchone()
        return None if row is None else str(row[0])

    def deleted(self, key: str) -> Kept | None:
        return _kept(
            self._connection.execute(
                f"SELECT {_KEPT} FROM document WHERE owner = ? AND key = ? AND deleted = 1"
                " ORDER BY version DESC LIMIT 1",
                (self._owner, key),
            ).fetchone()
        )

    def deleted_below(self, prefix: str) -> Sequence[Placed]:
        found = self._connection.execute(
            f"SELECT {_PLACED} FROM document WHERE owner = :owner AND deleted = 1 AND key >= :first AND key < :last"
            " AND version = (SELECT max(version) FROM document WHERE owner = :owner AND deleted = 1"
            "  AND key >= :first AND key < :last) ORDER BY key",
            {"owner": self._owner, **dict(zip(("first", "last"), inside(prefix), strict=True))},
        )
        return [_placed(row) for row in found]

    def version(self, nr: int, version: int) -> Kept | None:
        """A number between two versions names none."""
        row = self._connection.execute(
            "SELECT said.path, said.version, said.bytes, said.words, document.created_at, said.at, document.nr,"
            " (SELECT at.text FROM document_version AS at WHERE at.document = said.document"
            "  AND at.version <= said.version AND at.text IS NOT NULL ORDER BY at.version DESC LIMIT 1)"
            " FROM document_version AS said JOIN document ON document.nr = said.document"
            " WHERE said.document = ? AND said.version = ?",
            (nr, version),
        ).fetchone()
        return None if row is None or row[7] is None else _kept((*row[:7], unpacked(row[7])))

    def text_before(self, nr: int) -> str | None:
        row = self._connection.execute(
            "SELECT text FROM document_version WHERE document = ? AND text IS NOT NULL"
            " ORDER BY version DESC LIMIT 1 OFFSET 1",
            (nr,),
        ).fetchone()
        return None if row is None else unpacked(row[0])

    def totals(self) -> tuple[int, int]:
        count, size = self._connection.execute(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM document WHERE owner = ? AND deleted = 0", (self._owner,)
        ).fetchone()
        return count, size


def _placed(row: tuple[str, int, int, int, str, str, int]) -> Placed:
    path, version, size, words, created_at, updated_at, nr = row
    return Placed(
        path=path, version=version, bytes=size, words=words, created_at=created_at, updated_at=updated_at, nr=nr
    )


def _kept(row: tuple[str, int, int, int, str, str, int, str] | None) -> Kept | None:
    if row is None:
        return None
    path, version, size, words, created_at, updated_at, nr, text = row
    return Kept(
        path=path,
        version=version,
        bytes=size,
        words=words,
        created_at=created_at,
        updated_at=updated_at,
        nr=nr,
        text=text,
    )
