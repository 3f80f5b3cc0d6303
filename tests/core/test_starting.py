"""When a call starts, and which never do (docs/tools.md)."""

from __future__ import annotations

import hashlib

import pytest
from tests.core.play import Play, Said, call, ended, opened, text

from legato.core import actions as a
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Json
from legato.core.plan import TurnLimits
from legato.core.schedule import ToolRule

# Reads


def test_a_read_starts_when_its_call_is_sealed_while_the_model_still_talks() -> None:
    play = Play()
    play.say(opened(0), i.Delta(0, "{}"))
    assert play.started == []
    play.say(i.BlockClosed(key=0))
    assert play.started == [0]
    play.say(i.BlockOpened(key=1, block_type="text"), i.Delta(1, "meanwhile"))
    assert play.finish(0, output=1)[-1] == e.BlockStop(
        seq=play.turn.last_seq,
        index=2,
        state="complete",
        length=0,
        sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        outcome="ok",
        output=1,
    )
    assert not play.machine.ended


def test_of_a_call_the_stop_of_its_arguments_its_start_and_its_result_come_in_this_order() -> None:
    play = Play()
    play.say(call(0), ended())
    play.emit(0, "looking")
    play.finish(0)
    of_call = [event for event in play.events if not isinstance(event, e.TurnStart | e.RoundStart | e.RoundStop)]
    assert [type(event) for event in of_call] == [
        e.BlockStart,
        e.BlockDelta,
        e.BlockStop,
        e.ToolStart,
        e.BlockStart,
        e.BlockDelta,
        e.BlockStop,
    ]


def test_reads_run_beside_each_other() -> None:
    play = Play()
    play.say(call(0), call(1), call(2))
    assert play.started == [0, 1, 2]


def test_a_read_of_a_lane_waits_for_earlier_calls_with_effects_of_that_lane() -> None:
    play = Play()
    play.say(call(0, "post_b"), call(1, "look_lane"), call(2, "look"), ended())
    assert play.started == [2]
    play.store(0)
    assert play.started == [2, 0]
    play.finish(0)
    assert play.started == [2, 0, 1]


def test_a_read_of_a_lane_waits_for_no_read_and_for_no_later_call() -> None:
    play = Play()
    play.say(call(0, "look_lane"), call(1, "look_lane"), call(2, "post_b"))
    assert play.started == [0, 1]


# Calls with effects


@pytest.mark.parametrize("tool_name", ["put", "post"])
def test_a_call_with_effects_is_held_until_the_response_has_ended_well_and_its_intent_is_stored(tool_name: str) -> None:
    play = Play()
    play.say(call(0, tool_name), text(1, "and now"))
    assert (play.intents, play.started) == ([], [])
    play.say(ended())
    assert (play.intents, play.started) == ([0], [])
    play.store(0)
    assert play.started == [0]


def test_an_intent_says_what_will_run_and_with_which_key() -> None:
    play = Play()
    actions = play.say(call(0, "post", '{"n":1}'), ended())
    (stored,) = [action.intent for action in actions if isinstance(action, a.StoreIntent)]
    (start,) = [action for action in play.store(0) if isinstance(action, a.StartTool)]
    assert (stored.call_id, stored.round, stored.index, stored.tool_name) == (play.call(0).call_id, 1, 0, "post")
    assert stored.input == start.input == {"n": 1}
    assert stored.idempotency_key == start.idempotency_key
    assert stored.input_sha256 == hashlib.sha256(b'{"n":1}').hexdigest()


def test_an_intent_is_stored_just_before_its_own_call_never_for_a_whole_lane() -> None:
    play = Play()
    play.say(call(0, "post"), call(1, "put"), ended())
    assert play.intents == [0]
    play.store(0)
    assert play.intents == [0]
    play.finish(0)
    assert play.intents == [0, 1]
    assert play.started == [0]


def test_a_failing_call_does_not_stop_the_next_one_of_its_lane() -> None:
    play = Play()
    play.say(call(0, "post"), call(1, "post"), ended())
    play.store(0)
    play.finish(0, "timeout")
    play.store(1)
    assert play.started == [0, 1]


def test_lanes_run_beside_each_other() -> None:
    play = Play()
    play.say(
        call(0, "post"), call(1, "post_b"), call(2, "put_place", '{"n":7}'), call(3, "put_place", '{"n":7}'), ended()
    )
    assert play.intents == [0, 1, 2]


def test_an_eager_call_asks_for_its_intent_when_it_is_sealed() -> None:
    play = Play()
    play.say(call(0, "eager_put"))
    assert (play.intents, play.started) == ([0], [])
    play.store(0)
    assert play.started == [0]


def test_an_eager_call_still_waits_for_its_lane() -> None:
    play = Play()
    play.say(call(0, "post_b"), call(1, "eager_post_b"))
    assert play.intents == []
    play.say(ended())
    assert play.intents == [0]
    play.store(0)
    play.finish(0)
    assert play.intents == [0, 1]


def test_an_intent_that_is_stored_after_its_call_was_answered_starts_nothing() -> None:
    play = Play()
    play.say(call(0, "post"), ended(), i.CancelRequested())
    assert play.outcome(0) == "cancelled: cancelled"
    play.store(0)
    assert play.started == []


def test_the_key_is_the_same_for_the_same_place_and_arguments_whatever_came_between() -> None:
    def keys(*said: Said) -> list[str]:
        play = Play()
        play.say(*said)
        return [action.idempotency_key for action in play.actions if isinstance(action, a.StartTool)]

    plain = keys(call(0, "eager_put", '{"a":1,"b":2}'), call(1, raw='{"a":1,"b":2}'))
    assert keys(text(9, "words"), call(0, "eager_put", '{ "b":2, "a":1 }'), call(1, raw='{"b":2,"a":1}')) == plain


# Places


def test_places_are_given_in_the_models_order() -> None:
    play = Play(limits=TurnLimits(parallel_calls=2))
    play.say(call(0), call(1), call(2), call(3))
    assert play.started == [0, 1]
    play.finish(1)
    assert play.started == [0, 1, 2]
    play.finish(2)
    assert play.started == [0, 1, 2, 3]


def test_a_held_call_holds_no_place_and_an_intent_does() -> None:
    play = Play(limits=TurnLimits(parallel_calls=1))
    play.say(call(0, "post"), call(1), call(2))
    assert play.started == [1]
    play.say(ended())
    play.finish(1)
    assert (play.intents, play.started) == ([0], [1])
    play.store(0)
    play.finish(0)
    assert play.started == [1, 0, 2]


def test_calls_over_the_limit_of_a_round_are_answered_in_the_models_order_however_fast_the_others_are() -> None:
    for finish_early in (True, False):
        play = Play(limits=TurnLimits(calls_per_round=2))
        play.say(call(0))
        if finish_early:
            play.finish(0)
        play.say(call(1), call(2), call(3, "post"))
        assert play.started == [0, 1]
        assert [play.outcome(2), play.outcome(3)] == ["error: limit_calls", "error: limit_calls"]
        assert play.said_why(2) == "not executed: this is call 3 of the reply, limit is 2"


def test_the_limit_of_a_round_is_charged_anew_in_each_round() -> None:
    play = Play(limits=TurnLimits(calls_per_round=1))
    play.say(call(0), ended())
    play.finish(0)
    play.say(call(0))
    assert play.started == [0, 1]


# Calls that never run


@pytest.mark.parametrize(
    ("tool_name", "raw", "outcome", "why"),
    [
        ("nobody", "{}", "error: unknown_tool", "there is no tool 'nobody'; the tools are: look, look_picky"),
        ("look_picky", '{"n":13}', "error: invalid_arguments", "n must not be 13"),
        ("post_picky", '{"n":13}', "error: invalid_arguments", "n must not be 13"),
        ("look", '{"n":', "error: bad_json", "the arguments are not valid JSON"),
        ("post", "[1]", "error: bad_json", "the arguments must be a JSON object, not an array"),
        ("look", '{"n":1}}', "error: bad_json", "trailing characters"),
    ],
)
def test_a_call_that_cannot_run_is_answered_at_once_and_never_starts(
    tool_name: str, raw: str, outcome: str, why: str
) -> None:
    play = Play()
    play.say(call(0, tool_name, raw))
    assert play.outcome(0) == outcome
    assert why in play.said_why(0)
    play.say(ended())
    assert (play.started, play.intents) == ([], [])
    assert len(play.asked) == 2  # the model reads why


def test_a_call_that_cannot_run_touches_no_other() -> None:
    play = Play()
    play.say(call(0), call(1, "look", "null"), call(2))
    assert play.started == [0, 2]


def test_the_raw_text_of_bad_arguments_is_kept_and_their_input_is_null() -> None:
    play = Play()
    play.say(call(0, raw='{"n":'))
    assert (play.call(0).text, play.call(0).input) == ('{"n":', None)


# Arguments


def inputs_of(play: Play) -> list[dict[str, Json]]:
    return [action.input for action in play.actions if isinstance(action, a.StartTool)]


def test_no_argument_bytes_mean_an_empty_object() -> None:
    play = Play()
    play.say(call(0, raw=""))
    assert inputs_of(play) == [{}]
    assert play.call(0).input == {}


def test_an_input_that_came_with_the_start_counts_when_no_delta_follows() -> None:
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="tool_use", tool_name="look", input={"n": 1}), i.BlockClosed(key=0))
    play.say(i.BlockOpened(key=1, block_type="tool_use", tool_name="look", input={"n": 1}), i.Delta(1, '{"n":2}'))
    play.say(i.BlockClosed(key=1))
    assert inputs_of(play) == [{"n": 1}, {"n": 2}]


def test_an_input_that_came_with_the_start_is_as_bounded_in_depth_as_a_streamed_one() -> None:
    deep: Json = 1
    for _ in range(500):
        deep = [deep]
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="tool_use", tool_name="look", input={"n": deep}), i.BlockClosed(key=0))
    assert play.outcome(0) == "error: bad_json"


def test_arguments_over_the_limit_are_not_run_and_not_kept() -> None:
    play = Play(limits=TurnLimits(argument_bytes=20))
    play.say(opened(0), i.Delta(0, '{"n":"'), i.Delta(0, "x" * 30), i.Delta(0, '"}'), i.BlockClosed(key=0))
    assert play.outcome(0) == "error: arguments_too_large"
    assert play.said_why(0) == "the arguments have 38 bytes, limit is 20"
    assert play.call(0).text == '{"n":"'


def test_arguments_are_bounded_in_bytes_not_in_characters() -> None:
    play = Play(limits=TurnLimits(argument_bytes=20))
    play.say(call(0, raw='{"n":"漢漢漢漢"}'))  # 12 characters, 20 bytes
    play.say(call(1, raw='{"n":"漢漢漢漢漢"}'))  # 13 characters, 23 bytes
    assert play.started == [0]
    assert play.said_why(1) == "the arguments have 23 bytes, limit is 20"


def test_what_a_tool_does_to_its_arguments_changes_no_history() -> None:
    play = Play()
    play.say(call(0, raw='{"names":["a"]}'))
    inputs_of(play)[0]["names"].append("b")
    assert play.call(0).input == {"names": ["a"]}


def test_a_delta_after_the_seal_changes_nothing_and_is_not_said() -> None:
    play = Play()
    play.say(call(0))
    assert play.say(i.Delta(0, ',"n":2'), i.BlockClosed(key=0)) == []


# A call that changed after its seal


def test_a_held_call_whose_arguments_change_never_runs() -> None:
    play = Play()
    play.say(call(0, "post"), i.CallPoisoned(key=0, message="its name became 'put'"), ended())
    assert play.outcome(0) == "error: arguments_changed"
    assert (play.intents, play.started) == ([], [])
    assert play.notices == ["call_changed"]


def test_a_running_call_whose_arguments_change_ends_in_an_error_whatever_it_gave() -> None:
    play = Play()
    play.say(call(0), i.CallPoisoned(key=0, message="its name became 'put'"))
    play.finish(0, output="fine")
    assert play.outcome(0) == "error: arguments_changed"
    result = play.result(0)
    assert result is not None
    assert result.output == "fine"  # it ran, and that stays in the ledger


def test_a_call_whose_arguments_change_after_its_result_was_said_is_read_as_an_error() -> None:
    play = Play()
    play.say(call(0))
    play.finish(0)
    play.say(i.CallPoisoned(key=0, message="its name became 'put'"))
    assert play.outcome(0) == "ok"
    correction = play.machine.corrections[play.call(0).call_id]
    assert correction == "the arguments changed after the call had started: its name became 'put'"


def test_a_call_that_was_refused_is_not_said_to_have_started() -> None:
    play = Play()
    play.say(call(0, "nobody"), i.CallPoisoned(key=0, message="its name became 'put'"))
    assert play.machine.corrections == {}


def test_a_change_is_noted_once() -> None:
    play = Play()
    play.say(call(0), *[i.CallPoisoned(key=0, message=f"again {n}") for n in range(3)])
    assert play.notices == ["call_changed"]


def test_a_tool_that_nobody_declared_an_effect_for_is_a_write() -> None:
    play = Play(tools={"plain": ToolRule()})
    play.say(call(0, "plain"))
    assert (play.started, play.intents) == ([], [])
    play.say(ended())
    assert play.intents == [0]
