"""Opening the file: what may be opened, how a connection is set up, and the migrations that bring it up to date.

Migrations are numbered SQL files that only go forward; ``PRAGMA user_version`` is the number of the last one. A
database that is newer than the code is refused, for an older Legato would write rows that a newer one misreads.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, TypeAlias

from legato.core.errors import ConfigError

Synchronous: TypeAlias = Literal["normal", "full"]

# "Lgto": tells our file from another program's SQLite file.
APPLICATION_ID = 0x4C67746F
# RETURNING and UPDATE FROM are newer than what some systems of 2020 carry.
OLDEST_SQLITE = (3, 35, 0)
# Milliseconds. Another process may hold the lock; under persist_timeout (5 s), so that its caller hears the reason.
BUSY_TIMEOUT = 3_000
# Seconds in which another process may be turning the same new file into a WAL database: that does not wait its turn.
WAL_PATIENCE = 5.0
# Pages of 4 KiB in the write-ahead log before they are moved into the database: one fsync for about 16 MiB.
CHECKPOINT_PAGES = 4_000
# Bytes of its file, once it begins anew: a long read in another program may have let it grow beyond all measure.
WAL_BYTES = 67_108_864


def open_writer(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """The connection that writes, its database up to date. Raises ``ConfigError`` with what to do."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise ConfigError(f"python's sqlite is {sqlite3.sqlite_version}, expected {needed} or newer")
    _look_at(path)
    try:
        connection = _connect(str(path))
    except sqlite3.Error as error:
        raise ConfigError(why(path, error)) from error
    try:
        _own(connection, path)
        _use_wal(connection, path)
        connection.execute(f"PRAGMA synchronous = {'FULL' if synchronous == 'full' else 'NORMAL'}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        migrate(connection, path, migrations())
    except sqlite3.Error as error:
        connection.close()
        raise ConfigError(why(path, error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads. It never makes the file: one that is gone is an error."""
    connection = _connect(f"{path.as_uri()}?mode=rw", uri=True)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(name: str, *, uri: bool = False) -> sqlite3.Connection:
    """Transactions are begun in SQL, where they can be read (``isolation_level``)."""
    wait = BUSY_TIMEOUT / 1000
    connection = sqlite3.connect(name, isolation_level=None, timeout=wait, cached_statements=256, uri=uri)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _look_at(path: Path) -> None:
    if path.name == ":memory:":
        raise ConfigError("database :memory: cannot be shared between threads; name a file")
    if path.is_dir():
        raise ConfigError(f"database {path} is a directory; name a file in it")
    if not path.parent.is_dir():
        raise ConfigError(f"database {path}: there is no directory {path.parent}; make it, or name another path")


def why(path: Path, error: sqlite3.Error) -> str:
    """That the file cannot be opened, and what to do about it."""
    match error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else None:
        case sqlite3.SQLITE_NOTADB:
            said = "it is no SQLite database; name another path"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            said = "it and its directory must be writable; change that, or name another path"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            said = "another process holds it; stop that one, or name another path"
        case sqlite3.SQLITE_FULL:
            said = "the disk is full; make room, or name another path"
        case _:
            said = "it cannot be used"
    return f"database {path}: {said} (sqlite: {error})"


def _own(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what another program made, before a byte of it is changed."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    # Looked at last: a second process may make the schema meanwhile, and its name comes with it.
    if (tables or _pragma(connection, "user_version")) and _pragma(connection, "application_id") != APPLICATION_ID:
        raise ConfigError(f"database {path} was made by another program; name another path")


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    deadline = time.monotonic() + WAL_PATIENCE
    mode = None
    while mode is None:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    if mode != "wal":
        raise ConfigError(f"database {path}: no write-ahead log is possible there (network file system?); move it")


def migrate(connection: sqlite3.Connection, path: Path, scripts: Sequence[str]) -> None:
    """Run those that are missing, in one transaction: a crash, or a second process meanwhile, finds all or nothing.

    After an error the transaction is open: close the connection.
    """
    connection.execute("BEGIN IMMEDIATE")
    found = _pragma(connection, "user_version")
    if found > len(scripts):
        raise ConfigError(
            f"database {path} has schema {found}, this legato knows up to {len(scripts)}; use a newer legato"
        )
    for script in scripts[found:]:
        for statement in _statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(scripts)}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def migrations() -> list[str]:
    """The scripts in order; the n-th brings the schema to version n."""
    files = resources.files("legato.stores.sqlite") / "migrations"
    named = sorted(
        (file.name, file.read_text(encoding="utf-8")) for file in files.iterdir() if file.name[-4:] == ".sql"
    )
    for number, (name, _) in enumerate(named, start=1):
        if not name.startswith(f"{number:04}_"):
            raise ConfigError(f"migration {number:04} is missing, found {name}; install legato again")
    return [script for _, script in named]


def _statements(script: str) -> Iterator[str]:
    """One at a time: ``executescript`` would commit before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    assert isinstance(value, int)
    return value
