"""Random lives of turns, kept in a store as the journal keeps them: by flushes, by one owner after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace
from tests.core.relay import Relay
from tests.core.turns import Life

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Block, TextBlock, ToolResultBlock
from legato.core.errors import LegatoError
from legato.core.fold import Turn
from legato.core.records import Accepted, Answer, Chat, Datum, KeptSteer, NewTurns, Reading, Rest, TurnEnding, TurnRow
from legato.ports import Store
from legato.runtime.clients.posted import user_write
from legato.runtime.storing.journal import Journal, JournalSettings, Tail

NOW = "2026-11-24T00:00:00.000Z"

Told: TypeAlias = Callable[[Tail], None]
"""What one event, or one wish of the machine, adds to the tail of its turn."""


class Standing(NamedTuple):
    """What is left by a rewind: indexes of closed blocks, and rounds. What else is stored falls."""

    blocks: set[int]
    rounds: set[tuple[int, int]]


@dataclass
class Chapter:
    """What one owner said and wanted, each with the number of its events so far."""

    epoch: int
    told: list[tuple[int, Told | Answer | Standing]] = field(default_factory=list)
    events: int = 0
    stored: int = 0

    def kept(self) -> Iterator[tuple[int, Told | Answer | Standing]]:
        return ((events, told) for events, told in self.told if events <= self.stored)


class KeptRelay(Relay):
    """A relay that remembers what its owners would have had stored. ``large`` is the first good result's output, kept
    beside the turn."""

    def __init__(
        self, life: Life, crashes: list[tuple[int, int]], cancel_at: int | None = None, *, large: bytes = b""
    ) -> None:
        self.chapters: list[Chapter] = []
        self.outputs: dict[str, bytes] = {}
        self._large = large
        self._read: set[str] = set()
        self._heard = Turn()
        super().__init__(life, crashes, cancel_at)

    def _take_up(self) -> None:
        self.chapters.append(Chapter(epoch=self.epoch + 1))
        super()._take_up()

    def _store(self, upto: int) -> None:
        super()._store(upto)
        self.chapters[-1].stored = upto

    def _answer(self, call_id: str) -> Answer | None:
        answer = super()._answer(call_id)
        if answer is not None:
            self._tell(answer)
        return answer

    def _end(self, call_id: str) -> i.ToolEnd:
        end = super()._end(call_id)
        if not isinstance(end, i.ToolFinished) or end.outcome != "ok" or not self._large or self.outputs:
            return end
        self.outputs[call_id] = self._large
        return replace(end, output="the ends", bytes=len(self._large), href=f"/v1/turns/turn/outputs/{call_id}")

    def _perform(self) -> None:
        taken = self.machine.take()
        for action in taken:
            self._remember(action)
            if isinstance(action, e.BaseEvent):
                self.said.append(action)
                self.seen.append(action)
            else:
                self._do(action)

    def _tell(self, told: Told | Answer | Standing) -> None:
        chapter = self.chapters[-1]
        chapter.told.append((chapter.events, told))

    def _remember(self, action: a.Action) -> None:
        turn = self.machine.turn
        if isinstance(action, e.BaseEvent):
            self._heard.apply(action)
            self.chapters[-1].events += 1
            self._tell(partial(Tail.add_line, line=e.encode(action), seq=action.seq))
        match action:
            case e.TurnEnd():
                self._tell(partial(_end, event=action))
            case e.TurnWaiting():
                self._tell(lambda tail: tail.rest(Rest(wait_until=NOW), ()))
            case e.Rewind():
                blocks = {standing.index for standing in action.blocks if standing.state != "open"}
                self._tell(Standing(blocks, {(record.round, record.attempt) for record in turn.rounds}))
            case e.BlockStop(index=index):
                self._tell(partial(Tail.add_block, block=turn.closed[index]))
            case e.RoundStart() | e.RoundStop() | e.Notice():
                for record in self._heard.rounds:  # the machine's own are ahead of what a crash lets be stored
                    if record.round == action.round:
                        self._tell(partial(Tail.put_round, record=record))
            case e.Steer(steer_id=steer_id, text=text, state=state):
                self._tell(partial(Tail.put_steer, steer=KeptSteer(steer_id=steer_id, text=text, state=state)))
            case a.CallModel():
                self._read_results()
            case a.StoreIntent(intent):
                self._tell(partial(Tail.add_intent, intent=intent))
            case a.StoreNeed(need):
                self._tell(partial(Tail.add_need, need=need))
            case a.TakeAnswer(call_id=call_id, nr=nr):
                self._tell(partial(Tail.answered, call_id=call_id, nr=nr))
            case _:
                pass

    def _read_results(self) -> None:
        for block in self.machine.turn.closed.values():
            if isinstance(block, ToolResultBlock) and block.origin != "provider" and block.call_id not in self._read:
                self._read.add(block.call_id)
                reading = Reading(call_id=block.call_id, text="so", formatter="test", version=1)
                self._tell(partial(Tail.add_readings, readings=[reading]))


def _end(tail: Tail, event: e.TurnEnd) -> None:
    error = event.error if isinstance(event.error, e.ErrorInfo) else None
    ending = TurnEnding(
        status=event.status, stop_reason=event.stop_reason, usage=event.usage, error=error, ended_at=NOW
    )
    tail.end(ending, ())


def new_turns(*, blocks: tuple[Block, ...] | None = None, data: tuple[Datum, ...] = ()) -> NewTurns:
    """The turn of a relay, the user turn that it answers, and their chat."""
    said = blocks or (TextBlock(index=0, round=0, state="complete", text="Find the dragon"),)
    user = TurnRow(
        id="asked",
        chat_id="chat",
        prev_turn_id=None,
        role="user",
        status="complete",
        created_at=NOW,
        depth=1,
        stop_reason="end",
        ended_at=NOW,
    )
    write = user_write(user, said)
    assert write.segment is not None
    return NewTurns(
        owner="ann",
        chat=Chat(
            id="chat",
            owner="ann",
            title="",
            system=None,
            model=None,
            metadata={},
            head_turn_id=None,
            active_turn_id=None,
            created_at=NOW,
            updated_at=NOW,
        ),
        user=replace(user, last_seq=write.segment.last_seq),
        user_write=write,
        user_data=data,
        assistant=TurnRow(
            id="turn",
            chat_id="chat",
            prev_turn_id="asked",
            role="assistant",
            status="running",
            created_at=NOW,
            depth=2,
            model="m",
            provider="p",
            owner="owner-0",
        ),
    )


async def keep(
    store: Store, relay: KeptRelay, *, new: NewTurns | None = None, flush: int = 7, chapters: int | None = None
) -> None:
    """Store the relay's turn, ``flush`` events of its owners at a time; perhaps its first ``chapters`` owners only."""
    assert await store.begin(new or new_turns()) == Accepted()
    for call_id, output in relay.outputs.items():
        for offset in range(0, len(output), 8):
            await store.keep_output("turn", call_id, offset, output[offset : offset + 8], epoch=0)
    for chapter in relay.chapters[:chapters]:
        await _keep_chapter(store, chapter, flush)


async def _keep_chapter(store: Store, chapter: Chapter, flush: int) -> None:
    if chapter.epoch:
        assert await store.claim("turn", epoch=chapter.epoch, owner=f"owner-{chapter.epoch}")
    journal = Journal(store, JournalSettings())
    tail = journal.tail("turn", epoch=chapter.epoch, seq=chapter.epoch * e.EPOCH_SIZE)
    before = await store.load("turn")
    assert before is not None
    flushed = 0
    for events, told in chapter.kept():
        if events - flushed > flush:  # what an event adds to the rows is told with it, and stored with it
            await _flush(store, tail)
            flushed = events - 1
        match told:
            case Answer():
                await _flush(store, tail)
                await _answer(store, told)
            case Standing():
                rounds = {(record.round, record.attempt) for record in before.rounds}
                fallen = {block.index for block in before.blocks} - told.blocks
                tail.drop(sorted(fallen), sorted(rounds - told.rounds))
            case _:
                told(tail)
    await _flush(store, tail)


async def _flush(store: Store, tail: Tail) -> None:
    write = tail.take()
    await store.write([write])
    tail.confirm(write)


async def _answer(store: Store, answer: Answer) -> None:
    try:
        await store.answer("turn", [answer])
    except LegatoError:
        pass  # its call fell to a rewind
