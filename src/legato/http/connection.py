"""One client's connection, as uvicorn keeps it, with what uvicorn leaves open.

A request's head has a bound in bytes and in time, and so have the requests that wait behind another. What is not HTTP
is answered in our shape of errors. Every request of the connection hears that it is lost: uvicorn tells the last one
alone. And the application may hang up, which ASGI has no word for: uvicorn answers 500 for one that says nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
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
    waiting: ClassVar[int] = 1_000
    """Requests behind one that is not answered yet: each is some 3 KB, and one read may bring six thousand."""

    _head_open = False
    _bounded = False
    """Whether the read brought what is bounded elsewhere: a part of a body, the begin of a head, the end of either."""
    _unbounded_size = 0
    """Bytes of the reads since one that did: of a head, or of trailers, the extension of a chunk, empty lines."""
    _head_timer: asyncio.TimerHandle | None = None
    _cycles: deque[RequestResponseCycle]
    """In the order of their answers. Those at the front may be complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._cycles = deque()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._bounded = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._unbounded_size = 0 if self._bounded else self._unbounded_size + len(data)
        if self._unbounded_size > self.head_bytes:
            what = "the request's head" if self._head_open else "what is neither head nor body"
            self._turn_away("headers_too_large", f"{what} is over the limit of {self.head_bytes} bytes")
        elif len(self.pipeline) > self.waiting:
            count = len(self.pipeline)
            self._turn_away("bad_request", f"{count} requests wait on this connection, limit is {self.waiting}")
        elif not self._bounded and self._answering() is None:
            self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_open = self._bounded = True
        self._await_head()
        self.scope["extensions"] = {HANG_UP: {"close": self.transport.abort}}

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes behind a body is no header of the request, whose headers were looked at before (RFC 9110, 6.5.1).
        if self._head_open:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_open, self._bounded = False, True
        self._stop_timer()
        super().on_headers_complete()
        self._cycles.append(self.cycle)
        # Its own cycle: of a pipelined request the next one's may be there before this answer has ended.
        self.scope["extensions"][DIRECT] = {"write": partial(self._write_piece, self.cycle)}

    def on_body(self, body: bytes) -> None:
        self._bounded = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._bounded = True
        super().on_message_complete()

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

    def _answering(self) -> RequestResponseCycle | None:
        """The request whose answer is due, or being written."""
        while self._cycles and self._cycles[0].response_complete:
            self._cycles.popleft()
        return self._cycles[0] if self._cycles else None

    def _disconnect(self) -> None:
        """Nobody writes from now on, and who waits for the client hears that it has left."""
        while (cycle := self._answering()) is not None:
            cycle.disconnected = True
            cycle.message_event.set()
            self._cycles.popleft()

    def _turn_away(self, code: str, detail: str) -> None:
        """Answer what is no request, unless an answer is being written already, and close."""
        cycle = self._answering()
        if cycle is None or not cycle.response_started:
            failure = failure_of(RequestError(detail, code=code))
            head = b"".join(b"%b: %b\r\n" % header for header in (*failure.headers, (b"connection", b"close")))
            self.transport.write(STATUS_LINE[failure.status] + head + b"\r\n" + failure.body)
        self._disconnect()
        self.transport.close()
