"""Something said into a turn that has not ended reaches the model, or comes back (docs/http.md, "Steering")."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import anyio
import anyio.lowlevel
import pytest
from tests.e2e.house import MODELS, House, Json, configured, playing, serving, unpaired, upstream_environ
from tests.patience import BOUND

from legato import ToolContext, tool
from legato.core import events as e
from legato.testing.script import Wire
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, Gate, Say, Script, Upstream

WIRES = pytest.mark.parametrize("wire", get_args(Wire))


@tool(effect="read")
async def quick(what: str) -> str:
    """Comes back at once."""
    return f"seen {what}"


@tool(effect="write", needs_approval=True)
async def pay(amount: int, *, ctx: ToolContext) -> str:
    """Asks a person first."""
    return f"paid {amount}"


async def steer(house: House, turn_id: str, text: str, *, status: int = 202, **more: Json) -> Json:
    answer = await house.client.post(f"/v1/turns/{turn_id}/steer", json={"text": text, **more})
    assert answer.status_code == status, answer.text
    return answer.json()


def states(events: list[e.Event]) -> list[tuple[str, str]]:
    return [(event.text, event.state) for event in events if isinstance(event, e.Steer)]


def user_words(body: Json) -> list[str]:
    """What the last message says, where it is the user's; results left out."""
    last = body["messages"][-1]
    assert last["role"] == "user"
    if isinstance(last["content"], str):
        return [last["content"]]
    return [part["text"] for part in last["content"] if part["type"] == "text"]


@WIRES
async def test_a_steer_is_in_the_next_request_behind_the_results(wire: Wire, tmp_path: Path) -> None:
    """Hazard 34: it is in the request that went out, at its end."""
    async with playing(tmp_path, tools=(quick,)) as (house, upstream):
        upstream.enqueue(
            Script([Say("I look."), Call("quick", {"what": "it"}), Gate("talking")]), Script([Say("Shorter.")])
        )
        turn_id = await house.ask("Look", model=MODELS[wire])
        await upstream.reached("talking")
        said = await steer(house, turn_id, "Shorter, please.")
        assert (said["steer"]["state"], said["status"]) == ("accepted", "running")
        upstream.release("talking")
        events = await house.followed(turn_id)
        sent = upstream.requests[-1].body
        view = await house.get(f"/v1/turns/{turn_id}/model_view")
    assert states(events) == [("Shorter, please.", "accepted"), ("Shorter, please.", "delivered")]
    assert user_words(sent) == ["Shorter, please."]
    assert unpaired(sent) == []
    assert view["messages"][-1]["blocks"][-1]["text"] == "Shorter, please."
    assert upstream.refused == []


@WIRES
async def test_a_steer_of_the_last_reply_has_one_more_round_asked(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("A long reply."), Gate("talking")]), Script([Say("Short.")]))
        started = await house.post("Talk", model=MODELS[wire])
        turn_id = started["assistant_turn"]["id"]
        await upstream.reached("talking")
        await steer(house, turn_id, "Shorter, please.")
        upstream.release("talking")
        turn = await house.folded(turn_id)
        upstream.enqueue(Script([Say("Yes.")]))
        after = await house.folded(await house.ask("Good?", chat_id=started["chat"]["id"], model=MODELS[wire]))
        last = upstream.requests[-1].body
    assert [block.text for block in turn.blocks] == ["A long reply.", "Short."]
    assert (turn.status, after.status, upstream.refused) == ("complete", "complete", [])
    said = [message["role"] for message in last["messages"] if message["role"] != "system"]
    assert said == ["user", "assistant", "user", "assistant", "user"]


async def test_a_steer_for_which_no_round_is_left_comes_back_before_the_end(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("The only reply."), Gate("talking")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"], limits={"rounds": 1})
        await upstream.reached("talking")
        await steer(house, turn_id, "Shorter, please.", steer_id="mine")
        upstream.release("talking")
        events = await house.followed(turn_id)
        late = await steer(house, turn_id, "Too late.", status=409)
        again = await steer(house, turn_id, "Shorter, please.", steer_id="mine")
    assert states(events)[-1] == ("Shorter, please.", "returned")
    assert isinstance(events[-2], e.Steer)
    assert late["code"] == "turn_ended"
    assert again["steer"]["state"] == "returned"


async def test_a_cancel_gives_back_what_was_not_read(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("talking")]))
        turn_id = await house.ask("Talk", model=MODELS["openai_chat"])
        await upstream.reached("talking")
        await steer(house, turn_id, "Shorter, please.")
        await house.cancel(turn_id)
        events = await house.followed(turn_id)
    assert [state for _, state in states(events)] == ["accepted", "returned"]


async def test_a_steer_may_be_repeated_but_not_changed(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("talking")]), Script([Say("Short.")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("talking")
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(lambda: steer(house, turn_id, "Shorter, please.", steer_id="mine"))
        other = await steer(house, turn_id, "Longer!", steer_id="mine", status=409)
        upstream.release("talking")
        events = await house.followed(turn_id)
    assert other["code"] == "steer_id_reused"
    assert [state for _, state in states(events)] == ["accepted", "delivered"]


async def test_what_is_no_steer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("talking")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("talking")
        empty = await steer(house, turn_id, " \n", status=422)
        huge = await steer(house, turn_id, "x" * 65_537, status=422)
        missing = await steer(house, "nobody", "Hello?", status=404)
        for number in range(100):
            await steer(house, turn_id, f"Word {number}.")
        many = await steer(house, turn_id, "One more.", status=422)
        await house.cancel(turn_id)
        await house.followed(turn_id)
    assert (empty["errors"][0]["path"], missing["code"]) == ("/text", "not_found")
    assert (huge["limit"], huge["actual"]) == (65_536, 65_537)
    assert (many["code"], many["limit"], many["actual"]) == ("too_many_steers", 100, 100)


@WIRES
async def test_a_steer_into_a_waiting_turn_is_kept_until_it_goes_on(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path, tools=(pay,)) as (house, upstream):
        upstream.enqueue(Script([Call("pay", {"amount": 5})]), Script([Say("Done, briefly.")]))
        turn_id = await house.ask("Pay", model=MODELS[wire])
        waiting = await house.until(turn_id, lambda event: isinstance(event, e.CallWaiting))
        await house.until(turn_id, lambda event: isinstance(event, e.TurnWaiting))
        assert isinstance(waiting, e.CallWaiting)
        with anyio.fail_after(BOUND):
            while (await house.turn(turn_id))["status"] != "waiting" or house.service._running.get(turn_id):
                await anyio.lowlevel.checkpoint()
        said = await steer(house, turn_id, "Be brief.", steer_id="mine")
        again = await steer(house, turn_id, "Be brief.", steer_id="mine")
        assert (said["steer"], said["status"]) == (again["steer"], "waiting")
        answer = {"call_id": waiting.call_id, "decision": "approve"}
        await house.client.post(f"/v1/turns/{turn_id}/approvals", json=answer)
        events = await house.followed(turn_id)
        sent = upstream.requests[-1].body
    assert [state for _, state in states(events)] == ["accepted", "delivered"]
    assert user_words(sent) == ["Be brief."]


async def test_a_steer_outlives_the_server_that_accepted_it(tmp_path: Path) -> None:
    """The next server asks again, with it."""
    async with Upstream.open() as upstream:
        config = configured(tmp_path, environ=upstream_environ(upstream))
        upstream.enqueue(Script([Say("Talking."), Gate("never")]), Script([Say("Short.")]), Script([Say("Short.")]))
        async with serving(config) as house:
            turn_id = await house.ask("Talk", model=MODELS["anthropic"])
            await upstream.reached("never")
            await steer(house, turn_id, "Shorter, please.", steer_id="mine")
        async with serving(config) as house:
            again = await steer(house, turn_id, "Shorter, please.", steer_id="mine")
            turn = await house.folded(turn_id)
    assert turn.status == "complete"
    assert again["steer"]["steer_id"] == "mine"
    assert turn.steered["mine"].state == "delivered"
    assert user_words(upstream.requests[-1].body)[-1] == "Shorter, please."


async def test_a_steer_is_answered_only_once_it_is_stored(tmp_path: Path) -> None:
    store = FaultyStore()
    async with playing(tmp_path, around=store.over) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("talking")]), Script([Say("Short.")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("talking")
        store.hold("write")
        answered: list[Json] = []

        async def say() -> None:
            answered.append(await steer(house, turn_id, "Shorter, please."))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say)
            await house.until(turn_id, lambda event: isinstance(event, e.Steer))
            assert answered == []
            store.back()
        upstream.release("talking")
        events = await house.followed(turn_id)
    assert [state for _, state in states(events)] == ["accepted", "delivered"]
