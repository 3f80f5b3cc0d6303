"""What watches a server asks: is it alive, may it have work, what has it counted. And what its errors mean."""

from __future__ import annotations

from typing import Literal

import msgspec

from legato import observability
from legato.core.errors import NotFound
from legato.http.errors import CODES, Code
from legato.http.query import NoQuery
from legato.http.routes import Answer, Call, Media, NoBody, Operation, Reply, operation, reply
from legato.runtime.service import TurnService

# Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health(msgspec.Struct, frozen=True):
    status: Literal["ok"] = "ok"


def operations(service: TurnService) -> list[Operation]:
    """The table of these paths."""

    async def alive(_: Call[NoBody, NoQuery]) -> Answer:
        return reply(Health())

    async def ready(_: Call[NoBody, NoQuery]) -> Answer:
        await service.ready()
        return reply(Health())

    async def metrics(_: Call[NoBody, NoQuery]) -> Answer:
        return Reply(200, observability.exposition().encode(), METRICS_TYPE.encode())

    async def code(call: Call[NoBody, NoQuery]) -> Answer:
        known = CODES.get(call.path["code"])
        if known is None:
            raise NotFound(f"there is no error code {call.path['code'][:64]!r}")
        return reply(known)

    return [
        operation(
            "GET /livez",
            "The process answers",
            alive,
            body=NoBody,
            query=NoQuery,
            answers={200: (Health,)},
        ),
        operation(
            "GET /readyz",
            "The server may be sent work: its store answers and it is not about to stop",
            ready,
            body=NoBody,
            query=NoQuery,
            answers={200: (Health,)},
            codes=("draining", "store_unavailable"),
        ),
        operation(
            "GET /metrics",
            "Counters",
            metrics,
            body=NoBody,
            query=NoQuery,
            answers={200: (Media(METRICS_TYPE, "Prometheus' text format"),)},
        ),
        operation(
            "GET /errors/{code}",
            "What an error code means; a problem's `type` leads here",
            code,
            body=NoBody,
            query=NoQuery,
            answers={200: (Code,)},
        ),
    ]
