"""Bounds of a request, kept while it arrives: the path, the query, the body in bytes and in time (P12).

What is inside gets a body that is whole and within its bound, as one message, or is not called.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote_to_bytes

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legato.core.errors import RequestError, TooLarge
from legato.http.errors import refuse
from legato.http.headers import has_body, values
from legato.http.routes import Takes

# Bytes. Ids are at most 64 of them, the longest path holds two; a query holds a cursor and a ticket.
PATH_BYTES: Final = 2_048
QUERY_BYTES: Final = 8_192


class Limits:
    """``body_bytes`` bounds a body, unless ``takes`` has another bound for its method and path; it must come within
    ``body_seconds``, and never pause for ``body_idle_seconds``."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_bytes: int,
        body_seconds: float,
        body_idle_seconds: float,
        takes: Mapping[tuple[str, str], Takes] = MappingProxyType({}),
    ) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._takes = takes
        self._body_seconds = body_seconds
        self._body_idle_seconds = body_idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            _check_url(scope)
            body = await self._body(scope, receive) if has_body(scope) else b""
        except RequestError as error:
            await refuse(error, scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _replayed(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None if the client left before its end. Raises ``TooLarge`` without reading on."""
        declared = _declared(scope)
        takes = self._takes.get((scope["method"], scope["path"]))
        limit = self._body_bytes if takes is None else takes.max_bytes
        if declared is not None and declared > limit:
            raise _too_large(declared, limit)
        pieces: list[bytes] = []
        size = 0
        deadline = anyio.current_time() + self._body_seconds
        while True:
            message = await self._next(receive, deadline)
            if message["type"] == "http.disconnect":
                return None
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > limit:
                raise _too_large(declared, limit)
            pieces.append(piece)
            if not message.get("more_body", False):
                if not size and values(scope, b"upgrade"):
                    # httptools reads no body behind a head that asks for an upgrade, as Java's client does by itself.
                    raise RequestError(
                        "the body of a request with `Upgrade` is not read: leave that out", code="bad_request"
                    )
                return b"".join(pieces)

    async def _next(self, receive: Receive, deadline: float) -> Message:
        idle = anyio.current_time() + self._body_idle_seconds
        with anyio.CancelScope(deadline=min(deadline, idle)):
            return await receive()
        if idle < deadline:
            raise RequestError(f"the body paused for {self._body_idle_seconds:g} s", code="request_timeout")
        raise RequestError(f"the body took over {self._body_seconds:g} s", code="request_timeout")


def _too_large(declared: int | None, limit: int) -> TooLarge:
    said = "more" if declared is None else str(declared)
    return TooLarge(f"the body has {said} bytes, limit is {limit}", code="body_too_large", limit=limit, actual=declared)


def _check_url(scope: Scope) -> None:
    path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
    for name, text, limit in (("path", path, PATH_BYTES), ("query", query, QUERY_BYTES)):
        if len(text) > limit:
            raise TooLarge(
                f"the {name} has {len(text)} bytes, limit is {limit}",
                code="uri_too_long",
                limit=limit,
                actual=len(text),
            )
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:
        # The server reads such bytes as U+FFFD, and then two paths name one document.
        raise RequestError("the path is not UTF-8", code="bad_request") from error


def _declared(scope: Scope) -> int | None:
    """What ``Content-Length`` says. httptools refuses a bad one itself; other servers may hand it on."""
    said = set(values(scope, b"content-length"))
    if not said:
        return None
    length = said.pop()
    if said or len(length) > 18 or not (length.isascii() and length.isdecimal()):
        raise RequestError("content-length is not one number", code="bad_request")
    return int(length)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """``receive`` that first gives the whole body, then what the client does next: leave."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
