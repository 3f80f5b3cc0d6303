"""One client's connection, as uvicorn keeps it, with three things uvicorn leaves open.

A request's head has a bound in bytes and in time. What is not HTTP is answered in our shape of errors. And the
application may hang up, which ASGI has no word for: uvicorn answers 500 for an application that says nothing.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from legato.core.errors import RequestError
from legato.http.direct import DIRECT
from legato.http.errors import failure_of
from legato.http.hangup import HANG_UP


class Connection(HttpToolsProtocol):
    """Given to uvicorn as ``http=``. A subclass may say other bounds."""

    head_bytes: ClassVar[int] = 65_536
    """Of a request line and its headers: four times what browsers and common proxies allow."""
    head_seconds: ClassVar[float] = 10.0
    """From the first byte (of a new connection: from its start) until the head is whole."""

    _head_open = False
    _head_size = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_open = self._head_open
        super().data_received(data)
        if self._head_open and not self.transport.is_closing():
            # A head that began in these bytes is counted from the next ones: the bound is this one plus one read.
            self._head_size = self._head_size + len(data) if was_open else 0
            if self._head_size > self.head_bytes:
                self._turn_away("headers_too_large", f"the request's head is over the limit of {self.head_bytes} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_open, self._head_size = True, 0
        self._await_head()
        self.scope["extensions"] = {HANG_UP: {"close": self.transport.abort}}

    def on_headers_complete(self) -> None:
        self._head_open = False
        self._stop_timer()
        super().on_headers_complete()
        # Its own cycle: of a pipelined request the next one's may be there before this answer has ended.
        self.scope["extensions"][DIRECT] = {"write": partial(self._write_piece, self.cycle)}

    def _write_piece(self, cycle: RequestResponseCycle, piece: bytes) -> bool:
        """As uvicorn's ``send`` does between the head and the end of a streamed answer."""
        if self.flow.write_paused or cycle.disconnected or cycle.response_complete or not cycle.chunked_encoding:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    def send_400_response(self, msg: str) -> None:
        self._turn_away("bad_request", msg.removesuffix(".").lower())

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._head_open:
            self._turn_away("request_timeout", f"the request's head took over {self.head_seconds:g} s")
        else:
            self.transport.close()

    def _turn_away(self, code: str, detail: str) -> None:
        """Answer what is no request, unless an answer is being written already, and close."""
        # Declared as never None, and None before the first head is whole.
        idle = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]
        if idle or not self.cycle.response_started:
            failure = failure_of(RequestError(detail, code=code))
            head = b"".join(b"%b: %b\r\n" % header for header in (*failure.headers, (b"connection", b"close")))
            self.transport.write(STATUS_LINE[failure.status] + head + b"\r\n" + failure.body)
        self.transport.close()
