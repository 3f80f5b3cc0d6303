"""Whom another process takes for gone: by what it has watched on a clock of its own, not by what a wall clock says."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from legato.core.records import LEASE_SECONDS, TurnRow
from legato.runtime.owning.lease import RENEW_SECONDS
from legato.runtime.owning.leases import WATCH_SECONDS, Leases
from legato.runtime.owning.owner import this_process
from legato.testing.clock import JumpingClock

ROW = TurnRow(
    id="t",
    chat_id="c",
    prev_turn_id=None,
    role="assistant",
    status="running",
    created_at="2026-11-24T05:00:00.000Z",
    depth=1,
    owner="elsewhere:1:1",
    lease_until="2026-11-24T05:00:30.000Z",
)


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
def leases(clock: JumpingClock) -> Leases:
    return Leases(clock.monotonic)


def renewed(row: TurnRow, times: int) -> TurnRow:
    return replace(row, lease_until=f"2026-11-24T05:{times:02}:30.000Z")


def test_one_that_the_store_says_is_over_is_watched_for_two_renewals_first(leases: Leases, clock: JumpingClock) -> None:
    assert not leases.over(ROW, overdue=True)
    leases.see([ROW])
    clock.skip(WATCH_SECONDS - 1)
    leases.see([ROW])
    assert not leases.over(ROW, overdue=True)
    clock.skip(2)
    assert leases.over(ROW, overdue=True)


def test_one_that_is_renewed_is_never_over_however_the_store_calls_it(leases: Leases, clock: JumpingClock) -> None:
    for times in range(20):
        row = renewed(ROW, times)
        leases.see([row])
        clock.skip(RENEW_SECONDS)
        assert not leases.over(row, overdue=True)


def test_one_that_is_not_renewed_for_its_time_is_over_whatever_the_store_says(
    leases: Leases, clock: JumpingClock
) -> None:
    leases.see([ROW])
    clock.skip(LEASE_SECONDS - 1)
    assert not leases.over(ROW, overdue=False)
    clock.skip(2)
    assert leases.over(ROW, overdue=False)


def test_a_new_owner_is_watched_anew(leases: Leases, clock: JumpingClock) -> None:
    leases.see([ROW])
    clock.skip(LEASE_SECONDS + 1)
    for changed in (replace(ROW, epoch=1), replace(ROW, owner="elsewhere:2:2"), renewed(ROW, 1)):
        assert not leases.over(changed, overdue=True)
        leases.see([changed])
        assert not leases.over(changed, overdue=True)


def test_what_was_not_among_those_that_run_is_forgotten(leases: Leases, clock: JumpingClock) -> None:
    leases.see([ROW])
    clock.skip(LEASE_SECONDS + 1)
    leases.see([])
    leases.see([ROW])
    assert not leases.over(ROW, overdue=True)


def test_nobody_waits_for_one_that_was_let_go_of_and_this_process_is_not_gone(leases: Leases) -> None:
    assert leases.over(replace(ROW, owner=None), overdue=True)
    assert not leases.over(replace(ROW, owner=this_process()), overdue=True)
