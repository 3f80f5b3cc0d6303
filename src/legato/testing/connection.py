"""One client's connection to an upstream: HTTP/1.1 in, a player's bytes out."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Protocol, runtime_checkable

import httptools
import msgspec

from legato.testing.player import Player
from legato.testing.script import Ending
from legato.testing.timeline import Act

BODY_LIMIT = 32 * 1024 * 1024  # bytes; Anthropic takes no more
FLUSH_CHECK = 0.001  # seconds between looks at whether all is written that a reset must not overtake
LINGER_OFF = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends a reset


class Incoming(msgspec.Struct):
    """A request as it came off the wire. Header names are in lower case; of a repeated one the last counts."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    too_large: bool = False


@runtime_checkable
class Transport(Protocol):
    """What is used of one; uvloop's is no ``asyncio.Transport``."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def get_extra_info(self, name: str) -> socket.socket: ...


class Site(Protocol):
    """What a connection belongs to."""

    def opened(self, connection: Connection) -> None: ...

    def arrived(self, incoming: Incoming, connection: Connection) -> None:
        """A request is whole: call ``connection.answer`` now."""

    def closed(self, connection: Connection, *, early: bool) -> None:
        """``early``: the client left, or was lost, before its answer was complete."""

    def player(self, acts: Iterator[Act], connection: Connection) -> Player: ...


class Connection(asyncio.Protocol):
    """Answers one request after the other; a request that comes before the last answer is complete waits its turn."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self._site = site
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Transport | None = None
        self._player: Player | None = None
        self._head: bytes | None = None
        self._chunked = False
        self._waiting: deque[tuple[Incoming, bool]] = deque()
        self._keep_alive = True
        self._paused = False
        self.number = 0  # of the request being answered; 0 if there is none

    # -- what the loop says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Transport)
        self._transport = transport
        self._site.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.abort()
        except httptools.HttpParserError:
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (the protocol's signature)
        early = self._player is not None and not self._player.ended
        if self._player is not None:
            self._player.stop()
        self._transport = None
        self._site.closed(self, early=early)

    def pause_writing(self) -> None:
        self._paused = True
        if self._player is not None:
            self._player.paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._player is not None:
            self._player.resume()

    # -- what the parser says

    def on_message_begin(self) -> None:
        self._path = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= BODY_LIMIT:
            self._body.append(body)

    def on_message_complete(self) -> None:
        incoming = Incoming(
            method=self._parser.get_method().decode("latin-1"),
            path=self._path.decode("latin-1"),
            headers=self._headers,
            raw=b"".join(self._body),
            too_large=self._size > BODY_LIMIT,
        )
        self._waiting.append((incoming, self._parser.should_keep_alive()))
        self._take_next()

    # -- answering

    def answer(
        self, status: int, headers: Mapping[str, str], acts: Iterator[Act], *, number: int, length: int | None
    ) -> None:
        """Play ``acts`` as the answer. The head goes with the first frame; ``length`` None means a chunked body."""
        self.number = number
        self._chunked = length is None
        framing = {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
        lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{k}: {v}" for k, v in {**headers, **framing}.items())]
        if not self._keep_alive:
            lines.append("connection: close")
        self._head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._player = self._site.player(acts, self)
        self._player.paused = self._paused
        self._player.advance()

    def write(self, data: bytes) -> None:
        if self._transport is None:
            return
        if data and self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head is not None:
            data = self._head + data
            self._head = None
        if data:
            self._transport.write(data)

    def finish(self) -> None:
        self.write(b"")
        if self._transport is None:
            return
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        if not self._keep_alive:
            self._transport.close()
            return
        self._player = None
        self.number = 0
        # Not from here: a client that sends its requests ahead would make this a recursion.
        self._loop.call_soon(self._take_next)

    def sever(self, how: Ending) -> None:
        if how == "complete":
            self.finish()
        elif how == "reset":
            self._reset_once_written()
        elif self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def _take_next(self) -> None:
        if self._player is None and self._waiting and self._transport is not None:
            incoming, self._keep_alive = self._waiting.popleft()
            self._site.arrived(incoming, self)

    def _refuse(self) -> None:
        if self._transport is not None:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def _reset_once_written(self) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._loop.call_later(FLUSH_CHECK, self._reset_once_written)
            return
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        self._transport.abort()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded" if status == 529 else "Unknown"
