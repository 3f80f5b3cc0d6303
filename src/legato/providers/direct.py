"""The built-in HTTP client: a bare protocol over httptools, for servers whose streams must cost little.

What has arrived is handed on inside ``data_received``: no stream object, no task switch. It speaks HTTP/1.1, TLS and
keep-alive; proxies it does not (aiohttp's transport does).
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

import httptools
import msgspec

from legato.providers.transport import ConnectionLost, Unreachable

_IDLE_SECONDS = 30.0
"""A connection waits this long for the next round: tools may run meanwhile, and vendors keep theirs for a minute."""
_UNREAD_BYTES = 131_072
"""Bytes that may wait for whoever reads; past it the socket is not read, and the vendor waits. As much as aiohttp's:
each turn that is slowed has so many."""
_ENDING_SECONDS = 1.0
"""The rest of a finished response may take this long before its connection is given up."""


class _Target(msgspec.Struct, frozen=True):
    """Where a connection goes; those to one target can serve each other's requests."""

    host: str
    port: int
    secure: bool


class _Headers(dict[str, str]):
    """Looked up in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        return super().get(name.lower(), default)


class DirectTransport:
    """Implements ``transport.Transport``. Opens its connections in the loop that first uses it."""

    def __init__(self) -> None:
        self._idle: dict[_Target, list[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, connect_timeout: float) -> DirectAnswer:
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise Unreachable(f"{url} is no URL", retryable=False)
        secure = split.scheme == "https"
        target = _Target(split.hostname, split.port or (443 if secure else 80), secure)
        connection = self._take(target) or await self._connect(target, connect_timeout)
        self._busy.add(connection)
        path = split.path or "/"
        head = [
            f"POST {path}{'?' + split.query if split.query else ''} HTTP/1.1",
            f"host: {split.netloc.rpartition('@')[2]}",
            "user-agent: legato",
            "accept-encoding: identity",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        answer = connection.begin()
        connection.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n", body)
        try:
            await answer.head_came()
        except BaseException:
            connection.abort()
            raise
        return answer

    async def close(self) -> None:
        for connection in [*self._busy, *(each for idle in self._idle.values() for each in idle)]:
            connection.abort()
        self._idle.clear()

    def _take(self, target: _Target) -> _Connection | None:
        idle = self._idle.get(target, [])
        while idle:
            connection = idle.pop()
            if connection.wake():
                return connection
        return None

    async def _connect(self, target: _Target, timeout: float) -> _Connection:
        loop = asyncio.get_running_loop()
        if target.secure and self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(
                    lambda: _Connection(target, self._ended),
                    target.host,
                    target.port,
                    ssl=self._tls if target.secure else None,
                )
        except TimeoutError as error:
            raise Unreachable(f"no connection within {timeout:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"the certificate was refused: {error.verify_message}", retryable=False) from error
        except OSError as error:
            raise Unreachable(f"no connection: {error.strerror or error}") from error
        return connection

    def _ended(self, connection: _Connection, *, reusable: bool) -> None:
        """A connection is free, or gone."""
        self._busy.discard(connection)
        idle = self._idle.setdefault(connection.target, [])
        if reusable:
            idle.append(connection)
        elif connection in idle:
            idle.remove(connection)


class _Ended(Protocol):
    def __call__(self, connection: _Connection, *, reusable: bool) -> None: ...


class _Connection(asyncio.Protocol):
    """One socket, which answers one request after the other."""

    def __init__(self, target: _Target, ended: _Ended) -> None:
        self.target = target
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._answer: DirectAnswer | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive = False

    def begin(self) -> DirectAnswer:
        self._answer = DirectAnswer(self)
        self._parser = httptools.HttpResponseParser(self._answer)
        return self._answer

    def status(self) -> int:
        """Of the response whose head is just being parsed."""
        assert self._parser is not None
        return self._parser.get_status_code()

    def whole(self) -> None:
        """The response has just been parsed to its end; only now the parser knows whether the socket stays."""
        assert self._parser is not None
        self._keep_alive = self._parser.should_keep_alive()

    def write(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        self._transport.writelines([head, body])

    def wake(self) -> bool:
        """It was idle and is used again; False if it has been closed meanwhile."""
        self._stop_timer()
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def give_up_soon(self) -> None:
        """Nobody reads the rest: a connection that brings it soon is kept, any other is closed."""
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(_ENDING_SECONDS, self.abort)

    def free(self) -> None:
        """The response is whole, and nobody reads it any more."""
        self._stop_timer()
        self._answer = None
        self._parser = None
        keep = self._keep_alive and self.wake()
        if keep:
            self._timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self.abort)
        self._ended(self, reusable=keep)
        if not keep:
            self.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        answer, parser = self._answer, self._parser
        if answer is None or parser is None:
            self.abort()  # nobody asked
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            answer.lose(f"the answer is no HTTP: {error}")
            self.abort()
            return
        answer.deliver()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_timer()
        if self._answer is not None:
            self._answer.end_of_stream(str(exc) if exc is not None else "it was closed")
        self._ended(self, reusable=False)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class DirectAnswer:
    """Implements ``transport.Answer``, and is what the parser tells what it found."""

    def __init__(self, connection: _Connection) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._found = _Headers()
        self._connection = connection
        self._pieces: list[bytes] = []
        self._unread = 0
        self._has_head = False
        self._whole = False
        self._bounded = False
        self._lost: str | None = None
        self._broken: Exception | None = None
        self._left = False
        self._unpack: Callable[[bytes], bytes] | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._taker: Callable[[bytes], bool] | None = None

    async def head_came(self) -> None:
        while not self._has_head:
            if self._lost is not None:
                raise ConnectionLost(f"the connection was lost before the answer began: {self._lost}")
            await self._something()

    async def read(self) -> bytes:
        while not self._pieces:
            if self._whole:
                return b""
            if self._lost is not None:
                raise ConnectionLost(f"the connection was lost: {self._lost}")
            await self._something()
        return self._taken()

    async def each(self, take: Callable[[bytes], bool]) -> None:
        """Hand what arrives to ``take`` as it arrives, until it says False or the end. Raises ``ConnectionLost``."""
        if self._pieces and not take(self._taken()):
            return
        self._taker = take
        try:
            while not (self._enough() or self._whole or self._lost is not None):
                await self._something()
            if self._broken is not None:
                raise self._broken
            if not self._enough() and self._lost is not None:
                raise ConnectionLost(f"the connection was lost: {self._lost}")
        finally:
            self._taker = None

    def _enough(self) -> bool:
        """Whoever takes wants no more."""
        return self._taker is None

    def finish(self) -> None:
        self._left = True
        if self._whole:
            self._connection.free()
        else:
            self._connection.give_up_soon()

    def abort(self) -> None:
        if self._lost is None:
            self._lost = "aborted"
        self._wake()
        self._connection.abort()

    # From the connection

    def deliver(self) -> None:
        """The parser has been fed: pass on what it found, in one piece."""
        if self._left:
            self._pieces.clear()
            if self._whole:
                self._connection.free()
            return
        if self._taker is not None:
            self._give(self._taker)
            return
        if self._pieces or self._whole or self._has_head:
            self._wake()
        if self._unread > _UNREAD_BYTES:
            self._connection.pause()

    def _give(self, take: Callable[[bytes], bool]) -> None:
        pieces, self._pieces = self._pieces, []
        self._unread = 0
        try:
            more = not pieces or take(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        except Exception as error:  # noqa: BLE001 - raised where ``each`` waits, not into the loop that called us
            self._broken, more = error, False
        if not more:
            self._taker = None
        if not more or self._whole:
            self._wake()

    def lose(self, why: str) -> None:
        if not self._whole:
            self._lost = why
        self._wake()

    def end_of_stream(self, why: str) -> None:
        """The socket is closed: the end of an answer without a length, the loss of any other."""
        if self._has_head and not self._bounded and why == "it was closed":
            self._whole = True
        self.lose(why)

    # From the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._found[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._connection.status()
        self.headers = self._found
        self._has_head = True
        self._bounded = "content-length" in self._found or "transfer-encoding" in self._found
        if self._found.get("content-encoding") in ("gzip", "deflate"):
            self._unpack = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress

    def on_body(self, body: bytes) -> None:
        piece = body if self._unpack is None else self._unpack(body)
        self._pieces.append(piece)
        self._unread += len(piece)

    def on_message_complete(self) -> None:
        if self.status < 200:
            # 100 Continue and 103 Early Hints come before the answer.
            self._has_head = False
            self._found = _Headers()
            return
        self._whole = True
        self._connection.whole()

    def _taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        if self._unread > _UNREAD_BYTES:
            self._connection.resume()
        self._unread = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _something(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
