"""What one turn asks the model with, round by round: the branch in front of it, and what was said and found since."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import anyio
import msgspec

from legato.core import actions as a
from legato.core.ask import Ask, Message
from legato.core.blocks import FileBlock, ImageBlock
from legato.core.messages import data_needed, first_difference, messages, unread
from legato.core.records import Reading, StoredTurn, TurnRow
from legato.observability import count
from legato.runtime.house import House
from legato.runtime.model.asking import Question, ask, read_results, with_readings
from legato.runtime.storing.journal import Tail
from legato.runtime.timeline import TimelineRecorder

_logger = logging.getLogger(__name__)


class Requests:
    """``ask_with`` gives what stays the same over all rounds, asked once. ``readings`` are of the turn's own results,
    and grow here."""

    def __init__(
        self,
        house: House,
        *,
        row: TurnRow,
        ask_with: Callable[[], Awaitable[Question]],
        tail: Tail,
        readings: dict[str, Reading],
        timeline: TimelineRecorder,
    ) -> None:
        self._house = house
        self._row = row
        self._ask_with = ask_with
        self._tail = tail
        self._readings = readings
        self._timeline = timeline
        self._question: Question | None = None
        self._data: dict[str, bytes] = {}
        self._sent: Sequence[Message] = ()

    async def make(
        self, asked: a.CallModel, *, stored: Callable[[], StoredTurn], corrections: Mapping[str, str]
    ) -> Ask:
        """The request of a round, before its provider fits it. ``stored`` gives the turn so far.

        Everything that must be stored before the model may read it is, when this returns. Raises
        ``PersistenceFailedError``, ``StoreError``, ``InvalidRequest``.
        """
        question = self._question or await self._ask_with()
        self._question = question = await self._read_results(question, stored(), corrections)
        if asked.after_seq:
            over = self._timeline.store_wait(f"round {asked.round}", asked.round)
            await self._tail.stored()
            over()
        current = stored()
        await self._load_data(question, messages((*question.before, current)))
        request = ask(question, current, round=asked.round, last=asked.last, data=self._data)
        self._watch_growth(request.messages)
        return request

    def _watch_growth(self, sent: Sequence[Message]) -> None:
        """A request that does not begin with the one before it loses the provider's cache, at ten times the cost."""
        changed = first_difference(self._sent, sent)
        self._sent = sent
        if changed is not None:
            count("prompt_prefix_changed")
            _logger.warning("turn %s: the request differs from the one before it from %s on", self._row.id, changed)

    async def _read_results(self, question: Question, current: StoredTurn, corrections: Mapping[str, str]) -> Question:
        """The question, its earlier turns with what the model will read of their results."""
        turns = (*question.before, current)
        if not unread(turns):
            return question
        read = partial(
            read_results,
            turns,
            question,
            formatters=self._house.formatters,
            tools=self._house.tools,
            corrections=corrections,
        )
        # Formatters are users' code, and may be slow.
        for turn_id, readings in (await anyio.to_thread.run_sync(read, abandon_on_cancel=True)).items():
            if turn_id == self._row.id:
                self._readings.update((reading.call_id, reading) for reading in readings)
                self._tail.add_readings(readings)
            else:
                question = await self._store_old_readings(question, turn_id, readings)
        return question

    async def _store_old_readings(self, question: Question, turn_id: str, readings: Sequence[Reading]) -> Question:
        """Results of an earlier turn that ended before the model read them."""
        before = question.before
        row = next(turn.row for turn in before if turn.row.id == turn_id)
        tail = self._house.journal.tail(turn_id, epoch=row.epoch, seq=row.last_seq)
        tail.add_readings(readings)
        await tail.stored()
        return msgspec.structs.replace(
            question,
            before=tuple(with_readings(turn, readings) if turn.row.id == turn_id else turn for turn in before),
        )

    async def _load_data(self, question: Question, sent: Sequence[Message]) -> None:
        missing = data_needed(sent) - self._data.keys()
        for turn in question.before if missing else ():
            for block in turn.blocks:
                if isinstance(block, ImageBlock | FileBlock) and block.sha256 in missing:
                    datum = await self._house.store.datum(turn.row.id, block.index)
                    if datum is not None:
                        self._data[datum.sha256] = datum.data
