"""Each script is what the vendors' own clients parse back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import msgspec
import openai
import pytest
from anthropic.types import Message, MessageParam
from openai.types.chat import ChatCompletionChunk

from legato.core.blocks import Json
from legato.testing import anthropic_wire, openai_wire
from legato.testing.names import signature_of
from legato.testing.timeline import Act, Frame, Pause
from legato.testing.upstream import (
    AfterSeal,
    Call,
    ChatStyle,
    End,
    ErrorEvent,
    Failure,
    Figures,
    Raw,
    Say,
    Script,
    Think,
    Upstream,
    Wait,
)

pytestmark = pytest.mark.anyio

SCRIPT = Script(
    [
        Think("Let me think. "),
        Say("I will look in two places.\n"),
        Call("get_weather", {"city": "Tromsø", "days": 3}),
        Call("no_arguments"),
        Say("Meanwhile …"),
    ],
    usage=Figures(input_tokens=10, cache_read_tokens=200, cache_write_tokens=30, output_tokens=44, reasoning_tokens=4),
)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream.open() as upstream:
        yield upstream


@pytest.fixture
async def claude(upstream: Upstream) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=upstream.base_url("anthropic"), max_retries=0, timeout=10
    ) as client:
        yield client


@pytest.fixture
async def gpt(upstream: Upstream) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key="k", base_url=upstream.base_url("openai_chat"), max_retries=0, timeout=10
    ) as client:
        yield client


HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]


async def claude_says(claude: anthropic.AsyncAnthropic) -> Message:
    async with claude.messages.stream(model="claude-x", max_tokens=100, messages=HELLO) as stream:
        return await stream.get_final_message()


async def gpt_says(gpt: openai.AsyncOpenAI) -> list[ChatCompletionChunk]:
    stream = await gpt.chat.completions.create(
        model="gpt-x",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    return [chunk async for chunk in stream]


def told(chunks: list[ChatCompletionChunk], field: str) -> str:
    """What the deltas of a field add up to."""
    return "".join(getattr(chunk.choices[0].delta, field, None) or "" for chunk in chunks if chunk.choices)


def calls_of(chunks: list[ChatCompletionChunk]) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of each call, put together by index as clients do."""
    calls: dict[int, tuple[str, str, str]] = {}
    for chunk in chunks:
        for piece in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            call_id, name, arguments = calls.get(piece.index, ("", "", ""))
            function = piece.function
            assert function is not None
            calls[piece.index] = (
                call_id or piece.id or "",
                name + (function.name or ""),
                arguments + (function.arguments or ""),
            )
    return list(calls.values())


async def test_a_script_is_what_anthropics_client_makes_of_it(
    upstream: Upstream, claude: anthropic.AsyncAnthropic
) -> None:
    upstream.enqueue(SCRIPT)
    message = await claude_says(claude)
    blocks = [block.model_dump(exclude_none=True) for block in message.content]
    ids = [block.pop("id") for block in blocks if block["type"] == "tool_use"]
    assert blocks == [
        {"type": "thinking", "thinking": "Let me think. ", "signature": signature_of("Let me think. ")},
        {"type": "text", "text": "I will look in two places.\n"},
        {"type": "tool_use", "name": "get_weather", "input": {"city": "Tromsø", "days": 3}},
        {"type": "tool_use", "name": "no_arguments", "input": {}},
        {"type": "text", "text": "Meanwhile …"},
    ]
    assert len(set(ids)) == 2
    assert all(one.startswith("toolu_01") for one in ids)
    assert (message.stop_reason, message.model) == ("tool_use", "claude-x")
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (10, 200, 30)
    assert usage.output_tokens == 44


async def test_a_script_is_what_openais_client_makes_of_it(upstream: Upstream, gpt: openai.AsyncOpenAI) -> None:
    upstream.enqueue(SCRIPT)
    chunks = await gpt_says(gpt)
    assert told(chunks, "reasoning_content") == "Let me think. "
    assert told(chunks, "content") == "I will look in two places.\nMeanwhile …"
    calls = calls_of(chunks)
    assert [call[1:] for call in calls] == [
        ("get_weather", '{"city":"Tromsø","days":3}'),
        ("no_arguments", "{}"),
    ]
    assert len({call[0] for call in calls}) == 2
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (240, 44, 284)
    assert usage.prompt_tokens_details.cached_tokens == 200
    assert len({chunk.id for chunk in chunks}) == 1


async def test_usage_is_said_to_those_who_ask(upstream: Upstream, gpt: openai.AsyncOpenAI) -> None:
    upstream.enqueue(Script([Say("hello")]))
    stream = await gpt.chat.completions.create(
        model="gpt-x", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    assert [chunk.usage async for chunk in stream if chunk.usage] == []


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("end", "end_turn"),
        ("calls", "tool_use"),
        ("pause", "pause_turn"),
        ("length", "max_tokens"),
        ("refusal", "refusal"),
    ],
)
async def test_each_end_has_anthropics_word(
    upstream: Upstream, claude: anthropic.AsyncAnthropic, reason: str, word: str
) -> None:
    upstream.enqueue(Script([Say("x"), msgspec.convert({"reason": reason}, End)]))
    assert (await claude_says(claude)).stop_reason == word


@pytest.mark.parametrize(
    ("reason", "word"),
    [("end", "stop"), ("calls", "tool_calls"), ("length", "length"), ("refusal", "content_filter")],
)
async def test_each_end_has_openais_word(upstream: Upstream, gpt: openai.AsyncOpenAI, reason: str, word: str) -> None:
    upstream.enqueue(Script([Say("x"), msgspec.convert({"reason": reason}, End)]))
    chunks = await gpt_says(gpt)
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [word]


async def test_redacted_thinking_comes_as_data(upstream: Upstream, claude: anthropic.AsyncAnthropic) -> None:
    upstream.enqueue(Script([Think("secret", redacted=True), Say("x")]))
    block = (await claude_says(claude)).content[0]
    assert block.type == "redacted_thinking"
    assert "secret" not in block.data


async def test_text_that_a_block_starts_with_counts(
    upstream: Upstream, claude: anthropic.AsyncAnthropic, gpt: openai.AsyncOpenAI
) -> None:
    upstream.enqueue(*[Script([Say(" world", first="hello")])] * 2)
    block = (await claude_says(claude)).content[0]
    assert block.type == "text"
    assert block.text == "hello world"
    assert told(await gpt_says(gpt), "content") == "hello world"


async def test_input_may_come_with_the_start_of_the_block(upstream: Upstream, claude: anthropic.AsyncAnthropic) -> None:
    upstream.enqueue(Script([Call("f", {"a": 1}, early_input=True)]))
    block = (await claude_says(claude)).content[0]
    assert block.type == "tool_use"
    assert block.input == {"a": 1}


async def test_an_error_event_raises_in_the_vendors_clients(
    upstream: Upstream, claude: anthropic.AsyncAnthropic, gpt: openai.AsyncOpenAI
) -> None:
    upstream.enqueue(*[Script([Say("x"), ErrorEvent()])] * 2)
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        await claude_says(claude)
    with pytest.raises(openai.APIError, match="overloaded"):
        await gpt_says(gpt)


@pytest.mark.parametrize(
    ("kind", "claude_raises", "gpt_raises"),
    [
        (Failure("rate_limit"), anthropic.RateLimitError, openai.RateLimitError),
        (Failure("auth"), anthropic.AuthenticationError, openai.AuthenticationError),
        (Failure("not_found"), anthropic.NotFoundError, openai.NotFoundError),
        (Failure("context_overflow"), anthropic.BadRequestError, openai.BadRequestError),
        (Failure("overloaded"), anthropic.InternalServerError, openai.InternalServerError),
    ],
)
async def test_each_failure_is_the_exception_of_the_vendors_client(
    upstream: Upstream,
    claude: anthropic.AsyncAnthropic,
    gpt: openai.AsyncOpenAI,
    kind: Failure,
    claude_raises: type[anthropic.APIStatusError],
    gpt_raises: type[openai.APIStatusError],
) -> None:
    upstream.enqueue(kind, kind)
    with pytest.raises(claude_raises) as claude_caught:
        await claude_says(claude)
    assert claude_caught.value.request_id is not None
    with pytest.raises(gpt_raises) as gpt_caught:
        await gpt_says(gpt)
    assert gpt_caught.value.request_id is not None


STYLES = {
    "reasoning": ["reasoning", "reasoning_content"],
    "names": ["each", "late", "pieces"],
    "ids": ["each", "late"],
    "calls": ["whole"],
    "first_delta": ["null"],
    "usage": ["finish", "never"],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in STYLES.items() for value in values])
async def test_however_a_vendor_bends_the_wire_the_script_is_told_whole(
    upstream: Upstream, gpt: openai.AsyncOpenAI, field: str, value: str
) -> None:
    style = msgspec.convert({field: value}, ChatStyle)
    upstream.enqueue(Script([Think("hm hm"), Say("hello"), Call("get_weather", {"city": "Oslo"})], chat_style=style))
    chunks = await gpt_says(gpt)
    assert told(chunks, value if field == "reasoning" else "reasoning_content") == "hm hm"
    assert told(chunks, "content") == "hello"
    call_id, name, arguments = calls_of(chunks)[0]
    assert call_id.startswith("call_")
    assert name.replace("get_weather", "", 1) in {"", "get_weather"}
    assert arguments == '{"city":"Oslo"}'


def frames(acts: list[Act]) -> list[bytes]:
    return [act.data for act in acts if isinstance(act, Frame)]


def chat(*steps: Call | Say | Think | AfterSeal, style: ChatStyle) -> list[Json]:
    script = Script(steps, chat_style=style)
    written = frames(list(openai_wire.render(script, number=1, body={"model": "m"})))
    return [msgspec.json.decode(frame.removeprefix(b"data: ")) for frame in b"".join(written).split(b"\n\n")[:-2]]


def pieces(chunks: list[Json]) -> list[Json]:
    return [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]


@pytest.mark.parametrize(("style", "seen"), [("missing", ["-"]), ("null", [None]), ("zero", [0]), ("counted", [0, 1])])
def test_an_index_may_be_wrong_or_absent(style: str, seen: list[Json]) -> None:
    chunks = chat(Call("a"), Call("b"), style=msgspec.convert({"index": style}, ChatStyle))
    assert list(dict.fromkeys(piece.get("index", "-") for piece in pieces(chunks))) == seen


def test_cumulative_arguments_repeat_what_came() -> None:
    chunks = chat(Call("a", pieces=['{"x"', ":1", "}"]), style=ChatStyle(calls="cumulative"))
    assert [piece["function"]["arguments"] for piece in pieces(chunks)] == ["", '{"x"', '{"x":1', '{"x":1}']


def test_thinking_may_stand_in_tags_in_the_text() -> None:
    chunks = chat(Think("a b"), Say("c"), style=ChatStyle(reasoning="think_tag"))
    said = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert said == ["", "<think>", "a", " b", "</think>", "c", None]


def test_a_call_may_be_changed_after_its_arguments_were_whole() -> None:
    chunks = chat(Call("a", {"x": 1}), AfterSeal(call=0, arguments=" garbage", name="b"), style=ChatStyle())
    assert pieces(chunks)[-1] == {"index": 0, "function": {"name": "b", "arguments": " garbage"}}


def test_ids_are_sent_as_they_were_given_empty_and_repeated_ones_too() -> None:
    chunks = chat(Call("a", id=""), Call("b", id="x"), Call("c", id="x"), style=ChatStyle())
    assert [piece["id"] for piece in pieces(chunks) if "id" in piece] == ["", "x", "x"]


def claude_frames(*steps: Call | Say | Think | AfterSeal | Raw) -> list[bytes]:
    return frames(list(anthropic_wire.render(Script(steps), number=1, body={"model": "m"})))


def test_thinking_that_was_cut_short_has_no_signature() -> None:
    assert not any(b"signature_delta" in frame for frame in claude_frames(Think("hm", signed=False)))


def test_a_call_may_be_left_open() -> None:
    written = b"".join(claude_frames(Call("a", raw='{"x": ', stop=False), Call("b")))
    assert b'"index":1,"content_block"' in written
    assert written.count(b'"type":"content_block_stop"') == 1


def test_a_delta_may_come_after_the_stop() -> None:
    *_, after, _, _ = claude_frames(Call("a", {"x": 1}), AfterSeal(call=0, arguments="oops"))
    assert b'"index":0,"delta":{"type":"input_json_delta","partial_json":"oops"}' in after


def test_each_wire_sends_its_own_raw_bytes() -> None:
    assert b"only here" in claude_frames(Raw(anthropic=b"only here"))
    assert not any(b"only" in frame for frame in claude_frames(Raw(openai_chat=b"only there")))


def test_arguments_take_the_time_they_are_given_and_seal_at_its_end() -> None:
    script = Script([Wait(0.5), Call("f", {"city": "Oslo, in the north"}, over=0.4, piece=4)])
    for wire in (anthropic_wire, openai_wire):
        acts = list(wire.render(script, number=1, body={"model": "m"}))
        waited = [act.seconds for act in acts if isinstance(act, Pause)]
        assert sum(waited) == pytest.approx(0.9)
        last_wait = max(at for at, act in enumerate(acts) if isinstance(act, Pause))
        assert isinstance(acts[last_wait + 1], Frame)


def test_times_that_are_not_one_for_each_delta_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 deltas, but 1 times"):
        list(anthropic_wire.render(Script([Say("one two", at=[1.0])]), number=1, body={}))
