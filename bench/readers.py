"""Readers of event streams that note when each delta came: as many as a core can hold, in one loop.

A delta is a ``~`` and 12 hex digits, the time it was sent (bench.paced). It counts wherever it stands in the stream,
so a reader that was given several in one event has them all.
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections.abc import Sequence

import msgspec

from legato.testing.connection import Transport

STAMP = re.compile(rb"~([0-9a-f]{12})")
TAIL = 16  # bytes that a later read may complete: a time, or the word for the end


class Asked(msgspec.Struct, frozen=True):
    """The request every reader of a load sends, and the word that stands in its stream's last event (16 bytes at
    most)."""

    path: str
    body: bytes
    end: bytes
    headers: dict[str, str] = {}

    def raw(self, port: int) -> bytes:
        headers = {
            "host": f"127.0.0.1:{port}",
            "content-type": "application/json",
            "accept": "text/event-stream",
            "content-length": str(len(self.body)),
            **self.headers,
        }
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Reader(asyncio.Protocol):
    """One request and its stream. Times are microseconds of CLOCK_MONOTONIC."""

    def __init__(self, request: bytes, end: bytes) -> None:
        self._request = request
        self._end = end
        self._transport: Transport | None = None
        self._tail = b""
        self.delays = array("Q")
        self.arrivals = array("Q")
        self.sent_at = 0
        self.first_at: int | None = None
        self.status = 0
        self.ended = False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Transport)
        self._transport = transport
        self.sent_at = time.monotonic_ns() // 1000
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        if not self.done.done():
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns() // 1000
        if self._tail:
            data = self._tail + data
        last = 0
        for found in STAMP.finditer(data):
            self.delays.append(max(0, now - int(found[1], 16)))
            self.arrivals.append(now)
            last = found.end()
        if last and self.first_at is None:
            self.first_at = now
        self._tail = data[max(last, len(data) - TAIL) :]  # what was counted is not read again
        if not self.status:
            self.status = int(data[9:12])  # a status line comes in one piece over loopback
        if self._end in data:
            self.ended = True
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if not self.done.done():
            self.done.set_result(None)


class Load(msgspec.Struct, frozen=True):
    """What a number of readers saw. Delays are milliseconds, sorted."""

    readers: int
    refused: int
    unended: int
    short: int
    deltas: int
    delays: Sequence[float]
    first: Sequence[float]

    def delay(self, share: float) -> float:
        return percentile(self.delays, share)


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values; nan if there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


async def read(
    port: int, asked: Asked, *, readers: int, deltas: int, ramp: float, patience: float, window: tuple[float, float]
) -> Load:
    """Open ``readers`` streams within ``ramp`` seconds and read them to their ends. Delays count within ``window``,
    seconds from the start."""
    loop = asyncio.get_running_loop()
    request = asked.raw(port)
    begun = loop.time()
    opened: list[Reader] = []
    for number in range(readers):
        due = begun + ramp * number / readers
        if (early := due - loop.time()) > 0:
            await asyncio.sleep(early)
        _, reader = await loop.create_connection(lambda: Reader(request, asked.end), "127.0.0.1", port)
        opened.append(reader)
    await asyncio.wait([reader.done for reader in opened], timeout=patience)
    for reader in opened:
        reader.close()
    return _seen(opened, deltas, begun, window)


def _seen(opened: Sequence[Reader], deltas: int, begun: float, window: tuple[float, float]) -> Load:
    lowest, highest = ((begun + seconds) * 1e6 for seconds in window)
    delays = sorted(
        delay / 1000
        for reader in opened
        for delay, arrival in zip(reader.delays, reader.arrivals, strict=True)
        if lowest <= arrival < highest
    )
    return Load(
        readers=len(opened),
        refused=sum(reader.status != 200 for reader in opened),
        unended=sum(not reader.ended for reader in opened),
        short=sum(len(reader.delays) != deltas for reader in opened),
        deltas=sum(len(reader.delays) for reader in opened),
        delays=delays,
        first=sorted((one.first_at - one.sent_at) / 1000 for one in opened if one.first_at is not None),
    )
