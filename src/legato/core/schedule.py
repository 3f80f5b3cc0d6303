"""Which sealed calls may run now (docs/tools.md).

Order of start is the model's order. A ``read`` starts at once; a call with effects waits until its response has ended
well, and for the earlier calls with effects of its lane. Timing never decides which call is over a limit: places are
given in order, and a call that may not run yet holds no place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from legato.core.blocks import Json
from legato.core.call import Call

TURN_LANE = "turn"
"""The lane of every call with effects that declares none."""


def _no_lane(_: dict[str, Json]) -> str | None:
    return None


def _accept(_: dict[str, Json]) -> str | None:
    return None


def _never(_: dict[str, Json]) -> bool:
    return False


class ToolRule(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine must know of a tool. The functions are pure: of the same arguments they always say the same.
    ``late``: its calls start once their response has ended, since arguments of it have changed before."""

    effect: Literal["read", "idempotent", "write"] = "write"
    eager: bool = False
    late: bool = False
    asks_approval: Callable[[dict[str, Json]], bool] = _never
    check: Callable[[dict[str, Json]], str | None] = _accept
    lane: Callable[[dict[str, Json]], str | None] = _no_lane


def startable(calls: Sequence[Call], *, parallel: int) -> list[Call]:
    """The calls that may begin now, in the model's order. ``parallel`` bounds those that run at once.

    A call with effects counts as running from the moment its intent is asked for. What runs has its lane, whatever its
    place: arguments that a person edited may have brought an earlier call into the lane of one that runs.
    """
    free = parallel - sum(call.busy for call in calls)
    taken = {call.lane for call in calls if call.busy and call.has_effects and call.lane is not None}
    ready: list[Call] = []
    for call in calls:
        if call.state == "done":
            continue
        if call.state == "sealed" and free > 0 and call.lane not in taken and may_start(call):
            ready.append(call)
            free -= 1
        if call.has_effects and call.lane is not None:
            taken.add(call.lane)
    return ready


def may_start(call: Call) -> bool:
    """Whether its effect and its response let it begin, lane and places aside. A client's tool never begins here."""
    if call.origin == "client":
        return False
    if call.interrupted or (call.resumed is not None and not call.deferred):
        return True  # it had begun
    if call.has_effects:
        return call.committed or (call.eager and not call.waits_for_end)
    return call.over or not call.waits_for_end
