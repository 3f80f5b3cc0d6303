"""Split a byte stream into server-sent event frames, on bytes, without decoding them.

Pure. Linear in the bytes fed, whatever the size of the pieces: a frame that is not whole yet is kept as the list of its
pieces and joined once. Measured: ``split(b"\\n\\n")`` 0.3 µs a frame, line by line in Python 1.6 (docs/performance.md).
"""

from __future__ import annotations

FRAME_MAX = 16 * 1024 * 1024
"""Bytes of one frame. A line longer than 64 KiB is normal (search results in one block); past this it is garbage."""

_BOM = b"\xef\xbb\xbf"


class FrameTooLong(Exception):
    """They sent more than ``FRAME_MAX`` bytes without the end of a frame."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a frame has more than {limit} bytes")


class Splitter:
    def __init__(self, *, limit: int = FRAME_MAX) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._carriage_return = False
        self._fresh = True
        self._unusual = True

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now, without the empty line that ended each. Raises ``FrameTooLong``."""
        if data.endswith(b"\n\n") and not self._unusual and b"\r" not in data:
            return data[:-2].split(b"\n\n")
        frames = self._split(data)
        self._unusual = bool(self._pieces) or self._carriage_return or self._fresh
        return frames

    def _split(self, data: bytes) -> list[bytes]:
        if b"\r" in data or self._carriage_return:
            data = self._plain(data)
        if not data:
            return []
        if b"\n\n" not in data and not (data[0] == 10 and self._pieces and self._pieces[-1][-1] == 10):
            self._keep(data)
            return []
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
        if self._fresh:
            self._fresh = False
            data = data.removeprefix(_BOM)
        frames = data.split(b"\n\n")
        rest = frames.pop()
        if rest:
            self._keep(rest)
        return frames

    def rest(self) -> bytes:
        """What came after the last whole frame. At the end of the stream it is a frame only if the dialect says so."""
        rest = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return rest.removeprefix(_BOM) if self._fresh else rest

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._limit:
            raise FrameTooLong(self._limit)

    def _plain(self, data: bytes) -> bytes:
        """With ``\\n`` for every ``\\r\\n`` and ``\\r``. A ``\\r`` at the end of a piece waits for what follows it."""
        if self._carriage_return:
            data = b"\r" + data
        self._carriage_return = data.endswith(b"\r")
        if self._carriage_return:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def data_of(frame: bytes) -> bytes:
    """The data of a frame, its lines joined by ``\\n``; empty for comments and for frames without data."""
    start = frame.find(b"data: ")
    # One line of data, perhaps after the line of its event, is what every vendor sends.
    if start >= 0 and frame.find(b"\n", start) < 0 and (start == 0 or _after_event(frame, start)):
        return frame[start + 6 :]
    return b"\n".join(_values(frame, b"data"))


def _after_event(frame: bytes, start: int) -> bool:
    return frame.startswith(b"event:") and frame.find(b"\n") == start - 1


def event_of(frame: bytes) -> bytes:
    """The name of a frame's event; empty if it has none."""
    names = _values(frame, b"event")
    return names[-1] if names else b""


def _values(frame: bytes, field: bytes) -> list[bytes]:
    values = []
    for line in frame.split(b"\n"):
        name, colon, value = line.partition(b":")
        if name == field:
            values.append(value.removeprefix(b" ") if colon else b"")
    return values
