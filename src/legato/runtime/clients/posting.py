"""From a posted turn to one that is stored and runs, or waits in its chat's queue; with what its client is answered."""

from __future__ import annotations

import asyncio
import logging

import anyio
import msgspec
from anyio.abc import TaskGroup

from legato.core.errors import Conflict, LegatoError, NotFound, Overloaded, StoreUnavailable
from legato.core.posts import PostTurn
from legato.core.records import Accepted, AlreadyMade, Busy, Queued, QueueFull, TurnRow
from legato.core.views import Started
from legato.ports import Begun, Clock, Store
from legato.runtime.chats import Chats, chat_view
from legato.runtime.clients.admission import Admission, Admissions
from legato.runtime.clients.cancelling import Cancelling
from legato.runtime.clients.queueing import Queueing
from legato.runtime.reading import looking
from legato.runtime.runner import TurnRunner
from legato.runtime.running import Running
from legato.runtime.storing.journal import Journal

_logger = logging.getLogger(__name__)


class PostingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``persist_timeout`` is seconds."""

    running_turns: int
    unsaved_bytes: int
    persist_timeout: float


class Posting:
    """``tasks``, in which turns are stored and run, is set before the first post."""

    def __init__(
        self,
        *,
        store: Store,
        journal: Journal,
        clock: Clock,
        admissions: Admissions,
        running: Running,
        queueing: Queueing,
        cancelling: Cancelling,
        chats: Chats,
        owner: str,
        limits: PostingLimits,
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._admissions = admissions
        self._running = running
        self._queueing = queueing
        self._cancelling = cancelling
        self._chats = chats
        self._owner = owner
        self._limits = limits
        self.tasks: TaskGroup | None = None

    async def post(self, post: PostTurn, *, principal: str, fingerprint: str) -> tuple[Started, bool]:
        """As ``TurnService.post``."""
        if isinstance(post.turn_id, str):
            made = await self._store.turn(post.turn_id)
            if made is not None:
                return await self._repeat(made, principal, fingerprint), False
        if (steered := await self._queueing.steered_before(post, principal)) is not None:
            return await self._steered(steered, principal), False
        self._refuse_when_full()
        admission = await self._admissions.admit(post, principal=principal, fingerprint=fingerprint, owner=self._owner)
        try:
            begun = await self._begin(admission, principal)
        except Conflict as conflict:
            if conflict.code != "chat_id_taken":
                raise
            return await self.post(post, principal=principal, fingerprint=fingerprint)  # the chat was made meanwhile
        match begun:
            case Accepted():
                return await self._started(admission), True
            case AlreadyMade(row=row):
                return await self._repeat(row, principal, fingerprint), False
            case Queued(turn_id=active):
                return await self._started(admission, active=active), True
            case QueueFull() as full:
                raise self._queueing.refuse(admission.chat.id, full)
            case Busy(turn_id=turn_id) if await self._running.drained(turn_id):
                return await self.post(post, principal=principal, fingerprint=fingerprint)
            case Busy(turn_id=turn_id) if post.on_busy == "steer":
                if not await self._queueing.steer_into(turn_id, post):
                    return await self.post(post, principal=principal, fingerprint=fingerprint)
                return await self._steered(turn_id, principal), True
            case Busy(turn_id=turn_id):
                message = f"chat {admission.chat.id} is busy with turn {turn_id}: wait for it, or cancel it"
                raise Conflict(message, code="chat_busy", turn_id=turn_id)

    async def _begin(self, admission: Admission, principal: str) -> Begun:
        """Store and run it in a task of the service: whoever asked may be gone before it is done (hazard 2)."""
        outcome: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()
        assert self.tasks is not None
        self.tasks.start_soon(self._store_and_run, admission, principal, outcome)
        with anyio.move_on_after(self._limits.persist_timeout):
            return await outcome
        seconds = self._limits.persist_timeout
        raise StoreUnavailable(f"the store did not answer in {seconds:g} s; repeat the request with its turn_id")

    async def _store_and_run(self, admission: Admission, principal: str, outcome: asyncio.Future[Begun]) -> None:
        began = self._clock.monotonic()
        try:
            begun = await self._store.begin(admission.new)
            runner = self._follow_up(admission, principal, began, begun)
        except Exception as error:  # the supervisor of a post: whoever waits for it is told, and nobody else
            if not outcome.done():
                outcome.set_exception(error)
            elif not isinstance(error, LegatoError):
                _logger.exception("a post of which nobody waited for the end broke")
            return
        if not outcome.done():
            outcome.set_result(begun)
        if runner is not None:
            await self._running.run(runner)

    def _follow_up(self, admission: Admission, principal: str, began: float, begun: Begun) -> TurnRunner | None:
        """The runner of a turn that begins now. Between its row and this nothing is awaited."""
        row = admission.new.assistant
        if isinstance(begun, Accepted):
            if self._running.get(row.id) is not None:
                return None  # the store said so late, and it was taken up
            cancelled = self._cancelling.early.take(principal, row.id) or begun.cancelled
            return self._running.begin(admission, began, cancelled=cancelled)
        if isinstance(begun, Queued):
            self._queueing.queued(row.id, row.chat_id, begun.turn_id, admission.on_busy)
            if self._cancelling.early.take(principal, row.id) or begun.cancelled:
                assert self.tasks is not None
                self.tasks.start_soon(self._cancelling.queued, row.id)
        return None

    async def _repeat(self, made: TurnRow, principal: str, fingerprint: str) -> Started:
        chat = await self._store.chat(made.chat_id)
        if chat is None or chat.owner != principal or made.role != "assistant" or made.fingerprint != fingerprint:
            message = f"turn {made.id} was made by another request: choose a new turn_id"
            raise Conflict(message, code="turn_id_reused", turn_id=made.id)
        return await self._as_started(made, principal)

    async def _steered(self, turn_id: str, principal: str) -> Started:
        """The turn that the post was said into."""
        row = await self._store.turn(turn_id)
        if row is None:
            raise NotFound(f"there is no turn {turn_id}")
        return await self._as_started(row, principal)

    async def _as_started(self, made: TurnRow, principal: str) -> Started:
        chat = await self._chats.own(made.chat_id, principal)
        return Started(
            chat=chat_view(chat),
            user_turn=await looking.view(self._store, made.prev_turn_id or "", None),
            assistant_turn=await looking.view(self._store, made.id, self._running.get(made.id)),
            events_url=_events_url(made.id),
        )

    async def _started(self, admission: Admission, *, active: str | None = None) -> Started:
        """What a new user turn brings is known to stand alone; only an older place has siblings to be read. ``active``:
        it waits for this turn."""
        row = admission.new.assistant
        user = admission.user
        assert row.prev_turn_id is not None
        if user is None:
            user_turn = await looking.view(self._store, row.prev_turn_id, None)
            siblings = await self._store.siblings(row)
        else:
            new_chat = admission.new.chat is not None
            beside = (user.row.id,) if new_chat else await self._store.siblings(user.row)
            user_turn = looking.stored_view(user, beside)
            siblings = (row.id,)
        runner = self._running.get(row.id)
        return Started(
            chat=chat_view(msgspec.structs.replace(admission.chat, active_turn_id=active or row.id)),
            user_turn=user_turn,
            assistant_turn=looking.running_view(runner, siblings)
            if runner is not None
            else await looking.view(self._store, row.id, None),
            events_url=_events_url(row.id),
        )

    def refuse_when_draining(self) -> None:
        if self._running.closing:
            raise Overloaded("the server is stopping", code="draining", retry_after=1)

    def _refuse_when_full(self) -> None:
        self.refuse_when_draining()
        limit = self._limits.running_turns
        if len(self._running) >= limit:
            message = f"{len(self._running)} turns are running, limit is {limit}"
            raise Overloaded(message, code="too_many_turns", retry_after=1, limit=limit, actual=len(self._running))
        unsaved, limit = self._journal.unsaved_bytes(), self._limits.unsaved_bytes
        if unsaved > limit:
            message = f"{unsaved} bytes wait for the store, limit is {limit}"
            raise Overloaded(message, code="store_behind", retry_after=5, limit=limit, actual=unsaved)


def _events_url(turn_id: str) -> str:
    return f"/v1/turns/{turn_id}/events"
