"""A turn and its owners, one after the other: each is taken away at some moment, or lets go because all wait.

What a store would have of the turn is kept here; of what an owner said last, as much is lost as may be (nothing that
it had waited for).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from msgspec import UNSET
from msgspec.structs import replace
from tests.core.drive import row, user_turn
from tests.core.turns import CLIENT_TOOL, PATIENT_TOOLS, Ending, Life

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.ask import Message
from legato.core.blocks import CallError
from legato.core.messages import messages, unread
from legato.core.plan import TurnPlan
from legato.core.records import Answer, KeptNeed, Reading, StoredTurn
from legato.core.resuming import Stored
from legato.core.turn import TurnMachine

PATIENCE = 5_000  # steps; no life here takes a tenth of it


@dataclass
class Relay:
    """``crashes`` are (step, lost): before that step the owner dies, and ``lost`` of its last events are not stored,
    where they may be. ``cut``: the owner that says the event of that place, from 1, dies with it, and exactly those up
    to it are stored. ``seen`` is what a reader saw who never missed anything."""

    life: Life
    crashes: list[tuple[int, int]]
    cancel_at: int | None = None
    cut: int | None = None
    epoch: int = -1
    machine: TurnMachine = field(init=False)
    stored: list[e.Event] = field(default_factory=list)
    said: list[e.Event] = field(default_factory=list)
    seen: list[e.Event] = field(default_factory=list)
    intents: set[str] = field(default_factory=set)
    needs: dict[tuple[str, int], KeptNeed] = field(default_factory=dict)
    starts: list[a.StartTool] = field(default_factory=list)
    reconciled: list[a.Reconcile] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    wished: Counter[str] = field(default_factory=Counter)
    sent: list[tuple[a.CallModel, tuple[Message, ...]]] = field(default_factory=list)
    ran: int = 0

    def __post_init__(self) -> None:
        self.responses = list(self.life.responses)
        self.endings = list(self.life.endings)
        self.choices = list(self.life.choices)
        self.cancelled = self.wait_over = False
        self.readings: dict[str, Reading] = {}
        self._take_up()

    def run(self) -> None:
        """Until the turn has ended. Fails if a machine waits for something that nobody will do."""
        for step in range(PATIENCE):
            if self.cut is not None and len(self.stored) + len(self.said) >= self.cut:
                upto, self.cut = self.cut - len(self.stored), None
                self._store(upto)
                self._take_up()
                continue
            if self.machine.ended:
                self._store(len(self.said))
                return
            dies = not self.machine.waiting and bool(self.crashes) and self.crashes[0][0] <= step
            if self.cancel_at is not None and step >= self.cancel_at and not self.cancelled:
                self.cancelled = True
                if not dies and not self.machine.waiting:  # else it comes while nobody owns the turn
                    self.feed(i.CancelRequested())
                    continue
            if self.machine.waiting:
                self._check_rest()
                self._store(len(self.said))
                self.wait_over = not self._answer_some()
                self._take_up()
            elif dies:
                _, lost = self.crashes.pop(0)
                self._store(max(self.must, len(self.said) - lost))
                if lost % 2:
                    self._answer_some()
                self._take_up()
            else:
                self._move()
        raise AssertionError(f"the turn did not end within {PATIENCE} steps")

    # What an owner does

    def _take_up(self) -> None:
        life = self.life
        self.epoch += 1
        plan = TurnPlan(
            turn_id="turn",
            chat_id="chat",
            prev_turn_id="asked",
            created_at="2026-11-24T00:00:00.000Z",
            model="m",
            provider="p",
            tools={name: PATIENT_TOOLS[name] for name in life.tools},
            client_tools=(CLIENT_TOOL,) if life.tools else (),
            limits=life.limits,
        )
        self.machine = TurnMachine(plan, epoch=self.epoch)
        self.stream: list[i.ProviderInput] = []
        self.waiting_intents: list[str] = []
        self.running: list[str] = []
        self.asking: list[str] = []
        self.must = self.asked_after = 0
        self.unsent: list[tuple[a.CallModel, tuple[Message, ...]]] = []
        self.said = []
        self.beside: list[tuple[int, a.StoreNeed | a.TakeAnswer]] = []
        if self.epoch == 0:
            self.machine.start()
        else:
            stored = Stored(events=list(self.stored), intents=set(self.intents), needs=list(self.needs.values()))
            self.machine.resume(stored, cancelled=self.cancelled, wait_over=self.wait_over)
            self.wait_over = False
        self._perform()

    def feed(self, fed: i.Input) -> None:
        self.machine.receive(fed)
        self._perform()

    def _perform(self) -> None:
        for action in self.machine.take():
            if isinstance(action, e.BaseEvent):
                self.said.append(action)
                self.seen.append(action)
            else:
                self._do(action)

    def _do(self, action: a.Action) -> None:
        match action:
            case a.CallModel():
                self.asked_after = len(self.said) if action.after_seq else 0
                request = (action, messages([user_turn("asked", "Find the dragon"), self.rows()]))
                (self.unsent if action.after_seq else self.sent).append(request)
                end = i.ResponseEnded(stop_reason="end", provider_reason=None)
                self.stream = list(self.responses.pop(0)) if self.responses else [end]
            case a.StopModel():
                self.stream, self.unsent = [], []
            case a.StoreIntent(intent):
                self.waiting_intents.append(intent.call_id)
            case a.StartTool():
                self.starts.append(action)
                self.running.append(action.call_id)
            case a.Reconcile(call_id=call_id):
                self.reconciled.append(action)
                self.running.append(call_id)
            case a.StoreNeed(need):
                assert (need.call_id, need.nr) not in self.needs
                self.needs[need.call_id, need.nr] = KeptNeed(need=need)
                self.beside.append((len(self.said), action))
                self.asking.append(need.call_id)
            case a.TakeAnswer(call_id=call_id, nr=nr):
                self.needs[call_id, nr] = replace(self.needs[call_id, nr], taken=True)
                self.beside.append((len(self.said), action))
            case _:
                pass

    def _move(self) -> None:
        moves = [("model", "")] if self.stream else []
        moves += [("intent", call_id) for call_id in self.waiting_intents]
        moves += [("end", call_id) for call_id in self.running]
        moves += [("emit", call_id) for call_id in self.running]
        moves += [("answer", call_id) for call_id in self.asking]
        moves += [("ask", call_id) for call_id in self.running]
        assert moves, f"owner {self.epoch} waits for nobody"
        kind, call_id = moves[self._choose(len(moves))]
        if self.epoch:
            self.must = max(self.must, 1)  # nothing runs before it is stored that the turn was taken up
        match kind:
            case "model":
                self.must = max(self.must, self.asked_after)
                self.sent += self.unsent  # it waited for what stands before it to be stored
                self.unsent = []
                self.feed(self.stream.pop(0))
            case "intent":
                self.waiting_intents.remove(call_id)
                self.intents.add(call_id)
                self.must = len(self.said)
                self.feed(i.IntentStored(call_id=call_id))
            case "end":
                self.running.remove(call_id)
                self.feed(self._end(call_id))
            case "ask":
                self.feed(i.ToolAsked(call_id=call_id, message="Go on?"))
            case "emit":
                self.feed(i.ToolEmitted(call_id=call_id, text="looking "))
            case _:
                self.asking.remove(call_id)
                self.must = len(self.said)  # a need is stored before it can be answered
                answer = self._answer(call_id)
                if answer is not None:
                    self.feed(i.Answered(answer=answer))
                    self.feed(i.Answered(answer=answer, nr=self._newest(call_id).need.nr))  # seen in the store, too

    def _choose(self, ways: int) -> int:
        return (self.choices.pop(0) if self.choices else 0) % ways

    def _end(self, call_id: str) -> i.ToolEnd:
        self.ran += 1
        if any(call_id == asked.call_id for asked in self.reconciled):
            return i.ToolFinished(call_id=call_id, outcome="unknown", error=CallError("interrupted", "who knows"))
        way = self._choose(8)
        if way in (5, 6):
            self.wished[call_id] += 1
        if way == 5:
            return i.ToolDeferred(call_id=call_id)
        if way == 6:
            return i.ToolNeedsInput(call_id=call_id, message="Which one?", state={"ran": self.ran})
        ending = self.endings.pop(0) if self.endings else Ending("ok", "done")
        error = UNSET if ending.outcome == "ok" else CallError(ending.outcome, "it said why")
        return i.ToolFinished(call_id=call_id, outcome=ending.outcome, output=ending.output, error=error)

    # What people and stores do

    def _newest(self, call_id: str) -> KeptNeed:
        return self.needs[max(key for key in self.needs if key[0] == call_id)]

    def _answer(self, call_id: str) -> Answer | None:
        """Nothing where the call waits no more."""
        if not any(key[0] == call_id for key in self.needs):
            return None
        kept = self._newest(call_id)
        if kept.answer is not None or kept.taken:
            return None
        way = self._choose(4)
        if kept.need.kind == "client_tool":
            answer = Answer(call_id=call_id, output={"picked": way})
        elif way == 1:
            answer = Answer(call_id=call_id, decision="deny", reason="not today")
        elif way == 2:
            answer = Answer(call_id=call_id, decision="approve", input={"n": 2})
        else:
            answer = Answer(call_id=call_id, decision="approve")
        self.needs[call_id, kept.need.nr] = replace(kept, answer=answer)
        self.answers.append(answer)
        return answer

    def _answer_some(self) -> bool:
        """At least one, where there is one; False once nobody answers any more."""
        waiting = list(dict.fromkeys(call_id for (call_id, _), kept in self.needs.items() if not kept.taken))
        answered = [call_id for call_id in waiting if self._choose(3) != 2 and self._answer(call_id) is not None]
        return bool(answered) or any(kept.answer is not None for kept in self.needs.values() if not kept.taken)

    def rows(self) -> StoredTurn:
        """The turn as its rows, everything read by a formatter that the model will be sent."""
        turn = self.machine.turn
        blocks = tuple(block for _, block in sorted(turn.closed.items()))
        rows = StoredTurn(row=row("turn", "assistant"), blocks=blocks, rounds=turn.rounds, readings=self.readings)
        for _, block in unread([rows]):
            self.readings[block.call_id] = Reading(call_id=block.call_id, text="so", formatter="test", version=1)
        return rows

    def _check_rest(self) -> None:
        """Nothing is left but people and clients, and readers see for whom it is that the turn waits."""
        assert [*self.stream, *self.running] == []
        open_needs = {call_id for (call_id, _), kept in self.needs.items() if not kept.taken}
        assert open_needs == set(self.machine.turn.waiting)
        assert open_needs

    def _store(self, upto: int) -> None:
        """The first ``upto`` events of this owner, and what came with them."""
        self.stored += self.said[:upto]
        if self.epoch and not upto:
            del self.seen[len(self.seen) - len(self.said) :]  # a later owner is heard once its rewind is stored
        for place, action in self.beside:
            if place <= upto:
                continue
            if isinstance(action, a.StoreNeed):
                del self.needs[action.need.call_id, action.need.nr]
            elif (action.call_id, action.nr) in self.needs:
                key = (action.call_id, action.nr)
                self.needs[key] = replace(self.needs[key], taken=False)
