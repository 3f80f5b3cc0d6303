"""The Messages wire, read: vectors written from the vendor's documents (streaming, thinking, server tools, errors)."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from tests.providers.heard import Heard, said_before

from legato.core.ask import Ask, Message, Params, SentText
from legato.core.blocks import Citation, Json
from legato.core.inputs import BlockClosed, Delta
from legato.providers.anthropic import Decoder
from legato.providers.anthropic_request import request


def frame(value: Json) -> bytes:
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + json.dumps(value).encode() + b"\n\n"


def start(index: int, **block: Json) -> bytes:
    return frame({"type": "content_block_start", "index": index, "content_block": block})


def delta(index: int, kind: str, **fields: Json) -> bytes:
    return frame({"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}})


def stop(index: int) -> bytes:
    return frame({"type": "content_block_stop", "index": index})


BEGIN = frame(
    {
        "type": "message_start",
        "message": {"usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1}},
    }
)


def end(reason: str | None = "end_turn", **delta: Json) -> bytes:
    usage = {"output_tokens": 25, "cache_creation_input_tokens": 5}
    body = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None, **delta}, "usage": usage}
    return frame(body) + frame({"type": "message_stop"})


def hear(*pieces: bytes) -> Heard:
    decoder = Decoder(model="claude-x")
    return Heard([said for piece in pieces for said in decoder.feed(piece)] + decoder.end())


def sent_back(heard: Heard) -> list[dict[str, Json]]:
    """The assistant's blocks of the next request, on the wire."""
    messages = (Message("user", (SentText(text="go"),)), *said_before(heard))
    ask = Ask(model="claude-x", system=None, tools=(), messages=messages, params=Params(), round=2)
    body = msgspec.json.decode(request(ask, model=None, api_key=None).body)
    blocks: list[dict[str, Json]] = next(m["content"] for m in body["messages"] if m["role"] == "assistant")
    return blocks


def test_text_may_stand_in_the_start_of_a_block_already() -> None:
    heard = hear(BEGIN, start(0, type="text", text="Hel"), delta(0, "text_delta", text="lo"), stop(0), end())
    assert heard.text_of("text") == "Hello"
    assert heard.ended.stop_reason == "end"
    assert heard.ended.provider_reason == "end_turn"


def test_usage_is_cumulative_and_input_includes_the_cache() -> None:
    usage = hear(BEGIN, end()).usage
    assert usage is not None
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (105, 90, 5)
    assert (usage.output_tokens, usage.reasoning_tokens, usage.source) == (25, None, "reported")


def test_thinking_keeps_its_signature_and_goes_back_as_it_came() -> None:
    heard = hear(
        BEGIN,
        start(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="I see"),
        delta(0, "signature_delta", signature="SIG=="),
        stop(0),
        start(1, type="redacted_thinking", data="opaque=="),
        stop(1),
        start(2, type="text", text="so"),
        stop(2),
        end(),
    )
    first, redacted = heard.of("thinking")
    assert first.closed is not None
    assert first.closed.signature == "SIG=="
    assert redacted.closed is not None
    assert redacted.closed.redacted is True
    assert sent_back(heard)[:2] == [
        {"type": "thinking", "thinking": "I see", "signature": "SIG=="},
        {"type": "redacted_thinking", "data": "opaque=="},
    ]


def test_thinking_that_was_not_signed_is_not_sent_back() -> None:
    heard = hear(
        BEGIN, start(0, type="thinking", thinking="hm"), stop(0), start(1, type="text", text="so"), stop(1), end()
    )
    assert [raw["type"] for raw in sent_back(heard)] == ["text"]


def test_an_empty_signed_thinking_goes_back() -> None:
    """Newer models leave its words out (`display: omitted`)."""
    heard = hear(
        BEGIN,
        start(0, type="thinking", thinking="", signature=""),
        delta(0, "signature_delta", signature="S"),
        stop(0),
        start(1, type="text", text="so"),
        stop(1),
        end(),
    )
    assert sent_back(heard)[0] == {"type": "thinking", "thinking": "", "signature": "S"}


def test_a_call_is_sealed_when_its_block_stops() -> None:
    decoder = Decoder()
    decoder.feed(BEGIN + start(0, type="tool_use", id="toolu_1", name="get", input={}, caller={"type": "direct"}))
    assert decoder.feed(delta(0, "input_json_delta", partial_json="")) == []
    assert decoder.feed(delta(0, "input_json_delta", partial_json='{"a": 1}')) == [Delta(1, '{"a": 1}')]
    closed = BlockClosed(key=1, provider_data={"anthropic": {**CALL, "caller": {"type": "direct"}}})
    assert decoder.feed(stop(0)) == [closed]


CALL = {"type": "tool_use", "id": "toolu_1", "name": "get"}


def test_arguments_that_came_with_the_start_are_said_with_it() -> None:
    heard = hear(BEGIN, start(0, type="tool_use", id="t", name="get", input={"a": 1}), stop(0), end("tool_use"))
    assert heard.blocks[0].opened.input == {"a": 1}
    assert heard.blocks[0].closed is not None
    assert sent_back(heard)[0]["input"] == {"a": 1}


def test_arguments_that_go_on_after_their_end_poison_the_call_once() -> None:
    """White space changes nothing, and text behind a text block's end belongs to nobody."""
    call = [start(0, type="tool_use", id="a", name="f", input={}), delta(0, "input_json_delta", partial_json="{}")]
    late = [delta(0, "input_json_delta", partial_json=text) for text in ("", " \n", ', "b": 1}', "}")]
    text = [start(1, type="text", text="Hm."), stop(1), delta(1, "text_delta", text="more")]
    heard = hear(BEGIN, *call, stop(0), *late, *text, end("tool_use"))
    sealed, said = heard.blocks
    assert sealed.poisoned == "after its end its arguments went on with ', \"b\": 1}'"
    assert (sealed.text, said.text) == ("{}", "Hm.")


def test_no_argument_bytes_at_all_are_no_delta() -> None:
    heard = hear(BEGIN, start(0, type="tool_use", id="t", name="get", input={}), stop(0), end("tool_use"))
    assert heard.blocks[0].opened.input is UNSET
    assert heard.blocks[0].text == ""
    assert heard.blocks[0].closed is not None


@pytest.mark.parametrize(("reason", "sealed"), [("max_tokens", False), ("refusal", False), ("tool_use", True)])
def test_arguments_that_are_not_whole_are_dropped_when_cut_and_answered_when_bad(reason: str, sealed: bool) -> None:
    """The block stops in both cases; only the stop reason tells max_tokens from bad JSON."""
    heard = hear(
        BEGIN,
        start(0, type="tool_use", id="a", name="get", input={}),
        delta(0, "input_json_delta", partial_json='{"a": 1}'),
        stop(0),
        start(1, type="tool_use", id="b", name="get", input={}),
        delta(1, "input_json_delta", partial_json='{"a": '),
        stop(1),
        end(reason),
    )
    assert heard.blocks[0].closed is not None
    assert (heard.blocks[1].closed is not None) is sealed


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "end"),
        ("stop_sequence", "end"),
        ("tool_use", "calls"),
        ("pause_turn", "pause"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("unheard_of", "other"),
        (None, "other"),
    ],
)
def test_each_stop_reason_has_its_meaning(theirs: str | None, ours: str) -> None:
    ended = hear(BEGIN, end(theirs)).ended
    assert (ended.stop_reason, ended.provider_reason) == (ours, theirs)


SERVER_TOOLS: list[list[dict[str, Json]]] = [
    [
        {
            "type": "server_tool_use",
            "id": "srvtoolu_1",
            "name": "web_search",
            "input": {"query": "x"},
            "unheard": [1, None],
        },
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [
                {"type": "web_search_result", "url": "https://e.org", "encrypted_content": "E=", "page_age": None}
            ],
            "caller": {"type": "direct"},
        },
    ],
    [
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "echo", "server_name": "s", "input": {}},
        {
            "type": "mcp_tool_result",
            "tool_use_id": "mcptoolu_1",
            "is_error": True,
            "content": [{"type": "text", "text": "no"}],
        },
    ],
    [
        {"type": "server_tool_use", "id": "srvtoolu_2", "name": "bash_code_execution", "input": {"command": "ls"}},
        {
            "type": "bash_code_execution_tool_result",
            "tool_use_id": "srvtoolu_2",
            "content": {"type": "bash_code_execution_tool_result_error", "error_code": "unavailable"},
        },
    ],
]


@pytest.mark.parametrize("blocks", SERVER_TOOLS, ids=lambda blocks: blocks[1]["type"])
def test_a_tool_the_provider_runs_goes_back_with_every_field(blocks: list[dict[str, Json]]) -> None:
    call, result = blocks
    given_input = call["input"]
    heard = hear(
        BEGIN,
        start(0, **{**call, "input": {}}),
        delta(0, "input_json_delta", partial_json=json.dumps(given_input) if given_input else ""),
        stop(0),
        start(1, **result),
        stop(1),
        start(2, type="text", text="so"),
        stop(2),
        end(),
    )
    said_call, said_result = heard.blocks[:2]
    assert (said_call.kind, said_call.opened.origin) == ("tool_use", "provider")
    assert (said_result.kind, said_result.opened.origin) == ("tool_result", "provider")
    assert said_result.opened.tool_name == call["name"]
    assert said_result.opened.provider_call_id == said_call.opened.provider_call_id == call["id"]
    assert said_result.closed is not None
    assert said_result.closed.output == result["content"]
    assert (said_result.closed.error is not UNSET) is ("error" in json.dumps(result))
    assert sent_back(heard)[:2] == blocks


def test_citations_are_ours_and_the_vendors_go_back() -> None:
    cited = {
        "type": "web_search_result_location",
        "url": "https://e.org",
        "title": "E",
        "cited_text": "x",
        "encrypted_index": "I=",
    }
    char = {
        "type": "char_location",
        "document_index": 0,
        "document_title": "D",
        "start_char_index": 3,
        "end_char_index": 9,
    }
    heard = hear(
        BEGIN,
        start(0, type="text", text="", citations=[]),
        delta(0, "citations_delta", citation=cited),
        delta(0, "text_delta", text="so it is"),
        delta(0, "citations_delta", citation=char),
        stop(0),
        end(),
    )
    block = heard.blocks[0]
    assert block.closed is not None
    assert block.closed.citations == (Citation(url="https://e.org", title="E"), Citation(url=None, title="D"))
    assert sent_back(heard) == [{"type": "text", "text": "so it is", "citations": [cited, char]}]


def test_a_block_of_an_unknown_kind_is_kept_whole_with_the_deltas_of_its_kind() -> None:
    heard = hear(
        BEGIN,
        start(0, type="compaction", content=None, extra={"a": [1]}),
        delta(0, "compaction_delta", content="sum"),
        delta(0, "compaction_delta", content="mary"),
        stop(0),
        end("compaction"),
    )
    assert heard.blocks[0].kind == "opaque"
    assert sent_back(heard) == [{"type": "compaction", "content": "summary", "extra": {"a": [1]}}]


def test_what_a_response_says_of_itself_is_kept_and_its_container_is_used_by_the_next_round() -> None:
    heard = hear(
        BEGIN,
        start(0, type="tool_use", id="t", name="get", input={}),
        stop(0),
        end("tool_use", container={"id": "container_1", "expires_at": "2026-11-24T12:00:00Z"}),
    )
    assert heard.blocks[-1].kept("anthropic")["legato"]["response"]["container"]["id"] == "container_1"
    messages = (Message("user", (SentText(text="go"),)), *said_before(heard))
    ask = Ask(model="claude-x", system=None, tools=(), messages=messages, params=Params(), round=2)
    body = msgspec.json.decode(request(ask, model=None, api_key=None).body)
    assert body["container"] == "container_1"
    assert [raw["type"] for raw in body["messages"][1]["content"]] == ["tool_use"]
    later = (*messages, Message("assistant", (SentText(text="ok"),)), Message("user", (SentText(text="and"),)))
    ask = msgspec.structs.replace(ask, messages=later)
    assert "container" not in msgspec.json.decode(request(ask, model=None, api_key=None).body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
extras = st.dictionaries(st.text(min_size=1, max_size=6).map(lambda name: f"x_{name}"), json_values, max_size=4)


@settings(max_examples=60, deadline=None)
@given(call=extras, result=extras, text=extras, unknown=extras, ours=extras, thinking=extras)
def test_unknown_fields_of_any_block_go_back_unchanged(
    call: dict[str, Json],
    result: dict[str, Json],
    text: dict[str, Json],
    unknown: dict[str, Json],
    ours: dict[str, Json],
    thinking: dict[str, Json],
) -> None:
    text = {name: item for name, item in text.items() if item not in (None, [])}  # the vendor's way to say nothing
    blocks = [
        {"type": "thinking", "thinking": "t", "signature": "s", **thinking},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}, **call},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [], **result},
        {"type": "unheard_of", **unknown},
        {"type": "text", "text": "so", **text},
        {"type": "tool_use", "id": "toolu_1", "name": "get", "input": {}, **ours},
    ]
    pieces = [start(index, **block) + stop(index) for index, block in enumerate(blocks)]
    assert sent_back(hear(BEGIN, *pieces, end("tool_use"))) == blocks


def test_an_error_inside_the_stream_ends_it_and_keeps_what_came() -> None:
    heard = hear(
        BEGIN,
        start(0, type="text", text="so"),
        frame({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        stop(0),
    )
    assert heard.failed.error.code == "provider_overloaded"
    assert heard.failed.error.retryable
    assert heard.text_of("text") == "so"
    assert heard.blocks[0].closed is None


def test_pings_and_unknown_events_say_nothing() -> None:
    assert (
        Decoder().feed(frame({"type": "ping"}) + frame({"type": "unheard_of", "delta": {"type": "text_delta"}})) == []
    )


def test_the_end_of_the_connection_before_message_stop_is_a_cut() -> None:
    whole = BEGIN + start(0, type="text", text="so") + stop(0) + end()
    heard = hear(whole.removesuffix(frame({"type": "message_stop"})))
    assert heard.failed.error.code == "provider_cut"
    assert "end_turn" in heard.failed.error.message


def test_a_last_frame_without_its_empty_line_counts_if_it_is_whole() -> None:
    whole = BEGIN + end()
    assert hear(whole.rstrip(b"\n")).ended.stop_reason == "end"
    assert hear(whole.rstrip(b"\n")[:-1]).failed.error.code == "provider_cut"


@pytest.mark.parametrize(
    "garbage", [b"data: {nonsense}\n\n", b"data: <html>\n\n", b'data: {"type": "x", "a": NaN}\n\n']
)
def test_a_frame_that_is_no_json_garbles_the_response(garbage: bytes) -> None:
    heard = hear(BEGIN, garbage, end())
    assert heard.failed.error.code == "provider_garbled"


def test_a_character_split_over_two_deltas_is_whole() -> None:
    heard = hear(
        BEGIN,
        start(0, type="text", text=""),
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\\ud83d"}}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ude00b"}}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"c\\ud83d"}}\n\n',
        delta(0, "text_delta", text="d"),
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"e\\ud83d"}}\n\n',
        stop(0),
        end(),
    )
    assert heard.text_of("text") == "a😀bc\ufffdde\ufffd"


def test_halves_of_characters_elsewhere_are_replaced() -> None:
    heard = hear(
        BEGIN,
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"odd","a":"\\ud83d"}}\n\n',
        stop(0),
        end(),
    )
    assert heard.blocks[0].kept("anthropic") == {"type": "odd", "a": "\ufffd"}


def test_blocks_may_interleave() -> None:
    heard = hear(
        BEGIN,
        start(0, type="text", text=""),
        start(1, type="text", text=""),
        delta(1, "text_delta", text="b"),
        delta(0, "text_delta", text="a"),
        stop(1),
        stop(0),
        end(),
    )
    assert [block.text for block in heard.blocks] == ["a", "b"]


def test_nothing_is_said_after_the_end() -> None:
    decoder = Decoder()
    decoder.feed(BEGIN + end())
    assert decoder.feed(BEGIN + end()) == []
    assert decoder.end() == []
