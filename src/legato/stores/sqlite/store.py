"""``ports.Store`` on one SQLite file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from legato.clock import SystemClock
from legato.core.blocks import ToolResultBlock
from legato.core.documents import Bounds
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
from legato.ports import CHAT_FIELDS, Begun, ChatField, Clock
from legato.stores.sqlite import changes, early, needs, outputs, queries, steers
from legato.stores.sqlite.documents import SqliteDocuments
from legato.stores.sqlite.packing import pack_ended
from legato.stores.sqlite.readers import Readers
from legato.stores.sqlite.schema import Synchronous, open_reader, open_writer
from legato.stores.sqlite.writer import Writer


async def open_sqlite(
    path: str | Path, *, synchronous: Synchronous = "normal", readers: int = 2, clock: Clock | None = None
) -> SqliteStore:
    """Open the file, made if it is not there, and bring it up to date. Raises ``ConfigError`` for one that cannot be.

    Both survive a crash of the process with every commit; in a power cut ``normal`` may lose the last ones. Leases go
    by ``clock``, the machine's if none is given, read as the statement runs: those who share a file share its machine.
    """
    # Readers open it later, wherever the process has gone by then.
    file = Path.cwd() / path
    writer = Writer(partial(open_writer, file, synchronous), pack_ended)
    await writer.open()
    pool = Readers(partial(open_reader, file), readers)
    pool.start()
    return SqliteStore(file, writer, pool, clock or SystemClock())


class SqliteStore:
    """Made by ``open_sqlite``. Reads see every write that has returned."""

    def __init__(self, path: Path, writer: Writer, readers: Readers, clock: Clock) -> None:
        self.path = path
        self._writer = writer
        self._readers = readers
        self._clock = clock

    async def begin(self, new: NewTurns) -> Begun:
        return await self._writer.run(lambda connection: changes.begin(connection, new, self._clock))

    async def write(self, writes: Sequence[TurnWrite]) -> None:
        if writes:
            await self._writer.run(lambda connection: changes.write(connection, writes))

    async def request_cancel(self, turn_id: str, *, mode: CancelMode = "now") -> None:
        await self._writer.run(lambda connection: changes.request_cancel(connection, turn_id, mode))

    async def cancel_early(self, owner: str, turn_id: str, *, seconds: float, limit: int) -> None:
        await self._writer.run(
            lambda connection: early.keep(connection, owner, turn_id, seconds=seconds, limit=limit, clock=self._clock)
        )

    async def turn(self, turn_id: str) -> TurnRow | None:
        return await self._readers.run(lambda connection: queries.turn(connection, turn_id))

    async def load(self, turn_id: str) -> StoredTurn | None:
        return await self._readers.run(lambda connection: queries.load(connection, turn_id))

    async def branch(self, leaf: str, *, limit: int | None = None) -> Sequence[StoredTurn]:
        return await self._readers.run(lambda connection: queries.branch(connection, leaf, limit))

    async def log(self, turn_id: str, *, after: int) -> Sequence[LogSegment]:
        return await self._readers.run(lambda connection: queries.log(connection, turn_id, after))

    async def spans(self, turn_id: str) -> Sequence[Span]:
        return await self._readers.run(lambda connection: queries.spans(connection, turn_id))

    async def intents(self, turn_id: str) -> Sequence[Intent]:
        return await self._readers.run(lambda connection: queries.intents(connection, turn_id))

    async def datum(self, turn_id: str, index: int) -> Datum | None:
        return await self._readers.run(lambda connection: queries.datum(connection, turn_id, index))

    async def siblings(self, row: TurnRow) -> Sequence[str]:
        return await self._readers.run(lambda connection: queries.siblings(connection, row))

    async def unended(self) -> Sequence[TurnRow]:
        return await self._readers.run(queries.unended)

    async def overdue(self, turn_id: str | None = None) -> Sequence[TurnRow]:
        return await self._readers.run(lambda connection: queries.overdue(connection, turn_id, self._clock))

    async def renew(self, owner: str) -> None:
        await self._writer.run(lambda connection: changes.renew(connection, owner, self._clock))

    async def release(self, turn_ids: Sequence[str], *, owner: str) -> None:
        await self._writer.run(lambda connection: changes.release(connection, turn_ids, owner))

    async def claim(self, turn_id: str, *, epoch: int, owner: str) -> bool:
        return await self._writer.run(lambda connection: changes.claim(connection, turn_id, epoch, owner, self._clock))

    async def answer(self, turn_id: str, answers: Sequence[Answer]) -> None:
        if answers:
            await self._writer.run(lambda connection: needs.answer(connection, turn_id, answers))

    async def needs(self, turn_id: str) -> Sequence[KeptNeed]:
        return await self._readers.run(lambda connection: needs.needs(connection, turn_id))

    async def keep_steer(self, turn_id: str, steer: KeptSteer, *, limit: int) -> KeptSteer:
        return await self._writer.run(lambda connection: steers.keep(connection, turn_id, steer, limit))

    async def steers(self, turn_id: str) -> Sequence[KeptSteer]:
        return await self._readers.run(lambda connection: steers.steers(connection, turn_id))

    async def unheard_steers(self, owner: str) -> Sequence[tuple[str, KeptSteer]]:
        return await self._readers.run(lambda connection: steers.unheard(connection, owner))

    async def find_steer(self, chat_id: str, steer_id: str) -> tuple[str, KeptSteer] | None:
        return await self._readers.run(lambda connection: steers.of_chat(connection, chat_id, steer_id))

    async def to_start(self) -> Sequence[TurnRow]:
        return await self._readers.run(queries.to_start)

    async def to_cancel(self, owner: str) -> Sequence[tuple[str, CancelMode]]:
        return await self._readers.run(lambda connection: queries.to_cancel(connection, owner))

    async def to_wake(self, now: str) -> Sequence[TurnRow]:
        return await self._readers.run(lambda connection: needs.to_wake(connection, now))

    async def keep_output(self, turn_id: str, call_id: str, offset: int, piece: bytes, *, epoch: int) -> None:
        if piece:
            while not await self._writer.run(
                lambda connection: outputs.keep_output(connection, turn_id, call_id, offset, piece, epoch=epoch)
            ):
                continue

    async def output(self, turn_id: str, call_id: str, *, offset: int, limit: int) -> bytes:
        return await self._readers.run(lambda connection: outputs.output(connection, turn_id, call_id, offset, limit))

    async def result(self, chat_id: str, call_id: str) -> tuple[str, ToolResultBlock] | None:
        return await self._readers.run(lambda connection: outputs.result(connection, chat_id, call_id))

    async def chat(self, chat_id: str) -> Chat | None:
        return await self._readers.run(lambda connection: queries.chat(connection, chat_id))

    async def chats(self, owner: str, *, limit: int, before: str | None) -> tuple[Sequence[Chat], str | None]:
        return await self._readers.run(lambda connection: queries.chats(connection, owner, limit, before))

    async def create_chat(self, chat: Chat) -> bool:
        return await self._writer.run(lambda connection: changes.create_chat(connection, chat))

    async def update_chat(self, chat: Chat, *, fields: Collection[ChatField] = CHAT_FIELDS) -> None:
        await self._writer.run(lambda connection: changes.update_chat(connection, chat, fields))

    async def delete_chat(self, chat_id: str) -> None:
        """Large outputs go first, step by step. A delete that is given up half way goes on when it is asked again."""
        while await self._writer.run(lambda connection: outputs.drop_some(connection, chat_id)):
            continue
        await self._writer.run(lambda connection: changes.delete_chat(connection, chat_id))

    async def tree(self, chat_id: str) -> Sequence[TurnRow]:
        return await self._readers.run(lambda connection: queries.tree(connection, chat_id))

    def documents(self, bounds: Bounds) -> SqliteDocuments:
        """The workspaces in the same file, written by the same thread; closed with the store."""
        return SqliteDocuments(self._writer, self._readers, bounds, self._clock)

    async def ping(self) -> None:
        """The write lock can be had and the file can be read."""
        await self._writer.run(queries.ping)
        await self._readers.run(queries.ping)

    async def close(self) -> None:
        """Everything queued is done first. What is asked after it raises ``StoreUnavailable``."""
        await self._readers.close()
        await self._writer.close()
