"""What is settled before a turn begins: what it may call, and its bounds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from legato.core.records import KeptSteer
from legato.core.schedule import ToolRule
from legato.core.usage import Prices

SOFT_END = (
    "Only one more round of tool calls is possible after this one. "
    "Begin to answer with what you have, and call further tools only if the answer cannot do without."
)
HARD_END = "No more tool calls are possible. Answer now, with what you have."


class TurnLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one turn (P12). ``retries``: how often a response that died before its first block is asked again."""

    rounds: int = 10
    calls_per_round: int = 64
    parallel_calls: int = 16
    blocks: int = 2_000
    argument_bytes: int = 1_048_576
    retries: int = 2


class TurnPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is settled before the turn begins. ``tools`` are those this turn may call, ``client_tools`` the names of
    those that a client runs."""

    turn_id: str
    chat_id: str
    prev_turn_id: str | None
    created_at: str
    model: str
    provider: str
    tools: Mapping[str, ToolRule] = {}
    client_tools: Collection[str] = ()
    limits: TurnLimits = TurnLimits()
    steers: Sequence[KeptSteer] = ()
    """Posted while the turn was queued."""
    prices: Prices = Prices()
    cancelled: bool = False
    """A cancel was asked for before it began."""
