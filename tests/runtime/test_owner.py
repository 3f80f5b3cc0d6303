"""Who owns a turn, and whether that process is gone."""

from __future__ import annotations

import subprocess
import sys

from legato.runtime.owning.owner import is_gone, this_process


def test_this_process_is_not_gone() -> None:
    assert not is_gone(this_process())


def test_a_process_that_has_ended_is_gone() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from legato.runtime.owning.owner import this_process; print(this_process())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert is_gone(ended.stdout.strip())


def test_a_later_process_of_the_same_number_is_another_owner() -> None:
    host, pid, _ = this_process().rsplit(":", 2)
    assert is_gone(f"{host}:{pid}:1")


def test_of_a_process_on_another_machine_nothing_is_known() -> None:
    assert not is_gone("elsewhere:1:1")


def test_a_turn_without_an_owner_has_nobody() -> None:
    assert is_gone(None)
