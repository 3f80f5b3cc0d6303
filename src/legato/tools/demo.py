"""Tools for the first look, without a key or a network: a small book about a dragon, dice, and a notepad.

They are there while the default model is the script provider's. The same arguments always give the same result.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal, NamedTuple, TypeAlias, TypedDict

import anyio

from legato.core.blocks import Json
from legato.core.context import ToolContext
from legato.core.errors import ToolError
from legato.tools.declare import tool
from legato.tools.formatters import formatter

_PAUSE = 0.25
"""Seconds between two lines of progress: slow enough to be seen, fast enough to be watched."""


class Section(NamedTuple):
    title: str
    text: str


_SHORT = 3
"""Letters: words up to it (the, and, who) stand everywhere and find nothing."""

SectionName: TypeAlias = Literal["the-valley", "the-cave", "the-hoard", "the-bargain"]

_BOOK: dict[SectionName, Section] = {
    "the-valley": Section(
        "The valley",
        "Nobody in the valley had seen the dragon, and everybody could describe it. The miller said it was green. "
        "The priest said it was a parable. Only the ferryman said nothing, and counted his sheep twice a day.",
    ),
    "the-cave": Section(
        "The cave",
        "The cave lies above the third waterfall, where the air is warm in winter. Its floor is swept. A dragon "
        "that sweeps its floor, wrote the surveyor, is a dragon that expects visitors.",
    ),
    "the-hoard": Section(
        "The hoard",
        "It was not gold. It was bells: church bells, sheep bells, a ship's bell with the name worn off. The "
        "dragon tuned them with its claws, and at night it let one note begin before the last had ended.",
    ),
    "the-bargain": Section(
        "The bargain",
        "The dragon asked for one bell a year and gave rain in return. The ferryman kept the accounts. In forty "
        "years there was one dry summer, and that year the bell had been cracked.",
    ),
}


class Found(TypedDict):
    section: SectionName
    title: str
    line: str


@tool(effect="read", timeout=20)
async def doc_search(query: Annotated[str, "Words to look for"], *, ctx: ToolContext) -> list[Found]:
    """Search the book about the dragon; gives the sections that hold any of the words, the best first."""
    words = [word for word in re.findall(r"\w+", query.lower()) if len(word) > _SHORT]
    ranked: list[tuple[int, Found]] = []
    for section, (title, text) in _BOOK.items():
        await anyio.sleep(_PAUSE)
        hits = sum(text.lower().count(word) + 2 * title.lower().count(word) for word in words)
        await ctx.emit(f"{title}: {hits} {'hit' if hits == 1 else 'hits'}\n")
        if hits:
            line = next((one for one in text.split(". ") if any(word in one.lower() for word in words)), title)
            ranked.append((hits, Found(section=section, title=title, line=line)))
    return [found for _, found in sorted(ranked, key=lambda one: -one[0])]


@formatter("doc_search", version=1)
def found_lines(output: list[Found]) -> str:
    return "\n".join(f"[{one['section']}] {one['title']}: {one['line']}" for one in output) or "nothing was found"


@tool(effect="read", timeout=20)
async def doc_view(section: Annotated[SectionName, "A section, as doc_search names it"], *, ctx: ToolContext) -> str:
    """Read one section of the book about the dragon."""
    title, text = _BOOK[section]
    await ctx.emit(f"opening “{title}” …\n")
    await anyio.sleep(2 * _PAUSE)
    return text


@formatter("doc_view", version=1)
def section_text(output: str) -> str:
    return output


@tool(effect="read")
def roll_dice(
    count: Annotated[int, "How many dice, 1 to 20"] = 1, sides: Annotated[int, "2 to 1000"] = 6
) -> dict[str, Json]:
    """Roll dice. The same dice asked for again fall the same way."""
    if not 1 <= count <= 20 or not 2 <= sides <= 1000:
        raise ToolError(f"1 to 20 dice of 2 to 1000 sides can be rolled, not {count} of {sides}")
    bits = hashlib.sha256(f"dragon {count}d{sides}".encode()).digest() * 3
    rolls = [int.from_bytes(bits[2 * at : 2 * at + 2]) % sides + 1 for at in range(count)]
    return {"rolls": rolls, "total": sum(rolls)}


@formatter("roll_dice", version=1)
def rolled(output: dict[str, Json]) -> str:
    return f"{' + '.join(map(str, output['rolls']))} = {output['total']}"


@tool(effect="write")
async def note(text: Annotated[str, "One line to remember"], *, ctx: ToolContext) -> str:
    """Write a line on this turn's notepad."""
    notes = ctx.state.setdefault("notes", [])
    notes.append(text)
    await ctx.emit(f"note {len(notes)}: {text}\n")
    return f"noted as number {len(notes)}"


@formatter("note", version=1)
def noted(output: str) -> str:
    return output
