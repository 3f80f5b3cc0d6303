"""Which sealed calls may run now (docs/tools.md).

Order of start is the model's order. A ``read`` starts at once; a call with effects waits until its response has ended
well, and for the earlier calls with effects of its lane. Timing never decides which call is over a limit: places are
given in order, and a call that may not run yet holds no place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec

from legato.core.blocks import Json

CallState: TypeAlias = Literal["sealed", "intent", "running", "done"]

TURN_LANE = "turn"
"""The lane of every call with effects that declares none."""


def _no_lane(_: dict[str, Json]) -> str | None:
    return None


def _accept(_: dict[str, Json]) -> str | None:
    return None


def _never(_: dict[str, Json]) -> bool:
    return False


class ToolRule(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine must know of a tool. The functions are pure: of the same arguments they always say the same."""

    effect: Literal["read", "idempotent", "write"] = "write"
    eager: bool = False
    asks_approval: Callable[[dict[str, Json]], bool] = _never
    check: Callable[[dict[str, Json]], str | None] = _accept
    lane: Callable[[dict[str, Json]], str | None] = _no_lane


class Call:
    """One sealed call of this turn, from its seal to its result."""

    __slots__ = (
        "attempt",
        "call_id",
        "committed",
        "correction",
        "effect",
        "eager",
        "index",
        "input",
        "key",
        "lane",
        "ordinal",
        "result_index",
        "round",
        "started",
        "state",
        "tool_name",
    )

    def __init__(
        self, *, call_id: str, round: int, attempt: int, ordinal: int, index: int, key: int, tool_name: str
    ) -> None:
        self.call_id = call_id
        self.round = round
        self.attempt = attempt
        self.ordinal = ordinal
        self.index = index
        self.key = key
        self.tool_name = tool_name
        self.input: dict[str, Json] = {}
        self.effect: Literal["read", "idempotent", "write"] = "write"
        self.eager = False
        self.lane: str | None = None
        self.committed = False
        self.state: CallState = "sealed"
        self.result_index: int | None = None
        self.correction: str | None = None
        self.started = False

    @property
    def has_effects(self) -> bool:
        return self.effect != "read"


def startable(calls: Sequence[Call], *, parallel: int) -> list[Call]:
    """The calls that may begin now, in the model's order. ``parallel`` bounds those that run at once.

    A call with effects counts as running from the moment its intent is asked for.
    """
    free = parallel - sum(call.state in ("intent", "running") for call in calls)
    taken: set[str] = set()
    ready: list[Call] = []
    for call in calls:
        if call.state == "done":
            continue
        if call.state == "sealed" and free > 0 and call.lane not in taken and _may(call):
            ready.append(call)
            free -= 1
        if call.has_effects and call.lane is not None:
            taken.add(call.lane)
    return ready


def _may(call: Call) -> bool:
    return not call.has_effects or call.eager or call.committed
