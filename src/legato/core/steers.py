"""What people say into a turn that runs: kept until the model is asked again, then told to it, or given back.

What became of each is in the turn itself, so that the next owner knows it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from legato.core import events as e
from legato.core.errors import Conflict, InvalidRequest
from legato.core.records import KeptSteer
from legato.core.scribe import Scribe


class Steers:
    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe

    @property
    def pending(self) -> list[e.Steer]:
        """Those that the model has not read."""
        return [steer for steer in self._scribe.turn.steered.values() if steer.state == "accepted"]

    def accept(self, steer_id: str, text: str) -> None:
        if steer_id not in self._scribe.turn.steered:
            self._say(steer_id, text, "accepted")

    def accept_kept(self, kept: Sequence[KeptSteer]) -> None:
        """Those that were posted while nobody ran the turn, and those whose acceptance fell to a rewind."""
        for steer in kept:
            if steer.state != "returned":
                self.accept(steer.steer_id, steer.text)

    def deliver(self) -> None:
        """As input of the round that has just begun."""
        for steer in self.pending:
            self._say(steer.steer_id, steer.text, "delivered")

    def give_back(self) -> None:
        """The model is asked nothing more."""
        for steer in self.pending:
            self._say(steer.steer_id, steer.text, "returned")

    def _say(self, steer_id: str, text: str, state: Literal["accepted", "delivered", "returned"]) -> None:
        self._scribe.say(e.Steer(seq=self._scribe.next_seq(), steer_id=steer_id, text=text, state=state))


def judged(turn_id: str, steer: KeptSteer, there: Sequence[KeptSteer], *, ended: bool, limit: int) -> KeptSteer | None:
    """The one of this id that is there already and says the same; None: it is new and may be kept. Raises otherwise."""
    for one in there:
        if one.steer_id == steer.steer_id:
            if one.text != steer.text:
                message = f"steer {steer.steer_id} of turn {turn_id} says something else: choose a new steer_id"
                raise Conflict(message, code="steer_id_reused", turn_id=turn_id)
            return one
    if ended:
        raise Conflict(f"turn {turn_id} has ended", code="turn_ended", turn_id=turn_id)
    if len(there) >= limit:
        message = f"turn {turn_id} has {len(there)} steers, limit is {limit}"
        raise InvalidRequest(message, code="too_many_steers", limit=limit, actual=len(there))
    return None
