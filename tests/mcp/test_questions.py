"""What a server asks of a person: over an open connection before 2026, by a call that is sent again since."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from tests.mcp.house import House, hosting, made_with_sdk, over_http, raw, until

from legato.core.blocks import CallError, Json
from legato.core.inputs import ToolNeedsInput
from legato.core.records import Answer, Resumed
from legato.runtime.calls.toolbox import CancelFlag

pytestmark = pytest.mark.anyio


async def _needs(house: House, resumed: Resumed | None = None) -> ToolNeedsInput:
    end = await house.end("sdk__order", {"pizza": "margherita"}, resumed=resumed)
    assert isinstance(end, ToolNeedsInput), end
    return end


@pytest.mark.slow
@pytest.mark.parametrize("http", [False, True])
async def test_what_a_server_wants_is_asked_one_by_one_and_sent_with_its_state(tmp_path: Path, http: bool) -> None:
    if http:
        async with over_http(tmp_path) as over, hosting(over.server()) as house:
            await _order(house)
    else:
        async with hosting(made_with_sdk(tmp_path)) as house:
            await _order(house)


async def _order(house: House) -> None:
    first = await _needs(house)
    assert first.message == "What size?"
    assert first.input_schema == {"type": "object", "properties": {"size": {"type": "integer"}}}
    size = Answer(call_id="call", decision="approve", input={"size": 30})
    # The state is JSON, and is all that a later process has.
    second = await _needs(house, Resumed(state=json.loads(json.dumps(first.state)), answer=size))
    assert second.message == "Sure?"
    sure = Answer(call_id="call", decision="deny")
    end = await house.run("sdk__order", resumed=Resumed(state=second.state, answer=sure), pizza="margherita")
    assert end.outcome == "ok", end.error
    text = end.output["content"][0]["text"]
    assert text == '{"pizza": "margherita"} accept {\'size\': 30} decline'


@pytest.mark.slow
async def test_a_state_that_is_none_of_ours_ends_the_call_in_a_sentence(tmp_path: Path) -> None:
    async with hosting(made_with_sdk(tmp_path)) as house:
        answer = Answer(call_id="call", decision="approve")
        states: list[Json] = [None, {"requests": 5}, {"requests": {}}]
        for state in states:
            end = await house.run("sdk__order", resumed=Resumed(state=state, answer=answer), pizza="x")
            assert isinstance(end.error, CallError)
            assert end.error.message.startswith("this call cannot go on: ")


class Asked:
    """A person, who says ``answer`` once told to."""

    def __init__(self, answer: Answer) -> None:
        self.questions: list[tuple[str, dict[str, Json] | None]] = []
        self._answer = answer
        self.speaks = anyio.Event()
        self.left = False

    async def __call__(self, message: str, input_schema: dict[str, Json] | None) -> Answer:
        self.questions.append((message, input_schema))
        try:
            await self.speaks.wait()
        except BaseException:
            self.left = True
            raise
        return self._answer


async def test_a_question_over_http_is_asked_of_the_call_it_belongs_to(tmp_path: Path) -> None:
    one = Asked(Answer(call_id="call", decision="approve", input={"size": 1}))
    other = Asked(Answer(call_id="call", decision="deny"))
    async with over_http(tmp_path, old=True) as over, hosting(over.server()) as house:
        outputs: dict[str, str] = {}

        async def order(turn_id: str, ask: Asked) -> None:
            end = await house.run("sdk__order", turn_id=turn_id, ask=ask, pizza="x")
            outputs[turn_id] = end.output["content"][0]["text"]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(order, "one", one)
            tasks.start_soon(order, "other", other)
            await until(lambda: bool(one.questions and other.questions))
            other.speaks.set()
            one.speaks.set()
    assert one.questions[0][0] == "What size?"
    assert outputs == {"one": "accept 1", "other": "decline"}


async def test_a_question_over_stdio_is_asked_where_the_calls_of_one_turn_run(tmp_path: Path) -> None:
    ask = Asked(Answer(call_id="call", decision="approve", input={"size": 30}))
    ask.speaks.set()
    async with hosting(raw("normal", tmp_path)) as house:
        end = await house.run("raw__ask", ask=ask)
    assert ask.questions == [("Size?", {"type": "object", "properties": {"size": {"type": "integer"}}})]
    assert json.loads(end.output) == {"action": "accept", "content": {"size": 30}}


async def test_a_question_that_may_be_of_another_turn_is_asked_of_nobody(tmp_path: Path) -> None:
    ask = Asked(Answer(call_id="call", decision="approve"))
    flag = CancelFlag()
    async with hosting(raw("normal", tmp_path)) as house, anyio.create_task_group() as tasks:

        async def other() -> None:
            await house.run("raw__silent", turn_id="other", flag=flag)

        tasks.start_soon(other)
        await until(lambda: "silent" in (tmp_path / "heard").read_text())
        end = await house.run("raw__ask", ask=ask)
        flag.cancel()
    assert ask.questions == []
    assert "several calls run" in json.loads(end.output)["message"]


async def test_where_nobody_can_be_asked_the_server_is_told_so(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path)) as house:
        assert "nobody can be asked here" in json.loads(await house.output("raw__ask"))["message"]


async def test_a_question_ends_with_its_call(tmp_path: Path) -> None:
    ask = Asked(Answer(call_id="call", decision="approve"))
    flag = CancelFlag()
    async with hosting(raw("normal", tmp_path)) as house, anyio.create_task_group() as tasks:

        async def cancel() -> None:
            await until(lambda: bool(ask.questions))
            flag.cancel()

        tasks.start_soon(cancel)
        assert (await house.run("raw__ask", ask=ask, flag=flag)).outcome == "cancelled"
        await until(lambda: ask.left)
