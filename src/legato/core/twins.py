"""Identical reads of one response share one execution (docs/tools.md).

How often a tool runs must not depend on how fast it is: so the execution of a call that waits, that asked to run later
or that has ended is shared as well. With a lane, an effect may lie between the two: then each runs for itself.
"""

from __future__ import annotations

from typing import TypeAlias

from legato.core.call import Call

_Identity: TypeAlias = tuple[int, int, str, str]


def _identity(call: Call) -> _Identity:
    return call.round, call.attempt, call.tool_name, call.sha256


def _shares(call: Call) -> bool:
    return call.effect == "read" and call.lane is None and call.origin == "server"


class Twins:
    def __init__(self) -> None:
        self._leaders: dict[_Identity, Call] = {}

    def lead(self, call: Call) -> None:
        """Its execution is the one to share."""
        if _shares(call):
            self._leaders[_identity(call)] = call

    def leader_of(self, call: Call) -> Call | None:
        """Whose execution it shares, if there is another one than its own."""
        leader = self._leaders.get(_identity(call)) if _shares(call) else None
        if leader is None or leader is call or (leader.state == "done" and leader.came is None):
            return None
        return leader

    def pass_on(self, call: Call) -> None:
        """It will not run after all: the first of those that share its execution runs in its place, if there is one."""
        if not call.followers:
            return
        heir, *others = call.followers
        call.followers = []
        heir.state, heir.deferred, heir.late = call.state, call.deferred, call.late
        heir.leader, heir.followers = None, others
        for other in others:
            other.leader = heir
        self.lead(heir)
