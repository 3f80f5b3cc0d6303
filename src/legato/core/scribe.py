"""Gives events and blocks their numbers, folds what it says into the turn, and keeps the list of what is to be done.

The one place where ``seq`` and ``index`` are given (hazard 5): the parts of the machine share one scribe.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from legato.core import actions as a
from legato.core import events as e
from legato.core.fold import Turn
from legato.core.plan import TurnPlan
from legato.core.text import clean, measure

CLOSING_EVENTS = 3
"""Numbers of an epoch kept free for each block, and ``CLOSING_ROUNDS`` besides, for ending the turn in good order once
the others are used up: its own stop, and the start and the stop of its result."""
CLOSING_ROUNDS = 1_000


class Scribe:
    """``turn`` is the fold of everything said so far, ``blocks`` the most that it may have."""

    def __init__(self, *, epoch: int, blocks: int = 2_000) -> None:
        self.turn = Turn()
        self.epoch = epoch
        self.is_first_owner = epoch == 0
        self.seq = epoch * e.EPOCH_SIZE
        self.full_at = self.seq + e.EPOCH_SIZE - CLOSING_EVENTS * blocks - CLOSING_ROUNDS
        self.next_index = 0
        self.actions: list[a.Action] = []

    def begin(self, plan: TurnPlan) -> None:
        """A turn's first event."""
        self.say(
            e.TurnStart(
                seq=self.next_seq(),
                turn_id=plan.turn_id,
                chat_id=plan.chat_id,
                prev_turn_id=plan.prev_turn_id,
                created_at=plan.created_at,
            )
        )

    def take_over(self, turn: Turn) -> None:
        """Go on with what an earlier owner said."""
        self.turn = turn
        self.next_index = max(turn.starts, default=-1) + 1

    def rewind(self, to: int, blocks: tuple[e.Standing, ...]) -> None:
        """A new owner's first word (docs/http.md)."""
        self.say(e.Rewind(seq=self.next_seq(), to=to, blocks=blocks))
        self.next_index = max(self.turn.starts, default=-1) + 1

    def is_full(self) -> bool:
        """Only the closing events are left."""
        return self.seq >= self.full_at

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def take_index(self) -> int:
        index = self.next_index
        self.next_index += 1
        return index

    def say(self, event: e.Event) -> None:
        """``event`` carries ``next_seq()``."""
        self.turn.apply(event)
        self.actions.append(event)

    def say_delta(self, index: int, text: str) -> None:
        """Say a delta of an open block. Nearly every event is one, so this is ``say`` without its layers (P15)."""
        self.seq = seq = self.seq + 1
        turn = self.turn
        turn.open[index].pieces.append(text)
        turn.last_seq = seq
        self.actions.append(e.BlockDelta(seq=seq, index=index, text=text))

    def note(self, code: str, message: str) -> None:
        self.say(e.Notice(seq=self.next_seq(), code=code, message=clean(message)))

    def tell(self, code: str, message: str, *, round: int) -> None:
        """A notice that the model reads too, as input of that round."""
        self.say(e.Notice(seq=self.next_seq(), code=code, message=message, round=round))

    def do(self, action: a.Action) -> None:
        self.actions.append(action)

    def measured(self, index: int) -> tuple[int | UnsetType, str | UnsetType]:
        """``length`` and ``sha256`` of an open block's text. An image's or a file's hash would be its data's."""
        block = self.turn.open[index]
        if block.start.block_type in ("image", "file"):
            return UNSET, UNSET
        return measure(block.text)
