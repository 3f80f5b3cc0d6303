"""The pages as what can be checked: their fenced blocks, their tables, their links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "legato"

_FENCE = re.compile(r"^(?:<!-- (?P<file>\S+) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


class Fence(NamedTuple):
    """A block between two lines of three backticks. ``file`` is named by a comment just above: the block is that file,
    or stands for it."""

    page: str
    line: int
    language: str
    body: str
    file: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def fences(page: str, *languages: str) -> list[Fence]:
    """In their order; of these languages, or all."""
    text = text_of(page)
    return [
        Fence(page, text.count("\n", 0, found.start()) + 1, found["language"], found["body"], found["file"])
        for found in _FENCE.finditer(text)
        if not languages or found["language"] in languages
    ]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of every table below this heading, up to the next of its level or above; head lines left out."""
    lines = [line for line in section(page, heading).splitlines() if line.startswith("|")]
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for at, row in enumerate(cells) if not _is_head(cells, at)]


def section(page: str, heading: str) -> str:
    """What stands below a heading line, ``## Events``, up to the next of its level or above."""
    level = heading.partition(" ")[0]
    lines = prose(page).splitlines()
    start = lines.index(heading) + 1
    ends = (at for at in range(start, len(lines)) if re.match(rf"#{{1,{len(level)}}} ", lines[at]))
    return "\n".join(lines[start : next(ends, len(lines))])


def code(cell: str) -> list[str]:
    """What stands between backticks."""
    return _CODE.findall(cell)


def links(page: str) -> Iterator[str]:
    """The targets of its links, those in code left out."""
    for found in _LINK.finditer(_CODE.sub("", prose(page))):
        yield found["target"]


def anchors(page: str) -> set[str]:
    """The fragments that its headings can be found by, as code forges make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def all_pages() -> list[str]:
    """Every page of the project, by its path from the root."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(str(page.relative_to(ROOT)) for page in found)


def _is_head(cells: list[list[str]], at: int) -> bool:
    rule = [set(cell) <= {"-", ":"} for cell in cells[at]]
    return all(rule) or (at + 1 < len(cells) and all(set(cell) <= {"-", ":"} for cell in cells[at + 1]))
