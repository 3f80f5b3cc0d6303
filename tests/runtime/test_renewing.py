"""The lease is renewed however slow the store is, and what was asked for in time and answered too late saves nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from tests.patience import BOUND, until

from legato.observability import process
from legato.runtime.owning.lease import RENEW_SECONDS, Lease
from legato.runtime.owning.renewing import MOST_OPEN, Renewing
from legato.stores.memory import MemoryStore
from legato.testing.clock import JumpingClock
from legato.testing.store import FaultyStore


class Watched(JumpingClock):
    """Knows how often it was looked at."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return super().monotonic()


class Kept:
    """A lease that is kept, by a clock that the test moves, in a store that it slows."""

    def __init__(self) -> None:
        self.clock = Watched()
        self.store = FaultyStore(MemoryStore())
        self.lease = Lease(self.clock.monotonic)
        self.turns_run = True
        self.lost = 0

    def lose(self) -> None:
        self.lost += 1

    def renewals(self) -> int:
        """That were asked for."""
        return self.store.calls.count("renew")

    @property
    def age(self) -> float:
        """Seconds since what the lease counts from."""
        return self.clock.monotonic() - self.lease._renewed

    def pass_by(self, seconds: float) -> None:
        self.clock.skip(seconds)

    async def looked(self) -> None:
        """The lease was looked at a few times since."""
        looks = self.clock.looks
        await until(lambda: self.clock.looks > looks + 10)


def renewing(one: Kept) -> Renewing:
    return Renewing(one.store, one.lease, owner="me", needed=lambda: one.turns_run, lost=one.lose, watch_seconds=0.001)


@asynccontextmanager
async def kept() -> AsyncIterator[Kept]:
    one = Kept()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(renewing(one).run)
        await anyio.wait_all_tasks_blocked()
        yield one
        tasks.cancel_scope.cancel()


async def test_it_is_renewed_each_time_it_is_due() -> None:
    async with kept() as one:
        for times in (1, 2, 3):
            one.pass_by(RENEW_SECONDS)
            await until(lambda times=times: one.renewals() == times and one.age < 1)  # type: ignore[misc]
        assert one.lost == 0


async def test_a_renewal_that_takes_longer_than_a_look_at_the_store_may_counts_from_when_it_was_asked_for() -> None:
    async with kept() as one:
        one.store.hold("renew")
        one.pass_by(RENEW_SECONDS)
        await until(lambda: one.renewals() == 1)
        one.pass_by(20)
        assert one.age > 24
        one.store.back()
        await until(lambda: one.age < 24)
        assert (one.lease.over, one.lost) == (False, 0)


async def test_a_store_that_hangs_is_asked_by_few_at_once_and_one_of_them_is_enough() -> None:
    async with kept() as one:
        one.store.hold("renew")
        for _ in range(4):
            one.pass_by(RENEW_SECONDS)
            await one.looked()
        assert one.renewals() == MOST_OPEN
        one.store.back()
        await until(lambda: one.age < 20)
        assert one.lost == 0


async def test_a_renewal_that_fails_is_followed_by_another() -> None:
    async with kept() as one:
        before = process.value("lease_retries")
        one.store.away("renew", times=1)
        one.pass_by(RENEW_SECONDS)
        await until(lambda: process.value("lease_retries") == before + 1)
        assert one.age > RENEW_SECONDS
        one.pass_by(RENEW_SECONDS)
        await until(lambda: one.age < 1)


async def test_a_lease_that_is_over_is_said_to_be_and_there_is_a_new_one_for_the_turns_to_come() -> None:
    async with kept() as one:
        one.store.hold("renew")
        one.pass_by(29)
        await until(lambda: one.lost)
        assert one.lease.over
        one.store.back()
        one.pass_by(RENEW_SECONDS)
        await until(lambda: not one.lease.over)


async def test_an_answer_that_comes_when_the_lease_is_over_saves_no_turn_that_ran_before_it() -> None:
    """Asked for in time: but the store came to it later, and somebody may have claimed a turn in between."""
    one = Kept()
    one.store.hold("renew")
    one.pass_by(25)
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(renewing(one)._renew, one.lease.sent())
            await one.store.reached("renew")
            assert not one.lease.over
            one.pass_by(4)  # and nobody looks at the lease
            one.store.back()
    assert (one.lease.over, one.lost) == (False, 1)


async def test_without_turns_a_lease_costs_no_write() -> None:
    async with kept() as one:
        one.turns_run = False
        one.pass_by(RENEW_SECONDS)
        await until(lambda: one.age < 1)
        assert one.renewals() == 0
