"""A machine and the few words in which an example is told to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from tests.core.turns import RETRYABLE, TOOLS

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Block, CallError, Json, Outcome, ToolResultBlock, ToolUseBlock
from legato.core.events import ErrorInfo, StopReason
from legato.core.fold import Turn
from legato.core.plan import TurnLimits, TurnPlan
from legato.core.records import Answer, KeptNeed
from legato.core.resuming import Stored
from legato.core.schedule import ToolRule
from legato.core.turn import TurnMachine
from legato.core.usage import Usage

Said: TypeAlias = i.Input | Iterable[i.Input]


def text(key: int, *pieces: str) -> list[i.Input]:
    return [
        i.BlockOpened(key=key, block_type="text"),
        *[i.Delta(key, piece) for piece in pieces],
        i.BlockClosed(key=key),
    ]


def thinking(key: int, words: str, signature: str | None = None) -> list[i.Input]:
    closed = i.BlockClosed(key=key) if signature is None else i.BlockClosed(key=key, signature=signature)
    return [i.BlockOpened(key=key, block_type="thinking"), i.Delta(key, words), closed]


def opened(key: int, tool_name: str = "look") -> i.BlockOpened:
    return i.BlockOpened(key=key, block_type="tool_use", tool_name=tool_name)


def call(key: int, tool_name: str = "look", raw: str | None = None) -> list[i.Input]:
    """Each of a response with its own arguments, where none are given: identical reads share one execution."""
    raw = f'{{"call":{key}}}' if raw is None else raw
    deltas = [i.Delta(key, raw)] if raw else []
    return [opened(key, tool_name), *deltas, i.BlockClosed(key=key)]


def provider_call(key: int, provider_id: str) -> list[i.Input]:
    return [
        i.BlockOpened(key=key, block_type="tool_use", tool_name="web", origin="provider", provider_call_id=provider_id),
        i.BlockClosed(key=key),
    ]


def provider_result(key: int, provider_id: str, output: Json = "found") -> list[i.Input]:
    return [
        i.BlockOpened(
            key=key, block_type="tool_result", tool_name="web", origin="provider", provider_call_id=provider_id
        ),
        i.BlockClosed(key=key, output=output),
    ]


def ended(reason: StopReason = "calls", provider_reason: str | None = None) -> i.ResponseEnded:
    return i.ResponseEnded(stop_reason=reason, provider_reason=provider_reason)


def failed(error: ErrorInfo = RETRYABLE, retry_after: float | None = None) -> i.ResponseFailed:
    return i.ResponseFailed(error=error, retry_after=retry_after)


def used(read: int, written: int) -> i.UsageReported:
    return i.UsageReported(usage=Usage(input_tokens=read, output_tokens=written, source="reported"))


USUAL = TurnLimits()
CANCEL = i.CancelRequested()


class Play:
    """The turn has been started. Calls are named by their place among all complete calls of ours, from 0.

    ``intents`` and ``needs`` are what is kept of them, of this owner and of those before it.
    """

    def __init__(
        self,
        *,
        tools: Mapping[str, ToolRule] = TOOLS,
        client_tools: tuple[str, ...] = (),
        epoch: int = 0,
        limits: TurnLimits = USUAL,
        before: Play | None = None,
        lost: int = 0,
        cancelled: bool = False,
        wait_over: bool = False,
    ) -> None:
        self.plan = TurnPlan(
            turn_id="turn",
            chat_id="chat",
            prev_turn_id="asked",
            created_at="2026-11-24T00:00:00.000Z",
            model="m",
            provider="p",
            tools=tools,
            client_tools=client_tools,
            limits=limits,
        )
        self.epoch = epoch
        self.actions: list[a.Action] = []
        self.kept_events: list[e.Event] = []
        self.intents_kept: set[str] = set()
        self.needs: dict[tuple[str, int], KeptNeed] = {}
        self.seen_before: list[e.Event] = []
        self.machine = TurnMachine(self.plan, epoch=epoch)
        if before is None:
            self.machine.start()
        else:
            before.leave_to(self, lost=lost)
            stored = Stored(events=self.kept_events, intents=self.intents_kept, needs=tuple(self.needs.values()))
            self.machine.resume(stored, cancelled=cancelled, wait_over=wait_over)
        self._take()

    def next(
        self,
        *,
        lost: int = 0,
        cancelled: bool = False,
        wait_over: bool = False,
        tools: Mapping[str, ToolRule] | None = None,
    ) -> Play:
        """The turn's next owner, after this one died or let go. ``lost`` of this one's last events are not stored."""
        return Play(
            tools=self.plan.tools if tools is None else tools,
            client_tools=tuple(self.plan.client_tools),
            epoch=self.epoch + 1,
            limits=self.plan.limits,
            before=self,
            lost=lost,
            cancelled=cancelled,
            wait_over=wait_over,
        )

    def answered(
        self,
        place: int,
        decision: Literal["approve", "deny"] | UnsetType = UNSET,
        *,
        input: dict[str, Json] | UnsetType = UNSET,
        reason: str | UnsetType = UNSET,
        output: Json | UnsetType = UNSET,
    ) -> Play:
        """The owner that somebody's answer wakes."""
        assert self.machine.waiting
        self.answer(place, decision, input=input, reason=reason, output=output, told=False)
        return self.next()

    def leave_to(self, heir: Play, *, lost: int) -> None:
        """What is stored of this turn. A need, and that an answer was taken, are stored with the event before them."""
        heir.seen_before = self.seen
        heir.kept_events = [*self.kept_events, *self.events[: len(self.events) - lost]]
        heir.intents_kept = set(self.intents_kept)
        stored_to = heir.kept_events[-1].seq if heir.kept_events else 0
        mine, taken, seq = set[tuple[str, int]](), set[tuple[str, int]](), 0
        for action in self.actions:
            if isinstance(action, e.BaseEvent):
                seq = action.seq
            elif isinstance(action, a.StoreNeed) and seq > stored_to:
                mine.add((action.need.call_id, action.need.nr))
            elif isinstance(action, a.TakeAnswer) and seq > stored_to:
                taken.add((action.call_id, action.nr))
        for key, kept in self.needs.items():
            if key not in mine:
                heir.needs[key] = replace(kept, taken=False) if key in taken else kept

    def say(self, *said: Said) -> list[a.Action]:
        """What the machine wants done after all of this."""
        for each in said:
            for one in each if isinstance(each, Iterable) else [each]:
                self.machine.receive(one)
        return self._take()

    def _take(self) -> list[a.Action]:
        actions = self.machine.take()
        self.actions += actions
        for action in actions:
            match action:
                case a.StoreNeed(need):
                    self.needs[need.call_id, need.nr] = KeptNeed(need=need)
                case a.TakeAnswer(call_id=call_id, nr=nr):
                    self.needs[call_id, nr] = replace(self.needs[call_id, nr], taken=True)
                case _:
                    pass
        return actions

    def store(self, place: int) -> list[a.Action]:
        """Its intent."""
        self.intents_kept.add(self.call(place).call_id)
        return self.say(i.IntentStored(call_id=self.call(place).call_id))

    def emit(self, place: int, shown: str) -> list[a.Action]:
        return self.say(i.ToolEmitted(call_id=self.call(place).call_id, text=shown))

    def finish(self, place: int, outcome: Outcome = "ok", output: Json = "done") -> list[a.Action]:
        error = UNSET if outcome == "ok" else CallError(outcome, "it said why")
        return self.say(i.ToolFinished(call_id=self.call(place).call_id, outcome=outcome, output=output, error=error))

    # What people and clients say

    def answer(
        self,
        place: int,
        decision: Literal["approve", "deny"] | UnsetType = UNSET,
        *,
        input: dict[str, Json] | UnsetType = UNSET,
        reason: str | UnsetType = UNSET,
        output: Json | UnsetType = UNSET,
        error: CallError | UnsetType = UNSET,
        told: bool = True,
    ) -> list[a.Action]:
        """Somebody answers: it is stored, unless an answer is there already, and the machine is ``told``."""
        call_id = self.call(place).call_id
        answer = Answer(call_id=call_id, decision=decision, input=input, reason=reason, output=output, error=error)
        key = max((key for key in self.needs if key[0] == call_id), default=None)
        if key is not None and self.needs[key].answer is None:
            self.needs[key] = replace(self.needs[key], answer=answer)
        return self.say(i.Answered(answer=answer)) if told else []

    def need(self, place: int) -> KeptNeed | None:
        """The newest of the call's."""
        call_id = self.call(place).call_id
        return next((kept for kept in reversed(self.needs.values()) if kept.need.call_id == call_id), None)

    @property
    def waits(self) -> dict[int, str]:
        """What readers see waited for: calls by place, with the kind."""
        ids = [block.call_id for block in self.calls]
        return {ids.index(need.call_id): need.kind for need in self.turn.waiting.values()}

    @property
    def turn(self) -> Turn:
        return self.machine.turn

    @property
    def events(self) -> list[e.Event]:
        return [action for action in self.actions if isinstance(action, e.BaseEvent)]

    @property
    def seen(self) -> list[e.Event]:
        """What a reader got who was there from the turn's beginning and missed nothing."""
        return [*self.seen_before, *self.events]

    @property
    def calls(self) -> list[ToolUseBlock]:
        return [
            block
            for block in self.turn.blocks
            if isinstance(block, ToolUseBlock) and block.state == "complete" and block.origin != "provider"
        ]

    def call(self, place: int) -> ToolUseBlock:
        return self.calls[place]

    def result(self, place: int) -> ToolResultBlock | None:
        """None while it has not ended."""
        call_id = self.call(place).call_id
        for block in self.turn.blocks:
            if isinstance(block, ToolResultBlock) and block.call_id == call_id and block.state != "open":
                return block
        return None

    def outcome(self, place: int) -> str | None:
        """``ok``, or the outcome with the code of its error; None while it has not ended."""
        result = self.result(place)
        if result is None or result.outcome is None:
            return None
        return f"{result.outcome}: {result.error.code}" if isinstance(result.error, CallError) else result.outcome

    def said_why(self, place: int) -> str:
        """The message of its error."""
        result = self.result(place)
        return result.error.message if result is not None and isinstance(result.error, CallError) else ""

    @property
    def started(self) -> list[int]:
        """Which calls have been started, in the order of their start."""
        return self._places([action.call_id for action in self.actions if isinstance(action, a.StartTool)])

    @property
    def intents(self) -> list[int]:
        """Whose intent was to be stored, in order."""
        return self._places([action.intent.call_id for action in self.actions if isinstance(action, a.StoreIntent)])

    @property
    def told(self) -> list[int]:
        """Which calls were told to stop."""
        return self._places([action.call_id for action in self.actions if isinstance(action, a.CancelTool)])

    @property
    def reconciled(self) -> list[int]:
        """Of which calls it is asked what became of them."""
        return self._places([action.call_id for action in self.actions if isinstance(action, a.Reconcile)])

    @property
    def said_started(self) -> list[int]:
        """Of which calls readers are told that they started."""
        return self._places([event.call_id for event in self.events if isinstance(event, e.ToolStart)])

    @property
    def begun(self) -> list[a.StartTool]:
        return [action for action in self.actions if isinstance(action, a.StartTool)]

    @property
    def rewound_to(self) -> int:
        return next(event.to for event in self.events if isinstance(event, e.Rewind))

    def _places(self, call_ids: list[str]) -> list[int]:
        ids = [block.call_id for block in self.calls]
        return [ids.index(call_id) for call_id in call_ids]

    @property
    def asked(self) -> list[a.CallModel]:
        return [action for action in self.actions if isinstance(action, a.CallModel)]

    def rests(self) -> bool:
        return self.machine.waiting

    def end(self) -> str | None:
        """How the turn ended: ``status, stop_reason``."""
        return f"{self.turn.status}, {self.turn.stop_reason}" if self.machine.ended else None

    @property
    def notices(self) -> list[str]:
        return [event.code for event in self.events if isinstance(event, e.Notice)]

    def block(self, index: int) -> Block:
        return self.turn.blocks[index]
