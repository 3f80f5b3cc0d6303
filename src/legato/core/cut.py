"""A long text, cut for who reads it: its beginning, a line that says what is left out, and its end.

Two thirds of the room are the beginning's, one third the end's. No character is torn. What was cut once, for the log,
can be cut again to less room, for a model: then one line stands for all that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from legato.core.text import cut as first_bytes

Hint = Callable[[int], str]
"""How to read what is left out, from that byte on; "" where there is no way."""

_MARKER = re.compile(r"\n\[… (\d+) of (\d+) bytes left out[^\n]* …\]\n")


class Ends(msgspec.Struct, frozen=True):
    """What is at hand of a text of ``total`` bytes: its beginning and its end, or the whole of it as both."""

    head: str
    tail: str
    total: int

    def within(self, max_bytes: int, hint: Hint) -> str:
        """At most ``max_bytes`` bytes of UTF-8. Where there is no room for the line, the beginning alone."""
        room = max_bytes - len(_marker(self.total, self.total, hint(self.total)).encode())
        if room <= 0:
            return first_bytes(self.head, max(max_bytes, 0))
        head = first_bytes(self.head, room * 2 // 3)
        tail = last_bytes(self.tail, room - len(head.encode()))
        start = len(head.encode())
        return head + _marker(self.total - start - len(tail.encode()), self.total, hint(start)) + tail


def no_hint(_: int) -> str:
    return ""


def shorten(text: str, max_bytes: int, hint: Hint = no_hint) -> str:
    """The text, or what of it fits into ``max_bytes`` bytes of UTF-8."""
    total = len(text.encode())
    return text if total <= max_bytes else Ends(text, text, total).within(max_bytes, hint)


def cut_before(text: str, total: int) -> Ends | None:
    """What ``within`` made of a text of ``total`` bytes, taken apart again. None where it was not cut.

    The tool's own text may hold a line that looks like ours: only that one counts whose numbers are true.
    """
    for found in _MARKER.finditer(text):
        head, tail = text[: found.start()], text[found.end() :]
        left_out = total - len(head.encode()) - len(tail.encode())
        if (int(found[1]), int(found[2])) == (left_out, total):
            return Ends(head, tail, total)
    return None


def last_bytes(text: str, length: int) -> str:
    """The last ``length`` UTF-8 bytes, without a torn first character."""
    data = text.encode()
    return data[max(len(data) - length, 0) :].decode(errors="ignore")


def _marker(left_out: int, total: int, hint: str) -> str:
    return f"\n[… {left_out} of {total} bytes left out{hint} …]\n"
