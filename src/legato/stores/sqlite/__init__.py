"""The embedded store: one SQLite file in WAL mode, one thread that writes, a few that read."""

from legato.stores.sqlite.store import SqliteStore, open_sqlite

__all__ = ["SqliteStore", "open_sqlite"]
