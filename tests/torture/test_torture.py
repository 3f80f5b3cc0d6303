"""A server killed, stopped and starved while it is used (docs/testing.md), in its short form and its long one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import get_args

import pytest

from legato.testing.torture import drive
from legato.testing.torture.drive import Torture
from legato.testing.torture.plan import Ask, Fault, Freeze, Kill, ProviderFault, Restart, Spool
from legato.testing.torture.planning import make_plan
from legato.testing.torture.report import Report

SHORT = 8
"""Turns, which is what three seeds have time for in the default run."""
SEEDS = (3, 4, 5)


def tortured(seed: int, turns: int, folder: Path) -> Report:
    return asyncio.run(Torture(seed, make_plan(seed, turns), folder, lambda _: None).run())


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_while_a_server_is_killed_stopped_and_starved(seed: int, tmp_path: Path) -> None:
    report = tortured(seed, SHORT, tmp_path)
    assert report.broken == []
    assert report.accepted == report.ended == SHORT - report.steered - report.refused
    assert report.tolls.keys() & {"kill", "torn spool", "restart"}
    assert report.events > SHORT


def test_a_torture_that_comes_to_no_end_says_so_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait of it has its bound; where a server answers nothing any more they come one after the other, and a run
    of some seconds took more than a minute."""
    monkeypatch.setattr(drive, "SETTLED_IN_HASTE", 0.0)
    monkeypatch.setattr(drive, "EACH_STEP", 0.05)
    report = tortured(3, SHORT, tmp_path)
    assert any("not all was done" in broken.found for broken in report.broken)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_promise_holds_through_five_hundred_turns(tmp_path: Path) -> None:
    """Among them some whose owner was stopped for longer than its lease, and then woke up."""
    report = tortured(7, 500, tmp_path)
    assert report.broken == []
    assert report.accepted == report.ended == 500 - report.steered - report.refused
    assert report.tolls["frozen 34 s"].times == 1
    assert report.tolls["torn spool"].times
    assert report.came > report.readers  # some were cut off and came back


def test_a_seed_gives_the_same_plan_again_and_another_seed_another() -> None:
    assert make_plan(7, 50) == make_plan(7, 50)
    assert make_plan(7, 50) != make_plan(8, 50)


@pytest.mark.parametrize("turns", [1, 2, SHORT, 100])
def test_a_plan_asks_for_each_turn_once_and_never_for_one_that_is_to_come(turns: int) -> None:
    plan = make_plan(3, turns)
    asks = [step for step in plan if isinstance(step, Ask)]
    assert [ask.turn for ask in asks] == list(range(1, turns + 1))
    assert all(ask.chat <= ask.turn for ask in asks)


def test_three_seeds_in_a_row_have_every_fault_in_their_short_plans() -> None:
    plans = [make_plan(seed, SHORT) for seed in SEEDS]
    steps = [step for plan in plans for step in plan]
    assert {type(step) for step in steps} >= set(get_args(Fault))
    broken = {planned.fault for step in steps if isinstance(step, Ask) for planned in step.rounds}
    assert broken == set(get_args(ProviderFault))
    assert all(any(isinstance(step, Kill | Spool | Restart) for step in plan) for plan in plans)


def test_a_long_plan_has_every_fault_and_stops_one_server_for_longer_than_a_lease() -> None:
    plan = make_plan(7, 500)
    assert {type(step) for step in plan} >= set(get_args(Fault))
    assert [step.seconds for step in plan if isinstance(step, Freeze) and step.seconds > 30] == [34]
    assert sum(isinstance(step, Kill) for step in plan) == 50


@pytest.mark.parametrize("seed", range(12))
def test_a_spool_is_torn_while_a_turn_talks(seed: int) -> None:
    plan = make_plan(seed, 60)
    places = [place for place, step in enumerate(plan) if isinstance(step, Spool)]
    assert places
    for place in places:
        before = plan[place - 1]
        assert isinstance(before, Ask)
        assert before.rounds[0].words >= 50
