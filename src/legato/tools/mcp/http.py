"""Below the SDK's HTTP: what fails, fails one request.

With ``mcp`` 2.3 a request that finds nobody ends every other of its connection, a JSON body is read whatever its size,
and of a refusal neither status nor words are told. Here each of these becomes a JSON-RPC error in answer to the one
request that met it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import anyio
import httpx2
import msgspec
from msgspec import UNSET, UnsetType

from legato.core.text import clean
from legato.tools.mcp.settings import McpServer

UNREACHABLE: Final = -32090
"""The request was not sent. Of JSON-RPC's range for servers, and outside what MCP uses of it."""
CUT: Final = -32091
"""The request was sent, and what came back broke off."""
REFUSED: Final = -32092
"""An answer of HTTP that holds nothing of MCP."""

_ONE_WAY = 10.0
"""Seconds for a message that has no answer: the SDK sends nothing else until it is taken."""
_FAREWELL = 2.0
"""Seconds to end a session in; the server forgets it anyway."""
_WRITE = 60.0
_SESSION = "mcp-session-id"
_DROPPED = {"content-length", "content-encoding", "transfer-encoding"}
_HINTS: Mapping[int, str] = {
    401: "it asks who comes: give a token in headers",
    403: "it refuses who comes: look at the token in headers",
    404: "there is nothing at this path: look at url",
    405: "it takes no POST at this path: look at url",
    406: "it speaks another protocol at this path: look at url",
}


class _Outgoing(msgspec.Struct):
    method: str | UnsetType = UNSET
    id: object = UNSET


def http_client(server: McpServer) -> httpx2.AsyncClient:
    """A context manager for the task that uses the SDK's transport. No proxy is used; the SDK follows redirects."""
    timeout = httpx2.Timeout(connect=min(10.0, server.connect_timeout), read=None, write=_WRITE, pool=_WRITE)
    limits = httpx2.Limits(max_connections=1_000, max_keepalive_connections=20)
    headers = {"accept-encoding": "identity", **server.headers}
    below = httpx2.AsyncHTTPTransport(limits=limits, trust_env=False)
    return httpx2.AsyncClient(transport=Careful(below, server), headers=headers, timeout=timeout, trust_env=False)


class Careful(httpx2.AsyncBaseTransport):
    """``below`` speaks HTTP. Raises only where the SDK expects it: for what is no POST."""

    def __init__(self, below: httpx2.AsyncBaseTransport, server: McpServer) -> None:
        self._below = below
        self._limit = server.message_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "DELETE":
            with anyio.fail_after(_FAREWELL):
                return await self._below.handle_async_request(request)
        if request.method != "POST":
            return await _uncompressed(await self._below.handle_async_request(request))
        await request.aread()  # one that was redirected comes as a stream
        if not _asks(request):
            return await self._one_way(request)
        try:
            response = await self._below.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol) as error:
            return _answer(503, UNREACHABLE, f"nobody answers at {_shown(request.url)}: {_words(error)}")
        except httpx2.TransportError as error:
            return _answer(503, CUT, f"the connection broke: {_words(error)}")
        try:
            return await self._careful(request, response)
        except httpx2.TransportError as error:
            return _answer(502, CUT, f"its answer broke off: {_words(error)}")

    async def aclose(self) -> None:
        await self._below.aclose()

    async def _one_way(self, request: httpx2.Request) -> httpx2.Response:
        try:
            with anyio.fail_after(_ONE_WAY):
                response = await self._below.handle_async_request(request)
                if response.has_redirect_location:
                    return response
                await response.aclose()
        except (httpx2.TransportError, TimeoutError):
            pass  # nobody waits for it; the request it belongs to has a timeout of its own
        return httpx2.Response(202)

    async def _careful(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        status, kind = response.status_code, _kind_of(response)
        if 300 <= status < 400 or status == 202:
            return response
        if status == 404 and _SESSION in request.headers:
            await response.aclose()
            return httpx2.Response(404)  # the SDK knows it as a session that has ended
        if _compressed(response):
            await response.aclose()
            return _answer(502, REFUSED, "its answer is compressed, which was not asked for")
        if kind == "text/event-stream" and status < 400:
            return response
        if kind != "application/json":
            await response.aclose()
            return _answer(max(status, 400), REFUSED, _refusal(response, kind))
        body = await self._whole(response)
        if body is None:
            return _answer(502, REFUSED, f"its answer has more than {self._limit} bytes, the limit")
        if status >= 400 and b'"error"' not in body:
            return _answer(status, REFUSED, _refusal(response, kind))
        return httpx2.Response(status, headers=_kept(response), content=body)

    async def _whole(self, response: httpx2.Response) -> bytes | None:
        """None where it is longer than the limit."""
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in response.aiter_raw():
                size += len(piece)
                if size > self._limit:
                    return None
                pieces.append(piece)
        finally:
            await response.aclose()
        return b"".join(pieces)


def _asks(request: httpx2.Request) -> bool:
    """Is an answer expected? Not to notifications, nor to our own answers."""
    try:
        said = msgspec.json.decode(request.content, type=_Outgoing)
    except msgspec.DecodeError:
        return True
    return said.id is not UNSET and said.method is not UNSET


def _answer(status: int, code: int, message: str) -> httpx2.Response:
    """The SDK puts the request's own id in the place of ``null``."""
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    content = msgspec.json.encode(body)
    return httpx2.Response(status, headers={"content-type": "application/json"}, content=content)


def _refusal(response: httpx2.Response, kind: str) -> str:
    status = response.status_code
    if status >= 400:
        hint = _HINTS.get(status)
        return f"it answers with HTTP {status}" + (f"; {hint}" if hint else "")
    return f"it answers with {kind or 'no content type'}, which is not MCP: look at url"


def _kind_of(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _compressed(response: httpx2.Response) -> bool:
    return response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}


async def _uncompressed(response: httpx2.Response) -> httpx2.Response:
    """Raises where it is not: a little on the wire may be very much in memory."""
    if _compressed(response):
        await response.aclose()
        raise httpx2.DecodingError("the answer is compressed, which was not asked for")
    return response


def _kept(response: httpx2.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _DROPPED]


def _shown(url: httpx2.URL) -> str:
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def _words(error: Exception) -> str:
    return clean(str(error)) or type(error).__name__
