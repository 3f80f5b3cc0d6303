"""A machine and the few words in which an example is told to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from msgspec import UNSET
from tests.core.turns import RETRYABLE, TOOLS

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Block, CallError, Json, Outcome, ToolResultBlock, ToolUseBlock
from legato.core.events import ErrorInfo, StopReason
from legato.core.fold import Turn
from legato.core.plan import TurnLimits, TurnPlan
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
    """The turn has been started. Calls are named by their place among all complete calls of ours, from 0."""

    def __init__(self, *, tools: Mapping[str, ToolRule] = TOOLS, epoch: int = 0, limits: TurnLimits = USUAL) -> None:
        plan = TurnPlan(
            turn_id="turn",
            chat_id="chat",
            prev_turn_id="asked",
            created_at="2026-11-24T00:00:00.000Z",
            model="m",
            provider="p",
            tools=tools,
            limits=limits,
        )
        self.machine = TurnMachine(plan, epoch=epoch)
        self.machine.start()
        self.actions: list[a.Action] = self.machine.take()

    def say(self, *said: Said) -> list[a.Action]:
        """What the machine wants done after all of this."""
        for each in said:
            for one in each if isinstance(each, Iterable) else [each]:
                self.machine.receive(one)
        actions = self.machine.take()
        self.actions += actions
        return actions

    def store(self, place: int) -> list[a.Action]:
        return self.say(i.IntentStored(call_id=self.call(place).call_id))

    def emit(self, place: int, shown: str) -> list[a.Action]:
        return self.say(i.ToolEmitted(call_id=self.call(place).call_id, text=shown))

    def finish(self, place: int, outcome: Outcome = "ok", output: Json = "done") -> list[a.Action]:
        error = UNSET if outcome == "ok" else CallError(outcome, "it said why")
        return self.say(i.ToolFinished(call_id=self.call(place).call_id, outcome=outcome, output=output, error=error))

    @property
    def turn(self) -> Turn:
        return self.machine.turn

    @property
    def events(self) -> list[e.Event]:
        return [action for action in self.actions if isinstance(action, e.BaseEvent)]

    @property
    def calls(self) -> list[ToolUseBlock]:
        return [
            block
            for block in self.turn.blocks
            if isinstance(block, ToolUseBlock) and block.state == "complete" and block.origin == "server"
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
        ids = [block.call_id for block in self.calls]
        return [ids.index(action.call_id) for action in self.actions if isinstance(action, a.StartTool)]

    @property
    def intents(self) -> list[int]:
        """Whose intent was to be stored, in order."""
        ids = [block.call_id for block in self.calls]
        return [ids.index(action.intent.call_id) for action in self.actions if isinstance(action, a.StoreIntent)]

    @property
    def told(self) -> list[int]:
        """Which calls were told to stop."""
        ids = [block.call_id for block in self.calls]
        return [ids.index(action.call_id) for action in self.actions if isinstance(action, a.CancelTool)]

    @property
    def asked(self) -> list[a.CallModel]:
        return [action for action in self.actions if isinstance(action, a.CallModel)]

    def end(self) -> str | None:
        """How the turn ended: ``status, stop_reason``."""
        return f"{self.turn.status}, {self.turn.stop_reason}" if self.machine.ended else None

    @property
    def notices(self) -> list[str]:
        return [event.code for event in self.events if isinstance(event, e.Notice)]

    def block(self, index: int) -> Block:
        return self.turn.blocks[index]
