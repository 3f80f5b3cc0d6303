"""One turn: do what its machine decides, and tell it what came of it.

The machine decides; children (the request to the model, the tools, the timers) bring inputs, and are cancelled by its
word alone, or with the whole turn at shutdown. ``receive`` runs without an await, so nothing falls between a decision
and its record. Whoever follows reads the live log; the journal's tail gets the same line in the same step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.ask import Ask
from legato.core.blocks import CallError, Json
from legato.core.calls import CALL_CHANGED
from legato.core.endings import HANDED_ON
from legato.core.errors import InvalidRequest, StoreError
from legato.core.messages import CORRECTION
from legato.core.records import Answer, Intent, KeptSteer, Reading, Rest, Span, StoredTurn, TurnEnding, TurnRow
from legato.core.resuming import RELEASED, Stored
from legato.core.turn import TurnMachine
from legato.core.usage import UNKNOWN
from legato.observability import count
from legato.ports import Provider
from legato.runtime.calls.toolbox import CancelFlag, StartedCall
from legato.runtime.house import House
from legato.runtime.model.asking import Question
from legato.runtime.model.backoff import backoff
from legato.runtime.model.requests import Requests
from legato.runtime.owning.owner import is_gone
from legato.runtime.reading.live import LiveLog
from legato.runtime.storing.journal import PersistenceFailedError, Tail
from legato.runtime.timeline import TimelineRecorder

_logger = logging.getLogger(__name__)

SOFT_SHARE = 0.8
"""Of a turn's seconds: a round that would begin later than this is the last."""


class TakenUp(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a turn that goes on with a new owner: its rows, its log, and where its time went.
    ``begun_by`` has by call id the process that was about to start it. ``wait_until`` is set where the turn waited;
    ``wait_over``: nobody answered until then."""

    turn: StoredTurn
    stored: Stored
    begun_by: Mapping[str, str | None]
    spans: Sequence[Span]
    cancelled: bool
    wait_until: str | None
    wait_over: bool


class TurnRunner:
    """``run`` it once, in a task that nothing but shutdown cancels. ``seconds`` bounds the time it runs, waiting aside.

    ``taken_up``: it goes on where an earlier owner left it. ``early_start_off`` is told of a tool whose calls must not
    start early any more, in any turn.
    """

    def __init__(
        self,
        house: House,
        *,
        row: TurnRow,
        principal: str,
        machine: TurnMachine,
        provider: Provider,
        ask_with: Callable[[], Awaitable[Question]],
        seconds: float,
        began: float,
        early_start_off: Callable[[str], None],
        taken_up: TakenUp | None = None,
    ) -> None:
        self.row = row
        self.principal = principal
        self.machine = machine
        earlier = () if taken_up is None else taken_up.spans
        after = None if taken_up is None else taken_up.turn.row.last_seq
        # What a later owner says begins with a rewind. If that were heard and not stored, the owner after it might
        # rewind less far, to what a reader had dropped by then (met by `legato torture` 2026-11, seed 7).
        self.live = LiveLog(first_seq=row.epoch * e.EPOCH_SIZE + 1, after=after, hidden=taken_up is not None)
        self.timeline = TimelineRecorder(now=house.clock.monotonic, began=began, earlier=earlier)
        self._house = house
        self._provider = provider
        self._seconds = seconds
        self._early_start_off = early_start_off
        self._taken_up = taken_up
        self._counted = taken_up is None
        self._tail: Tail = house.journal.tail(row.id, epoch=row.epoch, seq=row.epoch * e.EPOCH_SIZE)
        self._tail.on_stored = self.live.trim
        self._tail.on_failure = self._not_stored
        self._tail.last_word = self._end_not_stored
        self._backlog = house.journal.backlog
        self._readings: dict[str, Reading] = {} if taken_up is None else dict(taken_up.turn.readings)
        self._requests = Requests(
            house, row=row, ask_with=ask_with, tail=self._tail, readings=self._readings, timeline=self.timeline
        )
        self._state: dict[str, Json] = {}
        self._flags: dict[str, CancelFlag] = {}
        self._questions: dict[str, asyncio.Future[Answer]] = {}
        self._request: anyio.CancelScope | None = None
        self._tasks: TaskGroup | None = None
        self._ended = anyio.Event()
        self.over = anyio.Event()
        """Set by whoever ran it, when nothing of it runs any more."""
        self._last: e.TurnEnd | e.TurnWaiting | None = None
        self._releasing = False
        self.lost = False
        """The turn is not this process' any more; whatever it would still do is not done."""

    async def run(self) -> None:
        """Returns when ``turn_end``, or ``turn_waiting``, is stored and said."""
        timers = self._timers()
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._begin()
                self._perform()
                if self._taken_up is not None:
                    tasks.start_soon(self._show_once_counted)
                await self._ended.wait()
                tasks.cancel_scope.cancel()
        except Exception:  # the supervisor of this turn: whatever breaks in it ends it alone
            _logger.exception("turn %s broke", self.row.id)
            count("turns_broken")
            self._end_broken()
        finally:
            for timer in timers:
                timer.cancel()
        await self._say_last()

    def hear_of(self, news: i.EarlyStartOff) -> None:
        """What concerns every turn; it asks for nothing to be done, and may come while the machine is being asked."""
        self.machine.receive(news)

    @property
    def unstored(self) -> PersistenceFailedError | None:
        """Why what it said could not all be stored, its end included; None if it is, or is another owner's to say."""
        return None if self.lost else self._tail.failure

    def receive(self, input: i.Input) -> None:
        """Tell the machine, and do what it wants."""
        if not self._owned():
            return
        self.machine.receive(input)
        self._perform()

    def release(self) -> None:
        """Let go of the turn at the next boundary of a block, for whoever takes it up. ``lose`` lets go at once."""
        self._releasing = True
        self._let_go_at_boundary()

    def let_go(self) -> None:
        """At once, in the middle of a block if need be; what was said is stored, and that this is no crash."""
        if not self.lost and self._last is None and not self._ended.is_set():
            self._releasing = False
            self._tail.withdraw_intents()  # else their calls might have run, for all that the next owner knows
            self.receive(i.Noted(code=RELEASED, message=HANDED_ON))
            self._stop()

    async def quiet(self) -> None:
        """Wait until it says nothing more: it has ended, is at rest, or was let go of."""
        await self._ended.wait()

    @property
    def let_go_of(self) -> bool:
        """It ended here without the turn's end: somebody must take it up."""
        return self.lost or self._last is None

    def lose(self) -> None:
        """The turn is another owner's, or will be: say nothing, start nothing and write nothing more. Readers' streams
        end without ``turn_end``, and they come back."""
        if not self.lost:
            self.lost = True
            self._tail.on_failure = None
            self._tail.fail(PersistenceFailedError("the turn is another owner's", stale=True))
            self._stop()

    @property
    def hears(self) -> bool:
        """What people say to it is its own to answer, its end included."""
        return not self.lost and not self.machine.waiting and (self.machine.ended or not self._ended.is_set())

    async def kept(self) -> None:
        """Wait until all that was said so far is stored. Raises ``PersistenceFailedError``."""
        await self._tail.stored()

    def stored(self) -> StoredTurn:
        """The turn so far as rows, open blocks left out."""
        turn = self.machine.turn
        blocks = tuple(block for _, block in sorted(turn.closed.items()))
        return StoredTurn(row=self.row, blocks=blocks, rounds=turn.rounds, readings=self._readings)

    def _begin(self) -> None:
        """From the first event, or from what is stored."""
        taken_up = self._taken_up
        if taken_up is None:
            self.machine.start()
        else:
            self.machine.resume(taken_up.stored, cancelled=taken_up.cancelled, wait_over=taken_up.wait_over)

    def _may_act(self) -> bool:
        """Asked from any thread, just before something is started."""
        return not self.lost and not self._house.lease.over

    def _owned(self) -> bool:
        """Every input asks: a process that was stopped may wake up with any of them. What comes to a turn that was let
        go of is for its next owner."""
        if not self.lost and self._house.lease.over:
            count("leases_lost")
            self.lose()
        return not self.lost and not self._ended.is_set()

    def _let_go_at_boundary(self) -> None:
        """What is said so far is stored by ``run``; the next owner goes on from there."""
        if self._releasing and not self.machine.said_half:
            self.let_go()

    def _stop(self) -> None:
        self._ended.set()
        self.live.close()

    # What the machine wants

    def _perform(self) -> None:
        for action in self.machine.take():
            if isinstance(action, e.BlockDelta):  # first, since nearly every action is one
                line = e.encode(action)
                self.live.append(line)
                self._tail.add_line(line, action.seq)
            elif isinstance(action, e.BaseEvent):
                self._record(action)
            else:
                self._do(action)
        self.live.wake()
        if self._releasing:
            self._let_go_at_boundary()

    def _record(self, event: e.Event) -> None:
        """Say an event that is no delta, and note what it brings beside the log."""
        line = e.encode(event)
        self._tail.add_line(line, event.seq)
        self.timeline.see(event, self.machine.turn, held=self._has_effects)
        match event:
            case e.TurnEnd():
                self._last = event
                self._tail.end(self._ending(event), self.timeline.spans())
                self._ended.set()
                return
            case e.TurnWaiting():
                self._last = event
                self._tail.rest(Rest(wait_until=self._wait_until()), self.timeline.spans())
                self._ended.set()
                return
            case e.Rewind():
                self._drop_rows(event)
            case e.BlockStop():
                self._tail.add_block(self.machine.turn.closed[event.index])
            case e.Steer():
                self._tail.put_steer(KeptSteer(steer_id=event.steer_id, text=event.text, state=event.state))
                if event.state == "delivered":
                    self._tail.put_round(self.machine.turn.rounds[-1])
            case e.RoundStart() | e.RoundStop() | e.Notice():
                for record in self.machine.turn.rounds:
                    if record.round == event.round:
                        self._tail.put_round(record)
                if isinstance(event, e.Notice) and event.code == CALL_CHANGED:
                    self._keep_corrections()
            case _:
                pass
        self.live.append(line)

    def _keep_corrections(self) -> None:
        """A call that had begun when it proved wrong: what the model must read instead of its result is stored with the
        notice, so that a next owner knows it, who may have to run the call again."""
        for call_id, text in self.machine.corrections.items():
            if call_id not in self._readings:
                self._readings[call_id] = Reading(call_id=call_id, text=text, formatter=CORRECTION, version=1)
                self._tail.add_readings([self._readings[call_id]])

    def _do(self, action: a.Action) -> None:
        tasks = self._tasks
        assert tasks is not None
        match action:
            case a.CallModel():
                self._request = anyio.CancelScope()
                tasks.start_soon(self._ask, action, self._request)
            case a.StopModel():
                if self._request is not None:
                    self._request.cancel()
            case a.StoreIntent():
                self._tail.add_intent(msgspec.structs.replace(action.intent, owner=self.row.owner))
                tasks.start_soon(self._store_intent, action.intent)
            case a.StartTool():
                flag = self._flags[action.call_id] = CancelFlag()
                tasks.start_soon(self._run_tool, action, flag)
            case a.Reconcile():
                flag = self._flags[action.call_id] = CancelFlag()
                tasks.start_soon(self._reconcile, action, flag)
            case a.CancelTool():
                self._flags[action.call_id].cancel()
            case a.TellTool():
                self._tell(action.answer)
            case a.StoreNeed():
                self._tail.add_need(action.need)
            case a.TakeAnswer():
                self._tail.answered(action.call_id, action.nr)
            case a.StopEarlyStart():
                self._early_start_off(action.tool_name)
            case _:
                raise TypeError(f"not an action: {action!r}")

    def _drop_rows(self, rewind: e.Rewind) -> None:
        """What is stored and does not stand any more. What the new owner says anew has other rows by then."""
        if self._taken_up is None:
            return
        rows = self._taken_up.turn
        stands = {standing.index for standing in rewind.blocks if standing.state != "open"}
        rounds = {(record.round, record.attempt) for record in self.machine.turn.rounds}
        self._tail.drop(
            [block.index for block in rows.blocks if block.index not in stands],
            [(record.round, record.attempt) for record in rows.rounds if (record.round, record.attempt) not in rounds],
        )

    def _wait_until(self) -> str:
        """From the first rest on: who answers one of two needs gives the other no longer."""
        earlier = None if self._taken_up is None else self._taken_up.wait_until
        return earlier or self._house.clock.after(self._house.wait_timeout)

    def _has_effects(self, tool_name: str) -> bool:
        rule = self.machine.plan.tools.get(tool_name)
        return rule is not None and rule.effect != "read"

    def _ending(self, event: e.TurnEnd) -> TurnEnding:
        return TurnEnding(
            status=event.status,
            stop_reason=event.stop_reason,
            usage=event.usage,
            error=None if not isinstance(event.error, e.ErrorInfo) else event.error,
            ended_at=self._house.clock.now(),
        )

    # The request to the model

    async def _ask(self, asked: a.CallModel, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await self._once_counted()
                if asked.retry:
                    await anyio.sleep(backoff(asked.retry, asked.retry_after))
                request = await self._prepare(asked)
                self.receive(i.RequestSent(len(msgspec.json.encode((request.system, request.tools, request.messages)))))
                if self.lost:
                    return
                await self._provider.stream(request, self._hear)
                self._fail(scope, "provider_cut", "the response came to no end", retryable=True)
            except PersistenceFailedError:
                return  # the tail has told the machine
            except StoreError as error:
                self._fail(scope, error.code, error.message, retryable=True)
            except InvalidRequest as error:
                self._fail(scope, error.code, error.message)
            except Exception:  # the provider's pump: a bug in it is this response's failure, and nobody else's
                _logger.exception("the request of turn %s broke", self.row.id)
                count("requests_broken")
                self._fail(scope, "internal", "the request to the model broke; the server's log says how")

    def _hear(self, batch: Sequence[i.ProviderInput]) -> Awaitable[object] | None:
        """What one wake-up brought: all of it is decided first, then said in one piece."""
        if not self._owned():
            return None
        receive = self.machine.receive
        for said in batch:
            receive(said)
        self._perform()
        backlog = self._backlog
        return backlog if backlog.bytes > backlog.limit else None

    def _fail(self, scope: anyio.CancelScope, code: str, message: str, *, retryable: bool = False) -> None:
        """The response has failed, unless its end was heard: then the machine is past it, perhaps in the next one."""
        if self._request is scope:
            self.receive(i.ResponseFailed(error=e.ErrorInfo(code=code, message=message, retryable=retryable)))

    async def _prepare(self, asked: a.CallModel) -> Ask:
        request = await self._requests.make(asked, stored=self.stored, corrections=self.machine.corrections)
        request, dropped = self._provider.fit(request)
        for left_out in dropped:
            self.receive(i.Noted(code=left_out.code, message=left_out.message))
        return request

    # The tools

    async def _store_intent(self, intent: Intent) -> None:
        try:
            await self._tail.stored()
        except PersistenceFailedError:
            return  # the tail has told the machine
        self.receive(i.IntentStored(call_id=intent.call_id))

    async def _once_counted(self) -> None:
        """That the turn was taken up is stored before anything of it runs: one that brings its server down would do so
        for ever if nobody could count how often."""
        if not self._counted:
            with contextlib.suppress(PersistenceFailedError):  # the machine was told, and stops what is about to start
                await self._tail.stored()
            self._counted = True

    async def _show_once_counted(self) -> None:
        await self._once_counted()
        if not self.lost:
            self.live.show()

    async def _run_tool(self, started: a.StartTool, flag: CancelFlag) -> None:
        await self._once_counted()
        call = StartedCall(
            turn_id=self.row.id,
            chat_id=self.row.chat_id,
            call_id=started.call_id,
            tool_name=started.tool_name,
            input=started.input,
            principal=self.principal,
            idempotency_key=started.idempotency_key,
            epoch=self.row.epoch,
            state=self._state,
            owned=self._may_act,
            resumed=started.resumed,
            ask=partial(self._ask_person, started.call_id),
        )
        end = await self._house.toolbox.run(call, emit=partial(self._emit, started.call_id), cancel=flag)
        del self._flags[started.call_id]
        self.receive(end)

    async def _reconcile(self, asked: a.Reconcile, flag: CancelFlag) -> None:
        await self._once_counted()
        begun_by = None if self._taken_up is None else self._taken_up.begun_by.get(asked.call_id)
        end = await self._house.toolbox.reconcile(
            turn_id=self.row.id,
            call_id=asked.call_id,
            tool_name=asked.tool_name,
            idempotency_key=asked.idempotency_key,
            epoch=self.row.epoch,
            dead=begun_by is not None and is_gone(begun_by),
            cancel=flag,
        )
        del self._flags[asked.call_id]
        self.receive(end)

    def _emit(self, call_id: str, text: str) -> None:
        self.receive(i.ToolEmitted(call_id=call_id, text=text))

    async def _ask_person(self, call_id: str, message: str, input_schema: dict[str, Json] | None) -> Answer:
        """A running tool asks; whoever answers may be gone with this process, and the tool with it."""
        told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._questions[call_id] = told
        try:
            self.receive(i.ToolAsked(call_id=call_id, message=message, input_schema=input_schema))
            return await told
        finally:
            del self._questions[call_id]

    def _tell(self, answer: Answer) -> None:
        told = self._questions.get(answer.call_id)
        if told is not None and not told.done():  # the tool may have stopped asking
            told.set_result(answer)

    # The end

    def _timers(self) -> Sequence[asyncio.TimerHandle]:
        """Of the turn's own time. Timers and no task: every turn has them, and few turns see them run out."""
        loop = asyncio.get_running_loop()
        return (
            loop.call_later(self._seconds * SOFT_SHARE, self.receive, i.TimeUp(kind="soft")),
            loop.call_later(self._seconds, self.receive, i.TimeUp(kind="hard")),
        )

    def _not_stored(self, failure: PersistenceFailedError) -> None:
        if failure.stale:
            self.lose()
            return
        self.receive(i.Interrupted(error=e.ErrorInfo(code=failure.code, message=failure.message, retryable=True)))

    def _end_not_stored(self, failure: PersistenceFailedError) -> tuple[bytes, TurnEnding]:
        """The end that nobody has heard yet, as the store lets it be."""
        assert self._last is not None
        self._last = end = _not_kept(self._last, failure)
        return e.encode(end), self._ending(end)

    def _end_broken(self) -> None:
        """The tasks of the turn are gone: answer what they owe, and end."""
        message = "the turn broke; the server's log says how"
        self.machine.receive(i.Interrupted(error=e.ErrorInfo(code="internal", message=message)))
        while not self._ended.is_set() and not self.lost:
            actions = self.machine.take()
            if not actions:  # it broke before it could say anything, or in its end: what is stored ends it
                self._tail.on_failure = None
                self._tail.fail(PersistenceFailedError(message))
                self._stop()
            for action in actions:
                if isinstance(action, e.BaseEvent):
                    self._record(action)
                elif isinstance(action, a.CancelTool):
                    error = CallError("internal", message)
                    self.machine.receive(i.ToolFinished(call_id=action.call_id, outcome="unknown", error=error))
        self.live.wake()

    async def _store_what_was_said(self) -> None:
        """For the next owner, where there is something to store and this one may still."""
        try:
            await self._tail.stored()
        except PersistenceFailedError:
            pass  # it is another owner's, or its spool has it

    async def _say_last(self) -> None:
        """The last word is stored before it is said; if it cannot be, that is what is said. Who let go has none."""
        last = self._last
        if last is None or self.lost:
            await self._store_what_was_said()
            return
        try:
            await self._tail.stored()
            last = self._last or last  # the journal may have had it said otherwise
        except PersistenceFailedError as failure:
            last = _not_kept(last, failure)
        self.live.append(e.encode(last))
        self.live.show()
        if isinstance(last, e.TurnEnd):
            self.live.close()
        else:
            self.live.leave()


def _not_kept(last: e.TurnEnd | e.TurnWaiting, failure: PersistenceFailedError) -> e.TurnEnd:
    """In the place of the turn's last word."""
    error = e.ErrorInfo(code=failure.code, message=failure.message, retryable=True)
    usage = last.usage if isinstance(last, e.TurnEnd) else UNKNOWN
    return e.TurnEnd(seq=last.seq, status="error", stop_reason="error", usage=usage, error=error)
