"""What is said is documented, and what is documented is said (hazard 37). Every other test here is held to it too."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.e2e.documented import Document
from tests.e2e.house import MODELS, Json, configured, playing, serving, spawned, upstream_environ

from legato import ToolContext, tool
from legato.core import events as e
from legato.http.errors import CODES
from legato.testing.upstream import Call, Cut, Failure, Gate, Say, Script, Think, Upstream

ELSEWHERE = {"call_waiting", "call_answered", "turn_waiting", "steer"}
"""What is said where people and clients have a say: test_waiting.py and test_steer.py hear those."""


@tool(effect="read")
async def look(what: str, *, ctx: ToolContext) -> Json:
    """Shows what it does, and finds something."""
    await ctx.emit("looking")
    return {"found": [what, None, 1.5, True]}


async def test_every_event_there_is_is_said_as_it_is_documented(tmp_path: Path) -> None:
    """Every reader here holds each event to its schema; between them these turns say all that this version can say."""
    said: set[str] = set()
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        async with spawned(tmp_path, environ=environ) as child:
            upstream.enqueue(Script([Say("As far as this"), Gate("never")]))
            killed = await child.ask("Talk", model=MODELS["anthropic"])
            await child.until(killed, lambda event: isinstance(event, e.BlockDelta))
            await child.kill()
        async with serving(configured(tmp_path, environ=environ), tools=(look,)) as house:
            document = house.document
            upstream.enqueue(Script([Say("Anew.")]))
            await house.folded(killed)
            upstream.enqueue(
                Failure("overloaded", retry_after="0"),
                Script([Think("Hm."), Say("I look."), Call("look", {"what": "it"}), Call("nobody"), Cut()]),
                Script([Say("There.")]),
            )
            for turn_id in (killed, await house.ask("Look", model=MODELS["anthropic"], limits={"rounds": 2})):
                events = await house.followed(turn_id, each=True)
                said |= {str(type(event).__struct_config__.tag) for event in events}
                for path in ("", "/timeline", "/model_view"):
                    await house.get(f"/v1/turns/{turn_id}{path}")
            for path in ("/v1/chats", "/v1/tools", "/v1/models", "/livez", "/readyz"):
                await house.get(path)
            for code in CODES:
                await house.get(f"/errors/{code}")
    assert said == document.event_types() - ELSEWHERE


async def test_an_answer_or_event_that_is_not_documented_is_noticed(tmp_path: Path) -> None:
    """The validator is no rubber stamp: each of these differs in one place from what is right."""
    async with playing(tmp_path, tools=(look,)) as (house, upstream):
        upstream.enqueue(Script([Call("look", {"what": "it"})]))
        turn_id = await house.ask("Look", model=MODELS["anthropic"])
        events = [msgspec.json.decode(frame) async for frame in house.frames(turn_id, each=True)]
        turn = await house.turn(turn_id)
        document = house.document
    stop = next(event for event in events if event.get("output"))
    wrong_events: list[Json] = [
        {**stop, "type": "block_end"},
        {**stop, "seq": "1"},
        {**stop, "index": True},
        {**stop, "outcome": "fine"},
        {**stop, "more": 1},
        {**stop, "error": {"code": "x"}},
        {name: value for name, value in stop.items() if name != "state"},
    ]
    assert document.of_event(msgspec.json.encode(stop)) == []
    for event in wrong_events:
        assert document.of_event(msgspec.json.encode(event)) != [], event
    wrong_turns: list[Json] = [
        {**turn, "status": "done"},
        {**turn, "blocks": [{**turn["blocks"][0], "type": "call"}]},
        {**turn, "usage": {**turn["usage"], "input_tokens": "5"}},
        {**turn, "siblings": [1]},
        {**turn, "secret": None},
    ]
    path = f"/v1/turns/{turn_id}"
    for one in wrong_turns:
        assert _complaints(document, path, 200, one) != [], one
    assert _complaints(document, path, 200, turn) == []
    assert _complaints(document, path, 418, turn) != []


def _complaints(document: Document, path: str, status: int, body: Json) -> list[str]:
    return document.complaints("GET", path, status, "application/json", msgspec.json.encode(body))


@pytest.mark.parametrize("path", ["/v1/nothing", "/", "/v1/turns/x/nothing", "/v1/turns/"])
async def test_a_path_that_is_not_there_is_404_in_the_shape_of_every_error(path: str, tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        answer = await house.client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/errors/not_found"
