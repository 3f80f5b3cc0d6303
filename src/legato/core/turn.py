"""The turn machine: inputs in, actions out. Everything that decides what a turn does next lives here.

It is synchronous, knows no clock and no I/O, and never raises for what the outside did: an input that comes too late
is ignored. ``receive`` decides, ``take`` hands over what is to be done, in order. Replay is the same machine fed the
same inputs.

::

    new ──start──▶ answering ──the response ended, or died with a sealed call──▶ settling ──all answered──▶ answering
                       │                                                          │
                       └───── cancel, limit, refusal, failure ──▶ settling ───────┼──▶ ended
                                                                                  └──▶ waiting, for people and clients

A machine that waits is at rest: what comes next is for the machine of the turn's next owner, which begins with
``resume`` (core/resuming.py) where this one began with ``start``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, assert_never

from msgspec import UNSET
from msgspec.structs import replace

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.calls import Calls
from legato.core.endings import BY_CANCEL, BY_REPLACE, CANCELLED, GOES_ON, INTERRUPTED, REFUSED, Ending
from legato.core.fold import Turn
from legato.core.plan import HARD_END, SOFT_END, TurnPlan
from legato.core.recalled import Recalled
from legato.core.records import RoundRecord
from legato.core.response import Response
from legato.core.results import stop_partial
from legato.core.resuming import RECOVERED, Standing, Stored, lost_requests
from legato.core.scribe import Scribe
from legato.core.steers import Steers
from legato.core.text import clean
from legato.core.usage import UNKNOWN, total

_Phase: TypeAlias = Literal["new", "answering", "settling", "waiting", "ended"]


class TurnMachine:
    def __init__(self, plan: TurnPlan, *, epoch: int = 0) -> None:
        self.plan = plan
        self._scribe = Scribe(epoch=epoch, blocks=plan.limits.blocks)
        self._calls = Calls(
            self._scribe,
            turn_id=plan.turn_id,
            tools=plan.tools,
            client_tools=plan.client_tools,
            per_round=plan.limits.calls_per_round,
            parallel=plan.limits.parallel_calls,
        )
        self._steers = Steers(self._scribe)
        self._provider_calls: dict[str, str] = {}
        self._response = self._new_response(0, 0)
        self._phase: _Phase = "new"
        self._ending: Ending | None = None
        self._stops_after: i.CancelMode | None = None
        self._last_round = False
        self._time_is_short = False
        self._failures = 0
        self._after_seq = 0
        self._retry_after: float | None = None
        self._unreported = False
        self._noted: set[tuple[str, str]] = set()
        self._lost_requests = 0
        self._attempts: dict[int, int] = {}

    @property
    def turn(self) -> Turn:
        """The fold of everything said so far."""
        return self._scribe.turn

    @property
    def ended(self) -> bool:
        return self._phase == "ended"

    @property
    def waiting(self) -> bool:
        """At rest, until somebody answers."""
        return self._phase == "waiting"

    @property
    def said_half(self) -> bool:
        """A block of the model is open."""
        starts = [block.start for block in self.turn.open.values()]
        return any(start.block_type != "tool_result" or start.origin == "provider" for start in starts)

    @property
    def corrections(self) -> dict[str, str]:
        return self._calls.corrections

    def start(self) -> None:
        self._scribe.begin(self.plan)
        self._steers.accept_kept(self.plan.steers)
        self._phase = "settling"
        if self.plan.cancelled:
            self._halt(BY_CANCEL, CANCELLED)
        else:
            self._ask()

    def resume(self, stored: Stored, *, cancelled: bool = False, wait_over: bool = False) -> None:
        """Instead of ``start``: go on as the turn's next owner, with what was answered meanwhile. ``cancelled``: a
        cancel was asked for; ``wait_over``: nobody answered within ``wait_timeout``."""
        standing, cancelled = Standing(stored), cancelled or self.plan.cancelled
        self._scribe.take_over(standing.turn)
        self._provider_calls |= standing.provider_calls
        self._attempts = standing.attempts
        self._lost_requests = lost_requests(stored.events, standing.turn)
        self._stand_up(standing, cancelled=cancelled)
        for kept in stored.needs:
            if kept.answer is not None and not kept.taken:
                self._calls.answered(kept.answer, nr=kept.need.nr)
        if wait_over:
            self._calls.time_out_waiting()
        if cancelled:
            self._halt(BY_CANCEL, CANCELLED)
        else:
            self._calls.ask_approvals()
            self._go_on()

    def receive(self, input: i.Input) -> None:
        match input:
            case i.Delta():  # first, since nearly every input is one
                self._delta(input)
            case i.BlockOpened():
                self._block_opened(input)
            case i.BlockClosed():
                self._block_closed(input)
            case i.CallPoisoned():
                self._call_poisoned(input)
            case i.UsageReported():
                self._usage_reported(input)
            case i.RequestSent():
                self._response.asked = input.bytes
            case i.ResponseEnded():
                self._response_ended(input)
            case i.ResponseFailed():
                self._response_failed(replace(input, error=replace(input.error, message=clean(input.error.message))))
            case i.IntentStored():
                self._calls.intent_stored(input.call_id)
            case i.ToolEmitted():
                self._tool_emitted(input)
            case i.ToolFinished() | i.ToolDeferred() | i.ToolNeedsInput():
                self._tool_ended(input)
            case i.ToolAsked():
                self._calls.ask(input)
            case i.Answered():
                self._answered(input)
            case i.Steered():
                self._steered(input)
            case i.WaitOver():
                self._wait_over()
            case i.EarlyStartOff():
                self._calls.run_late(input.tool_name)
            case i.CancelRequested():
                self._cancel(input)
            case i.TimeUp():
                self._time_up(input)
            case i.Interrupted():
                self._halt(Ending("error", "error", input.error), f"not executed: {input.error.message}")
            case i.Noted():
                self._noted_once(input)
            case _:
                assert_never(input)

    def take(self) -> list[a.Action]:
        """What is to be done, in order; it is handed over once."""
        taken, self._scribe.actions = self._scribe.actions, []
        return taken

    # The next owner

    def _stand_up(self, standing: Standing, *, cancelled: bool) -> None:
        """Rewind to what stands, and settle what became of the last response and its calls."""
        last = standing.last
        asks_again = not cancelled and standing.in_the_air and standing.last_sealed is None
        to = standing.turn.last_seq
        if last is not None and asks_again:
            to = last.started - 1
            self._lost_requests += 1
        recalled = Recalled(self._calls, standing)
        self._scribe.rewind(to, standing.blocks(to=to, cut=recalled.said_anew))
        if not standing.begun:
            self._scribe.begin(self.plan)
        if not standing.waited:
            self._scribe.note(RECOVERED, GOES_ON)
        self._steers.accept_kept(standing.steers)
        self._last_round = standing.last_was_told_to_end
        self._unreported = standing.unreported
        self._phase = "settling"
        if last is None:
            if not cancelled:
                self._ask()
            return
        self._response = self._new_response(last.record.round, last.record.attempt)
        if asks_again:
            self._ask_again(recalled)
        elif standing.in_the_air:
            self._settle_the_air(standing, recalled, cancelled=cancelled)
        else:
            self._settle_the_ground(last.record, recalled, cancelled=cancelled)

    def _ask_again(self, recalled: Recalled) -> None:
        """The same round anew; nothing of the response before is in front of a reader any more."""
        recalled.settle()
        self._time_is_short = self._last_round
        self._response = self._new_response(self._response.round - 1, 0)
        self._ask()

    def _settle_the_air(self, standing: Standing, recalled: Recalled, *, cancelled: bool) -> None:
        """A response that was being read is adopted up to its last sealed call; at a cancel, whole."""
        for index, block in sorted(self.turn.open.items()):
            if block.start.block_type != "tool_result" or block.start.origin == "provider":
                stop_partial(self._scribe, index)
        kept_to = standing.last_said if cancelled else standing.last_sealed
        self._stop_round("orphaned" if kept_to is None else "adopted", "other", "interrupted", kept_to=kept_to)
        recalled.settle()
        self._calls.let_reads_stand()
        if not cancelled:
            self._calls.answer_held("not executed: the reply was interrupted")

    def _settle_the_ground(self, record: RoundRecord, recalled: Recalled, *, cancelled: bool) -> None:
        """A response that had ended stands as it was judged; what was to follow from that follows now."""
        recalled.settle()
        if cancelled:
            return
        if record.stop_reason == "refusal":
            self._ending = Ending("complete", "refusal")
            self._calls.cancel(REFUSED)
        elif record.commitment == "orphaned":
            self._try_again(INTERRUPTED)
        elif record.stop_reason == "pause" and not self._out_of_rounds:
            self._ask()
        elif record.stop_reason in ("end", "calls"):
            self._calls.ask_clients()
        else:
            self._calls.answer_held("not executed: the reply was cut off")

    # The response

    def _delta(self, delta: i.Delta) -> None:
        if self._phase == "answering":
            self._response.grow(delta)
            if self._scribe.seq >= self._scribe.full_at:
                self._out_of_events()

    def _block_opened(self, opened: i.BlockOpened) -> None:
        if self._phase != "answering":
            return
        if self._scribe.is_full():
            self._out_of_events()
        elif self._scribe.next_index >= self.plan.limits.blocks:
            self._out_of_blocks()
        else:
            self._failures = 0
            self._response.open(opened)

    def _block_closed(self, closed: i.BlockClosed) -> None:
        if self._phase != "answering":
            return
        sealed = self._response.close(closed)
        if sealed is not None:
            self._unreported = True
            self._calls.seal(self._response, sealed, last_round=self._last_round)
        if self._stops_after == "after_block" and not self.said_half:
            self._halt(BY_CANCEL, CANCELLED)
        elif sealed is not None:
            self._calls.start_ready()

    def _call_poisoned(self, poisoned: i.CallPoisoned) -> None:
        if self._phase == "answering":
            self._calls.poison(self._response, poisoned.key, poisoned.message)
            self._calls.start_ready()

    def _usage_reported(self, report: i.UsageReported) -> None:
        if self._phase == "answering":
            self._response.usage = report.usage

    def _response_ended(self, ended: i.ResponseEnded) -> None:
        if self._phase != "answering":
            return
        self._failures = 0
        self._response.close_partial()
        match ended.stop_reason:
            case "end" | "calls":
                self._stop_round("committed", ended.stop_reason, ended.provider_reason)
                if self._stops_after != "after_block":
                    self._calls.commit()
                    self._calls.ask_clients()
            case "pause":
                self._stop_round("committed", "pause", ended.provider_reason)
                if not self._out_of_rounds and self._stops_after is None:
                    # The calls of a paused response stay as they are: those that run go on, those held stay held.
                    self._calls.let_reads_stand()
                    self._calls.start_ready()
                    self._ask()
                    return
                self._calls.answer_held("not executed: the reply was paused, and no round is left to go on with it")
            case "length" | "other":
                self._cut_off(ended.stop_reason, ended.provider_reason)
            case "refusal":
                self._stop_round("orphaned", "refusal", ended.provider_reason)
                self._ending = Ending("complete", "refusal") if self._stops_after is None else BY_CANCEL
                self._calls.cancel(REFUSED)
        self._settle()

    def _cut_off(self, stop_reason: Literal["length", "other"], provider_reason: str | None) -> None:
        if stop_reason == "other":
            self._scribe.note("provider_stop", f"the provider stopped with {provider_reason!r}; taken as cut off")
        self._stop_round("committed", stop_reason, provider_reason)
        self._calls.let_reads_stand()
        self._calls.answer_held("not executed: the reply was cut off")

    def _response_failed(self, failed: i.ResponseFailed) -> None:
        if self._phase != "answering":
            return
        self._retry_after = failed.retry_after
        if not self._response.began:
            self._stop_round("orphaned", "other", failed.error.code)
            self._try_again(failed.error)
            return
        self._response.close_partial()
        sealed = self._calls.of(self._response)
        if sealed:
            self._failures += 1
            self._scribe.note("provider_failed", f"the reply was interrupted ({failed.error.message}); its calls stand")
            self._stop_round("adopted", "other", failed.error.code, kept_to=max(call.index for call in sealed))
            self._calls.let_reads_stand()
            self._calls.answer_held("not executed: the reply was interrupted")
        else:
            self._adopt_what_was_said(failed.error.code)
            self._ending = Ending("error", "error", failed.error)
            self._calls.answer_unstarted("not executed: the reply was interrupted")
        self._settle()

    def _try_again(self, error: e.ErrorInfo) -> None:
        """Nothing of the response was seen, so asking again repeats nothing (hazard 21). It is stopped by now."""
        if self._stops_after is not None:
            self._halt(BY_CANCEL, CANCELLED)
        elif error.retryable and self._response.attempt <= self.plan.limits.retries:
            self._failures += 1
            self._scribe.note("provider_retry", f"{error.message}; asking again")
            self._request(self._response.round, self._response.attempt + 1)
            self._after_seq = self._after_seq or self._first_after
            self._call_model()
        else:
            self._ending = Ending("error", "error", error)
            self._calls.answer_unstarted("not executed: the turn ended in an error")
            self._settle()

    def _adopt_what_was_said(self, provider_reason: str | None, *, drops: bool = False) -> None:
        """The response dies, and what it said so far stays in the history; of nothing, nothing stays."""
        if self._response.began and not drops:
            self._stop_round("adopted", "other", provider_reason, kept_to=self._response.last_index)
        else:
            self._stop_round("orphaned", "other", provider_reason)

    def _stop_round(
        self,
        commitment: e.Commitment,
        stop_reason: e.StopReason,
        provider_reason: str | None,
        *,
        kept_to: int | None = None,
    ) -> None:
        response = self._response
        whole = commitment == "committed" or stop_reason == "refusal"
        self._scribe.say(
            e.RoundStop(
                seq=self._scribe.next_seq(),
                round=response.round,
                attempt=response.attempt,
                commitment=commitment,
                stop_reason=stop_reason,
                provider_reason=None if provider_reason is None else clean(provider_reason),
                usage=response.usage if whole else response.used_at_death(self.plan.prices),
                kept_to=UNSET if kept_to is None else kept_to,
            )
        )
        self._phase = "settling"

    # The calls

    def _tool_emitted(self, emitted: i.ToolEmitted) -> None:
        if not self._scribe.is_full():
            self._calls.emit(emitted.call_id, emitted.text)
            if self._scribe.is_full():
                self._out_of_events()

    def _tool_ended(self, end: i.ToolEnd) -> None:
        if self._calls.ended(end):
            self._go_on()

    def _answered(self, answered: i.Answered) -> None:
        if self._phase != "waiting" and self._calls.answered(answered.answer, nr=answered.nr):
            self._go_on()

    def _steered(self, steered: i.Steered) -> None:
        if self._phase not in ("new", "waiting", "ended"):
            self._steers.accept(steered.steer_id, steered.text)

    def _wait_over(self) -> None:
        if self._phase != "waiting":
            self._calls.time_out_waiting()
            self._go_on()

    def _go_on(self) -> None:
        """A call has come further; others may start."""
        if self._phase == "answering":
            self._calls.start_ready()
        else:
            self._settle()

    # What comes next

    @property
    def _out_of_rounds(self) -> bool:
        return self._last_round or self._response.round >= self.plan.limits.rounds

    def _settle(self) -> None:
        """Between responses: start what may start, and go on once every call is answered."""
        if self._phase != "settling":
            return
        if self._ending is None:
            if self._stops_after == "after_block":
                self._halt(BY_CANCEL, CANCELLED)  # no block is left to be waited for, however the response ended
                return
            self._calls.start_ready()
        if self._calls.open:
            if self._ending is not None or not self._calls.rest:
                return
            if self._stops_after is not None:
                self._halt(BY_CANCEL, CANCELLED)
            else:
                self._phase = "waiting"
                self._scribe.say(e.TurnWaiting(seq=self._scribe.next_seq()))
            return
        if self._ending is not None:
            self._end(self._ending)
        elif self._stops_after is not None:
            self._end(BY_CANCEL)
        elif not self._goes_on and not self._is_steered_on:
            self._end(self._natural_end())
        elif self._out_of_rounds:
            self._end(Ending("complete", self._limit))
        else:
            self._unreported = False
            self._ask()

    @property
    def _is_steered_on(self) -> bool:
        """The model is done, and there is something that it has not read."""
        return bool(self._steers.pending) and not self._out_of_rounds and self._natural_end().status == "complete"

    def _natural_end(self) -> Ending:
        """The model is done."""
        record = self.turn.rounds[-1]
        if record.commitment == "adopted":
            return Ending("error", "error", INTERRUPTED)
        if record.stop_reason in ("length", "other"):
            return Ending("complete", record.stop_reason)
        limited = self._last_round and self._response.round > 1
        return Ending("complete", self._limit if limited else "end")

    @property
    def _limit(self) -> Literal["limit_rounds", "limit_seconds"]:
        """Why this round was the last."""
        return "limit_rounds" if self._response.round >= self.plan.limits.rounds else "limit_seconds"

    @property
    def _goes_on(self) -> bool:
        """The model is not done: it waits for results, or paused."""
        return self._unreported or self.turn.rounds[-1].stop_reason == "pause"

    def _ask(self) -> None:
        """The next round. One that goes on with a paused reply is told nothing: the reply must stand last."""
        number = self._response.round + 1
        goes_on = bool(self.turn.rounds) and self.turn.rounds[-1].stop_reason == "pause"
        limit = self.plan.limits.rounds
        has_tools = bool(self.plan.tools or self.plan.client_tools)
        self._last_round = has_tools and (number >= limit or self._time_is_short)
        self._request(number, self._attempts.get(number, 0) + 1)
        if self._last_round:
            self._scribe.tell("rounds_last", HARD_END, round=number)
        elif has_tools and number == limit - 1 and number > 1:
            self._scribe.tell("rounds_soft", SOFT_END, round=number)
        self._after_seq = self._first_after if number == 1 else self._scribe.seq
        if not goes_on and self._steers.pending:
            self._steers.deliver()
            self._after_seq = self._scribe.seq
        self._call_model()

    @property
    def _first_after(self) -> int:
        """What the first request waits for: nothing, since what it answers was stored before the turn began. A later
        owner's waits for the rewind: a turn that brings its server down must not do so for ever."""
        return 0 if self._scribe.is_first_owner else self._scribe.seq

    def _request(self, round: int, attempt: int) -> None:
        self._response = self._new_response(round, attempt)
        self._phase = "answering"
        self._scribe.say(
            e.RoundStart(
                seq=self._scribe.next_seq(),
                round=round,
                attempt=attempt,
                model=self.plan.model,
                provider=self.plan.provider,
            )
        )

    def _new_response(self, round: int, attempt: int) -> Response:
        return Response(
            self._scribe,
            turn_id=self.plan.turn_id,
            round=round,
            attempt=attempt,
            argument_limit=self.plan.limits.argument_bytes,
            provider_calls=self._provider_calls,
            client_tools=self.plan.client_tools,
        )

    def _call_model(self) -> None:
        self._scribe.do(
            a.CallModel(
                round=self._response.round,
                attempt=self._response.attempt,
                last=self._last_round,
                after_seq=self._after_seq,
                retry=self._failures,
                retry_after=self._retry_after,
            )
        )
        self._retry_after = None

    def _cancel(self, asked: i.CancelRequested) -> None:
        """Now, or once what the model says has come to an end; the strictest of several counts. Between responses no
        block is waited for, and nobody is at rest. One that has not begun is begun cancelled."""
        if self._phase == "new":
            self.plan = replace(self.plan, cancelled=True)
        elif asked.mode == "now" or (asked.mode == "after_block" and self._phase != "answering"):
            self._halt(BY_REPLACE if asked.drops else BY_CANCEL, CANCELLED)
        elif self._phase not in ("new", "waiting", "ended") and self._stops_after != "after_block":
            self._stops_after = asked.mode
            if asked.mode == "after_block":
                self._calls.start_no_more()
            self._settle()

    def _time_up(self, up: i.TimeUp) -> None:
        if up.kind == "soft":
            self._time_is_short = True
        else:
            self._halt(Ending("complete", "limit_seconds"), "not executed: the turn's time is up")

    def _out_of_events(self) -> None:
        self._halt(Ending("complete", "limit_events"), "not executed: the turn has too many events")

    def _out_of_blocks(self) -> None:
        limit = self.plan.limits.blocks
        message = f"turn has {self._scribe.next_index + 1} blocks, limit is {limit}"
        error = e.ErrorInfo(code="limit_blocks", message=message)
        self._halt(Ending("error", "error", error), f"not executed: {message}")

    def _halt(self, ending: Ending, why: str) -> None:
        """Stop here, keeping what was said. The facts are settled first; the model's task is dropped after."""
        if self._phase in ("new", "waiting", "ended"):
            return
        if self._ending is None or (self._ending.status != "cancelled" and ending.status != "complete"):
            self._ending = ending  # a limit that is met while the turn ends already does not hide why it does
        if self._phase == "answering":
            self._response.close_partial()
            self._adopt_what_was_said(None, drops=ending.drops)
            self._scribe.do(a.StopModel())
        self._calls.cancel(why)
        self._settle()

    def _noted_once(self, noted: i.Noted) -> None:
        if self._phase in ("new", "waiting", "ended") or self._scribe.is_full():
            return
        if (noted.code, noted.message) not in self._noted:
            self._noted.add((noted.code, noted.message))
            self._scribe.note(noted.code, noted.message)

    def _end(self, ending: Ending) -> None:
        self._phase = "ended"
        self._steers.give_back()
        self._scribe.say(
            e.TurnEnd(
                seq=self._scribe.next_seq(),
                status=ending.status,
                stop_reason=ending.stop_reason,
                usage=total((*(record.usage for record in self.turn.rounds), *[UNKNOWN] * self._lost_requests)),
                error=UNSET if ending.error is None else ending.error,
            )
        )
