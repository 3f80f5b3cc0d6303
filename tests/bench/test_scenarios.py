"""The scenarios are docs/performance.md, and the upstream plays them at their times."""

from __future__ import annotations

import pytest
from bench.overlap import first_round, second_round
from bench.scenarios import FURTHER, SCENARIOS, SECOND_ROUND, Job, Scenario, reads, writes

from legato.testing import anthropic_wire, openai_wire
from legato.testing.timeline import Act, Frame, Pause
from legato.testing.upstream import VendorWire

# docs/performance.md: the ideal turn, and the turn whose tools start together after the stream.
TABLE = {
    "S1": (2.40, 2.45),
    "S2": (3.40, 4.90),
    "S3": (3.60, 3.65),
    "S4": (4.50, 7.05),
    "S5": (7.00, 7.05),
    "S6": (4.55, 5.75),
    "S7": (4.80, 6.05),
    "S8": (3.05, 3.06),
    "S9": (4.05, 6.40),
}
TABLE_FURTHER = {
    "C1": (2.70, 3.15),
    "C2": (4.50, 7.05),
    "L1": (3.85, 3.85),
    "L2": (2.85, 2.85),
    "A1": (4.40, 6.40),
    "A2": (4.40, 7.40),
    "A3": (3.90, 3.95),
    "J3": (3.60, 3.65),
    "J7": (4.80, 6.05),
    "B1": (2.90, 3.90),
    "page of 100": (3.30, 5.15),
}
EVERY = (*SCENARIOS, *FURTHER)


@pytest.mark.parametrize("scenario", EVERY, ids=lambda one: one.id)
def test_the_longest_path_is_the_one_of_the_specification(scenario: Scenario) -> None:
    ideal, after = (TABLE | TABLE_FURTHER)[scenario.id]
    assert scenario.ideal() == pytest.approx(ideal, abs=0.0051)
    assert scenario.after_the_stream() == pytest.approx(after, abs=0.0051)


def test_every_scenario_of_the_specification_is_there() -> None:
    assert [one.id for one in SCENARIOS] == list(TABLE)
    assert [one.id for one in FURTHER] == list(TABLE_FURTHER)


def test_calls_with_effects_wait_for_the_end_and_for_each_other() -> None:
    two = Scenario("two", (Job(1.0, 0.1, "write"), Job(0.5, 0.1, "write")), text_after=0.2)
    assert two.ideal() == pytest.approx(0.6 + 0.2 + 0.2 + 1.5 + 0.4)


def test_calls_that_wait_for_a_place_start_in_call_order() -> None:
    """The third has the first's place, the fourth the second's; a call that may not start yet holds none."""
    three = Scenario("places", reads(1.0, 0.5, 0.5, 0.1, args=0.1), places=2)
    assert three.ends(three.may_start()) == pytest.approx([1.7, 1.3, 1.8, 1.8])
    held = Scenario("held", (Job(1.0, 0.1, "write"), *reads(1.0, 1.0, args=0.1)), places=2)
    assert held.ends(held.may_start()) == pytest.approx([2.8, 1.8, 1.9])


def test_lanes_run_side_by_side_and_a_read_that_names_one_waits_in_it() -> None:
    lanes = Scenario("lanes", (*writes("a", "b", "a", takes=0.5, args=0.1), Job(0.1, 0.1, lane="b")), text_after=0.0)
    assert lanes.ends(lanes.may_start()) == pytest.approx([1.5, 1.5, 2.0, 1.6])


def test_a_person_is_asked_at_the_seal_and_thinks_while_the_model_talks() -> None:
    asked = Scenario("asked", (Job(1.0, 0.4, person=2.0), Job(1.0, 0.4, "write", person=0.5)), text_after=1.0)
    assert asked.may_start() == pytest.approx([3.0, 2.4])


def test_jitter_moves_the_deltas_and_not_the_seal() -> None:
    still, jittered = Scenario("one", reads(1.0, args=0.4)), Scenario("one", reads(1.0, args=0.4), jitter=0.5)
    assert still.gaps(0, 10, 0.4) is None
    gaps = jittered.gaps(0, 10, 0.4)
    assert gaps == jittered.gaps(0, 10, 0.4)
    assert gaps is not None
    assert sum(gaps) == pytest.approx(0.4)
    assert max(gaps) / min(gaps) > 1.2
    assert max(gaps) / min(gaps) <= 3


def seconds(acts: list[Act]) -> float:
    return sum(act.seconds for act in acts if isinstance(act, Pause))


@pytest.mark.parametrize("wire", [anthropic_wire, openai_wire])
@pytest.mark.parametrize("scenario", EVERY, ids=lambda one: one.id)
def test_the_model_takes_its_time_on_both_wires(scenario: Scenario, wire: VendorWire) -> None:
    acts = list(wire.render(first_round(scenario), number=1, body={"model": "m"}))
    assert seconds(acts) == pytest.approx(scenario.stream_ends())
    assert seconds(list(wire.render(second_round(), number=2, body={"model": "m"}))) == pytest.approx(SECOND_ROUND)


@pytest.mark.parametrize("scenario", EVERY, ids=lambda one: one.id)
def test_a_call_is_sealed_when_its_arguments_have_had_their_time(scenario: Scenario) -> None:
    now, sealed = 0.0, []
    for act in anthropic_wire.render(first_round(scenario), number=1, body={"model": "m"}):
        if isinstance(act, Pause):
            now += act.seconds
        elif isinstance(act, Frame) and b"content_block_stop" in act.data:
            sealed.append(now)
    assert sealed[1:-1] == pytest.approx(scenario.sealed())
