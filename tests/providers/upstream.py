"""A tiny HTTP server whose every byte the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
import anyio.lowlevel

from legato.core.ask import Ask
from legato.core.inputs import ProviderInput
from legato.ports import Provider

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def answer(status: str, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Exchange:
    """One request, read whole, and the way to answer it. ``gone`` is set when the client has hung up."""

    def __init__(self, head: str, body: bytes, transport: asyncio.Transport, gone: asyncio.Event) -> None:
        self.head = head
        self.body = body
        self.gone = gone
        self._transport = transport

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            if piece and not self.gone.is_set():
                self._transport.write(piece)
                await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        self._transport.close()

    def reset(self) -> None:
        self._transport.abort()


Play: TypeAlias = Callable[[Exchange], Coroutine[None, None, None]]


class Upstream:
    def __init__(self, play: Play) -> None:
        self.play = play
        self.url = ""
        self.connections: list[asyncio.Transport] = []
        self.exchanges: list[Exchange] = []
        self.arrived = asyncio.Queue[Exchange]()


class _Connection(asyncio.Protocol):
    def __init__(self, state: Upstream) -> None:
        self._state = state
        self._gone = asyncio.Event()
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._state.connections.append(transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        fields = dict(line.partition(b": ")[::2] for line in head.lower().split(b"\r\n"))
        length = int(fields.get(b"content-length", b"0"))
        if end and len(rest) >= length:
            self._received = rest[length:]
            exchange = Exchange(head.decode(), rest[:length], self._transport, self._gone)
            self._state.exchanges.append(exchange)
            self._state.arrived.put_nowait(exchange)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own name
        self._gone.set()


@asynccontextmanager
async def upstream(play: Play) -> AsyncIterator[Upstream]:
    """``play`` answers each request; a connection stays open for the next unless it closes it."""
    state = Upstream(play)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(state), "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with anyio.create_task_group() as group:

        async def serve() -> None:
            while True:
                group.start_soon(play, await state.arrived.get())

        group.start_soon(serve)
        try:
            yield state
        finally:
            server.close()
            for connection in state.connections:
                connection.abort()
            group.cancel_scope.cancel()


async def collected(provider: Provider, ask: Ask) -> list[ProviderInput]:
    said: list[ProviderInput] = []
    with anyio.fail_after(10):
        await provider.stream(ask, said.extend)
    return said


async def batches(provider: Provider, ask: Ask) -> AsyncGenerator[Sequence[ProviderInput], None]:
    """One by one, while the request goes on beside; closed, it cancels the request and waits until that is done."""
    heard: asyncio.Queue[Sequence[ProviderInput] | None] = asyncio.Queue()

    async def ask_it() -> None:
        try:
            await provider.stream(ask, heard.put_nowait)
        finally:
            heard.put_nowait(None)

    asking = asyncio.create_task(ask_it())
    try:
        while (batch := await heard.get()) is not None:
            yield batch
        await asking
    finally:
        asking.cancel()
        await asyncio.wait([asking])
