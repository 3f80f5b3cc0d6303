"""Write-behind: what turns say is stored by one task that no turn and no request owns (P6).

Turns put what is new into their ``Tail`` and go on. The journal stores the tails of all turns together, every
``flush_interval`` and at once when somebody waits. Nobody cancels it: who waits may be cancelled, the write is not.
A write that fails is tried again as it was, so it may be repeated; one row's own fault ends its own turn only. What the
store does not take within the retry window goes to the spool, which counts as stored: its turns are told to end, and
all that they still say follows it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import anyio
import msgspec

from legato.core.blocks import Block
from legato.core.errors import LegatoError, RowRefused, StaleEpoch, StoreError, StoreUnavailable
from legato.core.records import (
    Intent,
    KeptSteer,
    LogSegment,
    Need,
    Reading,
    Rest,
    RoundRecord,
    Span,
    TurnEnding,
    TurnWrite,
)
from legato.observability import count
from legato.ports import Store
from legato.runtime.owning.lease import Lease
from legato.runtime.storing.backlog import Backlog
from legato.runtime.storing.spool import Spool, SpoolFailed
from legato.runtime.storing.tries import Tries

_logger = logging.getLogger(__name__)

BACKOFF = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before each further try; the last one again and again."""
UNSAVED_BYTES = 67_108_864
"""Said and not stored, of all turns: what 600 turns of 50 deltas a second say in 20 s."""
SPOOL_SECONDS = 3.0
"""Of its lease, and of its last ones, that a process keeps for the spool and for what its turns say at their end."""
LAST_TRY_SECONDS = 1.0
"""At the close, for a store that was away before: what it does not take then goes to the spool."""


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. ``persist_timeout`` bounds one try of a write, ``retry_window`` all of them together.

    The window is over before the lease is: while the store is away none is renewed, and an owner whose lease is over
    may not even say that its turns have ended. 20 s fit into one that was renewed 5 s before the store went.
    """

    flush_interval: float = 0.25
    persist_timeout: float = 5.0
    retry_window: float = 20.0


class PersistenceFailedError(LegatoError):
    """What this turn said cannot be stored. ``stale``: it is another owner's by now, or was deleted."""

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message, code="persistence_failed")
        self.stale = stale


class Tail:
    """What one turn has said and is not stored yet. ``durable_seq`` is the last event that is, with all before it."""

    def __init__(self, turn_id: str, *, epoch: int, seq: int, journal: Journal) -> None:
        self.turn_id = turn_id
        self.epoch = epoch
        self.durable_seq = seq
        self.failure: PersistenceFailedError | None = None
        self.spooled = False
        """All it still says goes to the spool."""
        self.told: PersistenceFailedError | None = None
        """Why it is to end: the store did not take it in time."""
        self.on_stored: Callable[[int], None] | None = None
        self.on_failure: Callable[[PersistenceFailedError], None] | None = None
        self.last_word: Callable[[PersistenceFailedError], tuple[bytes, TurnEnding]] | None = None
        """Its end, said otherwise: for one that had ended well, and nobody has heard so yet."""
        self._seq = seq
        self._added = 0
        self._stored = 0
        self._taken = 0
        self._journal = journal
        self._backlog = journal.backlog
        self._taken_bytes = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._dirty = False
        self._lines: list[bytes] = []
        self._blocks: list[Block] = []
        self._rounds: dict[tuple[int, int], RoundRecord] = {}
        self._intents: list[Intent] = []
        self._readings: list[Reading] = []
        self._needs: list[Need] = []
        self._answered: list[tuple[str, int]] = []
        self._steers: dict[str, KeptSteer] = {}
        self._dropped_blocks: tuple[int, ...] = ()
        self._dropped_rounds: tuple[tuple[int, int], ...] = ()
        self._spans: tuple[Span, ...] = ()
        self._rest: Rest | None = None
        self._ending: TurnEnding | None = None
        self._concluded = False

    def add_line(self, line: bytes, seq: int) -> None:
        """The next event as it is said. The hot path: a list, three numbers."""
        self._lines.append(line)
        self._backlog.bytes += len(line)
        self._seq = seq
        self._added += 1
        if not self._dirty:
            self._dirty = True
            self._journal.mark(self)

    def add_block(self, block: Block) -> None:
        self._blocks.append(block)
        self._touch()

    def put_round(self, record: RoundRecord) -> None:
        self._rounds[record.round, record.attempt] = record
        self._touch()

    def add_intent(self, intent: Intent) -> None:
        self._intents.append(intent)
        self._touch()

    def withdraw_intents(self) -> None:
        """Of calls that will not be begun here: what is not on its way to the store by now is not stored."""
        self._intents = []

    def add_readings(self, readings: Sequence[Reading]) -> None:
        self._readings.extend(readings)
        self._touch()

    def add_need(self, need: Need) -> None:
        self._needs.append(need)
        self._touch()

    def answered(self, call_id: str, nr: int) -> None:
        """The need has its answer, and the turn has gone on with it."""
        self._answered.append((call_id, nr))
        self._touch()

    def put_steer(self, steer: KeptSteer) -> None:
        self._steers[steer.steer_id] = steer
        self._touch()

    def drop(self, blocks: Sequence[int], rounds: Sequence[tuple[int, int]]) -> None:
        """What is stored of these fell to the ``rewind`` that was just added."""
        self._dropped_blocks, self._dropped_rounds = tuple(blocks), tuple(rounds)
        self._touch()

    def rest(self, rest: Rest, spans: Sequence[Span]) -> None:
        self._rest = rest
        self._concluded = True
        self._spans = tuple(spans)
        self._touch()

    def end(self, ending: TurnEnding, spans: Sequence[Span]) -> None:
        self._ending = ending
        self._concluded = True
        self._spans = tuple(spans)
        self._touch()

    async def stored(self) -> None:
        """Wait until all that was added so far is stored; a cancelled wait leaves the write alone.

        Raises ``PersistenceFailedError``.
        """
        if self.failure is not None:
            raise self.failure
        if self._stored >= self._added:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((self._added, future))
        self._journal.hurry()
        await future

    # For the journal

    def take(self) -> TurnWrite:
        """All that is new, as one write; what is added from now on belongs to the next."""
        segment = None
        if self._lines:
            body = b"\n".join(self._lines) + b"\n"
            segment = LogSegment(first_seq=self._seq - len(self._lines) + 1, last_seq=self._seq, lines=body)
            self._taken_bytes = len(body) - len(self._lines)
        write = TurnWrite(
            turn_id=self.turn_id,
            epoch=self.epoch,
            segment=segment,
            blocks=tuple(self._blocks),
            rounds=tuple(self._rounds.values()),
            intents=tuple(self._intents),
            readings=tuple(self._readings),
            needs=tuple(self._needs),
            taken=tuple(self._answered),
            steers=tuple(self._steers.values()),
            dropped_blocks=self._dropped_blocks,
            dropped_rounds=self._dropped_rounds,
            spans=self._spans,
            rest=self._rest,
            ending=self._ending,
        )
        self._taken = self._added
        self._clear()
        return write

    def confirm(self, write: TurnWrite) -> None:
        """``write``, the last that was taken, is stored, or as good as that: it is in the spool."""
        self._drop_taken()
        if write.segment is not None:
            self.durable_seq = write.segment.last_seq
        self._stored = self._taken
        for mark, future in self._waiting:
            if mark <= self._stored and not future.done():
                future.set_result(None)
        self._waiting = [(mark, future) for mark, future in self._waiting if mark > self._stored]
        # Readers far behind are given what is in the store; of the spool nobody can read.
        if self.on_stored is not None and not self.spooled:
            self.on_stored(self.durable_seq)

    def tell(self, failure: PersistenceFailedError) -> None:
        """The turn is to end; what it says until then is taken."""
        self.told = failure
        if self.on_failure is not None and not self._concluded:
            self.on_failure(failure)

    def ended_as(self, told: PersistenceFailedError | None, write: TurnWrite) -> TurnWrite:
        """``write`` with an end that says what became of it, where it holds the end."""
        if told is None or self.last_word is None or write.ending is None or write.segment is None:
            return write
        line, ending = self.last_word(told)
        before = write.segment.lines[: write.segment.lines.rfind(b"\n", 0, -1) + 1]
        segment = msgspec.structs.replace(write.segment, lines=before + line + b"\n")
        return msgspec.structs.replace(write, segment=segment, ending=ending)

    def fail(self, failure: PersistenceFailedError) -> None:
        """Nothing more of it is stored."""
        self.failure = failure
        self._drop_taken()
        self._backlog.less(sum(map(len, self._lines)))
        self._backlog = Backlog(0, self._journal.hurry)  # what it still says waits for nobody
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(failure)
        self._waiting = []
        if self.on_failure is not None:
            self.on_failure(failure)

    def _drop_taken(self) -> None:
        self._backlog.less(self._taken_bytes)
        self._taken_bytes = 0

    def _touch(self) -> None:
        self._added += 1
        if not self._dirty:
            self._dirty = True
            self._journal.mark(self)

    def _clear(self) -> None:
        self._dirty = False
        self._lines, self._blocks, self._rounds = [], [], {}
        self._intents, self._readings = [], []
        self._needs, self._answered, self._steers = [], [], {}
        self._dropped_blocks, self._dropped_rounds = (), ()
        self._spans, self._rest, self._ending = (), None, None


_Group: TypeAlias = list[tuple[Tail, TurnWrite]]


class Journal:
    """Runs as one task (``run``) until ``close``. Past ``unsaved_bytes`` turns wait for the ``backlog``."""

    def __init__(
        self,
        store: Store,
        settings: JournalSettings,
        *,
        unsaved_bytes: int = UNSAVED_BYTES,
        spool: Spool | None = None,
        lease: Lease | None = None,
    ) -> None:
        self.backlog = Backlog(unsaved_bytes, self.hurry)
        self._store = store
        self._settings = settings
        self._spool = spool
        self._lease = lease
        self._dirty: list[Tail] = []
        self._away_since: float | None = None
        """When the store took something last, if it has not taken anything since."""
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = False
        self._out_of_time = False
        """At the close: nothing more is tried."""
        self._trying: anyio.CancelScope | None = None
        self._idle = asyncio.Event()

    def tail(self, turn_id: str, *, epoch: int, seq: int = 0) -> Tail:
        """For a turn whose last stored event is ``seq``."""
        return Tail(turn_id, epoch=epoch, seq=seq, journal=self)

    def mark(self, tail: Tail) -> None:
        if not self._dirty:
            self._work.set()
        self._dirty.append(tail)

    def unsaved_bytes(self) -> int:
        """Said and not stored, of all turns."""
        return self.backlog.bytes

    @property
    def spooled(self) -> bool:
        """Something of this process lies in the spool."""
        return self._spool is not None and self._spool.holds_something

    def hurry(self) -> None:
        """Somebody waits: store now."""
        self._urgent.set()

    async def run(self) -> None:
        while True:
            if not self._dirty:
                if self._closing:
                    break
                await self._work.wait()
            if not self._closing:
                with anyio.move_on_after(self._settings.flush_interval):
                    await self._urgent.wait()
            self._work.clear()
            self._urgent.clear()
            await self._flush()
        self._idle.set()

    async def drained(self) -> bool:
        """Whether the store has all that was spooled, here and by processes that are gone: only then their turns may be
        looked at. Raises ``StoreError``."""
        return self._spool is None or await self._spool.drain(self._store)

    async def close(self, *, timeout: float) -> bool:
        """Store what is left, or spool it, in ``timeout`` seconds. False if neither was possible."""
        self._closing = True
        self._work.set()
        self._urgent.set()
        patience = timeout
        if self._spool is not None:
            known_away = self._away_since is not None
            patience = LAST_TRY_SECONDS if known_away else max(timeout - SPOOL_SECONDS, LAST_TRY_SECONDS)
        with anyio.move_on_after(min(patience, timeout), shield=True):
            await self._idle.wait()
        if not self._idle.is_set() and self._spool is not None:
            self._out_of_time = True
            if self._trying is not None:
                self._trying.cancel()
            with anyio.move_on_after(SPOOL_SECONDS, shield=True):
                await self._idle.wait()
        return self._idle.is_set()

    async def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        group: _Group = [(tail, tail.take()) for tail in dirty if tail.failure is None]
        await self._guarded(
            self._keep, [(tail, tail.ended_as(tail.told, write)) for tail, write in group if tail.spooled]
        )
        await self._guarded(self._store_or_spool, [pair for pair in group if not pair[0].spooled])

    async def _guarded(self, keep: Callable[[_Group], Awaitable[None]], group: _Group) -> None:
        try:
            await keep(group)
        except Exception:  # the supervisor of what is stored: without it nothing of any turn would be any more
            _logger.exception("a write of %d turns broke", len(group))
            count("journal_broken")
            self._fail(
                [pair for pair in group if pair[0].failure is None],
                PersistenceFailedError("the write broke; the log says how"),
            )

    async def _store_or_spool(self, group: _Group) -> None:
        if group:
            async with anyio.create_task_group() as tasks:
                await self._try_on(group, Tries(self._store, tasks))
                tasks.cancel_scope.cancel()

    async def _try_on(self, group: _Group, tries: Tries) -> None:
        asked = {tail.turn_id for tail, _ in group}
        failed, unsure = 0, False
        while group := [pair for pair in group if pair[0].failure is None]:
            error = await self._try(group, tries)
            match error:
                case None:
                    for tail, write in group:
                        tail.confirm(write)
                    return
                case StaleEpoch() | RowRefused():
                    group = await self._without(group, error, asked)
                    continue
                case StoreUnavailable(unsure=True):
                    unsure = True
                case _:
                    pass
            count("journal_write_retries")
            if self._out_of_time or self._left() <= 0:
                await self._give_up(group, error, undecided=unsure or tries.open > 0)
                return
            _logger.warning("the store did not take %d turns, trying again: %s", len(group), _reason(error))
            await self._pause(BACKOFF[min(failed, len(BACKOFF) - 1)])
            failed += 1

    async def _try(self, group: _Group, tries: Tries) -> StoreError | TimeoutError | None:
        """What the store has against it."""
        if self._out_of_time:
            return TimeoutError()
        began = asyncio.get_running_loop().time()
        timeout, left = self._settings.persist_timeout, self._left()
        if left > 0:
            timeout = min(timeout, left)
        error: StoreError | TimeoutError | None = TimeoutError()
        tries.begin([write for _, write in group])
        with anyio.move_on_after(timeout) as self._trying:
            error = await tries.answer()
        self._trying = None
        if error is None or isinstance(error, StaleEpoch | RowRefused):
            self._away_since = None
        elif self._away_since is None:
            self._away_since = began
        return error

    def _left(self) -> float:
        """Seconds of the retry window. It is the store's and not a group's: what is said while it is away has no more
        time than what was said when it went."""
        since = self._away_since
        now = asyncio.get_running_loop().time()
        window = self._settings.retry_window - (0 if since is None else now - since)
        return window if self._lease is None else min(window, self._lease.left - SPOOL_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds) as self._trying:
            await anyio.sleep(seconds)
        self._trying = None

    async def _without(self, group: _Group, refusal: StaleEpoch | RowRefused, asked: set[str]) -> _Group:
        """One turn spoiled the group: it ends, the others are tried again without it. What of it no store takes lies in
        a file that stays. ``asked``: the turns of any try; one of them may have gone from the group by now."""
        if refusal.turn_id not in asked:
            self._fail(group, refusal)
            return []
        spoiled = [tail for tail, _ in group if tail.turn_id == refusal.turn_id]
        if not spoiled:
            return group
        stale = isinstance(refusal, StaleEpoch)
        deleted = not stale and await self._is_deleted(refusal.turn_id)
        if not (stale or deleted):
            count("journal_rows_refused")
            await self._set_aside([write for tail, write in group if tail in spoiled])
        level = logging.INFO if deleted else logging.ERROR
        _logger.log(level, "turn %s cannot be stored: %s", refusal.turn_id, refusal.message)
        for tail in spoiled:
            tail.fail(PersistenceFailedError(refusal.message, stale=stale or deleted))
        return [pair for pair in group if pair[0].turn_id != refusal.turn_id]

    async def _is_deleted(self, turn_id: str) -> bool:
        """In another process: of such a turn nothing is to be kept, and there is nobody to be told."""
        with anyio.move_on_after(self._settings.persist_timeout), contextlib.suppress(StoreError):
            return await self._store.turn(turn_id) is None
        return False

    async def _set_aside(self, writes: Sequence[TurnWrite]) -> None:
        if self._spool is not None:
            with contextlib.suppress(SpoolFailed):  # the log has said it; nobody waits for the file
                await self._spool.set_aside(writes)

    async def _give_up(self, group: _Group, error: BaseException, *, undecided: bool) -> None:
        """The window is over, or the server stops. Turns end with what they have said so far, unless they have let go:
        then whoever takes them up goes on from there.

        ``undecided``: the store may have done, or do yet, what it did not answer to. An end that it has may not be said
        otherwise.
        """
        if self._spool is None:
            self._fail(group, error)
            return
        said = f"the store did not take what the turn said: {_reason(error)}; a file has it until the store does"
        told = None if self._closing else PersistenceFailedError(said)
        if told is not None and not undecided:
            group = [(tail, tail.ended_as(told, write)) for tail, write in group]
        await self._keep(group, told)

    async def _keep(self, group: _Group, told: PersistenceFailedError | None = None) -> None:
        if not group or self._spool is None:
            return
        try:
            await self._spool.keep([write for _, write in group])
        except SpoolFailed as error:
            self._fail(group, error)
            return
        for tail, write in group:
            tail.spooled = True
            if told is not None:  # before whoever waits goes on
                _logger.error("turn %s goes to the spool and ends: %s", tail.turn_id, told.message)
                tail.tell(told)
            tail.confirm(write)

    def _fail(self, group: _Group, error: BaseException) -> None:
        for tail, _ in group:
            _logger.error("turn %s is given up on: %s", tail.turn_id, _reason(error))
            tail.fail(PersistenceFailedError(f"the store did not take what the turn said: {_reason(error)}"))


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, LegatoError) else "it did not answer in time"
