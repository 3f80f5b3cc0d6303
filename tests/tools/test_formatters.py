"""What a model reads of a result: its own formatter's words, else the default ones, never more than the bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato import formatter
from legato.core.blocks import CallError, Json, Outcome
from legato.core.cut import shorten
from legato.core.errors import ConfigError
from legato.core.records import Reading
from legato.core.usage import estimated_tokens
from legato.observability import Counters
from legato.tools import formatters
from legato.tools.formatters import FormatterRegistry, formatters_of


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    own = Counters()
    monkeypatch.setattr(formatters, "count", own.count)
    monkeypatch.setattr(formatters, "warn_once", own.warn_once)
    return own


def registry(*functions: Callable[..., object]) -> FormatterRegistry:
    return FormatterRegistry(one for function in functions for one in formatters_of(function))


def counting(max_tokens: int) -> FormatterRegistry:
    return FormatterRegistry(max_tokens=max_tokens)


def read(
    formatters: FormatterRegistry,
    output: Json,
    *,
    tool_name: str = "look",
    outcome: Outcome = "ok",
    error: CallError | None = None,
    max_bytes: int = 1000,
    kept_bytes: int | None = None,
    reads_on: bool = False,
) -> Reading:
    return formatters.read(
        call_id="c1",
        tool_name=tool_name,
        outcome=outcome,
        output=output,
        error=error,
        max_bytes=max_bytes,
        kept_bytes=kept_bytes,
        reads_on=reads_on,
    )


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("as it is\n", "as it is\n"),
        ({"city": "Tromsø", "days": [1, 2.5, None, True]}, '{"city":"Tromsø","days":[1,2.5,null,true]}'),
        (None, "null"),
        ([], "[]"),
        (10**30, str(10**30)),
        ("", ""),
        ("a\0b\ud800c", "a\ufffdb\ufffdc"),
    ],
)
def test_without_a_formatter_text_is_read_as_it_is_and_the_rest_as_compact_json(output: Json, text: str) -> None:
    assert read(registry(), output) == Reading(call_id="c1", text=text, formatter="default", version=3)


def test_a_tool_without_a_formatter_says_so_once_and_is_counted_each_time(
    counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        read(registry(), {})
    assert counters.value("formatter_default", tool="look") == 3
    assert [record.getMessage() for record in caplog.records] == [
        "tool 'look' has no formatter of its own; the model reads its results as they are [formatter_missing:look]"
    ]


def test_a_call_of_a_tool_that_does_not_exist_makes_no_label(counters: Counters) -> None:
    read(registry(), None, tool_name="invented", outcome="error", error=CallError("unknown_tool", "no"))
    assert counters.causes() == []
    assert counters.value("formatter_default", tool="invented") == 0


def test_a_tools_own_formatter_is_used_and_named_with_its_version() -> None:
    @formatter("look", version=3)
    def words(output: Json) -> str:
        return f"{output['celsius']} degrees"

    assert read(registry(words), {"celsius": 4}) == Reading(call_id="c1", text="4 degrees", formatter="look", version=3)
    assert words({"celsius": 5}) == "5 degrees", "it stays callable"


def test_one_function_may_serve_two_tools() -> None:
    @formatter("look")
    @formatter("see", version=2)
    def words(output: Json) -> str:
        return "w"

    both = registry(words)
    assert sorted(both.names()) == ["look", "see"]
    assert read(both, 1, tool_name="see").version == 2


def raises(output: Json) -> str:
    return str(output["celsius"])


def exits(output: Json) -> str:
    raise SystemExit(1)


def cancels(output: Json) -> str:
    raise asyncio.CancelledError


def gives_bytes(output: Json) -> str:
    return b"x"  # type: ignore[return-value]


def gives_nothing(output: Json) -> str:
    return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("function", "cause", "what"),
    [
        (raises, "KeyError", "raised KeyError: 'celsius'"),
        (exits, "SystemExit", "raised SystemExit: 1"),
        (cancels, "CancelledError", "raised CancelledError: "),
        (gives_bytes, "not_text", "gave bytes, not a text"),
        (gives_nothing, "not_text", "gave NoneType, not a text"),
    ],
)
def test_a_formatter_that_fails_falls_back_is_counted_and_is_logged_once(
    function: Callable[[Json], str], cause: str, what: str, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    formatter("look")(function)
    found = FormatterRegistry(formatters_of(function)[-1:])
    for _ in range(2):
        reading = read(found, {"kelvin": 4})
        assert (reading.text, reading.formatter, reading.version) == ('{"kelvin":4}', "default", 3)
    assert counters.value("formatter_fallbacks", tool="look", cause=cause) == 2
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"formatter of 'look' {what}; the default one is used instead" in record.getMessage()
    assert "test_formatters.py:" in record.getMessage()


def test_a_formatter_that_changes_its_argument_does_not_change_the_result() -> None:
    @formatter("look")
    def greedy(output: Json) -> str:
        output["rows"].clear()
        return "all read"

    output = {"rows": [1, 2]}
    assert read(registry(greedy), output).text == "all read"
    assert output == {"rows": [1, 2]}


def test_what_a_formatter_makes_is_bounded_and_cleaned_too() -> None:
    @formatter("look")
    def long(output: Json) -> str:
        return "\ud800" + "é" * 1000

    text = read(registry(long), None, max_bytes=100).text
    assert len(text.encode()) <= 100
    assert text.startswith("\ufffdé")
    assert "bytes left out" in text


@pytest.mark.parametrize(
    ("outcome", "output", "error", "text"),
    [
        ("error", None, CallError("x", "KeyError: 'a'"), "KeyError: 'a'"),
        ("timeout", "half a ", CallError("timeout", "timed out after 5 s"), "timed out after 5 s\nhalf a "),
        ("error", {"a": 1}, CallError("x", "no"), 'no\n{"a":1}'),
        ("unknown", None, None, "the call ended as unknown"),
        ("denied", None, None, "the call ended as denied"),
    ],
)
def test_of_a_failed_call_the_error_is_read_and_the_formatter_is_not_asked(
    outcome: Outcome, output: Json, error: CallError | None, text: str
) -> None:
    def never(output: Json) -> str:
        raise AssertionError("a formatter sees good results only")

    formatter("look")(never)
    assert read(registry(never), output, outcome=outcome, error=error) == Reading(
        call_id="c1", text=text, formatter="default", version=3
    )


def test_an_error_is_bounded_too() -> None:
    text = read(registry(), "y" * 5000, outcome="error", error=CallError("x", "e" * 5000), max_bytes=200).text
    assert len(text.encode()) <= 200


@pytest.mark.parametrize(("output", "head"), [("é" * 900, "é" * 130), ({"a": "x" * 2000}, '{"a":"' + "x" * 200)])
def test_a_model_that_can_read_on_is_told_from_which_byte(output: Json, head: str) -> None:
    text = read(registry(), output, max_bytes=500, reads_on=True).text
    shown = text.partition("\n[…")[0]
    assert shown.startswith(head)
    how = f'read_result(call_id="c1", start={len(shown.encode())}) reads on'
    assert f"bytes left out, limit is 500 bytes; {how} …]\n" in text
    assert "read_result" not in read(registry(), output, max_bytes=500).text


@given(
    st.text(st.sampled_from("a 1龍🐉é\n"), max_size=400),
    st.integers(0, 500),
    st.integers(0, 120),
    st.sampled_from(["ok", "error"]),
    st.booleans(),
)
def test_whatever_a_result_is_made_of_neither_bound_is_passed(
    output: str, max_bytes: int, max_tokens: int, outcome: Outcome, beside: bool
) -> None:
    error = CallError("x", "it broke") if outcome == "error" else None
    kept, kept_bytes = (shorten(output, 300), len(output.encode())) if beside else (output, None)
    text = read(
        counting(max_tokens),
        kept,
        outcome=outcome,
        error=error,
        max_bytes=max_bytes,
        kept_bytes=kept_bytes,
        reads_on=True,
    ).text
    assert len(text.encode()) <= max_bytes
    assert estimated_tokens(text) <= max_tokens


def test_a_result_over_the_bound_in_tokens_is_cut_and_says_that_bound() -> None:
    """Of English a quarter as many as bytes, of Chinese as many as characters."""
    assert read(counting(100), "a" * 400).text == "a" * 400
    for output in ("a" * 900, "龍" * 300):
        text = read(counting(100), output, reads_on=True).text
        assert ' bytes left out, limit is 100 tokens; read_result(call_id="c1", start=' in text
        assert 80 <= estimated_tokens(text) <= 100
    assert ", limit is 1000 bytes …]" in read(counting(1000), "a" * 1001).text


def test_the_words_of_a_formatter_are_not_the_output_so_reading_begins_at_its_start() -> None:
    @formatter("look")
    def long(output: Json) -> str:
        return "in other words " * 100

    text = read(registry(long), ["x"], max_bytes=300, reads_on=True).text
    assert 'bytes left out, limit is 300 bytes; read_result(call_id="c1") reads all …]' in text


def test_of_an_output_that_lies_beside_the_turn_the_cut_is_cut_again_and_no_formatter_is_asked(
    counters: Counters,
) -> None:
    @formatter("look")
    def never(output: Json) -> str:
        raise AssertionError("it would see a piece of the output")

    whole = "a" * 3000 + "z" * 3000
    stored = shorten(whole, 4000)
    for limit in (600, 5000):
        text = read(registry(never), stored, kept_bytes=len(whole), max_bytes=limit, reads_on=True).text
        head, marker, tail = text.split("\n")
        assert len(text.encode()) <= limit
        left_out = len(whole) - len(head) - len(tail)
        how = f'read_result(call_id="c1", start={len(head)}) reads on'
        assert marker == f"[… {left_out} of 6000 bytes left out, limit is {limit} bytes; {how} …]"
    assert counters.causes() == []


def test_a_failed_call_whose_output_lies_beside_the_turn_says_why_it_failed_first() -> None:
    stored = shorten("a" * 6000, 4000)
    error = CallError("timeout", "timed out after 5 s")
    text = read(registry(), stored, outcome="timeout", error=error, kept_bytes=6000, max_bytes=600, reads_on=True).text
    assert text.startswith("timed out after 5 s\naaa")
    assert 'read_result(call_id="c1", start=' in text
    assert len(text.encode()) <= 600


def test_there_is_nothing_to_read_on_in_an_error_without_output() -> None:
    text = read(registry(), None, outcome="error", error=CallError("x", "e" * 500), max_bytes=200, reads_on=True).text
    assert "read_result" not in text


def test_two_formatters_of_one_tool_are_an_error_that_names_both_places() -> None:
    @formatter("look")
    def one(output: Json) -> str:
        return ""

    @formatter("look")
    def other(output: Json) -> str:
        return ""

    first, second = formatters_of(one)[0].place, formatters_of(other)[0].place
    with pytest.raises(ConfigError) as caught:
        registry(one, other)
    assert caught.value.message == f"{second}: tool 'look' has a formatter already, from {first}; keep one"
    assert registry(one, one).names() == ["look"]


def test_a_formatter_without_its_tool_is_said_since_it_would_never_fire(
    counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    @formatter("get_wether")
    def words(output: Json) -> str:
        return ""

    found = registry(words)
    assert [one.tool_name for one in found.warn_of_strangers(["get_weather"])] == ["get_wether"]
    assert "there is no tool 'get_wether', so its formatter never fires" in caplog.text
    assert found.warn_of_strangers(["get_wether"]) == []


def no_argument() -> str:
    return ""


def two_arguments(output: Json, more: Json) -> str:
    return ""


async def waits(output: Json) -> str:
    return ""


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: formatter("look")(no_argument), "formatter of 'look': it takes one argument, the output"),  # type: ignore[type-var]
        (lambda: formatter("look")(two_arguments), "formatter of 'look': it takes one argument, the output"),  # type: ignore[type-var]
        (lambda: formatter("look")(waits), "formatter of 'look': it is async; messages are built in one go"),  # type: ignore[type-var]
        (lambda: formatter("look", version=0)(raises), "version is 0; it is a whole number, at least 1"),
        (lambda: formatter("")(raises), '@formatter takes the name of its tool, as in @formatter("get_weather")'),
        (lambda: formatter(raises)(raises), "@formatter takes the name of its tool"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_formatter_is_an_error_with_file_and_line(declare: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declare()
    assert said in caught.value.message
    assert caught.value.message.partition(": ")[0].rpartition(":")[0].endswith("test_formatters.py")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(output=JSON, limit=st.integers(0, 200))
def test_any_output_can_be_read(output: Json, limit: int) -> None:
    text = read(registry(), output, max_bytes=limit).text
    assert len(text.encode()) <= limit
