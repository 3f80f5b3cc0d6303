"""What the pages point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, SOURCE, all_pages, anchors, links, text_of


@pytest.mark.parametrize("page", all_pages())
def test_every_link_leads_somewhere(page: str) -> None:
    lost = []
    for target in links(page):
        path, _, fragment = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        found = (ROOT / page).parent / path if path else ROOT / page
        there = found.exists() and (not fragment or fragment in anchors(str(found.resolve().relative_to(ROOT))))
        lost += [] if there else [target]
    assert lost == []


@pytest.mark.parametrize("page", all_pages())
def test_every_source_file_that_is_named_is_there(page: str) -> None:
    """``src/…``, ``tests/…``, ``docs/…``, ``examples/…``, ``bench/…``, wherever they stand on the page."""
    named = re.findall(r"(?<![\w./-])(?:src|tests|docs|examples|bench)/[\w./-]*\w", text_of(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


def _counted() -> set[str]:
    """Names as ``/metrics`` shows them, of everything the source counts or gauges."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in Path(SOURCE).rglob("*.py"))
    counts = re.findall(r"\bcount\(\s*\"(\w+)\"", source)
    gauges = re.findall(r"\bgauge\(\s*\"(\w+)\"", source)
    shown = {f"legato_{name}_total" for name in (*counts, "warnings")}
    return shown | {f"legato_{name}" for name in gauges}


@pytest.mark.parametrize("page", all_pages())
def test_every_counter_that_is_named_is_counted_somewhere(page: str) -> None:
    named = set(re.findall(r"\blegato_[a-z_]+\b", text_of(page)))
    assert named - _counted() == set()
