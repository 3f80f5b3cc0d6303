"""The tools of the first look."""

from __future__ import annotations

import pytest

from legato.core.context import ToolContext
from legato.tools import demo
from legato.tools.demo import doc_search, doc_view, note, roll_dice
from legato.tools.registry import load_modules


def context(shown: list[str]) -> ToolContext:
    return ToolContext(
        turn_id="t",
        chat_id="c",
        call_id="k",
        principal="local",
        idempotency_key="key",
        state={},
        emit=shown.append,
        cancelled=lambda: False,
    )


def test_each_has_a_formatter_and_only_the_note_has_an_effect() -> None:
    registry = load_modules([demo.__name__])
    assert registry.names() == ("doc_search", "doc_view", "roll_dice", "note")
    assert sorted(registry.formatters.names()) == sorted(registry.names())
    assert [one.spec.name for one in registry if one.effect != "read"] == ["note"]


@pytest.mark.anyio
async def test_searching_shows_each_section_as_it_is_read_and_finds_what_can_be_viewed() -> None:
    shown: list[str] = []
    found = await doc_search("bells hoard", ctx=context(shown))
    assert [one["section"] for one in found] == ["the-hoard"]
    assert len(shown) == 4
    assert "bells" in await doc_view(found[0]["section"], ctx=context(shown))


def test_the_same_dice_fall_the_same_way() -> None:
    assert roll_dice(3, 6) == roll_dice(3, 6)
    assert all(1 <= roll <= 6 for roll in roll_dice(20, 6)["rolls"])


@pytest.mark.anyio
async def test_notes_are_kept_for_the_turn() -> None:
    ctx = context([])
    await note("one", ctx=ctx)
    assert await note("two", ctx=ctx) == "noted as number 2"
    assert ctx.state["notes"] == ["one", "two"]
