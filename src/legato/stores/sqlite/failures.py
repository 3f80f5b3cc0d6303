"""SQLite's errors in our words. They are translated here and nowhere else; the message keeps SQLite's own words."""

from __future__ import annotations

import sqlite3
import zlib

import msgspec

from legato.core.errors import LegatoError, RowRefused, StoreError, StoreUnavailable

# What a row itself can be guilty of: a constraint, a size, a number past 64 bits, text that is no UTF-8, a value that
# is no JSON, or is nested too deep. Whoever writes the same row again is refused again.
GUILTY_ROW = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
)


def refused(error: Exception, turn_id: str) -> RowRefused:
    return RowRefused(f"turn {turn_id} was refused: {error}", turn_id=turn_id)


def translated(error: Exception) -> Exception:
    """Of what a job raised: ours stays, SQLite's becomes a ``StoreError``, and a mistake of this program stays one."""
    match error:
        case LegatoError():
            return error
        case sqlite3.IntegrityError() | sqlite3.DataError() | sqlite3.InterfaceError() | sqlite3.ProgrammingError():
            return StoreError(f"the store refused it: {error}", code="persistence_failed")
        case sqlite3.Error():
            return unavailable(error)
        case zlib.error() | msgspec.DecodeError():
            return StoreUnavailable(f"sqlite: what is stored cannot be read: {error}")
        case _:
            return error


def unavailable(error: sqlite3.Error) -> StoreUnavailable:
    """Locked, full, read-only, broken: nothing is wrong with what was asked."""
    return StoreUnavailable(f"sqlite: {error}")
