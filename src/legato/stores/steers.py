"""What a store says to a steer, the same in every one."""

from __future__ import annotations

from collections.abc import Sequence

from legato.core.errors import Conflict, InvalidRequest
from legato.core.records import KeptSteer


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
