"""The script provider speaks as real ones do, and plays by docs/testing.md."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.asks import ask, assistant, call, result, user
from tests.providers.heard import Heard
from tests.providers.upstream import collected

from legato.core.ask import Ask, Params, ToolSpec
from legato.core.blocks import Block, ImageBlock, TextBlock
from legato.core.errors import InvalidRequest
from legato.core.inputs import BlockClosed, BlockOpened, Delta, ProviderInput
from legato.providers.script import Call, parse, rounds, script_in
from legato.providers.script_demo import demo
from legato.providers.script_provider import ScriptProvider, _played


def text_block(text: str) -> TextBlock:
    return TextBlock(index=0, round=0, state="complete", text=text)


def fenced(*steps: object) -> str:
    return "```script\n" + "\n".join(one if isinstance(one, str) else json.dumps(one) for one in steps) + "\n```"


def playing(*steps: object, round: int = 1, model: str = "demo") -> Ask:
    made = ask(user(fenced(*steps)), model=model, round=round)
    return Ask(
        model=model,
        system=None,
        tools=(),
        messages=made.messages,
        params=Params(),
        round=round,
        said=(text_block(fenced(*steps)),),
    )


async def said_by(asked: Ask, *, idle: float = 0.05) -> list[ProviderInput]:
    return await collected(ScriptProvider(idle_timeout=idle), asked)


async def heard_from(asked: Ask) -> Heard:
    return Heard(await said_by(asked))


@pytest.mark.anyio
async def test_each_step_is_heard_as_from_a_real_provider() -> None:
    heard = await heard_from(
        playing(
            {"thinking": "Let me see", "signature": "s1"},
            {"text": "I will look."},
            {"tool": "get", "input": {"city": "Oslo"}, "id": "toolu_1"},
            {"end": "calls"},
        )
    )
    thinking, text, called = heard.blocks
    assert (thinking.kind, thinking.text) == ("thinking", "Let me see")
    assert thinking.closed is not None
    assert thinking.closed.signature == "s1"
    assert thinking.kept("script") == {"signature": "s1"}
    assert (text.kind, text.text) == ("text", "I will look.")
    assert (called.opened.tool_name, json.loads(called.text)) == ("get", {"city": "Oslo"})
    assert called.kept("script") == {"id": "toolu_1"}
    assert (heard.ended.stop_reason, heard.ended.provider_reason) == ("calls", "calls")
    assert heard.usage is not None
    assert heard.usage.source == "estimated"
    assert heard.usage.input_tokens
    assert heard.usage.output_tokens


@pytest.mark.anyio
async def test_a_delta_is_a_word_with_the_white_space_before_it() -> None:
    said = await said_by(playing({"text": "on and\n on "}, {"tool": "get", "raw": "x" * 40}))
    assert [one.text for one in said if isinstance(one, Delta)] == [
        "on",
        " and",
        "\n on",
        " ",
        "x" * 16,
        "x" * 16,
        "x" * 8,
    ]


@pytest.mark.anyio
async def test_repeat_says_the_text_so_often_in_one_block() -> None:
    heard = await heard_from(playing({"text": "on and on ", "repeat": 200}))
    assert [block.text for block in heard.blocks] == ["on and on " * 200]


@pytest.mark.anyio
async def test_neighbours_of_one_kind_are_one_block_unless_new() -> None:
    steps = ({"text": "a"}, {"wait": 0}, {"text": "b"}, {"text": "c", "new": True}, {"thinking": "d"}, {"text": "e"})
    heard = await heard_from(playing(*steps))
    assert [(block.kind, block.text) for block in heard.blocks] == [
        ("text", "ab"),
        ("text", "c"),
        ("thinking", "d"),
        ("text", "e"),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("steps", "reasons"),
    [
        ([{"text": "a"}], ["end", "end"]),
        ([{"tool": "get", "input": {}}], ["calls", "end"]),
        ([{"tool": "get", "input": {}}, {"end": "calls"}, {"text": "b"}], ["calls", "end", "end"]),
        ([{"text": "a"}, {"end": "pause"}, {"end": "length"}, {"text": "c"}], ["pause", "length", "end"]),
    ],
)
async def test_steps_after_an_end_are_the_next_round_and_past_the_last_it_says_done(
    steps: list[object], reasons: list[str]
) -> None:
    heard = [await heard_from(playing(*steps, round=number)) for number in range(1, len(reasons) + 1)]
    assert [one.ended.stop_reason for one in heard] == reasons
    past = await heard_from(playing(*steps, round=9))
    assert [block.text for block in past.blocks] == ["done"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("overloaded", "provider_overloaded"),
        ("cut", "provider_cut"),
        ("stall", "provider_timeout"),
        ("bad_json", "provider_garbled"),
    ],
)
async def test_a_fault_breaks_the_stream_there_and_the_next_round_goes_on(fault: str, code: str) -> None:
    steps = ({"tool": "get", "input": {"a": 1}}, {"text": "so"}, {"fail": fault}, {"text": "again"})
    heard = await heard_from(playing(*steps))
    assert (heard.failed.error.code, heard.failed.error.retryable) == (code, True)
    assert [block.closed is not None for block in heard.blocks] == [True, False]
    assert (await heard_from(playing(*steps, round=2))).text_of("text") == "again"


@pytest.mark.anyio
async def test_length_leaves_the_call_open_that_it_cuts_and_refusal_ends_the_response() -> None:
    cut = await heard_from(playing({"tool": "a", "input": {}}, {"tool": "b", "raw": '{"x": '}, {"fail": "length"}))
    assert cut.ended.stop_reason == "length"
    assert [block.closed is not None for block in cut.blocks] == [True, False]
    refused = await heard_from(playing({"text": "I will not"}, {"fail": "refusal"}))
    assert refused.ended.stop_reason == "refusal"
    assert refused.blocks[0].closed is not None


@pytest.mark.anyio
async def test_bad_json_of_a_call_is_sent_as_it_is_and_the_call_is_closed() -> None:
    heard = await heard_from(playing({"tool": "get", "raw": '{"a": nonsense'}, {"text": "so"}))
    assert heard.blocks[0].text == '{"a": nonsense'
    assert heard.blocks[0].closed is not None


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("nonsense", "JSON"),
        ("[]", "an object"),
        ('{"txt": "a"}', "did you mean 'text'"),
        ('{"text": 1}', "a string"),
        ('{"text": "a", "pase": 1}', "did you mean 'pace'"),
        ('{"text": "a", "thinking": "b"}', "one of"),
        ('{"text": "a", "repeat": 0}', "repeat"),
        ('{"text": "a", "repeat": 1.5}', "repeat"),
        ('{"text": "abcdefgh", "repeat": 100000000}', "limit is"),
        ('{"text": "a", "pace": -1}', "pace"),
        ('{"text": "a", "new": 1}', "true or false"),
        ('{"tool": "get"}', "either input or raw"),
        ('{"tool": "get", "input": {}, "raw": ""}', "either input or raw"),
        ('{"tool": "get", "input": []}', "an object"),
        ('{"tool": "", "input": {}}', "a name"),
        ('{"wait": "long"}', "a number"),
        ('{"wait": 1e9}', "3600"),
        ('{"end": "finished"}', "one of"),
        ('{"fail": "badly"}', "one of"),
        ("{}", "nothing"),
        ("[" * 100_000, "line 3"),
    ],
)
def test_a_bad_line_is_refused_with_its_number_before_anything_runs(line: str, word: str) -> None:
    source = fenced({"text": "a"}, "", line, {"text": "b"})
    with pytest.raises(InvalidRequest) as refused:
        ScriptProvider().admit("demo", [text_block(source)])
    assert refused.value.code == "script_invalid"
    assert refused.value.problems[0].path == "/blocks/0/text"
    assert "line 3" in refused.value.message
    assert word in refused.value.message


@pytest.mark.parametrize(
    "said",
    [
        [text_block("hello")],
        [text_block("```script\n{}\n``` and more")],
        [text_block("see: ```script\n{}\n```")],
        [text_block("```python\n{}\n```")],
        [text_block(fenced({"text": "a"})), text_block("and this")],
        [ImageBlock(index=0, round=0, state="complete")],
        [],
    ],
)
def test_what_is_not_one_fenced_block_alone_is_no_script(said: list[Block]) -> None:
    assert script_in(said) is None
    ScriptProvider().admit("demo", said)


def test_the_fence_may_have_white_space_around_it() -> None:
    assert script_in([text_block('\n```script  \r\n{"text": "a"}\r\n```\n\n')]) == '{"text": "a"}'
    assert script_in([text_block("```script\n```")]) == ""


def test_models_are_demo_and_echo() -> None:
    provider = ScriptProvider()
    assert [one.id for one in provider.models()] == ["demo", "echo"]
    assert provider.model("nobody") is None
    asked = ask(user("go"), model="echo")
    assert provider.fit(asked) == (asked, ())


@pytest.mark.anyio
async def test_echo_repeats() -> None:
    said = Ask(
        model="echo",
        system=None,
        tools=(),
        messages=(user("Find the dragon"),),
        params=Params(),
        round=1,
        said=(text_block("Find the  dragon\n"),),
    )
    assert (await heard_from(said)).text_of("text") == "Find the  dragon\n"


# ---- time


def test_each_paced_delta_waits_its_share_and_no_wait_is_lost() -> None:
    asked = playing()
    steps = parse('{"wait": 2}\n{"text": "a b", "pace": 4}\n{"wait": 1}\n{"text": " c", "pace": 2}\n{"wait": 3}')
    played = list(_played(steps, asked, stalled=0))
    assert [delay for delay, said in played if isinstance(said, Delta)] == [0, 0.25, 1.5]
    assert [delay for delay, said in played if isinstance(said, BlockOpened)] == [2.25]
    assert [delay for delay, said in played if isinstance(said, BlockClosed)] == [3]
    assert sum(delay for delay, _ in played) == 2 + 2 / 4 + 1 + 1 / 2 + 3


@pytest.mark.anyio
async def test_a_reader_that_was_late_gets_what_was_due_in_one_piece() -> None:
    sizes: list[int] = []

    def hold_up(batch: Sequence[ProviderInput]) -> None:
        if not sizes:
            until = anyio.current_time() + 0.2
            while anyio.current_time() < until:
                pass  # the loop is held, as a long step of somebody else would hold it
        sizes.append(len(batch))

    await ScriptProvider().stream(playing({"text": "a " * 50, "pace": 1_000}), hold_up)
    assert len(sizes) == 2
    assert sum(sizes) == 1 + 51 + 3


@pytest.mark.anyio
async def test_a_long_text_at_once_comes_in_bounded_batches() -> None:
    sizes: list[int] = []
    await ScriptProvider().stream(playing({"text": "a ", "repeat": 5_000}), lambda batch: sizes.append(len(batch)))
    assert max(sizes) == 256
    assert sum(sizes) == 5_000 + 1 + 1 + 3


@pytest.mark.anyio
async def test_a_stalled_script_can_be_cancelled() -> None:
    said: list[ProviderInput] = []
    with anyio.move_on_after(0.05) as scope:
        await ScriptProvider(idle_timeout=1_000).stream(playing({"text": "a"}, {"fail": "stall"}), said.extend)
    assert scope.cancelled_caught
    assert isinstance(said[0], BlockOpened)


# ---- properties


steps_of = st.lists(
    st.one_of(
        st.builds(lambda text, new: {"text": text, "new": new}, st.text("ab \n", max_size=8), st.booleans()),
        st.builds(lambda text: {"thinking": text, "signature": "s"}, st.text("ab \n", max_size=8)),
        st.builds(lambda n: {"tool": "get", "input": {"n": n}}, st.integers(0, 9)),
        st.builds(lambda raw: {"tool": "get", "raw": raw}, st.text('{}"a', max_size=20)),
        st.just({"wait": 0}),
        st.builds(lambda reason: {"end": reason}, st.sampled_from(["end", "calls", "pause", "length", "refusal"])),
        st.builds(
            lambda fault: {"fail": fault}, st.sampled_from(["overloaded", "cut", "refusal", "length", "bad_json"])
        ),
    ),
    max_size=10,
)


@settings(max_examples=80, deadline=None)
@given(steps=steps_of)
def test_any_script_is_heard_as_a_provider_may_be(steps: list[object]) -> None:
    """``Heard`` fails on a delta outside of a block, on a block closed twice, on anything after the end."""
    source = "\n".join(map(json.dumps, steps))
    count = len(rounds(parse(source)))

    async def every_round() -> list[Heard]:
        return [await heard_from(playing(*steps, round=number)) for number in range(1, count + 2)]

    heard = anyio.run(every_round)
    assert all(one.last is not None for one in heard)
    said = "".join(one.text_of("text") for one in heard[:count])
    assert said == "".join(step["text"] for step in steps if isinstance(step, dict) and "text" in step)


# ---- the demonstration


SEARCH = ToolSpec(
    "doc_search",
    "Search.",
    {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "minimum": 3},
            "deep": {"type": "boolean"},
        },
        "required": ["query", "limit"],
    },
)
WEATHER = ToolSpec(
    "get_weather", "Weather.", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)
DELETE = ToolSpec("delete_everything", "Never.", {"type": "object"})


def shown(*tools: ToolSpec, params: Params | None = None) -> Ask:
    return Ask(
        model="demo",
        system=None,
        tools=tools,
        messages=(user("Find the dragon"),),
        params=params or Params(),
        round=1,
        said=(text_block("Find the dragon"),),
    )


async def demonstrated(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> Heard:
    monkeypatch.setattr("legato.providers.script_provider._apart", lambda _: 0.0)
    return await heard_from(asked)


@pytest.mark.anyio
async def test_the_demo_without_tools_thinks_and_talks_of_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = await demonstrated(shown(DELETE), monkeypatch)
    assert {block.kind for block in heard.blocks} == {"thinking", "text"}
    assert "about the dragon" in heard.text_of("text")
    assert len(heard.text_of("text").split()) > 200
    assert heard.ended.stop_reason == "end"


@pytest.mark.anyio
async def test_the_demo_calls_the_tools_that_look_with_arguments_that_fit_and_talks_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = await demonstrated(shown(DELETE, SEARCH, WEATHER), monkeypatch)
    calls = [(str(block.opened.tool_name), json.loads(block.text)) for block in heard.of("tool_use")]
    assert calls == [("doc_search", {"query": "dragon", "limit": 3}), ("get_weather", {"city": "Oslo"})]
    assert heard.blocks[-1].kind == "text"
    assert heard.ended.stop_reason == "calls"


@pytest.mark.anyio
async def test_the_demo_does_not_call_what_it_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = await demonstrated(shown(SEARCH, params=Params(tool_choice="none")), monkeypatch)
    assert heard.of("tool_use") == []


@pytest.mark.anyio
async def test_the_demo_says_what_the_tools_answered_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = (
        result("c1", "a cave in the north", "doc_search"),
        result("c2", "no such city", "get_weather", is_error=True),
    )
    messages = (
        user("Find the dragon"),
        assistant(call("c1", "doc_search"), call("c2", "get_weather")),
        user(*answers),
    )
    second = Ask(
        model="demo", system=None, tools=(SEARCH, WEATHER), messages=messages, params=Params(), round=2, said=()
    )
    heard = await demonstrated(second, monkeypatch)
    assert "a cave in the north" in heard.text_of("text")
    assert "failed: no such city" in heard.text_of("text")
    assert heard.ended.stop_reason == "calls"
    third = Ask(
        model="demo", system=None, tools=(SEARCH, WEATHER), messages=messages, params=Params(), round=3, said=()
    )
    assert (await demonstrated(third, monkeypatch)).ended.stop_reason == "end"


def test_no_two_calls_of_the_demo_are_the_same() -> None:
    calls = [(step.name, step.arguments) for step in demo(shown(SEARCH)) if isinstance(step, Call)]
    assert len(calls) == 2
    assert all(one != other for one, other in itertools.combinations(calls, 2))
