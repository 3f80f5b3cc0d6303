"""Bounds of a request, over raw sockets."""

from __future__ import annotations

import anyio
import pytest
from tests.http.edge import Edge, get, post, serving, status_of

from legato.http.app import HttpSettings
from legato.http.connection import Connection
from legato.http.limits import PATH_BYTES, QUERY_BYTES

pytestmark = pytest.mark.anyio

SMALL = HttpSettings(body_bytes=1000)


@pytest.fixture
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """For clients that send nothing more, and wait for the server to close."""
    monkeypatch.setattr("legato.http.errors.LINGER_SECONDS", 0.05)


def body_of(size: int) -> bytes:
    return b'{"input":"' + b"x" * (size - 12) + b'"}'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = ("Content-Type: application/json", "Transfer-Encoding: chunked")


@pytest.mark.usefixtures("short_linger")
@pytest.mark.parametrize(("size", "status"), [(1000, 202), (1001, 413)])
async def test_a_body_may_be_as_long_as_the_limit_and_no_byte_longer(size: int, status: int) -> None:
    async with serving(SMALL) as edge:
        body = body_of(size)
        assert status_of(await edge.ask(post("/v1/turns", body, "Connection: close"))) == status
        request = get("/v1/turns", *CHUNKED, "Connection: close", method="POST")
        pieces = b"".join(chunk(body[at : at + 100]) for at in range(0, size, 100))
        assert status_of(await edge.ask(request + pieces + chunk(b""))) == status


@pytest.mark.usefixtures("short_linger")
async def test_a_body_that_says_it_is_too_long_is_refused_before_it_is_sent() -> None:
    async with serving(SMALL) as edge:
        raw = await edge.raw()
        await raw.send(post("/v1/turns", b"", "Content-Length: 5000"))
        head = await raw.until(b"\r\n\r\n")
        problem = await raw.rest()
    assert status_of(head) == 413
    assert b"connection: close\r\n" in head
    assert b'"code":"body_too_large"' in problem
    assert b'"limit":1000,"actual":5000' in problem
    assert edge.service.calls == []


async def test_a_client_that_waits_for_100_continue_is_told_413_instead() -> None:
    async with serving(SMALL) as edge:
        raw = await edge.raw()
        await raw.send(post("/v1/turns", b"", "Content-Length: 5000", "Expect: 100-continue"))
        assert status_of(await raw.until(b"\r\n\r\n")) == 413
        kept = await edge.raw()
        await kept.send(post("/v1/turns", b"", "Content-Length: 14", "Expect: 100-continue"))
        assert status_of(await kept.until(b"\r\n\r\n")) == 100
        await kept.send(b'{"input":"hi"}')
        assert status_of(await kept.until(b"\r\n\r\n")) == 202


@pytest.mark.usefixtures("short_linger")
async def test_a_chunked_body_is_refused_as_soon_as_it_is_over_the_limit() -> None:
    async with serving(SMALL) as edge:
        raw = await edge.raw()
        await raw.send(get("/v1/turns", *CHUNKED, method="POST") + chunk(b"x" * 600))
        await raw.send(chunk(b"x" * 600))
        assert status_of(await raw.until(b"\r\n\r\n")) == 413
        refusal = await raw.rest()
        assert b'"code":"body_too_large"' in refusal
        assert b"limit is 1000" in refusal
        assert edge.service.calls == []


async def test_a_refused_client_that_goes_on_sending_still_gets_its_answer() -> None:
    async with serving(SMALL) as edge, edge.client() as client:
        answer = await client.post("/v1/turns", content=b"x" * 3_000_000, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert answer.json()["limit"] == 1000


async def test_a_refused_client_that_does_not_read_before_it_has_sent_all_is_not_cut_off() -> None:
    async with serving(SMALL) as edge:
        raw = await edge.raw()
        await raw.send(post("/v1/turns", b"", "Content-Length: 8000000"))
        for _ in range(80):
            await raw.send(b"x" * 100_000)
        assert status_of(await raw.rest()) == 413


@pytest.mark.usefixtures("short_linger")
@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
async def test_bodies_are_bounded_where_none_is_read(method: str) -> None:
    async with serving(SMALL) as edge:
        request = get("/v1/chats/c1", "Content-Type: application/json", "Content-Length: 1001", method=method)
        assert status_of(await edge.ask(request)) == 413


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: -1",),
        ("Content-Length: 1x",),
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Content-Length: 99999999999999999999999999",),
        ("Transfer-Encoding: chunked, gzip",),
    ],
)
async def test_a_length_that_cannot_be_believed_is_400_and_the_connection_closed(
    shared_edge: Edge, headers: tuple[str, ...]
) -> None:
    answer = await shared_edge.ask(get("/v1/turns", "Content-Type: application/json", *headers, method="POST") + b"{}")
    assert status_of(answer) == 400
    assert b"connection: close\r\n" in answer
    assert b'"code":"bad_request"' in answer


async def test_what_is_not_http_is_a_problem_too(shared_edge: Edge) -> None:
    answer = await shared_edge.ask(b"\x16\x03\x01\x02\x00hello\r\n\r\n")
    assert status_of(answer) == 400
    assert b"content-type: application/problem+json\r\n" in answer


async def test_a_body_that_an_upgrade_takes_away_is_not_taken_for_an_empty_one(edge: Edge) -> None:
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
    answer = await edge.ask(post("/v1/turns/t1/cancel", b'{"mode":"after_round"}', *upgrade))
    assert status_of(answer) == 400
    assert b"leave that out" in answer
    assert edge.service.calls == []
    assert status_of(await edge.ask(get("/livez", "Connection: Upgrade, close", "Upgrade: h2c"))) == 200


async def test_a_body_shorter_than_it_said_is_no_request() -> None:
    async with serving(SMALL) as edge:
        raw = await edge.raw()
        await raw.send(post("/v1/turns", b'{"input":', "Content-Length: 500"))
        await raw.stream.aclose()
        await edge.quiet()
        assert edge.service.calls == []


@pytest.mark.usefixtures("short_linger")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (HttpSettings(body_idle_seconds=0.05), b"the body paused for 0.05 s"),
        (HttpSettings(body_seconds=0.05), b"the body took over 0.05 s"),
    ],
)
async def test_a_body_that_does_not_come_in_time_is_408(settings: HttpSettings, said: bytes) -> None:
    async with serving(settings) as edge:
        answer = await edge.ask(post("/v1/turns", b'{"input":', "Content-Length: 500"))
    assert status_of(answer) == 408
    assert said in answer


async def test_a_body_that_comes_byte_by_byte_is_whole(edge: Edge) -> None:
    raw = await edge.raw()
    for byte in post("/v1/turns", b'{"input":"hi"}'):
        await raw.send(bytes((byte,)))
    assert status_of(await raw.until(b"\r\n\r\n")) == 202


async def test_a_head_that_does_not_come_in_time_is_408(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "head_seconds", 0.05)
    assert status_of(await edge.ask(b"GET /livez HTTP/1.1\r\nHost: local")) == 408
    assert await edge.ask(b"") == b""


async def test_a_head_may_take_its_time_on_a_connection_that_is_answered(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "head_seconds", 0.05)
    turn = edge.service.turn()
    raw = await edge.raw()
    await raw.send(get("/v1/turns/t1/events"))
    await raw.until(b"retry: 1000\n\n")
    with anyio.move_on_after(0.2):
        await raw.until(b"never")
    turn.start()
    await raw.until(b"event: turn_start\n")


async def test_a_head_without_end_is_431(shared_edge: Edge) -> None:
    raw = await shared_edge.raw()
    await raw.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ")
    # The server has read the beginning once it has answered somebody who came later.
    assert status_of(await shared_edge.ask(get("/livez", "Connection: close"))) == 200
    await raw.send(b"x" * (Connection.head_bytes + 1))
    answer = await raw.rest()
    assert status_of(answer) == 431
    assert b'"code":"headers_too_large"' in answer


async def test_heads_that_come_one_after_another_are_counted_each(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "head_bytes", 2_000)
    heads = get("/livez", "X: " + "x" * 1_000) * 20 + get("/livez", "Connection: close")
    raw = await edge.raw()
    for piece in (heads[:500], heads[500:-10], heads[-10:]):
        assert status_of(await edge.ask(get("/livez", "Connection: close"))) == 200
        await raw.send(piece)
    assert (await raw.rest()).count(b"HTTP/1.1 200 OK") == 21


async def test_trailers_without_end_are_431(shared_edge: Edge) -> None:
    raw = await shared_edge.raw()
    await raw.send(get("/v1/turns", *CHUNKED, method="POST") + chunk(b'{"input":') + b"0\r\nX: ")
    assert status_of(await shared_edge.ask(get("/livez", "Connection: close"))) == 200
    await raw.send(b"x" * (Connection.head_bytes + 1))
    answer = await raw.rest()
    assert status_of(answer) == 431
    assert b"what is neither head nor body is over the limit of 65536 bytes" in answer


async def test_a_trailer_is_no_header_of_the_request(edge: Edge) -> None:
    request = get("/v1/turns", *CHUNKED, "Connection: close", method="POST") + chunk(b'{"input":"hi"}')
    answer = await edge.ask(request + b"0\r\nAccept: text/event-stream\r\n\r\n")
    assert status_of(answer) == 202


async def test_empty_lines_do_not_keep_a_connection(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "head_seconds", 0.05)
    raw = await edge.raw()
    await raw.send(get("/livez"))
    await raw.until(b"}")
    await raw.send(b"\r\n")
    assert await raw.rest() == b""


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/" + "x" * (PATH_BYTES - 1), 404),
        ("/" + "x" * PATH_BYTES, 414),
        ("/livez?" + "x" * QUERY_BYTES, 422),
        ("/livez?" + "x" * (QUERY_BYTES + 1), 414),
    ],
)
async def test_paths_and_queries_are_bounded(shared_edge: Edge, target: str, status: int) -> None:
    assert status_of(await shared_edge.ask(get(target, "Connection: close"))) == status


@pytest.mark.parametrize(("target", "status"), [("/livez%80", 400), ("/livez?a=%ff", 422)])
async def test_what_is_not_utf8_is_not_read_as_something_else(shared_edge: Edge, target: str, status: int) -> None:
    answer = await shared_edge.ask(get(target, "Connection: close"))
    assert status_of(answer) == status
    assert b"is not UTF-8" in answer


async def test_a_refused_request_leaves_the_connection_usable_if_it_had_no_body(shared_edge: Edge) -> None:
    raw = await shared_edge.raw()
    await raw.send(get("/livez", "Origin: null") + get("/livez"))
    assert status_of(await raw.until(b"}")) == 403
    assert status_of(await raw.until(b"}")) == 200
