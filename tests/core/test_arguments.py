"""Arguments are parsed strictly, once, in time linear in their bytes, and never repaired (docs/tools.md; hazard 32)."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import encode as json
from tests.core.play import Play, opened

from legato.core import arguments
from legato.core import inputs as i
from legato.core.arguments import MAX_DEPTH, NotAnObject, parse
from legato.core.blocks import Json

_TEXT = st.text(st.characters(codec="utf-8"))
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | _FLOATS | _TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(_TEXT, values, max_size=3),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(_TEXT, _VALUES, max_size=3)


@given(_OBJECTS)
def test_an_object_is_what_its_json_says(value: dict[str, Json]) -> None:
    assert parse(json(value).decode()) == value


@given(_OBJECTS, st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip(" \t\r\n")))
def test_anything_but_white_space_after_the_object_is_refused(value: dict[str, Json], garbage: str) -> None:
    with pytest.raises(NotAnObject):
        parse(json(value).decode() + garbage)


@given(_OBJECTS, st.data())
def test_an_object_that_was_cut_anywhere_is_refused(value: dict[str, Json], data: st.DataObject) -> None:
    raw = json(value).decode()
    with pytest.raises(NotAnObject):
        parse(raw[: data.draw(st.integers(1, len(raw) - 1))])


@pytest.mark.parametrize(
    "raw",
    [
        "null", "true", "1", "1.5", '"{}"', "[]", "[{}]",
        "{'a':1}", "{a:1}", '{"a":1,}', '{"a":}', '{"a" 1}', '{"a":01}', '{"a":.5}', '{"a":+1}', '{"a":0x1}',
        '{"a":NaN}', '{"a":Infinity}', '{"a":1e999}', '{"a":undefined}', '{"a":1} // so', '{"a":1}{"b":2}', '{"a":1},',
        '{"a":"\n"}', '{"a":"\t"}', '{"a":"\\x41"}', '{"a":"\\ud83d"}', '{"a":"\\ude00"}', '{"a":"\\u12"}',
        "\ufeff{}", " ", "\n", "\u00a0{}", "```json\n{}\n```", '{"a":' + "9" * 5_000 + "}",
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused_and_not_repaired(raw: str) -> None:
    with pytest.raises(NotAnObject) as refused:
        parse(raw)
    assert "not valid JSON: " in str(refused.value) or "must be a JSON object, not " in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("", {}),
        ("{}", {}),
        (' \t\r\n{"a" : 1 }\n\n', {"a": 1}),
        ('{"a":"\\u0000\\ud83d\\ude00\\/"}', {"a": "\0😀/"}),
        ('{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"":{"":[]}}', {"": {"": []}}),
    ],
)
def test_what_is_a_json_object_is_taken(raw: str, value: dict[str, Json]) -> None:
    assert parse(raw) == value


def nested(levels: int) -> str:
    """An object of so many levels, arrays in between."""
    opens = "".join('{"a":' if level % 2 == 0 else "[" for level in range(levels))
    closes = "".join("}" if level % 2 == 0 else "]" for level in reversed(range(levels)))
    return opens + "1" + closes


def test_depth_is_bounded_far_from_where_an_encoder_gives_up() -> None:
    assert json(parse(nested(MAX_DEPTH))).decode() == nested(MAX_DEPTH)
    for levels in (MAX_DEPTH + 1, 900, 100_000):
        with pytest.raises(NotAnObject):
            parse(nested(levels))
    assert parse('{"a":"' + "[{" * 500 + '"}') == {"a": "[{" * 500}  # brackets in text are no levels
    assert len(parse('{"a":[' + ",".join(["[]"] * 500) + "]}")["a"]) == 500  # and neighbours are not nested


@given(_OBJECTS)
def test_the_hash_does_not_depend_on_the_order_of_keys(value: dict[str, Json]) -> None:
    turned = dict(reversed(list(value.items())))
    assert arguments.canonical_sha256(value) == arguments.canonical_sha256(turned)


def test_a_call_that_the_next_owner_hears_at_the_same_place_is_another_call() -> None:
    place = {"round": 1, "attempt": 1, "index": 0}
    ids = {arguments.call_id(turn_id="t", epoch=epoch, **place) for epoch in range(3)}
    assert len(ids) == 3


def test_a_call_id_fits_every_wire() -> None:
    ids = {
        arguments.call_id(turn_id=turn_id, round=asked, attempt=attempt, index=index)
        for turn_id in ("t" * 64, "u")
        for asked in (1, 2)
        for attempt in (1, 2)
        for index in (0, 1)
    }
    assert len(ids) == 16
    assert all(len(each) <= 40 and each.replace("_", "").isalnum() for each in ids)


def operations(work: Callable[[], object]) -> int:
    """How many functions, ours and the interpreter's, were called."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def streamed(deltas: int) -> Callable[[], object]:
    """One call whose arguments come in so many pieces."""
    play = Play()
    play.say(opened(0))

    def stream() -> None:
        play.machine.receive(i.Delta(0, '{"n":"'))
        for _ in range(deltas):
            play.machine.receive(i.Delta(0, "xxxxxxxx"))
            assert len(play.turn.open[0].pieces) > 1 or deltas == 0  # not joined, so not parsed, before the seal
        play.machine.receive(i.Delta(0, '"}'))
        play.machine.receive(i.BlockClosed(key=0))

    return stream


def test_a_delta_of_arguments_costs_the_same_however_many_came_before() -> None:
    few, many, more = (operations(streamed(deltas)) for deltas in (100, 1_100, 2_100))
    assert many - few == more - many
