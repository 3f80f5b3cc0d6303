"""What is said of a stored line without parsing it is what parsing it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.drive import drive, machine_for
from tests.core.turns import Life, lives

from legato.core import events as e
from legato.core.lines import newer, seq_of, split, squash_lines, type_of
from legato.core.usage import UNKNOWN


@given(lives())
def test_the_type_and_the_number_of_a_line_are_read_by_slicing(life: Life) -> None:
    for event in drive(machine_for(life), life).events:
        line = e.encode(event)
        assert seq_of(line) == event.seq
        assert b'"type":"' + type_of(line) + b'"' in line
        assert b"\n" not in line


@pytest.mark.parametrize(
    "event",
    [
        e.TurnWaiting(seq=12),
        e.BlockDelta(seq=9, index=1, text='"seq":77,\n\r\x85\u2028}', first_seq=3),
        e.Notice(seq=9_007_199_254_740_991, code="seq", message='{"type":"block_delta","seq":1}'),
        e.TurnEnd(seq=5, status="complete", stop_reason="end", usage=UNKNOWN),
        e.Rewind(seq=1_000_001, to=7, blocks=(e.Standing(0, "open", 1),)),
    ],
)
def test_no_text_inside_a_line_is_taken_for_its_number_or_its_end(event: e.Event) -> None:
    line = e.encode(event)
    assert (seq_of(line), e.decode(line)) == (event.seq, event)
    assert split(line + b"\n" + line + b"\n") == [line, line]


@given(st.lists(st.integers(1, 50), unique=True), st.integers(0, 60))
def test_the_lines_after_a_cursor_are_found_also_over_holes(seqs: list[int], cursor: int) -> None:
    lines = [e.encode(e.TurnWaiting(seq=seq)) for seq in sorted(seqs)]
    assert list(newer(lines, cursor)) == [line for line in lines if seq_of(line) > cursor]


def test_a_delta_that_stands_alone_stays_the_bytes_it_is() -> None:
    odd = b'{"type":"block_delta","seq":3,"index":0,"text":"\\u0041"}'  # as another encoder might have said it
    other = b'{"type":"turn_waiting","seq":4}'
    assert squash_lines([odd, other, odd]) == [odd, other, odd]
    assert squash_lines([odd, odd]) == [b'{"type":"block_delta","seq":3,"index":0,"text":"AA","first_seq":3}']


def test_no_lines_are_none() -> None:
    assert (split(b""), list(newer([], 0)), squash_lines([])) == ([], [], [])
