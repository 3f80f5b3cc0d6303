"""What the figures of a slow store are made of."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest
from bench.readers import Reader
from bench.slow_store import Fault, Outcome, Pace, Window, slowed

pytestmark = pytest.mark.anyio

FAULT = Fault("some fault", 1.0)


def outcome(healthy: list[list[float]], faulty: list[list[float]]) -> Outcome:
    return Outcome(FAULT, healthy, faulty, {"complete": 1}, 0)


def test_a_change_is_between_neighbours_so_that_a_slower_minute_is_none() -> None:
    one = outcome([[10.0], [100.0], [10.0]], [[11.0], [110.0], [11.0]])
    assert one.change(0.5) == pytest.approx(0.1)
    assert one.noise(0.5) == pytest.approx((9 + 0.9) / 2)


def test_one_window_alone_says_nothing_about_its_noise() -> None:
    assert outcome([[10.0]], [[11.0]]).noise(0.5) != outcome([[10.0]], [[11.0]]).noise(0.5)


async def test_a_window_has_what_arrived_in_it() -> None:
    reader = Reader(b"", b"event: turn_end")
    reader.delays.extend([1000, 2000, 3000])
    reader.arrivals.extend([999_999, 1_000_000, 2_000_000])
    assert Window("healthy", 1.0, 2.0).of([reader]) == [2.0]


class Noted(Pace):
    """Says when a statement has come to it."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.asked = threading.Event()

    def wait(self) -> None:
        self.asked.set()
        super().wait()


def test_statements_stand_for_as_long_as_another_process_says(tmp_path: Path) -> None:
    """The file is what two processes have in common: here, two that opened it."""
    told, telling = Noted(tmp_path / "pace"), Pace(tmp_path / "pace")
    connection = sqlite3.connect(":memory:", factory=slowed(told), check_same_thread=False)
    telling.say(until=time.monotonic() + 3600)
    done = threading.Event()

    def ask() -> None:
        connection.execute("SELECT 1")
        done.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert told.asked.wait(10)
    assert not done.is_set()
    telling.say()
    assert done.wait(10)
    thread.join(10)
    connection.close()
