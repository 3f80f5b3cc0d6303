"""What the vendors refuse is refused here, in their words; what they take is taken."""

from __future__ import annotations

import pytest

from legato.core.blocks import Json
from legato.testing.check import check_growth, check_request, signatures_in
from legato.testing.names import sealed_words, signature_of

TOOLS = [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}]
CHAT_TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def user(*content: Json) -> Json:
    return {"role": "user", "content": list(content)}


def assistant(*content: Json) -> Json:
    return {"role": "assistant", "content": list(content)}


def text(said: str) -> Json:
    return {"type": "text", "text": said}


def use(call_id: str, name: str = "f") -> Json:
    return {"type": "tool_use", "id": call_id, "name": name, "input": {}}


def result(call_id: str, content: Json = "ok") -> Json:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content}


def thought(said: str, signature: str | None = None) -> Json:
    return {"type": "thinking", "thinking": said, "signature": signature or signature_of(said)}


HELLO = user(text("hello"))


def claude(*messages: Json, tools: Json = TOOLS, **more: Json) -> str | None:
    body = {"model": "m", "max_tokens": 4096, "messages": list(messages), "tools": tools, **more}
    return check_request("anthropic", {key: value for key, value in body.items() if value is not None})


TAKEN: list[list[Json]] = [
    [HELLO],
    [{"role": "user", "content": "hello"}],
    [HELLO, assistant(use("a"), use("b")), user(result("b"), result("a"), text("and now?"))],
    [HELLO, assistant(text("x"), use("a"), text("y"), use("b")), user(result("a"), result("b"))],
    [HELLO, assistant(use("a")), user(result("a")), user(text("more"))],
    [HELLO, assistant(use("a")), user(result("a")), assistant(use("b")), user(result("b"))],
    [HELLO, assistant(thought("hm"), use("a")), user(result("a"))],
    [HELLO, assistant({"type": "redacted_thinking", "data": sealed_words("hm")}, text("x")), HELLO],
    [HELLO, assistant(text("The answer is"))],
    [HELLO, assistant(text("ends in space ")), HELLO],
    [HELLO, assistant()],
    [HELLO, assistant({"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}})],
    [
        HELLO,
        assistant(
            {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "srv", "content": []},
            text("found"),
        ),
        HELLO,
    ],
]


@pytest.mark.parametrize("messages", TAKEN)
def test_anthropic_takes(messages: list[Json]) -> None:
    assert claude(*messages) is None


REFUSED: list[tuple[list[Json], str]] = [
    ([], "messages: at least one message is required"),
    ([assistant(text("x"))], 'messages: first message must use the "user" role'),
    ([{"role": "system", "content": "x"}], 'Unexpected role "system"'),
    ([{"role": "tool", "content": "x"}], "messages.0.role: Input should be 'user' or 'assistant'"),
    ([user()], "messages.0: all messages must have non-empty content"),
    ([HELLO, assistant(), HELLO], "messages.1: all messages must have non-empty content"),
    ([{"role": "user"}], "messages.0.content: Field required"),
    (["hello"], "messages.0: Input should be an object"),
    ([{"role": "user", "content": ["hello"]}], "messages.0.content.0: Input should be an object"),
    ([user(text(""))], "messages: text content blocks must be non-empty"),
    ([user(text(" \n"))], "messages: text content blocks must contain non-whitespace text"),
    ([HELLO, assistant(text("the answer is "))], "final assistant content cannot end with trailing whitespace"),
    ([HELLO, assistant(use("a"))], "messages.1: `tool_use` ids were found without `tool_result` blocks immediately"),
    ([HELLO, assistant(use("a")), HELLO], "`tool_result` blocks immediately after: a. Each"),
    ([HELLO, assistant(use("a"), use("b")), user(result("a"))], "immediately after: b."),
    ([HELLO, assistant(use("a")), user(text("first"), result("a"))], "immediately after: a."),
    ([user(result("a"))], "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: a"),
    ([HELLO, assistant(use("a")), user(result("a"), result("b"))], "messages.2.content.1: unexpected `tool_use_id`"),
    (
        [HELLO, assistant(use("a")), user(result("a")), assistant(text("x")), user(result("a"))],
        "messages.4.content.0: unexpected `tool_use_id`",
    ),
    ([HELLO, assistant(use("a")), user(result("a"), result("a"))], "each tool_use must have a single result"),
    ([HELLO, assistant(use("a"), use("a")), user(result("a"))], "messages.1.content.1: `tool_use` ids must be unique"),
    (
        [HELLO, assistant(use("a")), user(result("a")), assistant(use("a")), user(result("a"))],
        "messages.3.content.0: `tool_use` ids must be unique",
    ),
    ([HELLO, assistant(use("")), user(result(""))], "messages.1.content.0.tool_use.id: String should match pattern"),
    ([HELLO, assistant(use("a.b")), user(result("a.b"))], "tool_use.id: String should match pattern"),
    ([HELLO, assistant(use("a", "get weather")), user(result("a"))], "tool_use.name: String should match pattern"),
    ([user(use("a"))], "messages.0: `tool_use` blocks can only be in `assistant` messages"),
    ([HELLO, assistant(result("a"))], "messages.1: `tool_result` blocks can only be in `user` messages"),
    ([HELLO, assistant({**use("a"), "input": "{}"}), user(result("a"))], "input: Input should be a valid dictionary"),
    ([HELLO, assistant({**use("a"), "index": 0}), user(result("a"))], "tool_use.index: Extra inputs are not permitted"),
    ([HELLO, assistant(use("a")), user(result("a", [text("")]))], "messages: text content blocks must be non-empty"),
    (
        [HELLO, assistant(use("a")), user({**result("a", ""), "is_error": True})],
        "content cannot be empty if `is_error` is true",
    ),
    (
        [HELLO, assistant(thought("hm", "made up"), text("x"))],
        "content.0: Invalid `signature` in `thinking` block",
    ),
    ([HELLO, assistant(thought("hm ", signature_of("hm")), text("x"))], "Invalid `signature` in `thinking` block"),
    ([HELLO, assistant({"type": "thinking", "thinking": "hm"}, text("x"))], "thinking.signature: Field required"),
    ([HELLO, assistant({"type": "redacted_thinking", "data": "AAAA"}, text("x"))], "Invalid `data` in"),
    (
        [HELLO, assistant(text("x"), thought("hm")), HELLO],
        "final block in an assistant message cannot be `thinking`",
    ),
    ([HELLO, assistant({**thought("hm"), "cache_control": {}}, text("x"))], "cache_control: Extra inputs"),
    (
        [HELLO, assistant({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}), HELLO],
        "`web_search` tool use with id `s` was found without a corresponding `web_search_tool_result` block",
    ),
    (
        [HELLO, assistant({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}), HELLO],
        "unexpected `tool_use_id` found in `web_search_tool_result` blocks: s",
    ),
]


@pytest.mark.parametrize(("messages", "said"), REFUSED)
def test_anthropic_refuses(messages: list[Json], said: str) -> None:
    assert said in (claude(*messages) or "nothing was wrong")


THINKING = {"type": "enabled", "budget_tokens": 2048}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"seed": 1}, "seed: Extra inputs are not permitted"),
        ({"thinking": THINKING, "max_tokens": 2048}, "`max_tokens` must be greater than `thinking.budget_tokens`"),
        (
            {"thinking": {**THINKING, "budget_tokens": 1000}},
            "Input should be greater than or equal to 1024",
        ),
        ({"thinking": THINKING, "temperature": 0.5}, "`temperature` may only be set to 1 when thinking is enabled"),
        ({"thinking": THINKING, "tool_choice": {"type": "any"}}, "Thinking may not be enabled when tool_choice forces"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "tools.0.custom.name: String should match"),
        ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [{"name": "f", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Input should be 'object'"),
        ({"tools": ["f"]}, "tools.0: Input should be an object"),
        ({"tools": TOOLS * 2}, "tools: Tool names must be unique."),
        ({"tools": None, "tool_choice": {"type": "none"}}, "tool_choice may only be specified while providing tools"),
        ({"tool_choice": {"type": "tool", "name": "g"}}, "Tool 'g' not found in provided tools"),
        ({"system": [text("")]}, "system: text content blocks must be non-empty"),
        ({"stop_sequences": ["\n"]}, "stop_sequences: each stop sequence must contain non-whitespace"),
        (
            {"system": [{**text("x"), "cache_control": {"type": "ephemeral"}}] * 5},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
    ],
)
def test_anthropic_refuses_the_parameter(more: dict[str, Json], said: str) -> None:
    assert said in (claude(HELLO, **more) or "nothing was wrong")


def test_anthropic_refuses_a_history_of_calls_without_tools() -> None:
    said = claude(HELLO, assistant(use("a")), user(result("a")), tools=None)
    assert said == "Requests which include `tool_use` or `tool_result` blocks must define tools."


def test_while_calls_are_answered_a_thinking_models_say_starts_with_thinking() -> None:
    answered = [HELLO, assistant(text("x"), use("a")), user(result("a"))]
    assert "but found `text`" in (claude(*answered, thinking=THINKING) or "")
    assert claude(*answered, thinking=None) is None
    # an older say without thinking, and a second round without it, are taken
    older = [*answered, assistant(text("done")), HELLO]
    assert claude(*older, thinking=THINKING) is None
    second = [HELLO, assistant(thought("hm"), use("a")), user(result("a")), assistant(use("b")), user(result("b"))]
    assert claude(*second, thinking=THINKING) is None


def test_a_recordings_signature_is_known_with_its_own_thinking_only() -> None:
    recording = (
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}\n\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}\n\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"S"}}\n\n'
        b"data: [DONE]\n\n"
    )
    known = signatures_in(recording)
    assert known == {"S": "hm"}

    def said(thinking: str) -> str | None:
        messages = [HELLO, assistant(thought(thinking, "S"), text("x")), HELLO]
        body = {"model": "m", "max_tokens": 1, "messages": messages}
        return check_request("anthropic", body, signatures=known)

    assert said("hm") is None
    assert "Invalid `signature`" in (said("hm!") or "")


def gpt(*messages: Json, tools: Json = CHAT_TOOLS, **more: Json) -> str | None:
    body = {"model": "m", "messages": list(messages), "tools": tools, **more}
    return check_request("openai_chat", {key: value for key, value in body.items() if value is not None})


def says(said: Json, *ids: str) -> Json:
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
    return {"role": "assistant", "content": said} | ({"tool_calls": calls} if calls else {})


def tool(call_id: str, content: Json = "ok") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


ASK = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    "messages",
    [
        [ASK],
        [{"role": "system", "content": "x"}, ASK],
        [ASK, says(None, "a", "b"), tool("b"), tool("a")],
        [ASK, says("x", "a"), tool("a"), says("y", "a"), tool("a"), ASK],
        [ASK, says("x", "a"), tool("a", ""), ASK, ASK],
    ],
)
def test_openai_takes(messages: list[Json]) -> None:
    assert gpt(*messages) is None


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "Invalid 'messages': empty array"),
        (["hello"], "Invalid type for 'messages[0]': expected an object"),
        ([{"role": "model", "content": "x"}], "Invalid value: 'model'. Supported values are"),
        ([{"role": "user", "content": None}], "Invalid value for 'content': expected a string, got null."),
        ([ASK, says(None)], "Invalid value for 'content': expected a string, got null."),
        ([ASK, {**says("x"), "tool_calls": []}], "Invalid 'messages[1].tool_calls': empty array"),
        ([ASK, says(None, "a")], "must be followed by tool messages responding to each 'tool_call_id'"),
        ([ASK, says(None, "a", "b"), tool("a"), ASK], "did not have response messages: b"),
        ([ASK, says(None, "a"), ASK, tool("a")], "did not have response messages: a"),
        ([ASK, tool("a")], "messages with role 'tool' must be a response to a preceeding message"),
        ([ASK, says(None, "a"), tool("a"), tool("b")], "'tool_call_id' of 'b' not found in 'tool_calls'"),
        ([ASK, says(None, "a"), tool("a"), tool("a")], "Duplicate value for 'tool_call_id' of 'a' in message[3]"),
        ([ASK, says(None, "a", "a"), tool("a")], "Duplicate value for 'tool_call_id' of 'a' in message[1]"),
        ([ASK, says(None, ""), tool("")], "Missing required parameter: 'messages[1].tool_calls[0].id'"),
        ([ASK, says(None, "x" * 41), tool("x" * 41)], "string too long. Expected a string with maximum length 40"),
        ([ASK, {"role": "tool", "content": "x"}], "Missing required parameter: 'messages[1].tool_call_id'"),
    ],
)
def test_openai_refuses(messages: list[Json], said: str) -> None:
    assert said in (gpt(*messages) or "nothing was wrong")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": None}, "you must provide a model parameter"),
        ({"tools": []}, "Invalid 'tools': empty array"),
        ({"tools": ["f"]}, "Invalid type for 'tools[0]': expected an object"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "string does not match pattern"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "maximum length 64"),
        ({"tools": None, "tool_choice": "none"}, "'tool_choice' is only allowed when 'tools' are specified."),
        ({"tools": None, "parallel_tool_calls": False}, "'parallel_tool_calls' is only allowed when 'tools'"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "not found in 'tools' parameter"),
        ({"stream_options": {"include_usage": True}}, "only allowed when 'stream' is enabled"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "at the same time is not supported"),
        ({"stop": list("abcde")}, "Invalid 'stop': array too long"),
    ],
)
def test_openai_refuses_the_parameter(more: dict[str, Json], said: str) -> None:
    assert said in (gpt(ASK, **more) or "nothing was wrong")


def test_a_history_of_calls_needs_tools_at_some_who_speak_openais_wire() -> None:
    assert "need the 'tools=' param set" in (gpt(ASK, says(None, "a"), tool("a"), tools=None) or "")


MARK = {"cache_control": {"type": "ephemeral"}}


def prompt(*messages: Json, tools: Json = TOOLS, system: Json = "be kind") -> Json:
    return {"model": "m", "tools": tools, "system": system, "messages": list(messages)}


@pytest.mark.parametrize(
    "later",
    [
        prompt(HELLO),
        prompt(user({**text("hello"), **MARK}), assistant(text("x"))),
        prompt(user(text("hello"), text("a note"))),
        prompt(HELLO, tools=[*TOOLS, {"name": "g"}]),
    ],
)
def test_a_prompt_that_only_grows_keeps_the_cache(later: Json) -> None:
    assert check_growth(prompt(HELLO), later) is None


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (prompt(user(text("hallo"))), "messages: piece 0 differs from byte"),
        (prompt(user(text("a note"), text("hello"))), "messages: piece 0"),
        (prompt(), "is b'nothing'"),
        (prompt(HELLO, tools=[{"name": "e"}, *TOOLS]), "tools: piece 0"),
        (prompt(HELLO, system="be kind. It is noon"), "system: piece 0"),
        (prompt({"role": "assistant", "content": [text("hello")]}), "messages: piece 0"),
    ],
)
def test_a_prompt_that_changes_where_it_stood_loses_the_cache(later: Json, said: str) -> None:
    assert said in (check_growth(prompt(HELLO), later) or "nothing was lost")


def test_chat_completions_prompts_grow_by_messages() -> None:
    earlier = {"messages": [ASK, says(None, "a"), tool("a")]}
    assert check_growth(earlier, {"messages": [*earlier["messages"], ASK]}) is None
    assert "messages: piece 2" in (check_growth(earlier, {"messages": [ASK, says(None, "a"), tool("a", "no")]}) or "")


@pytest.mark.parametrize("body", [None, [], "x"])
def test_what_is_no_object_is_refused(body: Json) -> None:
    assert check_request("anthropic", body) is not None
    assert check_request("openai_chat", body) is not None
