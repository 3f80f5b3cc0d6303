"""How a turn whose owner died is ended by the next one, from what is stored and nothing else.

A new owner begins with ``rewind`` (docs/http.md). What was open stops as ``partial``, every call is answered, a
round that ran is adopted up to what stands, and ``turn_end`` says that the turn was interrupted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import UNSET

from legato.core import events as e
from legato.core.blocks import CallError, Outcome, ToolResultBlock, ToolUseBlock
from legato.core.fold import fold, standing
from legato.core.records import KeptSteer, TurnRow
from legato.core.results import Result, close_result, open_result, stop_partial
from legato.core.resuming import lost_requests
from legato.core.scribe import Scribe
from legato.core.steers import Steers
from legato.core.usage import UNKNOWN, total

INTERRUPTED = "the server stopped while the turn was running"
STOPPED = e.ErrorInfo(code="interrupted", message=INTERRUPTED, retryable=True)


def close_interrupted(
    row: TurnRow,
    stored: Sequence[e.Event],
    *,
    epoch: int,
    intents: Collection[str] = (),
    steers: Sequence[KeptSteer] = (),
    error: e.ErrorInfo = STOPPED,
) -> Scribe:
    """``stored`` are all events that are, perhaps none, ``intents`` the ids of the calls that have one, ``steers`` what
    people said into it; the scribe's actions are those of the new owner, its turn the whole turn."""
    scribe = Scribe(epoch=epoch)
    scribe.turn = fold(stored)
    scribe.next_index = max(scribe.turn.starts, default=-1) + 1
    to = scribe.turn.last_seq
    scribe.say(e.Rewind(seq=scribe.next_seq(), to=to, blocks=standing(scribe.turn)))
    if not any(isinstance(event, e.TurnStart) for event in stored):
        scribe.say(
            e.TurnStart(
                seq=scribe.next_seq(),
                turn_id=row.id,
                chat_id=row.chat_id,
                prev_turn_id=row.prev_turn_id,
                created_at=row.created_at,
            )
        )
    # An intent is stored before its call starts, tool_start only some time after it.
    started = {event.call_id for event in stored if isinstance(event, e.ToolStart)} | set(intents)
    lost = lost_requests(stored, scribe.turn)
    _stop_open_blocks(scribe)
    _answer_calls(scribe, started, why=error.message)
    _stop_rounds(scribe, error.code)
    said = Steers(scribe)
    said.accept_kept(steers)
    said.give_back()
    scribe.say(
        e.TurnEnd(
            seq=scribe.next_seq(),
            status="error",
            stop_reason="error",
            usage=total((*(record.usage for record in scribe.turn.rounds), *[UNKNOWN] * lost)),
            error=error,
        )
    )
    return scribe


def _stop_open_blocks(scribe: Scribe) -> None:
    for index, block in sorted(scribe.turn.open.items()):
        if block.start.block_type != "tool_result" or block.start.origin == "provider":
            stop_partial(scribe, index)


def _answer_calls(scribe: Scribe, started: set[str], *, why: str) -> None:
    """A call that had started may have taken effect; nobody can know."""
    blocks = scribe.turn.blocks
    results = {block.call_id: block for block in blocks if isinstance(block, ToolResultBlock)}
    for call in blocks:
        if not isinstance(call, ToolUseBlock) or call.state != "complete" or call.origin == "provider":
            continue
        result = results.get(call.call_id)
        if result is not None and result.state != "open":
            continue
        if call.call_id in started:
            outcome: Outcome = "unknown"
            error = CallError("interrupted", "interrupted; it may have taken effect; check before repeating")
        else:
            outcome, error = "cancelled", CallError("not_executed", f"not executed: {why}")
        if result is not None:
            index = result.index
        else:
            index = open_result(
                scribe, call_id=call.call_id, tool_name=call.tool_name, round=call.round, origin=call.origin
            )
        close_result(scribe, index, Result(outcome=outcome, error=error))


def _stop_rounds(scribe: Scribe, why: str) -> None:
    for record in scribe.turn.rounds:
        if record.commitment is not None:
            continue
        kept = [
            block.index
            for block in scribe.turn.blocks
            if block.round == record.round and not isinstance(block, ToolResultBlock)
        ]
        scribe.say(
            e.RoundStop(
                seq=scribe.next_seq(),
                round=record.round,
                attempt=record.attempt,
                commitment="adopted" if kept else "orphaned",
                stop_reason="other",
                provider_reason=why,
                usage=record.usage,
                kept_to=max(kept) if kept else UNSET,
            )
        )
