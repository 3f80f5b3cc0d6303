"""The provider that needs no key and no network: it plays scripts, echoes, and shows what Legato does.

It speaks as real ones do: the same inputs in the same order, in batches of what one wake-up found due. Times are the
loop's, counted from the start of the response, so that a late wake-up delays nothing behind it.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Sequence

import anyio
import anyio.lowlevel
import msgspec
from msgspec import UNSET

from legato.core.ask import Ask, SentText, SentToolResult
from legato.core.blocks import Block, TextBlock
from legato.core.errors import InvalidRequest
from legato.core.events import StopReason
from legato.core.inputs import (
    BlockClosed,
    BlockOpened,
    Delta,
    ProviderInput,
    ResponseEnded,
    ResponseFailed,
    UsageReported,
)
from legato.core.usage import Usage
from legato.ports import Dropped, ModelInfo, Sink
from legato.providers.failures import failed
from legato.providers.objects import ObjectScanner
from legato.providers.script import Call, End, Fail, Speech, Step, Wait, parse, rounds, script_in
from legato.providers.script_demo import demo

WIRE = "script"

ARGUMENTS_DELTA = 16
"""Characters of a call's arguments in one delta (docs/testing.md)."""
_WORD = re.compile(r"\s*\S+|\s+\Z")
_BATCH = 256
"""Inputs at once at most: about what one read of a socket holds, so that others get their turn."""
_CHARACTERS_A_TOKEN = 4
_MODELS = ("demo", "echo")


class ScriptProvider:
    """Implements ``ports.Provider``. ``idle_timeout`` bounds the fault ``stall``, as it bounds a real provider's."""

    max_retries = 2

    def __init__(self, *, name: str = "script", idle_timeout: float = 120) -> None:
        self.name = name
        self._idle_timeout = idle_timeout

    def models(self) -> Sequence[ModelInfo]:
        return [self._info(name) for name in _MODELS]

    def model(self, name: str) -> ModelInfo | None:
        return self._info(name) if name in _MODELS else None

    def admit(self, model: str, said: Sequence[Block]) -> None:  # noqa: ARG002 - a script runs on any model of ours
        if (source := script_in(said)) is not None:
            parse(source)

    def fit(self, ask: Ask) -> tuple[Ask, Sequence[Dropped]]:
        return ask, ()

    async def stream(self, ask: Ask, sink: Sink) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        batch: list[ProviderInput] = []
        try:
            steps = _steps(ask)
        except InvalidRequest as error:  # it was admitted; a newer rule refuses what an older turn has stored
            sink([failed("provider_rejected", error.message)])
            return
        for delay, said in _played(steps, ask, stalled=self._idle_timeout):
            due += delay
            if due > loop.time():
                if batch:
                    await _heard(sink, batch)
                    batch = []
                # Not `sleep(delay)`: the time since the last wake-up is part of it.
                await anyio.sleep(max(due - loop.time(), 0))
            batch.append(said)
            if len(batch) >= _BATCH:
                await _heard(sink, batch)
                batch = []
                await anyio.lowlevel.checkpoint()
        if batch:
            sink(batch)

    async def close(self) -> None:
        pass

    def _info(self, name: str) -> ModelInfo:
        return ModelInfo(
            id=name,
            provider=self.name,
            display_name=f"Script: {name}",
            input_price=0.0,
            output_price=0.0,
            images=True,
            files=True,
        )


async def _heard(sink: Sink, batch: Sequence[ProviderInput]) -> None:
    """What falls due while the sink has no room is said at once after it, as a socket's buffer would give it."""
    room = sink(batch)
    if room is not None:
        await room


def _steps(ask: Ask) -> list[Step]:
    """What this round plays."""
    source = script_in(ask.said)
    if source is not None:
        return _round_of(rounds(parse(source)), ask.round)
    if ask.model == "echo":
        return [Speech(kind="text", text=_last_words(ask))]
    return demo(ask)


def _round_of(script: Sequence[Sequence[Step]], number: int) -> list[Step]:
    return list(script[number - 1]) if number <= len(script) else [Speech(kind="text", text="done")]


def _last_words(ask: Ask) -> str:
    """Of the user: those of the turn, or of what was said since."""
    if ask.round == 1 and (said := [block.text for block in ask.said if isinstance(block, TextBlock)]):
        return "\n\n".join(said)
    for message in reversed(ask.messages):
        texts = [block.text for block in message.blocks if isinstance(block, SentText)]
        if message.role == "user" and texts:
            return texts[-1]
    return "…"


# ---- playing


def _played(steps: Sequence[Step], ask: Ask, *, stalled: float) -> Iterator[tuple[float, ProviderInput]]:
    """Each input with the seconds between it and the one before."""
    player = _Player()
    for step in steps:
        match step:
            case Wait(seconds=seconds):
                player.delay += seconds
            case Speech():
                yield from player.speech(step)
            case Call():
                yield from player.call(step)
            case End(reason=reason):
                yield from player.end(ask, reason)
                return
            case Fail():
                yield from player.fail(ask, step, stalled)
                return
    yield from player.end(ask, "calls" if player.called else "end")


class _Player:
    """Where a response stands: the open block, and the seconds to wait before the next input."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.called = False
        self._key = 0
        self._speech: Speech | None = None
        self._call: Call | None = None
        self._said = 0

    def speech(self, step: Speech) -> Iterator[tuple[float, ProviderInput]]:
        if self._speech is None or self._speech.kind != step.kind or step.new:
            # The block opens with its first word, not before the wait for it.
            yield from self._close()
            first = True
        else:
            first = False
        self._speech = step
        for word in _WORD.finditer(step.text):
            self.delay += _apart(step.pace)
            if first:
                first = False
                self._key += 1
                yield self._after(BlockOpened(key=self._key, block_type=step.kind))
            yield self._after(Delta(self._key, word[0]))
            self._said += len(word[0])
        if first:
            self._key += 1
            yield self._after(BlockOpened(key=self._key, block_type=step.kind))

    def call(self, step: Call) -> Iterator[tuple[float, ProviderInput]]:
        yield from self._close()
        self.called = True
        self._key += 1
        self._call = step
        yield self._after(
            BlockOpened(key=self._key, block_type="tool_use", tool_name=step.name, provider_call_id=step.id)
        )
        for start in range(0, len(step.arguments), ARGUMENTS_DELTA):
            self.delay += _apart(step.pace)
            yield self._after(Delta(self._key, step.arguments[start : start + ARGUMENTS_DELTA]))
        self._said += len(step.arguments)
        scanner = ObjectScanner()
        scanner.feed(step.arguments)
        if scanner.complete or not scanner.begun:
            yield from self._close()

    def end(self, ask: Ask, reason: StopReason) -> Iterator[tuple[float, ProviderInput]]:
        yield from self._close()
        yield self._after(UsageReported(usage=_estimated(ask, self._said)))
        yield self._after(ResponseEnded(stop_reason=reason, provider_reason=reason))

    def fail(self, ask: Ask, step: Fail, stalled: float) -> Iterator[tuple[float, ProviderInput]]:
        """The stream breaks here: the block that is open stays so."""
        yield self._after(UsageReported(usage=_estimated(ask, self._said)))
        last: ResponseEnded | ResponseFailed
        match step.fault:
            case "overloaded":
                last = failed("provider_overloaded", "the script says overloaded")
            case "cut":
                last = failed("provider_cut", "the script cuts the stream")
            case "bad_json":
                last = failed("provider_garbled", "the script sends what is no JSON")
            case "stall":
                self.delay += stalled
                last = failed("provider_timeout", f"nothing that means something for {stalled:g} s, says the script")
            case "refusal":
                yield from self._close()
                last = ResponseEnded(stop_reason="refusal", provider_reason="refusal")
            case "length":
                if self._call is None:
                    yield from self._close()
                last = ResponseEnded(stop_reason="length", provider_reason="length")
        yield self._after(last)

    def _close(self) -> Iterator[tuple[float, ProviderInput]]:
        speech, call = self._speech, self._call
        self._speech = self._call = None
        if speech is not None:
            if speech.kind == "thinking" and speech.signature is not UNSET:
                kept = {WIRE: {"signature": speech.signature}}
                yield self._after(BlockClosed(key=self._key, signature=speech.signature, provider_data=kept))
            else:
                yield self._after(BlockClosed(key=self._key))
        if call is not None:
            yield self._after(BlockClosed(key=self._key, provider_data={WIRE: {"id": call.id}} if call.id else UNSET))

    def _after(self, said: ProviderInput) -> tuple[float, ProviderInput]:
        delay, self.delay = self.delay, 0.0
        return delay, said


def _apart(pace: float) -> float:
    return 1 / pace if pace else 0.0


def _estimated(ask: Ask, said: int) -> Usage:
    """By the characters; the one figure that is exact is the price."""
    read = len(ask.system or "") + sum(
        len(block.text)
        for message in ask.messages
        for block in message.blocks
        if isinstance(block, SentText | SentToolResult)
    )
    read += sum(len(msgspec.json.encode(tool)) for tool in ask.tools)
    return Usage(
        input_tokens=math.ceil(read / _CHARACTERS_A_TOKEN),
        output_tokens=math.ceil(said / _CHARACTERS_A_TOKEN),
        cost_usd=0.0,
        source="estimated",
    )
