"""A turn for a chat that is busy: refused, queued, said into the running one, or in its place (docs/http.md)."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
from msgspec import UNSET
from tests.e2e.house import MODELS, House, Json, configured, playing, serving, spawned, upstream_environ
from tests.patience import BOUND

from legato import tool
from legato.core import events as e
from legato.ports import Store
from legato.stores.memory import MemoryStore
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, Gate, Say, Script, Upstream

MODEL = MODELS["anthropic"]


@tool(effect="write", needs_approval=True)
async def pay(amount: int) -> str:
    """Asks a person first."""
    return f"paid {amount}"


TAKES_OVER = pytest.mark.parametrize("on_busy", ["interrupt", "replace"])


async def busy(house: House, upstream: Upstream, gate: str = "talking") -> tuple[str, str]:
    """A chat whose turn stands at the gate: the chat's and the turn's id."""
    upstream.enqueue(Script([Say("First."), Gate(gate)]))
    started = await house.post("One", model=MODEL)
    await upstream.reached(gate)
    return started["chat"]["id"], started["assistant_turn"]["id"]


async def refused(house: House, **fields: Json) -> Json:
    answer = await house.client.post("/v1/turns", json={"model": MODEL, **fields})
    assert answer.status_code >= 400, answer.text
    return answer.json()


def said_to(body: Json) -> list[tuple[str, str]]:
    """The words of a request, by role."""
    said = []
    for message in body["messages"]:
        content = message["content"]
        parts = [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
        said.append((message["role"], " ".join(parts)))
    return said


async def test_a_busy_chat_refuses_by_default_and_names_the_turn(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, first = await busy(house, upstream)
        problem = await refused(house, input="Two", chat_id=chat_id)
        await house.cancel(first)
    assert (problem["code"], problem["turn_id"]) == ("chat_busy", first)


# queue


async def test_a_queued_turn_waits_for_the_active_one_and_hangs_behind_it(tmp_path: Path) -> None:
    """Hazard 6: who follows it early waits, and is told everything."""
    async with playing(tmp_path) as (house, upstream):
        chat_id, first = await busy(house, upstream)
        started = await house.post("Two", chat_id=chat_id, on_busy="queue", model=MODEL)
        second = started["assistant_turn"]
        assert (second["status"], second["last_seq"], second["ended_at"]) == ("queued", 0, None)
        assert started["user_turn"]["prev_turn_id"] == first
        assert (started["chat"]["active_turn_id"], started["chat"]["head_turn_id"]) == (first, second["id"])
        assert (await house.turn(second["id"]))["status"] == "queued"
        events: list[e.Event] = []

        async def follow() -> None:
            events.extend(await house.followed(second["id"]))

        upstream.enqueue(Script([Say("Second.")]))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            assert events == []
            upstream.release("talking")
        last = upstream.requests[-1].body
        chat = await house.get(f"/v1/chats/{chat_id}")
    assert isinstance(events[0], e.TurnStart)
    assert events[0].seq == 1
    assert isinstance(events[-1], e.TurnEnd)
    assert said_to(last) == [("user", "One"), ("assistant", "First."), ("user", "Two")]
    assert chat["active_turn_id"] is None


async def test_queued_turns_begin_one_after_the_other_in_their_order(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, _ = await busy(house, upstream)
        ids = [await house.ask(f"{number}", chat_id=chat_id, on_busy="queue", model=MODEL) for number in range(4)]
        upstream.enqueue(*[Script([Say(f"Answer {number}.")]) for number in range(4)])
        upstream.release("talking")
        turns = [await house.folded(turn_id) for turn_id in ids]
        asked = [said_to(request.body)[-1][1] for request in upstream.requests]
        assert not house.service._running._queued
    assert [turn.blocks[0].text for turn in turns] == ["Answer 0.", "Answer 1.", "Answer 2.", "Answer 3."]
    assert asked == ["One", "0", "1", "2", "3"]


async def test_a_queued_turn_begins_when_the_active_one_was_cancelled(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, first = await busy(house, upstream)
        second = await house.ask("Two", chat_id=chat_id, on_busy="queue", model=MODEL)
        upstream.enqueue(Script([Say("Second.")]))
        await house.cancel(first)
        turn = await house.folded(second)
    assert (turn.status, turn.blocks[0].text) == ("complete", "Second.")


async def test_a_queued_turn_may_be_cancelled_out_of_turn_and_asks_nothing(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, first = await busy(house, upstream)
        second = await house.ask("Two", chat_id=chat_id, on_busy="queue", model=MODEL)
        third = await house.ask("Three", chat_id=chat_id, on_busy="queue", model=MODEL)
        await house.cancel(second)
        events = await house.followed(second)
        assert [type(event) for event in events] == [e.TurnStart, e.TurnEnd]
        assert (await house.turn(first))["status"] == "running"
        upstream.enqueue(Script([Say("Third.")]))
        upstream.release("talking")
        turn = await house.folded(third)
        again = await house.cancel(second, status=200)
    assert again["status"] == "cancelled"
    assert turn.blocks[0].text == "Third."
    assert len(upstream.requests) == 2


async def test_a_full_queue_says_how_full_it_is(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, _ = await busy(house, upstream)
        for number in range(20):
            await house.ask(f"{number}", chat_id=chat_id, on_busy="queue", model=MODEL)
        answer = await house.client.post(
            "/v1/turns", json={"input": "One too many", "chat_id": chat_id, "on_busy": "queue", "model": MODEL}
        )
        await house.client.delete(f"/v1/chats/{chat_id}")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["limit"], problem["actual"]) == (429, "queue_full", 20, 20)
    assert "retry-after" in answer.headers


async def test_a_queued_turn_may_be_posted_again(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, first = await busy(house, upstream)
        post = {"input": "Two", "chat_id": chat_id, "on_busy": "queue", "model": MODEL, "turn_id": "mine"}
        once = await house.client.post("/v1/turns", json=post)
        twice = await house.client.post("/v1/turns", json=post)
        await house.cancel("mine")
        await house.cancel(first)
        await house.followed("mine")
    assert (once.status_code, twice.status_code) == (202, 200)
    assert twice.json()["assistant_turn"]["id"] == "mine"


async def test_a_steer_into_a_queued_turn_is_read_in_its_first_round(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, _ = await busy(house, upstream)
        second = await house.ask("Two", chat_id=chat_id, on_busy="queue", model=MODEL)
        await house.client.post(f"/v1/turns/{second}/steer", json={"text": "Be brief."})
        upstream.enqueue(Script([Say("Second.")]))
        upstream.release("talking")
        await house.followed(second)
        last = said_to(upstream.requests[-1].body)[-1]
    assert last == ("user", "Two Be brief.")


async def test_a_queue_survives_a_stop_and_each_turn_of_it_begins_once(tmp_path: Path) -> None:
    async with Upstream.open() as upstream:
        config = configured(tmp_path, environ=upstream_environ(upstream))
        async with serving(config) as house:
            chat_id, first = await busy(house, upstream)
            ids = [await house.ask(f"{number}", chat_id=chat_id, on_busy="queue", model=MODEL) for number in range(2)]
        upstream.enqueue(*[Script([Say(f"Answer {number}.")]) for number in range(3)])
        async with serving(config) as house:
            assert (await house.folded(first)).status == "complete"
            turns = [await house.folded(turn_id) for turn_id in ids]
            chat = await house.get(f"/v1/chats/{chat_id}")
    assert [turn.blocks[0].text for turn in turns] == ["Answer 1.", "Answer 2."]
    assert chat["active_turn_id"] is None
    assert len(upstream.requests) == 4


@pytest.mark.slow
async def test_a_queue_survives_a_kill(tmp_path: Path) -> None:
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        async with spawned(tmp_path, environ=environ) as child:
            upstream.enqueue(Script([Say("First."), Gate("never")]))
            started = await child.post("One", model=MODEL)
            await upstream.reached("never")
            second = await child.ask("Two", chat_id=started["chat"]["id"], on_busy="queue", model=MODEL)
            await child.kill()
        upstream.enqueue(Script([Say("First, again.")]), Script([Say("Second.")]))
        async with spawned(tmp_path, environ=environ) as child:
            turn = await child.folded(second)
    assert turn.blocks[0].text == "Second."
    assert len(upstream.requests) == 3


# interrupt and replace


async def test_an_interrupt_keeps_what_was_said_and_goes_on_behind_it(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, first = await busy(house, upstream)
        waiting = await house.ask("Later", chat_id=chat_id, on_busy="queue", model=MODEL)
        upstream.enqueue(Script([Say("At once.")]), Script([Say("Later.")]))
        started = await house.post("Stop!", chat_id=chat_id, on_busy="interrupt", model=MODEL)
        urgent = started["assistant_turn"]["id"]
        turn, stopped, later = await house.folded(urgent), await house.folded(first), await house.folded(waiting)
        await upstream.hung_up(1)
        asked = [said_to(request.body) for request in upstream.requests]
    assert started["user_turn"]["prev_turn_id"] == first
    assert (stopped.status, stopped.rounds[0].commitment) == ("cancelled", "adopted")
    assert asked[1] == [("user", "One"), ("assistant", "First."), ("user", "Stop!")]
    assert (turn.blocks[0].text, later.blocks[0].text) == ("At once.", "Later.")


async def test_a_replacement_stands_in_the_place_of_what_it_stops(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, first = await busy(house, upstream)
        upstream.enqueue(Script([Say("Anew.")]))
        started = await house.post("One, differently", chat_id=chat_id, on_busy="replace", model=MODEL)
        turn = await house.folded(started["assistant_turn"]["id"])
        stopped = await house.folded(first)
        asked = said_to(upstream.requests[-1].body)
        replaced = await house.turn(first)
    assert started["user_turn"]["prev_turn_id"] is None
    assert len(started["user_turn"]["siblings"]) == 2
    assert (stopped.status, stopped.rounds[0].commitment) == ("cancelled", "orphaned")
    assert [block["text"] for block in replaced["blocks"]] == ["First."]
    assert asked == [("user", "One, differently")]
    assert turn.blocks[0].text == "Anew."


@TAKES_OVER
async def test_a_turn_that_waits_for_a_person_gives_way(on_busy: str, tmp_path: Path) -> None:
    """Nobody runs it: it is taken up to be cancelled."""
    async with playing(tmp_path, tools=(pay,)) as (house, upstream):
        upstream.enqueue(Script([Call("pay", {"amount": 5})]), Script([Say("Anew.")]))
        started = await house.post("Pay", model=MODEL)
        first = started["assistant_turn"]["id"]
        await house.until(first, lambda event: isinstance(event, e.TurnWaiting))
        turn_id = await house.ask("No, wait", chat_id=started["chat"]["id"], on_busy=on_busy, model=MODEL)
        turn, stopped = await house.folded(turn_id), await house.folded(first)
    assert (turn.status, turn.blocks[0].text) == ("complete", "Anew.")
    assert (stopped.status, stopped.waiting) == ("cancelled", {})
    assert upstream.refused == []


async def test_a_chat_with_a_queue_may_be_deleted(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, _ = await busy(house, upstream)
        for number in range(3):
            await house.ask(f"{number}", chat_id=chat_id, on_busy="queue", model=MODEL)
        answer = await house.client.delete(f"/v1/chats/{chat_id}")
        with anyio.fail_after(BOUND):
            while len(house.service._running):
                await anyio.lowlevel.checkpoint()
        assert not house.service._running._queued
        gone = await house.client.get(f"/v1/chats/{chat_id}")
    assert (answer.status_code, gone.status_code) == (204, 404)


@TAKES_OVER
async def test_where_the_chat_is_free_there_is_nothing_to_take_over(on_busy: str, tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("First.")]), Script([Say("Second.")]))
        started = await house.post("One", model=MODEL)
        await house.followed(started["assistant_turn"]["id"])
        again = await house.post("Two", chat_id=started["chat"]["id"], on_busy=on_busy, model=MODEL)
        await house.followed(again["assistant_turn"]["id"])
    assert again["assistant_turn"]["status"] == "running"
    assert again["user_turn"]["prev_turn_id"] == started["assistant_turn"]["id"]


# steer


async def test_what_is_posted_to_steer_goes_into_the_running_turn(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        chat_id, first = await busy(house, upstream)
        post = {"input": "Shorter.", "chat_id": chat_id, "on_busy": "steer", "turn_id": "mine", "model": MODEL}
        once = await house.client.post("/v1/turns", json=post)
        twice = await house.client.post("/v1/turns", json=post)
        other = await refused(house, **{**post, "input": "Longer."})
        picture = {"type": "image", "media_type": "image/png", "data": "AAAA"}
        image = await refused(house, blocks=[picture], chat_id=chat_id, on_busy="steer")
        upstream.enqueue(Script([Say("Short.")]))
        upstream.release("talking")
        turn = await house.folded(first)
        late = await house.client.post("/v1/turns", json=post)
    assert (once.status_code, twice.status_code, late.status_code) == (202, 200, 200)
    assert {answer.json()["assistant_turn"]["id"] for answer in (once, twice, late)} == {first}
    assert (other["code"], image["errors"][0]["path"]) == ("turn_id_reused", "/blocks/0")
    assert turn.steered["mine"].state == "delivered"
    assert [block.text for block in turn.blocks] == ["First.", "Short."]


async def test_a_steer_for_a_free_chat_is_a_turn(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("First.")]))
        turn = await house.folded(await house.ask("One", on_busy="steer", model=MODEL))
    assert turn.blocks[0].text == "First."


# A cancel that comes first


@pytest.mark.parametrize("on_busy", ["reject", "queue"])
async def test_a_cancel_of_a_turn_that_is_not_posted_yet_ends_it_when_it_comes(on_busy: str, tmp_path: Path) -> None:
    """Hazard 19."""
    async with playing(tmp_path) as (house, upstream):
        chat_id = None
        if on_busy == "queue":
            chat_id, _ = await busy(house, upstream)
        early = await house.client.post("/v1/turns/mine/cancel")
        assert (early.status_code, early.json()["stored"]) == (202, True)
        assert early.json()["until"]
        fields = {} if chat_id is None else {"chat_id": chat_id}
        await house.post("Talk", turn_id="mine", on_busy=on_busy, model=MODEL, **fields)
        events = await house.followed("mine")
        view = await house.turn("mine")
        assert len(upstream.requests) == (0 if chat_id is None else 1)
        if chat_id is not None:
            upstream.release("talking")
        assert not len(house.service._cancelling.early)
    assert [type(event) for event in events] == [e.TurnStart, e.TurnEnd]
    assert (view["status"], view["stop_reason"]) == ("cancelled", "cancelled")


async def test_a_remembered_cancel_is_for_one_turn_and_the_chat_goes_on(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        await house.client.post("/v1/turns/mine/cancel")
        started = await house.post("Talk", turn_id="mine", model=MODEL)
        await house.followed("mine")
        upstream.enqueue(Script([Say("Yes.")]))
        turn = await house.folded(await house.ask("And now?", chat_id=started["chat"]["id"], model=MODEL))
        with anyio.fail_after(BOUND):
            while len(house.service._running):
                await anyio.lowlevel.checkpoint()
    assert turn.status == "complete"


async def test_a_cancel_is_remembered_though_the_store_does_not_take_it(tmp_path: Path) -> None:
    store = FaultyStore()

    async with playing(tmp_path, around=store.over) as (house, upstream):
        store.away("cancel_early")
        early = await house.client.post("/v1/turns/mine/cancel")
        assert (early.status_code, early.json()["stored"]) == (202, False)
        await house.post("Talk", turn_id="mine", model=MODEL)
        assert (await house.folded("mine")).status == "cancelled"
        assert not upstream.requests


# What comes at the same moment


@pytest.mark.parametrize("kept_in", ["memory", "sqlite"])
async def test_of_two_first_posts_of_one_new_chat_one_queues_behind_the_other(kept_in: str, tmp_path: Path) -> None:
    """Both find no chat of this id; one of them makes it."""
    store = FaultyStore()
    store.hold("begin")

    def around(real: Store) -> Store:
        return store.over(MemoryStore() if kept_in == "memory" else real)

    started: list[Json] = []

    async with playing(tmp_path, around=around) as (house, upstream):
        upstream.enqueue(Script([Say("First.")]), Script([Say("Second.")]))

        async def post() -> None:
            started.append(await house.post("Go", chat_id="ours", on_busy="queue", model=MODEL))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post)
            tasks.start_soon(post)
            await store.reached("begin", times=2)
            store.back()
        turns = [await house.folded(one["assistant_turn"]["id"]) for one in started]
        asked = [said_to(request.body) for request in upstream.requests]
    assert {turn.status for turn in turns} == {"complete"}
    assert asked == [[("user", "Go")], [("user", "Go"), ("assistant", "First."), ("user", "Go")]]


async def test_no_queued_turn_of_a_chat_that_is_being_deleted_asks_anything(tmp_path: Path) -> None:
    """Its turn has come, and the chat is not gone yet."""
    store = FaultyStore()

    async with playing(tmp_path, around=store.over) as (house, upstream):
        chat_id, _ = await busy(house, upstream)
        second = await house.ask("Two", chat_id=chat_id, on_busy="queue", model=MODEL)
        store.hold("delete_chat")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(house.client.delete, f"/v1/chats/{chat_id}")
            await store.reached("delete_chat")
            turn = await house.folded(second)
            store.back()
        assert len(upstream.requests) == 1
    assert turn.status == "cancelled"


async def test_who_queues_a_turn_in_a_chat_that_is_deleted_at_that_moment_is_told_that_it_is_gone(
    tmp_path: Path,
) -> None:
    """Its turn was stored, and went with the chat; the answer is one that is documented (``playing`` holds it to
    that)."""
    store = FaultyStore()
    answers: list[httpx.Response] = []

    async with playing(tmp_path, around=store.over) as (house, upstream):
        chat_id, _ = await busy(house, upstream)

        async def post() -> None:
            body = {"input": "Two", "chat_id": chat_id, "on_busy": "queue", "model": MODEL}
            answers.append(await house.client.post("/v1/turns", json=body))

        store.hold("siblings")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post)
            await store.reached("siblings")
            assert (await house.client.delete(f"/v1/chats/{chat_id}")).status_code == 204
            store.back()
        assert len(upstream.requests) == 1
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "not_found")]


@pytest.mark.parametrize("looked_at", [True, False])
async def test_a_turn_that_ended_while_the_store_was_away_keeps_nobody_waiting_once_it_is_back(
    looked_at: bool, tmp_path: Path
) -> None:
    """Its end was said, and lies in the spool: from then on it is over for whoever asks (docs/decisions/0013)."""
    store = FaultyStore()
    read: list[e.Event] = []
    joined = anyio.Event()
    async with playing(tmp_path, around=store.over, retry_window=0.1) as (house, upstream):
        chat_id, first = await busy(house, upstream)

        async def follow() -> None:
            async for event in house.events(first, each=True):
                read.append(event)
                joined.set()

        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                await joined.wait()
                store.away("write", "claim")
                upstream.release("talking")
        store.back()
        if looked_at:
            assert (await house.turn(first))["status"] == "error"
        upstream.enqueue(Script([Say("Second.")]))
        second = await house.folded(await house.ask("Two", chat_id=chat_id, model=MODEL))
    assert isinstance(read[-1], e.TurnEnd)
    assert read[-1].error is not UNSET
    assert second.status == "complete"


async def test_a_cancel_while_its_turn_is_being_taken_up_lets_it_ask_nothing(tmp_path: Path) -> None:
    """Its row was read before, and its runner is not there yet."""
    store = FaultyStore()

    async with playing(tmp_path, around=store.over) as (house, upstream):
        chat_id, _ = await busy(house, upstream)
        second = await house.ask("Two", chat_id=chat_id, on_busy="queue", model=MODEL)
        store.hold("steers")
        upstream.release("talking")
        await store.reached("steers")
        await house.cancel(second)
        store.back()
        events = await house.followed(second)
        assert len(upstream.requests) == 1
    assert [type(event) for event in events] == [e.TurnStart, e.TurnEnd]
