"""What a torture says of itself: what it met under which fault, and how to have it again."""

from __future__ import annotations

from legato.testing.torture.checks import Broken
from legato.testing.torture.readers import Gap, Reader
from legato.testing.torture.report import NO_FAULT, SEVERAL, Report, Toll, lines, tolls
from legato.testing.torture.told import Told, Window, World


def quiet(turn_id: str, *gaps: Gap) -> Told:
    """Of a turn with one reader, from second 10 to 20."""
    reader = Reader(turn_id)
    reader.gaps = list(gaps)
    reader.ended = 20
    return Told(step=1, turn_id=turn_id, posted=10, readers=[reader])


def test_a_silence_counts_for_the_one_fault_that_touches_it_of_its_turn_or_of_all() -> None:
    windows = [Window("kill", 11, 12), Window("cut", 14, 17, "a"), Window("lock", 25, 26)]
    told = [quiet("a", Gap(10, 13), Gap(15, 16)), quiet("b", Gap(11.5, 13.5), Gap(15, 18))]
    found = {fault: toll.longest for fault, toll in tolls(windows, told, []).items()}
    assert found == {"kill": 3, "cut": 1, "lock": 0, NO_FAULT: 3}


def test_a_silence_that_several_faults_touch_counts_for_the_first_one_until_the_second_comes() -> None:
    windows = [Window("lock", 13, 19), Window("kill", 11, 12)]
    found = tolls(windows, [quiet("a", Gap(11.5, 19))], [])
    assert (found["kill"].longest, found["lock"].longest, found[SEVERAL].longest) == (1.5, 0, 7.5)


def test_a_silence_that_began_with_several_faults_counts_for_none_of_them() -> None:
    windows = [Window("kill", 11, 12), Window("lock", 11, 13)]
    found = tolls(windows, [quiet("a", Gap(11.5, 19))], [])
    assert (found["kill"].longest, found["lock"].longest, found[SEVERAL].longest) == (0, 0, 7.5)


def test_what_is_lost_counts_for_the_fault_that_was_there_while_its_turn_was() -> None:
    windows = [Window("kill", 11, 12), Window("kill", 50, 51), Window("full", 19, 22), Window("full", 60, 61)]
    broken = [
        Broken(promise=promise, step=1, turn_id=turn_id, found="")
        for promise, turn_id in (("P4", "a"), ("P9", "a"), ("P7", "a"), ("P7", "a"), ("P8", "nobody's"))
    ]
    early = quiet("a")
    early.readers[0].ended = 15
    found = tolls(windows, [early], broken)
    assert found["kill"] == Toll(times=2, turns_lost=1, events_lost=1, effects_doubled=2)
    assert found["full"] == Toll(times=2)
    assert found[NO_FAULT].turns_lost == 1


def test_calm_is_the_time_in_which_no_fault_was_there() -> None:
    world = World(windows=[Window("a", 1, 3), Window("b", 2, 4), Window("c", 9, 20)])
    assert [world.calm(*span) for span in ((0, 10), (2, 3), (5, 8), (8, 5))] == [6, 0, 3, 0]


def test_a_report_says_the_seed_the_step_and_how_to_have_it_again() -> None:
    one = Broken(promise="P7", step=31, turn_id="turn", found="key k took effect 2 times")
    text = "\n".join(lines(Report(seed=7, turns=20, steps=40, broken=[one], tolls={"kill": Toll(times=3)})))
    assert "seed 7, step 31, turn turn: P7: key k took effect 2 times" in text
    assert "legato torture --turns 20 --seed 7" in text
