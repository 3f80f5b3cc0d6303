"""How a new owner goes on with a turn: from what is stored of it, and nothing else (docs/architecture.md).

What is not stored did not happen. The new owner begins with ``rewind`` and then finds itself where one of these stood:

- A response had ended: it stands, and so does what was decided about it.
- A response was in the air and a call of it is stored: it is adopted up to its last sealed call.
- A response was in the air without one: the turn is rewound to before it, and the model is asked again. Results that
  came meanwhile, of calls before a pause, stand.

A ``read`` or ``idempotent`` call without a result is run again, a ``write`` that may have started is not: the outside
is asked what became of its key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from legato.core import events as e
from legato.core.blocks import Block, Json, ToolResultBlock, ToolUseBlock
from legato.core.call import Call
from legato.core.fold import FoldedRound, Turn, fold
from legato.core.plan import HARD_END
from legato.core.records import KeptNeed, KeptSteer, RoundRecord

NO_KEY = -1
"""Of a call whose response is no longer read: no decoder names it."""
RECOVERIES = 3
"""How often in a row a turn is taken up after a crash and comes no further; a turn that brings its server down must not
do so for ever."""
RECOVERED = "recovered"
"""The code of the notice that says so, counted in the log."""
RELEASED = "released"
"""The code of the notice of a server that stops, and lets go of the turn: that is no crash."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a turn that goes on. ``intents`` are the ids of the calls that have one."""

    events: Sequence[e.Event]
    intents: Collection[str] = ()
    needs: Sequence[KeptNeed] = ()
    steers: Sequence[KeptSteer] = ()


class OpenCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call without a result, the model's arguments for it, and its needs, oldest first. ``last_round``: it came when
    no more calls were possible."""

    call: Call
    given: dict[str, Json] | None
    needs: Sequence[KeptNeed]
    last_round: bool


class Standing:
    """What stands of the turn when the new owner comes. The turn is the fold of all that is stored."""

    def __init__(self, stored: Stored) -> None:
        self.turn: Turn = fold(stored.events)
        self.last: FoldedRound | None = self.turn.folded_rounds[-1] if self.turn.folded_rounds else None
        self._stored = stored
        self._started = {event.call_id for event in stored.events if isinstance(event, e.ToolStart)}
        self._blocks = self.turn.blocks
        self._results = {
            block.call_id: block
            for block in self._blocks
            if isinstance(block, ToolResultBlock) and block.origin != "provider"
        }
        self._uses = [block for block in self._blocks if isinstance(block, ToolUseBlock) and block.origin != "provider"]
        self._calls = [block for block in self._uses if block.state == "complete"]

        # The new owner's machine goes on with this very turn; these say how it was found.
        self.begun = any(isinstance(event, e.TurnStart) for event in stored.events)
        self.waited = self.turn.status == "waiting"
        """The turn was at rest; else its owner died."""
        self.in_the_air = self.last is not None and self.last.record.commitment is None
        self.unreported = self._unreported()
        """The last reply, with the pauses in it, made calls; the model waits for their results."""

    @property
    def steers(self) -> Sequence[KeptSteer]:
        """All that is stored of what people said into it."""
        return self._stored.steers

    @property
    def last_sealed(self) -> int | None:
        """The highest index of the last response's sealed calls."""
        return max((call.index for call in self._calls if self._round_of(call) is self.last), default=None)

    @property
    def last_said(self) -> int | None:
        """The highest index of the last response's blocks."""
        ours = {block.index for block in self._results.values()}
        return max(
            (block.index for block in self._blocks if block.index not in ours and self._round_of(block) is self.last),
            default=None,
        )

    @property
    def last_was_told_to_end(self) -> bool:
        return self.last is not None and HARD_END in self.last.record.notices

    def _unreported(self) -> bool:
        reply = self.turn.folded_rounds[-1:]
        for folded in reversed(self.turn.folded_rounds[:-1]):
            if folded.record.commitment == "orphaned":
                continue
            if folded.record.stop_reason != "pause":
                break
            reply.append(folded)
        return any(self._round_of(call) in reply for call in self._calls)

    @property
    def attempts(self) -> dict[int, int]:
        """By round, how often it was asked, those times that a rewind took back included."""
        attempts: dict[int, int] = {}
        for event in self._stored.events:
            if isinstance(event, e.RoundStart):
                attempts[event.round] = max(event.attempt, attempts.get(event.round, 0))
        return attempts

    @property
    def provider_calls(self) -> dict[str, str]:
        """By the id that a provider gave a call of its own: ours."""
        return {
            wire["id"]: block.call_id
            for block in self._blocks
            if isinstance(block, ToolUseBlock) and block.origin == "provider" and isinstance(block.provider_data, dict)
            for wire in block.provider_data.values()
            if isinstance(wire, dict) and isinstance(wire.get("id"), str)
        }

    @property
    def stale_needs(self) -> list[KeptNeed]:
        """Those that nobody can answer any more, and that are not noted so: of calls with a result, and older ones."""
        newest = {kept.need.call_id: kept for kept in self._stored.needs}
        open_calls = {block.call_id for block in self._calls if not self._has_result(block)}
        return [
            kept
            for kept in self._stored.needs
            if not kept.taken and (kept is not newest[kept.need.call_id] or kept.need.call_id not in open_calls)
        ]

    def open_calls(self) -> list[OpenCall]:
        """The calls without a result, in the model's order. What its tool says of each is not known yet."""
        return [
            OpenCall(
                call=self._call_of(block),
                given=block.input,
                needs=[kept for kept in self._stored.needs if kept.need.call_id == block.call_id],
                last_round=HARD_END in self._round_of(block).record.notices,
            )
            for block in self._calls
            if not self._has_result(block)
        ]

    def blocks(self, *, to: int, cut: Collection[int]) -> tuple[e.Standing, ...]:
        """What a rewind to ``to`` lets stand; the text of the blocks in ``cut`` is said anew. A result that came after
        it stands with its call: what a tool gave does not go with the response that was in the air."""
        ours = {block.index for block in self._results.values()}
        return tuple(
            e.Standing(block.index, block.state, 0 if block.index in cut else len(block.text.encode()))
            for block in self._blocks
            if block.index in ours or self.turn.starts[block.index].seq <= to
        )

    def _has_result(self, call: ToolUseBlock) -> bool:
        result = self._results.get(call.call_id)
        return result is not None and result.state != "open"

    def _round_of(self, block: Block) -> FoldedRound:
        """The response that the block came in, or that its call came in."""
        seq = self.turn.starts[block.index].seq
        return [folded for folded in self.turn.folded_rounds if folded.started < seq][-1]

    def _judged(self, folded: FoldedRound) -> RoundRecord:
        """What was decided of the response; of one that paused, by the end of the reply it is a part of."""
        rounds = self.turn.folded_rounds
        later = [each.record for each in rounds[rounds.index(folded) :] if each.record.commitment != "orphaned"]
        return next((record for record in later if record.stop_reason != "pause"), folded.record)

    def _call_of(self, block: ToolUseBlock) -> Call:
        of = self._round_of(block)
        record = of.record
        judged = self._judged(of)
        call = Call(
            call_id=block.call_id,
            round=record.round,
            attempt=record.attempt,
            ordinal=sum(self._round_of(other) is of for other in self._uses if other.index < block.index),
            index=block.index,
            key=NO_KEY,
            tool_name=block.tool_name,
            origin=block.origin,
        )
        call.committed = judged.commitment == "committed" and judged.stop_reason in ("end", "calls")
        call.over = record.commitment in ("committed", "adopted")
        call.intended = block.call_id in self._stored.intents
        call.started = call.intended or block.call_id in self._started
        call.asked = sum(kept.need.call_id == block.call_id for kept in self._stored.needs)
        result = self._results.get(block.call_id)
        call.result_index = None if result is None else result.index
        return call


def lost_requests(events: Sequence[e.Event], turn: Turn) -> int:
    """Requests to the model that are not in the turn, and cost something all the same: a rewind took them back, or they
    were asked before it was stored that they are. Only the first of all is asked without waiting for that."""
    told = [event for event in events if isinstance(event, e.RoundStart | e.Rewind)]
    begun = sum(isinstance(event, e.RoundStart) for event in told)
    unheard = not told or isinstance(told[0], e.Rewind)  # somebody owned the turn before anything was stored of a round
    return begun - len(turn.folded_rounds) + unheard


def deaths(events: Sequence[e.Event]) -> int:
    """How often in a row an owner of the turn has died and nothing came of it that stands; the last one's death, for
    which the turn is taken up now, is counted. What is said of a response without a whole call does not stand."""
    died, further, released = 0, False, False
    starts: dict[int, e.BlockStart] = {}
    for event in events:
        match event:
            case e.BlockStart():
                starts[event.index] = event
            case e.BlockStop():
                further |= _stands(starts.get(event.index), event)
            case e.RoundStop():
                further |= event.commitment != "orphaned"
            case e.Notice() if event.code == RELEASED:
                released = True
            case e.Notice() if event.code == RECOVERED:
                died = (0 if further else died) + (not released)
                further = released = False
            case _:
                pass
    return (0 if further else died) + (not released)


def _stands(start: e.BlockStart | None, stop: e.BlockStop) -> bool:
    """A call or a result, whole: whatever becomes of its response, no owner takes it back."""
    if start is None or start.origin == "provider":
        return False
    return start.block_type == "tool_result" or (start.block_type == "tool_use" and stop.state == "complete")
