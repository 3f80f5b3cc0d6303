"""Silence, pings without end and runaway responses, over real sockets: both wires, both clients."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import anyio
import anyio.lowlevel
import pytest
from tests.providers.asks import ask, user
from tests.providers.upstream import HEAD, LAST, Exchange, Play, chunked, collected, upstream

from legato.core.blocks import Json
from legato.core.inputs import BlockOpened, Delta, ProviderInput, ResponseEnded, ResponseFailed
from legato.providers.direct import DirectTransport
from legato.providers.progress import BLANK_MAX, UNMEANT_MAX, Progress
from legato.providers.provider import HttpProvider, ProviderSettings, Wire
from legato.providers.transport import AiohttpTransport, Transport

pytestmark = pytest.mark.anyio

LONG = 60.0
"""Seconds: a test that waits for such a limit fails at its bound of ten."""
PING = b": ping\n\n"


class OpenAi:
    """The frames of a wire."""

    wire: Wire = "openai_chat"
    begin = b": here\n\n"

    def text(self, text: str) -> bytes:
        return self.more(text)

    def more(self, text: str) -> bytes:
        return self._frame({"content": text})

    def call(self) -> bytes:
        return self._frame(
            {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "get", "arguments": '{"a": '}}]}
        )

    def argue(self, text: str) -> bytes:
        return self._frame({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})

    def end(self) -> bytes:
        value = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        return b"data: " + json.dumps(value).encode() + b"\n\ndata: [DONE]\n\n"

    def _frame(self, delta: Json) -> bytes:
        return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


class Anthropic:
    wire: Wire = "anthropic"

    def __init__(self) -> None:
        self.begin = self._frame("message_start", message={"usage": {"input_tokens": 1}})

    def text(self, text: str) -> bytes:
        start = self._frame("content_block_start", index=0, content_block={"type": "text", "text": ""})
        return start + self.more(text)

    def more(self, text: str) -> bytes:
        return self._frame("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def call(self) -> bytes:
        block: Json = {"type": "tool_use", "id": "a", "name": "get", "input": {}}
        return self._frame("content_block_start", index=1, content_block=block) + self.argue('{"a": ')

    def argue(self, text: str) -> bytes:
        return self._frame("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": text})

    def end(self) -> bytes:
        return self._frame("message_delta", delta={"stop_reason": "end_turn"}) + self._frame("message_stop")

    def _frame(self, kind: str, **fields: Json) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


Speech: TypeAlias = OpenAi | Anthropic
Provide: TypeAlias = Callable[..., HttpProvider]


@pytest.fixture(params=[OpenAi, Anthropic])
def speech(request: pytest.FixtureRequest) -> Speech:
    made: Speech = request.param()
    return made


@pytest.fixture(params=[AiohttpTransport, DirectTransport])
async def provide(request: pytest.FixtureRequest, speech: Speech) -> AsyncIterator[Provide]:
    made: list[HttpProvider] = []

    def provider(
        url: str,
        *,
        first_byte: float | None = None,
        first: float = LONG,
        idle: float = LONG,
        pings: float = LONG,
        argument_bytes: int = 1_048_576,
    ) -> HttpProvider:
        settings = ProviderSettings(
            name="local",
            wire=speech.wire,
            base_url=url,
            first_byte_timeout=first_byte,
            first_event_timeout=first,
            idle_timeout=idle,
            pings_timeout=pings,
            argument_bytes=argument_bytes,
        )
        transport: Transport = request.param()
        made.append(HttpProvider(settings, transport=transport))
        return made[-1]

    yield provider
    for one in made:
        await one.close()


async def said_by(play: Play, provide: Provide, **limits: float) -> list[ProviderInput]:
    """What is said until the attempt ends and the other side has seen the socket close, each within ten seconds."""
    async with upstream(play) as server:
        said = await collected(provide(server.url, **limits), ask(user("go"), model="m"))
        if isinstance(said[-1], ResponseFailed):
            with anyio.fail_after(10):
                await server.exchanges[0].gone.wait()
    return said


def failed(said: list[ProviderInput]) -> tuple[str, str]:
    assert isinstance(said[-1], ResponseFailed), said[-1]
    return said[-1].error.code, said[-1].error.message


def text_of(said: list[ProviderInput]) -> str:
    return "".join(one.text for one in said if isinstance(one, Delta))


async def on_and_on(exchange: Exchange, piece: bytes) -> None:
    """As fast as the socket takes it, until the other side hangs up."""
    while not exchange.gone.is_set():
        await exchange.send(chunked(piece))


async def now_and_then(exchange: Exchange, piece: bytes, *, times: int | None = None) -> None:
    while not exchange.gone.is_set() and times != 0:
        await exchange.send(chunked(piece))
        with anyio.move_on_after(0.03):
            await exchange.gone.wait()
        times = None if times is None else times - 1


async def test_a_socket_that_takes_the_request_and_never_answers_is_given_up(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.gone.wait()

    code, message = failed(await said_by(play, provide, first_byte=0.2))
    assert code == "provider_timeout"
    assert "0.2 s" in message


async def test_a_socket_on_which_nobody_reads_is_given_up_and_closed(provide: Provide) -> None:
    """The system takes the connection and a little of the request, and no process ever comes for it."""
    size = 20_000_000
    with socket.create_server(("127.0.0.1", 0)) as hole:
        provider = provide(f"http://127.0.0.1:{hole.getsockname()[1]}", first_byte=0.2)
        said = await collected(provider, ask(user("x" * size), model="m"))
        assert failed(said)[0] == "provider_timeout"
        with anyio.fail_after(10):
            assert await left_in(hole) < size


async def left_in(hole: socket.socket) -> int:
    """Bytes of the connection that waits there, read to its end."""
    loop, size = asyncio.get_running_loop(), 0
    hole.setblocking(False)
    connection, _ = await loop.sock_accept(hole)
    with connection:
        try:
            while piece := await loop.sock_recv(connection, 1_048_576):
                size += len(piece)
        except ConnectionResetError:
            pass
    return size


async def test_a_head_and_then_nothing_is_given_up(provide: Provide) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        await exchange.gone.wait()

    code, message = failed(await said_by(play, provide, first=0.2))
    assert code == "provider_timeout"
    assert "silent for 0.2 s since the request" in message


async def test_a_socket_that_falls_silent_in_the_middle_is_given_up(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin + speech.text("Hello")))
        await exchange.gone.wait()

    said = await said_by(play, provide, idle=0.2)
    assert text_of(said) == "Hello"
    code, message = failed(said)
    assert code == "provider_timeout"
    assert "silent for 0.2 s since the last event" in message


async def test_half_a_frame_is_a_byte_and_then_silence(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin + speech.text("Hello")))
        await exchange.send(chunked(speech.argue("never whole")[:-8]))
        await exchange.gone.wait()

    assert failed(await said_by(play, provide, idle=0.2))[0] == "provider_timeout"


async def test_a_report_of_usage_does_not_pass_for_a_first_event(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin))
        await exchange.gone.wait()

    code, message = failed(await said_by(play, provide, first=0.2, idle=0.1))
    assert code == "provider_timeout"
    assert "silent for 0.2 s" in message


async def test_pings_hold_off_silence_while_a_model_thinks(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin))
        await now_and_then(exchange, PING, times=20)  # three times the limits of silence
        await exchange.send(chunked(speech.text("Hello")))
        await now_and_then(exchange, PING, times=20)
        await exchange.send(chunked(speech.end()), LAST)

    said = await said_by(play, provide, first=0.2, idle=0.2)
    assert isinstance(said[-1], ResponseEnded), said[-1]
    assert text_of(said) == "Hello"


async def test_pings_alone_have_their_own_limit(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin))
        await now_and_then(exchange, PING)

    code, message = failed(await said_by(play, provide, first=0.2, idle=0.2, pings=0.5))
    assert code == "provider_timeout"
    assert "nothing but pings or white space for 0.5 s since the request" in message


async def test_pings_do_not_hide_a_stall_in_the_middle(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin + speech.text("Hello")))
        await now_and_then(exchange, PING)

    said = await said_by(play, provide, first=0.2, idle=0.2, pings=0.5)
    assert text_of(said) == "Hello"
    code, message = failed(said)
    assert code == "provider_timeout"
    assert "since the last event" in message


async def test_the_limit_of_pings_is_never_shorter_than_that_of_silence(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin + speech.text("Hello")))
        await exchange.gone.wait()

    assert "silent for 0.3 s" in failed(await said_by(play, provide, idle=0.3, pings=0.1))[1]


async def test_endless_white_space_in_arguments_is_stopped(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin + speech.call()))
        await on_and_on(exchange, speech.argue(" \n\t " * 64))

    said = await said_by(play, provide)
    code, message = failed(said)
    assert code == "provider_runaway"
    assert str(BLANK_MAX) in message
    assert any(isinstance(one, BlockOpened) for one in said)


async def test_endless_white_space_in_a_text_is_stopped(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin + speech.text("Hello")))
        await on_and_on(exchange, speech.more("\n" * 256))

    said = await said_by(play, provide)
    assert failed(said)[0] == "provider_runaway"
    assert text_of(said).startswith("Hello")


async def test_arguments_that_never_close_are_stopped(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin + speech.call()))
        await on_and_on(exchange, speech.argue("[1, 2, " * 100))

    said = await said_by(play, provide, argument_bytes=50_000)
    code, message = failed(said)
    assert code == "provider_runaway"
    assert "limit is 100000" in message
    assert len(text_of(said)) < 100_000 + 256 * 1024  # what the last reads brought


async def test_arguments_past_their_bound_that_end_are_read_to_their_end(provide: Provide, speech: Speech) -> None:
    async def play(exchange: Exchange) -> None:
        await exchange.send(HEAD, chunked(speech.begin + speech.call()))
        await exchange.send(chunked(speech.argue("1" * 60_000 + "}") + speech.end()), LAST)

    said = await said_by(play, provide, argument_bytes=50_000)
    assert isinstance(said[-1], ResponseEnded), said[-1]


def endless(progress: Progress, size: int, *batch: ProviderInput) -> str:
    progress.hear(size, list(batch))
    return progress.endless or ""


def test_white_space_counts_in_a_row_only() -> None:
    progress = Progress(1_000)
    for _ in range(4):
        assert not endless(progress, BLANK_MAX, Delta(1, " " * BLANK_MAX))
        assert not endless(progress, 1, Delta(1, "x"))
    assert not endless(progress, BLANK_MAX, Delta(1, " " * BLANK_MAX))
    assert "white space" in endless(progress, 1, Delta(1, " "))


def test_bytes_of_which_nothing_comes_have_a_bound_and_a_long_frame_is_within_it() -> None:
    progress = Progress(1_000)
    assert not endless(progress, UNMEANT_MAX)
    assert f"limit is {UNMEANT_MAX}" in endless(progress, 1)


def test_each_call_has_its_own_bytes_and_text_has_no_bound() -> None:
    progress = Progress(1_000)
    assert not endless(progress, 1, BlockOpened(key=0, block_type="text"), Delta(0, "x" * 100_000))
    for key in (1, 2):
        opened = BlockOpened(key=key, block_type="tool_use", tool_name="get")
        assert not endless(progress, 1, opened, Delta(key, "é" * 1_000))
    assert "2001 bytes" in endless(progress, 1, Delta(1, "x"))
