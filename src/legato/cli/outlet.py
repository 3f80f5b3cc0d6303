"""Where a chat's words go: to a terminal, with a line to type on below them, or into pipes.

What is given is clean (`untrusted`): only the colours and movements of this file reach the terminal as such.
"""

from __future__ import annotations

import os
import sys
from typing import Final, Literal, Protocol, TextIO, TypeAlias

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

Kind: TypeAlias = Literal["answer", "thinking", "call", "shown", "good", "note", "error", "you"]

_STYLES: Final[dict[Kind, Style]] = {
    "answer": Style(),
    "thinking": Style(dim=True, italic=True),
    "call": Style(color="cyan", bold=True),
    "shown": Style(dim=True),
    "good": Style(color="green"),
    "note": Style(dim=True),
    "error": Style(color="red"),
    "you": Style(bold=True),
}
_ERASE: Final = "\r\x1b[K"
_PROMPT: Final = "> "


class Outlet(Protocol):
    def write(self, text: str, kind: Kind) -> None:
        """Text as it comes, on the line that is open."""

    def line(self, text: str, kind: Kind) -> None:
        """A line of its own."""

    def gap(self, kind: Kind) -> None:
        """An empty line, where something stands above it."""

    def fresh(self) -> None:
        """End the line that is open, if one is."""

    def is_open(self, kind: Kind, /) -> bool:
        """The next word of this kind goes on in a line that has begun."""

    def prompt(self, line: str | None, at: int = 0) -> None:
        """Show what is being typed, the cursor before character ``at``; None: nothing is."""


class Plain:
    """Words without colours and movements. Into a pipe goes the answer's text alone, and all else to stderr."""

    def __init__(self, answers: TextIO, others: TextIO) -> None:
        self._answers = answers
        self._others = others
        self._open: dict[TextIO, bool] = {}  # of each that was written to

    def write(self, text: str, kind: Kind) -> None:
        if text:
            stream = self._stream(kind)
            stream.write(text)
            stream.flush()
            self._open[stream] = not text.endswith("\n")

    def line(self, text: str, kind: Kind) -> None:
        self._end(self._stream(kind))
        self.write(text + "\n", kind)

    def gap(self, kind: Kind) -> None:
        if self._stream(kind) in self._open:
            self.line("", kind)

    def fresh(self) -> None:
        for stream in self._open:
            self._end(stream)

    def is_open(self, kind: Kind, /) -> bool:
        return self._open.get(self._stream(kind), False)

    def prompt(self, line: str | None, at: int = 0) -> None:
        """A terminal that feeds us shows by itself what is typed."""

    def _stream(self, kind: Kind) -> TextIO:
        return self._answers if kind == "answer" else self._others

    def _end(self, stream: TextIO) -> None:
        if self._open.get(stream):
            stream.write("\n")
            stream.flush()
            self._open[stream] = False


class Terminal:
    """While something is being typed, its line stays the last one: words come in above it, whole lines at a time."""

    def __init__(self) -> None:
        self._console = Console()
        self._open = False
        self._held: list[tuple[str, Kind]] = []
        self._prompted: str | None = None  # the row that stands there, as it is drawn

    def write(self, text: str, kind: Kind) -> None:
        if not text:
            return
        if self._prompted is None:
            self._say(self._emitted(text, kind))
            return
        self._held.append((text, kind))
        if "\n" in text:
            self._say(_ERASE + self._whole_lines() + self._prompted)

    def line(self, text: str, kind: Kind) -> None:
        self.fresh()
        self.write(text + "\n", kind)

    def gap(self, kind: Kind) -> None:
        self.line("", kind)

    def is_open(self, _: Kind, /) -> bool:
        return not self._held[-1][0].endswith("\n") if self._held else self._open

    def fresh(self) -> None:
        if self._held:
            if not self._held[-1][0].endswith("\n"):
                self.write("\n", "answer")
        elif self._open:
            self.write("\n", "answer")

    def prompt(self, line: str | None, at: int = 0) -> None:
        if line is not None:
            row = self._row(line, at)
            # A line that is being written is broken off: it goes on below, once nothing is being typed.
            before = _ERASE if self._prompted is not None else "\n" if self._open else ""
            self._open = False
            self._prompted = row
            self._say(before + row)
        elif self._prompted is not None:
            self._prompted = None
            held, self._held = self._held, []
            self._say(_ERASE + "".join(self._emitted(text, kind) for text, kind in held))

    def _row(self, line: str, at: int) -> str:
        """One row: where the line is longer, the part of it around the cursor."""
        width = max(8, self._console.width) - cell_len(_PROMPT) - 1
        line = "".join("⏎" if one == "\n" else one if one.isprintable() else "·" for one in line)
        start = at
        while start > 0 and cell_len(line[start - 1 : at]) < width:
            start -= 1
        end = at
        while end < len(line) and cell_len(line[start : end + 1]) < width:
            end += 1
        column = cell_len(_PROMPT) + cell_len(line[start:at])
        return f"{self._styled_text(_PROMPT + line[start:end], 'you')}\r\x1b[{column}C"

    def _whole_lines(self) -> str:
        """What is held, up to its last line break; the rest stays held."""
        kept: list[tuple[str, Kind]] = []
        while self._held and "\n" not in self._held[-1][0]:
            kept.insert(0, self._held.pop())
        text, kind = self._held.pop()
        whole, _, rest = text.rpartition("\n")
        self._held.append((whole + "\n", kind))
        said = "".join(self._emitted(text, kind) for text, kind in self._held)
        self._held = ([(rest, kind)] if rest else []) + kept
        return said

    def _emitted(self, text: str, kind: Kind) -> str:
        self._open = not text.endswith("\n")
        return self._styled_text(text, kind)

    def _styled_text(self, text: str, kind: Kind) -> str:
        # Bold and dim are no colours: they stay where NO_COLOR is set.
        style = _STYLES[kind].without_color if self._console.no_color else _STYLES[kind]
        # Line by line: a style that is still on at a line's end colours the rest of the row on some terminals.
        return "\n".join(
            style.render(one, color_system=ColorSystem.STANDARD) if one else "" for one in text.split("\n")
        )

    def _say(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def outlet() -> Outlet:
    """For this process's stdout."""
    if not sys.stdout.isatty():
        return Plain(sys.stdout, sys.stderr)
    if os.environ.get("TERM") in {"dumb", "unknown"}:
        return Plain(sys.stdout, sys.stdout)
    if os.name == "nt":  # old consoles take no escape sequences until they are told to
        os.system("")  # noqa: S605, S607 - an empty command turns them on
    return Terminal()
