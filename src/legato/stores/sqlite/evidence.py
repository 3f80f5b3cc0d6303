"""A database file read back for ``core.verifying``: nothing is written, and what is broken is named and not raised.

It may be read while a server writes: each turn, and each chat, is taken at one moment.
"""

# ruff: noqa: S608 - the names put into SQL are columns of rows.py; values are always bound

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from legato.core.errors import ConfigError
from legato.core.evidence import ChatEvidence, Evidence, FileState, Finding, Unended, Unreadable
from legato.core.records import KeptNeed, LogSegment, TurnRow
from legato.stores.sqlite import queries, rows
from legato.stores.sqlite.failures import unavailable
from legato.stores.sqlite.packing import unpacked
from legato.stores.sqlite.rows import Found
from legato.stores.sqlite.schema import APPLICATION_ID, migrations, open_reader, why

T = TypeVar("T")

# Ids fetched at once: their number is nobody's promise.
PAGE = 500
# Of a database's own complaints: the first ones say it.
PROBLEMS = 20
LOG = "first_seq, last_seq, packed, lines"
# What reading a row raises that is not as it was written: no JSON, no zlib, no UTF-8, another type than its column's.
BROKEN = (ValueError, TypeError, zlib.error, RecursionError)
# SQLite's own words for a page, or a text, that is not as it was written. What else it raises is no fault of a row.
_BROKEN_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB}


@contextmanager
def open_evidence(path: Path) -> Iterator[EvidenceFile]:
    """Raises ``ConfigError`` for what is no database of this version, ``StoreUnavailable`` for what cannot be read."""
    file = Path.cwd() / path
    if file.is_dir():
        raise ConfigError(f"database {path} is a directory; name a file in it")
    if not file.is_file():
        raise ConfigError(f"database {path}: there is no such file; name another path")
    try:
        connection = open_reader(file)
    except sqlite3.Error as error:
        raise unavailable(error) from error
    try:
        _look_at(connection, path)
        yield EvidenceFile(connection, file)
    except sqlite3.Error as error:
        raise unavailable(error) from error
    finally:
        connection.close()


def _look_at(connection: sqlite3.Connection, path: Path) -> None:
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise ConfigError(why(path, error)) from error
    if application != APPLICATION_ID:
        raise ConfigError(f"database {path} was made by another program; name another path")
    if version != len(migrations()):
        raise ConfigError(
            f"database {path} has schema {version}, this legato reads {len(migrations())}; "
            "start this version's server on it once, or use the version it was made with"
        )


class EvidenceFile:
    """``ports.Archive``. Made by ``open_evidence``."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def count_turns(self, chat_id: str | None) -> int:
        where = "" if chat_id is None else "WHERE chat_id = ?"
        (count,) = self._connection.execute(
            f"SELECT count(*) FROM turn {where}", () if chat_id is None else (chat_id,)
        ).fetchone()
        return int(count)

    def turn_ids(self, chat_id: str | None) -> Iterator[str]:
        """Those that are there now, in the order they were made."""
        (last,) = self._connection.execute("SELECT coalesce(max(nr), 0) FROM turn").fetchone()
        yield from self._paged(
            "SELECT nr, id FROM turn WHERE nr > :after AND nr <= :last AND (:chat IS NULL OR chat_id = :chat)"
            " ORDER BY nr LIMIT :page",
            {"after": 0, "last": last, "chat": chat_id, "page": PAGE},
        )

    def chat_ids(self) -> Iterator[str]:
        yield from self._paged(
            "SELECT rowid, id FROM chat WHERE rowid > :after ORDER BY rowid LIMIT :page", {"after": 0, "page": PAGE}
        )

    def _paged(self, statement: str, values: dict[str, object]) -> Iterator[str]:
        while found := self._connection.execute(statement, values).fetchall():
            for place, name in found:
                values["after"] = place
                yield name

    def strays(self) -> Iterator[Finding]:
        """Rows whose turn, or whose chat, is missing."""
        for table, rowid, parent, _ in self._connection.execute("PRAGMA foreign_key_check"):
            message = f"row {rowid} belongs to a {parent} that is missing"
            yield Finding(chat_id=None, turn_id=None, place=f"table {table}", promise="P4", message=message)

    def chat(self, chat_id: str) -> ChatEvidence | Finding | None:
        """None where it is gone since."""
        try:
            with self._one_moment():
                chat = queries.chat(self._connection, chat_id)
                return (
                    None
                    if chat is None
                    else ChatEvidence(chat=chat, turns=tuple(queries.tree(self._connection, chat_id)))
                )
        except (*BROKEN, sqlite3.DatabaseError) as error:
            return _unreadable(error, chat_id=chat_id, turn_id=None, place="chat")

    def turn(self, turn_id: str) -> Evidence | Finding | None:
        """None where it is gone since."""
        try:
            with self._one_moment():
                row = queries.turn(self._connection, turn_id)
                return None if row is None else _Reader(self._connection, turn_id).evidence(_typed(row))
        except (*BROKEN, sqlite3.DatabaseError) as error:
            return _unreadable(error, chat_id=None, turn_id=turn_id, place="turn")

    def unended(self) -> Sequence[Unended]:
        found = []
        for row in queries.unended(self._connection):
            spans = queries.spans(self._connection, row.id) if row.status == "waiting" else ()
            waits = [span.start_ms for span in spans if span.kind == "waiting" and span.end_ms is None]
            found.append(Unended(row, max(waits, default=None)))
        return found

    def file_state(self) -> FileState:
        one = self._connection.execute
        problems = tuple(str(said) for (said,) in one(f"PRAGMA quick_check({PROBLEMS})") if said != "ok")
        counted = one(
            "SELECT (SELECT count(*) FROM turn), (SELECT count(*) FROM chat),"
            " (SELECT count(*) FROM turn WHERE packed = 0 AND ended_at IS NOT NULL)"
        ).fetchone()
        return FileState(
            bytes=_size(self._path),
            wal_bytes=_size(self._path.with_name(self._path.name + "-wal")),
            turns=counted[0],
            chats=counted[1],
            unpacked=counted[2],
            problems=problems,
        )

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")


def _unreadable(error: Exception, *, chat_id: str | None, turn_id: str | None, place: str) -> Finding:
    if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF not in _BROKEN_CODES:
        raise unavailable(error) from error
    return Finding(chat_id=chat_id, turn_id=turn_id, place=place, promise="P5", message=f"cannot be read: {error}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Reader:
    """One turn, table by table."""

    def __init__(self, connection: sqlite3.Connection, turn_id: str) -> None:
        self._connection = connection
        self._turn_id = turn_id
        self._unreadable: list[Unreadable] = []

    def evidence(self, row: TurnRow) -> Evidence:
        calls = self._fetched(rows.INTENT + ", reading, formatter, version, result_idx", "call", "round, idx, call_id")
        return Evidence(
            row=row,
            segments=tuple(
                self._read(
                    self._fetched(LOG, "log", "first_seq"), lambda one: f"events {one[0]} to {one[1]}", _segment_of
                )
            ),
            blocks=tuple(
                self._read(self._fetched(rows.BLOCK, "block", "idx"), lambda one: f"block {one[1]}", rows.block_of)
            ),
            rounds=tuple(
                self._read(
                    self._fetched(rows.ROUND, "round", "round, attempt"),
                    lambda one: f"round {one[1]}, attempt {one[2]}",
                    rows.round_of,
                )
            ),
            intents=tuple(
                self._read((one for one in calls if one[7] is not None), lambda one: f"call {one[1]}", rows.intent_of)
            ),
            readings=tuple(
                self._read(
                    ((*one[:2], *one[9:12]) for one in calls if one[10] is not None),
                    lambda one: f"call {one[1]}",
                    rows.reading_of,
                )
            ),
            results={one[1]: one[12] for one in calls if one[12] is not None},
            needs=tuple(
                self._read(
                    self._fetched(rows.KEPT_NEED + ", call_id, nr, kind", "need", "place"),
                    lambda one: f"call {one[3]}",
                    _need_of,
                )
            ),
            steers=tuple(
                self._read(
                    self._fetched(rows.KEPT_STEER, "steer", "place"), lambda one: f"steer {one[0]}", rows.kept_steer_of
                )
            ),
            data=tuple(
                self._read(
                    self._fetched(rows.DATUM, "datum", "idx"), lambda one: f"data of block {one[1]}", rows.datum_of
                )
            ),
            outputs=self._outputs(),
            unreadable=tuple(self._unreadable),
        )

    def _fetched(self, columns: str, table: str, order: str) -> list[Found]:
        return self._connection.execute(
            f"SELECT {columns} FROM {table} WHERE turn_id = ? ORDER BY {order}", (self._turn_id,)
        ).fetchall()

    def _read(
        self, found: Iterator[Found] | list[Found], place: Callable[[Found], str], of: Callable[[Found], T]
    ) -> Iterator[T]:
        for one in found:
            try:
                yield _typed(of(one))
            except BROKEN as error:
                self._unreadable.append(Unreadable(place(one), str(error)))

    def _outputs(self) -> dict[str, tuple[tuple[int, int], ...]]:
        pieces: dict[str, list[tuple[int, int]]] = {}
        for call_id, first, length in self._fetched("call_id, first, length(piece)", "output", "call_id, first"):
            pieces.setdefault(call_id, []).append((first, length))
        return {call_id: tuple(each) for call_id, each in pieces.items()}


def _typed(value: T) -> T:
    """Raises ``ValueError`` for what is not of its fields' types: SQLite keeps whatever it is given."""
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    return msgspec.convert(plain, type(value), builtin_types=(bytes,))


def _need_of(found: Found) -> KeptNeed:
    kept = rows.kept_need_of(found[:3])
    if (kept.need.call_id, kept.need.nr, kept.need.kind) != found[3:]:
        raise ValueError("the columns of its need are not what its body says")
    return kept


def _segment_of(found: Found) -> LogSegment:
    first, last, packed, lines = found
    return LogSegment(first_seq=first, last_seq=last, lines=unpacked(lines, packed))
