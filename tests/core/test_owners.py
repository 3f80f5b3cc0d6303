"""Whatever owners come and go, whoever answers and when, these hold (docs/guarantees.md, P2, P3, P7 to P9)."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tests.core.drive import row, user_turn
from tests.core.pairing import violations
from tests.core.relay import Relay
from tests.core.test_lives import picture
from tests.core.turns import PATIENT_TOOLS, Life, lives

from legato.core import events as e
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn, fold
from legato.core.messages import messages, unread
from legato.core.records import Reading, StoredTurn

_crashes = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=3).map(sorted)
_cancels = st.sampled_from([None, None, None, 0, 5, 17])


def relay(life: Life, crashes: list[tuple[int, int]], cancel_at: int | None = None) -> Relay:
    run = Relay(life, list(crashes), cancel_at)
    run.run()
    return run


@given(lives(patient=True, disturbed=False), _crashes, _cancels)
def test_a_turn_ends_whoever_dies_and_every_call_that_stands_has_one_result(
    life: Life, crashes: list[tuple[int, int]], cancel_at: int | None
) -> None:
    turn = relay(life, crashes, cancel_at).machine.turn
    calls = [
        block.call_id
        for block in turn.blocks
        if isinstance(block, ToolUseBlock) and block.origin != "provider" and block.state == "complete"
    ]
    results = [
        block.call_id for block in turn.blocks if isinstance(block, ToolResultBlock) and block.origin != "provider"
    ]
    assert sorted(calls) == sorted(results)
    assert not turn.open
    assert not turn.waiting


@given(lives(patient=True, disturbed=False), _crashes, _cancels)
def test_what_a_reader_saw_and_what_is_stored_fold_to_the_same_turn(
    life: Life, crashes: list[tuple[int, int]], cancel_at: int | None
) -> None:
    run = relay(life, crashes, cancel_at)
    assert picture(fold(run.seen)) == picture(fold(run.stored)) == picture(run.machine.turn)


@given(lives(patient=True, disturbed=False), _crashes)
def test_each_owner_counts_from_its_epoch_and_begins_with_a_rewind(life: Life, crashes: list[tuple[int, int]]) -> None:
    run = relay(life, crashes)
    owners: dict[int, list[e.Event]] = {}
    for event in run.seen:
        owners.setdefault((event.seq - 1) // e.EPOCH_SIZE, []).append(event)
    assert sorted(owners) == list(range(run.epoch + 1))
    for epoch, events in owners.items():
        assert [event.seq for event in events] == [epoch * e.EPOCH_SIZE + n for n in range(1, len(events) + 1)]
        assert isinstance(events[0], e.Rewind if epoch else e.TurnStart)


@given(lives(patient=True, disturbed=False), _crashes, _cancels)
def test_a_write_runs_at_most_once_and_an_idempotent_call_always_with_one_key(
    life: Life, crashes: list[tuple[int, int]], cancel_at: int | None
) -> None:
    run = relay(life, crashes, cancel_at)
    # A call that asked to run later, or asked somebody, is the same execution that goes on.
    asked = run.wished
    writes = Counter(start.call_id for start in run.starts if PATIENT_TOOLS[start.tool_name].effect == "write")
    for call_id, times in writes.items():
        assert times <= 1 + asked[call_id]
    keys: dict[str, set[str]] = {}
    for start in run.starts:
        keys.setdefault(start.call_id, set()).add(start.idempotency_key)
    assert all(len(each) == 1 for each in keys.values())


@given(lives(patient=True, disturbed=False), _crashes)
def test_nothing_runs_on_other_arguments_than_were_sealed_or_approved(
    life: Life, crashes: list[tuple[int, int]]
) -> None:
    run = relay(life, crashes)
    sealed = {block.call_id: block.input for block in run.machine.turn.blocks if isinstance(block, ToolUseBlock)}
    approved = {
        event.call_id: event.input
        for event in run.seen
        if isinstance(event, e.CallAnswered) and event.decision == "approve" and isinstance(event.input, dict)
    }
    for start in run.starts:
        if start.call_id in sealed:
            assert start.input in (sealed[start.call_id], approved.get(start.call_id))
    for block in run.machine.turn.blocks:
        if isinstance(block, ToolResultBlock) and isinstance(block.ran_input, dict):
            assert block.ran_input == approved[block.call_id] != sealed[block.call_id]


@given(lives(patient=True, disturbed=False), _crashes, _cancels)
def test_no_provider_refuses_the_request_after_it(
    life: Life, crashes: list[tuple[int, int]], cancel_at: int | None
) -> None:
    turn: Turn = relay(life, crashes, cancel_at).machine.turn
    rows = StoredTurn(row=row("turn", "assistant"), blocks=turn.blocks, rounds=turn.rounds)
    for _, block in unread([rows]):
        rows.readings[block.call_id] = Reading(call_id=block.call_id, text="so", formatter="test", version=1)
    sent = messages([user_turn("asked", "Find the dragon"), rows, user_turn("asked-again", "And now?")])
    assert violations(sent) == []


@given(lives(patient=True, disturbed=False))
def test_a_turn_that_only_waits_loses_nothing_and_is_not_said_to_be_recovered(life: Life) -> None:
    run = relay(life, [])
    assert not [event for event in run.seen if isinstance(event, e.Notice) and event.code == "recovered"]
    rewinds = [event for event in run.seen if isinstance(event, e.Rewind)]
    waits = [event for event in run.seen if isinstance(event, e.TurnWaiting)]
    assert [rewind.to for rewind in rewinds] == [wait.seq for wait in waits]
