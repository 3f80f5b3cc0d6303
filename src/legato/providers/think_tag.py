"""Thinking that a model writes into its text: ``<think>…</think>`` at the very start.

Only there: a tag further on is something the answer talks about. The tags go, every other character stays, in order.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Said: TypeAlias = tuple[Literal["text", "thinking"], str]

_OPEN = "<think>"
_CLOSE = "</think>"


class ThinkTag:
    """``sought`` False: the text is text, tag or not."""

    def __init__(self, *, sought: bool) -> None:
        self._state: Literal["start", "thinking", "text"] = "start" if sought else "text"
        self._held = ""

    def feed(self, text: str) -> list[Said]:
        if self._state == "text":
            return [("text", text)] if text else []
        text = self._held + text
        self._held = ""
        if self._state == "start":
            return self._begin(text)
        return self._think(text)

    def rest(self) -> list[Said]:
        """What was held back because it might have become a tag."""
        held, self._held = self._held, ""
        return [("thinking" if self._state == "thinking" else "text", held)] if held else []

    def leave(self) -> list[Said]:
        """Look for no tag any more: the vendor says thinking in a field of its own."""
        rest = self.rest()
        self._state = "text"
        return rest

    def _begin(self, text: str) -> list[Said]:
        blank = len(text) - len(text.lstrip())
        begun = text[blank : blank + len(_OPEN)]
        if begun == _OPEN:
            self._state = "thinking"
            return self._think(text[:blank] + text[blank + len(_OPEN) :])
        if _OPEN.startswith(begun):
            self._held = text
            return []
        self._state = "text"
        return [("text", text)]

    def _think(self, text: str) -> list[Said]:
        end = text.find(_CLOSE)
        if end >= 0:
            self._state = "text"
            after = text[end + len(_CLOSE) :]
            said: list[Said] = [("thinking", text[:end]), ("text", after)]
            return [one for one in said if one[1]]
        for length in range(min(len(_CLOSE) - 1, len(text)), 0, -1):
            if _CLOSE.startswith(text[-length:]):
                self._held = text[-length:]
                text = text[:-length]
                break
        return [("thinking", text)] if text else []
