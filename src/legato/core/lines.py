"""A stored log is lines: one encoded event each, in order. What can be said of them without parsing them.

``encode`` puts ``type`` and ``seq`` first, so both are read by slicing. A line that is handed on is handed on as the
bytes it is; only merged deltas are ever encoded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from legato.core import events as e
from legato.core.fold import merge

_SEQ = b'"seq":'
_DELTA = b'{"type":"block_delta",'


def seq_of(line: bytes) -> int:
    """The event's ``seq``: the last one's, where deltas were merged."""
    start = line.index(_SEQ) + len(_SEQ)
    end = line.find(b",", start)
    return int(line[start:end] if end >= 0 else line[start:-1])


def type_of(line: bytes) -> bytes:
    """The event's ``type``, as bytes."""
    return line[9 : line.index(b'"', 9)]


def split(body: bytes) -> list[bytes]:
    """The lines of a segment's body, each without its line break."""
    return body.splitlines()


def newer(lines: Sequence[bytes], cursor: int) -> Sequence[bytes]:
    """Those with seq > ``cursor``. Lines are in order, so a bisection finds the first."""
    low, high = 0, len(lines)
    while low < high:
        middle = (low + high) // 2
        if seq_of(lines[middle]) > cursor:
            high = middle
        else:
            low = middle + 1
    return lines[low:]


def squash_lines(lines: Iterable[bytes]) -> list[bytes]:
    """Merge neighbouring deltas of one block; every other line stays the bytes it is."""
    squashed: list[bytes] = []
    run: list[tuple[bytes, e.BlockDelta]] = []

    def flush() -> None:
        if len(run) == 1:
            squashed.append(run[0][0])
        elif run:
            squashed.append(e.encode(merge([delta for _, delta in run])))
        run.clear()

    for line in lines:
        if line.startswith(_DELTA):
            delta = e.decode(line)
            assert isinstance(delta, e.BlockDelta)
            if run and run[-1][1].index != delta.index:
                flush()
            run.append((line, delta))
        else:
            flush()
            squashed.append(line)
    flush()
    return squashed
