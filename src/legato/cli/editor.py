"""A line that is typed: keys in, lines out. Pure; what is drawn of it is the terminal's affair.

The keys are those of any shell: arrows, Home, End, Ctrl-A, E, U, K, W, D, the history by up and down, Tab for the name
of a command. A paste is text, line breaks included, and sends nothing by itself.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

_KEY: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z~]|\x1bO[A-Za-z]|\x1b[^\[O]|[^\x1b]", re.DOTALL)
_PASTE_BEGINS: Final = "\x1b[200~"
_PASTE_ENDS: Final = "\x1b[201~"
_HISTORY_MAX: Final = 500


class Entered(NamedTuple):
    line: str


class Left(NamedTuple):
    """Ctrl-D on an empty line, or the end of the input."""


Typed: TypeAlias = Entered | Left


class Editor:
    """``line`` is what stands there, ``at`` where the cursor is in it."""

    def __init__(self, *, words: Sequence[str] = ()) -> None:
        self.line = ""
        self.at = 0
        self._words = words
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begun = ""  # of an escape sequence whose end has not come
        self._pasting = False
        self._history: list[str] = []
        self._back = 0  # how far back in the history we are; 0 is the line being typed
        self._draft = ""

    def feed(self, data: bytes) -> list[Typed]:
        """What these bytes complete."""
        text = self._begun + self._decoder.decode(data)
        self._begun = ""
        typed: list[Typed] = []
        at = 0
        while at < len(text):
            found = _KEY.match(text, at)
            if found is None:
                self._begun = text[at:]
                break
            at = found.end()
            if self._pasting:
                self._pasted(found[0])
            elif (done := self._key(found[0])) is not None:
                typed.append(done)
        return typed

    def clear(self) -> None:
        self._become("")

    def offer(self, line: str) -> None:
        """Put it there, to be changed."""
        self._become(line)

    def _key(self, key: str) -> Typed | None:
        match key:
            case "\r" | "\n":
                return self._entered()
            case "\x04":
                if not self.line:
                    return Left()
                self._cut(self.at, self.at + 1)
            case "\x7f" | "\x08":
                self._cut(max(0, self.at - 1), self.at)
            case "\x15":
                self._cut(0, self.at)
            case "\x0b":
                self._cut(self.at, len(self.line))
            case "\x17" | "\x1b\x7f":
                self._cut(len(re.sub(r"\S+\s*\Z", "", self.line[: self.at])), self.at)
            case "\t":
                self._complete()
            case _ if key.startswith("\x1b") or key in "\x01\x02\x05\x06\x0e\x10":
                self._move(key)
            case _ if key.isprintable():
                self._insert(key)
            case _:
                pass
        return None

    def _move(self, key: str) -> None:
        match key:
            case "\x1b[D" | "\x1bOD" | "\x02":
                self.at = max(0, self.at - 1)
            case "\x1b[C" | "\x1bOC" | "\x06":
                self.at = min(len(self.line), self.at + 1)
            case "\x1b[H" | "\x1bOH" | "\x1b[1~" | "\x01":
                self.at = 0
            case "\x1b[F" | "\x1bOF" | "\x1b[4~" | "\x05":
                self.at = len(self.line)
            case "\x1b[3~":
                self._cut(self.at, self.at + 1)
            case "\x1b[A" | "\x1bOA" | "\x10":
                self._recall(self._back + 1)
            case "\x1b[B" | "\x1bOB" | "\x0e":
                self._recall(self._back - 1)
            case _ if key == _PASTE_BEGINS:
                self._pasting = True
            case _:
                pass

    def _pasted(self, key: str) -> None:
        if key == _PASTE_ENDS:
            self._pasting = False
        elif key == "\r":
            self._insert("\n")
        elif key in "\n\t" or key.isprintable():
            self._insert(key)

    def _entered(self) -> Entered:
        line = self.line
        if line.strip() and (not self._history or self._history[-1] != line):
            self._history = [*self._history[1 - _HISTORY_MAX :], line]
        self._back = 0
        self._become("")
        return Entered(line)

    def _recall(self, back: int) -> None:
        if not 0 <= back <= len(self._history):
            return
        if self._back == 0:
            self._draft = self.line
        self._back = back
        self._become(self._history[-back] if back else self._draft)

    def _complete(self) -> None:
        typed = self.line[: self.at]
        fitting = [word for word in self._words if word.startswith(typed)]
        if typed.startswith("/") and len(fitting) == 1:
            self._insert(fitting[0][len(typed) :] + " ")

    def _become(self, line: str) -> None:
        self.line, self.at = line, len(line)

    def _insert(self, text: str) -> None:
        self.line = self.line[: self.at] + text + self.line[self.at :]
        self.at += len(text)

    def _cut(self, start: int, end: int) -> None:
        self.line = self.line[:start] + self.line[end:]
        self.at = start
