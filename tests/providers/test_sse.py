"""Frames are split on bytes, however the bytes come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.providers.sse import FrameTooLong, Splitter, data_of, event_of

BODY = b": hello\n\nevent: a\ndata: {}\n\ndata:1\ndata: 2\n\ndata: [DONE]\n\n"
FRAMES = [b": hello", b"event: a\ndata: {}", b"data:1\ndata: 2", b"data: [DONE]"]


@given(cuts=st.sets(st.integers(0, len(BODY))), line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_where_the_reads_end_changes_no_frame(cuts: set[int], line_end: bytes) -> None:
    body = BODY.replace(b"\n", line_end)
    splitter = Splitter()
    places = [0, *sorted(cuts), len(body)]
    frames = [frame for start, stop in pairwise(places) for frame in splitter.feed(body[start:stop])]
    frames += splitter.feed(b": next")  # a carriage return at the very end waits for what follows it
    assert [frame for frame in frames if frame] == FRAMES


@pytest.mark.parametrize(
    ("frame", "data", "event"),
    [
        (b'data: {"a": 1}', b'{"a": 1}', b""),
        (b'event: x\ndata: {"a": 1}', b'{"a": 1}', b"x"),
        (b"data:1\ndata: 2\ndata", b"1\n2\n", b""),
        (b": a comment, data: none", b"", b""),
        (b"id: 3\nevent: x\nretry: 5\ndata: y", b"y", b"x"),
        (b"\ndata: after an empty line", b"after an empty line", b""),
        (b"data:1\nevent: x\ndata: 2", b"1\n2", b"x"),
        (b"", b"", b""),
    ],
)
def test_the_data_and_the_event_of_a_frame(frame: bytes, data: bytes, event: bytes) -> None:
    assert data_of(frame) == data
    assert event_of(frame) == event


def test_a_frame_longer_than_64_kib_is_whole() -> None:
    frame = b"data: " + b"x" * 300_000
    splitter = Splitter()
    pieces = [(frame + b"\n\n")[at : at + 16_384] for at in range(0, len(frame) + 2, 16_384)]
    assert [one for piece in pieces for one in splitter.feed(piece)] == [frame]


def test_a_frame_past_the_bound_is_refused_with_the_number() -> None:
    splitter = Splitter(limit=100)
    for _ in range(10):
        splitter.feed(b"x" * 10)
    with pytest.raises(FrameTooLong, match="more than 100 bytes"):
        splitter.feed(b"x")


def test_what_has_no_empty_line_behind_it_is_no_frame() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: a\n\ndata: b\n") == [b"data: a"]
    assert splitter.rest() == b"data: b\n"
    assert splitter.rest() == b""


def test_a_byte_order_mark_is_no_part_of_the_first_frame() -> None:
    assert Splitter().feed(b"\xef\xbb\xbfdata: a\n\n") == [b"data: a"]
