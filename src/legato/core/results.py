"""A call's one ``tool_result``, opened and closed: by the machine as tools run, and by who ends a dead owner's turn.

Partial blocks are stopped in the same two places, so that is here as well.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from legato.core import events as e
from legato.core.blocks import CallError, Json, Origin, Outcome, ToolResultBlock
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


def output_href(turn_id: str, call_id: str) -> str:
    """Where the output of this execution is, that lies beside its turn."""
    return f"/v1/turns/{turn_id}/outputs/{call_id}"


def kept_as(result: ToolResultBlock) -> str:
    """The id of the call whose execution kept the output: another than its own where two identical reads shared one
    (core.twins)."""
    return result.call_id if isinstance(result.href, UnsetType) else result.href.rpartition("/")[2]


def stop_partial(scribe: Scribe, index: int) -> None:
    """The open block ends here, cut."""
    length, sha256 = scribe.measured(index)
    scribe.say(e.BlockStop(seq=scribe.next_seq(), index=index, state="partial", length=length, sha256=sha256))
