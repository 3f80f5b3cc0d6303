"""`legato torture`: what it says before it does anything. What it does is in tests/torture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from legato.cli import torture
from legato.cli.failures import MISUSED, Failed
from legato.testing.torture.planning import make_plan


def test_a_plan_is_said_step_by_step_and_nothing_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    assert torture.run(turns=9, seed=4, folder=folder, only_plan=True, as_json=False) == 0
    said = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    assert [int(number) for number, _ in said] == list(range(1, len(make_plan(4, 9)) + 1))
    assert sum(json.loads(step)["type"] == "Ask" for _, step in said) == 9
    assert not folder.exists()


def test_a_folder_that_has_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "legato.db").touch()
    with pytest.raises(Failed, match="is not empty") as failed:
        torture.run(turns=9, seed=4, folder=tmp_path, only_plan=False, as_json=False)
    assert failed.value.exit_code == MISUSED
    assert [file.name for file in tmp_path.iterdir()] == ["legato.db"]


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "inside"):
        with pytest.raises(Failed, match=f"^--folder {folder}: ") as failed:
            torture.run(turns=9, seed=4, folder=folder, only_plan=False, as_json=False)
        assert failed.value.exit_code == MISUSED
