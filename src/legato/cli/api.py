"""docs/http.md as a client speaks it: one session, JSON both ways, and every failure as one sentence."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import ClientTimeout

from legato.cli.failures import MISUSED, Failed, Refused, Unreachable
from legato.cli.untrusted import one_line
from legato.core.blocks import Json

T = TypeVar("T")

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0
"""For an answer that is no stream. A start waits for the store, which has 5 s; a long branch takes less."""
SILENCE_SECONDS: Final = 30.0
"""A stream says something at least every 10 s (docs/http.md): one that is silent for three of them is dead."""
_DETAIL_MAX: Final = 500


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""
    title: str = ""
    code: str = ""
    turn_id: str | None = None


class Api:
    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url.rstrip("/")
        self._session = session

    async def get(self, path: str, into: type[T]) -> T:
        """Raises ``Unreachable``, ``Refused``."""
        return _decoded(await self.get_bytes(path), into, self.url)

    async def get_bytes(self, path: str) -> bytes:
        return await self._send("GET", path, None)

    async def send(self, method: str, path: str, body: Mapping[str, Json], into: type[T]) -> T:
        return _decoded(await self._send(method, path, msgspec.json.encode(body)), into, self.url)

    async def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = {} if body is None else {"content-type": "application/json"}
        with self._told():
            async with self._session.request(method, self.url + path, data=body, headers=headers) as response:
                answer = await response.read()
        if response.status >= 300:
            raise refused(response.status, answer, response.headers.get("retry-after"))
        return answer

    @asynccontextmanager
    async def events(self, turn_id: str, *, after: int, each: bool) -> AsyncIterator[aiohttp.ClientResponse]:
        """The open stream, or its 204. Raises ``Unreachable``, ``Refused``; so does reading it through ``pieces``."""
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if after:
            headers["last-event-id"] = str(after)
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        path = f"{self.url}{turn_path(turn_id)}/events{'?deltas=each' if each else ''}"
        with self._told():
            response = await self._session.get(path, headers=headers, timeout=timeout)
        try:
            if response.status not in {200, 204}:
                with self._told():
                    raise refused(response.status, await response.read(), response.headers.get("retry-after"))
            if response.status == 200 and response.content_type != "text/event-stream":
                raise Failed(f"{self.url} answered with {response.content_type}, which is no stream of events")
            yield response
        finally:
            response.close()

    async def pieces(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The stream's bytes as they come, until it is closed."""
        while True:
            with self._told():
                piece = await response.content.readany()
            if not piece:
                return
            yield piece

    def _told(self) -> _Told:
        return _Told(self.url)


class _Told:
    """aiohttp's exceptions as ours."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        match error:
            case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
                raise Failed(f"{self._url} is no URL of a server; expected http://HOST:PORT", exit_code=MISUSED)
            case aiohttp.ClientConnectorError():
                # asyncio's own text names the address again; the system's says what happened.
                # Of TLS the number is none of the system's.
                number = None if isinstance(error.os_error, ssl.SSLError) else error.os_error.errno
                why = os.strerror(number) if number else str(error.os_error)
                raise Unreachable(
                    f"no server answers at {self._url} ({one_line(why, 200)}); `legato serve` starts one",
                    connected=False,
                )
            case aiohttp.ConnectionTimeoutError():
                raise Unreachable(f"no server answers at {self._url} within {CONNECT_SECONDS:g} s", connected=False)
            case asyncio.TimeoutError():
                raise Unreachable(f"the server at {self._url} fell silent", connected=True)
            case aiohttp.ClientPayloadError():
                raise Unreachable(f"the line to {self._url} broke in the middle of an answer", connected=True)
            case aiohttp.ClientError():
                raise Unreachable(f"the line to {self._url} broke: {one_line(str(error), 200)}", connected=True)
            case _:
                return


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Api]:
    if not url.startswith(("http://", "https://")):
        raise Failed(f"{url} is no URL of a server; expected http://HOST:PORT", exit_code=MISUSED)
    timeout = ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)
    # No limit of connections: a stream must never keep a cancel waiting. Nothing is compressed on the way: it is mostly
    # this machine, and a compressed stream is held back.
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"accept-encoding": "identity", "accept": "application/json"}
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, headers=headers) as session:
        yield Api(url, session)


def turn_path(turn_id: str) -> str:
    return f"/v1/turns/{quote(turn_id, safe='')}"


def chat_path(chat_id: str) -> str:
    return f"/v1/chats/{quote(chat_id, safe='')}"


def refused(status: int, body: bytes, retry_after: str | None) -> Refused:
    """From problem+json, or from whatever else came."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    said = one_line(problem.detail or problem.title or f"it answered {status}", _DETAIL_MAX)
    code = one_line(problem.code, 64)
    return Refused(
        f"the server refused: {said}{f' ({code})' if code else ''}",
        status=status,
        code=code,
        turn_id=problem.turn_id,
        retry_after=float(retry_after) if retry_after is not None and retry_after.isdigit() else None,
    )


def _decoded(body: bytes, into: type[T], url: str) -> T:
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.DecodeError as error:
        raise Failed(f"{url} answered with something that is not Legato's: {one_line(str(error), 200)}") from error
