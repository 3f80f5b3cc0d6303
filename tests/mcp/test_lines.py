"""Lines out of bytes: whole whatever the pieces, bounded whatever the length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from legato.tools.mcp.lines import HEAD, TAIL, Lines, TooLong

PIECES = st.lists(st.binary(max_size=40).map(lambda piece: piece.replace(b"x", b"\n")), max_size=30)


@given(PIECES)
def test_lines_are_the_same_however_they_come(pieces: list[bytes]) -> None:
    lines = Lines(limit=10_000)
    found = [line for piece in pieces for line in lines.feed(piece)]
    assert found == b"".join(pieces).split(b"\n")[:-1]


@given(PIECES, st.integers(1, 30))
def test_a_line_over_the_limit_is_told_twice_with_its_ends_and_no_other_is_lost(
    pieces: list[bytes], limit: int
) -> None:
    lines = Lines(limit=limit)
    found = [line for piece in pieces for line in lines.feed(piece)]
    ended = [line for line in found if not isinstance(line, TooLong) or line.whole]
    for line, whole in zip(ended, b"".join(pieces).split(b"\n")[:-1], strict=True):
        if len(whole) <= limit:
            assert line == whole
        else:
            assert line == TooLong(whole[:HEAD], whole[-TAIL:], len(whole), whole=True)
    begun = [line for line in found if isinstance(line, TooLong) and not line.whole]
    assert all(line.size > limit and not line.tail for line in begun)
    assert len(begun) >= sum(isinstance(line, TooLong) for line in ended)


def test_of_a_line_without_end_nothing_is_kept_but_its_ends() -> None:
    lines = Lines(limit=100)
    told = [line for _ in range(1_000) for line in lines.feed(b"y" * 1_000)]
    assert len(told) == 1
    assert sum(map(len, lines._pieces)) == 0
    assert len(lines._head) + len(lines._tail) <= HEAD + TAIL
