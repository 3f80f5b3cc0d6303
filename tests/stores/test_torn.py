"""A power cut leaves a file without its last bytes: what is there then is what was committed before them, whole."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.stores.values import Make, lines

from legato.core.blocks import TextBlock
from legato.stores.sqlite import open_sqlite
from legato.testing.chance import Chance
from legato.testing.store import tear

WRITES = 24
FRAME = 4096 + 24  # a page and its header, in SQLite's write-ahead log


async def written(path: Path, make: Make) -> tuple[str, list[int]]:
    """A turn of so many commits, and how long the write-ahead log was after each, the turn's own first; nothing of it
    has gone into the database yet."""
    store = await open_sqlite(path)
    wal = path.with_name(path.name + "-wal")
    turn_id = (await make.begun(store)).assistant.id
    lengths = [wal.stat().st_size]
    for last in range(3, 3 * WRITES + 1, 3):
        block = TextBlock(index=last // 3, round=1, state="complete", text=str(last))
        await store.write([make.said(turn_id, last - 2, last, blocks=(block,))])
        lengths.append(wal.stat().st_size)
    for file in (path, wal):
        shutil.copy(file, file.with_name(f"kept-{file.name}"))
    await store.close()
    return turn_id, lengths


async def found_after(folder: Path, missing: int, turn_id: str, make: Make) -> int | None:
    """How many of the turn's commits are there, None for not even the turn, where so many bytes are missing."""
    path = folder / "torn.db"
    shutil.copy(folder / "kept-legato.db", path)
    shutil.copy(folder / "kept-legato.db-wal", folder / "torn.db-wal")
    tear(folder / "torn.db-wal", bytes=missing)
    store = await open_sqlite(path)
    stored = await store.load(turn_id)
    if stored is not None:
        seq = stored.row.last_seq
        assert await lines(store, turn_id) == (make.segment(1, seq).lines if seq else b"")
        assert [block.index for block in stored.blocks] == list(range(1, seq // 3 + 1))
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    return None if stored is None else stored.row.last_seq // 3


async def test_a_torn_log_loses_the_commits_it_was_torn_in_and_no_others(tmp_path: Path, make: Make) -> None:
    turn_id, lengths = await written(tmp_path / "legato.db", make)
    chance = Chance(1)
    cuts = {1, 7, FRAME - 1, FRAME, FRAME + 1, lengths[-1]} | {chance.file().bytes * 20 for _ in range(20)}
    for missing in sorted(cuts):
        whole = sum(length <= lengths[-1] - missing for length in lengths)
        assert await found_after(tmp_path, missing, turn_id, make) == (whole - 1 if whole else None), missing
