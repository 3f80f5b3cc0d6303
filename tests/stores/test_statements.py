"""A write costs as many statements for many turns as for one: on a disk where each takes half a second that is what the
journal's patience must be enough for (hazard 16)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from tests.stores.values import Make

from legato.core.blocks import TextBlock
from legato.core.records import Rest, TurnWrite
from legato.stores.sqlite import changes, open_sqlite

TURNS = 20
made: list[str] = []


class Counted(sqlite3.Connection):
    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        made.append(sql)
        return super().execute(sql, *values)  # type: ignore[arg-type]

    def executemany(self, sql: str, rows: Sequence[object]) -> sqlite3.Cursor:  # type: ignore[override]
        made.append(sql)
        return super().executemany(sql, rows)  # type: ignore[arg-type]


def new(make: Make, turn_id: str) -> TurnWrite:
    block = TextBlock(index=0, round=1, state="complete", text="word", length=4, sha256="ab")
    return make.said(turn_id, 4, 6, blocks=(block,))


def again(make: Make, turn_id: str) -> TurnWrite:
    return make.said(turn_id, 1, 3)


def again_and_more(make: Make, turn_id: str) -> TurnWrite:
    return make.said(turn_id, 2, 5)


def ended(make: Make, turn_id: str) -> TurnWrite:
    return make.ending(turn_id)


def rested(make: Make, turn_id: str) -> TurnWrite:
    return make.said(turn_id, 4, 4, rest=Rest(wait_until="2026-11-25T05:00:00.000Z"))


@pytest.mark.parametrize("write", [new, again, again_and_more, ended, rested])
async def test_a_group_of_many_turns_is_as_many_statements_as_one_of_a_single_turn(
    write: Callable[[Make, str], TurnWrite], tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Counted))
    store = await open_sqlite(tmp_path / "legato.db")
    try:
        turn_ids = [(await make.begun(store)).assistant.id for _ in range(TURNS + 1)]
        await store.write([make.said(turn_id, 1, 3) for turn_id in turn_ids])
        one, *many = [write(make, turn_id) for turn_id in turn_ids]
        counts = [await store._writer.run(partial(statements_of, group)) for group in ([one], many)]
        assert counts[0] == counts[1] < 8
    finally:
        await store.close()


def statements_of(group: Sequence[TurnWrite], connection: sqlite3.Connection) -> int:
    before = len(made)
    changes.write(connection, group)
    return len(made) - before
