"""Whoever follows, however often, from wherever: the same turn (P9, P10, P11; hazards 2, 3, 6, 7, 8, 10, 12)."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import httpx
import pytest
from tests.e2e.house import MODELS, House, Json, configured, playing, serving
from tests.patience import BOUND

from legato import ToolContext, tool
from legato.core import events as e
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn, fold
from legato.observability import process
from legato.runtime.reading.following import SQUASH_FROM
from legato.runtime.reading.live import KEPT_LINES
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, Gate, Say, Script, Think, Upstream

MARKS = [f"mark-{number}" for number in range(6)]


@tool(effect="read")
async def look(what: str, *, ctx: ToolContext) -> dict[str, str]:
    """Shows what it does, and finds something."""
    for number in range(20):
        await ctx.emit(f"{number} 🐉 ")
    return {"found": what}


@tool(effect="write")
def save(what: str) -> str:
    """With effects."""
    return f"saved {what}"


TOOLS = (look, save)


def chatter(mark: str, words: int = 30) -> list[Say | Gate]:
    """Text, and then a gate that whoever reads the mark may open."""
    return [Say(f"Śome wörds 🎵 and so on {mark} {'word ' * words}{mark}."), Gate(mark)]


def story() -> list[Script]:
    """A turn of three rounds with all there is in it, that stands at six gates."""
    return [
        Script([Think("Where to begin? " * 5), *chatter(MARKS[0]), Call("look", {"what": "a"}), *chatter(MARKS[1])]),
        Script([Call("save", {"what": "b"}), Call("look", {"what": "c"}), *chatter(MARKS[2], 100)]),
        Script([*chatter(MARKS[3]), *chatter(MARKS[4], 200), *chatter(MARKS[5]), Say("The end.")]),
    ]


def same(turn: Turn) -> list[tuple[object, ...]]:
    """A turn's blocks without what depends on its id. Results stand in call order: each comes when it comes."""
    arguments = {block.call_id: block.text for block in turn.blocks if isinstance(block, ToolUseBlock)}
    said: list[tuple[object, ...]] = []
    for block in turn.blocks:
        called = arguments[block.call_id] if isinstance(block, ToolUseBlock | ToolResultBlock) else ""
        output = block.output if isinstance(block, ToolResultBlock) else None
        said.append((block.round, called, type(block).__name__, block.state, block.text, output))
    return sorted(said, key=repr)


def released_by(upstream: Upstream, event: e.Event) -> None:
    """Open the gate whose mark this event has brought."""
    for mark in MARKS:
        if brought(mark, event):
            upstream.release(mark)


def brought(mark: str, event: e.Event) -> bool:
    return isinstance(event, e.BlockDelta) and f"{mark}." in event.text


async def undisturbed(house: House, upstream: Upstream) -> Turn:
    upstream.enqueue(*story())
    said: list[e.Event] = []
    turn_id = await house.ask("Tell me", model=MODELS["anthropic"])
    with anyio.fail_after(BOUND):
        async for event in house.events(turn_id, each=True):
            said.append(event)
            released_by(upstream, event)
    return fold(said)


class Wanderer:
    """A reader that loses the line after a random number of bytes, and comes back with what it has."""

    def __init__(self, house: House, turn_id: str, seed: int, see: Callable[[e.Event], None]) -> None:
        self._house = house
        self._turn_id = turn_id
        self._random = random.Random(seed)
        self._see = see
        self.events: list[e.Event] = []
        self.visits = 0

    @property
    def ended(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], e.TurnEnd)

    async def wander(self) -> None:
        with anyio.fail_after(BOUND):
            while not self.ended:
                self.visits += 1
                await self._visit(self._random.choice([0, 40, 400, 4_000, 40_000]))

    async def _visit(self, budget: int) -> None:
        cursor = self.events[-1].seq if self.events else 0
        query = {"deltas": "each"} if self._random.random() < 0.5 else {}
        headers = {}
        match self._random.randrange(3):
            case 0:
                query["after"] = str(cursor)
            case 1:
                headers["last-event-id"] = str(cursor)
            case _:  # a browser that comes back to a URL with a cursor in it: the larger one counts
                query["after"] = str(self._random.randint(0, cursor))
                headers["last-event-id"] = str(cursor)
        url = f"/v1/turns/{self._turn_id}/events"
        async with self._house.client.stream("GET", url, params=query, headers=headers) as answer:
            assert answer.status_code == 200
            buffer, left = b"", self._random.randint(0, budget) + 1
            async for piece in answer.aiter_raw():
                *frames, buffer = (buffer + piece[:left]).split(b"\n\n")
                left -= len(piece)
                for frame in frames:
                    self._read(frame)
                if left <= 0:
                    return

    def _read(self, frame: bytes) -> None:
        lines = frame.split(b"\n")
        if not lines[0].startswith(b"id: "):
            return
        event = e.decode(lines[2].removeprefix(b"data: "))
        assert lines[0] == b"id: %d" % event.seq
        self.events.append(event)
        self._see(event)


def without_a_hole(events: list[e.Event]) -> bool:
    """Each event's first seq is the last one's plus 1."""
    last = 0
    for event in events:
        first = event.first_seq if isinstance(event, e.BlockDelta) and isinstance(event.first_seq, int) else event.seq
        if first != last + 1:
            return False
        last = event.seq
    return True


@pytest.mark.parametrize("seed", range(3))
async def test_readers_that_lose_the_line_again_and_again_fold_the_same(seed: int, tmp_path: Path) -> None:
    """Hazards 3, 7: five readers, merged and each, from the first byte to the end, live; and one who stays."""
    async with playing(tmp_path, tools=TOOLS) as (house, upstream):
        upstream.enqueue(*story())
        turn_id = await house.ask("Tell me", model=MODELS["anthropic"])
        see = lambda event: released_by(upstream, event)  # noqa: E731
        wanderers = [Wanderer(house, turn_id, 10 * seed + number, see) for number in range(5)]
        stayed: list[list[e.Event]] = []

        async def stay() -> None:
            stayed.append(await house.followed(turn_id, each=True))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stay)
            for wanderer in wanderers:
                tasks.start_soon(wanderer.wander)
        late = Wanderer(house, turn_id, seed, see)
        await late.wander()
        requests = len(upstream.requests)
    assert requests == 3
    assert without_a_hole(stayed[0])
    turn = fold(stayed[0])
    for wanderer in (*wanderers, late):
        assert without_a_hole(wanderer.events)
        assert fold(wanderer.events).blocks == turn.blocks
        assert fold(wanderer.events).rounds == turn.rounds
    assert max(wanderer.visits for wanderer in wanderers) > 3


async def drop_at(house: House, request: bytes, read: int, *, reset: bool) -> None:
    """Ask over a socket of one's own, read so many bytes, and go."""
    stream = await anyio.connect_tcp("127.0.0.1", house.port)
    sock = stream.extra(anyio.abc.SocketAttribute.raw_socket)
    try:
        await stream.send(request)
        while read > 0:
            read -= len(await stream.receive(read))
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        await stream.aclose()


def get_events(turn_id: str, query: str = "") -> bytes:
    return f"GET /v1/turns/{turn_id}/events{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post_turn(body: bytes, accept: str = "application/json") -> bytes:
    head = f"POST /v1/turns HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def test_a_turn_whose_readers_all_go_ends_as_if_nobody_had_been_there(tmp_path: Path) -> None:
    """Hazard 2, P11: forty readers dropped at any byte, closed and reset, and nobody left at the end."""
    async with playing(tmp_path, tools=TOOLS) as (house, upstream):
        expected = await undisturbed(house, upstream)
        before = process.value("readers")
        upstream._gates._open.clear()
        upstream.enqueue(*story())
        turn_id = await house.ask("Tell me", model=MODELS["anthropic"])
        chance = random.Random(2)
        for mark in MARKS:
            await upstream.reached(mark, times=2)
            async with anyio.create_task_group() as tasks:
                for number in range(7):
                    read = chance.randint(0, 1_500)
                    tasks.start_soon(_drop, house, turn_id, read, number % 2 == 0)
            upstream.release(mark)
        turn = await house.folded(turn_id)
        with anyio.fail_after(BOUND):
            while process.value("readers") > before:
                await anyio.lowlevel.checkpoint()
    assert same(turn) == same(expected)


async def _drop(house: House, turn_id: str, read: int, reset: bool) -> None:
    await drop_at(house, get_events(turn_id), read, reset=reset)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_turn_whose_poster_hangs_up_before_the_answer_ends_all_the_same(accept: str, tmp_path: Path) -> None:
    """Hazard 2: the tab is closed before the first token, or before the 202."""
    store = FaultyStore()
    async with playing(tmp_path, tools=TOOLS, around=store.over) as (house, upstream):
        upstream.enqueue(Script([Say("I answer.")]))
        store.hold("begin")
        body = b'{"turn_id":"mine","input":"Are you there?","model":"anthropic/claude-sonnet-4-5"}'
        await drop_at(house, post_turn(body, accept), 0, reset=True)
        await store.reached("begin")
        # The server has noticed by now, or notices while it goes on.
        await house.get("/livez")
        store.back()
        with anyio.fail_after(BOUND):
            while (await house.client.get("/v1/turns/mine")).status_code == 404:
                await anyio.lowlevel.checkpoint()
        turn = await house.folded("mine")
        requests = len(upstream.requests)
    assert requests == 1
    assert (turn.status, [block.text for block in turn.blocks]) == ("complete", ["I answer."])


async def test_a_post_that_is_cut_in_its_body_makes_nothing(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        request = post_turn(b'{"turn_id":"mine","input":"Are you there?","model":"anthropic/claude-sonnet-4-5"}')
        for size in range(0, len(request), 17):
            await drop_at(house, request[:size], 0, reset=size % 2 == 0)
        assert (await house.client.get("/v1/turns/mine")).status_code == 404
        assert (await house.get("/v1/chats"))["data"] == []
        assert upstream.requests == []


async def test_a_posted_stream_starts_at_seq_1_and_closing_it_cancels_nothing(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Before "), Gate("here"), Say("and after.")]))
        body = {"input": "Talk", "turn_id": "mine", "model": MODELS["anthropic"]}
        async with house.client.stream(
            "POST", "/v1/turns", json=body, headers={"accept": "text/event-stream"}
        ) as answer:
            assert (answer.status_code, answer.headers["location"]) == (200, "/v1/turns/mine")
            assert answer.headers["content-type"].startswith("text/event-stream")
            said = b""
            async for piece in answer.aiter_raw():
                said += piece
                if b"Before" in said:
                    break
        assert said.startswith(b"retry: 1000\n\nid: 1\nevent: turn_start\ndata: ")
        await upstream.reached("here")
        upstream.release("here")
        turn = await house.folded("mine")
    assert [block.text for block in turn.blocks] == ["Before ", "and after."]


@pytest.mark.parametrize("answer", [Script([Gate("g"), Say("Yes.")], quiet=0), Script([Say("Yes.")], lag=0.2)])
async def test_a_reader_who_joins_before_anything_was_said_waits_for_it(answer: Script, tmp_path: Path) -> None:
    """Hazard 6: 200 and a wait, never "nothing here"."""
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(answer)
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        async with aclosing(house.events(turn_id, after=2)) as early:
            async with anyio.create_task_group() as tasks:
                first: list[e.Event] = []

                async def read() -> None:
                    with anyio.fail_after(BOUND):
                        first.append(await anext(early))

                tasks.start_soon(read)
                await upstream.received(1)
                view = await house.turn(turn_id)
                assert view["status"] == "running"
                upstream.release("g")
            rest = [event async for event in early]
    assert isinstance(first[0], e.BlockStart)
    assert isinstance(rest[-1], e.TurnEnd)


async def test_following_starts_nothing(tmp_path: Path) -> None:
    """Hazard 10: late readers, repeats and strangers make no request to a vendor."""
    async with playing(tmp_path, tools=TOOLS) as (house, upstream):
        turn = await undisturbed(house, upstream)
        for after in range(0, turn.last_seq + 3, 7):
            await house.client.get(f"/v1/turns/{turn.turn_id}/events?after={after}")
        await house.client.head(f"/v1/turns/{turn.turn_id}/events")
        assert (await house.client.get("/v1/turns/other/events")).status_code == 404
        assert len(upstream.requests) == 3


async def test_an_ended_turn_is_said_again_byte_for_byte_after_a_restart(tmp_path: Path) -> None:
    """Hazards 8, 12: the end and everything before it come from what is stored."""
    async with playing(tmp_path, tools=TOOLS) as (house, upstream):
        turn_id = (await undisturbed(house, upstream)).turn_id
        live = [frame async for frame in house.frames(turn_id, each=True)]
        merged = [frame async for frame in house.frames(turn_id)]
        view = await house.turn(turn_id)
    async with serving(configured(tmp_path), tools=TOOLS) as house:
        assert [frame async for frame in house.frames(turn_id, each=True)] == live
        assert [frame async for frame in house.frames(turn_id)] == merged
        for after in (1, len(live) // 2, len(live) - 1):
            assert [frame async for frame in house.frames(turn_id, after=after, each=True)] == live[after:]
        assert (await house.client.get(f"/v1/turns/{turn_id}/events?after={len(live)}")).status_code == 204
        assert await house.turn(turn_id) == view
    assert fold(map(e.decode, merged)).blocks == fold(map(e.decode, live)).blocks
    assert len(merged) < len(live)


async def test_204_means_ended_and_nothing_after(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Yes.")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        last = (await house.followed(turn_id))[-1].seq
        url = f"/v1/turns/{turn_id}/events"

        async def status(query: str = "", *ids: str) -> int:
            headers = [("last-event-id", one) for one in ids]
            return (await house.client.get(url + query, headers=headers)).status_code

        only_end = await house.client.get(f"{url}?after={last - 1}")
        assert only_end.text.startswith("retry: 1000\n\n")
        assert only_end.text.count("id: ") == 1
        assert f"id: {last}\nevent: turn_end\n" in only_end.text
        assert await status(f"?after={last}") == 204
        assert await status(f"?after={last + 1000}") == 204
        assert await status("", str(last)) == 204
        assert await status("?after=0", str(last)) == 204
        assert await status(f"?after={last}", "1") == 204
        assert await status("?after=1", "1") == 200
        assert await status("", "") == 200
        assert await status("?after=x") == 422
        assert await status("?after=-1") == 422
        assert await status("", "abc") == 422
        assert await status("?deltas=none") == 422
        assert (await house.client.get("/v1/turns/nobody/events")).status_code == 404
        assert (await house.client.get("/v1/turns/nobody/events?after=3")).status_code == 404


async def test_a_cursor_beyond_the_end_waits_while_the_turn_runs(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        async with house.client.stream("GET", f"/v1/turns/{turn_id}/events?after=100000") as answer:
            assert answer.status_code == 200
            upstream.release("here")
            said = b"".join([piece async for piece in answer.aiter_raw()])
        await house.folded(turn_id)
    assert said == b"retry: 1000\n\n"


async def test_the_log_of_a_user_turn_can_be_followed_too(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        started = await house.post("Good day", model="script/echo")
        said = await house.followed(started["user_turn"]["id"])
        await house.followed(started["assistant_turn"]["id"])
    assert [block.text for block in fold(said).blocks] == ["Good day"]


async def test_a_head_request_is_answered_at_once_and_takes_no_place(tmp_path: Path) -> None:
    async with playing(tmp_path, limits__readers=1) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        for _ in range(3):
            head = await house.client.head(f"/v1/turns/{turn_id}/events")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"].startswith("text/event-stream")
        upstream.release("here")
        await house.followed(turn_id)


async def test_what_an_event_source_needs_is_there(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("One two.")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await house.followed(turn_id)
        answer = await house.client.get(f"/v1/turns/{turn_id}/events", headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in answer.headers
    head, *frames = answer.text.removesuffix("\n\n").split("\n\n")
    assert head == "retry: 1000"
    for number, frame in enumerate(frames, start=1):
        id_line, event_line, data_line = frame.split("\n")
        assert id_line == f"id: {number}"
        assert data_line.startswith(f'data: {{"type":"{event_line.removeprefix("event: ")}","seq":{number}')
        assert event_line.removeprefix("event: ") not in {"message", "open", "error"}


async def test_a_hundred_readers_of_one_turn_get_the_same_bytes(tmp_path: Path) -> None:
    async with playing(tmp_path, tools=TOOLS) as (house, upstream):
        upstream.enqueue(*story())
        turn_id = await house.ask("Tell me", model=MODELS["anthropic"])
        read: list[list[bytes]] = []
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=house.url, timeout=BOUND, trust_env=False, limits=limits) as many:
            crowd = House(house.service, house.server, many, house.port)
            await crowd.read_document()

            async def follow() -> None:
                read.append([frame async for frame in crowd.frames(turn_id, each=True)])

            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(follow)
                for mark in MARKS:
                    await upstream.reached(mark)
                    upstream.release(mark)
        waiting = process.value("readers")
    assert len(read) == 100
    assert all(frames == read[0] for frames in read)
    assert waiting == 0


async def test_a_reader_far_behind_a_running_turn_reads_the_store_and_then_live(tmp_path: Path) -> None:
    """Further behind than the live log keeps: no hole, no repeat where the two meet."""
    words = KEPT_LINES * 2
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("word " * words), Gate("long"), Say("more " * 10)], frames_per_write=100))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        live = house.service._running.live(turn_id)
        assert live is not None
        await upstream.reached("long")
        with anyio.fail_after(BOUND):
            while live.first_seq == 1 or live.last_seq < words:
                await anyio.lowlevel.checkpoint()
        assert not live.holds(0)
        readers: dict[str, list[bytes]] = {}

        async def read(name: str, after: int, each: bool) -> None:
            readers[name] = [frame async for frame in house.frames(turn_id, after=after, each=each)]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, "each", 0, True)
            tasks.start_soon(read, "merged", 0, False)
            tasks.start_soon(read, "from the seam", live.first_seq - 1, True)
            tasks.start_soon(read, "before the seam", live.first_seq - 2, True)
            seam = live.first_seq
            await house.until(turn_id, lambda event: event.seq >= words)
            upstream.release("long")
        stored = [frame async for frame in house.frames(turn_id, each=True)]
    assert readers["each"] == stored
    assert readers["from the seam"] == stored[seam - 1 :]
    assert readers["before the seam"] == stored[seam - 2 :]
    assert fold(map(e.decode, readers["merged"])).blocks == fold(map(e.decode, stored)).blocks
    assert without_a_hole([e.decode(frame) for frame in readers["merged"]])
    assert len(readers["merged"]) < SQUASH_FROM


async def test_a_reader_who_does_not_read_slows_nobody_and_loses_nothing(tmp_path: Path) -> None:
    """P10: the turn ends, and another reader has all of it, before the slow one takes its second byte."""
    async with playing(tmp_path) as (house, upstream):
        long = Say("", pieces=["y" * 10_000] * 1_000)
        upstream.enqueue(Script([Gate("joined"), long], frames_per_write=10))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        async with await anyio.connect_tcp("127.0.0.1", house.port) as stream:
            await stream.send(get_events(turn_id, "?deltas=each"))
            slow = await stream.receive(1)
            upstream.release("joined")
            fast = [frame async for frame in house.frames(turn_id, each=True)]
            with anyio.fail_after(BOUND):
                while b"\r\n0\r\n\r\n" not in slow[-7:]:
                    slow += await stream.receive(1 << 20)
    frames = dechunked(slow.partition(b"\r\n\r\n")[2]).removesuffix(b"\n\n").split(b"\n\n")
    assert len(fast) > 1_000
    assert [frame.partition(b"data: ")[2] for frame in frames[1:]] == fast


def dechunked(body: bytes) -> bytes:
    pieces: list[bytes] = []
    while body:
        size, _, body = body.partition(b"\r\n")
        pieces.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return b"".join(pieces)


async def test_readers_that_are_gone_are_forgotten_by_the_live_log(tmp_path: Path) -> None:
    """Hazard 29 in small: no future, no place of a reader stays."""
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        live = house.service._running.live(turn_id)
        assert live is not None
        for number in range(20):
            await drop_at(house, get_events(turn_id), 400, reset=number % 2 == 0)
        with anyio.fail_after(BOUND):
            while live._waiting or live._listeners:
                await anyio.lowlevel.checkpoint()
        upstream.release("here")
        await house.followed(turn_id)


async def test_a_deleted_chat_ends_its_streams_and_is_gone(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        started = await house.post("Talk", model=MODELS["anthropic"])
        turn_id = started["assistant_turn"]["id"]
        await upstream.reached("here")
        read: list[e.Event] = []
        joined = anyio.Event()

        async def follow() -> None:
            async for event in house.events(turn_id):
                read.append(event)
                joined.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            with anyio.fail_after(BOUND):
                await joined.wait()
            assert (await house.client.delete(f"/v1/chats/{started['chat']['id']}")).status_code == 204
        assert isinstance(read[-1], e.TurnEnd)
        assert read[-1].status == "cancelled"
        assert (await house.client.get(f"/v1/turns/{turn_id}/events")).status_code == 404
        assert (await house.client.get(f"/v1/turns/{turn_id}")).status_code == 404
        kept = await house.client.post(f"/v1/turns/{turn_id}/cancel")  # remembered, as for any turn that is not there
        assert (kept.status_code, kept.json()["stored"]) == (202, True)


async def test_a_view_and_the_events_after_it_are_the_whole_turn(tmp_path: Path) -> None:
    """docs/http.md: go on with ``?after={last_seq}``, from any moment of the turn."""
    async with playing(tmp_path, tools=TOOLS) as (house, upstream):
        upstream.enqueue(*story())
        turn_id = await house.ask("Tell me", model=MODELS["anthropic"])
        seen: list[tuple[Json, list[e.Event]]] = []

        async def view_and_follow() -> None:
            view = await house.turn(turn_id)
            after = [] if view["ended_at"] else await house.followed(turn_id, after=view["last_seq"], each=True)
            seen.append((view, after))

        async with anyio.create_task_group() as tasks:
            for mark in MARKS:
                await upstream.reached(mark)
                tasks.start_soon(view_and_follow)
                await house.until(turn_id, partial(brought, mark))
                upstream.release(mark)
        whole = await house.followed(turn_id, each=True)
    for view, after in seen:
        start = view["last_seq"]
        assert whole[start:] == after
        then = fold(whole[:start])
        assert [block["text"] for block in view["blocks"]] == [block.text for block in then.blocks]
        assert [block["state"] for block in view["blocks"]] == [block.state for block in then.blocks]
