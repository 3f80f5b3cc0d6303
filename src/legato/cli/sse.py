"""The client's half of Server-Sent Events: bytes in, messages out. Pure; by the letter of the WHATWG's parser.

Not by the letter: an ``id`` that holds no number is kept from nobody, and a ``retry`` is bounded by who waits.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"


class Message(NamedTuple):
    """``id`` is the last one said, by this message or one before it."""

    id: str
    event: str
    data: bytes


class SseParser:
    """``retry_ms`` is what the server asked to wait before coming back, if it did."""

    def __init__(self) -> None:
        self.retry_ms: int | None = None
        self._torn: list[bytes] = []  # the pieces of a line whose end has not come
        self._after_cr = False
        self._at_start = True
        self._id = ""
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[Message]:
        """The messages that this piece completes."""
        if self._after_cr and piece[:1] == b"\n":
            piece = piece[1:]
        if piece:
            self._after_cr = piece.endswith(b"\r")
        lines = _LINE_END.split(piece)
        if len(lines) == 1:
            self._torn.append(piece)
            return []
        lines[0] = b"".join([*self._torn, lines[0]])
        last = lines.pop()
        self._torn = [last] if last else []
        return [message for line in lines if (message := self._line(line)) is not None]

    def _line(self, line: bytes) -> Message | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatched()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value.decode(errors="replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode(errors="replace")
            case b"retry" if value.isdigit():
                self.retry_ms = int(value)
            case _:
                pass  # a comment, or a field that is not ours
        return None

    def _dispatched(self) -> Message | None:
        data, event = self._data, self._event
        self._data, self._event = [], ""
        return Message(self._id, event or "message", b"\n".join(data)) if data else None
