"""A web of our own on loopback: pages by their path, and a bare socket for what no honest server does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """``seen`` are the requests that came."""

    def __init__(self, url: str, port: int, seen: list[web.Request]) -> None:
        self.url = url
        self.port = port
        self.seen = seen


@asynccontextmanager
async def site(pages: Mapping[str, Handler], *, host: str = "127.0.0.1") -> AsyncIterator[Site]:
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        handler = pages.get(request.path)
        return web.Response(status=404) if handler is None else await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0).start()
        port = int(runner.addresses[0][1])
        yield Site(f"http://{host}:{port}", port, seen)
    finally:
        await runner.cleanup()


def gives(body: bytes | str, *, type: str = "text/html", status: int = 200, **headers: str) -> Handler:
    """Always the same answer. ``_`` in a header's name is ``-``."""
    data = body.encode() if isinstance(body, str) else body

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = web.Response(body=data, status=status, headers=named)
        response.headers["content-type"] = type
        return response

    return answer


def sends_to(location: str, status: int = 302) -> Handler:
    return gives(b"", status=status, location=location)


class Bare:
    """``gone`` is set once the client has closed its connection."""

    def __init__(self, said: bytes, again: bytes, *, end: bool) -> None:
        self._said = said
        self._again = again
        self._end = end
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked.set()
            writer.write(self._said)
            if self._end:
                return
            end = asyncio.ensure_future(_until_gone(reader))
            while not end.done():
                if self._again:
                    writer.write(self._again)
                    await writer.drain()
                await asyncio.wait({end}, timeout=0.02 if self._again else None)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            writer.close()


async def _until_gone(reader: asyncio.StreamReader) -> None:
    try:
        await reader.read()
    except ConnectionError:
        pass


@asynccontextmanager
async def bare(said: bytes, *, again: bytes = b"", end: bool = False) -> AsyncIterator[Bare]:
    """A server that says ``said`` to every request, then ``again`` and again, until the client has gone, or it ends."""
    one = Bare(said, again, end=end)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    async with server:
        one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield one


def whole(body: bytes) -> bytes:
    """An answer that says nothing but how long it is."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
