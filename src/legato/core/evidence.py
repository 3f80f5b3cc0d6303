"""What a store has of a turn, brought together to be read back, and what is found wrong with it.

Unlike a ``StoredTurn`` it is taken as it lies: rows that contradict each other come side by side, and what cannot be
read at all is named instead of raised.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from legato.core.blocks import Block
from legato.core.records import Chat, Datum, Intent, KeptNeed, KeptSteer, LogSegment, Reading, RoundRecord, TurnRow

Promise: TypeAlias = Literal["P2", "P3", "P4", "P5", "P7", "P9"]
"""docs/guarantees.md: what the finding breaks."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="finding"):
    """``place`` is where in the turn, or in the chat where ``turn_id`` is null. ``message`` quotes nobody's words: it
    may be shown to whoever looks after the server."""

    chat_id: str | None
    turn_id: str | None
    place: str
    promise: Promise
    message: str


class Unreadable(msgspec.Struct, frozen=True):
    """``place`` as a finding names it."""

    place: str
    why: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All of one turn at one moment. ``segments`` are unpacked and by ``first_seq``. ``results`` has by call id the
    index that is noted of its result, ``outputs`` the offset and the length of each piece of a call's output, in
    order."""

    row: TurnRow
    segments: tuple[LogSegment, ...] = ()
    blocks: tuple[Block, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()
    intents: tuple[Intent, ...] = ()
    readings: tuple[Reading, ...] = ()
    results: dict[str, int] = {}
    needs: tuple[KeptNeed, ...] = ()
    steers: tuple[KeptSteer, ...] = ()
    data: tuple[Datum, ...] = ()
    outputs: dict[str, tuple[tuple[int, int], ...]] = {}
    unreadable: tuple[Unreadable, ...] = ()


class ChatEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """A chat and all its turns at one moment, oldest first."""

    chat: Chat
    turns: tuple[TurnRow, ...] = ()


class Unended(msgspec.Struct, frozen=True):
    """A turn that has not ended. ``since_ms``: it waits since so many milliseconds after it was made."""

    row: TurnRow
    since_ms: float | None


class FileState(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes`` of the database and of the writes that lie beside it (WAL). ``problems`` are the database's own words
    about its pages; none means that they fit together."""

    bytes: int
    wal_bytes: int
    turns: int
    chats: int
    unpacked: int
    problems: tuple[str, ...]
