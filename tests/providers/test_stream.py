"""One attempt over real sockets: what the outside does becomes inputs, whatever it does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TypeAlias

import anyio
import anyio.lowlevel
import pytest
from msgspec import UNSET
from tests.providers.asks import ask, user
from tests.providers.upstream import HEAD, LAST, Exchange, Play, answer, batches, chunked, collected, upstream

from legato.core.ask import Ask
from legato.core.inputs import BlockOpened, Delta, ProviderInput, ResponseEnded, ResponseFailed, UsageReported
from legato.providers.direct import DirectTransport
from legato.providers.provider import HttpProvider, ProviderSettings
from legato.providers.transport import AiohttpTransport, Transport

pytestmark = pytest.mark.anyio

KEY = "sk-secret-and-long-enough"


def frame(delta: dict[str, object] | None = None, finish: str | None = None) -> bytes:
    value = {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


HELLO = frame({"content": "Hel"}) + frame({"content": "lo"})
END = frame(finish="stop") + b"data: [DONE]\n\n"
PING = b": ping\n\n"


@pytest.fixture(params=[AiohttpTransport, DirectTransport])
async def provide(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., HttpProvider]]:
    """On both clients: what one does with a broken outside, the other does."""
    made: list[HttpProvider] = []

    def provider(url: str, *, connect: float = 5, first: float = 5, idle: float = 5, pings: float = 5) -> HttpProvider:
        settings = ProviderSettings(
            name="local",
            wire="openai_chat",
            base_url=f"{url}/v1",
            api_key=KEY,
            connect_timeout=connect,
            first_event_timeout=first,
            idle_timeout=idle,
            pings_timeout=pings,
        )
        made.append(HttpProvider(settings, transport=request.param()))
        return made[-1]

    yield provider
    for one in made:
        await one.close()


Provide: TypeAlias = Callable[..., HttpProvider]


def asked() -> Ask:
    return ask(user("go"), model="m")


async def said_by(play: Play, provide: Provide, **limits: float) -> list[ProviderInput]:
    async with upstream(play) as server:
        return await collected(provide(server.url, **limits), asked())


def failed(said: list[ProviderInput]) -> ResponseFailed:
    assert isinstance(said[-1], ResponseFailed), said
    assert said[-1].error.provider == "local"
    return said[-1]


def text_of(said: list[ProviderInput]) -> str:
    return "".join(one.text for one in said if isinstance(one, Delta))


async def test_a_response_is_asked_for_and_read(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(HELLO), chunked(END), LAST)

    async with upstream(play) as server:
        said = await collected(provide(server.url), asked())
        exchange = server.exchanges[0]
    assert text_of(said) == "Hello"
    assert said[-1] == ResponseEnded(stop_reason="end", provider_reason="stop")
    head = exchange.head.lower()
    assert head.startswith("post /v1/chat/completions http/1.1")
    for line in (f"authorization: bearer {KEY}", "accept: text/event-stream", "accept-encoding: identity"):
        assert line in head
    assert "content-type: application/json" in head
    assert json.loads(exchange.body)["model"] == "m"


async def test_what_one_read_returned_is_one_batch(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD + chunked(HELLO * 50 + END) + LAST)

    async with upstream(play) as server, aclosing(batches(provide(server.url), asked())) as stream:
        sizes = [len(batch) async for batch in stream]
    assert sum(sizes) == 103
    assert len(sizes) <= 2


async def idle(provider: HttpProvider) -> None:
    """Until the client has got its connection back: it gives it back itself when the last chunk has come."""
    with anyio.fail_after(5):
        while busy(provider._transport):
            await anyio.lowlevel.checkpoint()


def busy(transport: Transport) -> bool:
    if isinstance(transport, DirectTransport):
        return bool(transport._busy)
    assert isinstance(transport, AiohttpTransport)
    assert transport._session is not None
    assert transport._session.connector is not None
    return bool(transport._session.connector._acquired)


async def test_a_connection_is_used_again_once_its_response_has_ended(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(HELLO + END), LAST)

    async with upstream(play) as server:
        provider = provide(server.url)
        for _ in range(3):
            await collected(provider, asked())
            await idle(provider)
        assert len(server.connections) == 1


async def test_a_large_request_is_sent_whole(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(HELLO + END), LAST)

    async with upstream(play) as server:
        await collected(provide(server.url), ask(user("x" * 3_000_000), model="m"))
        assert len(json.loads(server.exchanges[0].body)["messages"][-1]["content"]) == 3_000_000


@pytest.mark.parametrize(
    ("reply", "code", "retryable", "message"),
    [
        (
            answer("401 No", json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()),
            "provider_auth",
            False,
            "bad",
        ),
        (answer("500 Oh", b"<html><title>Oh no</title>", kind="text/html"), "provider_failed", True, "Oh no"),
        (answer("503 Busy", b"busy", kind="text/plain"), "provider_overloaded", True, "busy"),
        (answer("404 Gone", b"", kind="text/plain"), "provider_rejected", False, "no body"),
        (answer("302 Found", b"", "location: https://elsewhere.org"), "provider_rejected", False, "302"),
        (answer("200 OK", b'{"error": {"message": "in a 200", "code": 429}}'), "provider_rate_limited", True, "in a"),
        (answer("200 OK", b'{"choices": []}'), "provider_garbled", False, "event stream"),
        (answer("200 OK", b"<title>Sign in</title>", kind="text/html"), "provider_garbled", True, "Sign in"),
        (answer("500 Oh", b'{"error": {"message": "x"}}', "x-should-retry: false"), "provider_failed", False, "x"),
    ],
)
async def test_a_refusal_is_said_in_our_codes_and_the_vendors_words(
    provide: Provide, reply: bytes, code: str, retryable: bool, message: str
) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(reply)

    error = failed(await said_by(play, provide)).error
    assert (error.code, error.retryable) == (code, retryable)
    assert message in error.message
    assert KEY not in error.message
    assert int(reply[9:12]) in {200, error.provider_status}


async def test_the_wait_a_vendor_asks_for_is_passed_on(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(answer("429 Slow", b'{"error": {"message": "slow"}}', "Retry-After: 7"))

    assert failed(await said_by(play, provide)).retry_after == 7.0


async def test_a_refusal_without_end_is_read_up_to_a_bound(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 500 Oh\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")
        while not exchange.gone.is_set():
            await exchange.send(chunked(b"x" * 10_000))

    error = failed(await said_by(play, provide)).error
    assert error.code == "provider_failed"
    assert len(error.message) <= 2_000


async def test_nobody_there_is_unreachable_and_worth_another_try(provide: Provide) -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    error = failed(await collected(provide(f"http://127.0.0.1:{port}"), asked())).error
    assert (error.code, error.retryable, error.provider_status) == ("provider_unreachable", True, UNSET)


async def test_a_bad_address_is_unreachable_and_not_worth_another_try(provide: Provide) -> None:
    error = failed(await collected(provide("http://"), asked())).error
    assert error.code == "provider_unreachable"


@pytest.mark.parametrize("how", ["close", "reset", "end"])
async def test_a_cut_keeps_what_came(provide: Provide, how: str) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(HELLO))
        if how == "end":
            await exchange.send(LAST)
        elif how == "close":
            exchange.close()
        else:
            # What was sent before a reset may be thrown away by the kernel: wait until it was read.
            await read.wait()
            exchange.reset()

    read = asyncio.Event()
    said: list[ProviderInput] = []
    async with upstream(play) as server, aclosing(batches(provide(server.url), asked())) as stream:
        with anyio.fail_after(10):
            async for batch in stream:
                said += batch
                read.set()
    assert text_of(said) == "Hello"
    error = failed(said).error
    assert (error.code, error.retryable) == ("provider_cut", True)


async def test_a_connection_closed_before_the_answer_is_a_cut(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        exchange.close()

    assert failed(await said_by(play, provide)).error.code == "provider_cut"


async def test_a_body_that_ends_badly_after_all_was_said_has_ended_well(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(HELLO + frame(finish="stop")))
        exchange.close()

    said = await said_by(play, provide)
    assert said[-1] == ResponseEnded(stop_reason="end", provider_reason="stop")


async def test_garbage_is_garbled(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(HELLO + b"data: \x00\xff{]\n\n"))
        await exchange.gone.wait()

    said = await said_by(play, provide)
    assert failed(said).error.code == "provider_garbled"
    assert text_of(said) == "Hello"


async def test_silence_before_the_head_is_a_timeout(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.gone.wait()

    error = failed(await said_by(play, provide, first=0.2)).error
    assert (error.code, error.retryable) == ("provider_timeout", True)
    assert "0.2 s" in error.message


async def pinging(exchange: Exchange, ping: bytes) -> None:
    while not exchange.gone.is_set():
        await exchange.send(chunked(ping))
        with anyio.move_on_after(0.02):
            await exchange.gone.wait()


async def test_pings_do_not_pass_for_a_first_event(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        await pinging(exchange, PING)

    error = failed(await said_by(play, provide, first=0.3, pings=0.3)).error
    assert error.code == "provider_timeout"
    assert "since the request" in error.message


async def test_pings_do_not_hide_a_stall(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(HELLO))
        await pinging(exchange, PING)

    said = await said_by(play, provide, idle=0.3, pings=0.3)
    assert text_of(said) == "Hello"
    assert failed(said).error.code == "provider_timeout"


async def test_slow_white_space_in_arguments_is_a_stall(provide: Provide) -> None:
    call = {"index": 0, "id": "a", "function": {"name": "get", "arguments": '{"a": '}}
    blank = frame({"tool_calls": [{"index": 0, "function": {"arguments": " \n "}}]})

    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(frame({"tool_calls": [call]})))
        await pinging(exchange, blank)

    assert failed(await said_by(play, provide, idle=0.3, pings=0.3)).error.code == "provider_timeout"


async def test_no_pings_between_slow_events_are_no_stall_and_the_limit_is_not_a_total(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        for _ in range(5):
            await exchange.send(chunked(HELLO))
            with anyio.move_on_after(0.15):
                await exchange.gone.wait()
        await exchange.send(chunked(END), LAST)

    said = await said_by(play, provide, first=0.5, idle=0.5)
    assert text_of(said) == "Hello" * 5
    assert isinstance(said[-1], ResponseEnded)


async def test_a_loop_that_was_held_up_first_reads_what_waited(provide: Provide) -> None:
    held = asyncio.Event()

    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(HELLO))
        await held.wait()
        await exchange.send(chunked(END), LAST)

    said: list[ProviderInput] = []

    def hold_up(batch: Sequence[ProviderInput]) -> None:
        if not said:
            until = anyio.current_time() + 0.4
            while anyio.current_time() < until:
                pass  # longer than the idle limit
            held.set()
        said.extend(batch)

    async with upstream(play) as server:
        with anyio.fail_after(10):
            await provide(server.url, idle=0.3).stream(asked(), hold_up)
    assert isinstance(said[-1], ResponseEnded), said[-1]


async def test_a_cancel_while_it_reads_closes_the_socket_at_once(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(HELLO))
        await exchange.gone.wait()

    async with upstream(play) as server:
        async with aclosing(batches(provide(server.url), asked())) as stream:
            assert isinstance((await anext(stream))[0], BlockOpened)
        with anyio.fail_after(5):
            await server.exchanges[0].gone.wait()


@pytest.mark.parametrize("head", [b"", HEAD, HEAD + chunked(HELLO)], ids=["before the head", "after it", "reading"])
async def test_a_cancelled_attempt_closes_the_socket_and_leaves_no_task(provide: Provide, head: bytes) -> None:
    begun = asyncio.Event()

    async def play(exchange: Exchange) -> None:
        await exchange.send(head)
        begun.set()
        await exchange.gone.wait()

    async with upstream(play) as server:
        provider = provide(server.url)
        before = asyncio.all_tasks()
        async with anyio.create_task_group() as group:
            group.start_soon(collected, provider, asked())
            await begun.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            await server.exchanges[0].gone.wait()
        left = {task.get_name() for task in asyncio.all_tasks() - before}
        assert left <= {f"{__name__}.{play.__qualname__}"}


async def test_the_cost_is_said_where_the_prices_are_known() -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "prompt_tokens_details": {"cached_tokens": 0}}

    async def play(exchange: Exchange) -> None:
        last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
        await exchange.send(HEAD, chunked(HELLO + frame(finish="stop") + last + b"data: [DONE]\n\n"), LAST)

    async with upstream(play) as server:
        provider = HttpProvider(ProviderSettings(name="openai", wire="openai_chat", base_url=server.url))
        said = await collected(provider, ask(user("go"), model="gpt-4o"))
        await provider.close()
    reported = [one.usage for one in said if isinstance(one, UsageReported)]
    assert reported[-1].cost_usd == 12.5
