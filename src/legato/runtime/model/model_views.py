"""What a model was sent, or would be, in our words."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from legato.core.ask import SentToolResult
from legato.core.errors import InvalidRequest, NotFound
from legato.core.records import StoredTurn, TurnRow
from legato.core.views import ModelView, ReadResult
from legato.ports import Formatters, Store, Tools
from legato.runtime.model.asking import Question, as_of_round, ask, read_results, with_readings
from legato.runtime.model.questions import Questions
from legato.runtime.runner import TurnRunner


class ModelViews:
    """``running`` is the runner of a turn, where it runs in this process."""

    def __init__(
        self,
        *,
        store: Store,
        questions: Questions,
        tools: Tools,
        formatters: Formatters,
        running: Callable[[str], TurnRunner | None],
    ) -> None:
        self._store = store
        self._questions = questions
        self._tools = tools
        self._formatters = formatters
        self._running = running

    async def of(self, row: TurnRow, round: int | None) -> ModelView:
        """Of an assistant turn; ``round`` is the last one there is by default. Raises ``InvalidRequest``."""
        current = await self._current(row.id)
        rounds = max((record.round for record in current.rounds), default=1)
        if round is not None and not 1 <= round <= rounds:
            raise InvalidRequest.at("/round", f"is {round}, the turn has rounds 1 to {rounds}")
        shown = as_of_round(current, round or rounds)
        question = await self._questions.of(row)
        turns = tuple(self._with_readings(turn, question) for turn in (*question.before, shown))
        question = msgspec.structs.replace(question, before=turns[:-1])
        request = ask(question, turns[-1], round=round or rounds, last=False, data={})
        readings = {call_id: reading for turn in turns for call_id, reading in turn.readings.items()}
        sent = [
            block.call_id
            for message in request.messages
            for block in message.blocks
            if isinstance(block, SentToolResult) and block.origin != "provider"
        ]
        return ModelView(
            model=row.model or "",
            system=request.system,
            tools=request.tools,
            messages=request.messages,
            results=tuple(
                ReadResult(
                    call_id=call_id,
                    bytes=len(readings[call_id].text.encode()),
                    text=readings[call_id].text,
                    formatter=readings[call_id].formatter,
                    version=readings[call_id].version,
                )
                for call_id in sent
                if call_id in readings
            ),
        )

    async def _current(self, turn_id: str) -> StoredTurn:
        runner = self._running(turn_id)
        stored = await self._store.load(turn_id) if runner is None else runner.stored()
        if stored is None:
            raise NotFound(f"there is no turn {turn_id}")
        return stored

    def _with_readings(self, turn: StoredTurn, question: Question) -> StoredTurn:
        """With what the model would read of results it has not read yet; nothing is stored."""
        read = read_results([turn], question, formatters=self._formatters, tools=self._tools, corrections={})
        return with_readings(turn, read.get(turn.row.id, []))
