"""docs/cli.md says what there is: every command, every option, every word of a chat, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from legato.cli import failures
from legato.cli.chat import COMMANDS
from legato.cli.commands import app

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
GROUP = typer.main.get_command(app)
assert isinstance(GROUP, TyperGroup)
COMMAND = GROUP.commands


def options(command: str) -> set[str]:
    """The long options a command takes."""
    found = COMMAND[command]
    return {name for one in found.params for name in one.opts if name.startswith("--")} - {"--help"}


def section(name: str) -> str:
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("command", ["serve", "chat", "tail", "show", "ls", "config"])
def test_the_page_has_every_option_of_a_command_and_no_other(command: str) -> None:
    rows = "\n".join(line for line in section(command).splitlines() if line.startswith("| `--"))
    said = set(re.findall(r"`(--[a-z-]+)`", rows or section(command)))
    assert said == options(command)


def test_the_page_has_every_command() -> None:
    assert set(re.findall(r"^\| `legato ([a-z]+)", PAGE, re.MULTILINE)) == set(COMMAND)


def test_the_page_has_every_word_of_a_chat() -> None:
    rows = re.findall(r"^\| (`/.*?) \|", section("chat"), re.MULTILINE)
    assert {word for row in rows for word in re.findall(r"/[a-z]+", row)} == set(COMMANDS)


def test_the_page_has_every_exit_code() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert codes == {0, failures.FAILED, failures.MISUSED, failures.INTERRUPTED, failures.BROKEN_PIPE}
