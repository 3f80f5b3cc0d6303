"""What we need from outside, on one screen. Adapters implement these; nobody in core or runtime knows their names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from legato.core.ask import Ask, ToolSpec
from legato.core.blocks import Block, CallError, Json, Outcome, ToolResultBlock
from legato.core.context import ToolContext
from legato.core.documents import Change, Changed, DocumentPage, DocumentText, Entry, HitPage, VersionPage
from legato.core.evidence import ChatEvidence, Evidence, FileState, Finding, Unended
from legato.core.inputs import CancelMode, ProviderInput
from legato.core.records import (
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
    Reading,
    Span,
    StoredTurn,
    TurnRow,
    TurnWrite,
)


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model. ``known`` is False where it is in no table: then everything is taken to be possible.
    ``context`` and ``max_output`` are tokens, prices USD per million tokens."""

    id: str
    provider: str
    display_name: str
    known: bool = True
    context: int | None = None
    max_output: int | None = None
    input_price: float | None = None
    output_price: float | None = None
    tools: bool = True
    images: bool = True
    files: bool = True
    thinking: bool = True
    created: str = "1970-01-01T00:00:00Z"


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A model and who serves it. ``model`` is the provider's own name for it, ``name`` is ``provider/model``."""

    provider: Provider
    model: str
    name: str


class Models(Protocol):
    """Every model that can be asked."""

    def resolve(self, name: str | None) -> Resolved:
        """None means the default. Raises ``InvalidRequest``: ``unknown_model``, ``provider_not_configured``."""

    def all(self) -> Sequence[ModelInfo]:
        """Those in our table whose provider can be asked, the default first."""


class Dropped(msgspec.Struct, frozen=True):
    """Something of the ask that the model cannot take was left out. Becomes a ``notice``."""

    code: str
    message: str


Sink: TypeAlias = Callable[[Sequence[ProviderInput]], Awaitable[object] | None]
"""Takes a provider's inputs without waiting: a delta goes its whole way inside the call that brought its bytes.

Nearly always gives None. Else too much is said that the store has not taken: what it gives is awaited before the
provider's socket is read again."""


class Provider(Protocol):
    """Who serves models, over one wire."""

    name: str
    max_retries: int
    """How often a response that died before its first block is asked for again."""

    def models(self) -> Sequence[ModelInfo]: ...

    def model(self, name: str) -> ModelInfo | None:
        """None where this provider surely has no such model (422 ``unknown_model``)."""

    def admit(self, model: str, said: Sequence[Block]) -> None:
        """Raise ``InvalidRequest`` for a user turn that could never be sent: a URL the wire does not take, say."""

    def fit(self, ask: Ask) -> tuple[Ask, Sequence[Dropped]]:
        """The ask without what the model cannot take, and what was left out."""

    async def stream(self, ask: Ask, sink: Sink) -> None:
        """One request, one response. ``sink`` is given all inputs of one wake-up at a time, as they arrive; the last of
        the last is ``ResponseEnded`` or ``ResponseFailed``. Raises for nothing the outside did. Cancel it to drop the
        request at once."""

    async def close(self) -> None: ...


ChatField: TypeAlias = Literal["title", "system", "model", "metadata", "head_turn_id"]
CHAT_FIELDS: Final[tuple[ChatField, ...]] = ("title", "system", "model", "metadata", "head_turn_id")
"""What of a chat can be changed from outside."""

Begun: TypeAlias = Accepted | AlreadyMade | Busy | Queued | QueueFull
"""What becomes of new turns."""

Effect: TypeAlias = Literal["read", "idempotent", "write"]


class Tool(Protocol):
    """A function the model may call. ``timeout`` and ``idle_timeout`` are seconds, ``max_output`` is bytes of what the
    model reads. ``source`` says where it was declared."""

    spec: ToolSpec
    effect: Effect
    eager: bool
    timeout: float
    idle_timeout: float | None
    max_output: int
    retries: int
    source: str
    needs_approval: bool
    kind: Literal["async", "sync", "stream"]
    reconcile: Callable[[str], object] | None
    """Asks the outside what became of an idempotency key: gives the output, or an awaitable of it, where the call took
    effect, None where that cannot be said; raises ``ToolError`` where it surely did not. May block."""

    def check(self, input: dict[str, Json]) -> str | None:
        """What is wrong with the arguments, in words for the model; None if nothing is."""

    def asks_approval(self, input: dict[str, Json]) -> bool:
        """Whether this call needs a person's yes. ``needs_approval``: some call may."""

    def lane(self, input: dict[str, Json]) -> str | None:
        """The lane of this call; None for a ``read`` without one, and for the turn's own lane."""

    def bind(self, input: dict[str, Json], ctx: ToolContext) -> Callable[[], object]:
        """The call, ready: gives an awaitable (``async``), the value (``sync``), or an async iterator (``stream``)."""

    def jsonable(self, value: object) -> Json:
        """The value as JSON. Raises ``ToolError`` with code ``not_json``."""


class Tools(Protocol):
    """The registry: always there, perhaps empty. Order is the order of declaration and stable."""

    def names(self) -> Sequence[str]: ...

    def get(self, name: str) -> Tool | None: ...


class Formatters(Protocol):
    """Always there: a turn service cannot be built without one."""

    def read(
        self,
        *,
        call_id: str,
        tool_name: str,
        outcome: Outcome,
        output: Json,
        error: CallError | None,
        max_bytes: int,
        kept_bytes: int | None = None,
        reads_on: bool = False,
    ) -> Reading:
        """What the model reads of a result. Never raises: a formatter that does falls back to the default one.

        ``kept_bytes``: the whole output has so many bytes and lies beside the turn, ``output`` is its beginning and its
        end. ``reads_on``: the turn may call ``read_result``, so what is left out can be read.
        """


class KeptResults(Protocol):
    """The part of a ``Store`` that ``read_result`` reads."""

    async def result(self, chat_id: str, call_id: str) -> tuple[str, ToolResultBlock] | None: ...

    async def output(self, turn_id: str, call_id: str, *, offset: int, limit: int) -> bytes: ...


class KeepOutput(Protocol):
    """``Store.keep_output``: the part that runs tools."""

    async def __call__(self, turn_id: str, call_id: str, offset: int, piece: bytes, *, epoch: int) -> None: ...


class Store(Protocol):
    """Where everything is kept. Every method raises ``StoreError`` alone; every write may be repeated.

    A write that was given up on by its caller may still happen. No connection is held between two calls.
    """

    async def begin(self, new: NewTurns) -> Begun: ...

    async def write(self, writes: Sequence[TurnWrite]) -> None:
        """All in one transaction or nothing: ``StaleEpoch`` and ``RowRefused`` name the turn that spoiled the group."""

    async def request_cancel(self, turn_id: str, *, mode: CancelMode = "now") -> None:
        """Note on the row that a cancel was asked for; the strictest of several modes stays."""

    async def cancel_early(self, owner: str, turn_id: str, *, seconds: float, limit: int) -> None:
        """Of a turn that is not there yet: for so long, if one of this id is begun in a chat of ``owner``, it has a
        cancel requested, once. Of more than ``limit`` such cancels the oldest are forgotten."""

    async def turn(self, turn_id: str) -> TurnRow | None: ...

    async def load(self, turn_id: str) -> StoredTurn | None: ...

    async def branch(self, leaf: str, *, limit: int | None = None) -> Sequence[StoredTurn]:
        """The newest ``limit`` turns from the leaf up, oldest first."""

    async def log(self, turn_id: str, *, after: int) -> Sequence[LogSegment]:
        """Segments with events of seq > ``after``, in order, whole: the first may begin before."""

    async def spans(self, turn_id: str) -> Sequence[Span]: ...

    async def intents(self, turn_id: str) -> Sequence[Intent]:
        """Those stored of its calls: a call with one may have started, a call with effects without one has not."""

    async def datum(self, turn_id: str, index: int) -> Datum | None: ...

    async def siblings(self, row: TurnRow) -> Sequence[str]:
        """Those that hang where it does, itself among them, in the order they were made."""

    async def unended(self) -> Sequence[TurnRow]:
        """Assistant turns without ``ended_at``, oldest first."""

    async def overdue(self, turn_id: str | None = None) -> Sequence[TurnRow]:
        """Turns that run for nobody: without an owner, or with a lease that has run out by the store's own clock; one
        that was never renewed runs from ``created_at``. Oldest first; those that wait are not among them. Of one turn
        alone, where it is named."""

    async def renew(self, owner: str) -> None:
        """Give every turn of this owner that runs a lease of ``LEASE_SECONDS`` from now on, as ``claim`` does."""

    async def release(self, turn_ids: Sequence[str], *, owner: str) -> None:
        """Let go of these turns where they are still this owner's: whoever comes next may claim them."""

    async def claim(self, turn_id: str, *, epoch: int, owner: str) -> bool:
        """Make ``owner`` the owner with ``epoch``, if the stored epoch is lower; a repeat of the same is True again.
        False if it is not lower, or the turn has ended or is gone. A turn that waited or was queued is ``running`` from
        then on; one that was running is ``recovering``, until its new owner has written."""

    async def answer(self, turn_id: str, answers: Sequence[Answer]) -> None:
        """Keep each answer with the need of its call that it names, or the newest, all of them or none. An equal one
        that is there is no fault.

        Raises ``NotFound`` (``unknown_call``) for a call that has no such need, ``Conflict`` with code
        ``already_answered`` where another answer was first, ``turn_ended`` where the turn ended before anybody did.
        """

    async def needs(self, turn_id: str) -> Sequence[KeptNeed]:
        """All of a turn, in the order of their ``call_waiting``."""

    async def keep_steer(self, turn_id: str, steer: KeptSteer, *, limit: int) -> KeptSteer:
        """Keep it for the turn's owner, whoever that is; the one of this id that is there already, if it says the same.
        What is still ``posted`` when the turn's end is written goes with it, unheard.

        Raises ``NotFound``, ``Conflict`` with code ``steer_id_reused`` or ``turn_ended``, ``InvalidRequest`` with code
        ``too_many_steers``.
        """

    async def steers(self, turn_id: str) -> Sequence[KeptSteer]:
        """All of a turn, in the order in which they were kept."""

    async def unheard_steers(self, owner: str) -> Sequence[tuple[str, KeptSteer]]:
        """Those ``posted`` to turns that this owner runs, each with its turn's id."""

    async def find_steer(self, chat_id: str, steer_id: str) -> tuple[str, KeptSteer] | None:
        """The first of this id in the chat, and its turn's id."""

    async def to_start(self) -> Sequence[TurnRow]:
        """Queued turns whose time has come: the active ones of their chats, and those that were cancelled. ``claim``
        them with the epoch they have: nobody owned them before."""

    async def to_cancel(self, owner: str) -> Sequence[tuple[str, CancelMode]]:
        """Turns that this owner has and for which a cancel was requested, each with its mode."""

    async def to_wake(self, now: str) -> Sequence[TurnRow]:
        """Waiting turns that somebody must take up: one of their needs has an answer that is not taken, a cancel was
        requested, or ``wait_until`` is not after ``now``. Oldest first."""

    async def keep_output(self, turn_id: str, call_id: str, offset: int, piece: bytes, *, epoch: int) -> None:
        """A piece of an output that is too large for the log, at its byte ``offset``. The same again changes nothing;
        another one takes the place of all that was kept from there on, as when the call runs again. Raises
        ``StaleEpoch`` where the turn has a newer owner: what that one kept would go."""

    async def output(self, turn_id: str, call_id: str, *, offset: int, limit: int) -> bytes:
        """At most ``limit`` bytes from ``offset`` on; empty past the end, and where nothing is kept."""

    async def result(self, chat_id: str, call_id: str) -> tuple[str, ToolResultBlock] | None:
        """The closed result of a call of this chat, and the id of its turn."""

    async def chat(self, chat_id: str) -> Chat | None: ...

    async def chats(self, owner: str, *, limit: int, before: str | None) -> tuple[Sequence[Chat], str | None]:
        """Newest ``updated_at`` first, and the cursor for the next page or None."""

    async def create_chat(self, chat: Chat) -> bool:
        """False if the id is taken."""

    async def update_chat(self, chat: Chat, *, fields: Collection[ChatField] = CHAT_FIELDS) -> None:
        """Replace these and ``updated_at``; the others stay as they are by now, whatever ``chat`` says of them."""

    async def delete_chat(self, chat_id: str) -> None:
        """With all that is of it. The ids of its turns are spent: ``begin`` raises ``Conflict`` ``turn_id_reused``."""

    async def tree(self, chat_id: str) -> Sequence[TurnRow]:
        """All turns of a chat, in the order they were made, whatever their times say."""

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Documents(Protocol):
    """Workspaces of documents, one for each owner (core.documents). Raises ``RequestError`` for what is asked wrongly,
    as ``core.workspace`` says, and ``StoreError``. ``folder`` is "" or ends with a slash, as ``folder_path`` gives
    it."""

    async def change(self, owner: str, change: Change, *, key: str | None = None) -> Changed:
        """All of it or nothing, in one transaction, and stored when it returns. A ``key`` that came before gives what
        that change did, and nothing is done."""

    async def changed(self, key: str) -> Changed | None:
        """What the change with this key did; None where there was none."""

    async def read(self, owner: str, path: str, *, version: int | None = None) -> DocumentText:
        """As it is, or as a change of that number had left it: then also a deleted one."""

    async def page(self, owner: str, *, folder: str, limit: int, before: str | None, deleted: bool) -> DocumentPage:
        """By path; the deleted ones instead, the last deleted first."""

    async def tree(self, owner: str, folder: str) -> Sequence[tuple[str, int]]:
        """Path and words of every document in a folder and below, by path."""

    async def search(self, owner: str, query: str, *, folder: str, limit: int, before: str | None) -> HitPage: ...

    async def versions(self, owner: str, path: str, *, limit: int, before: str | None) -> VersionPage:
        """Those that are kept, the newest first; of the last deleted one where none is at the path."""

    async def entries(self, owner: str, folder: str, *, max_bytes: int) -> Sequence[Entry]:
        """Every document in a folder and below, by path. Raises ``InvalidRequest`` over ``max_bytes``."""


class Archive(Protocol):
    """A store, only read, perhaps while a server writes it; what is broken in it is told and not raised. Each
    turn and each chat is taken at one moment. Raises ``StoreUnavailable`` where nothing can be read."""

    def count_turns(self, chat_id: str | None) -> int: ...

    def turn_ids(self, chat_id: str | None) -> Iterator[str]:
        """Of all chats where it is None; those that are there now, in the order they were made."""

    def turn(self, turn_id: str) -> Evidence | Finding | None:
        """None where it is not there."""

    def chat_ids(self) -> Iterator[str]: ...

    def chat(self, chat_id: str) -> ChatEvidence | Finding | None: ...

    def strays(self) -> Iterator[Finding]:
        """Rows of turns and chats that are not there."""

    def unended(self) -> Sequence[Unended]:
        """Assistant turns that have not ended, oldest first."""

    def file_state(self) -> FileState: ...


class Clock(Protocol):
    def now(self) -> str:
        """RFC 3339, UTC, milliseconds."""

    def after(self, seconds: float) -> str:
        """What ``now`` will say then."""

    def monotonic(self) -> float:
        """Seconds, never backwards."""
