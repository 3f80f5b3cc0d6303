"""What the machine wants done.

An event among the actions means: record it, and say it (``turn_end`` and ``turn_waiting`` only once it is stored; after
either the machine is at rest, and what comes later is for the turn's next owner).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from legato.core.blocks import Json
from legato.core.events import Event
from legato.core.records import Answer, Intent, Need, Resumed


class CallModel(msgspec.Struct, frozen=True, kw_only=True):
    """Ask the model, once everything up to seq ``after_seq`` is stored (0: wait for nothing).

    ``last``: no tools this time, the answer must come now. ``retry`` counts the failures in a row before this request
    (0: none): wait as long as the retry rules say, at least ``retry_after`` seconds where the vendor asked for that.
    """

    round: int
    attempt: int
    last: bool
    after_seq: int
    retry: int = 0
    retry_after: float | None = None


class StopModel(msgspec.Struct, frozen=True):
    """Drop the request that runs; nothing of it is wanted any more."""


class StoreIntent(msgspec.Struct, frozen=True):
    """Store it, and all events before it; then say ``IntentStored``."""

    intent: Intent


class StartTool(msgspec.Struct, frozen=True, kw_only=True):
    """Run it; then say one ``ToolEnd``, whatever happens. ``resumed``: it had asked a person, and goes on."""

    call_id: str
    round: int
    tool_name: str
    input: dict[str, Json]
    idempotency_key: str
    resumed: Resumed | None = None


class Reconcile(msgspec.Struct, frozen=True, kw_only=True):
    """A ``write`` may have taken effect before its owner died: ask the outside what became of the key, then say
    ``ToolFinished``, with outcome ``unknown`` where nobody can tell."""

    call_id: str
    tool_name: str
    idempotency_key: str


class TellTool(msgspec.Struct, frozen=True):
    """The answer to a running tool's question."""

    answer: Answer


class StoreNeed(msgspec.Struct, frozen=True):
    """Store it with the ``call_waiting`` before it, so that it can be answered."""

    need: Need


class TakeAnswer(msgspec.Struct, frozen=True):
    """Note that the need has its answer, with the ``call_answered`` before it; or, without one, that it is answered by
    nobody any more: the call was given its result."""

    call_id: str
    nr: int


class StopEarlyStart(msgspec.Struct, frozen=True):
    """Tell every turn of this process ``EarlyStartOff``."""

    tool_name: str


class CancelTool(msgspec.Struct, frozen=True, kw_only=True):
    """Tell it to stop; its ``ToolFinished`` comes within the grace."""

    call_id: str


Action: TypeAlias = (
    Event
    | CallModel
    | StopModel
    | StoreIntent
    | StartTool
    | CancelTool
    | Reconcile
    | TellTool
    | StoreNeed
    | TakeAnswer
    | StopEarlyStart
)
