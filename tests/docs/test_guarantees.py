"""docs/guarantees.md: each promise and each hazard is there once, and what is said to hold has tests that are there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, code, rows, section, text_of

PAGE = "docs/guarantees.md"
PROMISES = [f"P{number}" for number in range(1, 17)]
HAZARDS = [str(number) for number in range(1, 39)]
STATES = {"holds", "in part", "measured", "not yet"}

_PROMISE = re.compile(r"^\*\*(?P<number>P\d+)\*\* · (?P<state>[a-z ]+)\.(?P<text>.*)", re.DOTALL)
_TEST = re.compile(r"tests/[\w/]+\.py::test_\w+")


def promises() -> list[tuple[str, str, list[str]]]:
    """The number of each, its state, and what stands in code."""
    found = map(_PROMISE.match, section(PAGE, "## Promises").split("\n\n"))
    return [(one["number"], one["state"], code(one["text"])) for one in found if one is not None]


def hazards() -> list[tuple[str, str, list[str]]]:
    return [(number, state, code(tests)) for number, _, state, tests in rows(PAGE, "## What others lost")]


def claims() -> list[tuple[str, str, list[str]]]:
    return [
        (number, state, [one for one in named if _TEST.fullmatch(one)])
        for number, state, named in [*promises(), *hazards()]
    ]


def names_in(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    named = [one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f"{file.relative_to(ROOT).as_posix()}::{name}" for name in named if name.startswith("test_")]


def test_every_test_that_is_named_is_there() -> None:
    there = {name for file in (ROOT / "tests").rglob("test_*.py") for name in names_in(file)}
    named = re.findall(r"`(tests/[^`]*::[^`]*)`", text_of(PAGE))
    assert [name for name in named if name not in there] == []


def test_every_promise_and_every_hazard_is_there_once_in_order() -> None:
    assert [number for number, _, _ in promises()] == PROMISES
    assert [number for number, _, _ in hazards()] == HAZARDS
    bold = Counter(re.findall(r"\*\*(P\d+)\*\*", text_of(PAGE)))
    assert bold == dict.fromkeys(PROMISES, 1)


@pytest.mark.parametrize(
    ("number", "state", "named"), claims(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_claimed_names_tests_and_what_is_not_there_names_none(
    number: str, state: str, named: list[str]
) -> None:
    assert state in STATES, number
    assert bool(named) == (state != "not yet"), number
    assert len(named) == len(set(named)), number


def test_only_figures_are_said_to_be_measured() -> None:
    assert {number for number, state, _ in claims() if state == "measured"} == {"P14", "P15", "P16"}


def test_the_numbers_that_the_source_names_are_on_the_page() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert set(re.findall(r"\bP\d+\b", text)) <= set(PROMISES)
    listed = re.findall(r"\b[Hh]azards? (\d+(?:(?:, | and | to )\d+)*)", text)
    assert {number for one in listed for number in re.findall(r"\d+", one)} <= set(HAZARDS)
