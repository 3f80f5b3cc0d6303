"""The provider that needs no key is held to what real ones are (docs/testing.md, hazard 35)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import pytest
from tests.e2e.house import MODELS, House, Json, configured, playing, script, serving, unpaired

from legato import tool
from legato.core import events as e
from legato.core.blocks import TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn, fold
from legato.testing.upstream import AfterSeal, Call, Cut, End, ErrorEvent, Say, Script, Step, Think, Upstream

Provider: TypeAlias = Literal["script", "anthropic", "openai_chat"]
PROVIDERS = pytest.mark.parametrize("provider", get_args(Provider))


# One suite for all providers


class Played(NamedTuple):
    turn: Turn
    ran: list[str]
    sent: list[str]
    """Results as the next request has them; empty where there was none."""


class Fault(NamedTuple):
    """What happens to a response of four calls, for the wires and in the script's words."""

    steps: Sequence[Step]
    lines: Sequence[Mapping[str, Json]]
    ran: list[str]
    outcomes: list[str]
    commitment: str | None
    goes_on: bool


def calls(*names: str) -> list[Step]:
    return [Call("look", {"what": name}) for name in names]


def lines(*names: str) -> list[Mapping[str, Json]]:
    return [{"tool": "look", "input": {"what": name}} for name in names]


THREE = ["t0", "t1", "t2"]
FAULTS = {
    "none": Fault(
        [Say("I look."), *calls(*THREE, "t3")], [{"text": "I look."}, *lines(*THREE, "t3")],
        [*THREE, "t3"], ["ok"] * 4, "committed", goes_on=True,
    ),
    "max_tokens inside the 4th call": Fault(
        [Say("I look."), *calls(*THREE), Call("look", raw='{"what": "t', stop=False), End("length")],
        [{"text": "I look."}, *lines(*THREE), {"tool": "look", "raw": '{"what": "t'}, {"fail": "length"}],
        THREE, ["ok"] * 3, "committed", goes_on=True,
    ),
    "cut before the 4th": Fault(
        [Say("I look."), *calls(*THREE), Cut()], [{"text": "I look."}, *lines(*THREE), {"fail": "cut"}],
        THREE, ["ok"] * 3, "adopted", goes_on=True,
    ),
    "overloaded before the 4th": Fault(
        [Say("I look."), *calls(*THREE), ErrorEvent()], [{"text": "I look."}, *lines(*THREE), {"fail": "overloaded"}],
        THREE, ["ok"] * 3, "adopted", goes_on=True,
    ),
    "bad JSON in the 4th": Fault(
        [Say("I look."), *calls(*THREE), Call("look", raw='{"what": t3}')],
        [{"text": "I look."}, *lines(*THREE), {"tool": "look", "raw": '{"what": t3}'}],
        THREE, ["ok"] * 3 + ["error"], "committed", goes_on=True,
    ),
    "4 calls with one id": Fault(
        [Say("I look."), *(Call("look", {"what": name}, id="one") for name in [*THREE, "t3"])],
        [{"text": "I look."}, *({**line, "id": "one"} for line in lines(*THREE, "t3"))],
        [*THREE, "t3"], ["ok"] * 4, "committed", goes_on=True,
    ),
    "cut after text alone": Fault(
        [Say("I look "), Cut()], [{"text": "I look "}, {"fail": "cut"}], [], [], "adopted", goes_on=False,
    ),
}  # fmt: skip


class Stage:
    """A server where a fault can be played by any provider. ``look`` is its one tool."""

    def __init__(self, house: House, upstream: Upstream, ran: list[str]) -> None:
        self._house = house
        self._upstream = upstream
        self._ran = ran

    async def play(self, provider: Provider, fault: Fault) -> Played:
        self._ran.clear()
        house, upstream = self._house, self._upstream
        if provider == "script":
            ends: list[Json] = [] if "fail" in fault.lines[-1] else [{"end": "calls"}]
            first = await house.post(script(*fault.lines, *ends, {"text": "So it is."}), model="script/echo")
        else:
            upstream.enqueue(Script(fault.steps), Script([Say("So it is.")]))
            first = await house.post("Look", model=MODELS[provider])
        turn_id = first["assistant_turn"]["id"]
        turn = await house.folded(turn_id)
        upstream._answers.clear()
        view = await house.get(f"/v1/turns/{turn_id}/model_view") if len(turn.rounds) > 1 else {"results": []}
        for model in MODELS.values():  # whoever answered, any vendor takes what was said
            upstream.enqueue(Script([Say("Go on.")]))
            again = await house.folded(await house.ask("And?", chat_id=first["chat"]["id"], model=model))
            assert (again.status, upstream.refused) == ("complete", [])
            assert not unpaired(upstream.requests[-1].body)
            if turn.rounds[0].commitment == "orphaned":
                answers = [one for one in upstream.requests[-1].body["messages"] if one["role"] == "assistant"]
                assert "I look." not in str(answers)
        return Played(turn, sorted(self._ran), [one["text"] for one in view["results"]])


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    ran: list[str] = []

    @tool(effect="read")
    async def look(what: str) -> str:
        """Looks."""
        ran.append(what)
        return f"seen {what}"

    async with playing(folder, tools=(look,), providers__script__enabled=True) as (house, upstream):
        yield Stage(house, upstream, ran)


async def play(provider: Provider, fault: Fault, folder: Path) -> Played:
    async with stage(folder) as one:
        return await one.play(provider, fault)


@PROVIDERS
async def test_a_fault_has_the_same_consequences_whoever_serves(provider: Provider, tmp_path: Path) -> None:
    """Hazard 35."""
    async with stage(tmp_path) as one:
        for name, fault in FAULTS.items():
            check_fault(name, fault, await one.play(provider, fault))


def check_fault(name: str, fault: Fault, played: Played) -> None:
    turn, ran, sent = played
    results = [block for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert ran == fault.ran, name
    assert sorted(str(block.outcome) for block in results) == sorted(fault.outcomes), name
    assert len({block.call_id for block in results}) == len(results), name
    assert turn.rounds[0].commitment == fault.commitment, name
    said = [block.text for block in turn.blocks if isinstance(block, TextBlock)]
    assert said[1:] == (["So it is."] if fault.goes_on else []), name
    if fault.goes_on:
        assert (turn.status, turn.stop_reason) == ("complete", "end"), name
        assert sent[:3] == [f"seen {one}" for one in THREE], name
        assert len(sent) == len(fault.outcomes), name


@PROVIDERS
async def test_a_refused_response_is_shown_and_is_no_history(provider: Provider, tmp_path: Path) -> None:
    """Its calls are cancelled where they had not ended, and no further request is made for it."""
    refusal = Fault(
        [Say("I look."), *calls(*THREE), End("refusal")], [{"text": "I look."}, *lines(*THREE), {"fail": "refusal"}],
        [], [], None, goes_on=False,
    )  # fmt: skip
    turn, ran, sent = await play(provider, refusal, tmp_path)
    results = [block for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert (turn.status, turn.stop_reason, turn.rounds[0].commitment) == ("complete", "refusal", "orphaned")
    assert set(ran) <= set(THREE)
    assert len(results) == 3
    assert {block.outcome for block in results} <= {"ok", "cancelled"}
    assert len(turn.rounds) == 1
    assert sent == []


async def test_arguments_that_change_after_the_seal_give_an_error_and_one_run(tmp_path: Path) -> None:
    """What ran stays in the ledger; the model reads that it was wrong."""
    fault = Fault([*calls("t0"), AfterSeal(call=0, arguments='{"what":"else"}')], [], [], [], None, goes_on=True)
    turn, ran, sent = await play("openai_chat", fault, tmp_path)
    assert ran == ["t0"]
    assert len(sent) == 1
    assert "changed" in sent[0]
    assert turn.status == "complete"


@PROVIDERS
async def test_blocks_come_in_the_same_form_whoever_serves(provider: Provider, tmp_path: Path) -> None:
    fault = Fault(
        [Think("Let me see. Yes."), Say("One two  three\n\nfour. "), *calls("a")],
        [{"thinking": "Let me see. Yes."}, {"text": "One two  three\n\nfour. "}, *lines("a")],
        [], [], None, goes_on=True,
    )  # fmt: skip
    turn, _, _ = await play(provider, fault, tmp_path)
    thought, said, call, result, after = turn.blocks
    assert isinstance(thought, ThinkingBlock)
    assert isinstance(call, ToolUseBlock)
    assert isinstance(result, ToolResultBlock)
    assert isinstance(after, TextBlock)
    assert [thought.text, said.text, call.input, result.output] == [
        "Let me see. Yes.", "One two  three\n\nfour. ", {"what": "a"}, "seen a",
    ]  # fmt: skip
    assert [block.state for block in turn.blocks] == ["complete"] * 5
    assert (call.origin, call.tool_name, call.text.replace(" ", "")) == ("server", "look", '{"what":"a"}')
    assert result.call_id == call.call_id
    assert [record.stop_reason for record in turn.rounds] == ["calls", "end"]


# What the script alone can say


async def said_by(folder: Path, *steps: Mapping[str, Json]) -> list[e.Event]:
    async with serving(configured(folder)) as house:
        return await house.followed(await house.ask(script(*steps), model="script/echo"), each=True)


def deltas(events: list[e.Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, e.BlockDelta)]


async def test_a_delta_is_a_word_with_the_white_space_before_it(tmp_path: Path) -> None:
    events = await said_by(tmp_path, {"text": "One  two\nthree ", "repeat": 2})
    assert deltas(events) == ["One", "  two", "\nthree", " One", "  two", "\nthree", " "]
    assert len(fold(events).blocks) == 1


async def test_neighbours_of_one_kind_are_one_block_unless_new(tmp_path: Path) -> None:
    events = await said_by(
        tmp_path,
        {"text": "a"},
        {"text": "b"},
        {"text": "c", "new": True},
        {"thinking": "d", "signature": "s"},
        {"text": "e"},
    )
    blocks = fold(events).blocks
    assert [block.text for block in blocks] == ["ab", "c", "d", "e"]
    assert [getattr(block, "signature", None) for block in blocks if isinstance(block, ThinkingBlock)] == ["s"]


async def test_arguments_come_in_sixteens_and_steps_after_an_end_are_the_next_round(tmp_path: Path) -> None:
    raw = '{"section": "the-cave-where-the-dragon-sleeps"}'
    events = await said_by(
        tmp_path,
        {"tool": "doc_view", "raw": raw},
        {"end": "calls"},
        {"text": "Then."},
        {"tool": "roll_dice", "input": {}},
    )
    turn = fold(events)
    assert deltas(events)[:3] == [raw[:16], raw[16:32], raw[32:48]]
    assert [block.text for block in turn.blocks if isinstance(block, TextBlock)] == ["Then.", "done"]
    assert [record.stop_reason for record in turn.rounds] == ["calls", "calls", "end"]


async def test_a_bad_line_is_422_with_its_number_and_nothing_runs(tmp_path: Path) -> None:
    wrong = [
        (['{"text": "a"}', "", '{"txet": "b"}'], 3),
        (["no json"], 1),
        (['{"text": "a", "pace": -1}'], 1),
        (['{"text": "a"}', '{"tool": "x"}'], 2),
        (['{"fail": "loudly"}'], 1),
        (['{"text": "a", "wait": 1}'], 1),
        (["[1]"], 1),
    ]
    async with serving(configured(tmp_path)) as house:
        for lines_of, number in wrong:
            source = "```script\n" + "\n".join(lines_of) + "\n```"
            body = {"input": source, "model": "script/echo", "turn_id": "mine"}
            answer = await house.client.post("/v1/turns", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "script_invalid")
            assert f"line {number}:" in answer.json()["detail"]
        assert (await house.client.get("/v1/turns/mine")).status_code == 404
        assert (await house.get("/v1/chats"))["data"] == []


async def test_what_is_not_only_a_fenced_script_is_echoed(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        for words in (f"Look: {script({'text': 'a'})}", "```script2\n{}\n```"):
            turn = await house.folded(await house.ask(words, model="script/echo"))
            assert [block.text for block in turn.blocks] == [words]
        two = [{"type": "text", "text": script({"text": "a"})}, {"type": "text", "text": "b"}]
        turn = await house.folded((await house.post(blocks=two, model="script/echo"))["assistant_turn"]["id"])
        assert "```script" in turn.blocks[0].text


async def test_calls_of_a_script_obey_the_turns_tools_and_limits(tmp_path: Path) -> None:
    steps: list[Mapping[str, Json]] = [{"tool": "roll_dice", "input": {}}, {"end": "calls"}] * 4
    async with serving(configured(tmp_path)) as house:
        none = await house.folded(await house.ask(script(steps[0]), model="script/echo", tools=[]))
        few = await house.folded(await house.ask(script(*steps), model="script/echo", limits={"rounds": 2}))
    [refused] = [block for block in none.blocks if isinstance(block, ToolResultBlock)]
    assert getattr(refused.error, "code", None) == "unknown_tool"
    assert (few.stop_reason, len(few.rounds)) == ("limit_rounds", 2)


async def test_a_stall_waits_until_somebody_cancels(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        turn_id = await house.ask(script({"text": "a"}, {"fail": "stall"}), model="script/echo")
        await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta))
        await house.cancel(turn_id)
        turn = await house.folded(turn_id)
    assert (turn.status, [block.text for block in turn.blocks]) == ("cancelled", ["a"])


async def test_a_script_that_dies_at_once_is_asked_again_and_ends_in_an_error(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        faults = ("overloaded", "cut", "bad_json")
        turns = [await house.ask(script({"fail": fault}), model="script/echo") for fault in faults]
        for turn_id in turns:
            turn = await house.folded(turn_id)
            assert (turn.status, turn.blocks) == ("error", ())
            assert [record.attempt for record in turn.rounds] == [1, 2, 3]


async def test_without_a_key_the_script_answers_and_shows_what_there_is(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        models = [one["id"] for one in (await house.get("/v1/models"))["data"]]
        started = await house.post("Find the dragon", tools=[])
        turn_id = started["assistant_turn"]["id"]
        await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta))
        await house.cancel(turn_id)
    assert started["assistant_turn"]["model"] == "script/demo"
    assert {"script/demo", "script/echo"} <= set(models)


async def test_with_a_key_the_script_is_there_only_where_it_is_enabled(tmp_path: Path) -> None:
    key = {"ANTHROPIC_API_KEY": "k"}
    async with serving(configured(tmp_path, environ=key)) as house:
        answer = await house.client.post("/v1/turns", json={"input": "x", "model": "script/echo"})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_model")
        assert not any("script" in one["id"] for one in (await house.get("/v1/models"))["data"])
    toml = "[providers.script]\nenabled = true\n"
    async with serving(configured(tmp_path, environ=key, toml=toml)) as house:
        turn = await house.folded(await house.ask("x", model="script/echo"))
        missing = await house.client.post("/v1/turns", json={"input": "x", "model": "openai/gpt-5"})
    assert turn.status == "complete"
    assert (missing.status_code, missing.json()["code"]) == (422, "provider_not_configured")
