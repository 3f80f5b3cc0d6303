"""Whatever owners come and go, whoever answers and when, these hold (docs/guarantees.md, P2, P3, P7 to P9)."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType
from tests.core.drive import user_turn
from tests.core.pairing import grew, violations
from tests.core.relay import Relay
from tests.core.test_lives import picture
from tests.core.turns import PATIENT_TOOLS, Life, busy_lives, lives

from legato.core import actions as a
from legato.core import events as e
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn, fold
from legato.core.messages import messages
from legato.core.plan import HARD_END
from legato.core.resuming import RECOVERED

_lives = st.one_of(lives(patient=True, disturbed=False), busy_lives(), busy_lives())
_crashes = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), max_size=3).map(sorted)
_cancels = st.sampled_from([None, None, None, 0, 5, 17])


def relay(life: Life, crashes: list[tuple[int, int]], cancel_at: int | None = None) -> Relay:
    """Where it rests, and what its owners do with needs, is looked at meanwhile (tests/core/relay.py)."""
    run = Relay(life, list(crashes), cancel_at)
    run.run()
    return run


def own_calls(turn: Turn) -> dict[str, ToolUseBlock]:
    """Those that stand, by id."""
    return {
        block.call_id: block
        for block in turn.blocks
        if isinstance(block, ToolUseBlock) and block.origin != "provider" and block.state == "complete"
    }


def own_results(turn: Turn) -> list[ToolResultBlock]:
    return [block for block in turn.blocks if isinstance(block, ToolResultBlock) and block.origin != "provider"]


def assert_whole(run: Relay) -> None:
    """Every call that stands has one result, all see the same turn, and nobody is waited for any more."""
    turn = run.machine.turn
    assert sorted(own_calls(turn)) == sorted(block.call_id for block in own_results(turn))
    assert not turn.open
    assert not turn.waiting
    assert picture(fold(run.seen)) == picture(fold(run.stored)) == picture(turn)
    assert [kept for kept in run.needs.values() if not kept.taken] == []


def assert_nothing_ran_twice(run: Relay) -> None:
    # A call that asked to run later, or asked somebody, is the same execution that goes on.
    writes = Counter(start.call_id for start in run.starts if PATIENT_TOOLS[start.tool_name].effect == "write")
    for call_id, times in writes.items():
        assert times <= 1 + run.wished[call_id]
    keys: dict[str, set[str]] = {}
    runs: list[a.StartTool | a.Reconcile] = [*run.starts, *run.reconciled]
    for start in runs:
        if PATIENT_TOOLS[start.tool_name].effect == "read":
            continue  # one of which nothing was stored did not happen, and its id may be another one's
        keys.setdefault(start.call_id, set()).add(start.idempotency_key)
    assert all(len(each) == 1 for each in keys.values())


def assert_nothing_ran_unasked(run: Relay) -> None:
    sealed = own_calls(run.machine.turn)
    # The first yes to a call is its approval, where its tool asks for one.
    approved = {answer.call_id: answer.input for answer in reversed(run.answers) if answer.decision == "approve"}
    for start in run.starts:
        if start.call_id not in sealed or sealed[start.call_id].tool_name != start.tool_name:
            continue
        said = sealed[start.call_id].input or {}
        given_by_person = approved[start.call_id] if PATIENT_TOOLS[start.tool_name].asks_approval(said) else UNSET
        assert start.input == (said if isinstance(given_by_person, UnsetType) else given_by_person)
    for block in own_results(run.machine.turn):
        if isinstance(block.ran_input, dict):
            assert block.ran_input == approved[block.call_id] != sealed[block.call_id].input


def assert_requests_hold(run: Relay) -> None:
    next_turn = messages([user_turn("asked", "Find the dragon"), run.rows(), user_turn("asked-again", "And now?")])
    for sent in [*(sent for _, sent in run.sent), next_turn]:
        assert violations(sent) == []


@settings(max_examples=max(4, settings().max_examples // 4))
@given(_lives, st.booleans())
def test_the_turn_goes_on_from_every_prefix_of_its_log(life: Life, cancelled: bool) -> None:
    whole = relay(life, [])
    for cut in range(len(whole.stored)):
        run = Relay(life, [], cut=cut, cancel_at=0 if cancelled else None)
        run.run()
        assert_whole(run)
        assert_nothing_ran_twice(run)
        assert_nothing_ran_unasked(run)
        assert_requests_hold(run)


@given(_lives, _crashes, _cancels)
def test_a_turn_ends_whoever_dies_with_one_result_for_each_call_and_as_all_have_seen_it(
    life: Life, crashes: list[tuple[int, int]], cancel_at: int | None
) -> None:
    assert_whole(relay(life, crashes, cancel_at))


@given(_lives, st.integers(0, 30), st.integers(0, 3), st.booleans())
def test_an_owner_of_whom_nothing_is_stored_leaves_all_readers_with_the_same_turn(
    life: Life, step: int, lost: int, cancelled: bool
) -> None:
    """It had rewound further than the next one does, who finds that the turn was cancelled meanwhile (met by `legato
    torture` 2026-11, seed 7)."""
    assert_whole(relay(life, [(step, lost), (step + 1, 99)], step + 1 if cancelled else None))


@given(_lives, _crashes, st.integers(0, 120))
def test_a_reader_who_saw_what_was_not_stored_and_comes_back_later_folds_the_same(
    life: Life, crashes: list[tuple[int, int]], cut: int
) -> None:
    run = relay(life, crashes)
    turn = fold(run.seen[:cut])
    for event in run.stored:
        turn.apply(event)
    assert picture(turn) == picture(run.machine.turn)


@given(_lives, _crashes)
def test_each_owner_counts_from_its_epoch_and_begins_with_a_rewind(life: Life, crashes: list[tuple[int, int]]) -> None:
    run = relay(life, crashes)
    owners: dict[int, list[e.Event]] = {}
    for event in run.seen:
        owners.setdefault((event.seq - 1) // e.EPOCH_SIZE, []).append(event)
    assert {0, run.epoch} <= owners.keys() <= set(range(run.epoch + 1))  # of whom nothing was stored, nothing was heard
    for epoch, events in owners.items():
        assert [event.seq for event in events] == [epoch * e.EPOCH_SIZE + n for n in range(1, len(events) + 1)]
        assert isinstance(events[0], e.Rewind if epoch else e.TurnStart)


@given(_lives, _crashes, _cancels)
def test_a_write_runs_at_most_once_and_a_call_with_effects_always_with_one_key(
    life: Life, crashes: list[tuple[int, int]], cancel_at: int | None
) -> None:
    assert_nothing_ran_twice(relay(life, crashes, cancel_at))


@given(_lives, _crashes)
def test_nothing_runs_unasked_nor_on_other_arguments_than_were_sealed_or_approved(
    life: Life, crashes: list[tuple[int, int]]
) -> None:
    assert_nothing_ran_unasked(relay(life, crashes))


@given(_lives)
def test_identical_reads_of_a_response_share_one_execution(life: Life) -> None:
    run = relay(life, [])
    calls = own_calls(run.machine.turn)
    executions = Counter[tuple[int, str, str]]()
    wishes = Counter[tuple[int, str, str]]()
    for start in run.starts:
        if start.tool_name in ("look", "look_picky", "ask_look"):
            alike = (calls[start.call_id].round, start.tool_name, repr(sorted(start.input.items())))
            executions[alike] += 1
            wishes[alike] = max(wishes[alike], run.wished[start.call_id])
    for alike, times in executions.items():
        assert times <= 1 + wishes[alike]


@given(_lives, _crashes, _cancels)
def test_no_provider_refuses_a_request_whoever_makes_it(
    life: Life, crashes: list[tuple[int, int]], cancel_at: int | None
) -> None:
    assert_requests_hold(relay(life, crashes, cancel_at))


@given(_lives, _crashes)
def test_a_request_begins_with_the_one_before_it_whoever_makes_it(life: Life, crashes: list[tuple[int, int]]) -> None:
    sent = [sent for _, sent in relay(life, crashes).sent]
    for earlier, later in pairwise(sent):
        assert grew(earlier, later)


@given(_lives, _crashes)
def test_a_last_round_is_told_so_whoever_asks_for_it(life: Life, crashes: list[tuple[int, int]]) -> None:
    run = relay(life, crashes)
    told = {record.round for record in run.machine.turn.rounds if HARD_END in record.notices}
    stand = {(record.round, record.attempt) for record in run.machine.turn.rounds}
    for asked, _ in run.sent:
        if (asked.round, asked.attempt) in stand:
            assert asked.last == (asked.round in told)


@given(_lives, _crashes)
def test_what_a_request_cost_that_an_owner_lost_is_unknown(life: Life, crashes: list[tuple[int, int]]) -> None:
    run = relay(life, crashes)
    turn = run.machine.turn
    if len(run.sent) > len(turn.rounds):
        assert turn.usage.source == "unknown"


@given(_lives)
def test_a_turn_that_only_waits_loses_nothing_and_is_not_said_to_be_recovered(life: Life) -> None:
    run = relay(life, [])
    assert not [event for event in run.seen if isinstance(event, e.Notice) and event.code == RECOVERED]
    rewinds = [event for event in run.seen if isinstance(event, e.Rewind)]
    waits = [event for event in run.seen if isinstance(event, e.TurnWaiting)]
    assert [rewind.to for rewind in rewinds] == [wait.seq for wait in waits]
    assert run.seen == run.stored
