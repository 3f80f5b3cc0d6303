"""P2 and P7: what tools did outside, held against the calls that the turn has and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from legato.core.blocks import CallError, Json
from legato.testing.torture.seen import Seen
from legato.testing.torture.tools import Effect

WRITES: Final = ("change", "change_early", "change_apart", "settle", "change_if_allowed")


def other_arguments(seen: Seen) -> Iterator[str]:
    """Of each deed: its arguments are those of its call, or a person's in their place; and the model had said them.

    A `look` may have run for a call that was lost with its response, no other tool: an early write is never lost.
    """
    for line in seen.effects:
        ran: Json = {"what": line.what, "ms": line.ms}
        sent = [said for said in seen.told.decisions.get(line.call_id, ()) if said.input is not None]
        call = seen.calls.get(line.call_id)
        if call is None or call.state != "complete":
            if line.tool != "look":
                yield f"{line.tool} ran for {line.call_id}, which is no whole call of the turn"
        elif call.tool_name != line.tool:
            yield f"{line.tool} ran for {line.call_id}, a call of {call.tool_name}"
        elif ran not in ([] if any(said.taken for said in sent) else [call.input]) + [said.input for said in sent]:
            yield f"{line.tool} of {line.call_id} ran on {ran}, sealed was {call.text}"
        planned = seen.world.planned.get(line.what)
        said_so = planned is not None and (planned.tool, planned.ms) == (line.tool, line.ms)
        if seen.world.planned and not said_so and not sent:
            yield f"{line.tool} of {line.call_id} ran on {ran}, which the model never said"
    yield from _unsaid_inputs(seen)


def _unsaid_inputs(seen: Seen) -> Iterator[str]:
    """The result says what ran in the place of the model's arguments."""
    for call_id, result in seen.results.items():
        sent = [said.input for said in seen.told.decisions.get(call_id, ()) if said.input is not None]
        taken = any(said.taken for said in seen.told.decisions.get(call_id, ()) if said.input is not None)
        ran = result.ran_input if isinstance(result.ran_input, dict) else None
        if (ran is not None and ran not in sent) or (ran is None and taken and result.outcome == "ok"):
            yield f"the result of {call_id} says that it ran on {ran}, and a person said {sent}"


def unasked(seen: Seen) -> Iterator[str]:
    """Nothing runs that was denied, or that nobody has said yes to and must."""
    for call_id, tool in {(line.call_id, line.tool) for line in seen.effects}:
        decisions = seen.told.decisions.get(call_id, ())
        if any(said.decision == "deny" and said.taken for said in decisions):
            yield f"{tool} of {call_id} ran though it was denied"
        elif tool == "change_if_allowed" and not any(said.decision == "approve" for said in decisions):
            yield f"{tool} of {call_id} ran unasked"


def never_started(seen: Seen) -> Iterator[str]:
    """A write whose result says that it was not run, and whose start nobody heard of. One that had begun when its
    server died is unknown, or as the outside says, also where the turn was cancelled."""
    started = {start.said for reader in (*seen.told.readers, *seen.told.late) for start in reader.starts}
    begun = _times(seen.effects, "begun")
    for call_id, result in seen.results.items():
        call = f"{result.tool_name} of {call_id}"
        refused = isinstance(result.error, CallError) and result.error.code == "not_executed"
        if (result.outcome == "cancelled" or refused) and begun[call_id] and call not in started:
            yield f"{call} is {result.outcome}, was never started, and was begun"


def done_twice(seen: Seen) -> Iterator[str]:
    begun = _times(seen.effects, "begun")
    for call_id, times in begun.items():
        if times > 1:
            yield f"{call_id} was begun {times} times"
    for call_id in {line.call_id for line in seen.effects if line.tool != "look"}:
        keys = {line.key for line in seen.effects if line.call_id == call_id}
        if len(keys) > 1:
            yield f"{call_id} ran under {len(keys)} keys"


def lies(seen: Seen) -> Iterator[str]:
    """Results of writes that say what is not so. One that was told to stop, or ran out of time, may have taken effect:
    such a result says only that nobody waited for it."""
    begun, done = _times(seen.effects, "begun"), _times(seen.effects, "effect")
    for call_id, result in seen.results.items():
        if result.tool_name not in WRITES:
            continue
        if result.outcome == "ok" and done[call_id] != 1:
            yield f"{call_id} is ok and took effect {done[call_id]} times"
        if result.outcome == "denied" and begun[call_id]:
            yield f"{call_id} is denied and was begun"
        if result.outcome == "error" and done[call_id]:
            yield f"{call_id} is an error and took effect"


def _times(effects: Sequence[Effect], deed: str) -> Counter[str]:
    """Of writes, by call."""
    return Counter(line.call_id for line in effects if line.deed == deed and line.tool in WRITES)
