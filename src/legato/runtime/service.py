"""The façade: everything that can be asked of turns, without HTTP.

A request may follow a turn, never own one: turns run in the service's own tasks, from the moment they are stored to
the moment their end is.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Literal, Self

import anyio
import msgspec
from anyio.abc import TaskGroup

from legato.clock import SystemClock
from legato.core import events as e
from legato.core import inputs as i
from legato.core import lines as log_lines
from legato.core.errors import InvalidRequest, LegatoError, NotFound
from legato.core.plan import TurnLimits
from legato.core.posts import PatchChat, PostApproval, PostChat, PostSteer, PostToolResults, PostTurn
from legato.core.records import Answer, Datum, StoredTurn, TurnRow
from legato.core.views import (
    CancelKept,
    Cancelled,
    ChatPage,
    ChatView,
    ModelPage,
    ModelView,
    Started,
    Steered,
    SteerView,
    Timeline,
    ToolPage,
    TreePage,
    TurnPage,
    TurnView,
)
from legato.ports import Clock, Formatters, Models, Store, Tools
from legato.runtime.calls.toolbox import Toolbox
from legato.runtime.chats import Chats, chat_view
from legato.runtime.clients.admission import AdmissionLimits, Admissions
from legato.runtime.clients.answering import Answering
from legato.runtime.clients.cancelling import Cancelling
from legato.runtime.clients.posting import Posting, PostingLimits
from legato.runtime.clients.queueing import Queueing
from legato.runtime.clients.steering import Steering
from legato.runtime.documents import Workspaces
from legato.runtime.house import House
from legato.runtime.model.model_views import ModelViews
from legato.runtime.model.questions import Questions
from legato.runtime.offers import model_page, tool_page
from legato.runtime.owning.lease import Lease
from legato.runtime.owning.owner import this_process
from legato.runtime.reading import looking
from legato.runtime.reading.following import Followers, Reader
from legato.runtime.reading.kept_output import KeptOutput
from legato.runtime.reading.live import Encode, LiveLog
from legato.runtime.running import Running
from legato.runtime.storing.journal import Journal, JournalSettings
from legato.runtime.storing.spool import Spool
from legato.runtime.timeline import overlap_ms

_logger = logging.getLogger(__name__)

RELEASE_SECONDS = 1.0
"""After the drain, for a block's end. Drain and 5 s are all that a stop may take, the closing of the store included."""
STORING_SECONDS = 4.0
"""Then, to store what is left or to spool it; the journal gives the store no more than the first of them."""
FREEING_SECONDS = 0.5
"""Then, to tell others that the turns are free. Those of a process that is gone are free as well."""
LOCAL = "local"
"""The principal of everybody where nobody is asked who comes."""


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds (P12) and the server's own words to the model."""

    system: str = ""
    running_turns: int = 1_000
    wait_timeout: float = 604_800.0
    """Seconds that a turn waits for people and clients: a week."""
    unsaved_bytes: int = 67_108_864
    turn: TurnLimits = TurnLimits()
    admission: AdmissionLimits = AdmissionLimits()
    journal: JournalSettings = JournalSettings()


class TurnService:
    """Enter it before use; leaving it drains without waiting for turns to end by themselves."""

    def __init__(
        self,
        *,
        store: Store,
        models: Models,
        tools: Tools,
        formatters: Formatters,
        toolbox: Toolbox,
        settings: ServiceSettings | None = None,
        clock: Clock | None = None,
        documents: Workspaces | None = None,
        spool: Spool | None = None,
    ) -> None:
        self._settings = settings or ServiceSettings()
        self._clock = clock or SystemClock()
        self._store = store
        self._documents = documents
        self._models = models
        self._tools = tools
        self._spool = spool
        lease = Lease(self._clock.monotonic)
        self._journal = Journal(
            store, self._settings.journal, unsaved_bytes=self._settings.unsaved_bytes, spool=spool, lease=lease
        )
        self._house = House(
            store=store,
            journal=self._journal,
            toolbox=toolbox,
            tools=tools,
            formatters=formatters,
            clock=self._clock,
            lease=lease,
            wait_timeout=self._settings.wait_timeout,
        )
        owner = this_process()
        admissions = Admissions(
            store=store, models=models, tools=tools, clock=self._clock, limits=self._settings.admission
        )
        questions = Questions(store=store, models=models, tools=tools, system=self._settings.system)
        self._chats = Chats(store=store, models=models, clock=self._clock)
        self._followers = Followers(store, self._live)
        self._running = Running(
            self._house,
            models=models,
            questions=questions,
            limits=self._settings.turn,
            bounds=admissions.bounds,
            owner=owner,
            appeared=self._followers.appeared,
        )
        self._answering = Answering(
            store,
            tools,
            drained=self._journal.drained,
            persist_timeout=self._settings.journal.persist_timeout,
        )
        self._steering = Steering(
            store,
            self._running.get,
            self._running.take_up_soon,
            persist_timeout=self._settings.journal.persist_timeout,
        )
        queueing = Queueing(store, self._running, self._steering, limit=self._settings.admission.queued_turns)
        self._cancelling = Cancelling(store, self._running, self._clock)
        self._posting = Posting(
            store=store,
            journal=self._journal,
            clock=self._clock,
            admissions=admissions,
            running=self._running,
            queueing=queueing,
            cancelling=self._cancelling,
            chats=self._chats,
            owner=owner,
            limits=PostingLimits(
                running_turns=self._settings.running_turns,
                unsaved_bytes=self._settings.unsaved_bytes,
                persist_timeout=self._settings.journal.persist_timeout,
            ),
        )
        self._model_views = ModelViews(
            store=store, questions=questions, tools=tools, formatters=formatters, running=self._running.get
        )
        self._drained = False
        self._patience = RELEASE_SECONDS
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._tasks = self._posting.tasks = await stack.enter_async_context(anyio.create_task_group())
            self._tasks.start_soon(self._journal.run)
            self._tasks.start_soon(self._running.look, self._tasks)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.drain(0)
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        await self._stack.__aexit__(None, None, None)
        if self._spool is not None:
            await self._spool.close()

    # Turns

    async def start(self, said: str | PostTurn, *, principal: str = LOCAL) -> TurnView:
        """Post a turn; the assistant's turn, which is stored and runs."""
        post = PostTurn(input=said) if isinstance(said, str) else said
        started, _ = await self.post(post, principal=principal, fingerprint="")
        return started.assistant_turn

    async def post(self, post: PostTurn, *, principal: str, fingerprint: str) -> tuple[Started, bool]:
        """Both turns are stored when this returns. False: the request is a repeat, and this is what it made before.

        ``fingerprint`` is the same for requests of the same JSON value. Raises ``RequestError``, ``StoreError``.
        """
        return await self._posting.post(post, principal=principal, fingerprint=fingerprint)

    async def get(self, turn_id: str, *, principal: str = LOCAL) -> TurnView:
        row = await self._own_turn(turn_id, principal)
        if row.ended_at is None:
            await self._running.drained(turn_id)
        return await looking.view(self._store, turn_id, self._running.get(turn_id))

    async def cancel(
        self, turn_id: str, *, mode: i.CancelMode = "now", principal: str = LOCAL
    ) -> tuple[Cancelled | CancelKept, bool]:
        """The turn, and whether it had ended before. The owner acts at once, whatever the store does. A cancel of a
        turn that is not known yet is remembered for a minute."""
        runner = self._running.get(turn_id)
        if runner is not None and runner.principal == principal:
            return await self._cancelling.here(runner, mode), False
        try:
            row = await self._own_turn(turn_id, principal)
        except NotFound:  # somebody else's, or not posted yet: nobody is told which
            kept = await self._cancelling.keep(principal, turn_id)
            try:
                row = await self._own_turn(turn_id, principal)  # it may have been posted before that was kept
            except LegatoError:
                return kept, False
        return await self._cancelling.elsewhere(row, mode), row.ended_at is not None

    async def tool_results(self, turn_id: str, post: PostToolResults, *, principal: str = LOCAL) -> TurnView:
        """Results of a client's tools: stored when this returns, all or none; the turn goes on with them.

        A repeat with the same values is no fault. Raises ``RequestError``, ``StoreError``.
        """
        await self._own_turn(turn_id, principal)
        answers = await self._answering.results(turn_id, post, self._running.get(turn_id))
        return await self._go_on(turn_id, answers)

    async def approve(self, turn_id: str, post: PostApproval, *, principal: str = LOCAL) -> TurnView:
        """A person's decision, or answer to what a tool asked; likewise."""
        await self._own_turn(turn_id, principal)
        answers = await self._answering.approval(turn_id, post, self._running.get(turn_id))
        return await self._go_on(turn_id, answers)

    async def steer(self, turn_id: str, said: str | PostSteer, *, principal: str = LOCAL) -> Steered:
        """Say something into a turn that has not ended; stored when this returns. The model reads it in the next round;
        one more is asked for it if the limits allow, else it is given back before the end.

        Raises ``RequestError`` (``turn_ended``), ``StoreError``.
        """
        post = PostSteer(text=said) if isinstance(said, str) else said
        await self._own_turn(turn_id, principal)
        kept = await self._steering.steer(turn_id, post)
        state = "accepted" if kept.state == "posted" else kept.state
        view = await looking.view(self._store, turn_id, self._running.get(turn_id))
        return Steered(
            **msgspec.structs.asdict(view), steer=SteerView(steer_id=kept.steer_id, text=kept.text, state=state)
        )

    def reader(self, turn_id: str, *, after: int, each: bool, encode: Encode) -> Reader:
        """For surfaces, which frame each event line by ``encode``: always the same function, since readers share."""
        return self._followers.reader(turn_id, after=after, each=each, encode=encode)

    async def follow(self, turn_id: str, *, after: int = 0) -> AsyncIterator[e.Event]:
        """Every event of the turn with seq > ``after``, live; ends after ``turn_end``, or without it at the drain."""
        reader = self.reader(turn_id, after=after, each=True, encode=_as_line)
        while (lines := await reader.read()) is not None:
            for line in log_lines.split(lines):
                yield e.decode(line)

    async def position(self, turn_id: str, *, after: int, principal: str = LOCAL) -> Literal["ended", "open"]:
        """``ended``: the turn has, and nothing comes after ``after``."""
        row = await self._own_turn(turn_id, principal)
        if self._running.get(turn_id) is not None or row.ended_at is None:
            return "open"
        return "ended" if after >= row.last_seq else "open"

    async def model_view(self, turn_id: str, *, round: int | None = None, principal: str = LOCAL) -> ModelView:
        """What the model was sent in ``round``, by default the last one there is."""
        row = await self._own_turn(turn_id, principal)
        if row.role != "assistant":
            raise InvalidRequest(f"turn {turn_id} is a user turn; the model was asked in the turn that answers it")
        return await self._model_views.of(row, round)

    async def timeline(self, turn_id: str, *, principal: str = LOCAL) -> Timeline:
        await self._own_turn(turn_id, principal)
        runner = self._running.get(turn_id)
        spans = await self._store.spans(turn_id) if runner is None else runner.timeline.spans()
        return Timeline(spans=tuple(spans), overlap_ms=overlap_ms(spans))

    async def datum(self, turn_id: str, index: int, *, principal: str = LOCAL) -> Datum:
        await self._own_turn(turn_id, principal)
        datum = await self._store.datum(turn_id, index)
        if datum is None:
            raise NotFound(f"block {index} of turn {turn_id} has no data")
        return datum

    async def output(self, turn_id: str, call_id: str, *, principal: str = LOCAL) -> KeptOutput:
        """The whole of an output that is kept beside its turn."""
        row = await self._own_turn(turn_id, principal)
        found = await self._store.result(row.chat_id, call_id)
        if found is None or found[0] != turn_id or not isinstance(found[1].bytes, int):
            raise NotFound(f"call {call_id} of turn {turn_id} has no output beside the turn")
        return KeptOutput(self._store, turn_id, found[1])

    # Chats

    async def chats(self, *, principal: str = LOCAL, limit: int = 50, before: str | None = None) -> ChatPage:
        return await self._chats.page(principal=principal, limit=limit, before=before)

    async def create_chat(self, post: PostChat, *, principal: str = LOCAL) -> ChatView:
        return await self._chats.create(post, principal=principal)

    async def chat(self, chat_id: str, *, principal: str = LOCAL) -> ChatView:
        return chat_view(await self._chats.own(chat_id, principal))

    async def update_chat(self, chat_id: str, patch: PatchChat, *, principal: str = LOCAL) -> ChatView:
        return await self._chats.update(chat_id, patch, principal=principal)

    async def delete_chat(self, chat_id: str, *, principal: str = LOCAL) -> None:
        """Cancel what runs in it and what is queued, then remove everything of it."""
        await self._chats.own(chat_id, principal)
        await self._cancelling.all_of(chat_id)
        await self._store.delete_chat(chat_id)

    async def turns(
        self,
        chat_id: str,
        *,
        branch: str | None = None,
        limit: int = 50,
        before: str | None = None,
        principal: str = LOCAL,
    ) -> TurnPage:
        chat = await self._chats.own(chat_id, principal)
        leaf = before or branch or chat.head_turn_id
        if leaf is None:
            return TurnPage(data=(), next=None)
        row = await self._store.turn(leaf)
        if row is None or row.chat_id != chat_id:
            raise NotFound(f"there is no turn {leaf} in chat {chat_id}")
        stored = await self._store.branch(leaf, limit=limit)
        siblings = _siblings(await self._store.tree(chat_id))
        views = [await self._view(turn, siblings.get(_place(turn.row), (turn.row.id,))) for turn in stored]
        return TurnPage(data=tuple(views), next=stored[0].row.prev_turn_id if stored else None)

    async def tree(self, chat_id: str, *, principal: str = LOCAL) -> TreePage:
        return await self._chats.tree(chat_id, principal=principal)

    # Documents

    @property
    def documents(self) -> Workspaces:
        """Raises ``NotFound`` where the service was built without any."""
        if self._documents is None:
            raise NotFound("this service keeps no documents")
        return self._documents

    # The server

    def tools(self) -> ToolPage:
        return tool_page(self._tools)

    def models(self) -> ModelPage:
        return model_page(self._models)

    async def ready(self) -> None:
        """Raises ``Overloaded`` while draining, ``StoreError`` while the store is away."""
        self._posting.refuse_when_draining()
        await self._store.ping()

    def release_readers(self) -> None:
        """Take no more turns, and end every event stream at once; readers come back with their cursor."""
        self._running.closing = True
        self._followers.close()
        self._running.wake()

    async def drain(self, seconds: float) -> None:
        """Let running turns end for ``seconds``, let go of the rest for whoever takes them up, store everything.

        May be repeated: after one that was cut no block's end is awaited, and after one that came to its end nothing is
        done again."""
        self.release_readers()
        if self._drained:
            return
        patience, self._patience = self._patience, 0.0
        if len(self._running):
            with anyio.move_on_after(seconds):
                await self._running.none()
        await self._running.let_go(patience)
        if await self._journal.close(timeout=STORING_SECONDS):
            await self._running.free(FREEING_SECONDS)
        else:
            _logger.error("neither the store nor the spool took everything in %g s", STORING_SECONDS)
        self._drained = True

    # Inside

    def _live(self, turn_id: str) -> LiveLog | None:
        return self._running.live(turn_id)

    async def _go_on(self, turn_id: str, answers: Sequence[Answer]) -> TurnView:
        """With answers that are stored: here, where it runs here; else whoever runs it sees them."""
        runner = self._running.get(turn_id)
        if runner is None or runner.machine.waiting:
            self._running.take_up_soon(turn_id)
        else:
            for answer in answers:
                runner.receive(i.Answered(answer=msgspec.structs.replace(answer, nr=0), nr=answer.nr))
        return await looking.view(self._store, turn_id, self._running.get(turn_id))

    async def _own_turn(self, turn_id: str, principal: str) -> TurnRow:
        row = await self._store.turn(turn_id)
        chat = None if row is None else await self._store.chat(row.chat_id)
        if row is None or chat is None or chat.owner != principal:
            raise NotFound(f"there is no turn {turn_id}")
        return row

    async def _view(self, turn: StoredTurn, siblings: Sequence[str]) -> TurnView:
        runner = self._running.get(turn.row.id)
        if runner is not None and not runner.live.hidden:
            return looking.running_view(runner, siblings)
        if turn.row.ended_at is None:
            return await looking.view(self._store, turn.row.id, None)
        return looking.stored_view(turn, siblings)


def _as_line(line: bytes) -> bytes:
    return line + b"\n"


def _place(row: TurnRow) -> tuple[str | None, str]:
    return row.prev_turn_id, row.role


def _siblings(rows: Sequence[TurnRow]) -> dict[tuple[str | None, str], list[str]]:
    places: dict[tuple[str | None, str], list[str]] = {}
    for row in rows:
        places.setdefault(_place(row), []).append(row.id)
    return places
