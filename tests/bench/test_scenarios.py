"""The scenarios are docs/performance.md, and the upstream plays them at their times."""

from __future__ import annotations

import pytest
from bench.overlap import first_round, second_round
from bench.scenarios import SCENARIOS, SECOND_ROUND, Job, Scenario

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


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.id)
def test_the_longest_path_is_the_one_of_the_specification(scenario: Scenario) -> None:
    ideal, after = TABLE[scenario.id]
    assert scenario.ideal() == pytest.approx(ideal, abs=0.0051)
    assert scenario.after_the_stream() == pytest.approx(after, abs=0.0051)


def test_every_scenario_of_the_specification_is_there() -> None:
    assert [one.id for one in SCENARIOS] == list(TABLE)


def test_calls_with_effects_wait_for_the_end_and_for_each_other() -> None:
    two = Scenario("two", (Job(1.0, 0.1, "write"), Job(0.5, 0.1, "write")), text_after=0.2)
    assert two.ideal() == pytest.approx(0.6 + 0.2 + 0.2 + 1.5 + 0.4)


def seconds(acts: list[Act]) -> float:
    return sum(act.seconds for act in acts if isinstance(act, Pause))


@pytest.mark.parametrize("wire", [anthropic_wire, openai_wire])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.id)
def test_the_model_takes_its_time_on_both_wires(scenario: Scenario, wire: VendorWire) -> None:
    acts = list(wire.render(first_round(scenario), number=1, body={"model": "m"}))
    assert seconds(acts) == pytest.approx(scenario.stream_ends())
    assert seconds(list(wire.render(second_round(), number=2, body={"model": "m"}))) == pytest.approx(SECOND_ROUND)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.id)
def test_a_call_is_sealed_when_its_arguments_have_had_their_time(scenario: Scenario) -> None:
    now, sealed = 0.0, []
    for act in anthropic_wire.render(first_round(scenario), number=1, body={"model": "m"}):
        if isinstance(act, Pause):
            now += act.seconds
        elif isinstance(act, Frame) and b"content_block_stop" in act.data:
            sealed.append(now)
    assert sealed[1:-1] == pytest.approx(scenario.sealed())
