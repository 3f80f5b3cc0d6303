"""Chat completions, written: for OpenAI and for those who imitate it, each refused nothing it would refuse."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from msgspec import UNSET
from tests.providers.asks import ask, assistant, body_of, call, histories, result, user

from legato.core.ask import (
    Ask,
    Message,
    NamedTool,
    Params,
    SentFile,
    SentImage,
    SentOpaque,
    SentText,
    SentThinking,
    SentToolUse,
    Thinking,
)
from legato.core.blocks import FileBlock, ImageBlock, Json
from legato.core.errors import InvalidRequest
from legato.providers import catalogue
from legato.providers.openai_chat_request import admit, fit, request
from legato.providers.openai_chat_vendors import host_of, seal_of, vendor_of

OPENAI = "api.openai.com"


def sent(asked: Ask, host: str = OPENAI, provider: str = "openai") -> dict[str, Json]:
    asked, _ = fit(asked, catalogue.find(provider, asked.model))
    return body_of(request(asked, host=host, api_key="sk-nobody").body)


def passes_the_vendors_rules(messages: list[dict[str, Json]]) -> None:
    """Of the API reference: each call is answered in the messages right behind it, once, and nothing else is."""
    ids: list[str] = []
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
            continue
        assert not open_calls
        assert message["content"] or message.get("tool_calls")
        open_calls = [one["id"] for one in message.get("tool_calls", [])]
        ids += open_calls
    assert not open_calls
    assert len(ids) == len(set(ids))
    assert all(len(one) <= 40 for one in ids)


@settings(max_examples=150, deadline=None)
@given(history=histories("openai_chat"))
def test_any_history_makes_a_request_the_vendor_takes_and_it_only_grows(history: Sequence[Message]) -> None:
    whole = sent(ask(*history, model="gpt-4o"))["messages"]
    passes_the_vendors_rules(whole)
    for count in range(1, len(history)):
        if history[count - 1].role == "user":
            before = sent(ask(*history[:count], model="gpt-4o"))["messages"]
            assert whole[: len(before)] == before


def test_a_call_and_its_result_are_said_in_the_wires_words() -> None:
    asked = ask(user("go"), assistant("I look", call("c1", a=1)), user(result("c1", "found"), "and?"))
    assert sent(asked)["messages"] == [
        {"role": "system", "content": "Be good."},
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": "I look",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
        {"role": "user", "content": "and?"},
    ]


def test_usage_is_asked_for_and_the_response_is_streamed() -> None:
    body = sent(ask(user("go")))
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(ask(user("go")), "api.mistral.ai")


@pytest.mark.parametrize(
    ("host", "field"),
    [(OPENAI, "max_completion_tokens"), ("eu.api.openai.com", "max_completion_tokens"), ("example.org", "max_tokens")],
)
def test_the_bound_on_tokens_has_the_name_its_vendor_knows(host: str, field: str) -> None:
    body = sent(ask(user("go"), params=Params(max_tokens=50)), host)
    assert body[field] == 50
    assert len({"max_tokens", "max_completion_tokens"} & body.keys()) == 1
    assert not {"max_tokens", "max_completion_tokens"} & sent(ask(user("go")), host).keys()


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        (NamedTool("get"), {"type": "function", "function": {"name": "get"}}),
        (UNSET, None),
    ],
)
def test_tool_choice_is_said_in_the_wires_words(choice: Json, wire: Json) -> None:
    body = sent(ask(user("go"), params=Params(tool_choice=choice)))
    assert body.get("tool_choice") == wire
    assert "tool_choice" not in sent(ask(user("go"), tools=(), params=Params(tool_choice=choice)))


def test_tools_stay_named_while_the_history_has_calls_but_may_not_be_called() -> None:
    body = sent(ask(user("go"), assistant(call("c", "gone")), user(result("c", name="gone")), tools=()))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["gone"]
    assert body["tool_choice"] == "none"


@pytest.mark.parametrize(
    ("host", "thinking", "fields"),
    [
        ("example.org", Thinking(effort="low"), {"reasoning_effort": "low"}),
        ("example.org", Thinking(budget_tokens=1_000), {"reasoning_effort": "low"}),
        ("example.org", Thinking(budget_tokens=10_000), {"reasoning_effort": "medium"}),
        ("example.org", Thinking(budget_tokens=50_000), {"reasoning_effort": "high"}),
        ("openrouter.ai", Thinking(effort="high"), {"reasoning": {"effort": "high"}}),
        ("openrouter.ai", Thinking(budget_tokens=2_000), {"reasoning": {"max_tokens": 2_000}}),
        ("api.deepseek.com", Thinking(effort="high"), {"thinking": {"type": "enabled"}}),
    ],
)
def test_thinking_is_asked_for_as_the_vendor_has_it(host: str, thinking: Thinking, fields: dict[str, Json]) -> None:
    body = sent(ask(user("go"), model="x", params=Params(thinking=thinking)), host)
    asked = {"reasoning_effort", "reasoning", "thinking"} & body.keys()
    assert {name: body[name] for name in asked} == fields


def dropped(asked: Ask, provider: str = "openai") -> list[str]:
    return [one.message for one in fit(asked, catalogue.find(provider, asked.model))[1]]


def test_what_the_model_would_refuse_is_dropped_and_said() -> None:
    reasoning = ask(user("go"), model="gpt-5", params=Params(temperature=0.1, top_p=0.5))
    assert not {"temperature", "top_p"} & sent(reasoning).keys()
    assert len(dropped(reasoning)) == 2
    plain = ask(user("go"), model="gpt-4o-2024-08-06", params=Params(temperature=0.1, thinking=Thinking(effort="low")))
    assert sent(plain)["temperature"] == 0.1
    assert "reasoning_effort" not in sent(plain)
    assert dropped(plain) == ["thinking: gpt-4o-2024-08-06 does not think"]
    with_tools = ask(user("go"), model="gpt-5.4", params=Params(thinking=Thinking(effort="low")))
    assert "reasoning_effort" not in sent(with_tools)
    assert "reasoning_effort" in sent(msgspec.structs.replace(with_tools, tools=()))
    stops = ask(user("go"), model="gpt-4o", params=Params(stop=("a", "b", "c", "d", "e")))
    assert sent(stops)["stop"] == ["a", "b", "c", "d"]
    assert dropped(stops) == ["stop: 5 given, the first 4 are sent"]
    assert dropped(ask(user("go"), model="of-next-year", params=Params(temperature=0.1))) == []


def test_what_the_client_sends_as_it_is_is_merged_and_cannot_take_our_place() -> None:
    params = Params(provider={"seed": 7, "tools": [{"type": "openrouter:web_search"}], "messages": [], "stream": False})
    body = sent(ask(user("go"), params=params), "openrouter.ai")
    assert body["seed"] == 7
    assert body["stream"] is True
    assert body["messages"]
    assert [tool["type"] for tool in body["tools"]] == ["function", "openrouter:web_search"]


def test_ids_are_given_back_to_their_vendor_and_made_safe_for_others() -> None:
    odd = {"openai_chat": {"id": "functions.get:0", "legato": {"host": "api.moonshot.ai"}}}
    one = SentToolUse(call_id="ours-1", tool_name="get", input={}, origin="server", provider_data=odd)
    asked = ask(user("go"), assistant(one), user(result("ours-1")))
    for host, expected in (("api.moonshot.ai", "functions.get:0"), (OPENAI, "ours-1")):
        called, answered = sent(asked, host)["messages"][2:4]
        assert called["tool_calls"][0]["id"] == answered["tool_call_id"] == expected
    called, answered = sent(asked, "api.mistral.ai")["messages"][2:4]
    short = called["tool_calls"][0]["id"]
    assert answered["tool_call_id"] == short
    assert len(short) == 9
    assert short.isalnum()


def test_ids_of_calls_that_share_one_are_told_apart() -> None:
    calls = [call(f"ours-{n}", wire="openai_chat", id="call_same") for n in range(3)]
    messages = sent(ask(user("go"), assistant(*calls), user(*(result(f"ours-{n}") for n in range(3)))))["messages"]
    assert [one["id"] for one in messages[2]["tool_calls"]] == ["call_same", "ours-1", "ours-2"]
    assert [message["tool_call_id"] for message in messages[3:6]] == ["call_same", "ours-1", "ours-2"]


def test_a_message_of_what_this_wire_cannot_say_is_left_out() -> None:
    theirs = SentThinking(text="a", signature="s", provider_data={"anthropic": {"signature": "s"}})
    odd = SentOpaque(provider_data={"anthropic": {"type": "x"}})
    ran = SentToolUse(call_id="c", tool_name="search", input={}, origin="provider", provider_data={"anthropic": {}})
    messages = sent(ask(user("go"), assistant(theirs, odd, ran), user("and")))["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "user"]


def test_images_and_files_are_sent_as_the_vendor_reads_them() -> None:
    blocks = (
        SentText(text="see"),
        SentImage(media_type="image/png", sha256="p"),
        SentImage(url="https://e.org/i.png"),
        SentFile(name="a.pdf", media_type="application/pdf", sha256="p"),
        SentFile(name="a.txt", media_type="text/plain", sha256="t"),
    )
    asked = ask(user(*blocks), data={"p": b"\x01\x02", "t": b"words"})
    coded = base64.b64encode(b"\x01\x02").decode()
    read = {"type": "text", "text": '<file name="a.txt">\nwords\n</file>'}
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{coded}"}}
    images = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{coded}"}},
        {"type": "image_url", "image_url": {"url": "https://e.org/i.png"}},
    ]
    assert sent(asked)["messages"][1]["content"] == [*images, pdf, read]
    assert sent(asked, "example.org")["messages"][1]["content"] == [*images, read]


def test_plain_text_is_one_string() -> None:
    assert sent(ask(user("one", "two")))["messages"][1]["content"] == "one\n\ntwo"


def file(**fields: str) -> FileBlock:
    return msgspec.convert({"type": "file", "index": 0, "round": 0, "state": "complete", **fields}, FileBlock)


def image(**fields: str) -> ImageBlock:
    return msgspec.convert({"type": "image", "index": 0, "round": 0, "state": "complete", **fields}, ImageBlock)


def test_what_could_never_be_sent_is_refused_by_its_place() -> None:
    pdf, url = file(media_type="application/pdf"), file(url="https://e.org/a.pdf")
    admit([pdf, file(media_type="text/csv"), image(url="https://e.org/i"), image(media_type="image/png")], host=OPENAI)
    admit([url], host="openrouter.ai")
    for block, host, code in ((url, OPENAI, "url_not_supported"), (pdf, "example.org", "invalid_request")):
        with pytest.raises(InvalidRequest) as refused:
            admit([block], host=host)
        assert refused.value.code == code
        assert refused.value.problems[0].path.startswith("/blocks/0/")


def test_the_key_is_in_the_header_and_nowhere_in_sight() -> None:
    made = request(ask(user("go")), host=OPENAI, api_key="sk-nobody")
    assert made.path == "/chat/completions"
    assert made.headers == {"authorization": "Bearer sk-nobody"}
    assert "sk-nobody" not in repr(made)
    assert request(ask(user("go")), host="localhost", api_key=None).headers == {}


def test_a_host_we_know_nothing_of_seals_at_the_finish_reason() -> None:
    assert seal_of("localhost", "auto") == "finish"
    assert seal_of(OPENAI, "auto") == "object"
    assert seal_of("my.openai.azure.com", "auto") == "object"
    assert seal_of("openrouter.ai", "auto") == "next"
    assert seal_of(OPENAI, "finish") == "finish"
    assert vendor_of("not-openai.com") == vendor_of("")
    assert host_of("https://API.openai.com:443/v1") == OPENAI


def test_what_is_sent_twice_is_the_same_bytes() -> None:
    asked = ask(user("go"), assistant(call("c1", b=1, a=2)), user(result("c1")))
    one, other = (request(asked, host=OPENAI, api_key=None).body for _ in range(2))
    assert one == other
    assert one.find(b'\\"b\\"') < one.find(b'\\"a\\"')  # the model's own order of its arguments
