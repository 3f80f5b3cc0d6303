"""The calls that an earlier owner of the turn left without a result, taken back by the next one.

What ran and has no result is run again where that is harmless, and asked about where it is not (P7). What waits for
somebody waits on. What a person or a limit had ruled out stays ruled out, though its result was not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from msgspec import UnsetType

from legato.core.arguments import canonical_sha256
from legato.core.blocks import CallError, Json
from legato.core.call import Call
from legato.core.calls import INTERRUPTED, NOBODY_ANSWERED, Calls
from legato.core.records import KeptNeed, Resumed
from legato.core.resuming import OpenCall, Standing


class Recalled:
    """Each call is judged when this is made, before the turn is rewound; ``settle`` then does what was found.

    ``said_anew`` are the results whose text is dropped, since their call runs from its beginning.
    """

    def __init__(self, calls: Calls, standing: Standing) -> None:
        self.said_anew: set[int] = set()
        self._calls = calls
        self._stale = standing.stale_needs
        self._settling: list[Callable[[], object]] = []
        found = standing.open_calls()
        for each in found:
            calls.take_in(each.call)
            self._judge(each)
        for each in found:
            index = each.call.result_index
            # A twin of one that waits shares its execution on, and has shown what that one has.
            if each.call.interrupted and index is not None and not calls.shares(each.call):
                self.said_anew.add(index)

    def settle(self) -> None:
        for kept in self._stale:
            self._calls.close_need(kept)
        for settle in self._settling:
            settle()
        self._calls.join_twins()

    def _judge(self, found: OpenCall) -> None:
        call, needs = found.call, found.needs
        newest = needs[-1] if needs else None
        if found.given is None:
            self._answer(call, CallError("bad_json", "not executed: the arguments are no JSON object"))
        else:
            refusal = self._calls.accept(call, _approved(call, found.given, needs))
            if newest is not None and not newest.taken and not newest.need.running:
                self._judge_waiting(call, newest, refusal)
            elif newest is not None and self._is_decided(call, newest):
                pass
            elif call.started:
                self._judge_begun(call, refusal, needs)
            else:
                self._judge_unstarted(found, refusal)
        if newest is not None:
            self._settling.insert(0, partial(self._calls.settle_need, call, newest))

    def _judge_waiting(self, call: Call, newest: KeptNeed, refusal: CallError | None) -> None:
        call.need, call.state = newest.need, "waiting"
        if refusal is not None:
            self._answer(call, refusal)
        else:
            self._calls.lead(call)

    def _is_decided(self, call: Call, newest: KeptNeed) -> bool:
        """Its result followed from the answer to its need, and was not stored."""
        answer = newest.answer
        if newest.need.kind == "input":
            return False
        if answer is None:
            self._settling.append(partial(self._calls.answer, call, "timeout", error=NOBODY_ANSWERED))
        elif newest.need.kind == "client_tool":
            self._settling.append(partial(self._calls.client_said, call, answer))
        elif answer.decision != "approve":
            self._settling.append(partial(self._calls.denied, call, answer))
        else:
            return False
        return True

    def _judge_begun(self, call: Call, refusal: CallError | None, needs: Sequence[KeptNeed]) -> None:
        """It runs from its beginning, if it may; a ``write`` never does by itself."""
        if call.effect == "write" and self._calls.knows(call):
            self._settling.append(partial(self._calls.reconcile, call))
        elif refusal is not None and call.intended:
            self._settling.append(partial(self._calls.answer, call, "unknown", error=INTERRUPTED))
        elif refusal is not None:
            self._answer(call, refusal)
        else:
            call.interrupted = True
            call.resumed = _resumed(needs)

    def _judge_unstarted(self, found: OpenCall, refusal: CallError | None) -> None:
        call, calls = found.call, self._calls
        if not found.needs:
            refusal = calls.over_limits(call, last_round=found.last_round) or refusal
        if refusal is not None:
            self._answer(call, refusal)
        elif not found.needs and calls.asks_approval(call):
            call.state = "waiting"

    def _answer(self, call: Call, why: CallError) -> None:
        self._settling.append(partial(self._calls.answer, call, "error", error=why))


def _approved(call: Call, given: dict[str, Json], needs: Sequence[KeptNeed]) -> dict[str, Json]:
    """The arguments that it runs with: the model's, or those that a person put in their place."""
    for kept in needs:
        answer = kept.answer if kept.taken and kept.need.kind == "approval" else None
        if answer is None or answer.decision != "approve" or isinstance(answer.input, UnsetType):
            continue
        if canonical_sha256(answer.input) != canonical_sha256(given):
            call.ran_input = answer.input
            return answer.input
    return given


def _resumed(needs: Sequence[KeptNeed]) -> Resumed | None:
    """What its tool, which had stopped to ask, was called again with."""
    for kept in reversed(needs):
        if kept.need.kind == "input" and not kept.need.running and kept.taken and kept.answer is not None:
            return Resumed(state=kept.need.state, answer=kept.answer)
    return None
