"""The parser of Server-Sent Events: by the letter, in whatever pieces the bytes come."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from legato.cli.sse import Message, SseParser

STREAM = (
    "\ufeff: a comment\n"
    "retry: 1500\n"
    "\n"
    "id: 1\n"
    "event: block_delta\n"
    'data: {"text":"ä 漢"}\n'
    "\n"
    "event: nothing\r\n"
    "\r\n"
    "data:no space\r"
    "data: two\r"
    "unknown: field\r"
    "id\r"
    "\r"
    "id: 3\n"
    "data\n"
    "\n"
    "data: never ended\n"
).encode()
MESSAGES = [
    Message("1", "block_delta", '{"text":"ä 漢"}'.encode()),
    Message("", "message", b"no space\ntwo"),
    Message("3", "message", b""),
]


def test_a_stream_is_read_by_the_letter() -> None:
    parser = SseParser()
    assert parser.feed(STREAM) == MESSAGES
    assert parser.retry_ms == 1500


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_the_pieces_the_bytes_come_in_change_nothing(cuts: list[int]) -> None:
    at = [0, *sorted(cuts), len(STREAM)]
    parser = SseParser()
    read = [message for start, end in pairwise(at) for message in parser.feed(STREAM[start:end])]
    assert read == MESSAGES


def test_a_line_of_megabytes_is_read_without_being_read_again_for_each_piece() -> None:
    parser = SseParser()
    data = b"x" * 8_000_000
    piece = 65536
    stream = b"data: " + data + b"\n\n"
    read = [one for start in range(0, len(stream), piece) for one in parser.feed(stream[start : start + piece])]
    assert [len(one.data) for one in read] == [len(data)]
