"""Cancels that come before their turn: a minute, each once, for whoever asked, and never too many."""

from __future__ import annotations

from legato.runtime.clients.early import KEPT_MOST, KEPT_SECONDS, EarlyCancels


class Hand:
    """A clock that stands until it is turned."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> str:
        return f"now {self.seconds:g}"

    def after(self, seconds: float) -> str:
        return f"{self.seconds + seconds:g}"

    def monotonic(self) -> float:
        return self.seconds


def test_a_cancel_is_remembered_for_a_minute_and_taken_once() -> None:
    clock = Hand()
    early = EarlyCancels(clock)
    assert early.keep("ann", "t1") == "60"
    clock.seconds = KEPT_SECONDS - 1
    assert early.take("ann", "t1")
    assert not early.take("ann", "t1")


def test_after_the_minute_it_is_forgotten() -> None:
    clock = Hand()
    early = EarlyCancels(clock)
    early.keep("ann", "t1")
    clock.seconds = KEPT_SECONDS
    assert not early.take("ann", "t1")
    assert len(early) == 0


def test_a_repeat_is_remembered_from_the_last_one_on() -> None:
    clock = Hand()
    early = EarlyCancels(clock)
    early.keep("ann", "t1")
    clock.seconds = 50
    early.keep("ann", "t1")
    clock.seconds = 100
    assert early.take("ann", "t1")


def test_it_is_bound_to_whoever_asked() -> None:
    early = EarlyCancels(Hand())
    early.keep("ann", "t1")
    assert not early.take("bob", "t1")
    assert early.take("ann", "t1")


def test_the_oldest_go_where_there_are_too_many() -> None:
    early = EarlyCancels(Hand())
    for number in range(KEPT_MOST + 5):
        early.keep("ann", f"t{number}")
    assert len(early) == KEPT_MOST
    assert not early.take("ann", "t4")
    assert early.take("ann", "t5")
