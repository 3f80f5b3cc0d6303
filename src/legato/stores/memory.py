"""``ports.Store`` in dicts, for tests and for trying things out. It waits where a real store waits, and gives back
values that went through JSON, as rows do: equal ones, never the same ones.

A change is made whole between two awaits: what may be refused is refused on copies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import msgspec

from legato.clock import SystemClock
from legato.core.blocks import ToolResultBlock
from legato.core.errors import Conflict, NotFound, RowRefused, StaleEpoch, StoreUnavailable
from legato.core.inputs import CancelMode
from legato.core.records import (
    LEASE_SECONDS,
    Accepted,
    AlreadyMade,
    Answer,
    Busy,
    Chat,
    Datum,
    Intent,
    KeptNeed,
    KeptSteer,
    LogSegment,
    NewTurns,
    Queued,
    QueueFull,
    Span,
    StoredTurn,
    TurnEnding,
    TurnRow,
    TurnWrite,
)
from legato.core.steers import judged
from legato.ports import CHAT_FIELDS, Begun, ChatField, Clock
from legato.stores import cursors
from legato.stores.kept import ROW, Kept, again
from legato.stores.taken import turn_taken

# What cannot be said as JSON is refused here as a real store refuses it.
GUILTY_ROW = (TypeError, ValueError, OverflowError, RecursionError)

STRICTEST_FIRST: tuple[CancelMode, ...] = ("now", "after_block", "after_round")
_chat = msgspec.json.Decoder(Chat)


class MemoryStore:
    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._chats: dict[str, Chat] = {}
        self._turns: dict[str, Kept] = {}  # in the order they were made
        self._queues: dict[str, list[str]] = {}  # by chat: its queued turns, the next first
        self._spent: set[str] = set()
        self._early: dict[tuple[str, str], str] = {}  # by owner and turn: until when; the oldest first
        self._closed = False

    async def begin(self, new: NewTurns) -> Begun:
        await self._wait()
        if (made := self._turns.get(new.assistant.id)) is not None:
            return AlreadyMade(again(ROW, made.row), self._chats[made.row.chat_id].owner)
        chat = self._chat_for(new)
        active = chat.active_turn_id
        waiting = [turn_id for turn_id in self._queues.get(chat.id, []) if turn_id != active]
        if active is not None and new.on_busy == "reject":
            return Busy(active)
        if active is not None and len(waiting) >= new.queue_limit:
            return QueueFull(len(waiting))
        added: dict[str, Kept] = {}
        if new.user is not None:
            added[new.user.id] = self._new_turn(new.user, added)
            added[new.user.id].data = {datum.index: datum for datum in new.user_data}
            if new.user_write is not None:
                for turn_id, ending in self._take([new.user_write], added):
                    chat = _freed(chat, turn_id, ending)
        row = new.assistant
        if active is not None:
            row = msgspec.structs.replace(row, status="queued", owner=None, lease_until=None)
        added[row.id] = self._new_turn(row, added)
        self._turns |= added
        self._chats[chat.id] = msgspec.structs.replace(
            chat,
            head_turn_id=row.id,
            active_turn_id=active or (row.id if row.ended_at is None else None),
            updated_at=max(chat.updated_at, row.created_at),
        )
        cancelled = self._early.pop((new.owner, row.id), "") > self._clock.now()
        if cancelled:
            self._note_cancel(row.id, "now")
        if active is None:
            return Accepted(cancelled=cancelled)
        first = [active] if active in self._queues.get(chat.id, []) else []
        ahead, behind = ([row.id], waiting) if new.on_busy == "in_front" else (waiting, [row.id])
        self._queues[chat.id] = [*first, *ahead, *behind]
        if new.on_busy == "in_front":
            self._note_cancel(active, "now")
        return Queued(active, cancelled=cancelled)

    async def write(self, writes: Sequence[TurnWrite]) -> None:
        await self._wait()
        changed: dict[str, Kept] = {}
        ended = self._take(writes, changed)
        self._turns |= changed
        for turn_id, ending in ended:
            chat = self._chats[changed[turn_id].row.chat_id]
            self._leave_queue(chat.id, turn_id)
            self._chats[chat.id] = _freed(chat, turn_id, ending, next(iter(self._queues.get(chat.id, [])), None))

    async def request_cancel(self, turn_id: str, *, mode: CancelMode = "now") -> None:
        await self._wait()
        self._note_cancel(turn_id, mode)

    async def cancel_early(self, owner: str, turn_id: str, *, seconds: float, limit: int) -> None:
        await self._wait()
        now = self._clock.now()
        self._early.pop((owner, turn_id), None)
        early = [*self._early.items(), ((owner, turn_id), self._clock.after(seconds))]
        self._early = dict([one for one in early if one[1] > now][-limit:])

    async def turn(self, turn_id: str) -> TurnRow | None:
        await self._wait()
        kept = self._turns.get(turn_id)
        return None if kept is None else again(ROW, kept.row)

    async def load(self, turn_id: str) -> StoredTurn | None:
        await self._wait()
        kept = self._turns.get(turn_id)
        return None if kept is None else kept.stored()

    async def branch(self, leaf: str, *, limit: int | None = None) -> Sequence[StoredTurn]:
        await self._wait()
        upwards: list[StoredTurn] = []
        kept = self._turns.get(leaf)
        while kept is not None and (limit is None or len(upwards) < limit):
            upwards.append(kept.stored())
            kept = None if kept.row.prev_turn_id is None else self._turns.get(kept.row.prev_turn_id)
        return upwards[::-1]

    async def log(self, turn_id: str, *, after: int) -> Sequence[LogSegment]:
        await self._wait()
        kept = self._turns.get(turn_id)
        return [] if kept is None else kept.log(after)

    async def spans(self, turn_id: str) -> Sequence[Span]:
        await self._wait()
        kept = self._turns.get(turn_id)
        return () if kept is None else kept.spans[1]

    async def intents(self, turn_id: str) -> Sequence[Intent]:
        await self._wait()
        kept = self._turns.get(turn_id)
        intents = () if kept is None else kept.intents.values()
        return sorted(intents, key=lambda intent: (intent.round, intent.index, intent.call_id))

    async def datum(self, turn_id: str, index: int) -> Datum | None:
        await self._wait()
        kept = self._turns.get(turn_id)
        return None if kept is None else kept.data.get(index)

    async def siblings(self, row: TurnRow) -> Sequence[str]:
        await self._wait()
        place = (row.chat_id, row.prev_turn_id, row.role)
        rows = [kept.row for kept in self._turns.values()]
        return [one.id for one in rows if (one.chat_id, one.prev_turn_id, one.role) == place]

    async def unended(self) -> Sequence[TurnRow]:
        await self._wait()
        return [again(ROW, one) for one in self._oldest_first() if one.role == "assistant" and one.ended_at is None]

    async def claim(self, turn_id: str, *, epoch: int, owner: str) -> bool:
        await self._wait()
        kept = self._turns.get(turn_id)
        if kept is None or kept.row.ended_at is not None:
            return False
        queued = turn_id in self._queues.get(kept.row.chat_id, [])
        first = queued and kept.row.epoch == epoch
        if not first and kept.row.epoch >= epoch and (kept.row.epoch, kept.row.owner) != (epoch, owner):
            return False
        status = kept.row.status
        if status in ("waiting", "queued"):
            status = "running"
        elif kept.row.epoch < epoch:
            status = "recovering"
        self._leave_queue(kept.row.chat_id, turn_id)
        kept.row = msgspec.structs.replace(
            kept.row,
            epoch=epoch,
            owner=owner,
            status=status,
            wait_until=None,
            lease_until=self._clock.after(LEASE_SECONDS),
        )
        return True

    async def overdue(self, turn_id: str | None = None) -> Sequence[TurnRow]:
        await self._wait()
        now, unclaimed = self._clock.now(), self._clock.after(-LEASE_SECONDS)
        asked = [row for row in self._oldest_first() if turn_id in (None, row.id)]
        return [again(ROW, row) for row in asked if _is_overdue(row, now, unclaimed)]

    async def renew(self, owner: str) -> None:
        await self._wait()
        until = self._clock.after(LEASE_SECONDS)
        for kept in self._turns.values():
            if kept.row.owner == owner and kept.row.ended_at is None and kept.row.status != "waiting":
                kept.row = msgspec.structs.replace(kept.row, lease_until=until)

    async def release(self, turn_ids: Sequence[str], *, owner: str) -> None:
        await self._wait()
        for kept in [self._turns[turn_id] for turn_id in turn_ids if turn_id in self._turns]:
            if kept.row.owner == owner and kept.row.ended_at is None:
                kept.row = msgspec.structs.replace(kept.row, owner=None, lease_until=None)

    async def answer(self, turn_id: str, answers: Sequence[Answer]) -> None:
        await self._wait()
        if not answers:
            return
        kept = self._turns.get(turn_id)
        if kept is None:
            raise NotFound(f"there is no turn {turn_id}", code="unknown_call")
        changed = kept.copy()
        try:
            changed.answer(answers)
        except GUILTY_ROW as error:
            raise RowRefused(f"turn {turn_id} was refused: {error}", turn_id=turn_id) from error
        self._turns[turn_id] = changed

    async def needs(self, turn_id: str) -> Sequence[KeptNeed]:
        await self._wait()
        kept = self._turns.get(turn_id)
        return [] if kept is None else kept.said_needs()

    async def keep_steer(self, turn_id: str, steer: KeptSteer, *, limit: int) -> KeptSteer:
        await self._wait()
        kept = self._turns.get(turn_id)
        if kept is None:
            raise NotFound(f"there is no turn {turn_id}")
        there = judged(turn_id, steer, kept.said_steers(), ended=kept.row.ended_at is not None, limit=limit)
        if there is None:
            kept.steers[steer.steer_id] = (0, steer)
        return there or steer

    async def steers(self, turn_id: str) -> Sequence[KeptSteer]:
        await self._wait()
        kept = self._turns.get(turn_id)
        return [] if kept is None else kept.said_steers()

    async def unheard_steers(self, owner: str) -> Sequence[tuple[str, KeptSteer]]:
        await self._wait()
        return [
            (turn_id, steer)
            for turn_id, kept in self._turns.items()
            if kept.row.owner == owner and kept.row.status not in ("waiting", "queued")
            for steer in kept.said_steers()
            if steer.state == "posted"
        ]

    async def find_steer(self, chat_id: str, steer_id: str) -> tuple[str, KeptSteer] | None:
        await self._wait()
        for turn_id, kept in self._turns.items():
            if kept.row.chat_id == chat_id and steer_id in kept.steers:
                return turn_id, kept.steers[steer_id][1]
        return None

    async def to_start(self) -> Sequence[TurnRow]:
        await self._wait()
        return [
            again(ROW, row)
            for row in self._oldest_first()
            if row.status == "queued" and (row.cancel_requested or self._chats[row.chat_id].active_turn_id == row.id)
        ]

    async def to_cancel(self, owner: str) -> Sequence[tuple[str, CancelMode]]:
        await self._wait()
        asked = [kept for kept in self._turns.values() if kept.row.cancel_requested and kept.row.ended_at is None]
        return [(kept.row.id, kept.cancel_mode) for kept in asked if kept.row.owner == owner]

    async def to_wake(self, now: str) -> Sequence[TurnRow]:
        await self._wait()
        return [again(ROW, one) for one in self._oldest_first() if self._turns[one.id].wakes(now)]

    async def keep_output(self, turn_id: str, call_id: str, offset: int, piece: bytes, *, epoch: int) -> None:
        await self._wait()
        if piece:
            kept = self._stored(turn_id)
            self._check_epoch(kept, epoch)
            kept.keep_output(call_id, offset, piece)

    async def output(self, turn_id: str, call_id: str, *, offset: int, limit: int) -> bytes:
        await self._wait()
        kept = self._turns.get(turn_id)
        return b"" if kept is None else kept.output(call_id, offset, limit)

    async def result(self, chat_id: str, call_id: str) -> tuple[str, ToolResultBlock] | None:
        await self._wait()
        for turn_id, kept in reversed(self._turns.items()):
            if kept.row.chat_id == chat_id and (block := kept.result(call_id)) is not None:
                return turn_id, block
        return None

    async def chat(self, chat_id: str) -> Chat | None:
        await self._wait()
        chat = self._chats.get(chat_id)
        return None if chat is None else again(_chat, chat)

    async def chats(self, owner: str, *, limit: int, before: str | None) -> tuple[Sequence[Chat], str | None]:
        await self._wait()
        theirs = [chat for chat in self._chats.values() if chat.owner == owner]
        if before is not None:
            last = cursors.read(before)
            theirs = [chat for chat in theirs if (chat.updated_at, chat.id) < last]
        theirs.sort(key=lambda chat: (chat.updated_at, chat.id), reverse=True)
        page = [again(_chat, chat) for chat in theirs[:limit]]
        return page, cursors.after(page[-1]) if page and len(theirs) > limit else None

    async def create_chat(self, chat: Chat) -> bool:
        await self._wait()
        if chat.id in self._chats:
            return False
        self._chats[chat.id] = again(_chat, chat)
        return True

    async def update_chat(self, chat: Chat, *, fields: Collection[ChatField] = CHAT_FIELDS) -> None:
        await self._wait()
        stored = self._chats.get(chat.id)
        if stored is not None:
            changed = {name: getattr(again(_chat, chat), name) for name in fields}
            self._chats[chat.id] = msgspec.structs.replace(stored, **changed, updated_at=chat.updated_at)

    async def delete_chat(self, chat_id: str) -> None:
        await self._wait()
        self._chats.pop(chat_id, None)
        self._spent |= {turn_id for turn_id, kept in self._turns.items() if kept.row.chat_id == chat_id}
        self._turns = {turn_id: kept for turn_id, kept in self._turns.items() if kept.row.chat_id != chat_id}

    async def tree(self, chat_id: str) -> Sequence[TurnRow]:
        await self._wait()
        return [again(ROW, kept.row) for kept in self._turns.values() if kept.row.chat_id == chat_id]

    async def ping(self) -> None:
        await self._wait()

    async def close(self) -> None:
        self._closed = True
        await asyncio.sleep(0)

    async def _wait(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        await asyncio.sleep(0)

    def _chat_for(self, new: NewTurns) -> Chat:
        if new.chat is not None and new.chat.id in self._chats:
            raise Conflict(f"chat {new.chat.id} is there already", code="chat_id_taken")
        chat = self._chats.get(new.assistant.chat_id)
        if chat is None and new.chat is not None and new.chat.id == new.assistant.chat_id:
            chat = again(_chat, new.chat)
        if chat is None or chat.owner != new.owner:
            raise NotFound(f"there is no chat {new.assistant.chat_id}")
        return chat

    def _new_turn(self, row: TurnRow, added: dict[str, Kept]) -> Kept:
        if row.id in added or row.id in self._turns:
            raise turn_taken(row.id)
        if row.id in self._spent:
            raise turn_taken(row.id, spent=True)
        if row.prev_turn_id is not None:
            previous = added.get(row.prev_turn_id) or self._turns.get(row.prev_turn_id)
            if previous is None or previous.row.chat_id != row.chat_id:
                said = f"turn {row.id} was refused: there is no turn {row.prev_turn_id} in its chat"
                raise RowRefused(said, turn_id=row.id)
        try:
            return Kept(again(ROW, row))
        except GUILTY_ROW as error:
            raise RowRefused(f"turn {row.id} was refused: {error}", turn_id=row.id) from error

    def _take(self, writes: Sequence[TurnWrite], changed: dict[str, Kept]) -> list[tuple[str, TurnEnding]]:
        """Put the writes on copies in ``changed``; give back the endings that ended a turn."""
        ended: list[tuple[str, TurnEnding]] = []
        for one in writes:
            kept = changed.get(one.turn_id)
            if kept is None:
                kept = changed[one.turn_id] = self._stored(one.turn_id).copy()
            self._check_epoch(kept, one.epoch)
            try:
                kept.take(one)
            except GUILTY_ROW as error:
                raise RowRefused(f"turn {one.turn_id} was refused: {error}", turn_id=one.turn_id) from error
            if one.ending is not None and kept.row.ended_at is None:
                kept.end(one.ending)
                ended.append((one.turn_id, one.ending))
            if one.rest is not None and kept.row.ended_at is None:
                kept.rest(one.rest)
        for kept in changed.values():
            if kept.row.ended_at is not None:
                kept.pack()
        return ended

    def _note_cancel(self, turn_id: str, mode: CancelMode) -> None:
        kept = self._turns.get(turn_id)
        if kept is not None and kept.row.ended_at is None:
            asked = (mode, kept.cancel_mode) if kept.row.cancel_requested else (mode,)
            kept.cancel_mode = min(asked, key=STRICTEST_FIRST.index)
            kept.row = msgspec.structs.replace(kept.row, cancel_requested=True)

    def _leave_queue(self, chat_id: str, turn_id: str) -> None:
        if turn_id in self._queues.get(chat_id, []):
            self._queues[chat_id].remove(turn_id)

    def _stored(self, turn_id: str) -> Kept:
        if turn_id not in self._turns:
            raise RowRefused(f"turn {turn_id} is not stored", turn_id=turn_id)
        return self._turns[turn_id]

    @staticmethod
    def _check_epoch(kept: Kept, epoch: int) -> None:
        if kept.row.epoch > epoch:
            turn_id = kept.row.id
            raise StaleEpoch(f"turn {turn_id} is at epoch {kept.row.epoch}, the write is of {epoch}", turn_id=turn_id)

    def _oldest_first(self) -> list[TurnRow]:
        return sorted((kept.row for kept in self._turns.values()), key=lambda row: row.created_at)


def _is_overdue(row: TurnRow, now: str, unclaimed: str) -> bool:
    """One without a lease has had it since it was made: it is overdue if that was before ``unclaimed``."""
    if row.ended_at is not None or row.role != "assistant" or row.status in ("waiting", "queued"):
        return False
    if row.owner is None:
        return True
    return row.created_at < unclaimed if row.lease_until is None else row.lease_until < now


def _freed(chat: Chat, turn_id: str, ending: TurnEnding, following: str | None = None) -> Chat:
    active = following if chat.active_turn_id == turn_id else chat.active_turn_id
    return msgspec.structs.replace(chat, active_turn_id=active, updated_at=max(chat.updated_at, ending.ended_at))
