"""The Messages wire, written: what the vendor refuses with 400 never leaves, and requests only grow."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from tests.providers.asks import ask, assistant, body_of, call, histories, result, user, without_marks

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
    SentToolResult,
    SentToolUse,
    Thinking,
)
from legato.core.blocks import FileBlock, ImageBlock, Json
from legato.core.errors import InvalidRequest
from legato.providers import catalogue
from legato.providers.anthropic_request import admit, fit, request

KEY = "sk-ant-nobody"


def sent(asked: Ask, *, fitted: bool = True) -> dict[str, Json]:
    model = catalogue.find("anthropic", asked.model)
    if fitted:
        asked, _ = fit(asked, model)
    return body_of(request(asked, model=model, api_key=KEY).body)


def dropped(asked: Ask) -> list[str]:
    return [one.message for one in fit(asked, catalogue.find("anthropic", asked.model))[1]]


def passes_the_vendors_rules(body: dict[str, Json]) -> None:
    """Of the API reference: roles alternate, text has words, each call is answered first thing in the next message."""
    messages = body["messages"]
    roles = [message["role"] for message in messages]
    assert all(one != other for one, other in pairwise(roles))
    ids: list[str] = []
    for number, message in enumerate(messages):
        assert message["content"]
        for raw in message["content"]:
            assert raw["type"] != "text" or raw["text"].strip()
        called = [raw["id"] for raw in message["content"] if raw["type"] == "tool_use"]
        ids += called
        if called:
            answers = messages[number + 1]["content"][: len(called)]
            assert sorted(raw.get("tool_use_id", "") for raw in answers) == sorted(called)
        if message["role"] == "assistant" and message["content"][-1]["type"] == "text":
            assert message["content"][-1]["text"] == message["content"][-1]["text"].rstrip()
    assert len(ids) == len(set(ids))


def told(body: dict[str, Json]) -> list[Json]:
    """What the model reads: a message that was left empty joins its neighbours, so blocks are compared."""
    return [(message["role"], raw) for message in body["messages"] for raw in message["content"]]


@settings(max_examples=150, deadline=None)
@given(history=histories("anthropic"))
def test_any_history_makes_a_request_the_vendor_takes_and_it_only_grows(history: Sequence[Message]) -> None:
    whole = without_marks(sent(ask(*history)))
    passes_the_vendors_rules(whole)
    for count in range(1, len(history)):
        if history[count - 1].role == "user":
            before = without_marks(sent(ask(*history[:count])))
            assert told(whole)[: len(told(before))] == told(before)
            assert (before["tools"], before["system"]) == (whole["tools"], whole["system"])


def test_results_come_first_in_the_message_behind_their_calls() -> None:
    body = sent(
        ask(user("go"), assistant(call("c1"), call("c2")), user(SentText(text="hm"), result("c2"), result("c1")))
    )
    assert [raw["type"] for raw in body["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]


def test_a_bad_result_says_so_and_an_empty_one_has_no_content() -> None:
    body = sent(ask(user("go"), assistant(call("c1")), user(result("c1", text="", is_error=True))))
    raw = without_marks(body["messages"][2]["content"][0])
    assert raw == {"type": "tool_result", "tool_use_id": "c1", "is_error": True}


def test_the_vendors_id_is_given_back_once_and_ours_where_it_is_taken() -> None:
    calls = [call(f"ours-{n}", wire="anthropic", id="toolu_same") for n in range(3)]
    body = sent(ask(user("go"), assistant(*calls), user(*(result(f"ours-{n}") for n in range(3)))))
    assert [raw["id"] for raw in body["messages"][1]["content"]] == ["toolu_same", "ours-1", "ours-2"]
    assert [raw["tool_use_id"] for raw in body["messages"][2]["content"]] == ["toolu_same", "ours-1", "ours-2"]


def test_thinking_of_another_wire_or_another_model_is_left_out() -> None:
    theirs = SentThinking(text="a", signature="s", provider_data={"openai_chat": {"legato": {}}})
    other = SentThinking(text="b", signature="s", provider_data={"anthropic": {"legato": {"model": "claude-opus-5-5"}}})
    own = SentThinking(text="c", signature="s", provider_data={"anthropic": {"legato": {"model": "claude-sonnet-4-5"}}})
    body = sent(ask(user("go"), assistant(theirs, other, own, "so"), user("and")))
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "c", "signature": "s"},
        {"type": "text", "text": "so"},
    ]


def test_a_message_left_empty_is_left_out_and_its_neighbours_are_joined() -> None:
    body = sent(ask(user("one"), assistant(SentOpaque(provider_data={"other": {"type": "x"}}), "  \n"), user("two")))
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert [raw["text"] for raw in body["messages"][0]["content"]] == ["one", "two"]


def test_what_was_trimmed_stays_so_when_a_neighbour_is_joined_to_it() -> None:
    before = sent(ask(user("go"), assistant("so \n")))["messages"][1]["content"]
    after = sent(ask(user("go"), assistant("so \n"), user(" "), assistant("and")))["messages"][1]["content"]
    assert before == [{"type": "text", "text": "so"}]
    assert after == [*before, {"type": "text", "text": "and"}]


def test_a_tool_the_other_wires_provider_ran_is_left_out_with_its_result() -> None:
    ran = SentToolUse(call_id="c", tool_name="search", input={}, origin="provider", provider_data={"gemini": {}})
    found = SentToolResult(call_id="c", tool_name="search", text="", is_error=False, origin="provider", output=[1])
    body = sent(ask(user("go"), assistant(ran, found, "so"), user("and")))
    assert [raw["type"] for raw in body["messages"][1]["content"]] == ["text"]


def test_cache_marks_stand_behind_the_tools_the_system_and_the_last_two_of_the_user() -> None:
    body = sent(ask(user("one"), assistant("a"), user("two"), assistant("b"), user("three", "four")))
    assert body["tools"][-1]["cache_control"] == {"type": "ephemeral"}
    assert body["system"][-1]["cache_control"] == {"type": "ephemeral"}
    marked = [[("cache_control" in raw) for raw in message["content"]] for message in body["messages"]]
    assert marked == [[False], [False], [True], [False], [False, True]]


def test_the_key_is_in_the_header_and_nowhere_in_sight() -> None:
    made = request(ask(user("go")), model=None, api_key=KEY)
    assert made.path == "/v1/messages"
    assert made.headers["x-api-key"] == KEY
    assert KEY not in repr(made)
    assert KEY.encode() not in made.body


@pytest.mark.parametrize(
    ("model", "params", "max_tokens", "thinking"),
    [
        ("claude-sonnet-4-5", Params(), 32_000, None),
        ("claude-3-5-haiku-20241022", Params(), 8_192, None),
        ("some-model", Params(), 8_192, None),
        ("claude-sonnet-4-5", Params(max_tokens=100), 100, None),
        ("claude-sonnet-4-5", Params(thinking=Thinking(effort="low")), 32_000, 2_048),
        ("claude-sonnet-4-5", Params(thinking=Thinking(budget_tokens=40_000)), 48_192, 40_000),
        ("claude-sonnet-4-5", Params(thinking=Thinking(budget_tokens=10)), 32_000, 1_024),
        ("claude-sonnet-4-5", Params(thinking=Thinking(budget_tokens=8_000), max_tokens=4_000), 4_000, 3_000),
        ("claude-sonnet-4-5", Params(thinking=Thinking(effort="low"), max_tokens=1_000), 1_000, None),
        ("some-model", Params(thinking=Thinking(budget_tokens=10_000)), 18_192, 10_000),
    ],
)
def test_max_tokens_is_always_over_the_thinking_budget(
    model: str, params: Params, max_tokens: int, thinking: int | None
) -> None:
    body = sent(ask(user("go"), model=model, params=params))
    assert body["max_tokens"] == max_tokens
    assert body.get("thinking") == (None if thinking is None else {"type": "enabled", "budget_tokens": thinking})


@pytest.mark.parametrize(
    ("model", "asked", "thinking", "effort"),
    [
        ("claude-opus-5-5", Thinking(effort="high"), {"type": "adaptive", "display": "summarized"}, "high"),
        ("claude-opus-4-7", Thinking(budget_tokens=3_000), {"type": "adaptive", "display": "summarized"}, "medium"),
        ("claude-opus-4-6", Thinking(effort="low"), {"type": "adaptive"}, "low"),
        ("claude-opus-4-6", Thinking(budget_tokens=3_000), {"type": "enabled", "budget_tokens": 3_000}, None),
        ("claude-of-next-year", Thinking(effort="low"), {"type": "adaptive", "display": "summarized"}, "low"),
    ],
)
def test_newer_models_are_told_to_think_by_effort(
    model: str, asked: Thinking, thinking: Json, effort: str | None
) -> None:
    body = sent(ask(user("go"), model=model, params=Params(thinking=asked)))
    assert body["thinking"] == thinking
    assert body.get("output_config") == (None if effort is None else {"effort": effort})


@pytest.mark.parametrize(
    ("params", "choice"),
    [
        (Params(), None),
        (Params(tool_choice="auto"), {"type": "auto"}),
        (Params(tool_choice="none"), {"type": "none"}),
        (Params(tool_choice="required"), {"type": "any"}),
        (Params(tool_choice=NamedTool("get")), {"type": "tool", "name": "get"}),
        (Params(parallel_tool_calls=False), {"type": "auto", "disable_parallel_tool_use": True}),
        (
            Params(tool_choice="required", parallel_tool_calls=False),
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tool_choice_is_said_in_the_vendors_words(params: Params, choice: Json) -> None:
    assert sent(ask(user("go"), params=params)).get("tool_choice") == choice
    assert "tool_choice" not in sent(ask(user("go"), params=params, tools=()))


def test_tools_stay_named_while_the_history_has_calls_but_may_not_be_called() -> None:
    body = sent(ask(user("go"), assistant(call("c", "gone")), user(result("c", name="gone")), tools=()))
    assert [tool["name"] for tool in body["tools"]] == ["gone"]
    assert body["tool_choice"] == {"type": "none"}


def test_what_the_model_would_refuse_is_dropped_and_said() -> None:
    both = Params(temperature=0.5, top_p=0.9)
    assert "top_p" not in sent(ask(user("go"), params=both))
    assert dropped(ask(user("go"), params=both)) == ["top_p: the vendor takes temperature or top_p, not both"]
    new = ask(user("go"), model="claude-opus-5-5", params=Params(temperature=0.5, tool_choice="required"))
    assert "temperature" not in sent(new)
    assert sent(new)["tool_choice"] == {"type": "auto"}
    assert len(dropped(new)) == 2
    thinking = ask(user("go"), params=Params(temperature=0.5, thinking=Thinking(effort="low")))
    assert "temperature" not in sent(thinking)
    forced = ask(user("go"), params=Params(tool_choice="required", thinking=Thinking(effort="low")))
    assert "thinking" not in sent(forced)
    old = ask(user("go"), model="claude-3-5-haiku-latest", params=Params(thinking=Thinking(effort="low")))
    assert dropped(old) == ["thinking: claude-3-5-haiku-latest does not think"]


def test_thinking_is_not_asked_for_in_the_middle_of_calls_that_were_made_without_it() -> None:
    params = Params(thinking=Thinking(effort="low"))
    thought = SentThinking(text="t", provider_data={"anthropic": {"signature": "s"}})
    without = ask(user("go"), assistant(call("c")), user(result("c")), params=params)
    with_it = ask(user("go"), assistant(thought, call("c")), user(result("c")), params=params)
    assert "thinking" not in sent(without)
    assert "thinking" in sent(with_it)
    assert "thinking" in sent(ask(user("go"), assistant("so"), user("and"), params=params))


def test_what_the_client_sends_as_it_is_is_merged_and_cannot_take_our_place() -> None:
    params = Params(
        provider={
            "top_k": 5,
            "tools": [{"type": "web_search_20250305", "name": "web_search"}],
            "betas": ["a", "b"],
            "stream": False,
            "messages": [],
        }
    )
    asked = ask(user("go"), params=params)
    made = request(fit(asked, None)[0], model=None, api_key=KEY)
    body = body_of(made.body)
    assert body["top_k"] == 5
    assert body["stream"] is True
    assert body["messages"]
    assert [tool["name"] for tool in body["tools"]] == ["get", "web_search"]
    assert made.headers["anthropic-beta"] == "a,b"
    assert dropped(asked) == ["provider.messages: the server sets it", "provider.stream: the server sets it"]


def test_images_and_documents_are_sent_as_data_or_by_url() -> None:
    blocks = (
        SentImage(media_type="image/png", sha256="p"),
        SentImage(url="https://e.org/i.png"),
        SentFile(name="a.pdf", media_type="application/pdf", sha256="p"),
        SentFile(name="a.txt", media_type="text/plain", sha256="t"),
        SentFile(url="https://e.org/a.pdf"),
        SentFile(media_type="application/pdf", sha256="gone"),
    )
    body = sent(ask(user(*blocks), data={"p": b"\x01\x02", "t": "é".encode()}))
    coded = base64.b64encode(b"\x01\x02").decode()
    assert without_marks(body["messages"][0]["content"]) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": coded}},
        {"type": "image", "source": {"type": "url", "url": "https://e.org/i.png"}},
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": coded},
        },
        {"type": "document", "title": "a.txt", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
        {"type": "document", "source": {"type": "url", "url": "https://e.org/a.pdf"}},
    ]


def image(**fields: str) -> ImageBlock:
    return msgspec.convert({"type": "image", "index": 0, "round": 0, "state": "complete", **fields}, ImageBlock)


def file(**fields: str) -> FileBlock:
    return msgspec.convert({"type": "file", "index": 0, "round": 0, "state": "complete", **fields}, FileBlock)


def test_what_could_never_be_sent_is_refused_by_its_place() -> None:
    admit([image(media_type="image/png"), image(url="https://e.org/x"), file(media_type="text/csv")])
    admit([file(media_type="application/pdf", url="https://e.org/x"), file(url="https://e.org/x")])
    bad: list[tuple[ImageBlock | FileBlock, str]] = [
        (image(media_type="image/tiff"), "media_type"),
        (file(media_type="application/zip"), "media_type"),
        (file(media_type="text/plain", url="https://e.org/x"), "url"),
    ]
    for place, (block, field) in enumerate(bad):
        with pytest.raises(InvalidRequest) as refused:
            admit([*[image(media_type="image/png")] * place, block])
        assert refused.value.problems[0].path == f"/blocks/{place}/{field}"


def test_stops_of_white_space_alone_are_left_out() -> None:
    assert sent(ask(user("go"), params=Params(stop=("END", "\n"))))["stop_sequences"] == ["END"]
    assert "stop_sequences" not in sent(ask(user("go"), params=Params(stop=("\n",))))


def test_a_paused_turn_is_sent_back_as_it_is() -> None:
    raw = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search"}
    paused = SentToolUse(
        call_id="c", tool_name="web_search", input={"q": 1}, origin="provider", provider_data={"anthropic": raw}
    )
    body = sent(ask(user("go"), assistant("I look", paused)))
    assert body["messages"][-1] == {
        "role": "assistant",
        "content": [{"type": "text", "text": "I look"}, {**raw, "input": {"q": 1}}],
    }


def test_no_system_is_no_field() -> None:
    assert "system" not in sent(ask(user("go"), system=None))
    assert "system" not in sent(ask(user("go"), system=" "))
