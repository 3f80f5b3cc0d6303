"""HTML to Markdown, in a process of its own: ``python -P page_worker.py`` reads one page and writes one answer.

It imports nothing of ours. In: a line of JSON, ``{"url", "memory", "seconds", "characters"}``, then the page as UTF-8.
Out: JSON, ``{"title", "text", "cut"}``. The tree is walked without recursion, because pages may be nested as deep as
they are long.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

from justhtml import Element, JustHTML, Text

_TITLE = 300
"""Characters of a title."""
_MAIN = 200
"""Characters from which the text of <main> is taken to be the page."""
_COLUMNS = 50
"""Wider tables are written as lines."""
_LEFT_OUT = frozenset(
    (
        *("script", "style", "template", "svg", "math", "iframe", "object", "embed", "canvas", "audio", "video"),
        *("nav", "menu", "dialog", "button", "select", "input", "textarea", "datalist", "noembed", "noframes"),
    )
)
_ROWS = frozenset({"thead", "tbody", "tfoot"})
_CELLS = frozenset({"td", "th"})
_PARTS = frozenset({"tr", "caption", "colgroup", *_ROWS, *_CELLS})
_HIDDEN = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_LINKS = frozenset({"http", "https", "mailto"})


def page(html: str, url: str, *, characters: int) -> dict[str, Any]:
    """What a person would read of it. Links are absolute."""
    document = JustHTML(html, sanitize=False, scripting_enabled=False)
    title = document.query_one("title")
    base = document.query_one("base")
    if isinstance(base, Element) and (href := base.attrs.get("href")):
        url = _absolute(url, href) or url
    tables = _Tables()
    _tidy(document.root, url, tables)
    tables.write()
    mains = document.query("main")
    whole = mains[0] if len(mains) == 1 and len(mains[0].to_text()) >= _MAIN else document
    text = tables.written_into(whole.to_markdown())
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip()
    return {
        "title": " ".join(title.to_text().split())[:_TITLE] if title is not None else "",
        "text": _cut(text, characters),
        "cut": len(text) > characters,
    }


def _cut(text: str, characters: int) -> str:
    """At the end of a line where there is one near."""
    if len(text) <= characters:
        return text
    line = text.rfind("\n", characters - 2_000, characters)
    return text[: line if line > 0 else characters]


def _tidy(root: Any, url: str, tables: _Tables) -> None:
    """Leave out what is not read, make links absolute, and note the tables, innermost last."""
    ahead: list[tuple[Any, Element | None]] = [(root, None)]
    while ahead:
        node, table = ahead.pop()
        kept: list[Any] = []
        for child in node.children or ():
            if isinstance(child, Element):
                if _is_left_out(child):
                    continue
                if child.name == "img":
                    if alt := " ".join((child.attrs.get("alt") or "").split()):
                        kept.append(_within(Text(f"(image: {alt})"), node))
                    continue
                if child.name == "a":
                    _make_absolute(child, url)
                if child.name == "table":
                    tables.note(child, inside=table)
                ahead.append((child, child if child.name == "table" else table))
            kept.append(child)
        node.children = kept


def _within(node: Text, parent: Any) -> Text:
    node.parent = parent
    return node


def _is_left_out(element: Element) -> bool:
    attributes = element.attrs
    return (
        element.name in _LEFT_OUT
        or "hidden" in attributes
        or attributes.get("role") == "navigation"
        or (attributes.get("aria-hidden") or "").lower() == "true"
        or _HIDDEN.search(attributes.get("style") or "") is not None
    )


def _make_absolute(link: Element, url: str) -> None:
    href = (link.attrs.get("href") or "").strip()
    there = None if href.startswith("#") else _absolute(url, href)
    if there is None:
        link.name = "span"  # its words stay
    else:
        link.attrs["href"] = there


def _absolute(url: str, href: str) -> str | None:
    try:
        there = urljoin(url, href)
        return there if href and urlsplit(there).scheme in _LINKS else None
    except ValueError:
        return None


class _Tables:
    """A table of data becomes a word in the tree, and lines of Markdown where the word stands in the text. One that
    holds another, or has one column, is there for the layout and becomes plain blocks."""

    def __init__(self) -> None:
        self._mark = f"table{secrets.token_hex(8)}n"
        self._found: list[Element] = []
        self._outer: set[int] = set()
        self._written: list[str] = []

    def note(self, table: Element, *, inside: Element | None) -> None:
        self._found.append(table)
        if inside is not None:
            self._outer.add(id(inside))

    def written_into(self, text: str) -> str:
        return re.sub(rf"{self._mark}(\d+)e", lambda found: self._written[int(found[1])], text)

    def write(self) -> None:
        """Once the tree is tidy."""
        for table in reversed(self._found):
            rows = [] if id(table) in self._outer else [[*_cells(row)] for row in _rows(table)]
            rows = [row for row in rows if row]
            if 2 <= max((len(row) for row in rows), default=0) <= _COLUMNS:
                self._take(table, rows)
            else:
                _as_blocks(table)

    def _take(self, table: Element, rows: list[list[Element]]) -> None:
        caption = next((child for child in table.children or () if child.name == "caption"), None)
        lines = _lines([[_inline(cell) for cell in row] for row in rows])
        if caption is not None and (said := _inline(caption)):
            lines = [said, "", *lines]
        word = _within(Text(f"{self._mark}{len(self._written)}e"), table)
        self._written.append("\n".join(lines))
        table.name = "div"
        table.children = [word]


def _rows(table: Element) -> Iterator[Element]:
    for child in table.children or ():
        if child.name == "tr":
            yield child
        elif child.name in _ROWS:
            yield from (row for row in child.children or () if row.name == "tr")


def _cells(row: Element) -> Iterator[Element]:
    return (cell for cell in row.children or () if cell.name in _CELLS)


def _lines(rows: list[list[str]]) -> list[str]:
    width = max(len(row) for row in rows)
    filled = [row + [""] * (width - len(row)) for row in rows]
    head, *rest = (f"| {' | '.join(row)} |" for row in filled)
    return [head, "|" + " --- |" * width, *rest]


def _inline(cell: Element) -> str:
    return " ".join(cell.to_markdown().split()).replace("|", "\\|")


def _as_blocks(table: Element) -> None:
    ahead = [table]
    while ahead:
        node = ahead.pop()
        ahead.extend(child for child in node.children or () if child.name in _PARTS)
        node.name = "div"


def _bound(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the parent's clock alone
        return
    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds)):
        _, hard = resource.getrlimit(what)
        if hard == resource.RLIM_INFINITY or hard > most:
            try:
                resource.setrlimit(what, (most, most))
            except (ValueError, OSError):
                pass  # macOS has the name RLIMIT_AS and no such bound: the parent's clock alone


def main() -> None:
    asked = json.loads(sys.stdin.buffer.readline())
    _bound(asked["memory"], asked["seconds"])
    html = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    answer = page(html, asked["url"], characters=asked["characters"])
    sys.stdout.buffer.write(json.dumps(answer).encode("ascii"))


if __name__ == "__main__":
    main()
