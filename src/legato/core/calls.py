"""The calls of a turn, from the seal to the one result each of them gets (P3).

"It ran" is a fact and cannot be taken back; whether the response it came in belongs to the conversation is decided
elsewhere, later. A call is known by its ``call_id``; a decoder's ``key`` finds it only while its response is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import assert_never

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from legato.core import actions as a
from legato.core import arguments
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import CallError, Json, Outcome
from legato.core.call import Call
from legato.core.needs import Needs
from legato.core.records import Answer, Intent, KeptNeed, Resumed
from legato.core.response import Response, SealedCall
from legato.core.results import Result, close_result, open_result
from legato.core.schedule import TURN_LANE, ToolRule, may_start, startable
from legato.core.scribe import Scribe
from legato.core.text import clean
from legato.core.twins import Twins

CALL_CHANGED = "call_changed"
"""The code of the notice that arguments changed after their call was sealed."""
INTERRUPTED = CallError("interrupted", "interrupted; it may have taken effect; check before repeating")
"""Of a call that ran when its owner died, and of which nobody can tell what became of it."""
NOBODY_ANSWERED = CallError("wait_timeout", "nobody answered in time")


class Calls:
    """``tools`` are the server's, ``client_tools`` the names of those a client runs."""

    def __init__(
        self,
        scribe: Scribe,
        *,
        turn_id: str,
        tools: Mapping[str, ToolRule],
        client_tools: Collection[str],
        per_round: int,
        parallel: int,
    ) -> None:
        self._scribe = scribe
        self._turn_id = turn_id
        self._tools = tools
        self._client_tools = client_tools
        self._per_round = per_round
        self._parallel = parallel
        self._needs = Needs(scribe)
        self._twins = Twins()
        self._calls: dict[str, Call] = {}
        """In the model's order, which is that of their blocks."""
        self._late: set[str] = {name for name, rule in tools.items() if rule.late}
        self._closed: tuple[Outcome, CallError] | None = None
        """The turn ends: what a call is answered with that stops now and would go on later."""
        self._starts_no_more = False

    @property
    def open(self) -> list[Call]:
        """Those without a result."""
        return [call for call in self._calls.values() if call.state != "done"]

    @property
    def rest(self) -> bool:
        """Nothing is left but people and clients: what has no result waits for them, or for a call that does."""
        waiting = self.open
        return any(call.state == "waiting" for call in waiting) and not any(call.busy for call in waiting)

    @property
    def corrections(self) -> dict[str, str]:
        """By call id: what the model must read instead of a result that was said before its call proved wrong."""
        return {call.call_id: call.correction for call in self._calls.values() if call.correction is not None}

    def get(self, call_id: str) -> Call | None:
        return self._calls.get(call_id)

    def of(self, response: Response) -> list[Call]:
        place = (response.round, response.attempt)
        return [call for call in self._calls.values() if (call.round, call.attempt) == place]

    # From the seal to the start

    def seal(self, response: Response, sealed: SealedCall, *, last_round: bool) -> None:
        """Take the call in: it will run, or is answered at once with why not. Limits are charged here, in order."""
        call = Call(
            call_id=sealed.call_id,
            round=response.round,
            attempt=response.attempt,
            ordinal=sealed.ordinal,
            index=sealed.index,
            key=sealed.key,
            tool_name=sealed.tool_name,
            origin=sealed.origin,
        )
        self.take_in(call)
        refusal = self.over_limits(call, last_round=last_round) or sealed.problem or self.accept(call, sealed.input)
        if refusal is not None:
            self.answer(call, "error", error=refusal)
        elif self.asks_approval(call):
            call.state = "waiting"
            self.ask_approvals()

    def take_in(self, call: Call) -> None:
        """Know a call that is sealed. Where blocks interleave, an earlier one may be sealed later."""
        known = self._calls
        last = next(reversed(known.values()), None)
        known[call.call_id] = call
        if last is not None and call.index < last.index:
            self._calls = dict(sorted(known.items(), key=lambda item: item[1].index))

    def over_limits(self, call: Call, *, last_round: bool) -> CallError | None:
        if last_round:
            return CallError("limit_rounds", "not executed: no more tool calls are possible in this turn")
        if call.ordinal >= self._per_round:
            message = f"not executed: this is call {call.ordinal + 1} of the reply, limit is {self._per_round}"
            return CallError("limit_calls", message)
        return None

    def accept(self, call: Call, input: dict[str, Json] | None) -> CallError | None:
        """Give the call its arguments and what its tool says of them, or say why it can never run with them."""
        given = input or {}
        call.input, call.sha256 = given, arguments.canonical_sha256(given)
        if call.origin == "client":
            return None
        rule = self._tools.get(call.tool_name)
        if rule is None:
            known = ", ".join((*self._tools, *self._client_tools)) or "none"
            return CallError("unknown_tool", f"there is no tool {call.tool_name!r}; the tools are: {known}")
        call.effect, call.eager, call.late = rule.effect, rule.eager, call.tool_name in self._late
        call.lane = TURN_LANE if call.has_effects else None
        wrong = rule.check(given)
        if wrong is not None:
            return CallError("invalid_arguments", wrong)
        call.lane = rule.lane(given) or call.lane
        return None

    def asks_approval(self, call: Call) -> bool:
        return call.origin == "server" and self._tools[call.tool_name].asks_approval(call.input)

    def ask_approvals(self) -> None:
        """Of the calls that wait for a yes, and of which nobody was told yet."""
        for call in self.open:
            if call.state == "waiting" and call.need is None:
                self._needs.ask(call, "approval")

    def start_ready(self) -> None:
        """Begin every call that may run now: a ``read`` itself, a call with effects by its intent."""
        if self._starts_no_more:
            return
        self.join_twins()
        for call in startable(list(self._calls.values()), parallel=self._parallel):
            if call.has_effects and (call.resumed is not None or not call.intended):
                # Again where it goes on with an answer: that it does is stored first, or the next owner would, too.
                call.state = "intent"
                self._scribe.do(a.StoreIntent(self._intent(call)))
            elif not self._join(call):
                self._start(call)
        self.join_twins()  # of what has just started

    def intent_stored(self, call_id: str) -> None:
        call = self._calls.get(call_id)
        if call is None or call.state != "intent" or self._starts_no_more:
            return
        call.intended, call.state = True, "sealed"
        if may_start(call):  # else early start was switched off meanwhile
            self._start(call)

    def ask_clients(self) -> None:
        """The response has ended well: its calls of clients' tools are theirs to run."""
        for call in self.open:
            if call.origin == "client" and call.state == "sealed":
                self._needs.ask(call, "client_tool")
                call.state = "waiting"

    def start_no_more(self) -> None:
        """The turn stops with the block that is open: what would start now would be cancelled with it."""
        self._starts_no_more = True

    def run_late(self, tool_name: str) -> None:
        """From now on its calls start once their response has ended."""
        self._late.add(tool_name)
        for call in self.open:
            if call.tool_name == tool_name:
                call.late = True

    # While it runs

    def emit(self, call_id: str, text: str) -> None:
        call = self._calls.get(call_id)
        text = clean(text)
        if call is not None and call.state == "running" and text:
            for each in (call, *call.followers):
                self._scribe.say_delta(self._result_index(each), text)

    def ask(self, asked: i.ToolAsked) -> None:
        """A running tool asks a person, and goes on running. While the turn ends, nobody is asked: the tool is told."""
        call = self._calls.get(asked.call_id)
        if call is None or call.state != "running" or call.leader is not None or self._closed is not None:
            return
        if call.need is not None:
            self._needs.close(call.need)  # it has given up on its question before
        self._needs.ask(call, "input", message=asked.message, input_schema=asked.input_schema, running=True)

    def ended(self, end: i.ToolEnd) -> bool:
        """False if the call is not running: it was answered already."""
        call = self._calls.get(end.call_id)
        if call is None or call.state != "running" or call.leader is not None:
            return False
        if call.need is not None:
            self._needs.close(call.need)  # it has not waited for the answer
            call.need = None
        match end:
            case i.ToolFinished():
                self._finish(call, end)
            case _ if self._closed is not None:
                outcome, error = self._closed
                self._finish(call, i.ToolFinished(call_id=call.call_id, outcome=outcome, error=error))
            case i.ToolDeferred():
                self._defer(call)
                self._needs.take_down(call)
            case i.ToolNeedsInput():
                self._needs.ask(call, "input", message=end.message, input_schema=end.input_schema, state=end.state)
                call.state = "waiting"
            case _:
                assert_never(end)
        return True

    def answered(self, answer: Answer, *, nr: int | None) -> bool:
        """Go on with what somebody said to the need ``nr``. False if the call does not wait for it (any more)."""
        call = self._calls.get(answer.call_id)
        need = None if call is None else call.need
        if call is None or need is None or nr not in (None, need.nr):
            return False
        self._needs.take(call, answer)
        match need.kind:
            case "approval" if answer.decision == "approve":
                self._approved(call, answer)
            case "approval":
                self.denied(call, answer)
            case "client_tool":
                self.client_said(call, answer)
            case "input" if call.state == "waiting":
                call.resumed = Resumed(state=need.state, answer=answer)
                call.state = "sealed"
            case "input":
                self._scribe.do(a.TellTool(answer))
            case _:
                assert_never(need.kind)
        return True

    def client_said(self, call: Call, answer: Answer) -> None:
        output = None if isinstance(answer.output, UnsetType) else answer.output
        self.answer(call, "ok" if isinstance(answer.error, UnsetType) else "error", output=output, error=answer.error)

    def denied(self, call: Call, answer: Answer) -> None:
        reason = "" if isinstance(answer.reason, UnsetType) else f": {answer.reason}"
        self.answer(call, "denied", error=CallError("denied", f"a person said no{reason}"))

    # Left by an earlier owner

    def knows(self, call: Call) -> bool:
        return call.tool_name in self._tools

    def lead(self, call: Call) -> None:
        """Its execution is the one to share."""
        if call.started:
            self._twins.lead(call)

    def shares(self, call: Call) -> bool:
        return self._twins.leader_of(call) is not None

    def settle_need(self, call: Call, newest: KeptNeed) -> None:
        """Let readers see whether it waits, and close a need that nobody answers any more."""
        self._needs.say_again(call, newest)
        if call.need is None and not newest.taken:
            self._needs.close(newest.need)

    def close_need(self, kept: KeptNeed) -> None:
        self._needs.close(kept.need)

    def reconcile(self, call: Call) -> None:
        """An earlier owner began it, and it must not run twice: ask what became of it."""
        call.state = "running"
        key = self.idempotency_key(call)
        self._scribe.do(a.Reconcile(call_id=call.call_id, tool_name=call.tool_name, idempotency_key=key))

    def poison(self, response: Response, key: int, message: str) -> None:
        """The execution stays in the ledger; what the model reads of it is an error (docs/tools.md)."""
        for call in self.of(response):
            if call.key != key or call.poisoned or not (call.begun or call.state != "done"):
                continue
            call.poisoned = True
            self._scribe.note(CALL_CHANGED, f"{call.tool_name}: {message}")
            if call.begun:
                call.correction = f"the arguments changed after the call had started: {message}"
                self.run_late(call.tool_name)
                self._scribe.do(a.StopEarlyStart(call.tool_name))
            else:
                self._twins.pass_on(call)
                self.answer(call, "error", error=CallError("arguments_changed", f"not executed: {message}"))

    # How a response ends, and a turn

    def commit(self) -> None:
        """The response ended well: calls with effects may run."""
        for call in self.open:
            call.committed = call.over = True

    def let_reads_stand(self) -> None:
        """The response ended, whether well or not: its reads stand, also those that wait for its end."""
        for call in self.open:
            call.over = True

    def answer_held(self, why: str) -> None:
        """Calls that wait for a good end of their response never start."""
        for call in self.open:
            if call.held:
                self.answer(call, "error", error=CallError("not_executed", why))
            elif not call.committed:
                call.hopeless = why

    def answer_unstarted(self, why: str) -> None:
        """The turn ends: whatever has not started never will."""
        self._closed = ("error", CallError("not_executed", why))
        for call in self.open:
            if call.state != "running":
                self._answer_unstarted(call)

    def time_out_waiting(self) -> None:
        for call in self.open:
            if call.state == "waiting":
                self.answer(call, "timeout", error=NOBODY_ANSWERED)

    def cancel(self, why: str) -> None:
        """Calls that wait are answered, those that run are told."""
        self._closed = ("cancelled", CallError("cancelled", why))
        for call in self.open:
            if call.state == "done":
                continue  # with the call whose execution it shared
            if call.state != "running":
                self._answer_unstarted(call)
            elif call.leader is None:
                self._scribe.do(a.CancelTool(call_id=call.call_id))

    def answer(
        self, call: Call, outcome: Outcome, *, output: Json = None, error: CallError | UnsetType = UNSET
    ) -> None:
        """The call's one result, and that of those who share its execution."""
        for each in (call, *call.followers):
            self._conclude(each, Result(outcome=outcome, output=output, error=error))

    # Inside

    def _answer_unstarted(self, call: Call) -> None:
        """What ran when its owner died may have had its effect, though it does not run now."""
        assert self._closed is not None
        outcome, error = self._closed
        if call.interrupted and call.has_effects:
            outcome, error = "unknown", INTERRUPTED
        self.answer(call, outcome, error=error)

    def _approved(self, call: Call, answer: Answer) -> None:
        given = answer.input
        if not isinstance(given, UnsetType) and arguments.canonical_sha256(given) != call.sha256:
            wrong = self.accept(call, given)
            if wrong is not None:
                self.answer(call, "error", error=wrong)
                return
            call.ran_input = given
        call.state = "sealed"

    def join_twins(self) -> None:
        """Sharing an execution takes no place of its own."""
        for call in self._calls.values():
            if call.state == "sealed" and may_start(call):
                self._join(call)

    def _join(self, call: Call) -> bool:
        """Share the execution of an identical ``read`` of the response, if there is one, and what it has shown."""
        leader = self._twins.leader_of(call)
        if leader is None:
            return False
        if not call.interrupted:
            self._say_start(call)
        call.state, call.leader, call.interrupted = "running", leader, False
        missed = self._shown(leader)[len(self._shown(call)) :]
        if missed:
            self._scribe.say_delta(self._result_index(call), missed)
        if leader.came is None:
            leader.followers.append(call)
        else:
            self._conclude(call, _result_of(leader.came))
        return True

    def _start(self, call: Call) -> None:
        self._twins.lead(call)
        goes_on = call.deferred or call.resumed is not None
        call.state, call.deferred, call.interrupted = "running", False, False
        if not goes_on:
            self._say_start(call)
        self._scribe.do(
            a.StartTool(
                call_id=call.call_id,
                round=call.round,
                tool_name=call.tool_name,
                input=arguments.copied(call.input),
                idempotency_key=self.idempotency_key(call),
                resumed=call.resumed,
            )
        )

    def _say_start(self, call: Call) -> None:
        call.started = True
        self._scribe.say(
            e.ToolStart(seq=self._scribe.next_seq(), call_id=call.call_id, tool_name=call.tool_name, index=call.index)
        )

    def _finish(self, call: Call, finished: i.ToolFinished) -> None:
        call.came = finished
        for each in (call, *call.followers):
            result = _result_of(finished)
            if each.correction is not None:
                result = replace(result, outcome="error", error=CallError("arguments_changed", each.correction))
                each.correction = None
            self._conclude(each, result)

    def _defer(self, call: Call) -> None:
        """It asks to run once its response has ended; after that end there is nothing to wait for. Those that share its
        execution wait with it."""
        if call.committed or (call.over and not call.has_effects):
            error = CallError("not_now", "the tool asked to be run after the response, which has ended")
        elif call.hopeless is not None:
            error = CallError("not_executed", call.hopeless)
        else:
            call.state, call.deferred = "sealed", True
            return
        self._finish(call, i.ToolFinished(call_id=call.call_id, outcome="error", error=error))

    def _conclude(self, call: Call, result: Result) -> None:
        if call.state == "done":
            return
        call.state = "done"
        if call.leader is not None and call in call.leader.followers:
            call.leader.followers.remove(call)
        if call.ran_input is not None:
            result = replace(result, ran_input=call.ran_input)
        close_result(self._scribe, self._result_index(call), result)
        if call.need is not None:
            self._needs.close(call.need)
            call.need = None

    def _intent(self, call: Call) -> Intent:
        return Intent(
            call_id=call.call_id,
            round=call.round,
            index=call.index,
            tool_name=call.tool_name,
            input=call.input,
            input_sha256=call.sha256,
            idempotency_key=self.idempotency_key(call),
        )

    def idempotency_key(self, call: Call) -> str:
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
                self._scribe, call_id=call.call_id, tool_name=call.tool_name, round=call.round, origin=call.origin
            )
        return call.result_index

    def _shown(self, call: Call) -> str:
        """What its tool has shown so far."""
        turn, index = self._scribe.turn, call.result_index
        if index is None:
            return ""
        return turn.open[index].text if index in turn.open else turn.closed[index].text


def _result_of(finished: i.ToolFinished) -> Result:
    return Result(
        outcome=finished.outcome,
        output=finished.output,
        error=finished.error,
        bytes=finished.bytes,
        href=finished.href,
    )
