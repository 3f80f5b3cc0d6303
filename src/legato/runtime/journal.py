"""Write-behind: what turns say is stored by one task that no turn and no request owns (P6).

Turns put what is new into their ``Tail`` and go on. The journal stores the tails of all turns together, every
``flush_interval`` and at once when somebody waits. Nobody cancels it: who waits may be cancelled, the write is not.
A write that fails is tried again as it was, so it may be repeated; one row's own fault ends its own turn only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import anyio
import msgspec

from legato.core.blocks import Block
from legato.core.errors import LegatoError, RowRefused, StaleEpoch, StoreError
from legato.core.records import (
    Intent,
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

_logger = logging.getLogger(__name__)

BACKOFF = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before each further try; the last one again and again."""


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. ``persist_timeout`` bounds one try of a write, ``retry_window`` all of them together."""

    flush_interval: float = 0.25
    persist_timeout: float = 5.0
    retry_window: float = 60.0


class PersistenceFailedError(LegatoError):
    """What this turn said cannot be stored. ``stale``: it is another owner's by now."""

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
        self.on_stored: Callable[[int], None] | None = None
        self.on_failure: Callable[[PersistenceFailedError], None] | None = None
        self._seq = seq
        self._added = 0
        self._stored = 0
        self._taken = 0
        self._journal = journal
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._dirty = False
        self._lines: list[bytes] = []
        self._blocks: list[Block] = []
        self._rounds: dict[tuple[int, int], RoundRecord] = {}
        self._intents: list[Intent] = []
        self._readings: list[Reading] = []
        self._needs: list[Need] = []
        self._answered: list[tuple[str, int]] = []
        self._dropped_blocks: tuple[int, ...] = ()
        self._dropped_rounds: tuple[tuple[int, int], ...] = ()
        self._spans: tuple[Span, ...] = ()
        self._rest: Rest | None = None
        self._ending: TurnEnding | None = None

    def add_line(self, line: bytes, seq: int) -> None:
        """The next event as it is said. The hot path: a list, two numbers."""
        self._lines.append(line)
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

    def drop(self, blocks: Sequence[int], rounds: Sequence[tuple[int, int]]) -> None:
        """What is stored of these fell to the ``rewind`` that was just added."""
        self._dropped_blocks, self._dropped_rounds = tuple(blocks), tuple(rounds)
        self._touch()

    def rest(self, rest: Rest, spans: Sequence[Span]) -> None:
        self._rest = rest
        self._spans = tuple(spans)
        self._touch()

    def end(self, ending: TurnEnding, spans: Sequence[Span]) -> None:
        self._ending = ending
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

    def unsaved_bytes(self) -> int:
        return sum(map(len, self._lines))

    def take(self) -> TurnWrite:
        """All that is new, as one write; what is added from now on belongs to the next."""
        segment = None
        if self._lines:
            body = b"\n".join(self._lines) + b"\n"
            segment = LogSegment(first_seq=self._seq - len(self._lines) + 1, last_seq=self._seq, lines=body)
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
        """``write``, the last that was taken, is stored."""
        if write.segment is not None:
            self.durable_seq = write.segment.last_seq
        self._stored = self._taken
        for mark, future in self._waiting:
            if mark <= self._stored and not future.done():
                future.set_result(None)
        self._waiting = [(mark, future) for mark, future in self._waiting if mark > self._stored]
        if self.on_stored is not None:
            self.on_stored(self.durable_seq)

    def fail(self, failure: PersistenceFailedError) -> None:
        self.failure = failure
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(failure)
        self._waiting = []
        if self.on_failure is not None:
            self.on_failure(failure)

    def _touch(self) -> None:
        self._added += 1
        if not self._dirty:
            self._dirty = True
            self._journal.mark(self)

    def _clear(self) -> None:
        self._dirty = False
        self._lines, self._blocks, self._rounds = [], [], {}
        self._intents, self._readings = [], []
        self._needs, self._answered = [], []
        self._dropped_blocks, self._dropped_rounds = (), ()
        self._spans, self._rest, self._ending = (), None, None


class Journal:
    """Runs as one task (``run``) until ``close``."""

    def __init__(self, store: Store, settings: JournalSettings) -> None:
        self._store = store
        self._settings = settings
        self._dirty: list[Tail] = []
        self._in_flight: list[TurnWrite] = []
        self._late = False
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = False
        self._idle = asyncio.Event()

    def tail(self, turn_id: str, *, epoch: int, seq: int = 0) -> Tail:
        """For a turn whose last stored event is ``seq``."""
        return Tail(turn_id, epoch=epoch, seq=seq, journal=self)

    def mark(self, tail: Tail) -> None:
        if not self._dirty:
            self._work.set()
        self._dirty.append(tail)

    def unsaved_bytes(self) -> int:
        """Of lines said and not stored, counted only while the store does not keep up; else 0."""
        if not self._late:
            return 0
        waiting = sum(tail.unsaved_bytes() for tail in self._dirty)
        return waiting + sum(len(write.segment.lines) for write in self._in_flight if write.segment is not None)

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

    async def close(self, *, timeout: float) -> bool:
        """Store what is left, for at most ``timeout`` seconds. False if that was not enough."""
        self._closing = True
        self._work.set()
        self._urgent.set()
        with anyio.move_on_after(timeout, shield=True) as scope:
            await self._idle.wait()
        return not scope.cancelled_caught

    async def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        group = {tail.turn_id: (tail, tail.take()) for tail in dirty if tail.failure is None}
        began = asyncio.get_running_loop().time()
        tries = 0
        while group:
            self._in_flight = [write for _, write in group.values()]
            try:
                with anyio.fail_after(self._settings.persist_timeout):
                    await self._store.write(self._in_flight)
            except (StaleEpoch, RowRefused) as refusal:
                self._drop(group, refusal)
            except (StoreError, TimeoutError) as error:
                self._late = True
                count("journal_write_retries")
                if asyncio.get_running_loop().time() - began > self._settings.retry_window:
                    self._give_up(group, error)
                    break
                _logger.warning("the store did not take %d turns, trying again: %s", len(group), _reason(error))
                await anyio.sleep(BACKOFF[min(tries, len(BACKOFF) - 1)])
                tries += 1
            else:
                self._late = False
                for tail, write in group.values():
                    tail.confirm(write)
                break
        self._in_flight = []

    def _drop(self, group: dict[str, tuple[Tail, TurnWrite]], refusal: StaleEpoch | RowRefused) -> None:
        """One turn spoiled the group: it ends, the others are tried again without it."""
        spoiled = group.pop(refusal.turn_id, None)
        if spoiled is None:
            self._give_up(group, refusal)
            group.clear()
            return
        count("journal_rows_refused")
        _logger.error("turn %s cannot be stored: %s", refusal.turn_id, refusal.message)
        spoiled[0].fail(PersistenceFailedError(refusal.message, stale=isinstance(refusal, StaleEpoch)))

    def _give_up(self, group: dict[str, tuple[Tail, TurnWrite]], error: BaseException) -> None:
        for tail, _ in group.values():
            _logger.error("turn %s is given up on: %s", tail.turn_id, _reason(error))
            tail.fail(PersistenceFailedError(f"the store did not take what the turn said: {_reason(error)}"))


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, LegatoError) else "it did not answer in time"
