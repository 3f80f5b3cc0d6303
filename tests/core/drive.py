"""The shell, played by a script: answers what the machine asks for, in an order that the life chose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from msgspec import UNSET
from msgspec.json import encode as json
from tests.core.turns import TOOLS, Ending, Life

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.ask import Message
from legato.core.blocks import Block, CallError, TextBlock, ToolResultBlock
from legato.core.messages import messages, unread
from legato.core.plan import TurnPlan
from legato.core.records import Reading, StoredTurn, TurnRow
from legato.core.turn import TurnMachine
from legato.core.user_turn import say

_Move: TypeAlias = tuple[str, str]

PATIENCE = 5_000  # steps; no life here takes a tenth of it


def row(turn_id: str, role: str) -> TurnRow:
    return TurnRow(
        id=turn_id,
        chat_id="chat",
        prev_turn_id=None,
        role="user" if role == "user" else "assistant",
        status="running",
        created_at="2026-11-24T00:00:00.000Z",
        depth=1,
    )


def user_turn(turn_id: str, text: str) -> StoredTurn:
    folded, _ = say(
        turn_id=turn_id,
        chat_id="chat",
        prev_turn_id=None,
        created_at="2026-11-24T00:00:00.000Z",
        blocks=[TextBlock(index=0, round=0, state="complete", text=text)],
    )
    return StoredTurn(row=row(turn_id, "user"), blocks=folded.blocks)


def machine_for(life: Life, *, turn_id: str = "turn", epoch: int = 0) -> TurnMachine:
    plan = TurnPlan(
        turn_id=turn_id,
        chat_id="chat",
        prev_turn_id="asked",
        created_at="2026-11-24T00:00:00.000Z",
        model="m",
        provider="p",
        tools={name: TOOLS[name] for name in life.tools},
        limits=life.limits,
    )
    return TurnMachine(plan, epoch=epoch)


@dataclass
class Run:
    """``steps`` are the inputs, each with what the machine wanted done; the first is the start. ``rows`` are the blocks
    as a journal keeps them. ``requests`` are what the model was sent, each with the action that asked for it."""

    machine: TurnMachine
    steps: list[tuple[i.Input | None, list[a.Action]]] = field(default_factory=list)
    rows: dict[int, Block] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)
    requests: list[tuple[a.CallModel, tuple[Message, ...]]] = field(default_factory=list)

    @property
    def inputs(self) -> list[i.Input]:
        return [fed for fed, _ in self.steps if fed is not None]

    @property
    def actions(self) -> list[a.Action]:
        return [action for _, actions in self.steps for action in actions]

    @property
    def events(self) -> list[e.Event]:
        return [action for action in self.actions if isinstance(action, e.BaseEvent)]

    def stored(self) -> StoredTurn:
        """The turn as its rows, everything read by a formatter that the model will be sent."""
        turn = StoredTurn(
            row=row(self.machine.plan.turn_id, "assistant"),
            blocks=tuple(block for _, block in sorted(self.rows.items())),
            rounds=self.machine.turn.rounds,
            readings=self.readings,
        )
        for _, block in unread([turn]):
            self.readings[block.call_id] = self._read(block)
        return turn

    def _read(self, block: ToolResultBlock) -> Reading:
        text = self.machine.corrections.get(block.call_id)
        if text is None:
            text = f"{block.outcome} {json(block.output).decode()} {block.error}"
        return Reading(call_id=block.call_id, text=text, formatter="test", version=1)


class _Shell:
    """What runs outside of the machine at this moment."""

    def __init__(self, machine: TurnMachine, life: Life, history: Sequence[StoredTurn]) -> None:
        self.run = Run(machine)
        self.life = life
        self.history = history
        self.responses = list(life.responses)
        self.endings = list(life.endings)
        self.stream: list[i.ProviderInput] = []
        self.intents: list[str] = []
        self.running: list[str] = []
        self.told: set[str] = set()

    def feed(self, fed: i.Input | None) -> None:
        machine = self.run.machine
        if fed is None:
            machine.start()
        else:
            machine.receive(fed)
        actions = machine.take()
        self.run.steps.append((fed, actions))
        for action in actions:
            self._perform(action)

    def _perform(self, action: a.Action) -> None:
        run = self.run
        match action:
            case a.CallModel():
                run.requests.append((action, messages([*self.history, run.stored()])))
                end = i.ResponseEnded(stop_reason="end", provider_reason=None)
                self.stream = list(self.responses.pop(0)) if self.responses else [end]
            case a.StopModel():
                self.stream = []
            case a.StoreIntent(intent):
                self.intents.append(intent.call_id)
            case a.StartTool(call_id=call_id):
                self.running.append(call_id)
            case a.CancelTool(call_id=call_id):
                self.told.add(call_id)
            case e.BlockStop(index=index):
                run.rows[index] = run.machine.turn.closed[index]
            case _:
                pass

    def moves(self) -> list[_Move]:
        moves: list[_Move] = [("model", "")] if self.stream else []
        moves += [("intent", call_id) for call_id in self.intents]
        moves += [("finish", call_id) for call_id in self.running]
        moves += [("emit", call_id) for call_id in self.running]
        return moves

    def make(self, move: _Move) -> None:
        match move:
            case ("model", _):
                self.feed(self.stream.pop(0))
            case ("intent", call_id):
                self.intents.remove(call_id)
                self.feed(i.IntentStored(call_id=call_id))
            case ("emit", call_id):
                self.feed(i.ToolEmitted(call_id=call_id, text="looking … 🐉\0"))
            case (_, call_id):
                self.running.remove(call_id)
                self.feed(self._finished(call_id))

    def _finished(self, call_id: str) -> i.ToolFinished:
        ending = self.endings.pop(0) if self.endings else Ending("ok", "done")
        if call_id in self.told and ending.outcome != "ok":
            ending = Ending("cancelled")
        error = UNSET if ending.outcome == "ok" else CallError(ending.outcome, "it said why")
        return i.ToolFinished(call_id=call_id, outcome=ending.outcome, output=ending.output, error=error)


def drive(
    machine: TurnMachine,
    life: Life,
    *,
    history: Sequence[StoredTurn] | None = None,
    cut: tuple[int, i.Input] | None = None,
) -> Run:
    """Play the life until the turn has ended and nothing is left outside. ``cut`` is one more interruption.

    Fails if the machine waits for something that nobody will do.
    """
    shell = _Shell(machine, life, [user_turn("asked", "Find the dragon")] if history is None else history)
    choices = list(life.choices)
    interruptions = sorted([*life.interruptions, *([cut] if cut is not None else [])], key=lambda each: each[0])
    shell.feed(None)
    for step in range(PATIENCE):
        while interruptions and interruptions[0][0] <= step and not machine.ended:
            shell.feed(interruptions.pop(0)[1])
        moves = shell.moves()
        if not moves:
            assert machine.ended, f"the machine waits for nobody after {step} steps"
            return shell.run
        shell.make(moves[(choices.pop(0) if choices else 0) % len(moves)])
    raise AssertionError(f"the turn did not end within {PATIENCE} steps")


def cut_anywhere(life: Life, cut: i.Input) -> Iterator[Run]:
    """The life once for each of its steps, cut before it. A life is short, so that a step drawn by chance is mostly
    past its end."""
    for step in range(len(drive(machine_for(life), life).steps)):
        yield drive(machine_for(life), life, cut=(step, cut))


def replay(machine: TurnMachine, inputs: Sequence[i.Input]) -> list[a.Action]:
    machine.start()
    actions = machine.take()
    for fed in inputs:
        machine.receive(fed)
        actions += machine.take()
    return actions
