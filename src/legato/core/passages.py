"""Passages of a text: where one stands, what is like it, a stretch of lines, and what differs between two texts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from legato.core.text import cut as first_bytes

# Of a document's view. With the numbers in front it stays under the 64 KiB that a model reads of one result.
VIEW_LINES: Final = 1_500
VIEW_BYTES: Final = 40_000
# Places of a passage that are counted: it should be one.
MOST_PLACES: Final = 1_000
# Characters of a line, and lines, that a message shows of the nearest passage.
_SHOWN: Final = 200
_SHOWN_LINES: Final = 6
# Lines of both texts between the first and the last that differ. More are shown as one change: to find what is the same
# among them would take seconds of a thread.
DIFF_LINES: Final = 4_000
_CONTEXT: Final = 3
# Lines that are looked at for the nearest passage: a text of 1 MiB has as many, and takes 60 ms.
_LOOKED_AT: Final = 20_000

_WORD: Final = re.compile(r"\w+")
_HEAD: Final = re.compile(r"@@ -(\d+)(\S*) \+(\d+)(\S*) @@\n")
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")


class Stretch(msgspec.Struct, frozen=True):
    """Lines ``start`` to ``end`` of ``lines``, counted from 1. ``cut``: ``end`` has more characters than are here."""

    start: int
    end: int
    lines: int
    text: str
    cut: bool = False


def lines_of(text: str) -> list[str]:
    """Without their line feeds; what stands behind the last one is no line if it is empty."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def stretch(text: str, start: int, end: int | None) -> Stretch:
    """The lines asked for, as many of them as a view may have: always one, if there is one at ``start``."""
    lines = lines_of(text)
    asked = lines[start - 1 : end][:VIEW_LINES]
    room, taken = VIEW_BYTES, 0
    for line in asked:
        room -= len(line.encode()) + 1
        if room < 0:
            break
        taken += 1
    if asked and not taken:
        return Stretch(start, start, len(lines), first_bytes(asked[0], VIEW_BYTES), cut=True)
    return Stretch(start, start + taken - 1, len(lines), "\n".join(asked[:taken]))


def places(text: str, passage: str) -> list[int]:
    """Where the passage begins, as offsets, at most ``MOST_PLACES``; occurrences that overlap count each."""
    found: list[int] = []
    at = text.find(passage)
    while at >= 0 and len(found) < MOST_PLACES:
        found.append(at)
        at = text.find(passage, at + 1)
    return found


def line_at(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def nearest(text: str, passage: str) -> str | None:
    """The lines that have most words in common with the passage, with their numbers; None where none has any.

    One look at each line, however long the passage: a model waits for it.
    """
    wanted = [line for line in passage.split("\n") if line.strip()][:_SHOWN_LINES]
    lines = lines_of(text)[:_LOOKED_AT]
    if not wanted or not lines:
        return None
    sought = [set(_WORD.findall(line.lower())) for line in wanted]
    every = set().union(*sought)
    if not every:
        return None
    words = [every.intersection(_WORD.findall(line.lower())) for line in lines]
    height = min(len(wanted), len(lines))
    best, at = 0.0, -1
    for first in range(len(lines) - height + 1):
        if not words[first]:
            continue
        score = _likeness(sought, words[first : first + height])
        if score > best:
            best, at = score, first
    if at < 0:
        return None
    last = min(at + height, len(lines))
    return "\n".join(f"{number}: {_short(lines[number - 1])}" for number in range(at + 1, last + 1))


def _likeness(sought: list[set[str]], words: list[set[str]]) -> float:
    """How much of each wanted line its neighbour in the text has; the first line says most."""
    score = 0.0
    for at, (one, other) in enumerate(zip(sought, words, strict=False)):
        score += len(one & other) / (len(one) or 1) / (1 if at == 0 else 2)
    return score


def _short(line: str) -> str:
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"


def difference(old: str, new: str, *, old_name: str, new_name: str) -> str:
    """As a unified diff with three lines around each change; "" where nothing differs."""
    before, after = _LINE.findall(old), _LINE.findall(new)
    same, tail = _common(before, after)
    if len(before) + len(after) - 2 * (same + tail) > DIFF_LINES:
        told = _one_hunk(before, after, same, tail, (old_name, new_name))
    else:
        told = _hunks(before, after, same, tail, (old_name, new_name))
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in told)


def _common(before: list[str], after: list[str]) -> tuple[int, int]:
    """How many lines are the same in front, and how many behind."""
    most = min(len(before), len(after))
    same = next((at for at in range(most) if before[at] != after[at]), most)
    most -= same
    return same, next((at for at in range(most) if before[-1 - at] != after[-1 - at]), most)


def _hunks(before: list[str], after: list[str], same: int, tail: int, names: tuple[str, str]) -> Iterator[str]:
    """Of what lies between the first and the last line that differ: difflib takes seconds for a long text around it."""
    first, rest = max(same - _CONTEXT, 0), max(tail - _CONTEXT, 0)
    old, new = before[first : len(before) - rest], after[first : len(after) - rest]
    for line in difflib.unified_diff(old, new, *names, n=_CONTEXT):
        head = _HEAD.match(line)
        if head is None:
            yield line
        else:
            yield f"@@ -{int(head[1]) + first}{head[2]} +{int(head[3]) + first}{head[4]} @@\n"


def _one_hunk(before: list[str], after: list[str], same: int, tail: int, names: tuple[str, str]) -> Iterator[str]:
    """From the first line that differs to the last one."""
    gone, come = before[same : len(before) - tail], after[same : len(after) - tail]
    yield f"--- {names[0]}\n"
    yield f"+++ {names[1]}\n"
    yield f"@@ -{same + bool(gone)},{len(gone)} +{same + bool(come)},{len(come)} @@\n"
    yield from (f"-{line}" for line in gone)
    yield from (f"+{line}" for line in come)
