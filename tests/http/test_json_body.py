"""A body's bytes as a posted type, or where it is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.blocks import Json
from legato.core.errors import InvalidJson, InvalidRequest
from legato.core.posts import PostCancel, PostChat, PostTurn
from legato.http.json_body import check_depth, convert, decode, fingerprint


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [
        (b"", 1, 1),
        (b"{", 1, 2),
        (b"nul", 1, 4),
        (b'{"a": 1,}', 1, 9),
        (b'{"a":\n  "b" "c"}', 2, 7),
        ('{"é": x}'.encode(), 1, 7),
        (b'{"a":\n "\xff"}', 2, 3),
        ('{"ü":"'.encode() + b"\xc3", 1, 7),
        (b"\xef\xbb\xbf{}", 1, 1),
        (b'{"a": NaN}', 1, 7),
        (b"{} {}", 1, 5),
        (b'{"a":"x\ny"}', 1, 8),
        (b'{"a":"\\ud800"}', 1, 15),
        ('{"a": 1}'.encode("utf-16"), 1, 1),
    ],
)
def test_what_is_not_json_is_named_with_its_line_and_column(body: bytes, line: int, column: int) -> None:
    with pytest.raises(InvalidJson) as caught:
        decode(body, depth=64)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert caught.value.message.startswith(f"line {line}, column {column}: ")


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + closing * depth


def test_json_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    assert decode(nested(64), depth=64) is not None
    with pytest.raises(InvalidRequest) as caught:
        decode(nested(65), depth=64)
    assert (caught.value.code, caught.value.limit) == ("json_too_deep", 64)
    with pytest.raises(InvalidRequest):
        decode(b'{"a":' * 65 + b"1" + b"}" * 65, depth=64)


@pytest.mark.parametrize("body", [b"[" * 5_000_000, b'{"a":' * 1_000_000, b'[{"":' * 1_000_000])
def test_endless_nesting_is_refused_and_harms_nobody(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="deeper than 64"):
        decode(body, depth=64)


@pytest.mark.parametrize(
    "body",
    [
        b'["' + b"[" * 1000 + b'"]',
        b'["\\"' + b"[{" * 1000 + b'"]',
        b'["\\\\", "[[[[[[[[[[[[[[", "\\\\\\"[[[[[[[[[[["]',
        b"[" + b",".join([b"[]"] * 1000) + b"]",
    ],
)
def test_brackets_in_strings_and_side_by_side_are_not_depth(body: bytes) -> None:
    assert decode(body, depth=4) is not None


@pytest.mark.parametrize("body", [b'"' + b'\\"' * 3_000_000, b'"' + b"a" * 6_000_000, b'"\\', b'"' * 5_000_001])
def test_a_string_without_end_is_read_once_and_is_not_json(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        decode(body, depth=64)


def depth_of(value: Json) -> int:
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case _:
            return 0


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
)


@given(values)
def test_a_value_is_as_deep_as_its_deepest_branch(value: Json) -> None:
    depth = depth_of(value)
    check_depth(value, limit=depth)
    if depth > 0:
        with pytest.raises(InvalidRequest):
            check_depth(value, limit=depth - 1)


@given(values)
def test_the_same_value_written_otherwise_has_the_same_fingerprint(value: Json) -> None:
    def turned(value: Json) -> Json:
        match value:
            case dict():
                return {key: turned(one) for key, one in reversed(value.items())}
            case list():
                return [turned(one) for one in value]
            case _:
                return value

    other = json.dumps(turned(value), indent=3, ensure_ascii=False).encode(errors="surrogatepass")
    assert fingerprint(decode(other, depth=1000)) == fingerprint(decode(json.dumps(value).encode(), depth=1000))


def test_a_fingerprint_does_not_see_how_a_value_is_written() -> None:
    one = decode(b'{"limits": {"seconds": 600, "rounds": 1}, "input": "\\u00e9/"}', depth=9)
    two = decode('{"input":"é\\/","limits":{"rounds":1.0,"seconds":6e2}}'.encode(), depth=9)
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(decode(b'{"a":[1,2]}', depth=9)) != fingerprint(decode(b'{"a":[2,1]}', depth=9))
    assert fingerprint(decode(b'{"a":1}', depth=9)) != fingerprint(decode(b'{"a":true}', depth=9))


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        (b'{"modle": 1}', "/modle", "unknown field `modle`, did you mean `model`?"),
        (b'{"zzzzzz": 1}', "/zzzzzz", "unknown field `zzzzzz`"),
        (b'{"a/b~c": 1}', "/a~1b~0c", "unknown field `a/b~c`"),
        (b'{"a`b": 1}', "/a`b", "unknown field `a`b`"),
        (b'{"a` - at `$.zz": 1}', "/a` - at `$.zz", "unknown field `a` - at `$.zz`"),
        (b'{"params": {}, "a` - at `$.params[3]": 1}', "/a` - at `$.params[3]", "unknown field `a` - at `$.params[3]`"),
        (b'{"params": {"a` - at `$.zz": 1}}', "/params/a` - at `$.zz", "unknown field `a` - at `$.zz`"),
        (
            b'{"params": {"temprature": 1}}',
            "/params/temprature",
            "unknown field `temprature`, did you mean `temperature`?",
        ),
        (
            b'{"params": {"thinking": {"efort": "low"}}}',
            "/params/thinking/efort",
            "unknown field `efort`, did you mean `effort`?",
        ),
        (
            b'{"blocks": [{"type": "text", "text": "a"}, {"type": "file", "mediatype": "a/b"}]}',
            "/blocks/1/mediatype",
            "unknown field `mediatype`, did you mean `media_type`?",
        ),
        (
            b'{"blocks": [{"type": "text", "txt": "a"}]}',
            "/blocks/0/txt",
            "unknown field `txt`, did you mean `text`?",
        ),
        (b'{"blocks": [{"type": "text"}]}', "/blocks/0/text", "it is required"),
        (b'{"blocks": [{}]}', "/blocks/0/type", "it is required"),
        (b'{"blocks": [{"type": "thinking", "text": ""}]}', "/blocks/0/type", "invalid value 'thinking'"),
        (b'{"blocks": [{"type": "text", "text": 1}]}', "/blocks/0/text", "expected `str`, got `int`"),
        (b'{"blocks": {}}', "/blocks", "expected `array`, got `object`"),
        (b'{"limits": {"rounds": "many"}}', "/limits/rounds", "expected `int`, got `str`"),
        (b'{"params": {"tool_choice": "some"}}', "/params/tool_choice", "invalid enum value 'some'"),
        (b'{"on_busy": "later"}', "/on_busy", "invalid enum value 'later'"),
        (b"[]", "", "expected `object`, got `array`"),
        (b"null", "", "expected `object`, got `null`"),
    ],
)
def test_a_wrong_field_is_named_by_pointer_and_with_what_was_expected(body: bytes, path: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        convert(decode(body, depth=64), PostTurn)
    assert [(one.path, one.message) for one in caught.value.problems] == [(path, message)]


def test_a_bound_of_a_type_is_said_with_its_number() -> None:
    with pytest.raises(InvalidRequest, match="length <= 64"):
        convert({"turn_id": "x" * 65}, PostTurn)
    with pytest.raises(InvalidRequest, match="length <= 1000"):
        convert({"title": "x" * 1001}, PostChat)
    with pytest.raises(InvalidRequest, match="length <= 256"):
        convert({"model": "x" * 257}, PostChat)


@pytest.mark.parametrize("id", ["", "a b", "ä", "a\n", "a/b", "x" * 65])
def test_an_id_is_of_the_letters_an_id_is_of(id: str) -> None:
    with pytest.raises(InvalidRequest):
        convert({"turn_id": id}, PostTurn)


@pytest.mark.parametrize("media_type", ["text", "text/", "text/html\n", "text/html; charset=utf-8", "a/b\r\nX: y"])
def test_a_media_type_can_stand_in_a_header(media_type: str) -> None:
    with pytest.raises(InvalidRequest):
        convert({"blocks": [{"type": "image", "media_type": media_type, "data": ""}]}, PostTurn)


def test_the_last_of_two_fields_of_one_name_counts() -> None:
    assert convert(decode(b'{"input": "a", "input": "b"}', depth=4), PostTurn).input == "b"


def test_numbers_out_of_range_are_a_wrong_field_and_no_crash() -> None:
    with pytest.raises(InvalidRequest, match="out of range"):
        decode(b'{"metadata": {"n": 1e999}}', depth=4)
    with pytest.raises(InvalidRequest, match="out of range"):
        decode(b'{"metadata": {"n": ' + b"9" * 5000 + b"}}", depth=4)
    long = decode(b'{"metadata": {"n": ' + b"9" * 4000 + b"}}", depth=4)
    assert len(fingerprint(long)) == 64


def test_a_cancel_says_its_mode_or_means_now() -> None:
    assert convert({}, PostCancel).mode == "now"
    with pytest.raises(InvalidRequest):
        convert({"mode": "soon"}, PostCancel)
