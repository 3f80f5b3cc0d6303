"""What may be posted, where it hangs, and what becomes of it (docs/http.md)."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import get_args

import anyio
import pytest
from tests.e2e.house import MODELS, Json, Visitor, configured, playing, results_in, serving

from legato import tool
from legato.core import events as e
from legato.testing.script import Wire
from legato.testing.upstream import Call, Figures, Gate, Say, Script

WIRES = pytest.mark.parametrize("wire", get_args(Wire))
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@tool(effect="read")
async def quick(what: str = "it") -> str:
    """Comes back at once."""
    return f"seen {what}"


@tool(effect="read")
async def other() -> str:
    """Another one."""
    return "other"


async def echo(house: Visitor, said: str, **fields: Json) -> Json:
    """A turn that has ended; the answer to its post."""
    started = await house.post(said, model="script/echo", **fields)
    await house.followed(started["assistant_turn"]["id"])
    return started


async def texts(house: Visitor, chat_id: str, query: str = "") -> list[str]:
    """What a branch shows: each turn's text."""
    page = await house.get(f"/v1/chats/{chat_id}/turns{query}")
    return ["".join(block["text"] for block in turn["blocks"] if block["type"] == "text") for turn in page["data"]]


async def refused(house: Visitor, body: Json) -> tuple[int, str, list[str]]:
    """Status, code and paths of a post that is refused."""
    answer = await house.client.post("/v1/turns", json=body)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, problem["code"], [one["path"] for one in problem.get("errors", [])]


# Where it hangs


async def test_turns_hang_where_they_are_posted(tmp_path: Path) -> None:
    """The head by default, after an answer, an edit beside what it edits, a regenerated answer, a new root."""
    async with serving(configured(tmp_path)) as house:
        first = await echo(house, "one")
        chat_id = first["chat"]["id"]
        second = await echo(house, "two", chat_id=chat_id)
        third = await echo(house, "three", chat_id=chat_id)
        assert await texts(house, chat_id) == ["one", "one", "two", "two", "three", "three"]

        edited = await echo(house, "two, edited", prev_turn_id=second["user_turn"]["prev_turn_id"])
        assert edited["user_turn"]["siblings"] == [second["user_turn"]["id"], edited["user_turn"]["id"]]
        assert await texts(house, chat_id) == ["one", "one", "two, edited", "two, edited"]

        again = await house.post(prev_turn_id=second["user_turn"]["id"], model="script/echo")
        await house.followed(again["assistant_turn"]["id"])
        assert again["user_turn"]["id"] == second["user_turn"]["id"]
        assert again["assistant_turn"]["siblings"] == [second["assistant_turn"]["id"], again["assistant_turn"]["id"]]
        assert await texts(house, chat_id) == ["one", "one", "two", "two"]

        root = await echo(house, "a new root", chat_id=chat_id, prev_turn_id=None)
        assert root["user_turn"]["prev_turn_id"] is None
        assert root["user_turn"]["siblings"] == [first["user_turn"]["id"], root["user_turn"]["id"]]
        assert await texts(house, chat_id) == ["a new root", "a new root"]

        after = await echo(house, "four", prev_turn_id=third["assistant_turn"]["id"])
        assert after["chat"]["id"] == chat_id
        leaf = after["assistant_turn"]["id"]
        assert (await texts(house, chat_id))[-4:] == ["three", "three", "four", "four"]
        assert await texts(house, chat_id, f"?branch={edited['assistant_turn']['id']}") == [
            "one", "one", "two, edited", "two, edited",
        ]  # fmt: skip
        tree = (await house.get(f"/v1/chats/{chat_id}/turns?tree=1"))["data"]
        chat = await house.get(f"/v1/chats/{chat_id}")
    assert Counter(node["role"] for node in tree) == {"user": 6, "assistant": 7}
    by_id = {node["id"]: node for node in tree}
    assert all(node["prev_turn_id"] is None or node["prev_turn_id"] in by_id for node in tree)
    assert (chat["head_turn_id"], chat["active_turn_id"]) == (leaf, None)


async def test_an_unknown_chat_is_made_and_its_title_is_the_first_words(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        named = await echo(house, "Tell me about\n  the dragon", chat_id="mine")
        assert (named["chat"]["id"], named["chat"]["title"]) == ("mine", "Tell me about the dragon")
        long = await echo(house, "word " * 100)
        assert len(long["chat"]["title"]) <= 61
        assert (await house.get("/v1/chats/mine"))["title"] == "Tell me about the dragon"


async def test_a_head_that_was_moved_is_where_the_next_turn_hangs(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        first = await echo(house, "one")
        chat_id = first["chat"]["id"]
        await echo(house, "two", chat_id=chat_id)
        elsewhere = await echo(house, "elsewhere")
        moved = await house.client.patch(f"/v1/chats/{chat_id}", json={"head_turn_id": first["assistant_turn"]["id"]})
        assert moved.json()["head_turn_id"] == first["assistant_turn"]["id"]
        wrong = await house.client.patch(
            f"/v1/chats/{chat_id}", json={"head_turn_id": elsewhere["assistant_turn"]["id"]}
        )
        assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "/head_turn_id")
        await echo(house, "three", chat_id=chat_id)
        assert await texts(house, chat_id) == ["one", "one", "three", "three"]


async def test_what_hangs_nowhere_is_refused_with_its_path(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        one, two = await echo(house, "one"), await echo(house, "two")
        asked, answered = one["user_turn"]["id"], one["assistant_turn"]["id"]
        elsewhere = two["chat"]["id"]
        wrong: list[tuple[Json, str]] = [
            ({"input": "x", "prev_turn_id": asked}, "/blocks"),
            ({"prev_turn_id": answered}, "/blocks"),
            ({}, "/blocks"),
            ({"input": "x", "blocks": [{"type": "text", "text": "y"}]}, "/input"),
            ({"blocks": []}, "/blocks"),
            ({"input": "  \n "}, "/input"),
            ({"blocks": [{"type": "text", "text": ""}]}, "/blocks/0/text"),
            ({"input": "x", "prev_turn_id": "nobody"}, "/prev_turn_id"),
            ({"input": "x", "prev_turn_id": answered, "chat_id": elsewhere}, "/prev_turn_id"),
            ({"input": "x", "prev_turn_id": answered, "chat_id": "new"}, "/prev_turn_id"),
            ({"prev_turn_id": asked, "user_turn_id": "mine"}, "/user_turn_id"),
            ({"input": "x", "turn_id": "same", "user_turn_id": "same"}, "/user_turn_id"),
            ({"input": "x", "turn_id": "no spaces"}, "/turn_id"),
            ({"input": "x", "turn_id": ""}, "/turn_id"),
            ({"input": "x", "inptu": "y"}, "/inptu"),
            ({"input": 3}, "/input"),
            ({"blocks": [{"type": "thinking", "text": "x"}]}, "/blocks/0/type"),
            ({"blocks": [{"type": "text", "text": "x", "signature": "y"}]}, "/blocks/0/signature"),
            ({"blocks": [{"type": "text", "text": "x", "provider_data": {}}]}, "/blocks/0/provider_data"),
        ]
        for body, path in wrong:
            assert await refused(house, body) == (422, "invalid_request", [path]), body
        assert (await house.get("/v1/chats"))["data"][0]["id"] == elsewhere
        assert len((await house.get("/v1/chats"))["data"]) == 2


async def test_ids_that_are_taken_are_refused_and_nothing_is_made(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        first = await echo(house, "one", turn_id="answer", user_turn_id="question")
        for fields in ({"user_turn_id": "question"}, {"user_turn_id": "answer"}, {"turn_id": "question"}):
            answer = await house.client.post("/v1/turns", json={"input": "two", **fields})
            assert 400 <= answer.status_code < 500, (fields, answer.text)
        assert len((await house.get("/v1/chats"))["data"]) == 1
        assert await texts(house, first["chat"]["id"]) == ["one", "one"]


# Once and only once


async def test_a_repeated_post_is_answered_with_the_turn_it_made(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Once."), Gate("here")]))
        body = {"input": "Talk", "turn_id": "mine", "model": MODELS["anthropic"], "metadata": {"a": 1, "b": [2]}}
        first = await house.client.post("/v1/turns", json=body)
        await upstream.reached("here")
        running = await house.client.post("/v1/turns", json=dict(reversed(body.items())))
        other = await house.client.post("/v1/turns", json={**body, "metadata": {"a": 2}})
        upstream.release("here")
        await house.followed("mine")
        ended = await house.client.post("/v1/turns", json=body)
        streamed = await house.client.post("/v1/turns", json=body, headers={"accept": "text/event-stream"})
        requests = len(upstream.requests)
    assert [first.status_code, running.status_code, ended.status_code] == [202, 200, 200]
    assert running.headers["location"] == "/v1/turns/mine"
    assert running.json()["user_turn"] == first.json()["user_turn"]
    assert ended.json()["assistant_turn"]["status"] == "complete"
    assert (other.status_code, other.json()["code"], other.json()["turn_id"]) == (409, "turn_id_reused", "mine")
    assert streamed.text.count("event: turn_end") == 1
    assert requests == 1


@WIRES
async def test_twenty_posts_of_one_turn_id_at_once_make_one_turn(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Once.")]))
        body = {"input": "Talk", "turn_id": "mine", "model": MODELS[wire]}
        statuses: list[int] = []
        bodies: list[Json] = []

        async def post() -> None:
            answer = await house.client.post("/v1/turns", json=body)
            statuses.append(answer.status_code)
            bodies.append(answer.json())

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(post)
        await house.followed("mine")
        assert len(upstream.requests) == 1
        assert len((await house.get("/v1/chats"))["data"]) == 1
    assert Counter(statuses) == {202: 1, 200: 19}
    assert {one["user_turn"]["id"] for one in bodies} == {bodies[0]["user_turn"]["id"]}


async def test_a_busy_chat_takes_one_turn_and_names_it(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        started = await echo_start(house, chat_id="mine")
        await upstream.reached("here")
        turn_id = started["assistant_turn"]["id"]
        body = {"input": "And?", "chat_id": "mine", "turn_id": "next", "model": MODELS["anthropic"]}
        busy = [
            await house.client.post("/v1/turns", json=body),
            await house.client.post("/v1/turns", json={**body, "prev_turn_id": None}),
            await house.client.post("/v1/turns", json={"prev_turn_id": started["user_turn"]["id"]}),
        ]
        for answer in busy:
            assert (answer.status_code, answer.json()["code"]) == (409, "chat_busy")
            assert answer.json()["turn_id"] == turn_id
        assert (await house.get("/v1/chats/mine"))["active_turn_id"] == turn_id
        upstream.release("here")
        await house.followed(turn_id)
        upstream.enqueue(Script([Say("Yes.")]))
        assert (await house.client.post("/v1/turns", json=body)).status_code == 202
        await house.followed("next")


async def echo_start(house: Visitor, **fields: Json) -> Json:
    return await house.post("Talk", model=MODELS["anthropic"], **fields)


async def test_many_posts_to_one_chat_at_once_start_one_turn(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        first = await echo_start(house, chat_id="mine")
        await house.followed(first["assistant_turn"]["id"])
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        statuses: list[int] = []

        async def post(number: int) -> None:
            body = {"input": f"say {number}", "chat_id": "mine", "model": MODELS["anthropic"]}
            statuses.append((await house.client.post("/v1/turns", json=body)).status_code)

        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(post, number)
        assert Counter(statuses) == {202: 1, 409: 11}
        tree = (await house.get("/v1/chats/mine/turns?tree=1"))["data"]
        assert len(tree) == 4
        upstream.release("here")
        await house.followed(tree[-1]["id"])


async def test_a_refused_request_leaves_its_id_free(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        assert (await refused(house, {"input": "x", "turn_id": "mine", "limits": {"rounds": 1000}}))[0] == 422
        assert (await refused(house, {"input": "x", "turn_id": "mine", "model": "nobody/nothing"}))[0] == 422
        assert (await refused(house, {"input": "```script\n{]\n```", "turn_id": "mine"}))[0] == 422
        assert (await house.client.get("/v1/turns/mine")).status_code == 404
        assert (await echo(house, "now", turn_id="mine"))["assistant_turn"]["id"] == "mine"


async def test_a_full_server_says_so_and_takes_turns_again_later(tmp_path: Path) -> None:
    async with playing(tmp_path, limits__running_turns=2) as (house, upstream):
        upstream.enqueue(*[Script([Say("Talking."), Gate("here")])] * 2)
        running = [(await echo_start(house))["assistant_turn"]["id"] for _ in range(2)]
        body = {"input": "one more", "model": MODELS["anthropic"], "turn_id": "mine"}
        full = await house.client.post("/v1/turns", json=body)
        assert (full.status_code, full.json()["code"]) == (503, "too_many_turns")
        assert (full.json()["limit"], full.json()["actual"]) == (2, 2)
        assert int(full.headers["retry-after"]) >= 1
        upstream.release("here")
        for turn_id in running:
            await house.followed(turn_id)
        assert (await house.client.post("/v1/turns", json=body)).status_code == 202
        await house.followed("mine")


# What it is asked with


async def test_what_a_turn_is_asked_with_is_checked_field_by_field(tmp_path: Path) -> None:
    async with playing(tmp_path, tools=(quick, other)) as (house, _):
        model = {"input": "x", "model": MODELS["anthropic"]}
        wrong: list[tuple[Json, str, str]] = [
            ({"limits": {"rounds": 51}}, "invalid_request", "/limits/rounds"),
            ({"limits": {"rounds": 10**400}}, "invalid_request", "/limits/rounds"),
            ({"limits": {"rounds": 0}}, "invalid_request", "/limits/rounds"),
            ({"limits": {"seconds": 1801}}, "invalid_request", "/limits/seconds"),
            ({"limits": {"seconds": -1}}, "invalid_request", "/limits/seconds"),
            ({"limits": {"round": 1}}, "invalid_request", "/limits/round"),
            ({"tools": ["quick", "quik"]}, "unknown_tool", "/tools/1"),
            ({"tools": ["quick", "quick"]}, "invalid_request", "/tools/1"),
            ({"params": {"max_tokens": 0}}, "invalid_request", "/params/max_tokens"),
            ({"params": {"max_token": 5}}, "invalid_request", "/params/max_token"),
            ({"params": {"thinking": {}}}, "invalid_request", "/params/thinking"),
            ({"params": {"thinking": {"effort": "huge"}}}, "invalid_request", "/params/thinking/effort"),
            ({"params": {"thinking": {"budget_tokens": 0}}}, "invalid_request", "/params/thinking/budget_tokens"),
            ({"params": {"tool_choice": "must"}}, "invalid_request", "/params/tool_choice"),
            ({"params": {"tool_choice": {"name": "nobody"}}}, "invalid_request", "/params/tool_choice/name"),
            ({"params": {"tool_choice": "required"}, "tools": []}, "invalid_request", "/params/tool_choice"),
            ({"on_busy": "later"}, "invalid_request", "/on_busy"),
            ({"metadata": {"a": "x" * 20_000}}, "invalid_request", "/metadata"),
        ]
        for fields, code, path in wrong:
            assert await refused(house, {**model, **fields}) == (422, code, [path]), fields
        for name, code in (("nobody/x", "unknown_model"), ("script/demo", "unknown_model")):
            assert await refused(house, {"input": "x", "model": name}) == (422, code, ["/model"])
        over = (await house.client.post("/v1/turns", json={**model, "limits": {"rounds": 51}})).json()
        assert (over["limit"], over["actual"]) == (50, 51)
        assert (await house.get("/v1/chats"))["data"] == []


async def test_bodies_that_are_no_turn_are_refused_before_anything(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        for content, status, code in (
            (b'{"input": "x"', 400, "invalid_json"),
            (b'{"input": "\\ud800"}', 400, "invalid_json"),
            (b"[]", 422, "invalid_request"),
            (b'"x"', 422, "invalid_request"),
            (b"null", 422, "invalid_request"),
            (b'{"input": "\xff"}', 400, "invalid_json"),
            (b'{"metadata": ' + b'{"a":' * 100 + b"1" + b"}" * 101, 422, "json_too_deep"),
        ):
            answer = await house.client.post("/v1/turns", content=content, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (status, code), content[:40]
        text = await house.client.post("/v1/turns", content=b'{"input":"x"}', headers={"content-type": "text/plain"})
        assert text.status_code == 415
        assert (await house.get("/v1/chats"))["data"] == []


@WIRES
async def test_tools_and_choices_are_in_the_request_that_goes_out(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path, tools=(quick, other)) as (house, upstream):
        for tools in (None, [], ["other"], ["other", "quick"]):
            fields = {} if tools is None else {"tools": tools}
            turn_id = await house.ask("x", model=MODELS[wire], **fields)
            await house.followed(turn_id)
            view = await house.turn(turn_id)
            sent = [one.get("name") or one["function"]["name"] for one in upstream.requests[-1].body.get("tools") or ()]
            expected = [name for name in ("quick", "other", "read_result") if tools is None or name in tools]
            assert sent == expected == view["request"]["tools"]
        await house.followed(await house.ask("x", model=MODELS[wire], params={"tool_choice": {"name": "other"}}))
        choice = upstream.requests[-1].body["tool_choice"]
        assert choice in ({"type": "tool", "name": "other"}, {"type": "function", "function": {"name": "other"}})
        assert upstream.refused == []


@WIRES
async def test_what_a_model_cannot_take_is_dropped_with_a_notice(wire: Wire, tmp_path: Path) -> None:
    """P13: never in silence, and never a 400 from the vendor."""
    params = {"temperature": 0.3, "thinking": {"budget_tokens": 2048}, "max_tokens": 8192, "stop": ["END"]}
    async with playing(tmp_path) as (house, upstream):
        turn_id = await house.ask("x", model=MODELS[wire], params=params)
        events = await house.followed(turn_id)
        body = upstream.requests[0].body
        assert upstream.refused == []
        view = await house.turn(turn_id)
    notices = [event for event in events if isinstance(event, e.Notice)]
    assert "temperature" not in body
    assert any("temperature" in notice.message for notice in notices), notices
    assert view["request"]["params"] == params
    assert view["status"] == "complete"


@WIRES
async def test_the_system_words_of_server_chat_and_turn_are_where_they_belong(wire: Wire, tmp_path: Path) -> None:
    """A turn's own stands in front of that turn's user text, and stays there."""
    async with playing(tmp_path, chat__system="SERVER") as (house, upstream):
        chat = (await house.client.post("/v1/chats", json={"system": "CHAT", "title": "T"})).json()
        assert chat["title"] == "T"
        for said, system in (("one", "TURN"), ("two", None)):
            fields = {} if system is None else {"system": system}
            await house.followed(await house.ask(said, chat_id=chat["id"], model=MODELS[wire], **fields))
        first, second = (request.body for request in upstream.requests)
    for body in (first, second):
        prompt = str(body.get("system") or body["messages"][0]["content"])
        assert prompt.index("SERVER") < prompt.index("CHAT")
        assert "TURN" not in prompt
    users = [str(one["content"]) for one in second["messages"] if one["role"] == "user"]
    assert users[0].index("TURN") < users[0].index("one")
    assert "TURN" not in users[1]
    assert upstream.refused == []


PDF = b"%PDF-1.4 not really"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


SHOWN: list[Json] = [
    {"type": "text", "text": "Look at these."},
    {"type": "image", "media_type": "image/png", "data": encoded(PNG)},
    {"type": "file", "name": "b.txt", "media_type": "text/plain", "data": encoded(b"in words")},
    {"type": "image", "media_type": "image/jpeg", "url": "https://example.org/a.jpg"},
]


@WIRES
async def test_images_and_files_are_kept_served_safely_and_sent(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        started = await house.post(blocks=SHOWN, model=MODELS[wire])
        await house.followed(started["assistant_turn"]["id"])
        asked = started["user_turn"]
        for block, data in ((asked["blocks"][1], PNG), (asked["blocks"][2], b"in words")):
            assert (block["bytes"], block["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
            assert "data" not in block
            served = await house.client.get(block["href"])
            assert (served.status_code, served.content) == (200, data)
            assert served.headers["content-type"] == block["media_type"]
            assert served.headers["x-content-type-options"] == "nosniff"
            assert served.headers["content-disposition"].startswith("attachment")
            assert "sandbox" in served.headers["content-security-policy"]
        assert asked["blocks"][3]["url"] == "https://example.org/a.jpg"
        assert "href" not in asked["blocks"][3]
        for index in (0, 3, 99):
            assert (await house.client.get(f"/v1/turns/{asked['id']}/blocks/{index}/data")).status_code == 404
        await house.followed(await house.ask("And?", chat_id=started["chat"]["id"], model=MODELS[wire]))
        assert upstream.refused == []
        assert len(upstream.requests) == 2
        for request in upstream.requests:
            sent = request.raw.decode()
            assert encoded(PNG) in sent
            assert "in words" in sent
            assert "https://example.org/a.jpg" in sent


async def test_a_file_one_vendor_takes_and_the_next_does_not_is_left_out_with_a_notice(tmp_path: Path) -> None:
    """P13: said to the reader, not refused by the vendor; where it could only be left out, it is 422."""
    blocks = [SHOWN[0], {"type": "file", "name": "a.pdf", "media_type": "application/pdf", "data": encoded(PDF)}]
    async with playing(tmp_path) as (house, upstream):
        said = await refused(house, {"blocks": blocks, "model": MODELS["openai_chat"]})
        assert said == (422, "invalid_request", ["/blocks/1/media_type"])
        started = await house.post(blocks=blocks, model=MODELS["anthropic"])
        await house.followed(started["assistant_turn"]["id"])
        turn_id = await house.ask("And?", chat_id=started["chat"]["id"], model=MODELS["openai_chat"])
        events = await house.followed(turn_id)
        assert encoded(PDF) in upstream.requests[0].raw.decode()
        assert encoded(PDF) not in upstream.requests[1].raw.decode()
        assert upstream.refused == []
        assert (await house.turn(turn_id))["status"] == "complete"
    assert [event.code for event in events if isinstance(event, e.Notice)] == ["files_left_out"]


@WIRES
async def test_a_file_that_only_the_script_took_bricks_no_chat(wire: Wire, tmp_path: Path) -> None:
    blocks = [
        {"type": "file", "name": "a.zip", "media_type": "application/zip", "data": encoded(b"PK")},
        {"type": "image", "media_type": "image/x-icon", "data": encoded(PNG)},
    ]
    async with playing(tmp_path, providers__script__enabled=True) as (house, upstream):
        started = await house.post(blocks=blocks, model="script/echo")
        await house.followed(started["assistant_turn"]["id"])
        turn = await house.folded(await house.ask("And?", chat_id=started["chat"]["id"], model=MODELS[wire]))
        assert (turn.status, upstream.refused) == ("complete", [])
        assert "a.zip" in upstream.requests[0].raw.decode()
        assert encoded(b"PK") not in upstream.requests[0].raw.decode()


async def test_wrong_images_and_files_are_refused_with_their_path(tmp_path: Path) -> None:
    png = base64.b64encode(PNG).decode()
    wrong: list[tuple[Json, str]] = [
        ({"type": "image", "media_type": "image/png"}, "/blocks/0"),
        ({"type": "image", "media_type": "image/png", "data": png, "url": "https://a.org/b"}, "/blocks/0"),
        ({"type": "image", "media_type": "image/png", "data": "§"}, "/blocks/0/data"),
        ({"type": "image", "media_type": "image/png", "data": ""}, "/blocks/0/data"),
        ({"type": "image", "media_type": "text/html", "data": png}, "/blocks/0/media_type"),
        ({"type": "image", "media_type": "image", "data": png}, "/blocks/0/media_type"),
        ({"type": "image", "data": png}, "/blocks/0/media_type"),
        ({"type": "image", "url": "http://a.org/b"}, "/blocks/0/url"),
        ({"type": "image", "url": "https://a.org/" + "b" * 2048}, "/blocks/0/url"),
        ({"type": "file", "name": "", "media_type": "text/plain", "data": png}, "/blocks/0/name"),
    ]
    async with playing(tmp_path) as (house, upstream):
        for block, path in wrong:
            body = {"blocks": [block], "model": MODELS["anthropic"]}
            assert await refused(house, body) == (422, "invalid_request", [path]), block
        many = {"blocks": [{"type": "text", "text": "x"}] * 101, "model": MODELS["anthropic"]}
        answer = (await house.client.post("/v1/turns", json=many)).json()
        assert (answer["limit"], answer["actual"]) == (100, 101)
        assert upstream.requests == []


async def test_text_that_no_store_takes_is_made_clean(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        started = await echo(house, "a\u0000b 🐉", metadata={"k": "v"})
        turn = await house.turn(started["assistant_turn"]["id"])
        asked = await house.turn(started["user_turn"]["id"])
    assert "\u0000" not in asked["blocks"][0]["text"]
    assert asked["blocks"][0]["text"].endswith("b 🐉")
    assert turn["metadata"] == {"k": "v"}


# Chats


async def test_chats_are_made_changed_listed_and_removed(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        made = [await house.client.post("/v1/chats", json={"id": f"chat-{n}", "title": f"T{n}"}) for n in range(5)]
        assert [one.status_code for one in made] == [201] * 5
        taken = await house.client.post("/v1/chats", json={"id": "chat-0"})
        assert taken.status_code == 409
        await echo(house, "newest", chat_id="chat-1")
        pages: list[list[str]] = []
        query = "?limit=2"
        while query:
            page = await house.get(f"/v1/chats{query}")
            pages.append([chat["id"] for chat in page["data"]])
            query = "" if page["next"] is None else f"?limit=2&before={page['next']}"
        assert [len(page) for page in pages] == [2, 2, 1]
        assert pages[0][0] == "chat-1"
        assert sorted(one for page in pages for one in page) == [f"chat-{n}" for n in range(5)]
        patched = await house.client.patch("/v1/chats/chat-2", json={"title": "New", "metadata": {"a": 1}})
        assert (patched.json()["title"], patched.json()["metadata"]) == ("New", {"a": 1})
        assert (await house.get("/v1/chats"))["data"][0]["id"] == "chat-2"
        assert (await house.client.patch("/v1/chats/chat-2", json={"model": "nobody/x"})).status_code == 422
        for much in ({"metadata": {"a": "x" * 16_384}}, {"system": "x" * 262_145}):
            for answer in (
                await house.client.patch("/v1/chats/chat-2", json=much),
                await house.client.post("/v1/chats", json=much),
            ):
                assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, f"/{next(iter(much))}")
        assert (await house.client.delete("/v1/chats/chat-2")).status_code == 204
        assert (await house.client.delete("/v1/chats/chat-2")).status_code == 404
        assert (await house.client.get("/v1/chats/chat-2")).status_code == 404
        assert (await house.client.patch("/v1/chats/nobody", json={})).status_code == 404
        assert (await house.client.get("/v1/chats/chat-3/turns")).json() == {"data": [], "next": None}


async def test_changes_of_a_chat_at_once_all_hold(tmp_path: Path) -> None:
    """A client gives a title while another talks on: the head is the newest turn all the same."""
    async with serving(configured(tmp_path)) as house:
        await echo(house, "first", chat_id="c")
        patches: list[Json] = [{"title": "T"}, {"metadata": {"a": 1}}, {"system": "S"}] * 3
        async with anyio.create_task_group() as tasks:
            for patch in patches:
                tasks.start_soon(partial(house.client.patch, "/v1/chats/c", json=patch))
            tasks.start_soon(partial(echo, house, "second", chat_id="c"))
        chat = await house.get("/v1/chats/c")
        assert (chat["title"], chat["metadata"], chat["system"]) == ("T", {"a": 1}, "S")
        assert (await texts(house, "c"))[::2] == ["first", "second"]


async def test_a_long_branch_is_read_in_pages(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        for number in range(4):
            await echo(house, f"say {number}", chat_id="mine")
        pages: list[list[str]] = []
        query = "?limit=3"
        while query:
            page = await house.get(f"/v1/chats/mine/turns{query}")
            pages.append([turn["id"] for turn in page["data"]])
            query = "" if page["next"] is None else f"?limit=3&before={page['next']}"
        whole = await house.get("/v1/chats/mine/turns")
        assert (await house.client.get("/v1/chats/mine/turns?branch=nobody")).status_code == 404
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [one for page in reversed(pages) for one in page] == [turn["id"] for turn in whole["data"]]
    assert whole["next"] is None


async def test_a_deleted_chat_cancels_its_turn_and_leaves_nothing(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        started = await echo_start(house, chat_id="mine", turn_id="answer")
        await upstream.reached("here")
        assert (await house.client.delete("/v1/chats/mine")).status_code == 204
        await upstream.hung_up(1)
        for path in ("/v1/chats/mine", "/v1/turns/answer", f"/v1/turns/{started['user_turn']['id']}"):
            assert (await house.client.get(path)).status_code == 404
        spent = await house.client.post("/v1/turns", json={"input": "Hello?", "chat_id": "mine", "turn_id": "answer"})
        assert (spent.status_code, spent.json()["code"]) == (409, "turn_id_reused")
        upstream.enqueue(Script([Say("Anew.")]))
        assert (await echo_start(house, chat_id="mine", turn_id="another"))["chat"]["id"] == "mine"
        assert (await house.folded("another")).status == "complete"


# What can be seen of it


@WIRES
async def test_the_model_view_is_what_the_vendor_was_sent_in_our_words(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path, tools=(quick,)) as (house, upstream):
        upstream.enqueue(
            Script([Say("I look."), Call("quick", {"what": "a"}), Call("quick", {"what": "b"})]),
            Script([Call("quick", {"what": "c"})]),
            Script([Say("There.")]),
        )
        turn_id = await house.ask("Look", model=MODELS[wire], system="Be brief.")
        await house.followed(turn_id)
        views = [await house.get(f"/v1/turns/{turn_id}/model_view?round={number}") for number in (1, 2, 3)]
        last = await house.get(f"/v1/turns/{turn_id}/model_view")
        assert last == views[2]
        for number in (0, 4):
            assert (await house.client.get(f"/v1/turns/{turn_id}/model_view?round={number}")).status_code == 422
        for view, request in zip(views, upstream.requests, strict=True):
            body = request.body
            assert _said(view) == _sent(body)
            assert [one["text"] for one in view["results"]] == list(results_in(body).values())
            names = [one.get("name") or one["function"]["name"] for one in body["tools"]]
            assert [one["name"] for one in view["tools"]] == names
            assert view["system"] in str(body.get("system") or body["messages"][0]["content"])


def _said(view: Json) -> list[str]:
    """Every text and call of a view, in order."""
    return [
        block.get("text") or block["tool_name"] + str(block["input"])
        for message in view["messages"]
        for block in message["blocks"]
    ]


def _sent(body: Json) -> list[str]:
    """The same of a request, on both wires."""
    said: list[str] = []
    for message in body["messages"]:
        if message["role"] == "system":
            continue
        content = message.get("content") or []
        if isinstance(content, str):
            said += content.split("\n\n")
            content = []
        for part in content:
            if part["type"] == "tool_use":
                said.append(part["name"] + str(part["input"]))
            elif part["type"] == "tool_result":
                said += results_in({"messages": [{"role": "user", "content": [part]}]}).values()
            else:
                said.append(part["text"])
        for call in message.get("tool_calls") or ():
            arguments = call["function"]["arguments"]
            said.append(call["function"]["name"] + arguments.replace('"', "'").replace(":", ": "))
    return said


@WIRES
async def test_usage_is_summed_over_the_rounds_and_never_nought_for_unknown(wire: Wire, tmp_path: Path) -> None:
    """Hazard 24: the row has each request's; a cancelled one's is not said to be whole."""
    figures = Figures(input_tokens=100, cache_read_tokens=20, output_tokens=7)
    async with playing(tmp_path, tools=(quick,)) as (house, upstream):
        upstream.enqueue(Script([Call("quick")], usage=figures), Script([Say("There.")], usage=figures))
        turn_id = await house.ask("Look", model=MODELS[wire])
        await house.followed(turn_id)
        turn = await house.turn(turn_id)
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        cancelled = await house.ask("Talk", model=MODELS[wire])
        await upstream.reached("here")
        await house.cancel(cancelled)
        await house.followed(cancelled)
        cut = await house.turn(cancelled)
    usage = turn["usage"]
    assert (usage["input_tokens"], usage["cache_read_tokens"], usage["output_tokens"]) == (240, 40, 14)
    assert usage["source"] == "reported"
    assert usage["cost_usd"] > 0
    assert [one["usage"]["input_tokens"] for one in turn["rounds"]] == [120, 120]
    assert cut["usage"]["source"] in ("estimated", "unknown")
    assert cut["usage"]["output_tokens"] != 0


async def test_the_timeline_shows_where_the_time_went_and_what_early_start_saved(tmp_path: Path) -> None:
    @tool(effect="write")
    async def act() -> str:
        """With effects."""
        return "did"

    async with playing(tmp_path, tools=(quick, act)) as (house, upstream):
        upstream.enqueue(Script([Say("I look."), Call("quick"), Call("act"), Gate("talking")]))
        turn_id = await house.ask("Look", model=MODELS["anthropic"])
        await house.until(turn_id, lambda event: isinstance(event, e.BlockStop) and event.output == "seen it")
        running = await house.get(f"/v1/turns/{turn_id}/timeline")
        upstream.release("talking")
        await house.followed(turn_id)
        whole = await house.get(f"/v1/turns/{turn_id}/timeline")
        upstream.enqueue(Script([Call("quick"), Gate("again")]))
        other_id = await house.ask("Look", model=MODELS["anthropic"])
        await house.until(other_id, lambda event: isinstance(event, e.BlockStop) and event.output == "seen it")
        upstream.release("again")
        await house.followed(other_id)
        early = await house.get(f"/v1/turns/{other_id}/timeline")
    open_spans = [span for span in running["spans"] if span["end_ms"] is None]
    assert {span["kind"] for span in open_spans} >= {"owner", "round", "tool_held"}
    assert all(span["end_ms"] is not None for span in whole["spans"] if span["kind"] != "owner")
    assert all(span["end_ms"] is None or span["start_ms"] <= span["end_ms"] for span in whole["spans"])
    kinds = Counter(span["kind"] for span in whole["spans"])
    assert (kinds["round"], kinds["tool_run"], kinds["tool_held"], kinds["owner"]) == (2, 2, 1, 1)
    assert kinds["store"] >= 1
    by_name = {span["name"]: span for span in whole["spans"] if span["kind"] == "tool_run"}
    first_round = next(span for span in whole["spans"] if span["kind"] == "round")
    assert by_name["quick"]["end_ms"] <= first_round["end_ms"] <= by_name["act"]["start_ms"]
    assert early["overlap_ms"] > 0


async def test_lists_name_what_there_is(tmp_path: Path) -> None:
    async with playing(tmp_path, tools=(quick, other)) as (house, _):
        tools = (await house.get("/v1/tools"))["data"]
        models = (await house.get("/v1/models"))["data"]
    assert [(one["name"], one["effect"], one["needs_approval"]) for one in tools] == [
        ("quick", "read", False),
        ("other", "read", False),
        ("read_result", "read", False),
    ]
    ids = {one["id"] for one in models}
    assert MODELS["anthropic"] in ids
    assert not any(one.startswith("script/") for one in ids)
