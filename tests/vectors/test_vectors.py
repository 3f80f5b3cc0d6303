"""Python keeps to the vectors that hold every other language's fold, and they are those that `make` would write."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.vectors.make import made
from tests.vectors.vector import HERE, FoldedTurn, Vector, folded

from legato.core import events as e
from legato.core.fold import Turn, fold, squash
from legato.core.lines import newer, squash_lines
from legato.core.text import measure

FILES = sorted(HERE.glob("*.json"))


def read(path: Path) -> Vector:
    return msgspec.json.decode(path.read_bytes(), type=Vector)


def events_of(lines: tuple[msgspec.Raw, ...]) -> list[e.Event]:
    return [e.decode(bytes(line)) for line in lines]


@pytest.fixture(params=FILES, ids=[path.stem for path in FILES])
def vector(request: pytest.FixtureRequest) -> Vector:
    path = request.param
    assert isinstance(path, Path)
    return read(path)


def test_the_events_fold_into_the_turn(vector: Vector) -> None:
    assert folded(fold(events_of(vector.events))) == vector.turn


def test_the_merged_events_fold_into_the_same_turn(vector: Vector) -> None:
    assert folded(fold(events_of(vector.squashed))) == vector.turn


def test_the_events_merge_into_the_merged_ones_byte_for_byte(vector: Vector) -> None:
    assert [e.encode(event) for event in squash(events_of(vector.events))] == [bytes(line) for line in vector.squashed]
    assert squash_lines(bytes(line) for line in vector.events) == [bytes(line) for line in vector.squashed]


def test_the_turn_is_the_same_wherever_the_reader_was_cut(vector: Vector) -> None:
    lines = [bytes(line) for line in vector.events]
    if [e.decode(line).seq for line in lines] != sorted({e.decode(line).seq for line in lines}):
        return  # a reader's view with repeats in it, which no server has stored
    for stop in range(len(lines) + 1):
        turn = Turn()
        for line in squash_lines(lines[:stop]):
            turn.apply(e.decode(line))
        for line in squash_lines(newer(lines, turn.last_seq)):
            turn.apply(e.decode(line))
        assert folded(turn) == vector.turn


def test_a_closed_block_has_the_length_and_the_hash_of_its_text(vector: Vector) -> None:
    for block in vector.turn.blocks:
        if block.state != "open" and isinstance(block.length, int):
            assert (block.length, block.sha256) == measure(block.text)


def test_the_files_are_those_that_make_would_write() -> None:
    """Else run ``python -m tests.vectors.make`` and read the diff."""
    assert {path.name: path.read_bytes() for path in FILES} == made()


def test_together_the_vectors_hold_every_kind_of_event_and_of_block() -> None:
    vectors = [read(path) for path in FILES]
    events = {type(event) for vector in vectors for event in events_of(vector.events)}
    assert events == set(e.Event.__args__)
    kinds = {type(block).__name__ for vector in vectors for block in vector.turn.blocks}
    assert len(kinds) == 7
    rewinds = [event for vector in vectors for event in events_of(vector.events) if isinstance(event, e.Rewind)]
    states = {each.state for rewind in rewinds for each in rewind.blocks}
    assert states == {"open", "complete", "partial"}


def test_the_turn_of_a_vector_is_read_back_as_it_was_written(vector: Vector) -> None:
    assert msgspec.json.decode(msgspec.json.encode(vector.turn), type=FoldedTurn) == vector.turn
