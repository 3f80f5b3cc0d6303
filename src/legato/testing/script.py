"""What an upstream answers, in our words: a ``Script`` of steps that plays on both wires, or one of the ways to fail.

A script without an ``End`` ends by itself: ``calls`` if it has a ``Call``, else ``end``. Each ``Think``, ``Say`` and
``Call`` is a block of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from legato.core.blocks import Json

Wire: TypeAlias = Literal["anthropic", "openai_chat"]
Reason: TypeAlias = Literal["end", "calls", "pause", "length", "refusal", "other"]
FailureKind: TypeAlias = Literal[
    "auth",
    "bad_gateway",
    "context_overflow",
    "invalid_request",
    "not_found",
    "overloaded",
    "quota",
    "rate_limit",
    "server_error",
    "timeout",
    "too_large",
]
Ending: TypeAlias = Literal["eof", "reset", "complete"]

ARGUMENT_PIECE = 16  # characters of a call's arguments in a delta, as the script provider sends them (docs/testing.md)
WORD = re.compile(r"\s*\S+|\s+\Z")


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """When the deltas of a step come; at once if nothing is said.

    ``pace`` is deltas a second and ``over`` the seconds all of them take together: the wait stands before each delta,
    so a block of n deltas takes n / pace, or ``over``. ``gaps`` gives each its own wait in seconds, ``at`` each its
    time in seconds from the response's first byte. Times are counted from the response's start and from a gate's
    release: one that came late delays no other.
    ``pieces`` are the deltas themselves, where they matter.
    """

    pace: float = 0
    over: float | None = None
    gaps: Sequence[float] | None = None
    at: Sequence[float] | None = None
    pieces: Sequence[str] | None = None


class Think(Paced, frozen=True):
    """Thinking, signed by a hash of the text where the wire signs. ``signed=False`` leaves the signature out, as a
    response that dies early does. ``redacted``: the words are sent as opaque data, where the wire can."""

    text: str
    signed: bool = True
    redacted: bool = False

    def deltas(self) -> Sequence[str]:
        return self.pieces if self.pieces is not None else words(self.text)


class Say(Paced, frozen=True):
    """Text; a delta is a word with the white space before it. ``first`` is text the block starts with already.
    ``stop=False`` leaves the block's stop out, where the wire has one."""

    text: str
    first: str = ""
    stop: bool = True

    def deltas(self) -> Sequence[str]:
        return self.pieces if self.pieces is not None else words(self.text)


class Call(Paced, frozen=True):
    """A tool call. ``raw`` is sent as it is in place of ``input``, valid JSON or not. ``id`` is made up if it is None.

    ``early_input`` sends ``input`` whole with the block's start and no delta (Anthropic). ``stop=False`` leaves the
    block's stop out. ``piece`` is characters a delta.
    """

    name: str
    input: Mapping[str, Json] = {}
    raw: str | None = None
    id: str | None = None
    piece: int = ARGUMENT_PIECE
    early_input: bool = False
    stop: bool = True

    @property
    def arguments(self) -> str:
        return msgspec.json.encode(self.input).decode() if self.raw is None else self.raw

    def deltas(self) -> Sequence[str]:
        if self.pieces is not None:
            return self.pieces
        text = self.arguments
        return [text[at : at + self.piece] for at in range(0, len(text), self.piece)]


class AfterSeal(msgspec.Struct, frozen=True, kw_only=True):
    """More for the ``call``-th call (from 0) though its arguments were whole, as broken vendors do."""

    call: int
    arguments: str = ""
    name: str = ""


class Wait(msgspec.Struct, frozen=True):
    """Nothing for so many seconds."""

    seconds: float


class Gate(msgspec.Struct, frozen=True):
    """The stream stands here until the test releases the gate."""

    name: str


class Ping(msgspec.Struct, frozen=True):
    """What the wire sends to keep a connection open: an event, or a comment."""


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the body, as they are: frames this writer does not know, or garbage. Each wire sends its own."""

    anthropic: bytes = b""
    openai_chat: bytes = b""

    @classmethod
    def garbage(cls, data: bytes = b"\x00\xff<!doctype html>\n\n") -> Raw:
        return cls(anthropic=data, openai_chat=data)


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """The stream breaks here; with ``into``, after so many bytes of the frame that would come next.

    ``eof`` closes the connection, ``reset`` resets it, ``complete`` ends the HTTP body as if nothing were missing.
    """

    how: Ending = "eof"
    into: int = 0


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """Silence until the client hangs up; with ``pings``, but for a ping each so many seconds."""

    pings: float | None = None


class ErrorEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor's error inside a 200 stream, which ends there."""

    kind: FailureKind = "overloaded"
    message: str | None = None


class End(msgspec.Struct, frozen=True):
    """The end as the wire says it. ``raw`` is the vendor's word for it, where another than the usual one is meant."""

    reason: Reason
    raw: str | None = None


Step: TypeAlias = Think | Say | Call | AfterSeal | Wait | Gate | Ping | Raw | Cut | Stall | ErrorEvent | End


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens the vendor reports. ``input_tokens`` includes neither cache figure; each wire sums as it does. Without
    ``output_tokens`` the deltas are counted."""

    input_tokens: int = 25
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int | None = None
    reasoning_tokens: int = 0


class ChatStyle(msgspec.Struct, frozen=True, kw_only=True):
    """How a vendor bends the chat completions wire; the defaults are OpenAI's own (seen 2026-11)."""

    reasoning: Literal["reasoning_content", "reasoning", "reasoning_details", "think_tag"] = "reasoning_content"
    index: Literal["counted", "missing", "null", "zero"] = "counted"
    calls: Literal["pieces", "whole", "cumulative"] = "pieces"
    ids: Literal["first", "each", "late"] = "first"
    names: Literal["first", "each", "late", "pieces"] = "first"
    first_delta: Literal["empty", "null"] = "empty"
    usage: Literal["last", "finish", "never"] = "last"


class Script(msgspec.Struct, frozen=True):
    """One response. ``lag`` is seconds before its headers, ``quiet`` seconds between them and the first event.
    ``frames_per_write`` frames leave in one write (0: all that are due), or ``bytes_per_write`` bytes of the body,
    whatever they cut through."""

    steps: Sequence[Step]
    lag: float = 0
    quiet: float = 0
    usage: Figures = Figures()
    chat_style: ChatStyle = ChatStyle()
    frames_per_write: int = 1
    bytes_per_write: int | None = None

    @property
    def reason(self) -> Reason:
        """How it ends where no step says so."""
        return "calls" if any(isinstance(step, Call) for step in self.steps) else "end"

    @property
    def output_tokens(self) -> int:
        if self.usage.output_tokens is not None:
            return self.usage.output_tokens
        return sum(len(step.deltas()) for step in self.steps if isinstance(step, Think | Say | Call))


class Failure(msgspec.Struct, frozen=True):
    """A status with the vendor's body instead of a stream. ``status`` is the vendor's own for the kind unless given;
    ``retry_after`` is seconds or an HTTP date, as it goes into the header."""

    kind: FailureKind
    status: int | None = None
    retry_after: str | None = None
    message: str | None = None


class HangUp(msgspec.Struct, frozen=True):
    """The connection is closed before any header, or reset; after ``lag`` seconds."""

    how: Literal["eof", "reset"] = "reset"
    lag: float = 0


class Recording(msgspec.Struct, frozen=True):
    """A recorded body, sent byte for byte. ``pace`` is frames a second (0: at once)."""

    body: bytes | Path
    pace: float = 0
    frames_per_write: int = 1
    bytes_per_write: int | None = None

    def bytes(self) -> bytes:
        return self.body.read_bytes() if isinstance(self.body, Path) else self.body


Answer: TypeAlias = Script | Failure | HangUp | Recording


def words(text: str) -> list[str]:
    """Words with the white space before each; what is left at the end is one more."""
    return WORD.findall(text)
