"""A server under clients that drop, cancel and come back holds afterwards what it held before (hazard 29).

The lives of the clients and the look inside are those of ``python -m bench.memory``, which weighs ten thousand turns.
"""

from __future__ import annotations

import pytest
from bench.memory import Seen, bytes_a_turn, grown, measure

TURNS = 1_000
LIMIT = 1_024
"""Bytes of memory that a turn may leave behind."""
CACHES = 1024 * 1024
"""Bytes of caches that are bounded and still fill after the warm-up: strings of pydantic, statements of SQLite. Nothing
against ten thousand turns."""
BOUNDED = {
    # Threads for tools: as many as calls have met at once, and never more than their places.
    "_Worker",
    "Threads._idle",
    # What may be counted, however often it is.
    "Counters._counts",
    "Counters._gauges",
    "Counters._messages",
    "Counters._times",
    # Turns of the last look that ran elsewhere.
    "Leases._seen",
}
A_FEW = 16
"""By which these may grow meanwhile: what came with each turn, or with each id, would be hundreds."""


@pytest.fixture(scope="module")
def seen() -> list[Seen]:
    """After the warm-up, and at the end."""
    return measure(turns=TURNS, seed=29, looks=1)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_after_turns_with_drops_and_cancels_nothing_of_them_is_left(seen: list[Seen]) -> None:
    warm, end = seen
    assert end.turns >= TURNS
    more = {name: now - was for name, (was, now) in grown(warm.inside, end.inside).items()}
    assert {name: by for name, by in more.items() if by > (A_FEW if name in BOUNDED else 0)} == {}
    assert (end.inside.readers, end.inside.tasks) == (0, warm.inside.tasks)
    assert (end.inside.sockets, end.inside.files) == (warm.inside.sockets, warm.inside.files)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_after_turns_with_drops_and_cancels_memory_is_what_it_was(seen: list[Seen]) -> None:
    warm, end = seen
    turns = end.turns - warm.turns
    assert bytes_a_turn(warm, end) * turns < LIMIT * turns + CACHES
