"""Cancels of turns: the owner acts at once, and the row says so for the next one."""

from __future__ import annotations

import anyio
import msgspec

from legato.core import inputs as i
from legato.core.errors import LegatoError, Overloaded
from legato.core.records import TurnRow
from legato.core.views import CancelKept, Cancelled, TurnView
from legato.ports import Clock, Store
from legato.runtime.clients.early import KEPT_MOST, KEPT_SECONDS, EarlyCancels
from legato.runtime.reading import looking
from legato.runtime.runner import TurnRunner
from legato.runtime.running import Running

CANCEL_STORE_SECONDS = 1.0
"""How long the answer to a cancel waits for its row (docs/http.md); the owner acts before."""

ENDING_SECONDS = 5.0
"""That the turns of a chat which is deleted have to end in."""
LOOK_SECONDS = 0.05
"""Between two looks whether another process has ended them."""


class Cancelling:
    def __init__(self, store: Store, running: Running, clock: Clock) -> None:
        self.early = EarlyCancels(clock)
        self._store = store
        self._running = running

    async def keep(self, principal: str, turn_id: str) -> CancelKept:
        """Of a turn that nobody has posted yet: here until the store has it, which tells every process on it."""
        until, stored = self.early.keep(principal, turn_id), False
        with anyio.move_on_after(CANCEL_STORE_SECONDS):
            try:
                await self._store.cancel_early(principal, turn_id, seconds=KEPT_SECONDS, limit=KEPT_MOST)
                stored = True
            except LegatoError:
                pass  # remembered here all the same
        return CancelKept(id=turn_id, stored=stored, until=until)

    async def here(self, runner: TurnRunner, mode: i.CancelMode) -> Cancelled:
        runner.receive(i.CancelRequested(mode=mode))
        turn_id, stored = runner.row.id, False
        view = None
        with anyio.move_on_after(CANCEL_STORE_SECONDS):
            try:
                await self._store.request_cancel(turn_id, mode=mode)
                stored = True
                view = await looking.view(self._store, turn_id, self._running.get(turn_id))
            except LegatoError:
                pass  # the turn is cancelled all the same, and what was said of it is here
        return _cancelled(view or looking.running_view(runner, (turn_id,)), stored=stored)

    async def elsewhere(self, row: TurnRow, mode: i.CancelMode) -> Cancelled:
        """Of a turn that runs in another process, waits, is queued, or has ended."""
        stored = row.ended_at is not None or await self._note(row.id, mode)
        begun = self._running.get(row.id)
        if begun is not None:  # it had been stored, and was about to run
            begun.receive(i.CancelRequested(mode=mode))
        elif row.ended_at is None and stored:
            self._running.cancel_soon(row.id)
        return _cancelled(await looking.view(self._store, row.id, begun), stored=stored)

    async def queued(self, turn_id: str) -> None:
        """It was cancelled before it was posted."""
        if await self._note(turn_id, "now"):
            self._running.take_up_soon(turn_id)

    async def all_of(self, chat_id: str) -> None:
        """Of a chat that is to be deleted: wait until nothing of it runs any more, here or in another process.

        Raises ``Overloaded`` with code ``turn_ending``, ``StoreError``.
        """
        self._running.forget(chat_id)
        for row in await self._store.tree(chat_id):
            if row.ended_at is None:  # a queued one would begin when the one before it has ended
                await self._store.request_cancel(row.id)
        with anyio.move_on_after(ENDING_SECONDS):
            while runner := self._running.of_chat(chat_id):
                runner.receive(i.CancelRequested())
                await runner.over.wait()
            while await self._runs_elsewhere(chat_id):  # noqa: ASYNC110 - another process tells of nothing
                await anyio.sleep(LOOK_SECONDS)
            return
        raise Overloaded(f"a turn of chat {chat_id} is still ending: try again", code="turn_ending", retry_after=1)

    async def _runs_elsewhere(self, chat_id: str) -> bool:
        """In another process, which hears of the cancel within a second."""
        for row in await self._store.tree(chat_id):
            alive = row.ended_at is None and row.status in ("running", "recovering") and not self._running.owns(row)
            if alive and not await looking.is_free(self._store, row):
                return True
        return False

    async def _note(self, turn_id: str, mode: i.CancelMode) -> bool:
        with anyio.move_on_after(CANCEL_STORE_SECONDS):
            try:
                await self._store.request_cancel(turn_id, mode=mode)
            except LegatoError:
                return False
            return True
        return False


def _cancelled(view: TurnView, *, stored: bool) -> Cancelled:
    return Cancelled(**msgspec.structs.asdict(view), stored=stored)
