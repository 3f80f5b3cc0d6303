"""The turns that run in this process: begun, taken up from an earlier owner, and over.

A turn is taken up when its owner died, when somebody answered what it waited for, when a cancel was asked for
meanwhile, or when nobody answered in time. What follows is the machine's business; here it is found, claimed and run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import anyio
import msgspec
from anyio.abc import TaskGroup

from legato.core import events as e
from legato.core import inputs as i
from legato.core.errors import LegatoError, RequestError, StoreError
from legato.core.plan import TurnLimits
from legato.core.records import KeptNeed, Limits, StoredTurn, TurnRow
from legato.core.resuming import RECOVERIES, Stored, deaths
from legato.observability import count
from legato.ports import Models, Resolved
from legato.runtime.clients.admission import Admission
from legato.runtime.house import House
from legato.runtime.model.questions import Questions
from legato.runtime.owning.leases import Leases
from legato.runtime.owning.renewing import Renewing
from legato.runtime.reading.live import LiveLog
from legato.runtime.reading.looking import readable_events
from legato.runtime.recovery import end_interrupted, end_unstored
from legato.runtime.runner import TakenUp, TurnRunner
from legato.runtime.runners import Runners

_logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at the store for turns to take up, and for answers that came to another process."""
LOOK_TIMEOUT = 10.0
DRAIN_SECONDS = 1.0
"""For a store that is back to take what lies in the spool, while somebody waits for an answer."""
ORPHANS_EVERY = 5
"""Looks between two for turns whose owner died: that asks for every turn that has not ended."""


class Running:
    """``bounds`` gives the rounds and seconds of a turn; ``appeared`` is called when one is taken up."""

    def __init__(
        self,
        house: House,
        *,
        models: Models,
        questions: Questions,
        limits: TurnLimits,
        bounds: Callable[[Limits], tuple[int, float]],
        owner: str,
        appeared: Callable[[], None],
    ) -> None:
        self._house = house
        self._models = models
        self._owner = owner
        self._appeared = appeared
        self._runners: dict[str, TurnRunner] = {}
        self._make = Runners(
            house, questions=questions, limits=limits, bounds=bounds, running=lambda: list(self._runners.values())
        ).make
        self._taking: set[str] = set()
        self._cancelled: set[str] = set()
        """Of those, the turns for which a cancel came after their row was read, perhaps."""
        self._claimed: dict[str, TurnRow] = {}
        """Being claimed, or ours and running nowhere, since the store failed in between; as each was before."""
        self._strays: set[str] = set()
        """Perhaps such ones: it looked so at the last look."""
        self._ending: set[str] = set()
        """Those whose end could not be stored yet."""
        self._hopeless: set[str] = set()
        """Those that broke while they were taken up: not tried again here."""
        self._idle = asyncio.Event()
        self._released: set[str] = set()
        """Let go of here, and still ours in the store."""
        self._queued: dict[str, str] = {}
        """Turns that were queued here, each with the chat that it waits for."""
        self._leases = Leases(house.clock.monotonic)
        self._tasks: TaskGroup | None = None
        self.closing = False

    def __len__(self) -> int:
        return len(self._runners)

    def get(self, turn_id: str) -> TurnRunner | None:
        return self._runners.get(turn_id)

    def of_chat(self, chat_id: str) -> TurnRunner | None:
        """Some turn of the chat that runs here."""
        return next((runner for runner in self._runners.values() if runner.row.chat_id == chat_id), None)

    def owns(self, row: TurnRow) -> bool:
        """It is this process' turn, whether it runs by now, or any more, or not."""
        return row.owner == self._owner

    def live(self, turn_id: str) -> LiveLog | None:
        runner = self._runners.get(turn_id)
        return None if runner is None else runner.live

    async def look(self, tasks: TaskGroup) -> None:
        """Until cancelled: take up what waits for an owner, and stay the owner of what runs here."""
        self._tasks = tasks
        tasks.start_soon(self._renewing().run)
        since = ORPHANS_EVERY
        while True:
            with anyio.move_on_after(LOOK_TIMEOUT):  # a store that hangs is asked again
                try:
                    if await self._house.journal.drained():
                        await self._free_released()
                        if since >= ORPHANS_EVERY:  # one that could not be made, at the start say, is due still
                            await self._take_up_orphans()
                            since = 0
                    await self._take_up_answered()
                except StoreError as error:
                    count("take_up_retries")
                    _logger.debug("the store cannot be asked for turns to take up: %s", error.message)
                except Exception:  # the supervisor of the look: without it nothing would be taken up any more
                    count("looks_broken")
                    _logger.exception("the look for turns to take up broke")
            since += 1
            await anyio.sleep(LOOK_SECONDS)

    def take_up_soon(self, turn_id: str) -> None:
        """In a task of its own, unless that is under way."""
        if self._tasks is not None and turn_id not in self._taking | self._hopeless and not self.closing:
            self._taking.add(turn_id)
            self._tasks.start_soon(self._take_up, turn_id)

    def cancel_soon(self, turn_id: str) -> None:
        """Its row says that a cancel was requested, and it ran nowhere when that was looked at."""
        if turn_id in self._taking:
            self._cancelled.add(turn_id)
        self.take_up_soon(turn_id)

    def await_chat(self, turn_id: str, chat_id: str) -> None:
        """A turn was queued: look at once when a turn of the chat has ended here."""
        self._queued[turn_id] = chat_id

    def forget(self, chat_id: str) -> None:
        """The chat is deleted: none of its queued turns shall begin."""
        self._queued = {turn_id: chat for turn_id, chat in self._queued.items() if chat != chat_id}

    def begin(self, admission: Admission, began: float, *, cancelled: bool = False) -> TurnRunner:
        """The runner of a turn that was just stored, and perhaps cancelled before; ``run`` it."""
        row = msgspec.structs.replace(admission.new.assistant, cancel_requested=cancelled)
        return self._keep(self._make(row, admission.chat, admission.resolved, user=admission.user, began=began))

    async def run(self, runner: TurnRunner) -> None:
        """To the end of the turn, or until it is at rest."""
        try:
            await runner.run()
        except Exception:  # the last supervisor: a turn that breaks breaks nobody else
            _logger.exception("turn %s broke at its end", runner.row.id)
        finally:
            self._runners.pop(runner.row.id, None)
            if runner.let_go_of:
                self._released.add(runner.row.id)
            if runner.unstored is not None:
                self._ending.add(runner.row.id)
            runner.over.set()
            self._idle.set()
            self._begin_next(runner.row.chat_id)
        if runner.unstored is not None:
            error = e.ErrorInfo(code=runner.unstored.code, message=runner.unstored.message, retryable=True)
            house = self._house
            await end_unstored(house.store, runner.row.id, owner=self._owner, clock=house.clock, error=error)
            self._ending.discard(runner.row.id)

    async def drained(self, turn_id: str) -> bool:
        """The turn ended here while the store was away, and the store has taken its end now. Its readers have heard it:
        nobody should be told that it runs until the next look."""
        if turn_id in self._runners or not self._house.journal.spooled:
            return False
        with anyio.move_on_after(DRAIN_SECONDS):
            try:
                row = await self._house.store.turn(turn_id)
                ours = row is not None and row.ended_at is None and row.owner == self._owner
                return ours and await self._house.journal.drained()
            except StoreError as error:
                _logger.debug("what turn %s said last is not stored yet: %s", turn_id, error.message)
        return False

    def wake(self) -> None:
        """Every reader looks again."""
        for runner in self._runners.values():
            runner.live.wake()

    async def none(self) -> None:
        """Wait until no turn runs."""
        while self._runners:
            self._idle.clear()
            await self._idle.wait()

    async def let_go(self, seconds: float) -> None:
        """Of every turn that runs here, each at a boundary of a block where that comes within ``seconds``. What they
        have said is still to be stored."""
        runners = list(self._runners.values())
        for runner in runners:
            runner.release()
        with anyio.move_on_after(seconds):
            for runner in runners:
                await runner.quiet()
        for runner in runners:
            runner.let_go()

    async def free(self, seconds: float) -> None:
        """Others may take up what was let go of, now that it is stored. Of what lies in the spool they could not know:
        they have to see that this process is gone, and drain it."""
        with anyio.move_on_after(seconds):
            await self.none()
        if self._house.journal.spooled:
            return
        with anyio.move_on_after(seconds):
            try:
                await self._free_released()
            except StoreError as error:
                _logger.warning("released turns are free only once their lease is over: %s", error.message)

    # Who needs an owner

    def _renewing(self) -> Renewing:
        house = self._house
        return Renewing(
            house.store, house.lease, owner=self._owner, needed=lambda: bool(self._runners), lost=self._lose
        )

    def _lose(self) -> None:
        """Every turn here is free for whoever takes it up."""
        for runner in list(self._runners.values()):
            runner.lose()

    async def _free_released(self) -> None:
        """Whoever takes a turn up shuts out what still lies in our spool: it is stored first."""
        if self._released:
            released = sorted(self._released)
            await self._house.store.release(released, owner=self._owner)
            self._released.difference_update(released)

    async def _take_up_orphans(self) -> None:
        """Of processes of this machine it is known at once whether they live; of others, by their lease."""
        store = self._house.store
        known = list(self._queued)
        rows = await store.unended()
        unended = [row for row in rows if row.status not in ("waiting", "queued") and row.id not in self._runners]
        self._leases.see(unended)
        queued = {row.id for row in rows if row.status == "queued"}
        for turn_id in known:
            if turn_id not in queued:  # another process began it, or ended it before its time
                self._queued.pop(turn_id, None)
        overdue = {row.id for row in await store.overdue()}
        for row in unended:
            if self._leases.over(row, overdue=row.id in overdue):
                self.take_up_soon(row.id)
        self._find_strays({row.id: row for row in unended if row.owner == self._owner})

    def _find_strays(self, ours: Mapping[str, TurnRow]) -> None:
        """Turns that were given to us while the store did not say so: nobody runs them, and no lease of theirs is ever
        over. One may be about to run: it looks so twice before it is taken up."""
        idle = ours.keys() - self._runners.keys() - self._taking - self._released - self._ending
        for turn_id in idle & self._strays:
            self._claimed.setdefault(turn_id, ours[turn_id])
        self._strays = idle

    async def _take_up_answered(self) -> None:
        house = self._house
        for row in await house.store.to_wake(house.clock.now()):
            self.take_up_soon(row.id)
        for turn_id in self._claimed.keys() - self._runners.keys():
            self.take_up_soon(turn_id)
        for row in await house.store.to_start():
            self.take_up_soon(row.id)
        if self._runners:
            await self._hear_of_others()
        for runner in [each for each in self._runners.values() if each.machine.turn.waiting]:
            for kept in await house.store.needs(runner.row.id):
                if kept.answer is not None and not kept.taken:
                    runner.receive(i.Answered(answer=kept.answer, nr=kept.need.nr))

    async def _hear_of_others(self) -> None:
        """What was said here, or to other processes, to turns that this one runs."""
        store = self._house.store
        for turn_id, mode in await store.to_cancel(self._owner):
            if turn_id in self._runners:
                self._runners[turn_id].receive(i.CancelRequested(mode=mode))
        for turn_id, steer in await store.unheard_steers(self._owner):
            if turn_id in self._runners:
                self._runners[turn_id].receive(i.Steered(steer_id=steer.steer_id, text=steer.text))

    def _begin_next(self, chat_id: str) -> None:
        """It is the chat's active turn since its predecessor's end was stored."""
        for turn_id in [each for each, chat in self._queued.items() if chat == chat_id]:
            self.take_up_soon(turn_id)

    async def _take_up(self, turn_id: str) -> None:
        try:
            runner = self._runners.get(turn_id)
            if runner is not None:
                if not runner.machine.waiting:
                    return
                await runner.over.wait()
            runner = await self._claim(turn_id)
        except LegatoError as error:
            count("take_up_retries")
            _logger.warning("turn %s cannot be taken up yet: %s", turn_id, error.message)
            return
        except Exception:  # the supervisor of this: what is wrong with one turn ends no other, nor the service
            count("looks_broken")
            _logger.exception("turn %s cannot be taken up here", turn_id)
            self._leave_to_others(turn_id)
            return
        finally:
            self._taking.discard(turn_id)
            cancelled = turn_id in self._cancelled
            self._cancelled.discard(turn_id)
        if runner is not None:
            if cancelled:
                runner.receive(i.CancelRequested())
            self._appeared()
            await self.run(runner)

    def _leave_to_others(self, turn_id: str) -> None:
        """Perhaps they can: here it would break each second."""
        self._claimed.pop(turn_id, None)
        self._hopeless.add(turn_id)
        self._released.add(turn_id)

    async def _claim(self, turn_id: str) -> TurnRunner | None:
        """The turn's new runner; None if it needs none, or is ended here and now. Raises ``StoreError``."""
        house = self._house
        row = await house.store.turn(turn_id)
        if row is None or row.ended_at is not None or self.closing:
            self._claimed.pop(turn_id, None)
            return None
        if row.owner != self._owner:
            self._claimed.pop(turn_id, None)
        if row.status == "queued":
            return await self._claim_queued(row)
        if turn_id not in self._claimed and row.status != "waiting":
            overdue = await house.store.overdue(turn_id)
            if not self._leases.over(row, overdue=bool(overdue)):
                return None
        if not await house.journal.drained():  # a newer epoch would leave what lies there of it in its file
            return None
        before = self._claimed.setdefault(turn_id, row)
        claimed = await house.store.claim(turn_id, epoch=row.epoch + 1, owner=self._owner)
        runner = await self._taken_up(before) if claimed else None
        del self._claimed[turn_id]
        return runner

    async def _claim_queued(self, row: TurnRow) -> TurnRunner | None:
        """From its beginning, if its time has come. Its epoch is the one it has: nobody owned it before."""
        house = self._house
        if all(due.id != row.id for due in await house.store.to_start()):
            return None
        self._claimed[row.id] = row
        claimed = await house.store.claim(row.id, epoch=row.epoch, owner=self._owner)
        runner = await self._begun(row) if claimed else None
        del self._claimed[row.id]
        return runner

    async def _begun(self, row: TurnRow) -> TurnRunner | None:
        house = self._house
        self._queued.pop(row.id, None)
        kept, chat = await house.store.load(row.id), await house.store.chat(row.chat_id)
        if kept is None or chat is None:
            return None
        steers = await house.store.steers(row.id)
        match self._server_of(row):
            case e.ErrorInfo() as error:
                stored = Stored(events=[], steers=steers)
                await end_interrupted(house.store, kept.row, stored, clock=house.clock, error=error)
                return None
            case resolved:
                return self._keep(self._make(kept.row, chat, resolved, steers=steers))

    async def _taken_up(self, row: TurnRow) -> TurnRunner | None:
        """``row`` is as it was before the claim."""
        store = self._house.store
        kept, chat = await store.load(row.id), await store.chat(row.chat_id)
        if kept is None or chat is None:
            return None
        events, unreadable = await readable_events(store, row.id)
        begun_by = {intent.call_id: intent.owner for intent in await store.intents(row.id)}
        stored = Stored(
            events=events, intents=begun_by.keys(), needs=await store.needs(row.id), steers=await store.steers(row.id)
        )
        match self._server_of(row, events, unreadable):
            case e.ErrorInfo() as error:
                await end_interrupted(store, kept.row, stored, clock=self._house.clock, error=error)
                return None
            case resolved:
                taken_up = await self._as_it_was(row, kept, stored, begun_by)
                return self._keep(self._make(kept.row, chat, resolved, taken_up=taken_up))

    def _server_of(
        self, row: TurnRow, events: Sequence[e.Event] = (), unreadable: str | None = None
    ) -> Resolved | e.ErrorInfo:
        """Who serves its model; or why it cannot go on. ``unreadable`` is why there are no more events of it."""
        if unreadable is not None:
            message = f"what is stored of the turn cannot be read to its end: {unreadable}"
            return e.ErrorInfo(code="log_unreadable", message=message)
        died = deaths(events)
        if row.status != "waiting" and died > RECOVERIES:
            message = f"the server stopped {died} times in a row and the turn came no further, limit is {RECOVERIES}"
            return e.ErrorInfo(code="recovery_exhausted", message=message)
        try:
            return self._models.resolve(row.model)
        except RequestError as refused:
            return e.ErrorInfo(code=refused.code, message=refused.message)

    async def _as_it_was(
        self, row: TurnRow, kept: StoredTurn, stored: Stored, begun_by: Mapping[str, str | None]
    ) -> TakenUp:
        if row.status != "waiting":
            count("turns_recovered")
            _logger.warning("turn %s lost its server: it goes on here", row.id)
        waited = row.wait_until if row.status == "waiting" else None
        wait_over = waited is not None and waited <= self._house.clock.now()
        return TakenUp(
            turn=kept,
            stored=stored,
            begun_by=begun_by,
            spans=await self._house.store.spans(row.id),
            cancelled=kept.row.cancel_requested,
            wait_until=None if wait_over or not _still_waits(stored.needs) else waited,
            wait_over=wait_over,
        )

    def _keep(self, runner: TurnRunner) -> TurnRunner:
        self._runners[runner.row.id] = runner
        return runner


def _still_waits(needs: Sequence[KeptNeed]) -> bool:
    """Some need that the turn had before is still open."""
    return any(kept.answer is None and not kept.taken for kept in needs)
