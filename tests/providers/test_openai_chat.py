"""Chat completions, read: vectors written from the vendors' documents and from how they were seen to bend the wire."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.heard import Heard, said_before

from legato.core.ask import Ask, Message, Params, SentText
from legato.core.blocks import Citation, Json
from legato.core.inputs import BlockClosed, BlockOpened, Delta, ProviderInput
from legato.providers.openai_chat import Decoder, usage
from legato.providers.openai_chat_request import request
from legato.providers.openai_chat_vendors import Seal

DONE = b"data: [DONE]\n\n"


def frame(value: Json) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: Json = None, finish: str | None = None, **fields: Json) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return frame({"id": "c", "object": "chat.completion.chunk", "choices": [choice], "usage": None, **fields})


def text(words: str) -> bytes:
    return chunk({"content": words})


def piece(arguments: str | None = None, name: str | None = None, id: str | None = None, index: int | None = 0) -> bytes:
    """A piece of a call; what is None is not there. Index -1 is null."""
    function = {key: item for key, item in (("name", name), ("arguments", arguments)) if item is not None}
    call: dict[str, Json] = {"function": function}
    if index is not None:
        call["index"] = None if index == -1 else index
    if id is not None:
        call |= {"id": id, "type": "function"}
    return chunk({"tool_calls": [call]})


def hear(*pieces: bytes, seal: Seal = "finish", host: str = "openrouter.ai") -> Heard:
    decoder = Decoder(seal=seal, host=host)
    return Heard([said for one in pieces for said in decoder.feed(one)] + decoder.end())


def calls_of(heard: Heard) -> list[tuple[str, str, bool]]:
    return [(str(one.opened.tool_name), one.text, one.closed is not None) for one in heard.of("tool_use")]


def sent_back(heard: Heard, *, host: str = "openrouter.ai") -> dict[str, Json]:
    """The assistant's message of the next request, on the wire."""
    messages = (Message("user", (SentText(text="go"),)), *said_before(heard))
    ask = Ask(model="m", system=None, tools=(), messages=messages, params=Params(), round=2)
    body = msgspec.json.decode(request(ask, host=host, api_key=None).body)
    message: dict[str, Json] = next(m for m in body["messages"] if m["role"] == "assistant")
    return message


# ---- text, thinking, the end


def test_text_comes_out_and_the_usage_of_the_last_chunk_counts() -> None:
    figures = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    heard = hear(
        chunk({"role": "assistant", "content": None}),
        text("Hel"),
        text("lo"),
        chunk({}, "stop"),
        frame({"choices": [], "usage": figures}),
        DONE,
    )
    assert heard.text_of("text") == "Hello"
    assert (heard.ended.stop_reason, heard.ended.provider_reason) == ("end", "stop")
    assert heard.usage is not None
    assert (heard.usage.input_tokens, heard.usage.output_tokens) == (9, 3)


@pytest.mark.parametrize("opening", [{"role": "assistant", "content": ""}, {"role": "assistant"}, {}, None])
def test_the_first_delta_may_be_empty_or_null(opening: Json) -> None:
    heard = hear(chunk(opening), chunk({}, "stop"), DONE)
    assert heard.blocks == []
    assert heard.ended.stop_reason == "end"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_in_a_field_of_its_own_is_a_block_before_the_text(field: str) -> None:
    heard = hear(chunk({field: "let", "content": ""}), chunk({field: " me"}), text("so"), chunk({}, "stop"), DONE)
    assert [(block.kind, block.text) for block in heard.blocks] == [("thinking", "let me"), ("text", "so")]


def test_thinking_said_in_two_fields_at_once_is_said_once() -> None:
    heard = hear(chunk({"reasoning": "a", "reasoning_content": "a"}), chunk({}, "stop"), DONE)
    assert heard.text_of("thinking") == "a"


def test_thinking_in_the_text_is_thinking_except_at_a_vendor_that_never_does_so() -> None:
    pieces = [text("<thi"), text("nk>a</think>"), text("b"), chunk({}, "stop"), DONE]
    assert [(block.kind, block.text) for block in hear(*pieces, host="").blocks] == [("thinking", "a"), ("text", "b")]
    plain = hear(*pieces, host="api.openai.com")
    assert [(block.kind, block.text) for block in plain.blocks] == [("text", "<think>a</think>b")]


def test_a_tag_in_the_text_is_text_where_thinking_has_its_own_field() -> None:
    heard = hear(chunk({"reasoning": "a"}), text("<think>b"), chunk({}, "stop"), DONE, host="")
    assert heard.text_of("text") == "<think>b"


def test_content_may_come_as_parts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}, {"type": "text", "text": "b"}]
    heard = hear(chunk({"content": parts}), chunk({}, "stop"), DONE)
    assert [(block.kind, block.text) for block in heard.blocks] == [("thinking", "a"), ("text", "b")]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stop", "end"),
        ("eos", "end"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "refusal"),
        ("sensitive", "refusal"),
        ("tool_calls", "calls"),
        ("function_call", "calls"),
        ("unheard_of", "other"),
    ],
)
def test_each_finish_reason_has_its_meaning(theirs: str, ours: str) -> None:
    ended = hear(text("x"), chunk({}, theirs), DONE).ended
    assert (ended.stop_reason, ended.provider_reason) == (ours, theirs)


def test_a_stop_after_a_call_is_calls() -> None:
    assert hear(piece("{}", "get", "a"), chunk({}, "stop"), DONE).ended.stop_reason == "calls"


def test_a_refusal_is_text_and_its_stop_is_a_refusal() -> None:
    heard = hear(chunk({"refusal": "I will"}), chunk({"refusal": " not"}), chunk({}, "stop"), DONE)
    assert heard.text_of("text") == "I will not"
    assert heard.ended.stop_reason == "refusal"


def test_done_may_be_left_out_after_a_finish_reason_and_only_then() -> None:
    assert hear(text("x"), chunk({}, "stop")).ended.stop_reason == "end"
    assert hear(text("x")).failed.error.code == "provider_cut"
    assert hear(text("x"), DONE).failed.error.code == "provider_cut"
    assert hear(text("x"), chunk({}, "stop"), b"data: [DONE]").ended.stop_reason == "end"


def test_text_after_a_finish_reason_is_not_lost() -> None:
    heard = hear(text("a"), chunk({"content": "b"}, "length"), chunk({"content": "c"}, "length"), DONE)
    assert heard.text_of("text") == "abc"
    assert heard.ended.stop_reason == "length"


@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource"])
def test_some_finish_reasons_are_failures(reason: str) -> None:
    assert hear(text("x"), chunk({}, reason), DONE).failed.error.retryable


@pytest.mark.parametrize(
    "error",
    [
        frame({"error": {"message": "over", "code": 503}}),
        b'event: error\ndata: {"error": {"message": "over"}}\n\n',
        b'event: error\ndata: {"message": "over"}\n\n',
        chunk({"content": ""}, "error", error={"message": "over", "code": "x"}),
        frame({"object": "error", "message": "over", "code": 500}),
    ],
)
def test_an_error_inside_the_stream_ends_it_and_keeps_what_came(error: bytes) -> None:
    heard = hear(text("so"), error, text("more"), DONE)
    assert heard.text_of("text") == "so"
    assert "over" in heard.failed.error.message


def test_other_choices_than_the_first_are_not_ours() -> None:
    other = {"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}
    heard = hear(text("a"), frame({"choices": [other]}), chunk({}, "stop"), DONE)
    assert heard.text_of("text") == "a"


@pytest.mark.parametrize("garbage", [b"data: {nonsense}\n\n", b"data: <html>\n\n"])
def test_a_frame_that_is_no_json_garbles_the_response(garbage: bytes) -> None:
    assert hear(text("x"), garbage, DONE).failed.error.code == "provider_garbled"


def test_a_character_split_over_two_deltas_is_whole() -> None:
    half = b'data: {"choices": [{"index": 0, "delta": {"content": "a\\ud83d"}}]}\n\n'
    other = b'data: {"choices": [{"index": 0, "delta": {"content": "\\ude00b"}}]}\n\n'
    assert hear(half, other, half, chunk({}, "stop"), DONE).text_of("text") == "a😀ba\ufffd"


REASONED = {"reasoning_tokens": 3}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"total_tokens": 12, "completion_tokens_details": REASONED}, (5, None, 7, 3)),
        ({"total_tokens": 9, "completion_tokens_details": REASONED}, (5, None, 4, 3)),
        ({"prompt_tokens_details": {"cached_tokens": 3}}, (5, 3, 4, None)),
        ({"prompt_cache_hit_tokens": 2}, (5, 2, 4, None)),
        ({"cached_tokens": 1}, (5, 1, 4, None)),
        ({"prompt_tokens": None, "completion_tokens": "many"}, (None, None, None, None)),
    ],
)
def test_the_vendors_figures_in_ours(more: dict[str, Json], expected: tuple[int | None, ...]) -> None:
    made = usage({"prompt_tokens": 5, "completion_tokens": 4, **more})
    assert (made.input_tokens, made.cache_read_tokens, made.output_tokens, made.reasoning_tokens) == expected


def test_usage_may_come_in_a_vendors_own_place_and_with_its_cost() -> None:
    heard = hear(text("x"), chunk({}, "stop", x_groq={"usage": {"prompt_tokens": 3, "completion_tokens": 1}}), DONE)
    assert heard.usage is not None
    assert heard.usage.input_tokens == 3
    heard = hear(text("x"), chunk({}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 1, "cost": 0.5}), DONE)
    assert heard.usage is not None
    assert heard.usage.cost_usd == 0.5


# ---- calls


STREAMS = {
    "counted": [piece("", "get", "a"), piece('{"a"'), piece(": 1}"), piece("", "put", "b", 1), piece("{}", index=1)],
    "no index": [
        piece("", "get", "a", None), piece('{"a"', index=None), piece(": 1}", index=None),
        piece("", "put", "b", None), piece("{}", index=None),
    ],
    "null index": [
        piece("", "get", "a", -1), piece('{"a"', index=-1), piece(": 1}", index=-1),
        piece("", "put", "b", -1), piece("{}", index=-1),
    ],
    "always index 0": [piece("", "get", "a"), piece('{"a"'), piece(": 1}"), piece("", "put", "b"), piece("{}")],
    "always index 0, one id": [piece("", "get", "a"), piece('{"a": 1}'), piece("", "put", "a"), piece("{}")],
    "one id, counted": [piece("", "get", "a"), piece('{"a": 1}'), piece("", "put", "a", 1), piece("{}", index=1)],
    "one id, no index": [
        piece("", "get", "a", None), piece('{"a": 1}', index=None), piece("", "put", "a", None),
        piece("{}", index=None),
    ],
    "empty ids, no index": [
        piece("", "get", "", None), piece('{"a": 1}', index=None), piece("", "put", "", None), piece("{}", index=None),
    ],
    "whole": [piece('{"a": 1}', "get", "a"), piece("{}", "put", "b", 1)],
    "whole, no ids, no index": [piece('{"a": 1}', "get", index=None), piece("{}", "put", index=None)],
    "whole, no ids, always index 0": [piece('{"a": 1}', "get"), piece("{}", "put")],
    "ids and names each time": [
        piece('{"a"', "get", "a"), piece(": 1}", "get", "a"), piece("{", "put", "b", 1), piece("}", "put", "b", 1),
    ],
    "names in pieces": [
        piece("", "g", "a"), piece(name="et"), piece('{"a": 1}'), piece("", "pu", "b", 1), piece(name="t", index=1),
        piece("{}", index=1),
    ],
    "names and ids at last": [
        piece("", "", ""), piece('{"a"'), piece(": 1}", "get", "a"), piece("", "", "", 1), piece("{}", "put", "b", 1),
    ],
    "cumulative": [
        piece("", "get", "a"), piece('{"a'), piece('{"a"'), piece('{"a": 1}'), piece("", "put", "b", 1),
        piece("{", index=1), piece("{}", index=1),
    ],
    "the whole once more": [
        piece('{"a": 1}', "get", "a"), piece('{"a": 1}', "get", "a"), piece("{}", "put", "b", 1), piece(" \n", index=1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("seal", ["object", "next", "finish"])
@pytest.mark.parametrize("pieces", STREAMS.values(), ids=STREAMS)
def test_two_calls_are_two_however_their_vendor_sends_them(pieces: list[bytes], seal: Seal) -> None:
    heard = hear(*pieces, chunk({}, "tool_calls"), DONE, seal=seal)
    assert calls_of(heard) == [("get", '{"a": 1}', True), ("put", "{}", True)]
    assert not any(block.poisoned for block in heard.blocks)
    assert heard.ended.stop_reason == "calls"


def test_four_calls_with_one_id_are_four() -> None:
    pieces = [piece(f'{{"n": {n}}}', "get", "same", n) for n in range(4)]
    heard = hear(*pieces, chunk({}, "tool_calls"), DONE, seal="object")
    assert [block.text for block in heard.blocks] == [f'{{"n": {n}}}' for n in range(4)]


def sealed_at(pieces: list[bytes], seal: Seal) -> list[int]:
    """The number of the piece at which each call was sealed."""
    decoder = Decoder(seal=seal)
    return [n for n, one in enumerate(pieces) for said in decoder.feed(one) if isinstance(said, BlockClosed)]


@pytest.mark.parametrize(
    ("seal", "places"), [("object", [2, 4]), ("next", [3, 5]), ("finish", [5, 5])], ids=["object", "next", "finish"]
)
def test_a_call_is_sealed_when_the_providers_seal_says(seal: Seal, places: list[int]) -> None:
    assert sealed_at([*STREAMS["counted"], chunk({}, "tool_calls"), DONE], seal) == places


def test_no_arguments_at_all_are_sealed_at_the_end() -> None:
    heard = hear(piece(None, "get", "a"), chunk({}, "tool_calls"), DONE, seal="object")
    assert calls_of(heard) == [("get", "", True)]


def test_arguments_that_are_an_object_already_are_whole() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "get", "arguments": {"a": 1}}}
    heard = hear(chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), DONE)
    assert msgspec.json.decode(heard.blocks[0].text) == {"a": 1}


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (piece("x"), "arguments"),
        (piece('{"a": 2}'), "arguments"),
        (piece(name="put"), "name"),
        (piece("}"), "arguments"),
    ],
)
def test_what_changes_a_sealed_call_poisons_it(after: bytes, word: str) -> None:
    heard = hear(piece('{"a": 1}', "get", "a"), after, chunk({}, "tool_calls"), DONE, seal="object")
    assert len(heard.blocks) == 1
    assert heard.blocks[0].text == '{"a": 1}'
    assert word in (heard.blocks[0].poisoned or "")


def test_white_space_after_a_sealed_call_changes_nothing() -> None:
    heard = hear(piece('{"a": 1}', "get", "a"), piece(" \n"), chunk({}, "tool_calls"), DONE, seal="object")
    assert heard.blocks[0].poisoned is None


def test_what_follows_the_object_is_bad_json_where_the_call_is_sealed_at_the_end() -> None:
    heard = hear(piece('{"a": 1}', "get", "a"), piece("x"), chunk({}, "tool_calls"), DONE)
    assert calls_of(heard) == [("get", '{"a": 1}x', True)]


@pytest.mark.parametrize(("finish", "last"), [("length", False), ("unheard_of", False), ("tool_calls", True)])
def test_a_cut_drops_the_call_that_is_open_and_keeps_those_that_are_whole(finish: str, last: bool) -> None:
    pieces = [piece('{"a": 1}', "get", "a"), piece('{"a": ', "get", "b", 1)]
    heard = hear(*pieces, chunk({}, finish), DONE)
    assert [block.closed is not None for block in heard.blocks] == [True, last]


def test_a_refusal_seals_no_call() -> None:
    heard = hear(piece('{"a": 1}', "get", "a"), chunk({}, "content_filter"), DONE)
    assert heard.blocks[0].closed is None


def test_text_makes_room_for_calls_and_comes_back_behind_them() -> None:
    heard = hear(text("a"), piece("{}", "get", "x"), text("b"), chunk({}, "tool_calls"), DONE)
    assert [block.kind for block in heard.blocks] == ["text", "tool_use", "text"]


def test_the_form_of_2023_is_a_call_too() -> None:
    heard = hear(
        chunk({"function_call": {"name": "get", "arguments": ""}}),
        chunk({"function_call": {"arguments": "{}"}}),
        chunk({}, "function_call"),
        DONE,
    )
    assert calls_of(heard) == [("get", "{}", True)]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_arguments_come_out_once_and_in_order_in_any_pieces(data: st.DataObject) -> None:
    arguments = json.dumps(
        data.draw(st.dictionaries(st.text('{}"\\a', max_size=4), st.text('{}"\\a', max_size=6), max_size=3))
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(arguments) - 1), max_size=6)))
    pieces = [arguments[one:other] for one, other in pairwise([0, *cuts, len(arguments)])]
    heard = hear(piece("", "get", "a"), *map(piece, pieces), chunk({}, "tool_calls"), DONE, seal="object")
    assert calls_of(heard) == [("get", arguments, True)]


def test_the_work_of_a_call_is_linear_in_its_bytes() -> None:
    """Hazard 32: nothing that came is joined or parsed again by each delta, pieces that begin with a brace included."""
    decoder = Decoder(seal="object")
    decoder.feed(piece('{"a": [', "get", "a"))
    said: list[ProviderInput] = []
    for _ in range(20_000):
        said += decoder.feed(piece("{},"))
    assert len(said) == 20_000
    assert all(isinstance(one, Delta) for one in said)


def test_arguments_past_what_is_compared_are_still_said_and_sealed() -> None:
    body = json.dumps({"a": "x" * 2_000_000})
    pieces = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
    heard = hear(piece("", "get", "a"), *map(piece, pieces), piece(body), chunk({}, "tool_calls"), DONE, seal="object")
    assert calls_of(heard) == [("get", body, True)]
    assert heard.blocks[0].poisoned is not None


# ---- what is kept and goes back


def test_signed_details_go_back_to_the_host_they_came_from_and_to_no_other() -> None:
    pieces: list[Json] = [
        {"type": "reasoning.text", "text": "let", "index": 0, "format": "x"},
        {"type": "reasoning.text", "text": " me", "index": 0},
        {"type": "reasoning.text", "signature": "S", "index": 0, "text": ""},
        {"type": "reasoning.encrypted", "data": "E=", "id": "r", "index": 1},
    ]
    heard = hear(
        *(chunk({"reasoning": one.get("text"), "reasoning_details": [one]}) for one in pieces),
        text("so"),
        chunk({}, "stop"),
        DONE,
    )
    assert heard.text_of("thinking") == "let me"
    details = [
        {"type": "reasoning.text", "text": "let me", "index": 0, "format": "x", "signature": "S"},
        {"type": "reasoning.encrypted", "data": "E=", "id": "r", "index": 1},
    ]
    assert sent_back(heard) == {"role": "assistant", "content": "so", "reasoning_details": details}
    assert sent_back(heard, host="api.groq.com") == {"role": "assistant", "content": "so"}


def test_details_behind_the_text_stay_with_the_text() -> None:
    heard = hear(
        text("so"),
        chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "E="}]}),
        chunk({}, "stop"),
        DONE,
    )
    assert [block.kind for block in heard.blocks] == ["text"]
    assert sent_back(heard)["reasoning_details"] == [{"type": "reasoning.encrypted", "data": "E="}]


def test_thinking_goes_back_to_a_vendor_that_wants_it_and_is_left_out_elsewhere() -> None:
    pieces = [chunk({"reasoning_content": "hm"}), piece("{}", "get", "a"), chunk({}, "tool_calls"), DONE]
    wants = hear(*pieces, host="api.deepseek.com")
    assert sent_back(wants, host="api.deepseek.com")["reasoning_content"] == "hm"
    assert hear(*pieces, host="").blocks[0].closed == BlockClosed(key=1)


def test_citations_are_ours_and_the_vendors_go_back() -> None:
    note = {
        "type": "url_citation",
        "url_citation": {"url": "https://e.org", "title": "E", "start_index": 0, "end_index": 2},
    }
    nowhere = {
        "type": "url_citation",
        "url_citation": {"url": "https://f.org", "title": "", "start_index": 0, "end_index": 0},
    }
    heard = hear(
        chunk({"content": "", "annotations": [note]}),
        text("so"),
        chunk({"annotations": [nowhere]}),
        chunk({}, "stop"),
        DONE,
    )
    assert heard.blocks[0].closed is not None
    assert heard.blocks[0].closed.citations == (
        Citation(url="https://e.org", title="E", start=0, end=2),
        Citation(url="https://f.org", title=None),
    )
    assert sent_back(heard)["annotations"] == [note, nowhere]


def test_the_list_of_sources_of_a_search_is_cited() -> None:
    heard = hear(chunk({"content": "so"}, citations=["https://e.org"]), chunk({}, "stop"), DONE)
    assert heard.blocks[0].closed is not None
    assert heard.blocks[0].closed.citations == (Citation(url="https://e.org", title=None),)


def test_what_the_vendor_ran_is_kept_with_the_text_or_alone() -> None:
    ran = {"index": 0, "type": "search", "arguments": "{}"}
    pieces = [chunk({"executed_tools": [ran]}), chunk({"executed_tools": [{**ran, "output": "found"}]})]
    with_text = hear(*pieces, text("so"), chunk({}, "stop"), DONE)
    assert with_text.blocks[0].kept("openai_chat")["executed_tools"] == [{**ran, "output": "found"}]
    alone = hear(*pieces, chunk({}, "stop"), DONE)
    assert [block.kind for block in alone.blocks] == ["opaque"]
    assert alone.blocks[0].kept("openai_chat")["executed_tools"] == [{**ran, "output": "found"}]


json_values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(min_size=1, max_size=8) | st.floats(-1e9, 1e9),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.text(max_size=5), inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)
extras = st.dictionaries(st.text(min_size=1, max_size=6).map(lambda name: f"x_{name}"), json_values, max_size=4)


@settings(max_examples=60, deadline=None)
@given(delta=extras, call=extras, function=extras)
def test_unknown_fields_go_back_unchanged(
    delta: dict[str, Json], call: dict[str, Json], function: dict[str, Json]
) -> None:
    called = {
        "index": 0,
        "id": "a",
        "type": "function",
        **call,
        "function": {"name": "get", "arguments": "{}", **function},
    }
    heard = hear(chunk({"content": "so", **delta}), chunk({"tool_calls": [called]}), chunk({}, "tool_calls"), DONE)
    message = sent_back(heard)
    assert message.pop("tool_calls") == [
        {**call, "id": "a", "type": "function", "function": {"name": "get", "arguments": "{}", **function}}
    ]
    assert message == {"role": "assistant", "content": "so", **delta}


def test_a_delta_with_an_unknown_field_says_what_it_says_without() -> None:
    plain, odd = Decoder(), Decoder()
    assert plain.feed(text("a")) == odd.feed(chunk({"content": "a", "x_unheard": 1}))
    assert plain.feed(text("b")) == [Delta(1, "b")]


def test_nothing_is_said_after_the_end() -> None:
    decoder = Decoder()
    assert decoder.feed(text("a"))[0] == BlockOpened(key=1, block_type="text")
    decoder.feed(chunk({}, "stop") + DONE)
    assert decoder.feed(text("b")) == []
    assert decoder.end() == []
