"""docs/architecture.md draws the house that the architecture test keeps."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import SOURCE, code, rows, text_of
from tests.test_architecture import ROOMS

from legato.runtime.calls.toolbox import GRACE
from legato.runtime.storing.journal import JournalSettings

PAGE = "docs/architecture.md"


def rooms() -> set[str]:
    """Those that are built: folders and files of the package, but for its doors."""
    there = {path.stem if path.suffix == ".py" else path.name for path in SOURCE.iterdir()}
    return there & set(ROOMS) - {"__main__"}


def test_every_room_is_in_the_table_with_what_it_may_import() -> None:
    shown = {code(room)[0]: imports for room, imports in rows(PAGE, "## The house")}
    assert set(shown) == rooms()
    built = {*rooms(), "runtime.service", "runtime.reading.looking"}
    for room, imports in shown.items():
        if imports == "all of the above":
            above = list(shown)[: list(shown).index(room)]
            assert {one for one in ROOMS[room] if one in built} == set(above)
        else:
            assert set(code(imports)) == {one for one in ROOMS[room] if one in built}, room
            assert ("the public names" in imports) == ("" in ROOMS[room])


def test_every_room_is_in_the_picture() -> None:
    text = text_of(PAGE)
    house = text[text.index("## The house") : text.index("A test reads the imports")]
    assert {room for room in rooms() if re.search(rf"\b{room}\b", house) is None} == set()


def test_every_wing_of_runtime_is_in_its_table() -> None:
    there = {path.parent.name for path in (SOURCE / "runtime").glob("*/__init__.py")}
    assert {code(wing)[0] for wing, _ in rows(PAGE, "## The wings of runtime")} == there


@pytest.mark.parametrize("room", sorted(rooms()))
def test_every_file_of_a_room_that_is_named_is_there(room: str) -> None:
    named = re.findall(rf"`({room}/[\w/]+\.py)`", text_of(PAGE))
    assert [path for path in named if not (SOURCE / path).exists()] == []


def test_what_is_said_to_be_pure_starts_no_task_and_asks_no_clock() -> None:
    """core has a test of its own; these are the others."""
    pure = [path for row in rows(PAGE, "## What is pure") for path in code(row[1])]
    assert len(pure) > 5
    impure = re.compile(r"^(?:import|from) (?:asyncio|anyio|time|random|os|aiohttp)\b|\basync def\b", re.MULTILINE)
    assert [path for path in pure if impure.search((SOURCE / path).read_text(encoding="utf-8"))] == []


def test_the_figures_of_the_page_are_those_of_the_source() -> None:
    text = " ".join(text_of(PAGE).split())
    assert f"every {JournalSettings().flush_interval * 1000:g} ms" in text
    assert f"tried again for {JournalSettings().retry_window:g} s" in text
    assert f"has {GRACE:g} s" in text
