"""The calls of a turn, from the seal to the one result each of them gets (P3).

"It ran" is a fact and cannot be taken back; whether the response it came in belongs to the conversation is decided
elsewhere, later. A call is known by its ``call_id``; a decoder's ``key`` finds it only while its response is read.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from legato.core import actions as a
from legato.core import arguments
from legato.core import events as e
from legato.core.blocks import CallError, Json, Outcome
from legato.core.records import Intent
from legato.core.response import Response, SealedCall
from legato.core.results import close_result, open_result
from legato.core.schedule import TURN_LANE, Call, ToolRule, startable
from legato.core.scribe import Scribe
from legato.core.text import clean


class Calls:
    def __init__(
        self, scribe: Scribe, *, turn_id: str, tools: Mapping[str, ToolRule], per_round: int, parallel: int
    ) -> None:
        self._scribe = scribe
        self._turn_id = turn_id
        self._tools = tools
        self._per_round = per_round
        self._parallel = parallel
        self._calls: dict[str, Call] = {}

    @property
    def open(self) -> list[Call]:
        """Those without a result."""
        return [call for call in self._calls.values() if call.state != "done"]

    @property
    def corrections(self) -> dict[str, str]:
        """By call id: what the model must read instead of a result that was said before its call proved wrong."""
        return {call.call_id: call.correction for call in self._calls.values() if call.correction is not None}

    def of(self, response: Response) -> list[Call]:
        place = (response.round, response.attempt)
        return [call for call in self._calls.values() if (call.round, call.attempt) == place]

    def seal(self, response: Response, sealed: SealedCall, *, last_round: bool) -> None:
        """Take the call in: it will run, or is answered at once with why not. Limits are charged here, in order."""
        call = Call(
            call_id=sealed.call_id,
            round=response.round,
            attempt=response.attempt,
            ordinal=len(self.of(response)),
            index=sealed.index,
            key=sealed.key,
            tool_name=sealed.tool_name,
        )
        self._calls[call.call_id] = call
        rule = self._tools.get(call.tool_name)
        refusal = self._refusal(call, rule, sealed, last_round=last_round)
        if refusal is not None:
            self.answer(call, "denied" if refusal.code == "approval_unavailable" else "error", error=refusal)
            return
        assert rule is not None
        assert sealed.input is not None
        call.input, call.effect, call.eager = sealed.input, rule.effect, rule.eager
        call.lane = rule.lane(sealed.input) or (TURN_LANE if call.has_effects else None)

    def start_ready(self) -> None:
        """Begin every call that may run now: a ``read`` itself, a call with effects by its intent."""
        for call in startable(list(self._calls.values()), parallel=self._parallel):
            if call.has_effects:
                call.state = "intent"
                self._scribe.do(a.StoreIntent(self._intent(call)))
            else:
                self._start(call)

    def intent_stored(self, call_id: str) -> None:
        call = self._calls.get(call_id)
        if call is not None and call.state == "intent":
            self._start(call)

    def emit(self, call_id: str, text: str) -> None:
        call = self._calls.get(call_id)
        text = clean(text)
        if call is not None and call.state == "running" and text:
            self._scribe.say_delta(self._result_index(call), text)

    def finish(self, call_id: str, outcome: Outcome, output: Json, error: CallError | UnsetType) -> bool:
        """False if the call is not running: it was answered already."""
        call = self._calls.get(call_id)
        if call is None or call.state != "running":
            return False
        if call.correction is not None:
            outcome, error = "error", CallError("arguments_changed", call.correction)
            call.correction = None
        self.answer(call, outcome, output=output, error=error)
        return True

    def poison(self, response: Response, key: int, message: str) -> None:
        """The execution stays in the ledger; what the model reads of it is an error (docs/tools.md)."""
        for call in self.of(response):
            if call.key != key:
                continue
            if call.state in ("sealed", "intent"):
                self._scribe.note("call_changed", f"{call.tool_name}: {message}")
                self.answer(call, "error", error=CallError("arguments_changed", f"not executed: {message}"))
            elif call.started and call.correction is None:
                self._scribe.note("call_changed", f"{call.tool_name}: {message}")
                call.correction = f"the arguments changed after the call had started: {message}"

    def commit(self) -> None:
        """The response ended well: calls with effects may run."""
        for call in self.open:
            call.committed = True

    def answer_held(self, why: str) -> None:
        """Calls with effects that have not started never will."""
        for call in self.open:
            if call.has_effects and call.state in ("sealed", "intent"):
                self.answer(call, "error", error=CallError("not_executed", why))

    def answer_waiting(self, why: str) -> None:
        """The turn ends: whatever has not started never will."""
        for call in self.open:
            if call.state != "running":
                self.answer(call, "error", error=CallError("not_executed", why))

    def cancel(self, why: str) -> None:
        """Calls that wait are answered, those that run are told."""
        for call in self.open:
            if call.state == "running":
                self._scribe.do(a.CancelTool(call_id=call.call_id))
            else:
                self.answer(call, "cancelled", error=CallError("cancelled", why))

    def answer(
        self, call: Call, outcome: Outcome, *, output: Json = None, error: CallError | UnsetType = UNSET
    ) -> None:
        """The call's one result."""
        call.state = "done"
        close_result(self._scribe, self._result_index(call), outcome, output=output, error=error)

    def _refusal(self, call: Call, rule: ToolRule | None, sealed: SealedCall, *, last_round: bool) -> CallError | None:
        """Why the call will never run."""
        if last_round:
            return CallError("limit_rounds", "not executed: no more tool calls are possible in this turn")
        if call.ordinal >= self._per_round:
            message = f"not executed: this is call {call.ordinal + 1} of the reply, limit is {self._per_round}"
            return CallError("limit_calls", message)
        if sealed.problem is not None:
            return sealed.problem
        if rule is None:
            known = ", ".join(self._tools) or "none"
            return CallError("unknown_tool", f"there is no tool {call.tool_name!r}; the tools are: {known}")
        wrong = rule.check(sealed.input or {})
        if wrong is not None:
            return CallError("invalid_arguments", wrong)
        if rule.asks_approval(sealed.input or {}):
            message = "denied: this tool needs a person's approval, which nobody can give here"
            return CallError("approval_unavailable", message)
        return None

    def _start(self, call: Call) -> None:
        call.state, call.started = "running", True
        self._scribe.say(
            e.ToolStart(seq=self._scribe.next_seq(), call_id=call.call_id, tool_name=call.tool_name, index=call.index)
        )
        self._scribe.do(
            a.StartTool(
                call_id=call.call_id,
                round=call.round,
                tool_name=call.tool_name,
                input=arguments.copied(call.input),
                idempotency_key=self._idempotency_key(call),
            )
        )

    def _intent(self, call: Call) -> Intent:
        return Intent(
            call_id=call.call_id,
            round=call.round,
            index=call.index,
            tool_name=call.tool_name,
            input=call.input,
            input_sha256=arguments.canonical_sha256(call.input),
            idempotency_key=self._idempotency_key(call),
        )

    def _idempotency_key(self, call: Call) -> str:
        return arguments.idempotency_key(
            turn_id=self._turn_id,
            round=call.round,
            ordinal=call.ordinal,
            tool_name=call.tool_name,
            input=call.input,
        )

    def _result_index(self, call: Call) -> int:
        """The index of the call's result, which opens with its first text or at its end."""
        if call.result_index is None:
            call.result_index = open_result(
                self._scribe, call_id=call.call_id, tool_name=call.tool_name, round=call.round, origin="server"
            )
        return call.result_index
