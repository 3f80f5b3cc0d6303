"""One attempt of one request, the same for every wire: send it, read it, watch the clock.

Whatever the outside does becomes an input, never an exception. Whether to try again is not decided here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Protocol, TypeAlias

import msgspec

from legato.core.blocks import Json
from legato.core.inputs import Delta, ProviderInput, ResponseEnded, ResponseFailed
from legato.observability import count
from legato.ports import Sink
from legato.providers.failures import failed, refused
from legato.providers.outgoing import Request
from legato.providers.progress import Progress
from legato.providers.transport import Answer, ConnectionLost, Transport, Unreachable
from legato.providers.watch import Limits, Watch

REFUSAL_MAX = 64 * 1024
"""Bytes of an error body that are read: its message is in the first of them."""
_REFUSAL_SECONDS = 10.0
_TITLE = re.compile(r"<title>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)


class ResponseDecoder(Protocol):
    def feed(self, data: bytes) -> list[ProviderInput]: ...

    def end(self) -> list[ProviderInput]: ...


Failure: TypeAlias = Callable[[int | None, Json], ResponseFailed]
"""What an error body means, by the status it came with."""


async def attempt(
    transport: Transport,
    base_url: str,
    request: Request,
    decoder: ResponseDecoder,
    failure: Failure,
    sink: Sink,
    *,
    limits: Limits,
    provider: str,
    secret: str | None,
) -> None:
    """``sink`` gets all inputs of one read at a time; the last of the last is ``ResponseEnded`` or ``ResponseFailed``.

    A cancel closes the socket at once. ``secret`` never stands in a message.
    """
    started = asyncio.get_running_loop().time()
    answer = await _open(transport, base_url + request.path, request, limits)
    if isinstance(answer, ResponseFailed):
        sink([_stamped(answer, provider, secret)])
        return
    stamped = partial(_stamped, provider=provider, secret=secret)
    reading = _Reading(answer, decoder, sink, stamped, Progress(limits.argument_bytes))
    try:
        refusal = await _refusal(answer, failure)
        if refusal is not None:
            reading.hand_on([refusal])
            return
        reading.watch = watch = Watch(answer, limits, started)
        try:
            await reading.to_its_end()
        finally:
            watch.stop()
    finally:
        if reading.ended_well:
            answer.finish()
        else:
            answer.abort()


class _Reading:
    """A response on its way from the socket to the sink."""

    def __init__(
        self,
        answer: Answer,
        decoder: ResponseDecoder,
        sink: Sink,
        stamped: Callable[[ResponseFailed], ResponseFailed],
        progress: Progress,
    ) -> None:
        self.watch: Watch | None = None
        self.ended_well = False
        self._done = False
        self._room: Awaitable[object] | None = None
        self._answer = answer
        self._decoder = decoder
        self._sink = sink
        self._stamped = stamped
        self._progress = progress

    async def to_its_end(self) -> None:
        try:
            await self._answer.each(self._take)
            while self._room is not None and not self._done:
                await self._until_there_is(self._room)
                await self._answer.each(self._take)
        except ConnectionLost as error:
            self._lost(error)
        if not self._done:
            self.hand_on(self._decoder.end())

    async def _until_there_is(self, room: Awaitable[object]) -> None:
        """The socket is not read meanwhile, so its silence says nothing."""
        count("provider_slowed")
        if self.watch is not None:
            self.watch.stop()
        await room
        self._room = None
        if self.watch is not None:
            self.watch.go_on()

    def hand_on(self, batch: list[ProviderInput]) -> bool:
        """Whether more may come now."""
        if not batch:
            return True
        last = batch[-1]
        if isinstance(last, Delta):  # first, since nearly every batch ends in one
            pass
        elif isinstance(last, ResponseEnded):
            self.ended_well = self._done = True
        elif isinstance(last, ResponseFailed):
            batch[-1] = self._stamped(last)
            self._done = True
        self._room = self._sink(batch)
        return self._room is None and not self._done

    def _take(self, data: bytes) -> bool:
        batch = self._decoder.feed(data)
        meant = self._progress.hear(len(data), batch)
        if self.watch is not None:
            self.watch.hear(meant=meant)
        if self._progress.endless is not None and not _over(batch):
            batch.append(failed("provider_runaway", self._progress.endless))
        return self.hand_on(batch)

    def _lost(self, error: ConnectionLost) -> None:
        if self.watch is not None and self.watch.overdue is not None:
            self.hand_on([failed("provider_timeout", self.watch.overdue)])
            return
        # Some end the body badly after all was said: the decoder knows whether it was.
        batch = self._decoder.end()
        if batch and isinstance(last := batch[-1], ResponseFailed):
            batch[-1] = failed("provider_cut", f"{last.error.message}; {error}")
        self.hand_on(batch)


def _over(batch: list[ProviderInput]) -> bool:
    return bool(batch) and isinstance(batch[-1], ResponseEnded | ResponseFailed)


async def _open(transport: Transport, url: str, request: Request, limits: Limits) -> Answer | ResponseFailed:
    headers = {"content-type": "application/json", "accept": "text/event-stream", **request.headers}
    try:
        async with asyncio.timeout(limits.first_byte):
            return await transport.post(url, headers, request.body, connect_timeout=limits.connect)
    except TimeoutError:
        return failed("provider_timeout", f"no answer within {limits.first_byte:g} s")
    except Unreachable as error:
        return failed("provider_unreachable", str(error), retryable=error.retryable)
    except ConnectionLost as error:
        return failed("provider_cut", str(error))


async def _refusal(answer: Answer, failure: Failure) -> ResponseFailed | None:
    """What the answer says if it is no event stream; None if it is one."""
    kind = (answer.headers.get("content-type") or "").partition(";")[0].strip().lower()
    refuses = answer.status >= 300
    if not refuses and kind not in {"application/json", "text/html"}:
        return None
    body = await _body(answer)
    try:
        value: Json = json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return _unread(answer.status, kind, body)
    if refuses or (isinstance(value, dict) and value.get("error")):
        status = answer.status if refuses else None
        return _delayed(failure(status, value), answer.headers)
    return failed("provider_garbled", f"expected an event stream, got {kind}", status=answer.status, retryable=False)


def _unread(status: int, kind: str, body: bytes) -> ResponseFailed:
    text = body.decode("utf-8", "replace").strip()
    if kind == "text/html":
        title = _TITLE.search(text)
        text = title[1] if title is not None else "a page of HTML"
    if status < 300:
        return failed("provider_garbled", f"expected an event stream, got {kind}: {text}", status=status)
    return refused(f"status {status}: {text or 'no body'}", status=status)


async def _body(answer: Answer) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_REFUSAL_SECONDS):
            while size < REFUSAL_MAX and (piece := await answer.read()):
                pieces.append(piece)
                size += len(piece)
    except (TimeoutError, ConnectionLost):
        pass  # what came of it is better than nothing
    return b"".join(pieces)[:REFUSAL_MAX]


def _delayed(refusal: ResponseFailed, headers: Mapping[str, str]) -> ResponseFailed:
    """With what the headers say about trying again."""
    error = refusal.error
    match headers.get("x-should-retry"):  # OpenAI's and Anthropic's own clients follow it (2026-11)
        case "true":
            error = msgspec.structs.replace(error, retryable=True)
        case "false":
            error = msgspec.structs.replace(error, retryable=False)
        case _:
            pass
    return ResponseFailed(error=error, retry_after=retry_after(headers, datetime.now(UTC)))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait, said as milliseconds, seconds or a date; None if nothing readable is said."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        then = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    then = then if then.tzinfo is not None else then.replace(tzinfo=UTC)
    return max((then - now).total_seconds(), 0.0)


def _stamped(last: ResponseFailed, provider: str, secret: str | None) -> ResponseFailed:
    """With the provider's name, and without its key should the message repeat it."""
    message = last.error.message.replace(secret, "[key]") if secret else last.error.message
    error = msgspec.structs.replace(last.error, provider=provider, message=message)
    count("provider_failures", provider=provider, code=error.code)
    return ResponseFailed(error=error, retry_after=last.retry_after)
