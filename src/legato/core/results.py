"""A call's one ``tool_result``, opened and closed: by the machine as tools run, and by who ends a dead owner's turn.

Partial blocks are stopped in the same two places, so that is here as well.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from legato.core import events as e
from legato.core.blocks import CallError, Json, Origin, Outcome
from legato.core.scribe import Scribe


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a call came to. ``bytes`` and ``href`` are of an output that is kept beside the turn; ``ran_input`` are the
    arguments it ran with, where they are not the model's."""

    outcome: Outcome
    output: Json = None
    error: CallError | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    href: str | UnsetType = UNSET
    ran_input: dict[str, Json] | UnsetType = UNSET


def open_result(scribe: Scribe, *, call_id: str, tool_name: str, round: int, origin: Origin) -> int:
    """The index of the new block: the turn's next, since a result takes its place when it opens."""
    index = scribe.take_index()
    scribe.say(
        e.BlockStart(
            seq=scribe.next_seq(),
            index=index,
            round=round,
            block_type="tool_result",
            call_id=call_id,
            tool_name=tool_name,
            origin=origin,
        )
    )
    return index


def close_result(scribe: Scribe, index: int, result: Result) -> None:
    length, sha256 = scribe.measured(index)
    scribe.say(
        e.BlockStop(
            seq=scribe.next_seq(),
            index=index,
            state="complete",
            length=length,
            sha256=sha256,
            outcome=result.outcome,
            output=result.output,
            error=result.error,
            ran_input=result.ran_input,
            bytes=result.bytes,
            href=result.href,
        )
    )


def stop_partial(scribe: Scribe, index: int) -> None:
    """The open block ends here, cut."""
    length, sha256 = scribe.measured(index)
    scribe.say(e.BlockStop(seq=scribe.next_seq(), index=index, state="partial", length=length, sha256=sha256))
