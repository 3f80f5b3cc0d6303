"""An upstream fast enough that the server on the other core is what is measured: frames made once, one clock for all.

What it sends is asked for by the model's name: ``fake-n500-r50-d0`` is 500 deltas, 50 a second (0: as fast as the
socket takes them), the first after 0 ms. The text of each delta ends with ``~`` and 12 hex digits: CLOCK_MONOTONIC in
microseconds when it was written. Anything that keeps to this may stand in its place (``--upstream-port``).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from typing import Self

import msgspec

from legato.testing.connection import Transport
from legato.testing.script import Wire

ASKED = re.compile(rb"fake((?:-[a-z]\d+)+)")
TICK = 0.001  # seconds between looks at what is due
BURST = 256  # deltas in one write of an unpaced stream
DIGITS = 12

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
WORDS = (" the", " of", "ing", " system", " a", " stream", ",", " is", " and", " token", " for", " server")


class Frames(msgspec.Struct, frozen=True):
    """A wire's bytes: what stands before the deltas and after them, and each word's delta around its time."""

    before: bytes
    after: bytes
    deltas: tuple[tuple[bytes, bytes], ...]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(name: str, fields: str) -> bytes:
    return f'event: {name}\ndata: {{"type":"{name}",{fields}}}\n\n'.encode()


def _anthropic() -> Frames:
    usage = '"usage":{"input_tokens":25,"output_tokens":1}'
    message = (
        '"message":{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"bench","content":[],'
        f'"stop_reason":null,"stop_sequence":null,{usage}}}'
    )
    before = _event("message_start", message)
    before += _event("content_block_start", '"index":0,"content_block":{"type":"text","text":""}')
    after = _event("content_block_stop", '"index":0')
    after += _event("message_delta", f'"delta":{{"stop_reason":"end_turn","stop_sequence":null}},{usage}')
    after += b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    deltas = [
        _event("content_block_delta", f'"index":0,"delta":{{"type":"text_delta","text":"{word}~{"0" * DIGITS}"}}')
        for word in WORDS
    ]
    return Frames(chunk(before), chunk(after) + LAST_CHUNK, tuple(map(_around, deltas)))


def _openai() -> Frames:
    def data(choices: str, more: str = "") -> bytes:
        envelope = '"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1764000000,"model":"bench"'
        return f'data: {{{envelope},"choices":[{choices}]{more}}}\n\n'.encode()

    def delta(fields: str, reason: str = "null") -> bytes:
        return data(f'{{"index":0,"delta":{{{fields}}},"logprobs":null,"finish_reason":{reason}}}')

    usage = ',"usage":{"prompt_tokens":25,"completion_tokens":1,"total_tokens":26}'
    after = delta("", '"stop"') + data("", usage) + b"data: [DONE]\n\n"
    deltas = [delta(f'"content":"{word}~{"0" * DIGITS}"') for word in WORDS]
    before = delta('"role":"assistant","content":"","refusal":null')
    return Frames(chunk(before), chunk(after) + LAST_CHUNK, tuple(map(_around, deltas)))


def _around(delta: bytes) -> tuple[bytes, bytes]:
    """A delta's chunk without its time; every time has as many digits, so the chunk's length holds."""
    before, _, after = chunk(delta).partition(b"0" * DIGITS)
    return before, after


FRAMES: dict[Wire, Frames] = {"anthropic": _anthropic(), "openai_chat": _openai()}


class Paced:
    """The upstream: every stream's next delta stands in the slot of its millisecond."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots: defaultdict[int, list[Stream]] = defaultdict(list)
        self._now = int(time.monotonic() / TICK)
        self._timer: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._all_gone = asyncio.Event()
        self.streams: set[Stream] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await self._loop.create_server(lambda: Stream(self), "127.0.0.1", 0, backlog=8192)
        self.port = self._server.sockets[0].getsockname()[1]
        self._tick()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._timer is not None
        self._timer.cancel()
        self._server.close()
        for stream in list(self.streams):
            stream.abort()
        if self.streams:
            await self._all_gone.wait()

    def made(self, stream: Stream) -> None:
        self.streams.add(stream)
        self._all_gone.clear()

    def lost(self, stream: Stream) -> None:
        self.streams.discard(stream)
        if not self.streams:
            self._all_gone.set()

    def at(self, due: float, stream: Stream) -> None:
        """Let the stream write at ``due``, seconds of CLOCK_MONOTONIC."""
        self._slots[max(int(due / TICK), self._now + 1)].append(stream)

    def _tick(self) -> None:
        last = int(time.monotonic() / TICK)
        while self._now < last:
            self._now += 1
            for stream in self._slots.pop(self._now, ()):
                stream.write_next()
        # Not call_at: uvloop rounds to its own milliseconds, and would come back at once until the next begins.
        self._timer = self._loop.call_later(TICK, self._tick)


class Stream(asyncio.Protocol):
    """One connection: a response for each request."""

    def __init__(self, paced: Paced) -> None:
        self._paced = paced
        self._loop = asyncio.get_running_loop()
        self._transport: Transport | None = None
        self._received = b""
        self._frames = FRAMES["anthropic"]
        self._left = 0
        self._said = 0
        self._period = 0.0
        self._due = 0.0
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Transport)
        self._transport = transport
        self._paced.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._paced.lost(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._left and not self._period:
            self._burst()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if length is not None and len(body) < int(length[1]):
            return
        if length is None and not body.endswith(LAST_CHUNK):
            return
        self._received = b""
        self._begin(head, body)

    def _begin(self, head: bytes, body: bytes) -> None:
        self._frames = FRAMES["anthropic" if b"/messages" in head.partition(b"\r\n")[0] else "openai_chat"]
        asked = ASKED.search(body)
        wanted = {one[:1]: int(one[1:]) for one in asked[1].split(b"-")[1:]} if asked else {}
        self._left, self._said = wanted.get(b"n", 1), 0
        rate, delay = wanted.get(b"r", 0), wanted.get(b"d", 0) / 1000
        self._period = 1 / rate if rate else 0.0
        self._write(HEAD + self._frames.before)
        self._due = time.monotonic() + delay
        if delay or self._period:
            self._paced.at(self._due, self)
        else:
            self._burst()

    def write_next(self) -> None:
        """What is due now: the next delta of a paced stream, all of a burst."""
        if self._transport is None:
            return
        if not self._period:
            self._burst()
            return
        self._write(self._delta())
        if not self._left:
            self._write(self._frames.after)
            return
        # From when it was due, not from now: a late tick delays no other delta.
        self._due += self._period
        self._paced.at(self._due, self)

    def _burst(self) -> None:
        while self._writable and self._left:
            self._write(b"".join(self._delta() for _ in range(min(BURST, self._left))))
            if not self._left:
                self._write(self._frames.after)

    def _delta(self) -> bytes:
        before, after = self._frames.deltas[self._said % len(WORDS)]
        self._said += 1
        self._left -= 1
        return b"%b%012x%b" % (before, time.monotonic_ns() // 1000, after)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
