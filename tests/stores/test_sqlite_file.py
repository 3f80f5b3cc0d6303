"""Opening a file: new ones, old ones, newer ones, and what is no database of ours."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.values import Make

from legato.core.errors import ConfigError
from legato.core.records import Answer, Need, Reading, Rest
from legato.stores.sqlite import open_sqlite, schema


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        (value,) = connection.execute(f"PRAGMA {name}").fetchone()
        return value


def files_of(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_a_new_file_has_the_newest_schema_and_a_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "legato.db"
    for _ in range(2):
        store = await open_sqlite(path)
        await store.ping()
        await store.close()
    assert pragma(path, "user_version") == len(schema.migrations()) >= 1
    assert pragma(path, "application_id") == schema.APPLICATION_ID
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "integrity_check") == "ok"


async def test_a_log_that_a_long_read_let_grow_is_cut_when_it_begins_anew(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CHECKPOINT_PAGES", 10)
    monkeypatch.setattr(schema, "WAL_BYTES", 65_536)
    path, wal = tmp_path / "legato.db", tmp_path / "legato.db-wal"
    store = await open_sqlite(path)
    turn_id = (await make.begun(store)).assistant.id
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM turn").fetchone()
        for piece in range(20):
            await store.keep_output(turn_id, "call", piece * 100_000, b"x" * 100_000, epoch=0)
        other.execute("COMMIT")
    assert wal.stat().st_size > 1_000_000
    for piece in range(20, 23):
        await store.keep_output(turn_id, "call", piece * 100_000, b"x", epoch=0)
    assert wal.stat().st_size <= 65_536
    await store.close()


async def test_what_was_stored_is_there_after_reopening(tmp_path: Path, make: Make) -> None:
    store = await open_sqlite(str(tmp_path / "legato.db"))
    new = await make.begun(store)
    stored = await store.load(new.assistant.id)
    await store.close()
    again = await open_sqlite(tmp_path / "legato.db")
    assert await again.load(new.assistant.id) == stored
    assert [row.id for row in await again.unended()] == [new.assistant.id]
    await again.close()


async def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    stores = await asyncio.gather(*(open_sqlite(tmp_path / "legato.db", readers=1) for _ in range(6)))
    for store in stores:
        await store.ping()
        await store.close()


@pytest.mark.parametrize(("synchronous", "number"), [("normal", 1), ("full", 2)])
async def test_the_setting_says_what_a_power_cut_may_take(tmp_path: Path, synchronous: str, number: int) -> None:
    store = await open_sqlite(tmp_path / "legato.db", synchronous="full" if synchronous == "full" else "normal")
    found = await store._writer.run(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
    assert found == (number,)
    await store.close()


async def test_a_relative_path_stays_the_same_file_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = await open_sqlite("a b%20?#é.db")
    monkeypatch.chdir("/")
    assert await store.turn("x") is None
    await store.close()
    assert (tmp_path / "a b%20?#é.db").is_file()


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"there is no directory {tmp_path}/nowhere"):
        await open_sqlite(tmp_path / "nowhere" / "legato.db")


async def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        await open_sqlite(tmp_path)


async def test_memory_is_refused_for_each_thread_would_have_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name a file"):
        await open_sqlite(":memory:")


async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear dragon,\n" * 100)
    with pytest.raises(ConfigError, match="no SQLite database"):
        await open_sqlite(path)
    assert path.read_text() == "Dear dragon,\n" * 100
    assert files_of(tmp_path) == ["letter.txt"]


async def test_another_programs_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE turn (id)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="made by another program"):
        await open_sqlite(path)
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "legato.db"
    await (await open_sqlite(path)).close()
    known = len(schema.migrations())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {known + 1}")
    with pytest.raises(ConfigError, match=f"has schema {known + 1}, this legato knows up to {known}"):
        await open_sqlite(path)


async def test_an_open_that_was_given_up_leaves_no_thread_and_a_good_file(tmp_path: Path) -> None:
    opening = asyncio.ensure_future(open_sqlite(tmp_path / "legato.db"))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    store = await open_sqlite(tmp_path / "legato.db")
    await store.ping()
    await store.close()


REFUSED = """
import asyncio, os, sys
from legato.stores.sqlite import open_sqlite
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anything, nobody may not
try:
    asyncio.run(open_sqlite(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("name", ["legato.db", "new.db"])
def test_a_file_or_directory_that_may_not_be_written_is_named(name: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "legato.db"
        path.touch(0o444)
        path.parent.chmod(0o555)
        said = subprocess.run(
            [sys.executable, "-c", REFUSED, str(path.with_name(name))], check=True, capture_output=True, text=True
        )
        path.parent.chmod(0o755)
    assert said.stdout.startswith(f"ConfigError database {folder}/{name}: it and its directory must be writable"), said


# Migrations


def test_migrations_are_numbered_without_a_hole_and_run_from_empty() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection, Path("x"), schema.migrations())
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    assert {"chat", "turn", "log", "block", "round", "call", "datum", "timeline", "need", "output"} <= {
        name for (name,) in tables
    }


OF_THE_FIRST_SCHEMA = """
INSERT INTO chat VALUES ('c', 'ann', 'A talk', NULL, NULL, '{}', 'a2', 'a2', '2026-11-24T05:00:00.000Z',
    '2026-11-24T05:00:03.000Z');
INSERT INTO turn (id, chat_id, prev_turn_id, role, status, created_at, depth, metadata, usage, ended_at, last_seq)
VALUES
    ('u1', 'c', NULL, 'user', 'complete', '2026-11-24T05:00:00.000Z', 1, '{}', '{}', '2026-11-24T05:00:00.000Z', 1),
    ('a1', 'c', 'u1', 'assistant', 'complete', '2026-11-24T05:00:01.000Z', 2, '{"k":1}', '{}',
        '2026-11-24T05:00:02.000Z', 2),
    ('a2', 'c', 'u1', 'assistant', 'running', '2026-11-24T05:00:03.000Z', 2, '{}', '{}', NULL, 0);
INSERT INTO log VALUES ('a1', 1, 2, 0, x'7b7d0a7b7d0a');
INSERT INTO block VALUES
    ('u1', 0, 0, 'text', 'complete', 'c1', '{}', 1),
    ('a1', 0, 1, 'tool_use', 'complete', '{}',
        '{"call_id":"c1","tool_name":"look","origin":"server","input":{}}', 2),
    ('a1', 1, 1, 'tool_use', 'complete', '{}',
        '{"call_id":"c2","tool_name":"look","origin":"server","input":{}}', 2),
    ('a1', 2, 1, 'tool_result', 'complete', '',
        '{"call_id":"c1","tool_name":"look","origin":"server","outcome":"ok","output":12345678901234567890}', 2),
    ('a1', 3, 1, 'tool_result', 'complete', '',
        '{"call_id":"c2","tool_name":"look","origin":"server","outcome":"ok","output":[1]}', 2);
INSERT INTO call (turn_id, call_id, reading, formatter, version) VALUES ('a1', 'c1', 'read', 'look', 3);
"""


@pytest.mark.parametrize("version", range(1, len(schema.migrations()) + 1))
async def test_a_file_of_any_earlier_schema_is_brought_up_to_date_with_its_rows(
    version: int, tmp_path: Path, make: Make
) -> None:
    path = tmp_path / "legato.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, path, schema.migrations()[:1])
        connection.executescript(OF_THE_FIRST_SCHEMA)
        schema.migrate(connection, path, schema.migrations()[:version])
    store = await open_sqlite(path)
    assert pragma(path, "user_version") == len(schema.migrations())
    stored = await store.load("a1")
    assert stored is not None
    assert stored.row.metadata == {"k": 1}
    assert stored.row.wait_until is None
    assert [block.index for block in stored.blocks] == [0, 1, 2, 3]
    assert stored.readings == {"c1": Reading(call_id="c1", text="read", formatter="look", version=3)}
    assert await store.result("c", "c1") == ("a1", stored.blocks[2])
    assert await store.result("c", "c2") == ("a1", stored.blocks[3])
    assert list(await store.intents("a1")) == []

    need = Need(call_id="c3", nr=1, kind="approval", input_sha256="ee")
    rest = Rest(wait_until="2026-11-25T05:00:00.000Z")
    await store.write([make.said("a2", 1, 2, needs=(need,), rest=rest)])
    await store.answer("a2", [Answer(call_id="c3", decision="approve")])
    assert [row.id for row in await store.to_wake("2026-11-24T05:00:04.000Z")] == ["a2"]
    assert await store.claim("a2", epoch=1, owner="p2")
    await store.keep_output("a2", "c3", 0, b"abc", epoch=1)
    assert await store.output("a2", "c3", offset=1, limit=5) == b"bc"
    await store.close()
    assert pragma(path, "integrity_check") == "ok"


def test_only_what_is_missing_is_run() -> None:
    scripts = ["CREATE TABLE a (x);\nCREATE INDEX i ON a (x);", "-- a comment; with one\nCREATE TABLE b (y);"]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for known in (1, 2, 2):
            schema.migrate(connection, Path("x"), scripts[:known])
            assert connection.execute("PRAGMA user_version").fetchone() == (known,)


KILLED_IN_THE_MIDST = """
import os, signal, sqlite3, sys
from pathlib import Path
from legato.stores.sqlite import schema

path, after = Path(sys.argv[1]), int(sys.argv[2])
left = [statement for script in schema.migrations()[1:] for statement in schema._statements(script)]
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that what is not committed is on disk
connection.execute("BEGIN IMMEDIATE")
for statement in left[: after if after >= 0 else len(left)]:
    connection.execute(statement)
os.kill(os.getpid(), signal.SIGKILL)
"""


def bring_up_and_die(path: Path, after: int) -> None:
    command = [sys.executable, "-c", KILLED_IN_THE_MIDST, str(path), str(after)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL


@pytest.mark.parametrize("after", [1, 7, -1], ids=["at its first statement", "half way", "before its commit"])
async def test_a_file_whose_server_was_killed_while_it_was_brought_up_to_date_is_so_at_the_next_start(
    after: int, tmp_path: Path
) -> None:
    path = tmp_path / "legato.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        schema.migrate(connection, path, schema.migrations()[:1])
        connection.executescript(OF_THE_FIRST_SCHEMA)
    bring_up_and_die(path, after)
    store = await open_sqlite(path)
    stored = await store.load("a1")
    await store.close()
    assert stored is not None
    assert len(stored.blocks) == 4
    assert (pragma(path, "user_version"), pragma(path, "integrity_check")) == (len(schema.migrations()), "ok")


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "legato.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, path, ["CREATE TABLE a (x);"])
        with pytest.raises(sqlite3.OperationalError):
            schema.migrate(connection, path, ["CREATE TABLE a (x);", "CREATE TABLE b (y);\nCREATE TABLE a (x);"])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
