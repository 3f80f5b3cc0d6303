"""What an operation is: a row of the table that mounts the routes and makes the OpenAPI; and how it is answered."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from legato.core.errors import InvalidJson, NotFound
from legato.http import json_body
from legato.http.errors import MethodNotAllowed
from legato.http.headers import values, wants_event_stream
from legato.http.query import read_query
from legato.http.readers import Readers, Seat
from legato.http.sse import Follow, Streams
from legato.runtime.service import LOCAL

B = TypeVar("B", bound=msgspec.Struct)
Q = TypeVar("Q", bound=msgspec.Struct)

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


class NoBody(msgspec.Struct, frozen=True):
    """Nothing is read of the body."""


class RawBody(msgspec.Struct, frozen=True):
    """The body as it came, of one of the types that the operation ``takes``."""

    data: bytes = b""


class Takes(msgspec.Struct, frozen=True):
    """A body that is no JSON: its media types, and a bound of its own."""

    content_types: tuple[str, ...]
    max_bytes: int


class Reply(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    body: bytes = b""
    content_type: bytes | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    pieces: AsyncIterator[bytes] | None = None
    """Instead of ``body``: what is too large to be held at once. ``headers`` has its length."""


Answer: TypeAlias = Reply | Follow


def reply(value: msgspec.Struct, *, status: int = 200, location: str | None = None) -> Reply:
    headers = [(b"cache-control", b"no-store")]
    if location is not None:
        headers.append((b"location", location.encode()))
    return Reply(status, msgspec.json.encode(value), b"application/json", tuple(headers))


class Call(msgspec.Struct, Generic[B, Q], frozen=True, kw_only=True):
    """One request, read. ``fingerprint`` is the body's; ``seat`` is not taken yet."""

    principal: str
    path: Mapping[str, str]
    query: Q
    body: B
    fingerprint: str
    wants_stream: bool
    last_event_ids: Sequence[str]
    seat: Seat

    def id(self, name: str) -> str:
        """An id out of the path; what cannot be one names nothing."""
        text = self.path[name]
        if _ID.fullmatch(text) is None:
            raise NotFound(f"there is no {name.removesuffix('_id')} {text[:64]!r}")
        return text

    def number(self, name: str) -> int:
        text = self.path[name]
        if _NUMBER.fullmatch(text) is None:
            raise NotFound(f"there is no {name} {text[:64]!r}")
        return int(text)


class Media(msgspec.Struct, frozen=True):
    """An answer that is no struct of ours as JSON: its media type, the type of what it carries, and words."""

    content_type: str
    said: str
    carries: object = None


class Asked(msgspec.Struct, frozen=True):
    """A request before it is read."""

    scope: Scope
    body: bytes
    depth: int
    seat: Seat


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path. ``answers`` says what each status carries, ``codes`` which errors it has of its own."""

    method: str
    path: str
    summary: str
    body: type[msgspec.Struct]
    body_optional: bool
    query: type[msgspec.Struct]
    answers: Mapping[int, tuple[type[msgspec.Struct] | Media, ...]]
    codes: tuple[str, ...]
    perform: Callable[[Asked], Awaitable[Answer]]
    takes: Takes | None = None

    @property
    def name(self) -> str:
        """``get_v1_turns_turn_id``."""
        return self.method.lower() + re.sub(r"[^a-z0-9]+", "_", self.path.lower()).rstrip("_")


def operation(
    line: str,
    summary: str,
    handler: Callable[[Call[B, Q]], Awaitable[Answer]],
    *,
    body: type[B],
    query: type[Q],
    answers: Mapping[int, tuple[type[msgspec.Struct] | Media, ...]],
    codes: tuple[str, ...] = (),
    body_optional: bool = False,
    takes: Takes | None = None,
) -> Operation:
    """A row of the table; ``line`` is ``GET /the/path``. ``body_optional``: no body at all is read as ``{}``. ``takes``
    goes with ``RawBody``, on a path without parameters."""
    method, _, path = line.partition(" ")

    async def perform(asked: Asked) -> Answer:
        read = read_query(asked.scope, query)
        posted, mark = _read_body(asked, body, optional=body_optional)
        call = Call(
            principal=LOCAL,
            path=asked.scope["path_params"],
            query=read,
            body=posted,
            fingerprint=mark,
            wants_stream=wants_event_stream(asked.scope),
            last_event_ids=values(asked.scope, b"last-event-id"),
            seat=asked.seat,
        )
        return await handler(call)

    return Operation(
        method=method,
        path=path,
        summary=summary,
        body=body,
        body_optional=body_optional,
        query=query,
        answers=answers,
        codes=codes,
        perform=perform,
        takes=takes,
    )


def _read_body(asked: Asked, type_: type[B], *, optional: bool) -> tuple[B, str]:
    if type_ is NoBody:
        return type_(), ""
    if type_ is RawBody:
        return type_(asked.body), ""
    if not asked.body and not optional:
        raise InvalidJson("the body must be a JSON object, it is empty", line=1, column=1)
    value = json_body.decode(asked.body or b"{}", depth=asked.depth)
    return json_body.convert(value, type_), json_body.fingerprint(value)


class Resource:
    """One path: finds the operation for the method, performs it, and sends its answer."""

    def __init__(self, operations: Sequence[Operation], *, streams: Streams, readers: Readers, depth: int) -> None:
        self._operations = {one.method: one for one in operations}
        if "GET" in self._operations:
            # The server leaves out the body of an answer to HEAD (RFC 9110, 9.3.2).
            self._operations["HEAD"] = self._operations["GET"]
        self._allow = (*self._operations, "OPTIONS")
        self._streams = streams
        self._readers = readers
        self._depth = depth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        if method == "OPTIONS":
            await _send_reply(Reply(204, headers=((b"allow", ", ".join(self._allow).encode()),)), send)
            return
        chosen = self._operations.get(method)
        if chosen is None:
            raise MethodNotAllowed(method, self._allow)
        body: bytes = (await receive()).get("body", b"")
        with self._readers.seat() as seat:
            answer = await chosen.perform(Asked(scope, body, self._depth, seat))
            match answer:
                case Reply():
                    await _send_reply(answer, send)
                case Follow():
                    await self._streams.send(answer, seat, scope, receive, send)


async def _send_reply(answer: Reply, send: Send) -> None:
    headers = list(answer.headers)
    if answer.content_type is not None:
        headers.append((b"content-type", answer.content_type))
    if answer.status != 204 and answer.pieces is None:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.pieces is not None:
        async for piece in answer.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": answer.body})


def mount(table: Sequence[Operation], *, streams: Streams, readers: Readers, depth: int) -> list[Route]:
    """The table as routes, one for each path. A parameter ``path`` is all that follows, slashes included."""
    paths: dict[str, list[Operation]] = {}
    for one in table:
        paths.setdefault(one.path, []).append(one)
    return [
        Route(
            path.replace("{path}", "{path:path}"), Resource(operations, streams=streams, readers=readers, depth=depth)
        )
        for path, operations in paths.items()
    ]
