"""A store with faults over a real one: slow, away, full, standing still, losing its answer.

```python
store = FaultyStore()
async with legato.open("test.db", around=store.over) as service:
    store.away()                                # every call raises StoreUnavailable, until
    store.back()
    store.hold("write")                         # writes stand
    await store.reached("write")
    store.back()
```
A call meets the faults that are set when it comes to them: one that stands while the store goes away fails.
``tear`` is the fault of a power cut: the end of a file never reached the disk.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self, TypeVar

from legato.core.blocks import ToolResultBlock
from legato.core.errors import RowRefused, StoreUnavailable
from legato.core.inputs import CancelMode
from legato.core.records import (
    Answer,
    Chat,
    Datum,
    Intent,
    KeptNeed,
    KeptSteer,
    LogSegment,
    NewTurns,
    Span,
    StoredTurn,
    TurnRow,
    TurnWrite,
)
from legato.ports import CHAT_FIELDS, Begun, ChatField, Store
from legato.testing.marks import PATIENCE, Marks

T = TypeVar("T")

WRITES = frozenset(
    {
        "begin",
        "write",
        "request_cancel",
        "cancel_early",
        "claim",
        "renew",
        "release",
        "answer",
        "keep_steer",
        "keep_output",
        "create_chat",
        "update_chat",
        "delete_chat",
    }
)
"""Names of the calls that change something."""
EVERYTHING = frozenset({"*"})


class FaultyStore:
    """A ``Store``. Each fault is for the calls named, or for those it is about; the last one said counts."""

    def __init__(self, store: Store | None = None) -> None:
        self._real = store
        self._marks = Marks()
        self._slow: tuple[frozenset[str], float] = (frozenset(), 0.0)
        self._failing: tuple[frozenset[str], str] = (frozenset(), "")
        self._lost: frozenset[str] = frozenset()
        self._held: frozenset[str] = frozenset()
        self._let_go = asyncio.Event()
        self._refused: frozenset[str] = frozenset()
        self._failures_left: int | None = None
        self.calls: list[str] = []
        """The name of every call, in the order they came."""

    def over(self, store: Store) -> Self:
        """Stand in front of this one from now on."""
        self._real = store
        return self

    # -- faults

    def slow(self, seconds: float, *names: str) -> None:
        """Each call takes so much longer."""
        self._slow = (frozenset(names) or EVERYTHING, seconds)

    def away(self, *names: str, times: int | None = None) -> None:
        """Calls fail, the next ``times`` of them or all."""
        self._failing = (frozenset(names) or EVERYTHING, "the store is away")
        self._failures_left = times

    def full(self) -> None:
        """What changes something fails; what is stored can be read."""
        self._failing = (WRITES, "database or disk is full")
        self._failures_left = None

    def hold(self, *names: str) -> None:
        """Calls stand until the store is back."""
        self._held = frozenset(names) or EVERYTHING

    def lose_answers(self, *names: str) -> None:
        """Calls do what they should, and then fail as if the connection were lost after the commit."""
        self._lost = frozenset(names) or WRITES

    def refuse(self, *turn_ids: str) -> None:
        """A group of writes with one of these turns is refused for it."""
        self._refused = frozenset(turn_ids)

    def back(self) -> None:
        """No fault any more; what stood goes on."""
        self._slow, self._failing, self._failures_left = (frozenset(), 0.0), (frozenset(), ""), None
        self._lost = self._held = self._refused = frozenset()
        self._let_go.set()
        self._let_go = asyncio.Event()

    async def reached(self, name: str, *, times: int = 1, patience: float = PATIENCE) -> None:
        """Return once ``name`` was called ``times`` times. Raises ``TimeoutError`` after ``patience`` seconds."""
        await self._marks.wait(name, times, patience)

    @property
    def _store(self) -> Store:
        if self._real is None:
            raise RuntimeError("there is no store behind this one: open a service with `around=store.over`")
        return self._real

    async def _meet(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(name)
        self._marks.hit(name)
        while _meant(self._held, name):
            await self._let_go.wait()
        if _meant(self._slow[0], name):
            await asyncio.sleep(self._slow[1])
        if _meant(self._failing[0], name) and self._failures_left != 0:
            if self._failures_left is not None:
                self._failures_left -= 1
            raise StoreUnavailable(self._failing[1])
        value = await call()
        if _meant(self._lost, name):
            raise StoreUnavailable("the connection was lost after the commit", unsure=True)
        return value

    # -- the store

    async def begin(self, new: NewTurns) -> Begun:
        return await self._meet("begin", lambda: self._store.begin(new))

    async def write(self, writes: Sequence[TurnWrite]) -> None:
        async def write() -> None:
            for one in writes:
                if one.turn_id in self._refused:
                    raise RowRefused(f"turn {one.turn_id} was refused", turn_id=one.turn_id)
            await self._store.write(writes)

        await self._meet("write", write)

    async def request_cancel(self, turn_id: str, *, mode: CancelMode = "now") -> None:
        await self._meet("request_cancel", lambda: self._store.request_cancel(turn_id, mode=mode))

    async def cancel_early(self, owner: str, turn_id: str, *, seconds: float, limit: int) -> None:
        await self._meet("cancel_early", lambda: self._store.cancel_early(owner, turn_id, seconds=seconds, limit=limit))

    async def turn(self, turn_id: str) -> TurnRow | None:
        return await self._meet("turn", lambda: self._store.turn(turn_id))

    async def load(self, turn_id: str) -> StoredTurn | None:
        return await self._meet("load", lambda: self._store.load(turn_id))

    async def branch(self, leaf: str, *, limit: int | None = None) -> Sequence[StoredTurn]:
        return await self._meet("branch", lambda: self._store.branch(leaf, limit=limit))

    async def log(self, turn_id: str, *, after: int) -> Sequence[LogSegment]:
        return await self._meet("log", lambda: self._store.log(turn_id, after=after))

    async def spans(self, turn_id: str) -> Sequence[Span]:
        return await self._meet("spans", lambda: self._store.spans(turn_id))

    async def intents(self, turn_id: str) -> Sequence[Intent]:
        return await self._meet("intents", lambda: self._store.intents(turn_id))

    async def datum(self, turn_id: str, index: int) -> Datum | None:
        return await self._meet("datum", lambda: self._store.datum(turn_id, index))

    async def siblings(self, row: TurnRow) -> Sequence[str]:
        return await self._meet("siblings", lambda: self._store.siblings(row))

    async def unended(self) -> Sequence[TurnRow]:
        return await self._meet("unended", self._store.unended)

    async def overdue(self, turn_id: str | None = None) -> Sequence[TurnRow]:
        return await self._meet("overdue", lambda: self._store.overdue(turn_id))

    async def renew(self, owner: str) -> None:
        await self._meet("renew", lambda: self._store.renew(owner))

    async def release(self, turn_ids: Sequence[str], *, owner: str) -> None:
        await self._meet("release", lambda: self._store.release(turn_ids, owner=owner))

    async def claim(self, turn_id: str, *, epoch: int, owner: str) -> bool:
        return await self._meet("claim", lambda: self._store.claim(turn_id, epoch=epoch, owner=owner))

    async def answer(self, turn_id: str, answers: Sequence[Answer]) -> None:
        await self._meet("answer", lambda: self._store.answer(turn_id, answers))

    async def needs(self, turn_id: str) -> Sequence[KeptNeed]:
        return await self._meet("needs", lambda: self._store.needs(turn_id))

    async def keep_steer(self, turn_id: str, steer: KeptSteer, *, limit: int) -> KeptSteer:
        return await self._meet("keep_steer", lambda: self._store.keep_steer(turn_id, steer, limit=limit))

    async def steers(self, turn_id: str) -> Sequence[KeptSteer]:
        return await self._meet("steers", lambda: self._store.steers(turn_id))

    async def unheard_steers(self, owner: str) -> Sequence[tuple[str, KeptSteer]]:
        return await self._meet("unheard_steers", lambda: self._store.unheard_steers(owner))

    async def find_steer(self, chat_id: str, steer_id: str) -> tuple[str, KeptSteer] | None:
        return await self._meet("find_steer", lambda: self._store.find_steer(chat_id, steer_id))

    async def to_start(self) -> Sequence[TurnRow]:
        return await self._meet("to_start", self._store.to_start)

    async def to_cancel(self, owner: str) -> Sequence[tuple[str, CancelMode]]:
        return await self._meet("to_cancel", lambda: self._store.to_cancel(owner))

    async def to_wake(self, now: str) -> Sequence[TurnRow]:
        return await self._meet("to_wake", lambda: self._store.to_wake(now))

    async def keep_output(self, turn_id: str, call_id: str, offset: int, piece: bytes, *, epoch: int) -> None:
        await self._meet("keep_output", lambda: self._store.keep_output(turn_id, call_id, offset, piece, epoch=epoch))

    async def output(self, turn_id: str, call_id: str, *, offset: int, limit: int) -> bytes:
        return await self._meet("output", lambda: self._store.output(turn_id, call_id, offset=offset, limit=limit))

    async def result(self, chat_id: str, call_id: str) -> tuple[str, ToolResultBlock] | None:
        return await self._meet("result", lambda: self._store.result(chat_id, call_id))

    async def chat(self, chat_id: str) -> Chat | None:
        return await self._meet("chat", lambda: self._store.chat(chat_id))

    async def chats(self, owner: str, *, limit: int, before: str | None) -> tuple[Sequence[Chat], str | None]:
        return await self._meet("chats", lambda: self._store.chats(owner, limit=limit, before=before))

    async def create_chat(self, chat: Chat) -> bool:
        return await self._meet("create_chat", lambda: self._store.create_chat(chat))

    async def update_chat(self, chat: Chat, *, fields: Collection[ChatField] = CHAT_FIELDS) -> None:
        await self._meet("update_chat", lambda: self._store.update_chat(chat, fields=fields))

    async def delete_chat(self, chat_id: str) -> None:
        await self._meet("delete_chat", lambda: self._store.delete_chat(chat_id))

    async def tree(self, chat_id: str) -> Sequence[TurnRow]:
        return await self._meet("tree", lambda: self._store.tree(chat_id))

    async def ping(self) -> None:
        await self._meet("ping", self._store.ping)

    async def close(self) -> None:
        await self._store.close()


@contextmanager
def locked(db: Path) -> Iterator[None]:
    """Somebody else holds the database's write lock until the block is left; what is stored can be read. Raises
    ``sqlite3.OperationalError`` where it cannot be had within 10 s."""
    with closing(sqlite3.connect(db, isolation_level=None, timeout=10)) as held:
        held.execute("BEGIN IMMEDIATE")
        yield


def tear(file: Path, *, bytes: int = 7) -> None:
    """Take the last bytes off a file, as off a server's spool file (`legato.db.spool/*.spool`)."""
    os.truncate(file, max(file.stat().st_size - bytes, 0))


def _meant(names: frozenset[str], name: str) -> bool:
    return name in names or "*" in names
