"""Values to store, made one after the other, and ways to look at what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import msgspec

from legato.core.blocks import Json, TextBlock
from legato.core.events import BlockDelta, encode
from legato.core.records import (
    Accepted,
    Chat,
    Datum,
    LogSegment,
    NewTurns,
    Role,
    TurnEnding,
    TurnRow,
    TurnWrite,
)
from legato.core.usage import Usage
from legato.ports import Store

WAIT = 20.0  # seconds a test waits for what must come


def at(second: int) -> str:
    return f"2026-11-24T05:{second // 60:02}:{second % 60:02}.000Z"


class Make:
    """Makes one value after the other; each has an id of its own and is a second younger."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def chat(self, **changes: Json) -> Chat:
        number = next(self._numbers)
        chat = Chat(
            id=f"chat-{number}",
            owner="ann",
            title="A talk",
            system=None,
            model=None,
            metadata={},
            head_turn_id=None,
            active_turn_id=None,
            created_at=at(number),
            updated_at=at(number),
        )
        return msgspec.structs.replace(chat, **changes)

    def row(self, chat_id: str, role: Role = "assistant", **changes: Json) -> TurnRow:
        number = next(self._numbers)
        ended_at = at(number) if role == "user" else None
        row = TurnRow(
            id=f"{role}-{number}",
            chat_id=chat_id,
            prev_turn_id=None,
            role=role,
            status="complete" if role == "user" else "queued",
            created_at=at(number),
            depth=1,
            ended_at=ended_at,
        )
        return msgspec.structs.replace(row, **changes)

    def new(self, chat: Chat | str | None = None, *, prev: str | None = None, **assistant: Json) -> NewTurns:
        """A user turn and its answer. ``chat`` is a new one, or the id of one that is there."""
        made = self.chat() if chat is None else chat
        chat_id = made if isinstance(made, str) else made.id
        user = self.row(chat_id, "user", prev_turn_id=prev)
        text = TextBlock(index=0, round=0, state="complete", text="Find the dragon", length=15, sha256="ab")
        return NewTurns(
            owner="ann" if isinstance(made, str) else made.owner,
            chat=None if isinstance(made, str) else made,
            user=user,
            user_write=TurnWrite(turn_id=user.id, epoch=0, segment=self.segment(1, 4), blocks=(text,)),
            assistant=self.row(chat_id, prev_turn_id=user.id, depth=2, **assistant),
        )

    async def begun(self, store: Store, chat: Chat | str | None = None, **changes: Json) -> NewTurns:
        new = self.new(chat, **changes)
        assert await store.begin(new) == Accepted()
        return new

    async def answered(self, store: Store, chat: Chat | str | None = None, **changes: Json) -> NewTurns:
        """A user turn with its answer, ended."""
        new = await self.begun(store, chat, **changes)
        await store.write([self.ending(new.assistant.id)])
        return new

    def segment(self, first: int, last: int) -> LogSegment:
        lines = b"".join(
            encode(BlockDelta(seq=seq, index=0, text=f"w{seq} é")) + b"\n" for seq in range(first, last + 1)
        )
        return LogSegment(first_seq=first, last_seq=last, lines=lines)

    def said(self, turn_id: str, first: int, last: int, *, epoch: int = 0, **more: Json) -> TurnWrite:
        return TurnWrite(turn_id=turn_id, epoch=epoch, segment=self.segment(first, last), **more)

    def ending(self, turn_id: str, *, epoch: int = 0, **changes: Json) -> TurnWrite:
        ending = TurnEnding(
            status="complete",
            stop_reason="end",
            usage=Usage(input_tokens=3, output_tokens=5, cost_usd=0.25, source="reported"),
            error=None,
            ended_at=at(next(self._numbers)),
        )
        return TurnWrite(turn_id=turn_id, epoch=epoch, ending=msgspec.structs.replace(ending, **changes))

    def datum(self, index: int) -> Datum:
        return Datum(index=index, media_type="image/png", sha256="cd", data=b"\x00\xff\x89PNG", name=None)


async def lines(store: Store, turn_id: str, *, after: int = 0) -> bytes:
    return b"".join(segment.lines for segment in await store.log(turn_id, after=after))


async def until(true: Callable[[], Awaitable[bool]], store: Store) -> None:
    """Each ping is a group of its own, after which the store does a step of its chores."""
    async with asyncio.timeout(WAIT):
        while not await true():
            await store.ping()
