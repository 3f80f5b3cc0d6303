"""Each promise broken on purpose, to see that its check says so."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from legato.core import events as e
from legato.core.blocks import Json, Outcome
from legato.core.inputs import CancelMode
from legato.core.usage import UNKNOWN
from legato.testing.torture.checks import check_chat, check_heard, check_keys, check_turn, check_verified
from legato.testing.torture.plan import PlannedCall
from legato.testing.torture.readers import Reader, out_of_order
from legato.testing.torture.told import Decision, GivenCancel, Told, Window, World
from legato.testing.torture.tools import Deed, Effect

ENDED = e.TurnEnd(seq=99, status="complete", stop_reason="end", usage=UNKNOWN)
SEALED: Json = {"what": "w", "ms": 1}


def said(outcome: Outcome | None = "ok", *, tool: str = "change", ran: Json = None, what: str = "w") -> list[e.Event]:
    """A turn with one call of ``tool``, and its result unless ``outcome`` is None."""
    events: list[e.Event] = [
        e.TurnStart(seq=1, turn_id="turn", chat_id="chat", prev_turn_id="user", created_at="2026-11-24T12:00:00.000Z"),
        e.RoundStart(seq=2, round=1, attempt=1, model="m", provider="p"),
        e.BlockStart(seq=3, index=0, round=1, block_type="tool_use", call_id="call", tool_name=tool, origin="server"),
        e.BlockStop(seq=4, index=0, state="complete", input={"what": what, "ms": 1}),
        e.ToolStart(seq=5, call_id="call", tool_name=tool, index=0),
    ]
    if outcome is not None:
        events += [
            e.BlockStart(
                seq=6, index=1, round=1, block_type="tool_result", call_id="call", tool_name=tool, origin="server"
            ),
            e.BlockStop(seq=7, index=1, state="complete", outcome=outcome, output="done", ran_input=ran or UNSET),
        ]
    return ended(events)


def ended(events: Sequence[e.Event], status: e.TurnStatus = "complete") -> list[e.Event]:
    return [*events, msgspec.structs.replace(ENDED, seq=events[-1].seq + 1, status=status)]


def reader(events: Sequence[e.Event], *, each: bool = False) -> Reader:
    one = Reader("turn", each=each)
    for event in events:
        one.lines[event.seq] = e.encode(event)
        one.hear(event)
    return one


def told(*readers: Reader, rows: Json = None) -> Told:
    """As it is where all is well, but for ``rows``."""
    turn = readers[0].turn
    plain = {
        "blocks": turn.blocks,
        "rounds": turn.rounds,
        "status": turn.status,
        "stop_reason": turn.stop_reason,
        "last_seq": turn.last_seq,
        "ended_at": "2026-11-24T12:00:01.000Z",
    }
    kept = msgspec.json.decode(msgspec.json.encode(plain)) | (rows or {})
    return Told(step=3, turn_id="turn", readers=list(readers), rows=kept)


def line(
    deed: Deed, *, tool: str = "change", what: str = "w", key: str = "key", call: str = "call", at: float = 0.0
) -> Effect:
    return Effect(deed=deed, tool=tool, turn_id="turn", call_id=call, key=key, what=what, ms=1, at=at)


def cancel(*, mode: CancelMode = "now", at: float = 0.0, last_seq: int = 3, alone: bool = False) -> GivenCancel:
    """Asked a minute before it was answered."""
    return GivenCancel(mode=mode, status=202, stored=True, asked=at - 60, at=at, last_seq=last_seq, alone=alone)


ONCE = [line("begun"), line("effect")]
CANCELLED = ended(said("cancelled")[:-1], "cancelled")


def broken(one: Told, effects: Sequence[Effect] = ONCE, world: World | None = None) -> list[str]:
    return [found.promise for found in check_turn(one, effects, world or World())]


# P3, P4, P8, P9


def test_nothing_is_found_where_all_is_well() -> None:
    assert broken(told(reader(said()))) == []


def test_a_reader_who_was_told_otherwise_is_found() -> None:
    assert broken(told(reader(said()), reader(said(what="other")))) == ["P9"]


def test_rows_that_tell_otherwise_are_found() -> None:
    assert broken(told(reader(said()), rows={"stop_reason": "length"})) == ["P9"]


def test_a_view_that_tells_otherwise_than_the_events_up_to_it_is_found() -> None:
    then = reader(said()[:4]).turn
    view = msgspec.json.decode(msgspec.json.encode({"last_seq": 4, "blocks": then.blocks, "rounds": then.rounds}))
    one = told(reader(said(), each=True))
    one.readers[0].views = [view, {"last_seq": 5_000_000, "blocks": [], "rounds": []}]  # nothing of that was stored
    assert broken(one) == []
    one.readers[0].views = [{**view, "last_seq": 3}]
    assert broken(one) == ["P9"]


def test_a_turn_that_is_said_to_run_after_its_end_is_found() -> None:
    assert "hazard 14" in broken(told(reader(said()), rows={"status": "running"}))
    assert "hazard 14" in broken(told(reader(said()), rows={"ended_at": None}))
    one = told(reader(said()))
    one.readers[0].views = [{"last_seq": 3, "status": "running", "ended_at": None}]
    assert broken(one) == []
    one.readers[0].views = [{"last_seq": 8, "status": "running", "ended_at": None}]
    assert broken(one) == ["hazard 14"]


def test_a_chat_that_is_busy_for_ever_is_found() -> None:
    assert [found.promise for found in check_chat({"id": "chat", "active_turn_id": "turn"})] == ["hazard 14"]
    assert list(check_chat({"id": "chat", "active_turn_id": None})) == []


def test_a_turn_whose_end_nobody_has_seen_is_found() -> None:
    assert broken(told(reader(said()[:-1]))) == ["P8"]


def test_a_reader_who_has_not_seen_the_end_that_others_saw_is_found() -> None:
    assert broken(told(reader(said()), reader(said()[:-1]))) == ["P8"]


def test_a_turn_that_is_not_there_is_found() -> None:
    assert broken(Told(step=1, turn_id="turn", readers=[reader(said())])) == ["P4"]


def test_a_call_without_a_result_is_found() -> None:
    assert broken(told(reader(said(None))), []) == ["P3"]


def test_a_result_that_came_twice_is_found() -> None:
    events = said()
    again: list[e.Event] = [
        e.BlockStart(
            seq=8, index=2, round=1, block_type="tool_result", call_id="call", tool_name="change", origin="server"
        ),
        e.BlockStop(seq=9, index=2, state="complete", outcome="ok", output="done"),
    ]
    assert broken(told(reader(ended([*events[:-1], *again])))) == ["P3"]


def test_an_event_that_is_missing_twice_or_after_the_end_is_found() -> None:
    events = said()
    assert reader(events).wrong == []
    assert broken(told(reader(events), reader([*events[:1], *events[2:]]))) != []
    assert "P9" in broken(told(reader(events), reader([*events[:2], *events[1:]])))
    assert "P9" in broken(told(reader([*events, msgspec.structs.replace(ENDED, seq=9)])))


def test_the_next_owner_counts_from_its_own_first_with_a_rewind() -> None:
    assert out_of_order(17, e.Rewind(seq=1_000_001, to=12, blocks=())) is None
    assert out_of_order(17, e.Notice(seq=1_000_001, code="c", message="m")) is not None
    assert out_of_order(17, e.BlockDelta(seq=20, index=0, text="abc", first_seq=18)) is None
    assert out_of_order(17, e.BlockDelta(seq=20, index=0, text="abc")) is not None


def test_bytes_that_differ_from_those_of_the_next_reader_are_found() -> None:
    one = told(reader(said(), each=True))
    one.late = [reader(said(), each=True)]
    assert broken(one) == []
    one.late[0].lines[2] += b" "
    assert broken(one) == ["P9"]


def test_bytes_that_a_reader_heard_and_that_are_not_kept_are_found_unless_they_were_taken_back() -> None:
    begun = said()[:1]
    lost = e.Notice(seq=2, code="c", message="m")
    back: list[e.Event] = [
        e.Rewind(seq=1_000_001, to=1, blocks=()),
        msgspec.structs.replace(ENDED, seq=1_000_002),
    ]
    live, late = reader([*begun, lost, *back], each=True), reader([*begun, *back], each=True)
    one = told(live)
    one.late = [late]
    assert broken(one, []) == []
    live.rewinds.clear()
    assert broken(one, []) == ["P9"]


# P2, P7


def test_a_tool_that_ran_on_other_arguments_is_found() -> None:
    assert "P2" in broken(told(reader(said())), [line("begun", what="else"), line("effect")])


def test_a_tool_that_ran_for_no_call_is_found_but_for_a_read_whose_response_was_lost() -> None:
    assert "P2" in broken(told(reader(said())), [*ONCE, line("begun", call="other")])
    assert broken(told(reader(said())), [*ONCE, line("begun", tool="look", call="other")]) == []


def test_a_read_that_ran_on_what_the_model_never_said_is_found() -> None:
    world = World(planned={"w": PlannedCall("change", "w", 1), "l": PlannedCall("look", "l", 1)})
    assert broken(told(reader(said())), [*ONCE, line("begun", tool="look", call="other", what="l")], world) == []
    assert broken(told(reader(said())), [*ONCE, line("begun", tool="look", call="other", what="x")], world) == ["P2"]


def test_a_tool_that_ran_though_it_was_denied_is_found() -> None:
    one = told(reader(said("denied")))
    one.decisions = {"call": [Decision(decision="deny", taken=True)]}
    assert {"P2", "P7"} <= set(broken(one))


def test_a_tool_that_ran_unasked_is_found() -> None:
    tool = "change_if_allowed"
    one, effects = told(reader(said(tool=tool))), [line("begun", tool=tool), line("effect", tool=tool)]
    assert broken(one, effects) == ["P2"]
    one.decisions = {"call": [Decision(decision="approve")]}
    assert broken(one, effects) == []


def test_a_tool_that_ran_on_the_models_arguments_though_a_person_put_others_in_their_place_is_found() -> None:
    edited: Json = {"what": "edited", "ms": 1}
    one = told(reader(said(ran=edited)))
    one.decisions = {"call": [Decision(decision="approve", input=edited, taken=True)]}
    assert broken(one, [line("begun", what="edited"), line("effect", what="edited")]) == []
    assert set(broken(one)) == {"P2"}


def test_a_result_that_does_not_say_what_ran_is_found() -> None:
    one = told(reader(said()))
    one.decisions = {"call": [Decision(decision="approve", input={"what": "edited", "ms": 1}, taken=True)]}
    assert broken(one, [line("begun", what="edited"), line("effect", what="edited")]) == ["P2"]
    assert broken(told(reader(said(ran={"what": "made up", "ms": 1})))) == ["P2"]


def test_a_write_that_was_cancelled_before_it_was_started_and_ran_is_found() -> None:
    events = [event for event in said("cancelled")[:-1] if not isinstance(event, e.ToolStart)]
    unstarted = [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(events, 1)]
    assert broken(told(reader(ended(unstarted, "cancelled"))), [line("begun")]) == ["P2"]
    assert broken(told(reader(ended(unstarted, "cancelled"))), []) == []
    assert broken(told(reader(CANCELLED)), [line("begun")]) == []
    asked = [event for event in said("error")[:-1] if not isinstance(event, e.ToolStart)]
    reconciled = [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(asked, 1)]
    assert broken(told(reader(ended(reconciled))), [line("begun")]) == []  # the outside says that it was not done


def test_a_write_that_took_effect_twice_is_found() -> None:
    assert "P7" in broken(told(reader(said("unknown"))), [*ONCE, *ONCE])
    assert [found.promise for found in check_keys([*ONCE, *ONCE])] == ["P7"]


def test_a_call_that_ran_under_two_keys_is_found() -> None:
    put = [line("begun", tool="put"), line("begun", tool="put", key="other"), line("effect", tool="put")]
    assert broken(told(reader(said(tool="put"))), put) == ["P7"]


def test_a_result_that_says_what_did_not_happen_is_found() -> None:
    assert broken(told(reader(said())), [line("begun")]) == ["P7"]
    assert broken(told(reader(said("error")))) == ["P7"]


def test_a_write_that_may_have_taken_effect_is_unknown_and_that_is_no_lie() -> None:
    assert broken(told(reader(said("unknown"))), [line("begun")]) == []


# P11 and its kin


def test_a_turn_that_goes_on_after_its_cancel_is_found() -> None:
    one = told(reader(said()))
    now = one.ended or 0.0
    one.cancels = [cancel(at=now, last_seq=7, alone=True)]
    assert broken(one) == []  # it had ended, and its end was about to be said
    one.cancels = [cancel(at=now, last_seq=5, alone=True)]
    assert broken(one) == ["P11"]
    one.cancels = [cancel(at=now - 10, mode="after_round")]
    assert broken(one) == ["P11"]
    cancelled = told(reader(CANCELLED))
    cancelled.cancels = [cancel(at=now - 10, mode="after_round")]
    assert broken(cancelled) == []


def test_a_turn_that_ends_long_after_its_cancel_is_found_but_for_the_time_of_faults() -> None:
    one = told(reader(CANCELLED))
    now = one.ended or 0.0
    one.cancels = [cancel(at=now - 50, mode="after_block")]
    assert broken(one) == ["P11"]
    assert broken(one, world=World(windows=[Window("freeze", now - 45, now - 5)])) == []


def test_a_tool_that_started_after_a_cancel_is_found() -> None:
    one = told(reader(CANCELLED))
    now = one.ended or 0.0
    one.cancels = [cancel(at=now, last_seq=4, alone=True)]
    assert broken(one) == ["P11"]
    one.cancels = [msgspec.structs.replace(cancel(at=now, last_seq=4, alone=True), asked=now)]
    assert broken(one) == []  # it had begun before, in a server whose last words were not stored
    one.cancels = [cancel(at=now, last_seq=5, alone=True)]
    assert broken(one) == []
    assert broken(one, [line("begun", at=now + 10), line("effect")]) == ["P11"]


def test_a_turn_that_was_cancelled_before_it_was_posted_and_ran_is_found() -> None:
    one = told(reader(said()))
    one.unwanted = True
    assert broken(one) == ["P11", "P11"]
    one = told(reader(ended(said()[:1], "cancelled")))
    one.unwanted = True
    assert broken(one, []) == []


def test_a_steer_that_is_lost_or_delivered_twice_is_found() -> None:
    def steered(*states: str) -> Told:
        events = said()[:-1]
        for state in states:
            events.append(
                msgspec.convert(
                    {"type": "steer", "seq": events[-1].seq + 1, "steer_id": "s", "text": "t", "state": state}, e.Steer
                )
            )
        one = told(reader(ended(events)))
        one.steers = {"s": None}
        return one

    assert broken(steered("accepted", "delivered")) == []
    assert broken(steered("accepted", "returned")) == []
    assert broken(steered("accepted")) == ["steers"]
    assert broken(steered("accepted", "delivered", "delivered")) == ["steers"]
    lost = steered()
    assert broken(lost) == ["steers"]
    lost.steers = {"s": "returned"}  # its owner ended before it looked, so no event says so
    assert broken(lost) == []
    otherwise = steered("accepted", "delivered")
    otherwise.steers = {"s": "returned"}
    assert broken(otherwise) == ["steers"]


def test_a_queued_turn_that_is_complete_and_was_never_asked_is_found() -> None:
    one = told(reader(said()))
    assert list(check_heard(one, one.turn, "turn 5", {"turn 5"})) == []
    assert [found.promise for found in check_heard(one, one.turn, "turn 5", set())] == ["steers"]


def test_an_answer_that_should_have_been_another_is_found() -> None:
    one = told(reader(said()))
    one.misheard = ["a second answer (other) was answered 202"]
    assert broken(one) == ["answers"]


def test_what_verify_has_found_is_a_broken_promise() -> None:
    found = {"chat_id": None, "turn_id": "turn", "place": "block 3", "promise": "P5", "message": "differs"}
    summary = {"type": "summary", "turns": 1, "events": 1, "chats": 1, "findings": 1}
    printed = b"\n".join(msgspec.json.encode(one) for one in (found, summary))
    assert [one.found for one in check_verified(printed)] == ["P5 at block 3: differs"]
