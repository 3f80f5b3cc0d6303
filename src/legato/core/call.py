"""One sealed call of a turn, from its seal to its one result."""

from __future__ import annotations

from typing import Literal, TypeAlias

from legato.core.blocks import Json, Origin
from legato.core.inputs import ToolFinished
from legato.core.records import Need, Resumed

CallState: TypeAlias = Literal["sealed", "waiting", "intent", "running", "done"]
"""``waiting``: for a person or a client (``need``), with nothing of it running."""


class Call:
    """``ordinal`` is its place among the calls of its response, ``key`` the decoder's for its block.

    ``committed``: its response ended well; ``over``: it ended somehow, and its reads stand; ``hopeless``: why it ended
    otherwise. ``interrupted``: it ran when an earlier owner died, and is to run again. ``leader``: the identical call
    whose execution it shares, ``followers`` the other way round. ``ran_input``: what a person approved in the place of
    the model's arguments. ``poisoned``: the wire changed it after its seal; ``correction``: why the model must not read
    its result. ``came``: what its execution gave.
    """

    __slots__ = (
        "asked",
        "attempt",
        "call_id",
        "came",
        "committed",
        "correction",
        "deferred",
        "eager",
        "effect",
        "followers",
        "hopeless",
        "index",
        "input",
        "intended",
        "interrupted",
        "key",
        "lane",
        "late",
        "leader",
        "need",
        "ordinal",
        "origin",
        "over",
        "poisoned",
        "ran_input",
        "result_index",
        "resumed",
        "round",
        "sha256",
        "started",
        "state",
        "tool_name",
    )

    def __init__(
        self,
        *,
        call_id: str,
        round: int,
        attempt: int,
        ordinal: int,
        index: int,
        key: int,
        tool_name: str,
        origin: Origin = "server",
    ) -> None:
        self.call_id = call_id
        self.round = round
        self.attempt = attempt
        self.ordinal = ordinal
        self.index = index
        self.key = key
        self.tool_name = tool_name
        self.origin = origin
        self.input: dict[str, Json] = {}
        self.sha256 = ""
        self.ran_input: dict[str, Json] | None = None
        self.effect: Literal["read", "idempotent", "write"] = "write"
        self.eager = False
        self.late = False
        self.lane: str | None = None
        self.committed = False
        self.over = False
        self.hopeless: str | None = None
        self.state: CallState = "sealed"
        self.started = False
        self.intended = False
        self.deferred = False
        self.interrupted = False
        self.leader: Call | None = None
        self.followers: list[Call] = []
        self.asked = 0
        self.need: Need | None = None
        self.resumed: Resumed | None = None
        self.result_index: int | None = None
        self.poisoned = False
        self.correction: str | None = None
        self.came: ToolFinished | None = None

    @property
    def has_effects(self) -> bool:
        """A client's tool has them elsewhere, in an order that is the client's."""
        return self.effect != "read" and self.origin == "server"

    @property
    def busy(self) -> bool:
        """It holds a place: it runs itself, or its intent is being stored so that it can."""
        return self.state == "intent" or (self.state == "running" and self.leader is None)

    @property
    def begun(self) -> bool:
        """Something of it has run. A tool that asked to run later has done nothing yet."""
        ran = self if self.leader is None else self.leader
        return self.started and not ran.deferred

    @property
    def waits_for_end(self) -> bool:
        """It starts once its response has ended, not at the seal."""
        return self.late or self.deferred

    @property
    def held(self) -> bool:
        """It has not begun, and will only if its response ends well."""
        return (
            not self.begun
            and self.state in ("sealed", "waiting", "intent")
            and (self.has_effects or self.origin == "client")
        )
