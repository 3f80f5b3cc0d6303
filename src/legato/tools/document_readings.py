"""What a model reads of the document tools' results: the tree with box lines, a text with its line numbers, hits
without what a model has no use for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from legato.core.blocks import Json

TREE_LINES: Final = 400
"""Lines of a tree. A larger one shows the deepest folders closed; about 6,000 tokens."""

_DIGITS: Final = re.compile(r"(\d+)")

Leaf: TypeAlias = tuple[str, int]
"""A document's path below the folder that is drawn, and its words."""


def read_tree(output: Json) -> str:
    documents = output["documents"]
    folder = output["folder"]
    if not documents:
        return "the workspace is empty; doc_create makes a document"
    leaves = [(one["path"][len(folder) :], one["words"]) for one in documents]
    more = output["count"] - len(documents)
    lines = [f"{folder or 'workspace'} ({_summary(leaves)})", *_drawn(leaves)]
    if more:
        lines.append(f"[… {more:,} more documents; name a folder to see what is in it …]")
    return "\n".join(lines)


def read_view(output: Json) -> str:
    lines, start, end = output["lines"], output["start"], output["end"]
    head = f"{output['path']} (version {output['version']}, {_count(output['words'], 'word')})"
    if not lines:
        return f"{head}\n[it is empty]"
    width = len(str(end))
    text = "\n".join(f"{number:>{width}}  {line}" for number, line in enumerate(output["text"].split("\n"), start))
    told = head if (start, end) == (1, lines) else f"{head}, {_lines(start, end)} of {lines}"
    if output["cut"]:
        text += f"\n[… line {end} goes on; only its beginning can be shown …]"
    if end < lines:
        text += f"\n[… {_lines(end + 1, lines)} left out; doc_view(path, start={end + 1}) reads on …]"
    return f"{told}\n{text}"


def read_hits(output: Json) -> str:
    found = output["data"]
    where = f" in {output['folder']}" if output["folder"] else ""
    if not found:
        return f"nothing was found for {output['query']!r}{where}"
    lines = [f"{one['path']}:{one['line']}  {one['snippet'].strip()}" for one in found]
    if output["matched"] == "any":
        lines.insert(0, f"no document{where} holds all of {output['query']!r}; these hold some of it:")
    if output["next"] is not None:
        lines.append(f"[… more were found; next={output['next']!r} goes on …]")
    return "\n".join(lines)


def read_change(output: Json) -> str:
    documents = output["documents"]
    if output["what"] is None:
        return f"nothing to do: {documents[0]['path']} is so already" if documents else "nothing to do"
    version = output["version"]
    if output["count"] == 1:
        (one,) = documents
        return f"{output['what']} {one['path']}: version {version}, {_count(one['words'], 'word')}"
    shown = "\n".join(one["path"] for one in documents)
    left = output["count"] - len(documents)
    more = f"\n[… and {left:,} more …]" if left else ""
    return f"{output['what']} {_count(output['count'], 'document')}, version {version}:\n{shown}{more}"


def _drawn(leaves: Sequence[Leaf]) -> list[str]:
    """As deep as there are lines for."""
    deepest = max(path.count("/") for path, _ in leaves)
    for depth in range(deepest, 0, -1):
        lines = list(_branches(leaves, "", depth))
        if len(lines) <= TREE_LINES:
            return lines
    lines = list(_branches(leaves, "", 0))
    if len(lines) <= TREE_LINES:
        return lines
    return [*lines[:TREE_LINES], f"[… {len(lines) - TREE_LINES:,} more lines; name a folder, or search …]"]


def _branches(leaves: Sequence[Leaf], indent: str, depth: int) -> Iterator[str]:
    """One level: folders first, each with what is in it unless it is too deep; numbers in names count as numbers."""
    folders: dict[str, list[Leaf]] = {}
    documents: list[Leaf] = []
    for path, words in leaves:
        name, slash, below = path.partition("/")
        if slash:
            folders.setdefault(name, []).append((below, words))
        else:
            documents.append((name, words))
    left = len(folders) + len(documents)
    for name in sorted(folders, key=_natural):
        left -= 1
        inside = folders[name]
        yield f"{indent}{'├── ' if left else '└── '}{name}/" + ("" if depth > 0 else f" ({_summary(inside)})")
        if depth > 0:
            yield from _branches(inside, indent + ("│   " if left else "    "), depth - 1)
    for name, words in sorted(documents, key=lambda one: _natural(one[0])):
        left -= 1
        yield f"{indent}{'├── ' if left else '└── '}{name}  {_count(words, 'word')}"


def _natural(name: str) -> list[tuple[int, str]]:
    """``chapter 2`` before ``chapter 10``."""
    return [(int(part), "") if part.isdecimal() else (0, part.casefold()) for part in _DIGITS.split(name)]


def _lines(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _summary(leaves: Sequence[Leaf]) -> str:
    return f"{_count(len(leaves), 'document')}, {_count(sum(words for _, words in leaves), 'word')}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
