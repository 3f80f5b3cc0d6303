"""A turn's events as a Server-Sent Events stream (docs/http.md "GET /v1/turns/{id}/events"), as raw ASGI.

A stream only reads: when it ends, for whatever reason, the turn does not. It ends after ``turn_end``, when the client
leaves, when the server stops, or when the store is away; only the first of these is an end of the turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

import anyio
import msgspec
from starlette.types import Receive, Scope, Send

from legato.core.errors import LegatoError
from legato.http.direct import direct_of
from legato.http.hangup import hang_up
from legato.http.opening import beyond
from legato.http.readers import Seat
from legato.observability import count
from legato.runtime.service import TurnService

logger = logging.getLogger(__name__)

HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # nginx buffers a response unless it says so; other proxies recompress one unless it says no-transform.
    (b"x-accel-buffering", b"no"),
    (b"cache-control", b"no-cache, no-transform"),
)
RETRY: Final = b"retry: 1000\n\n"
COMMENT: Final = b": still here\n\n"
# JSON has no line break of its own, so this stands at the end of a frame and nowhere else.
FRAME_END: Final = b"\n\n"
# Bytes after which pending frames go out in a send of their own, so that a reader of a long log waits at the socket's
# high-water mark (64 KiB) and not in our memory.
SEND_BYTES: Final = 262_144
# Seconds for the last bytes of a stream, whose reader may have stopped reading.
FAREWELL_SECONDS: Final = 1.0

# An event's line begins {"type":"block_delta","seq":57 (core.events.encode).
_TYPE_AT: Final = len(b'{"type":"')
_SEQ_AFTER: Final = len(b'","seq":')


def frame(line: bytes) -> bytes:
    """One event as it is sent. Its type and seq are cut out of the line, which is not parsed."""
    type_end = line.index(b'"', _TYPE_AT)
    seq_start = type_end + _SEQ_AFTER
    seq_end = line.find(b",", seq_start)
    if seq_end < 0:
        seq_end = len(line) - 1
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (line[seq_start:seq_end], line[_TYPE_AT:type_end], line)


class Follow(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is a stream of what comes after ``after``. ``each``: deltas as they were. ``turn_id`` None: the
    connection is closed without an answer, as an ``EventSource`` takes any other for the end."""

    turn_id: str | None
    after: int = 0
    each: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()


CLOSED: Final = Follow(turn_id=None)


class Streams:
    """Sends streams. A comment goes out after ``beat_seconds`` without an event; a reader that takes nothing for
    ``stall_seconds`` is dropped."""

    def __init__(self, service: TurnService, *, beat_seconds: float, stall_seconds: float) -> None:
        self._service = service
        self._beat_seconds = beat_seconds
        self._stall_seconds = stall_seconds

    async def send(self, follow: Follow, seat: Seat, scope: Scope, receive: Receive, send: Send) -> None:
        if follow.turn_id is None and await hang_up(scope, receive):
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *follow.headers]})
        if scope["method"] == "HEAD" or follow.turn_id is None:
            # A stream that ends without turn_end says the same: come back.
            await send({"type": "http.response.body", "body": b""})
            return
        send = beyond(send)
        line = _Line(send, direct_of(scope))
        with seat.scope:
            await line.write(RETRY)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._beat, line, tasks.cancel_scope)
                tasks.start_soon(_watch, receive, tasks.cancel_scope)
                await self._pump(follow.turn_id, follow, line)
                tasks.cancel_scope.cancel()
        if line.stalled:
            count("readers_stalled")
            await hang_up(scope, receive)
            return
        with anyio.move_on_after(FAREWELL_SECONDS) as farewell:
            await send({"type": "http.response.body", "body": b""})
        if farewell.cancelled_caught:
            await hang_up(scope, receive)

    async def _pump(self, turn_id: str, follow: Follow, line: _Line) -> None:
        """Until the turn has ended, or can be followed no further from here."""
        try:
            reader = self._service.reader(turn_id, after=follow.after, each=follow.each, encode=frame)
            while (framed := await reader.read()) is not None:
                for piece in pieces(framed):
                    await line.write(piece)
                if line.direct is not None:
                    await reader.push(line.push)
        except LegatoError as error:
            logger.warning("a stream of turn %s ends early: %s", turn_id, error)

    async def _beat(self, line: _Line, reader: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep_until(line.since + (self._stall_seconds if line.writing else self._beat_seconds))
            now = line.now()
            if line.writing and now >= line.since + self._stall_seconds:
                line.stalled = True
                reader.cancel()
            elif not line.writing and now >= line.since + self._beat_seconds:
                await line.write(COMMENT)


class _Line:
    """The way to one reader: each write is whole frames. ``since`` is when the last write began or ended, by the loop's
    clock."""

    def __init__(self, send: Send, direct: Callable[[bytes], bool] | None) -> None:
        self._send = send
        self.direct = direct
        # anyio's own look at the clock costs a µs, twice for each wake-up of each reader.
        self.now = asyncio.get_running_loop().time
        self.writing = False
        self.stalled = False
        self.since = self.now()

    def push(self, frames: bytes) -> bool:
        """Past all layers, while the socket takes it: most of what a paced delta costs is the way through them."""
        assert self.direct is not None
        self.since = self.now()
        return len(frames) <= SEND_BYTES and self.direct(frames)

    async def write(self, frames: bytes) -> None:
        self.writing, self.since = True, self.now()
        await self._send({"type": "http.response.body", "body": frames, "more_body": True})
        self.writing, self.since = False, self.now()


async def _watch(receive: Receive, reader: anyio.CancelScope) -> None:
    """End the stream when the client leaves; nothing of the turn."""
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.cancel()


def pieces(frames: bytes) -> Iterator[bytes]:
    """Whole frames: all that is pending in one piece, or in several once it is over ``SEND_BYTES``. A frame that is
    longer than that stays whole."""
    start = 0
    while len(frames) - start > SEND_BYTES:
        end = frames.rfind(FRAME_END, start, start + SEND_BYTES)
        if end < 0:
            end = frames.index(FRAME_END, start)
        end += len(FRAME_END)
        yield frames[start:end]
        start = end
    if start < len(frames):
        yield frames[start:] if start else frames
