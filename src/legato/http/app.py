"""The whole application: the table of operations inside its rings. Access is the outermost, so that every answer,
errors too, has passed it; then the guard, the bounds, the routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import msgspec
from starlette.routing import BaseRoute, Router
from starlette.types import Receive, Scope, Send

from legato.core.errors import NotFound
from legato.http import documents, health, native, openapi
from legato.http.access import Access
from legato.http.errors import Guard
from legato.http.limits import Limits
from legato.http.query import NoQuery
from legato.http.readers import Readers
from legato.http.routes import Answer, Call, Media, NoBody, Operation, Reply, mount, operation
from legato.http.sse import Streams
from legato.runtime.service import TurnService


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """Bytes and seconds. ``local_only`` is so without ``[auth]`` (http.access)."""

    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    local_only: bool = True
    body_bytes: int = 10_485_760
    # A slow phone's 10 MiB take two minutes; a pause this long is no phone.
    body_seconds: float = 120.0
    body_idle_seconds: float = 20.0
    # RFC 8259 lets a parser bound it; schemas and tool inputs of real requests stay under 20.
    json_depth: int = 64
    readers: int = 5_000
    # A zip file of documents: texts pack to a third.
    import_bytes: int = 33_554_432
    # docs/http.md: a comment at least every 10 s.
    beat_seconds: float = 9.0
    stall_seconds: float = 120.0


class App:
    """An ASGI application. ``readers`` are its open event streams, ``table`` what it serves."""

    def __init__(self, service: TurnService, settings: HttpSettings, surfaces: Sequence[BaseRoute]) -> None:
        self.readers = Readers(settings.readers)
        self.table = _table(service, settings)
        takes = {(one.method, one.path): one.takes for one in self.table if one.takes is not None}
        streams = Streams(service, beat_seconds=settings.beat_seconds, stall_seconds=settings.stall_seconds)
        routes = mount(self.table, streams=streams, readers=self.readers, depth=settings.json_depth)
        router = Router([*routes, *surfaces], redirect_slashes=False, default=_not_found)
        bounded = Limits(
            router,
            body_bytes=settings.body_bytes,
            body_seconds=settings.body_seconds,
            body_idle_seconds=settings.body_idle_seconds,
            takes=takes,
        )
        self._app = Access(
            Guard(bounded),
            cors_origins=frozenset(settings.cors_origins),
            hosts=frozenset(settings.hosts),
            local_only=settings.local_only,
            takes=takes,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._app(scope, receive, send)


def build_app(service: TurnService, *, settings: HttpSettings, surfaces: Sequence[BaseRoute] = ()) -> App:
    """``surfaces`` are further routes, behind the same rings: the page, compatible APIs."""
    return App(service, settings, surfaces)


def _table(service: TurnService, settings: HttpSettings) -> list[Operation]:
    table = [
        *native.operations(service),
        *documents.operations(service, import_bytes=settings.import_bytes),
        *health.operations(service),
    ]

    async def described(_: Call[NoBody, NoQuery]) -> Answer:
        return Reply(200, document, b"application/json")

    table.append(
        operation(
            "GET /v1/openapi.json",
            "This document",
            described,
            body=NoBody,
            query=NoQuery,
            answers={200: (Media("application/json", "OpenAPI 3.1"),)},
        )
    )
    document = msgspec.json.encode(openapi.document(table, version=version("legato")))
    return table


async def _not_found(scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotFound(f"there is no path {scope['path'][:100]!r}")
