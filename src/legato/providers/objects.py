"""Tell when streamed text is one whole JSON object, looking at each character once.

Not a parser: the arguments of a sealed call are parsed strictly elsewhere. Whatever is whole here and no JSON there is
bad JSON, and is answered as such.
"""

from __future__ import annotations

import re

_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\]')


class ObjectScanner:
    """``begun``: something but white space came. ``complete``: the object has closed. ``bad``: it is none, or something
    but white space came after it closed."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_last", "bad", "begun", "complete")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._last = ""
        self.begun = False
        self.complete = False
        self.bad = False

    @property
    def in_string(self) -> bool:
        return self._in_string

    @property
    def expects_key(self) -> bool:
        """Whether a brace opened last, so that a key or the end has to come."""
        return not self._in_string and self._last == "{"

    def feed(self, text: str) -> None:
        if not self.begun:
            text = text.lstrip()
            if not text:
                return
            self.begun = True
            self.bad = text[0] != "{"
        if self.complete:
            self.bad = self.bad or not (not text or text.isspace())
            return
        if not self.bad:
            self._scan(text)
            self._last = (text.rstrip() or self._last)[-1:]

    def _scan(self, text: str) -> None:
        place, length = 0, len(text)
        while place < length:
            if self._escaped:
                self._escaped = False
                place += 1
                continue
            found = (_INSIDE if self._in_string else _OUTSIDE).search(text, place)
            if found is None:
                return
            place = found.end()
            mark = found[0]
            if mark == "\\":
                self._escaped = True
            elif mark == '"':
                self._in_string = not self._in_string
            elif mark in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    self.complete = True
                    rest = text[place:]
                    self.bad = bool(rest) and not rest.isspace()
                    return
