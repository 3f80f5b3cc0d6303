"""What is typed to a question, as the answer that is sent."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from legato.cli.questions import Edit, Question, questions
from legato.core import events as e
from legato.core.blocks import Json
from legato.core.fold import fold

YES: Json = {"decision": "approve"}
NO: Json = {"decision": "deny"}


def approval() -> Question:
    return Question(e.CallWaiting(seq=3, call_id="c1", index=0, kind="approval"), "drop", {"name": "a"})


def asks(properties: dict[str, Json] | None) -> Question:
    schema = UNSET if properties is None else {"type": "object", "properties": properties}
    need = e.CallWaiting(seq=3, call_id="c1", index=0, kind="input", message="Which\x1b[31m room?", input_schema=schema)
    return Question(need, "book", {})


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("y", YES),
        (" YES ", YES),
        ("", NO),
        ("n", NO),
        ("No", NO),
        ("n it is needed", {**NO, "reason": "it is needed"}),
        ('{"name": "b"}', {**YES, "input": {"name": "b"}}),
        ("e", Edit('{"name":"a"}')),
        ("edit", Edit('{"name":"a"}')),
        ("yes please", None),
        ("never mind", None),
        ("[1]", None),
        ("{", None),
    ],
)
def test_an_approval_takes_yes_no_with_a_reason_and_other_arguments(typed: str, said: Json) -> None:
    assert approval().reply(typed) == said


@pytest.mark.parametrize(
    ("properties", "typed", "said"),
    [
        (None, "y", YES),
        (None, "", NO),
        (None, '{"a": 1}', None),
        (None, "e", None),
        ({"room": {"type": "integer"}}, "9", {**YES, "input": {"room": 9}}),
        ({"room": {"type": "string"}}, "9", {**YES, "input": {"room": "9"}}),
        ({"room": {"type": "string"}}, "the blue one", {**YES, "input": {"room": "the blue one"}}),
        ({"room": {"type": "integer"}}, '{"room": 7}', {**YES, "input": {"room": 7}}),
        ({"room": {}}, "y", {**YES, "input": {"room": "y"}}),
        ({"room": {}}, "n too dear", {**NO, "reason": "too dear"}),
        ({"room": {}}, "", None),
        ({"a": {}, "b": {}}, "9", None),
        ({"a": {}, "b": {}}, '{"a": 1, "b": 2}', {**YES, "input": {"a": 1, "b": 2}}),
        ({}, "y", None),
    ],
)
def test_what_a_tool_asks_is_answered_by_its_one_value_or_as_json(
    properties: dict[str, Json] | None, typed: str, said: Json
) -> None:
    assert asks(properties).reply(typed) == said


def test_what_is_asked_has_nothing_a_terminal_acts_on() -> None:
    assert approval().asked == 'run drop(name="a")? y/N/e(dit)'
    assert asks(None).asked == "book asks: Which room? (y/N)"
    assert asks({"room": {}}).asked == "book asks: Which room? (room, or n)"
    assert asks({"a": {}, "b": {}}).asked == "book asks: Which room? (a JSON object, or n)"


def test_people_are_asked_what_waits_for_people_in_its_order() -> None:
    turn = fold(
        [
            e.TurnStart(seq=1, turn_id="t", chat_id="c", prev_turn_id=None, created_at="2026-11-01T12:00:00.000Z"),
            e.CallWaiting(seq=2, call_id="c1", index=0, kind="approval"),
            e.CallWaiting(seq=3, call_id="c2", index=1, kind="client_tool"),
            e.CallWaiting(seq=4, call_id="c3", index=2, kind="input", message="?"),
            e.CallWaiting(seq=5, call_id="c4", index=3, kind="approval"),
            e.CallAnswered(seq=6, call_id="c1", decision="approve"),
        ]
    )
    assert [one.need.call_id for one in questions(turn)] == ["c3", "c4"]
