"""The upstream over real sockets: what is said when, and every way to break."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from email.utils import formatdate

import httpx
import pytest

from legato.core.blocks import Json
from legato.testing.upstream import (
    Answering,
    Call,
    Cut,
    End,
    ErrorEvent,
    Failure,
    Gate,
    HangUp,
    Raw,
    Recording,
    Request,
    Say,
    Script,
    Stall,
    Step,
    Think,
    Upstream,
    Wire,
)

pytestmark = pytest.mark.anyio

PATHS: dict[Wire, str] = {"anthropic": "/v1/messages", "openai_chat": "/chat/completions"}
WIRES: tuple[Wire, ...] = ("anthropic", "openai_chat")
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01", "authorization": "Bearer k"}


def asked(wire: Wire, *messages: Json, stream: bool = True, **more: Json) -> dict[str, Json]:
    said = list(messages) or [{"role": "user", "content": "hello"}]
    body: dict[str, Json] = {"model": "m", "messages": said, "stream": stream, **more}
    return body | ({"max_tokens": 100} if wire == "anthropic" else {})


class Client:
    def __init__(self, http: httpx.AsyncClient, upstream: Upstream) -> None:
        self.http = http
        self.upstream = upstream

    def request(self, wire: Wire, body: Json = None) -> httpx.Request:
        url = self.upstream.base_url(wire) + PATHS[wire]
        return self.http.build_request("POST", url, json=asked(wire) if body is None else body, headers=HEADERS)

    async def post(self, wire: Wire, body: Json = None) -> httpx.Response:
        return await self.http.send(self.request(wire, body))

    async def stream(self, wire: Wire) -> httpx.Response:
        return await self.http.send(self.request(wire), stream=True)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream.open() as upstream:
        yield upstream


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(timeout=10) as http:
        yield Client(http, upstream)


@pytest.mark.parametrize("wire", WIRES)
async def test_answers_are_taken_in_order_and_then_the_default(client: Client, upstream: Upstream, wire: Wire) -> None:
    upstream.enqueue(Script([Say("one")]), lambda request: Script([Say(f"this is {request.number}")]))
    said = [(await client.post(wire)).text for _ in range(3)]
    assert ['"one"' in said[0], '" 2"' in said[1], "enqueued" in said[2]] == [True, True, True]


@pytest.mark.parametrize("wire", WIRES)
async def test_a_request_is_kept_as_it_came(client: Client, upstream: Upstream, wire: Wire) -> None:
    await client.post(wire)
    request = upstream.requests[0]
    assert (request.number, request.wire, request.body) == (1, wire, asked(wire))
    assert request.headers["authorization"] == "Bearer k"
    assert json.loads(request.raw) == request.body


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_stands_at_its_gate_until_it_is_released(client: Client, upstream: Upstream, wire: Wire) -> None:
    upstream.enqueue(Script([Say("before"), Gate("here"), Say("after")]))
    response = await client.stream(wire)
    body = response.aiter_raw()
    seen = b""
    while b"before" not in seen:
        seen += await anext(body)
    await upstream.reached("here")
    assert b"after" not in seen
    upstream.release("here")
    async for chunk in body:
        seen += chunk
    assert b"after" in seen


async def test_a_gate_that_was_released_stays_open(client: Client, upstream: Upstream) -> None:
    upstream.enqueue(Script([Gate("here"), Say("after")]))
    upstream.release("here")
    assert "after" in (await client.post("anthropic")).text
    await upstream.reached("here")


async def test_a_gate_that_nobody_reaches_is_a_timeout_that_says_what_happened(
    client: Client, upstream: Upstream
) -> None:
    await client.post("anthropic")
    with pytest.raises(TimeoutError, match=r"gate here did not happen 1 times within 0\.01 s.*request x 1"):
        await upstream.reached("here", patience=0.01)


async def test_a_second_wait_after_a_timeout_is_not_spoiled_by_it(client: Client, upstream: Upstream) -> None:
    with pytest.raises(TimeoutError):
        await upstream.received(1, patience=0.01)
    await client.post("anthropic")
    assert (await upstream.received(1)).number == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_a_client_that_leaves_is_noticed_while_the_stream_stands(
    client: Client, upstream: Upstream, wire: Wire
) -> None:
    upstream.enqueue(Script([Say("hello"), Gate("never")]))
    response = await client.stream(wire)
    await upstream.reached("never")
    await response.aclose()
    await upstream.hung_up(1)


async def test_an_answer_is_told_once_its_last_byte_was_written(client: Client, upstream: Upstream) -> None:
    upstream.enqueue(Script([Say("hello"), Gate("here"), Say("bye")]))
    response = await client.stream("anthropic")
    with pytest.raises(TimeoutError):
        await upstream.answered(1, patience=0.01)
    upstream.release("here")
    await upstream.answered(1)
    assert b"bye" in (await read(response))[0]


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_that_is_cut_at_a_frame_ends_without_its_end(
    client: Client, upstream: Upstream, wire: Wire
) -> None:
    upstream.enqueue(Script([Say("one two"), Cut(), Say("three")]))
    seen, error = await read(await client.stream(wire))
    assert isinstance(error, httpx.RemoteProtocolError)
    assert seen.endswith(b"\n\n")
    assert b"two" in seen
    assert b"three" not in seen


async def test_a_stream_that_is_cut_inside_a_frame_ends_with_its_first_bytes(
    client: Client, upstream: Upstream
) -> None:
    upstream.enqueue(Script([Say("one"), Cut(into=30), Say("two")]))
    seen, error = await read(await client.stream("anthropic"))
    assert isinstance(error, httpx.RemoteProtocolError)
    assert seen.endswith(b"\n\n" + b"event: content_block_start\ndata: "[:30])


async def test_a_stream_that_is_reset_has_sent_what_came_before(client: Client, upstream: Upstream) -> None:
    upstream.enqueue(Script([Say("one"), Cut(how="reset")]))
    seen, error = await read(await client.stream("anthropic"))
    assert isinstance(error, httpx.ReadError)
    assert b"one" in seen


async def test_a_body_that_ends_well_may_still_lack_its_end(client: Client, upstream: Upstream) -> None:
    upstream.enqueue(Script([Say("one"), Cut(how="complete"), Say("two")]))
    response = await client.post("openai_chat")
    assert "one" in response.text
    assert "[DONE]" not in response.text


async def read(response: httpx.Response) -> tuple[bytes, Exception | None]:
    seen: list[bytes] = []
    try:
        async for chunk in response.aiter_raw():
            seen.append(chunk)  # noqa: PERF401  (what came before the error counts)
    except httpx.TransportError as error:
        return b"".join(seen), error
    return b"".join(seen), None


@pytest.mark.parametrize("how", ["eof", "reset"])
async def test_a_connection_may_be_lost_before_any_header(client: Client, upstream: Upstream, how: str) -> None:
    upstream.enqueue(HangUp("eof" if how == "eof" else "reset"))
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await client.post("anthropic")


async def test_connections_are_refused_while_it_does_not_listen(client: Client, upstream: Upstream) -> None:
    await upstream.stop_listening()
    with pytest.raises(httpx.ConnectError):
        await client.post("anthropic")
    await upstream.listen()
    assert (await client.post("anthropic")).status_code == 200


async def test_a_stall_with_pings_sends_pings_and_nothing_else(client: Client, upstream: Upstream) -> None:
    upstream.enqueue(Script([Say("one"), Stall(pings=0.001)]))
    response = await client.stream("anthropic")
    seen = b""
    async for chunk in response.aiter_raw():
        seen += chunk
        if seen.count(b"event: ping") >= 5:  # the first comes with the block
            break
    await response.aclose()
    assert seen.split(b'data: {"type":"content_block_stop"')[1].count(b"event: content") == 0
    await upstream.hung_up(1)


async def test_a_silent_stall_says_nothing_after_what_came_before(client: Client, upstream: Upstream) -> None:
    upstream.enqueue(Script([Say("one"), Stall()]))
    response = await client.stream("openai_chat")
    body = response.aiter_raw()
    seen = b""
    while b"one" not in seen:
        seen += await anext(body)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(body), 0.02)
    await response.aclose()
    await upstream.hung_up(1)


@pytest.mark.parametrize(
    ("wire", "failure", "status", "shape"),
    [
        ("anthropic", Failure("overloaded"), 529, {"type": "overloaded_error", "message": "Overloaded"}),
        ("anthropic", Failure("server_error"), 500, {"type": "api_error", "message": "Internal server error"}),
        ("openai_chat", Failure("overloaded"), 503, {"type": "service_unavailable_error"}),
        ("openai_chat", Failure("context_overflow"), 400, {"code": "context_length_exceeded"}),
    ],
)
async def test_a_failure_has_the_vendors_status_and_body(
    client: Client, upstream: Upstream, wire: Wire, failure: Failure, status: int, shape: dict[str, str]
) -> None:
    upstream.enqueue(failure)
    response = await client.post(wire)
    assert response.status_code == status
    assert response.json()["error"].items() >= shape.items()


@pytest.mark.parametrize("after", ["7", formatdate(1_900_000_000, usegmt=True)])
async def test_retry_after_is_sent_as_it_was_given(client: Client, upstream: Upstream, after: str) -> None:
    upstream.enqueue(Failure("rate_limit", retry_after=after))
    response = await client.post("anthropic")
    assert (response.status_code, response.headers["retry-after"]) == (429, after)


async def test_a_proxy_before_the_vendor_answers_in_html(client: Client, upstream: Upstream) -> None:
    upstream.enqueue(Failure("bad_gateway"))
    response = await client.post("openai_chat")
    assert (response.status_code, response.headers["content-type"]) == (502, "text/html")


@pytest.mark.parametrize("wire", WIRES)
async def test_an_error_event_ends_the_stream(client: Client, upstream: Upstream, wire: Wire) -> None:
    upstream.enqueue(Script([Say("one"), ErrorEvent(), Say("two")]))
    response = await client.post(wire)
    assert response.status_code == 200
    last = response.text.strip().split("data: ")[-1]
    assert "overloaded" in json.loads(last)["error"]["message"].lower()


async def test_garbage_goes_out_as_it_is(client: Client, upstream: Upstream) -> None:
    upstream.enqueue(Script([Say("one"), Raw.garbage(b"\xff\x00garbage"), Say("two")]))
    content = (await client.post("anthropic")).content
    assert b"\xff\x00garbageevent: content_block_start" in content


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_the_same_bytes_leave_in_other_pieces(client: Client, upstream: Upstream, size: int) -> None:
    steps: list[Step] = [Think("let me see"), Say("héllo wörld"), Call("f", {"x": 1})]
    upstream.enqueue(
        lambda _: Script(steps),
        lambda _: Script(steps, bytes_per_write=size),
        lambda _: Script(steps, frames_per_write=0),
        lambda _: Script(steps, frames_per_write=3),
    )
    bodies = [(await client.post("anthropic")).content for _ in range(4)]
    # ids differ from response to response
    lengths = {len(body) for body in bodies}
    assert len(lengths) == 1
    assert all(body.count(b"event: ") == bodies[0].count(b"event: ") for body in bodies)


@pytest.mark.parametrize("size", [None, 5])
async def test_a_recording_is_played_byte_for_byte(client: Client, upstream: Upstream, size: int | None) -> None:
    body = b"event: a\r\ndata: 1\r\n\r\ndata: 2\n\n: comment\n\ndata: no end"
    upstream.enqueue(Recording(body, bytes_per_write=size))
    assert (await client.post("openai_chat")).content == body


async def test_a_slow_reader_holds_up_nobody_but_itself(client: Client, upstream: Upstream) -> None:
    upstream.enqueue(Script([Say(("w" * 600 + " ") * 10_000)]), Script([Say("quick")]))
    slow = await client.stream("anthropic")
    assert "quick" in (await client.post("anthropic")).text
    seen, error = await read(slow)
    assert error is None
    assert seen.count(b"text_delta") == 10_001


@pytest.mark.parametrize("wire", WIRES)
async def test_without_stream_the_answer_is_one_body(client: Client, upstream: Upstream, wire: Wire) -> None:
    upstream.enqueue(Script([Think("hm"), Say("hello there"), Call("f", {"x": 1}), End("calls")]))
    response = await client.post(wire, asked(wire, stream=False))
    body = response.json()
    if wire == "anthropic":
        assert [block["type"] for block in body["content"]] == ["thinking", "text", "tool_use"]
        assert body["stop_reason"] == "tool_use"
    else:
        message = body["choices"][0]["message"]
        assert message["content"] == "hello there"
        assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}


async def test_a_request_that_breaks_the_rules_is_refused_and_takes_no_answer(
    client: Client, upstream: Upstream
) -> None:
    upstream.enqueue(Script([Say("kept")]))
    bad = asked("anthropic", {"role": "user", "content": ""})
    response = await client.post("anthropic", bad)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("messages.0: all messages must have non-empty content")
    assert upstream.refused == [response.json()["error"]["message"]]
    assert "kept" in (await client.post("anthropic")).text


@pytest.mark.parametrize("wire", WIRES)
async def test_a_request_without_a_key_is_401(client: Client, upstream: Upstream, wire: Wire) -> None:
    request = client.request(wire)
    del request.headers["authorization"]
    del request.headers["x-api-key"]
    assert (await client.http.send(request)).status_code == 401


async def test_with_the_checks_off_anything_is_answered(client: Client) -> None:
    async with Upstream.open(check=False) as lenient:
        unchecked = Client(client.http, lenient)
        response = await unchecked.post("openai_chat", {"model": "m", "messages": [], "stream": True})
    assert response.status_code == 200


async def test_a_path_nobody_serves_is_404(client: Client, upstream: Upstream) -> None:
    response = await client.http.get(f"http://127.0.0.1:{upstream.port}/v1/nothing")
    assert response.status_code == 404
    assert upstream.requests == []


async def test_what_an_answer_raises_is_told_at_the_end(client: Client) -> None:
    def broken(_: Request) -> Script:
        raise LookupError("no such answer")

    with pytest.raises(ExceptionGroup, match="an answer could not be given") as caught:
        assert await status_of_the_answer(client, "anthropic", broken) == 500
    assert isinstance(caught.value.exceptions[0], LookupError)


async def test_what_a_wire_has_no_word_for_is_told_at_the_end(client: Client) -> None:
    with pytest.raises(ExceptionGroup, match="an answer could not be given"):
        assert await status_of_the_answer(client, "openai_chat", Script([Say("x"), End("pause")])) == 500


async def status_of_the_answer(client: Client, wire: Wire, answer: Answering) -> int:
    async with Upstream.open() as upstream:
        upstream.enqueue(answer)
        return (await Client(client.http, upstream).post(wire)).status_code


async def test_requests_sent_ahead_are_answered_one_after_the_other(upstream: Upstream) -> None:
    body = json.dumps(asked("anthropic")).encode()
    head = (
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nanthropic-version: 1\r\n"
        f"content-length: {len(body)}\r\n"
    )
    upstream.enqueue(Script([Say("first")]), Script([Say("second")]))
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write((head + "\r\n").encode() + body + (head + "connection: close\r\n\r\n").encode() + body)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b"first") < answer.index(b"second")


async def test_what_is_no_http_is_refused(upstream: Upstream) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 400")


async def test_closing_leaves_no_task_and_no_open_connection(client: Client) -> None:
    before = asyncio.all_tasks()
    async with Upstream.open() as upstream:
        upstream.enqueue(Script([Say("hello"), Gate("never")]), Script([Stall(pings=0.01)]), Script([], lag=3600))
        local = Client(client.http, upstream)
        streams = [await local.stream("anthropic") for _ in range(2)]
        waiting = asyncio.ensure_future(local.post("anthropic"))
        await upstream.received(3)
    assert asyncio.all_tasks() - before <= {waiting}
    with pytest.raises(httpx.TransportError):
        await waiting
    for stream in streams:
        await stream.aclose()
    gc.collect()  # a transport that was forgotten warns here


def test_it_runs_on_a_thread_for_tests_that_do_not_await() -> None:
    with Upstream.open() as upstream, httpx.Client(timeout=10) as http:
        upstream.enqueue(Script([Say("one"), Gate("here"), Say("two")]))
        url = upstream.base_url("anthropic") + "/v1/messages"
        with http.stream("POST", url, json=asked("anthropic"), headers=HEADERS) as response:
            upstream.wait_reached("here")
            upstream.release("here")
            assert b"two" in response.read()
        assert upstream.wait_received(1).number == 1


def test_a_thread_that_cannot_have_the_port_says_so() -> None:
    with Upstream.open() as upstream, pytest.raises(OSError, match="in use"), Upstream.open(port=upstream.port):
        pass
