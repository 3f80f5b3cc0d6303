"""The calls that an earlier owner of the turn left without a result, taken back by the next one.

What ran and has no result is run again where that is harmless, and asked about where it is not (P7). What waits for
somebody waits on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_never

from msgspec import UnsetType

from legato.core.blocks import CallError, Json
from legato.core.call import Call
from legato.core.calls import Calls
from legato.core.records import Answer, KeptNeed, Need, Resumed
from legato.core.resuming import Standing


class Recalled:
    """Each call is judged when this is made, before the turn is rewound; ``settle`` then does what was found.

    ``said_anew`` are the results whose text is dropped, since their call runs from its beginning.
    """

    def __init__(self, calls: Calls, standing: Standing, *, to: int) -> None:
        self.said_anew: set[int] = set()
        self._calls = calls
        self._settling: list[Callable[[], object]] = []
        for call, given, kept in standing.open_calls():
            if standing.turn.starts[call.index].seq <= to:
                calls.take_back(call)
                self._judge(call, given, kept)

    def settle(self) -> None:
        for settle in self._settling:
            settle()

    def _judge(self, call: Call, given: dict[str, Json] | None, kept: KeptNeed | None) -> None:
        if given is None:
            self._refuse(call, CallError("bad_json", "not executed: the arguments are no JSON object"))
            return
        answer = None if kept is None or not kept.taken else kept.answer
        edited = None if answer is None or kept is None or kept.need.kind != "approval" else answer.input
        if edited is not None and not isinstance(edited, UnsetType) and edited != given:
            given = call.ran_input = edited
        refusal = self._calls.accept(call, given)
        if refusal is not None:
            self._refuse(call, refusal)
        elif kept is not None and not kept.taken and not kept.need.running:
            call.need, call.state = kept.need, "waiting"
        elif kept is not None and answer is not None:
            self._judge_answered(call, kept.need, answer)
        else:
            self._judge_begun(call)

    def _refuse(self, call: Call, why: CallError) -> None:
        self._settling.append(partial(self._calls.answer, call, "error", error=why))

    def _judge_answered(self, call: Call, need: Need, answer: Answer) -> None:
        match need.kind:
            case "client_tool":
                self._settling.append(partial(self._calls.client_said, call, answer))
            case "approval" if answer.decision == "deny":
                self._settling.append(partial(self._calls.denied, call, answer))
            case "approval":
                self._judge_begun(call)
            case "input":
                if not need.running:
                    call.resumed = Resumed(state=need.state, answer=answer)
                self._judge_begun(call)
            case _:
                assert_never(need.kind)

    def _judge_begun(self, call: Call) -> None:
        """It runs from its beginning, if it began at all and may; a ``write`` never does by itself."""
        if not call.started:
            return
        if call.effect == "write":
            self._settling.append(partial(self._calls.reconcile, call))
        elif call.result_index is not None:
            self.said_anew.add(call.result_index)
