"""One vector: events, the same merged, and the turn they make, as JSON for any language (README.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from legato.core import events as e
from legato.core.blocks import Block
from legato.core.fold import Turn
from legato.core.records import RoundRecord
from legato.core.usage import Usage
from legato.core.views import WaitingFor

HERE = Path(__file__).parent


class FoldedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What a fold says. Fields of a block that do not apply are left out."""

    turn_id: str
    chat_id: str
    prev_turn_id: str | None
    created_at: str
    status: e.TurnStatus
    stop_reason: e.TurnStopReason | None
    last_seq: int
    usage: Usage
    error: e.ErrorInfo | None
    waiting_for: tuple[WaitingFor, ...]
    rounds: tuple[RoundRecord, ...]
    blocks: tuple[Block, ...]


class Vector(msgspec.Struct, frozen=True, kw_only=True):
    """``events`` and ``squashed`` are the bytes of each event as it is said."""

    name: str
    about: str
    events: tuple[msgspec.Raw, ...]
    squashed: tuple[msgspec.Raw, ...]
    turn: FoldedTurn


def folded(turn: Turn) -> FoldedTurn:
    return FoldedTurn(
        turn_id=turn.turn_id,
        chat_id=turn.chat_id,
        prev_turn_id=turn.prev_turn_id,
        created_at=turn.created_at,
        status=turn.status,
        stop_reason=turn.stop_reason,
        last_seq=turn.last_seq,
        usage=turn.usage,
        error=turn.error,
        waiting_for=tuple(WaitingFor(call_id=need.call_id, kind=need.kind) for need in turn.waiting.values()),
        rounds=turn.rounds,
        blocks=turn.blocks,
    )


def written(*, name: str, about: str, events: Sequence[e.Event], merged: Sequence[e.Event], turn: Turn) -> bytes:
    """The file: one event a line, so that a change is seen where it is."""
    whole = msgspec.json.format(msgspec.json.encode(folded(turn)), indent=2)
    return b"".join(
        [
            b'{\n"name": ' + msgspec.json.encode(name) + b',\n"about": ' + msgspec.json.encode(about) + b",\n",
            b'"events": [\n' + b",\n".join(map(e.encode, events)) + b"\n],\n",
            b'"squashed": [\n' + b",\n".join(map(e.encode, merged)) + b"\n],\n",
            b'"turn": ' + whole + b"\n}\n",
        ]
    )
