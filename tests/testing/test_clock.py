"""A clock that jumps: here, and in a process that is given its file."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from legato.clock import SystemClock
from legato.ports import Clock
from legato.testing.clock import JumpingClock
from legato.testing.process import ServerProcess


def seconds_ahead(clock: Clock) -> int:
    return round((datetime.fromisoformat(clock.now()) - datetime.fromisoformat(SystemClock().now())).total_seconds())


def test_the_wall_clock_jumps_both_ways_and_the_monotonic_one_does_not_notice() -> None:
    clock = JumpingClock()
    before = clock.monotonic()
    assert seconds_ahead(clock) == 0
    clock.jump(hours=1)
    clock.jump(90)
    assert seconds_ahead(clock) == 3690
    clock.jump(hours=-3)
    assert seconds_ahead(clock) == clock.ahead == 3690 - 3 * 3600
    assert 0 <= clock.monotonic() - before < 60


def test_the_monotonic_clock_moves_forwards_alone_and_never_back() -> None:
    clock = JumpingClock()
    before = clock.monotonic()
    clock.skip(100)
    assert clock.monotonic() - before >= 100
    assert seconds_ahead(clock) == 0
    with pytest.raises(ValueError, match="never goes back, and was told to by 1 s"):
        clock.skip(-1)


def test_all_who_have_its_file_see_the_same_jump_at_once(tmp_path: Path) -> None:
    mine, yours = JumpingClock(tmp_path / "clock"), JumpingClock(tmp_path / "clock")
    mine.jump(hours=2)
    mine.skip(50)
    later = JumpingClock(tmp_path / "clock")
    assert yours.ahead == later.ahead == 7200
    assert abs(yours.monotonic() - later.monotonic()) < 10


def test_a_module_that_is_run_by_it_has_it_for_the_machines_and_its_own_arguments(tmp_path: Path) -> None:
    JumpingClock(tmp_path / "clock").jump(hours=-5)
    (tmp_path / "says.py").write_text(
        "import sys\nfrom legato.clock import SystemClock\nprint(SystemClock().ahead, __name__, *sys.argv[1:])\n"
    )
    command = [sys.executable, "-m", "legato.testing.clock", "clock", "says", "one", "--two"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "-18000.0 __main__ one --two\n"


def test_without_a_file_and_a_module_it_says_how_it_is_used() -> None:
    command = [sys.executable, "-m", "legato.testing.clock", "clock"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (1, "usage: python -m legato.testing.clock FILE MODULE ARGUMENTS\n")


def test_a_server_process_needs_a_clock_that_has_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a clock with a file"):
        ServerProcess(tmp_path, clock=JumpingClock())
