"""The least a proxy can do: take a request, hand it on, copy the answer's bytes back. It decodes, numbers and stores
nothing, so it is the floor that the server's figures stand on. ``python -m bench.passthrough PORT UPSTREAM_PORT``
"""

from __future__ import annotations

import asyncio
import sys

import httptools
import uvloop

from legato.testing.connection import Transport


class Answer(asyncio.Protocol):
    """The connection to the upstream; what comes goes to the client."""

    def __init__(self, client: Transport, request: bytes) -> None:
        self._client = client
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._client.close()


class Client(asyncio.Protocol):
    """One client's connection: parses its requests, and opens a connection upstream for each."""

    def __init__(self, upstream: int, tasks: asyncio.TaskGroup) -> None:
        self._upstream = upstream
        self._tasks = tasks
        self._parser = httptools.HttpRequestParser(self)
        self._answers: list[Answer] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        for answer in self._answers:
            answer.transport.close()

    def on_message_begin(self) -> None:
        self._lines: list[bytes] = []
        self._url = b""
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines.append(name + b": " + value)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            return
        first = self._parser.get_method() + b" " + self._url + b" HTTP/1.1"
        request = b"\r\n".join([first, *self._lines, b"", self._body])
        self._tasks.create_task(self._hand_on(request))

    async def _hand_on(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, answer = await loop.create_connection(lambda: Answer(self._transport, request), "127.0.0.1", self._upstream)
        self._answers.append(answer)


async def serve(port: int, upstream: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Client(upstream, tasks), "127.0.0.1", port, backlog=8192)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
