"""docs/errors.md, the source and the OpenAPI name the same codes."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from legato.core import errors
from legato.http.errors import CODES

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "legato"
DOCS = ROOT / "docs" / "errors.md"
CODE = re.compile(r"[a-z]+(_[a-z]+)*")

# Which functions and classes are given codes, by the section of the docs that lists them. The answers' are all errors
# of `core.errors` that a request can be answered with.
ANSWERS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.RequestError | errors.StoreError)
} | {"at", "_turn_away"}
GIVEN = {
    "Answers": ANSWERS,
    "Turns": {"ErrorInfo", "ProviderError", "failed", "_fail"},
    "Calls": {"CallError", "ToolError"},
    "Notices": {"Notice", "note", "_tell", "Dropped"},
}
FIRST_ARGUMENT = {"CallError", "failed", "_fail", "note", "_tell", "Dropped", "_turn_away"}
# Raised by core.errors itself, from a class whose code is always the same.
OWN_CLASS = {"invalid_json", "method_not_allowed", "persistence_failed", "stale_epoch", "store_unavailable"}
DEFAULTS = {"invalid_request", "not_found", "unsupported_media_type"}
# Answered where nobody raised anything on purpose.
FALLBACK = {"internal"}


def documented() -> dict[str, list[tuple[str, ...]]]:
    """The rows of each table, by the heading they stand under."""
    sections: dict[str, list[tuple[str, ...]]] = {}
    heading = ""
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("| `"):
            row = tuple(cell.strip(" `") for cell in line.strip("|").split("|"))
            sections.setdefault(heading, []).append(row)
    return sections


@cache
def sources() -> list[tuple[Path, ast.Module]]:
    return [
        (path, ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(SOURCE.rglob("*.py"))
        if "testing" not in path.relative_to(SOURCE).parts
    ]


def given(names: set[str]) -> dict[str, str]:
    """Codes given as plain words to these functions, and where."""
    found: dict[str, str] = {}
    for path, tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            if name not in names:
                continue
            codes = [word.value for word in node.keywords if word.arg == "code"]
            if name in FIRST_ARGUMENT:
                codes += node.args[:1]
            for code in codes:
                if isinstance(code, ast.Constant) and isinstance(code.value, str) and CODE.fullmatch(code.value):
                    found[code.value] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found


def words() -> set[str]:
    """Every string in the source, docstrings and the table of codes aside."""
    found: set[str] = set()
    for path, tree in sources():
        if path == SOURCE / "http" / "errors.py":
            continue
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found.update(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        )
    return found


def test_the_table_of_answers_is_the_one_in_the_docs() -> None:
    rows = [(one.code, str(one.status), one.title) for one in CODES.values()]
    assert documented()["Answers"] == rows


def test_every_code_that_can_be_answered_is_in_the_table_and_none_besides() -> None:
    raised = given(GIVEN["Answers"])
    unknown = {code: where for code, where in raised.items() if code not in CODES}
    assert not unknown, f"add them to CODES in src/legato/http/errors.py and to docs/errors.md: {unknown}"
    assert set(CODES) - raised.keys() - OWN_CLASS - DEFAULTS - FALLBACK == set(), "in CODES and nowhere raised"


@pytest.mark.parametrize("section", ["Turns", "Calls", "Notices"])
def test_every_code_given_in_the_source_is_in_the_docs(section: str) -> None:
    listed = {row[0] for row in documented()[section]}
    missing = {code: where for code, where in given(GIVEN[section]).items() if code not in listed}
    assert not missing, f"add them to docs/errors.md under {section}: {missing}"


@pytest.mark.parametrize("section", ["Turns", "Calls", "Notices"])
def test_every_code_in_the_docs_is_said_somewhere_in_the_source(section: str) -> None:
    said = words()
    assert [row[0] for row in documented()[section] if row[0] not in said] == []


def test_codes_are_listed_once_and_in_order() -> None:
    for section, rows in documented().items():
        codes = [row[0] for row in rows]
        assert len(codes) == len(set(codes))
        keys = [(row[1], row[0]) if section == "Answers" else ("", row[0]) for row in rows]
        assert keys == sorted(keys), section


def test_a_status_in_the_table_agrees_with_the_class_that_raises_it() -> None:
    hints: dict[str, type[errors.LegatoError]] = {
        "not_found": errors.NotFound,
        "chat_busy": errors.Conflict,
        "body_too_large": errors.TooLarge,
        "invalid_json": errors.InvalidJson,
        "unknown_model": errors.InvalidRequest,
        "store_unavailable": errors.StoreError,
        "draining": errors.Overloaded,
    }
    for code, raises in hints.items():
        assert CODES[code].status == raises.status
