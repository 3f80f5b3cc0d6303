"""Whatever comes, in whatever order, the machine does not raise and its turn stays whole (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from tests.core.drive import machine_for
from tests.core.test_lives import picture
from tests.core.turns import FATAL, RETRYABLE, TOOLS, Life

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Block, BlockType, CallError, Json, Origin, Outcome
from legato.core.fold import fold, squash
from legato.core.plan import TurnLimits
from legato.core.turn import TurnMachine
from legato.core.usage import Usage

_KEYS = st.integers(0, 3)
_TYPES: st.SearchStrategy[BlockType] = st.sampled_from(
    ["text", "thinking", "tool_use", "tool_use", "tool_use", "tool_result", "image", "file", "opaque"]
)
_ORIGINS: st.SearchStrategy[Origin] = st.sampled_from(["server", "server", "client", "provider"])
_OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(["ok", "error", "timeout", "cancelled", "denied", "unknown"])
_TEXTS = st.sampled_from(["", "{}", "a", '{"n":', "\ud800", "🐉", "\0"])
_JSON: st.SearchStrategy[Json] = st.sampled_from([None, 1, "x", [], {"a": [1.5, "é"]}])

_PROVIDER: st.SearchStrategy[i.Input] = st.one_of(
    st.builds(
        i.BlockOpened,
        key=_KEYS,
        block_type=_TYPES,
        tool_name=st.sampled_from([*TOOLS, "nobody", "", "a\ud800\0"]),
        origin=_ORIGINS,
        provider_call_id=st.sampled_from(["", "srv"]),
    ),
    st.builds(i.BlockOpened, key=_KEYS, block_type=_TYPES),
    st.builds(i.BlockOpened, key=_KEYS, block_type=_TYPES, tool_name=st.just("look"), input=st.just({"n": 1})),
    st.builds(i.Delta, _KEYS, _TEXTS),
    st.builds(i.Delta, _KEYS, _TEXTS),
    st.builds(i.BlockClosed, key=_KEYS),
    st.builds(i.BlockClosed, key=_KEYS, output=_JSON, error=st.just(CallError("a", "b")), signature=st.just("s")),
    st.builds(i.CallPoisoned, key=_KEYS, message=_TEXTS),
    st.builds(i.UsageReported, usage=st.just(Usage(input_tokens=1, source="reported"))),
    st.builds(
        i.ResponseEnded,
        stop_reason=st.sampled_from(["end", "calls", "pause", "length", "refusal", "other"]),
        provider_reason=st.sampled_from([None, "stop\ud800"]),
    ),
    st.builds(i.ResponseFailed, error=st.sampled_from([RETRYABLE, FATAL, e.ErrorInfo(code="a", message="\ud800")])),
)
# Of a call it is said by its place among those that were asked for; the last one is nobody's.
_CALLED: st.SearchStrategy[Callable[[str], i.Input]] = st.one_of(
    st.just(lambda call_id: i.IntentStored(call_id=call_id)),
    st.builds(lambda text: lambda call_id: i.ToolEmitted(call_id=call_id, text=text), _TEXTS),
    st.builds(
        lambda outcome, output: lambda call_id: i.ToolFinished(call_id=call_id, outcome=outcome, output=output),
        _OUTCOMES,
        _JSON,
    ),
)
_OTHERS: st.SearchStrategy[i.Input] = st.sampled_from(
    [
        i.CancelRequested(),
        i.TimeUp(kind="soft"),
        i.TimeUp(kind="hard"),
        i.Interrupted(error=FATAL),
        i.Noted(code="a", message="\ud800"),
    ]
)
_STEPS = st.one_of(_PROVIDER, _PROVIDER, _PROVIDER, st.tuples(_CALLED, st.integers(0, 4)), _OTHERS)

_SMALL = TurnLimits(rounds=3, calls_per_round=3, parallel_calls=2, blocks=12, argument_bytes=4, retries=1)


def machine() -> TurnMachine:
    life = Life(limits=_SMALL, tools=tuple(TOOLS), responses=(), choices=(), endings=())
    return machine_for(life)


@given(st.lists(_STEPS, max_size=40))
def test_no_input_in_no_order_makes_the_machine_raise_or_say_what_cannot_be_stored(
    steps: list[i.Input | tuple[Callable[[str], i.Input], int]],
) -> None:
    turn_machine = machine()
    turn_machine.start()
    said: list[a.Action] = turn_machine.take()
    rows: dict[int, Block] = {}
    for step in steps:
        if isinstance(step, tuple):
            make, place = step
            asked = [action.intent.call_id for action in said if isinstance(action, a.StoreIntent)]
            asked += [action.call_id for action in said if isinstance(action, a.StartTool)]
            step_input = make(asked[place] if place < len(asked) else "call_of_nobody")
        else:
            step_input = step
        turn_machine.receive(step_input)
        actions = turn_machine.take()
        said += actions
        rows |= {each.index: turn_machine.turn.closed[each.index] for each in actions if isinstance(each, e.BlockStop)}
    events = [action for action in said if isinstance(action, e.BaseEvent)]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    read = [e.decode(e.encode(event)) for event in events]
    assert picture(fold(read)) == picture(turn_machine.turn) == picture(fold(squash(read)))
    assert turn_machine.turn.closed == rows
    assert [type(event) for event in events].count(e.TurnEnd) == int(turn_machine.ended)


@given(st.lists(_STEPS, max_size=40))
def test_an_ended_turn_hears_nothing(steps: list[i.Input | tuple[Callable[[str], i.Input], int]]) -> None:
    turn_machine = machine()
    turn_machine.start()
    turn_machine.receive(i.CancelRequested())
    assert turn_machine.ended
    turn_machine.take()
    for step in steps:
        turn_machine.receive(step[0]("call_of_nobody") if isinstance(step, tuple) else step)
    assert turn_machine.take() == []
