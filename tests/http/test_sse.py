"""The event stream, over real sockets."""

from __future__ import annotations

import anyio
import pytest
from tests.http.edge import BOUND, Edge, Raw, error_with, get, post, serving, status_of

from legato.core.errors import Overloaded, StoreUnavailable
from legato.core.events import BlockDelta, Event, TurnWaiting, encode
from legato.http.app import HttpSettings
from legato.http.connection import Connection
from legato.http.sse import SEND_BYTES, frame, pieces

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            BlockDelta(seq=57, index=3, text='He"l'),
            b'id: 57\nevent: block_delta\ndata: {"type":"block_delta","seq":57,"index":3,"text":"He\\"l"}\n\n',
        ),
        (
            TurnWaiting(seq=1000001),
            b'id: 1000001\nevent: turn_waiting\ndata: {"type":"turn_waiting","seq":1000001}\n\n',
        ),
    ],
)
def test_a_frame_names_its_event_and_seq_and_carries_the_line_as_it_is(event: Event, expected: bytes) -> None:
    assert frame(encode(event)) == expected


def test_all_that_is_pending_is_one_piece_of_whole_frames_until_it_is_very_long() -> None:
    one = b"data: " + b"x" * 992 + b"\n\n"
    assert list(pieces(one * 10)) == [one * 10]
    long = list(pieces(one * 600))
    assert b"".join(long) == one * 600
    assert len(long) == 3
    assert all(piece.endswith(b"\n\n") and len(piece) <= SEND_BYTES + 1000 for piece in long)
    assert list(pieces(b"")) == []


async def follow(edge: Edge, turn_id: str, *headers: str, query: str = "") -> tuple[Raw, bytes]:
    raw = await edge.raw()
    await raw.send(get(f"/v1/turns/{turn_id}/events{query}", *headers))
    return raw, await raw.until(b"\r\n\r\n")


async def test_a_reader_gets_what_was_said_what_is_said_and_the_end(edge: Edge) -> None:
    turn = edge.service.turn()
    turn.start()
    raw, head = await follow(edge, "t1")
    async with raw.stream:
        assert status_of(head) == 200
        for header in (
            b"content-type: text/event-stream; charset=utf-8",
            b"x-accel-buffering: no",
            b"cache-control: no-cache, no-transform",
        ):
            assert header + b"\r\n" in head
        assert (await raw.until(b"\n\n")).endswith(b"\r\nretry: 1000\n\n")
        assert b"id: 1\nevent: turn_start\n" in await raw.until(b"\n\n")
        turn.delta("a")
        assert b"id: 2\nevent: block_delta\n" in await raw.until(b"\n\n")
        turn.end()
        assert b"id: 3\nevent: turn_end\n" in await raw.until(b"\n\n")
        assert (await raw.until(b"0\r\n\r\n")).endswith(b"0\r\n\r\n")
    await edge.quiet()
    assert turn.readers == edge.app.readers.count == 0


async def test_what_is_pending_at_a_wake_up_leaves_in_one_write(edge: Edge) -> None:
    turn = edge.service.turn()
    raw, _ = await follow(edge, "t1")
    async with raw.stream:
        await raw.until(b"\n\n\r\n")
        turn.say(*(BlockDelta(seq=seq, index=0, text="é\n") for seq in range(1, 51)))
        size = int((await raw.until(b"\r\n")).removesuffix(b"\r\n"), 16)
        chunk = (await raw.until(b"\n\n\r\n"))[:-2]
        assert len(chunk) == size
        assert chunk.count(b"\n\n") == chunk.count(b"\nevent: ") == 50


@pytest.mark.parametrize(
    ("query", "headers", "after"),
    [
        ("", (), 0),
        ("?after=2", (), 2),
        ("", ("Last-Event-ID: 3",), 3),
        ("?after=2", ("Last-Event-ID: 1",), 2),
        ("?after=1", ("Last-Event-ID: 2",), 2),
        ("", ("Last-Event-ID:",), 0),
        ("?after=7", (), 7),
    ],
)
async def test_the_larger_cursor_counts(edge: Edge, query: str, headers: tuple[str, ...], after: int) -> None:
    edge.service.turn()
    raw, head = await follow(edge, "t1", *headers, query=query)
    async with raw.stream:
        assert status_of(head) == 200
        await edge.service.turn().until_readers(1)
        assert edge.service.calls[-2:] == [("position", after), ("reader", (after, False))]


async def test_each_delta_is_asked_for_by_name(edge: Edge) -> None:
    edge.service.turn()
    raw, _ = await follow(edge, "t1", query="?deltas=each")
    async with raw.stream:
        await edge.service.turn().until_readers(1)
        assert edge.service.calls[-1] == ("reader", (0, True))


@pytest.mark.parametrize(
    ("query", "header"),
    [
        ("?after=x", ""),
        ("?after=-1", ""),
        ("?after=1.0", ""),
        ("?after=", ""),
        ("?after=9007199254740992", ""),
        ("?after=1&after=2", ""),
        ("?deltas=all", ""),
        ("?aftre=1", ""),
        ("", "abc"),
        ("", "-1"),
        ("", "٣"),
    ],
)
async def test_a_cursor_that_is_not_a_number_is_422(shared_edge: Edge, query: str, header: str) -> None:
    shared_edge.service.turn()
    async with shared_edge.client() as client:
        headers = {b"last-event-id": header.encode()} if header else {}
        answer = await client.get(f"/v1/turns/t1/events{query}", headers=headers)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
    assert len(answer.json()["errors"]) == 1


async def test_a_turn_that_ended_before_the_cursor_is_204_so_that_a_browser_stops(edge: Edge) -> None:
    turn = edge.service.turn()
    turn.start()
    turn.end()
    async with edge.client() as client:
        assert (await client.get("/v1/turns/t1/events?after=2")).status_code == 204
        assert (await client.get("/v1/turns/t1/events?after=200")).status_code == 204
        assert (await client.get("/v1/turns/t1/events", headers={"Last-Event-ID": "2"})).status_code == 204
        behind = await client.get("/v1/turns/t1/events?after=1")
    assert behind.status_code == 200
    assert "event: turn_end" in behind.text
    assert "event: turn_start" not in behind.text


async def test_a_turn_that_is_not_there_is_404(edge: Edge) -> None:
    async with edge.client() as client:
        assert (await client.get("/v1/turns/nope/events")).status_code == 404
        assert (await client.get("/v1/turns/no%20pe/events")).status_code == 404


async def test_a_reader_that_leaves_is_released_and_the_turn_goes_on(edge: Edge) -> None:
    turn = edge.service.turn()
    turn.start()
    raw, _ = await follow(edge, "t1")
    await turn.until_readers(1)
    assert edge.app.readers.count == 1
    await raw.stream.aclose()
    await turn.until_readers(0)
    assert not turn.cancelled
    assert not turn.ended


async def test_an_idle_stream_says_a_comment() -> None:
    async with serving(HttpSettings(beat_seconds=0.01)) as edge:
        edge.service.turn()
        raw, _ = await follow(edge, "t1")
        async with raw.stream:
            await raw.until(b": still here\n\n")
            await raw.until(b": still here\n\n")


async def test_a_reader_that_takes_nothing_is_dropped() -> None:
    async with serving(HttpSettings(beat_seconds=0.02, stall_seconds=0.05)) as edge:
        turn = edge.service.turn()
        raw, _ = await follow(edge, "t1")
        async with raw.stream:
            turn.say(*(BlockDelta(seq=seq, index=0, text="x" * 100_000) for seq in range(1, 201)))
            await turn.until_readers(1)
            await edge.quiet()
            assert edge.app.readers.count == 0


async def test_bytes_that_are_no_request_end_a_stream_and_put_nothing_into_it(edge: Edge) -> None:
    turn = edge.service.turn()
    raw, _ = await follow(edge, "t1")
    await raw.until(b"retry: 1000\n\n\r\n")
    await raw.send(b"\x00\x00 what\r\n\r\n")
    assert await raw.rest() == b""
    await edge.quiet()
    assert turn.readers == edge.app.readers.count == 0


async def test_a_request_behind_a_stream_does_not_hide_what_comes_behind_it(edge: Edge) -> None:
    edge.service.turn()
    raw, _ = await follow(edge, "t1")
    await raw.until(b"retry: 1000\n\n\r\n")
    await raw.send(get("/livez") + b"\x00\x00 what\r\n\r\n")
    assert await raw.rest() == b""
    await edge.quiet()


async def test_a_reader_with_a_request_behind_its_stream_is_released_when_it_leaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(HttpSettings(beat_seconds=0.05)) as edge:
        turn = edge.service.turn()
        raw, _ = await follow(edge, "t1")
        await raw.until(b"retry: 1000\n\n\r\n")
        await raw.send(get("/livez"))
        await raw.stream.aclose()
        await edge.quiet()
        assert turn.readers == edge.app.readers.count == 0
    assert caplog.records == []


async def test_requests_that_wait_behind_a_stream_are_bounded(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "waiting", 3)
    edge.service.turn()
    raw, _ = await follow(edge, "t1")
    await raw.until(b"retry: 1000\n\n\r\n")
    await raw.send(get("/livez") * 4)
    assert await raw.rest() == b""
    await edge.quiet()


async def test_head_gives_the_headers_and_no_stream(edge: Edge) -> None:
    edge.service.turn()
    async with edge.client() as client:
        answer = await client.head("/v1/turns/t1/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert edge.app.readers.count == 0


@pytest.mark.parametrize(
    "error",
    [StoreUnavailable("the store is away"), Overloaded("the server is about to stop", code="draining")],
)
async def test_with_the_store_away_or_in_drain_the_connection_is_closed_without_a_status(
    error: StoreUnavailable | Overloaded, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(service=error_with(error)) as edge:
        assert await edge.ask(get("/v1/turns/t1/events")) == b""
        assert edge.app.readers.count == 0
    assert caplog.records == []


async def test_more_readers_than_the_limit_are_503_with_retry_after() -> None:
    async with serving(HttpSettings(readers=2)) as edge, edge.client() as client:
        turn = edge.service.turn()
        first, _ = await follow(edge, "t1")
        await follow(edge, "t1")
        await turn.until_readers(2)
        refused = await client.get("/v1/turns/t1/events")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert (refused.json()["code"], refused.json()["limit"]) == ("readers_full", 2)
        posted = await edge.ask(post("/v1/turns", b'{"input":"hi"}', "Accept: text/event-stream", "Connection: close"))
        assert status_of(posted) == 503
        assert edge.service.posts == {}
        await first.stream.aclose()
        with anyio.fail_after(BOUND):
            while status_of((await follow(edge, "t1"))[1]) != 200:
                pass


async def test_a_post_that_accepts_an_event_stream_is_answered_with_it(edge: Edge) -> None:
    raw = await edge.raw()
    async with raw.stream:
        await raw.send(post("/v1/turns", b'{"input":"hi","turn_id":"mine"}', "Accept: text/event-stream"))
        head = await raw.until(b"\r\n\r\n")
        assert status_of(head) == 200
        assert b"location: /v1/turns/mine\r\n" in head
        turn = edge.service.turn("mine")
        turn.start()
        await raw.until(b"event: turn_start\n")
    await turn.until_readers(0)
    assert not turn.cancelled


async def test_before_acceptance_an_error_is_a_problem_whatever_accept_says(edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.post("/v1/turns", json={"inptu": "hi"}, headers={"Accept": "text/event-stream"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert edge.app.readers.count == 0


@pytest.mark.parametrize(
    ("accept", "stream"),
    [
        ("application/json", False),
        ("*/*", False),
        ("text/*", False),
        ("", False),
        ("application/json, text/event-stream;q=0.5", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream, application/json;q=0.9", True),
        ("application/json;q=0.1, TEXT/EVENT-STREAM; q=0.2", True),
        ("text/event-stream;q=nonsense", True),
    ],
)
async def test_accept_says_what_the_post_is_answered_with(shared_edge: Edge, accept: str, stream: bool) -> None:
    turn = shared_edge.service.turn(f"t{len(shared_edge.service.posts) + 100}")
    turn.start()
    turn.end()
    async with shared_edge.client() as client:
        answer = await client.post("/v1/turns", json={"input": "hi"}, headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("text/event-stream") is stream
    assert answer.status_code == (200 if stream else 202)
