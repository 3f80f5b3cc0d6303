"""A server killed, stopped and starved while it is used (docs/testing.md), in its short form and its long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from legato.testing.torture.drive import Torture
from legato.testing.torture.plan import Ask, Freeze, Full, Kill, Lock, Restart, Twin, make_plan
from legato.testing.torture.report import Report

SHORT = 12
"""Turns, which is what three seeds have time for in the default run."""


def tortured(seed: int, turns: int, folder: Path) -> Report:
    return asyncio.run(Torture(seed, make_plan(seed, turns), folder, lambda _: None).run())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_promise_holds_while_a_server_is_killed_stopped_and_starved(seed: int, tmp_path: Path) -> None:
    report = tortured(seed, SHORT, tmp_path)
    assert report.broken == []
    assert report.accepted == report.ended == SHORT
    assert {"kill", "freeze", "lock", "full", "restart", "twin"} <= report.faults.keys()
    assert report.events > SHORT
    assert report.came > report.readers  # some were cut off and came back


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_promise_holds_through_five_hundred_turns(tmp_path: Path) -> None:
    """Among them some whose owner was stopped for longer than its lease, and then woke up."""
    report = tortured(7, 500, tmp_path)
    assert report.broken == []
    assert report.accepted == report.ended == 500
    assert report.faults["frozen 34 s"] == 1


def test_a_seed_gives_the_same_plan_again_and_another_seed_another() -> None:
    assert make_plan(7, 50) == make_plan(7, 50)
    assert make_plan(7, 50) != make_plan(8, 50)


@pytest.mark.parametrize("turns", [1, 2, SHORT, 100])
def test_a_plan_asks_for_each_turn_once_and_never_for_one_that_is_to_come(turns: int) -> None:
    asks = [step for step in make_plan(3, turns) if isinstance(step, Ask)]
    assert [ask.turn for ask in asks] == list(range(1, turns + 1))
    assert all(ask.chat <= ask.turn for ask in asks)


def test_a_short_plan_has_every_kind_of_fault() -> None:
    kinds = {type(step) for step in make_plan(1, SHORT)}
    assert kinds >= {Kill, Freeze, Lock, Full, Restart, Twin}
