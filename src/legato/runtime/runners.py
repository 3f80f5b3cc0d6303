"""What a turn is run with: the one place that makes its runner, whoever had the turn before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from legato.core import inputs as i
from legato.core.errors import RequestError
from legato.core.plan import TurnLimits, TurnPlan
from legato.core.records import Chat, KeptSteer, Limits, StoredTurn, TurnRow
from legato.core.schedule import ToolRule
from legato.core.turn import TurnMachine
from legato.core.usage import Prices
from legato.observability import count
from legato.ports import Resolved
from legato.runtime.clock import seconds_between
from legato.runtime.house import House
from legato.runtime.model.questions import Questions
from legato.runtime.runner import TakenUp, TurnRunner
from legato.runtime.timeline import last_known, owned_seconds

_logger = logging.getLogger(__name__)


class Runners:
    """``bounds`` gives the rounds and seconds of a turn; ``running`` every runner of this process."""

    def __init__(
        self,
        house: House,
        *,
        questions: Questions,
        limits: TurnLimits,
        bounds: Callable[[Limits], tuple[int, float]],
        running: Callable[[], Sequence[TurnRunner]],
    ) -> None:
        self._house = house
        self._questions = questions
        self._limits = limits
        self._bounds = bounds
        self._running = running
        self._late_tools: set[str] = set()

    def make(
        self,
        row: TurnRow,
        chat: Chat,
        resolved: Resolved,
        *,
        user: StoredTurn | None = None,
        began: float | None = None,
        steers: Sequence[KeptSteer] = (),
        taken_up: TakenUp | None = None,
    ) -> TurnRunner:
        """``row`` is as this process owns it. ``user`` is the turn that it answers, where it is at hand; ``began`` is
        the clock's ``monotonic`` when the turn was created, where that was here."""
        clock = self._house.clock
        rounds, seconds = self._bounds_of(row)
        spans = () if taken_up is None else taken_up.spans
        if began is None:  # no earlier than what is known to have been, should a clock have been set back
            age = max(seconds_between(row.created_at, clock.now()), last_known(spans))
            began = clock.monotonic() - age
        if taken_up is not None:
            seconds = max(1.0, seconds - owned_seconds(spans))
        return TurnRunner(
            self._house,
            row=row,
            principal=chat.owner,
            machine=self._machine(row, resolved, rounds, steers),
            provider=resolved.provider,
            ask_with=partial(self._questions.of, row, chat=chat, user=user),
            seconds=seconds,
            began=began,
            early_start_off=self._stop_early_start,
            taken_up=taken_up,
        )

    def _bounds_of(self, row: TurnRow) -> tuple[int, float]:
        """As it was asked for; where the server allows less by now, its own."""
        try:
            return self._bounds(Limits() if row.request is None else row.request.limits)
        except RequestError:
            return self._bounds(Limits())

    def _machine(self, row: TurnRow, resolved: Resolved, rounds: int, steers: Sequence[KeptSteer]) -> TurnMachine:
        info = resolved.provider.model(resolved.model)
        plan = TurnPlan(
            turn_id=row.id,
            chat_id=row.chat_id,
            prev_turn_id=row.prev_turn_id,
            created_at=row.created_at,
            model=row.model or "",
            provider=resolved.provider.name,
            tools=self._rules(row),
            client_tools=() if row.request is None else [tool.name for tool in row.request.client_tools],
            limits=msgspec.structs.replace(self._limits, rounds=rounds, retries=resolved.provider.max_retries),
            prices=Prices() if info is None else Prices(info.input_price, info.output_price),
            steers=steers,
            cancelled=row.cancel_requested,
        )
        return TurnMachine(plan, epoch=row.epoch)

    def _rules(self, row: TurnRow) -> dict[str, ToolRule]:
        rules: dict[str, ToolRule] = {}
        for name in () if row.request is None else row.request.tools:
            tool = self._house.tools.get(name)
            if tool is not None:
                rules[name] = ToolRule(
                    effect=tool.effect,
                    eager=tool.eager,
                    late=name in self._late_tools,
                    asks_approval=tool.asks_approval,
                    check=tool.check,
                    lane=tool.lane,
                )
        return rules

    def _stop_early_start(self, tool_name: str) -> None:
        """Until restart: a wire changed a call of it after the call was started, and may do so again."""
        if tool_name in self._late_tools:
            return
        self._late_tools.add(tool_name)
        count("early_start_off", tool=tool_name)
        _logger.warning(
            "arguments of %s changed after a call was started: its calls start late until restart", tool_name
        )
        for runner in self._running():
            runner.hear_of(i.EarlyStartOff(tool_name))
