"""Everything at once: vendors that fail, readers that come and go, cancels, edits, and a store with faults.

Whatever happens, each turn ends, is stored as it was said, and leaves a chat that neither vendor refuses (hazards 1, 2,
3, 14, 21).
"""

from __future__ import annotations

import contextlib
import logging
import random
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import msgspec
import pytest
from tests.e2e.house import MODELS, House, Json, playing, unpaired

from legato import ToolContext, ToolError, tool
from legato.core import events as e
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn, fold
from legato.testing.store import FaultyStore
from legato.testing.upstream import (
    Answer,
    Call,
    Cut,
    End,
    ErrorEvent,
    Failure,
    HangUp,
    Request,
    Say,
    Script,
    Step,
    Think,
    round_of,
)

CHATS, TURNS = 5, 4


@tool(effect="read")
async def look(what: str, *, ctx: ToolContext) -> str:
    """Takes a moment."""
    await ctx.emit(f"looking for {what}\n")
    await anyio.lowlevel.checkpoint()
    return f"seen {what}"


@tool(effect="read")
def look_in_thread(what: str, *, ctx: ToolContext) -> Json:
    """The same in a thread."""
    ctx.emit("looking\n")
    if "b" in what:
        raise ToolError("not there")
    return {"seen": [what]}


@tool(effect="write")
async def act(what: str) -> str:
    """With effects."""
    await anyio.lowlevel.checkpoint()
    return f"did {what}"


class Vendor:
    """Answers each request by chance, the same for the same seed and order of requests."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def answer(self, request: Request) -> Answer:
        chance = self._chance
        match chance.randrange(12):
            case 0:
                return Failure("rate_limit", retry_after="0")
            case 1:
                return HangUp()
            case _:
                steps = self._steps(calls=round_of(request) < 3)
                return Script(steps, bytes_per_write=chance.choice([None, None, 11]))

    def _steps(self, *, calls: bool) -> list[Step]:
        chance = self._chance
        steps: list[Step] = [Think("Hm, hm. ")] if chance.random() < 0.4 else []
        for _ in range(chance.randrange(1, 5)):
            steps.append(Say("Wörds 🐉 and more. " * chance.randrange(1, 8), pace=chance.choice([0, 0, 400])))
            if calls and chance.random() < 0.6:
                name = chance.choice(["look", "look", "look_in_thread", "act", "act", "nobody", "no.body"])
                raw = '{"what": "torn' if chance.random() < 0.1 else None
                steps.append(Call(name, {"what": chance.choice("abc")}, raw=raw))
        match chance.randrange(10):
            case 0:
                steps.insert(chance.randrange(1, len(steps) + 1), Cut())
            case 1:
                steps.insert(chance.randrange(1, len(steps) + 1), ErrorEvent())
            case 2:
                steps.append(End(chance.choice(["length", "refusal", "other"])))
            case _:
                pass
        return steps


class Person:
    """Has one chat, and does with it what people do."""

    def __init__(self, house: House, chat_id: str, seed: int) -> None:
        self._house = house
        self._chance = random.Random(seed)
        self.chat_id = chat_id
        self.turns: list[str] = []
        self._asked: list[Json] = []

    async def live(self) -> None:
        for number in range(TURNS):
            turn_id = await self._post(number)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, turn_id)
                if self._chance.random() < 0.5:
                    tasks.start_soon(self._cancel, turn_id, self._chance.randrange(1, 40))

    async def _post(self, number: int) -> str:
        chance = self._chance
        body: Json = {"turn_id": f"{self.chat_id}-{number}", "chat_id": self.chat_id}
        body["model"] = chance.choice(list(MODELS.values()))
        again = self._asked and chance.random() < 0.3
        if again:
            body["prev_turn_id"] = chance.choice(self._asked)["id"]
        else:
            body["input"] = f"say {number}"
            if self._asked and chance.random() < 0.3:
                body["prev_turn_id"] = chance.choice(self._asked)["prev_turn_id"]
        while True:
            with contextlib.suppress(httpx.ReadError):
                answer = await self._house.client.post("/v1/turns", json=body)
                if answer.status_code in (200, 202):
                    break
                assert (answer.status_code, answer.json()["code"]) in {
                    (503, "store_unavailable"), (503, "store_behind"), (409, "chat_busy"),
                }, answer.text  # fmt: skip
            await anyio.lowlevel.checkpoint()
        started = answer.json()
        self._asked.append(started["user_turn"])
        self.turns.append(started["assistant_turn"]["id"])
        return self.turns[-1]

    async def _watch(self, turn_id: str) -> None:
        """Follow it to the end over many connections."""
        had: list[e.Event] = []
        while not (had and isinstance(had[-1], e.TurnEnd)):
            left = self._chance.randrange(1, 80)
            with contextlib.suppress(httpx.TransportError):
                async with contextlib.aclosing(
                    self._house.events(turn_id, after=had[-1].seq if had else 0, each=self._chance.random() < 0.5)
                ) as events:
                    async for event in events:
                        had.append(event)
                        left -= 1
                        if left == 0:
                            break
        self.seen = fold(had)

    async def _cancel(self, turn_id: str, at: int) -> None:
        with contextlib.suppress(httpx.TransportError):
            async for event in self._house.events(turn_id):
                if event.seq >= at:
                    break
        answer = await self._house.client.post(f"/v1/turns/{turn_id}/cancel")
        assert answer.status_code in (200, 202, 503), answer.text


async def trouble(store: FaultyStore, seed: int) -> None:
    """The store is slow, away, loses answers, and comes back, again and again."""
    chance = random.Random(seed)
    while True:
        await anyio.sleep(chance.uniform(0, 0.1))
        match chance.randrange(5):
            case 0:
                store.away("write", times=chance.randrange(1, 3))
            case 1:
                store.lose_answers("write")
            case 2:
                store.slow(0.005)
            case 3:
                store.away(times=2)
            case _:
                store.back()
        await anyio.sleep(chance.uniform(0, 0.05))
        store.back()


def check(turn: Turn, view: Json) -> None:
    assert turn.ended
    assert not turn.open
    calls = [one.call_id for one in turn.blocks if isinstance(one, ToolUseBlock) and one.state == "complete"]
    assert sorted(calls) == sorted(one.call_id for one in turn.blocks if isinstance(one, ToolResultBlock))
    assert view["blocks"] == msgspec.json.decode(msgspec.json.encode(turn.blocks))
    assert view["rounds"] == msgspec.json.decode(msgspec.json.encode(turn.rounds))
    assert view["status"] in ("complete", "cancelled", "error")
    if turn.error is not None:
        assert turn.error.code.startswith("provider_"), turn.error


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(1, 14))
async def test_whatever_happens_every_turn_ends_as_it_was_said(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="legato")
    store = FaultyStore()
    tools = (look, look_in_thread, act)
    async with playing(tmp_path, tools=tools, around=store.over, grace=0.1) as (house, upstream):
        upstream._default = Vendor(seed).answer
        people = [Person(house, f"chat-{number}", 100 * seed + number) for number in range(CHATS)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(trouble, store, seed)
            async with anyio.create_task_group() as lives:
                for person in people:
                    lives.start_soon(person.live)
            tasks.cancel_scope.cancel()
        store.back()
        assert upstream.refused == []
        assert not any(unpaired(request.body) for request in upstream.requests)
        for person in people:
            for turn_id in person.turns:
                events = await house.followed(turn_id, each=True)
                assert [event.seq for event in events] == list(range(1, len(events) + 1))
                check(fold(events), await house.turn(turn_id))
            assert person.seen.blocks == fold(await house.followed(person.turns[-1])).blocks
            chat = await house.get(f"/v1/chats/{person.chat_id}")
            assert (chat["active_turn_id"], chat["head_turn_id"]) == (None, person.turns[-1])
        assert not len(house.service._running)
    broken = [record.message for record in caplog.records if "broke" in record.message]
    assert broken == []
