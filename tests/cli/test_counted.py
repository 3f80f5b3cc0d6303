"""What a server has counted is said in words, and nothing that counts is without them."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from legato.cli.counted import COUNTERS, GAUGES, JUDGED, KINDS, ORDINARY, in_words
from legato.observability import Counters

PACKAGE = Path(__file__).parents[2] / "src" / "legato"
LOGGER = logging.getLogger("legato.test_counted")
LOGGER.propagate = False
# Codes of what is left out of a request are the causes' kinds, and come as values (providers.provider).
LEFT_OUT = {"files_left_out", "images_left_out", "param_dropped", "tools_left_out"}


def said(name: str) -> Iterator[str]:
    """The first text that each call of ``name`` in the source is given."""
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if f"{name}(" in source else ():
            match node:
                case ast.Call(func=ast.Name(id=called), args=[ast.Constant(value=str(text)), *_]) if called == name:
                    yield text
                case _:
                    pass


def kinds() -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "warn_once" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.JoinedStr(values=[ast.Constant(value=str(start)), *_]) if start.removesuffix(
                    ":"
                ).isidentifier():
                    if start.endswith(":"):
                        yield start[:-1]
                case _:
                    pass


def test_every_counter_and_gauge_has_words_or_needs_none() -> None:
    known = COUNTERS.keys() | GAUGES.keys() | JUDGED | ORDINARY
    assert {*said("count"), *said("gauge")} - known == set(), "say in cli/counted.py what it means"
    assert set(said("count")) >= COUNTERS.keys()
    assert set(said("gauge")) >= GAUGES.keys()


def test_every_kind_of_cause_has_words() -> None:
    assert {*kinds(), *LEFT_OUT} - KINDS.keys() == set(), "say in cli/counted.py what it means"


def told(counters: Counters) -> list[tuple[str, str, str]]:
    return [(one.level, one.about, one.message) for one in in_words(counters.exposition())]


def test_a_server_that_did_its_work_has_nothing_to_say() -> None:
    counters = Counters()
    counters.count("tool_results", tool="look", outcome="ok")
    counters.count("store_commits", store="sqlite", outcome="ok")
    counters.gauge("readers", 7)
    counters.gauge("mcp_up", 1, server="files")
    counters.gauge("tool_threads_left_behind", 0, pool="tools")
    assert told(counters) == []


@pytest.mark.parametrize(
    ("name", "labels", "level", "words"),
    [
        ("formatter_fallbacks", {"tool": "look", "cause": "KeyError"}, "degraded", "(cause KeyError, tool look)"),
        ("early_start_off", {"tool": "look"}, "degraded", "no longer started early"),
        ("provider_failures", {"provider": "openai", "code": "overloaded"}, "counted", "provider openai"),
        ("tool_results", {"tool": 'a "b"', "outcome": "timeout"}, "counted", 'calls of a "b": timeout'),
        ("store_commits", {"store": "sqlite", "outcome": "failed"}, "counted", "groups: failed"),
    ],
)
def test_what_was_counted_is_told_with_its_labels(name: str, labels: dict[str, str], level: str, words: str) -> None:
    counters = Counters()
    counters.count(name, 3, **labels)
    (found,) = told(counters)
    assert found[0] == level
    assert found[2].startswith("3 ")
    assert words in found[2]


def test_what_is_so_now_is_degraded_until_it_is_over() -> None:
    counters = Counters()
    counters.gauge("mcp_up", 0, server="files")
    counters.warn_once(LOGGER, "mcp_down:files:it went away", "")
    counters.gauge("tool_threads_left_behind", 2, pool="tools")
    assert {level for level, _, _ in told(counters)} == {"degraded"}
    counters.gauge("mcp_up", 1, server="files")
    counters.gauge("tool_threads_left_behind", 0, pool="tools")
    assert told(counters) == [("counted", "mcp", "files:it went away: was down, once")]


def test_a_cause_is_told_with_what_it_is_of_and_how_often() -> None:
    counters = Counters()
    for _ in range(3):
        counters.warn_once(LOGGER, "unknown_model:openai/gpt-99", "")
    counters.warn_once(LOGGER, "never_heard_of:thing", "")
    assert told(counters) == [
        (
            "degraded",
            "models",
            "openai/gpt-99: was asked, and is in no table: its limits and prices are unknown, 3 times",
        ),
        ("degraded", "server", "thing: never heard of, once"),
    ]


def test_metrics_of_others_are_none_of_ours() -> None:
    assert list(in_words('# HELP x\nup 1\npython_info{a="b"} 1\nnot a metric at all\n')) == []
