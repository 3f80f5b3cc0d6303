"""Text that a model, a tool or another person wrote, made fit for a terminal: no control characters, no escape
sequences. Line breaks and tabs stay; what is left can colour nothing, move nothing and ring nothing.
"""

from __future__ import annotations

import re
from typing import Final

_HOLD_MAX: Final = 4096
"""Characters of an escape sequence that are waited for. One that is longer is none, and its text is shown."""

# ECMA-48: CSI ends at the first of @-~, OSC and its kin at BEL or ST; any other escape is two or three characters.
# The 8-bit forms mean the same to some terminals.
_SEQUENCE: Final = re.compile(
    r"""(?: (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]
      | (?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]) [^\x07\x1b\x9c]* (?:\x07|\x9c|\x1b\\)
      | \x1b [ -/]+ [0-~]
      | \x1b [0-Z\\`-~]
    )""",
    re.VERBOSE,
)
_BEGUN: Final = re.compile(
    r"""(?: (?:\x1b\[|\x9b) [0-?]* [ -/]*
      | (?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]) [^\x07\x1b\x9c]* \x1b?
      | \x1b [ -/]*
      | \r
    )\Z""",
    re.VERBOSE,
)
# C0 but tab and line feed, DEL, C1; and the overrides that make text read backwards (Trojan Source, CVE-2021-42574).
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e]")


def clean(text: str) -> str:
    """A whole text."""
    if text.isprintable():
        return text
    return _CONTROL.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


class Cleaner:
    """For text that comes in pieces: a sequence torn between two of them is one all the same."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        text = self._held + piece
        self._held = ""
        if text.isprintable():
            return text
        begun = _BEGUN.search(text)
        if begun is not None and len(text) - begun.start() <= _HOLD_MAX:
            self._held = text[begun.start() :]
            text = text[: begun.start()]
        return clean(text)


def one_line(text: str, width: int) -> str:
    """A clean text on one line, at most ``width`` characters of it."""
    line = " ".join(clean(text[: 8 * width + 8]).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def visible_json(line: bytes) -> bytes:
    """JSON that means the same and has nothing a terminal acts on: C1 and DEL are escaped, C0 is so already."""
    return re.sub(rb"\x7f|\xc2[\x80-\x9f]", lambda found: b"\\u%04x" % ord(found[0].decode()), line)
