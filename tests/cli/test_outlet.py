"""The terminal: what is typed stays the last line, and what comes in goes above it."""

from __future__ import annotations

import re

import pytest

from legato.cli.outlet import Terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "10")
    return Terminal()


def rows(raw: str) -> list[str]:
    """What stands on a screen after these bytes: line breaks, returns, erased lines; colours left out."""
    lines = [""]
    for part in re.findall(r"\r|\n|\x1b\[[0-9;?]*[A-Za-z]|[^\r\n\x1b]+", raw):
        if part == "\n":
            lines.append("")
        elif part == "\x1b[K":
            lines[-1] = ""
        elif not part.startswith(("\r", "\x1b")):
            lines[-1] += part
    return lines


def test_whole_lines_come_in_above_what_is_typed(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.write("begun ", "answer")
    terminal.prompt("typ", 3)
    terminal.write("goes ", "answer")
    terminal.write("on\nand ", "answer")
    terminal.prompt("type", 4)
    terminal.write("more", "answer")
    assert rows(raw := capsys.readouterr().out) == ["begun ", "goes on", "> type"]
    terminal.prompt(None)
    assert rows(raw + capsys.readouterr().out) == ["begun ", "goes on", "and more"]


def test_lines_of_their_own_end_what_is_held(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.prompt("x", 1)
    terminal.write("half", "answer")
    terminal.line("* call()", "call")
    terminal.write("after", "answer")
    assert rows(raw := capsys.readouterr().out) == ["half", "* call()", "> x"]
    terminal.prompt(None)
    assert rows(raw + capsys.readouterr().out)[-1] == "after"


@pytest.mark.parametrize("at", [0, 10, 40])
def test_a_long_line_shows_the_part_around_the_cursor_on_one_row(
    terminal: Terminal, capsys: pytest.CaptureFixture[str], at: int
) -> None:
    line = "".join(chr(97 + number % 26) for number in range(40))
    terminal.prompt(line, at)
    shown = rows(capsys.readouterr().out)
    assert len(shown) == 1
    assert len(shown[0]) < 20
    assert shown[0].startswith("> ")
    assert line[max(0, at - 5) : at] in shown[0]


def test_a_line_break_that_was_pasted_is_one_sign(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.prompt("a\nb\x1b", 4)
    assert rows(capsys.readouterr().out) == ["> a⏎b·"]
