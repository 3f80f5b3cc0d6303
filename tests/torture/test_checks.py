"""Each promise broken on purpose, to see that its check says so."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from legato.core import events as e
from legato.core.blocks import Json, Outcome
from legato.core.usage import UNKNOWN
from legato.testing.torture.checks import Broken, Told, check_keys, check_turn, check_verified
from legato.testing.torture.readers import Gap, Reader, out_of_order
from legato.testing.torture.report import Report, Window, lines, longest
from legato.testing.torture.tools import Deed, Effect

ENDED = e.TurnEnd(seq=99, status="complete", stop_reason="end", usage=UNKNOWN)


def said(outcome: Outcome | None = "ok", *, what: str = "w") -> list[e.Event]:
    """A turn with one call of ``change``, and its result unless ``outcome`` is None."""
    events: list[e.Event] = [
        e.TurnStart(seq=1, turn_id="turn", chat_id="chat", prev_turn_id="user", created_at="2026-11-24T12:00:00.000Z"),
        e.RoundStart(seq=2, round=1, attempt=1, model="m", provider="p"),
        e.BlockStart(
            seq=3, index=0, round=1, block_type="tool_use", call_id="call", tool_name="change", origin="server"
        ),
        e.BlockStop(seq=4, index=0, state="complete", input={"what": what, "ms": 1}),
    ]
    if outcome is not None:
        events += [
            e.BlockStart(
                seq=5, index=1, round=1, block_type="tool_result", call_id="call", tool_name="change", origin="server"
            ),
            e.BlockStop(seq=6, index=1, state="complete", outcome=outcome, output="done"),
        ]
    return [*events, msgspec.structs.replace(ENDED, seq=len(events) + 1)]


def reader(events: Sequence[e.Event]) -> Reader:
    one = Reader("turn")
    for event in events:
        one.hear(event)
    return one


def told(*readers: Reader, rows: Json = None) -> Told:
    turn = readers[0].turn
    plain = {
        "blocks": turn.blocks,
        "rounds": turn.rounds,
        "status": turn.status,
        "stop_reason": turn.stop_reason,
        "last_seq": turn.last_seq,
    }
    kept = msgspec.json.decode(msgspec.json.encode(plain)) | (rows or {})
    return Told(step=3, turn_id="turn", readers=list(readers), rows=kept)


def line(deed: Deed, *, what: str = "w", key: str = "key") -> Effect:
    return Effect(deed=deed, tool="change", turn_id="turn", call_id="call", key=key, what=what, ms=1)


ONCE = [line("begun"), line("effect")]


def broken(one: Told, effects: Sequence[Effect] = ONCE) -> list[str]:
    return [found.promise for found in check_turn(one, effects)]


def test_nothing_is_found_where_all_is_well() -> None:
    assert broken(told(reader(said()))) == []


def test_a_reader_who_was_told_otherwise_is_found() -> None:
    assert broken(told(reader(said()), reader(said(what="other")))) == ["P9"]


def test_rows_that_tell_otherwise_are_found() -> None:
    assert broken(told(reader(said()), rows={"status": "running"})) == ["P9"]


def test_a_turn_whose_end_nobody_has_seen_is_found() -> None:
    assert broken(told(reader(said()[:-1]))) == ["P8"]


def test_a_turn_that_is_not_there_is_found() -> None:
    assert broken(Told(step=1, turn_id="turn", readers=[reader(said())])) == ["P4"]


def test_a_call_without_a_result_is_found() -> None:
    assert broken(told(reader(said(None))), []) == ["P3"]


def test_a_tool_that_ran_on_other_arguments_is_found() -> None:
    assert "P2" in broken(told(reader(said())), [line("begun", what="else"), line("effect")])


def test_a_tool_that_ran_though_it_was_denied_is_found() -> None:
    one = told(reader(said("denied")))
    one.denied = {"call"}
    assert {"P2", "P7"} <= set(broken(one))


def test_a_write_that_took_effect_twice_is_found() -> None:
    assert "P7" in broken(told(reader(said("unknown"))), [*ONCE, *ONCE])
    assert [found.promise for found in check_keys([*ONCE, *ONCE])] == ["P7"]


def test_a_result_that_says_what_did_not_happen_is_found() -> None:
    assert broken(told(reader(said())), [line("begun")]) == ["P7"]
    assert broken(told(reader(said("error")))) == ["P7"]


def test_a_write_that_may_have_taken_effect_is_unknown_and_that_is_no_lie() -> None:
    assert broken(told(reader(said("unknown"))), [line("begun")]) == []


def test_an_event_that_is_missing_twice_or_after_the_end_is_found() -> None:
    events = said()
    assert reader(events).wrong == []
    assert reader(events[1:]).wrong != []
    assert reader([*events[:2], *events[1:]]).wrong != []
    assert reader([*events, msgspec.structs.replace(ENDED, seq=8)]).wrong != []


def test_the_next_owner_counts_from_its_own_first_with_a_rewind() -> None:
    assert out_of_order(17, e.Rewind(seq=1_000_001, to=12, blocks=())) is None
    assert out_of_order(17, e.Notice(seq=1_000_001, code="c", message="m")) is not None
    assert out_of_order(17, e.BlockDelta(seq=20, index=0, text="abc", first_seq=18)) is None
    assert out_of_order(17, e.BlockDelta(seq=20, index=0, text="abc")) is not None


def test_what_verify_has_found_is_a_broken_promise() -> None:
    found = {"chat_id": None, "turn_id": "turn", "place": "block 3", "promise": "P5", "message": "differs"}
    summary = {"type": "summary", "turns": 1, "events": 1, "chats": 1, "findings": 1}
    printed = b"\n".join(msgspec.json.encode(one) for one in (found, summary))
    assert [one.found for one in check_verified(printed)] == ["P5 at block 3: differs"]


def test_the_longest_silence_of_a_fault_is_of_the_readers_it_was_for() -> None:
    gaps = {"a": [Gap(0, 1), Gap(10, 14)], "b": [Gap(10, 19)]}
    windows = [Window("kill", 11, 12), Window("cut", 11, 12, "a"), Window("lock", 5, 6)]
    assert longest(windows, gaps) == {"kill": 9, "cut": 4, "lock": 0}


def test_a_report_says_the_seed_the_step_and_how_to_have_it_again() -> None:
    one = Broken(promise="P7", step=31, turn_id="turn", found="key k took effect 2 times")
    text = "\n".join(lines(Report(seed=7, turns=20, steps=40, broken=[one])))
    assert "seed 7, step 31, turn turn: P7: key k took effect 2 times" in text
    assert "legato torture --turns 20 --seed 7" in text
