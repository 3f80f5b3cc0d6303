"""What is done, step by step. A plan is a tuple of these, made by ``make_plan`` (planning.py) or by hand."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from legato.core.inputs import CancelMode
from legato.core.posts import OnBusy
from legato.testing.script import Wire

ProviderFault: TypeAlias = Literal[
    "none", "cut", "reset", "stall", "garbage", "slow", "overloaded", "refusal", "length"
]
TOOLS: Final = ("look", "put", "change", "change_early", "change_apart", "settle", "change_if_allowed", "pick")
"""``pick`` is the client's."""
Says: TypeAlias = Literal["yes", "no", "edit"]
Again: TypeAlias = Literal["no", "same", "other"]


class PlannedCall(msgspec.Struct, frozen=True):
    tool: str
    what: str
    ms: int


class PlannedRound(msgspec.Struct, frozen=True, kw_only=True):
    """``fault`` comes when the round is asked first, and not again. ``pace`` is deltas a second, 0 at once."""

    words: int
    pace: float
    calls: tuple[PlannedCall, ...]
    fault: ProviderFault


class PlannedReader(msgspec.Struct, frozen=True, kw_only=True):
    """``drops``: after how many bytes it is cut off, each time it has come back. ``late``: seconds before it comes."""

    late: float
    each: bool
    drops: tuple[int, ...]


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Post turn ``turn`` to a chat. A person needs ``thinks`` seconds for each answer, ``says`` what becomes of calls
    that need a yes (``edit``: with other arguments), and answers ``again`` or not. ``unwanted``: the turn is cancelled
    before it is posted."""

    turn: int
    chat: int
    wire: Wire
    rounds: tuple[PlannedRound, ...]
    readers: tuple[PlannedReader, ...]
    thinks: float
    says: Says = "yes"
    again: Again = "no"
    on_busy: OnBusy = "queue"
    unwanted: bool = False


class Cancel(msgspec.Struct, frozen=True, tag=True):
    turn: int
    mode: CancelMode = "now"


class Steer(msgspec.Struct, frozen=True, tag=True):
    """Say something into a turn; ``number`` tells it from the others of the plan."""

    turn: int
    number: int


class Pause(msgspec.Struct, frozen=True, tag=True):
    seconds: float


class Kill(msgspec.Struct, frozen=True, tag=True):
    """``kill -9`` after so many seconds; then it is started again on the same file."""

    after: float


class Freeze(msgspec.Struct, frozen=True, tag=True):
    """SIGSTOP, and SIGCONT so many seconds later."""

    seconds: float


class Lock(msgspec.Struct, frozen=True, tag=True):
    """Somebody else holds the file's write lock."""

    seconds: float


class Slow(msgspec.Struct, frozen=True, tag=True):
    """For so many seconds each write to the file waits, up to ``each`` seconds: somebody else takes its lock again and
    again, and lets one writer in between."""

    seconds: float
    each: float


class Full(msgspec.Struct, frozen=True, tag=True):
    """The server can write to no file."""

    seconds: float


class Spool(msgspec.Struct, frozen=True, tag=True):
    """The file is locked until what the server says lies in its spool; then the server is killed, and its spool ends in
    half a record, as a kill in the midst of writing one leaves it. It is started again."""


class Jump(msgspec.Struct, frozen=True, tag=True):
    """The wall clock of the servers is set."""

    seconds: float


class Restart(msgspec.Struct, frozen=True, tag=True):
    """SIGTERM, and another is started once it has ended."""


class Twin(msgspec.Struct, frozen=True, tag=True):
    """A second server on the same file from now on; it is killed after so many further steps."""

    steps: int


Fault: TypeAlias = Kill | Freeze | Lock | Slow | Full | Spool | Jump | Restart | Twin
Step: TypeAlias = Ask | Cancel | Steer | Pause | Fault
