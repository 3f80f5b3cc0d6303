"""Legato's own surface: ``/v1/turns``, ``/v1/chats``, ``/v1/tools``, ``/v1/models`` (docs/http.md)."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, UnsetType

from legato.core.errors import InvalidRequest, Overloaded, Problem, StoreError
from legato.core.events import Event
from legato.core.posts import (
    Id,
    PatchChat,
    PostApproval,
    PostCancel,
    PostChat,
    PostSteer,
    PostToolResults,
    PostTurn,
)
from legato.core.records import Datum
from legato.core.views import (
    CancelKept,
    Cancelled,
    ChatPage,
    ChatView,
    ModelPage,
    ModelView,
    Started,
    Steered,
    Timeline,
    ToolPage,
    TreePage,
    TurnPage,
    TurnView,
)
from legato.http.query import NoQuery, number
from legato.http.routes import Answer, Call, Media, NoBody, Operation, Reply, operation, reply
from legato.http.sse import CLOSED, Follow
from legato.runtime.service import TurnService

Limit = Annotated[int, Meta(ge=1, le=200, description="How many, at most")]
Before = Annotated[str, Meta(min_length=1, max_length=256, description="The `next` of the page before")]
PAGE: Final = 50

EVENT_STREAM: Final = "text/event-stream"
START_CODES: Final = (
    "chat_busy",
    "chat_id_taken",
    "not_found",
    "queue_full",
    "too_many_steers",
    "turn_id_reused",
    "provider_not_configured",
    "script_invalid",
    "unknown_model",
    "unknown_tool",
    "url_not_supported",
    "readers_full",
    "store_behind",
    "too_many_turns",
)
"""Errors of a start beside those any request may have."""
ANSWER_CODES: Final = ("already_answered", "turn_ended", "unknown_call")
"""Errors of an answer, likewise."""
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")


class EventsQuery(msgspec.Struct, frozen=True):
    after: Annotated[int, Meta(ge=0, description="Events with a greater seq; Last-Event-ID counts if it is larger")] = 0
    deltas: Annotated[Literal["each"], Meta(description="Each delta as it was, none merged")] | UnsetType = UNSET


class ModelViewQuery(msgspec.Struct, frozen=True):
    round: Annotated[int, Meta(ge=1, description="Of which round; the last one if left out")] | UnsetType = UNSET


class PageQuery(msgspec.Struct, frozen=True):
    limit: Limit = PAGE
    before: Before | UnsetType = UNSET


class TurnsQuery(msgspec.Struct, frozen=True):
    branch: Annotated[Id, Meta(description="A turn of the branch; the chat's head if left out")] | UnsetType = UNSET
    tree: Annotated[Literal["1"], Meta(description="Every turn of the chat, without its blocks")] | UnsetType = UNSET
    limit: Limit | UnsetType = UNSET
    before: Before | UnsetType = UNSET


class Native:
    """The handlers. Each reads a call, asks the service, and shows what it said."""

    def __init__(self, service: TurnService) -> None:
        self._service = service

    async def start(self, call: Call[PostTurn, NoQuery]) -> Answer:
        if call.wants_stream:
            # A place first: once the turn is accepted there is nothing left to refuse.
            call.seat.take()
        started, new = await self._service.post(call.body, principal=call.principal, fingerprint=call.fingerprint)
        location = f"/v1/turns/{started.assistant_turn.id}"
        if call.wants_stream:
            return Follow(turn_id=started.assistant_turn.id, headers=((b"location", location.encode()),))
        return reply(started, status=202 if new else 200, location=location)

    async def turn(self, call: Call[NoBody, NoQuery]) -> Answer:
        return reply(await self._service.get(call.id("turn_id"), principal=call.principal))

    async def events(self, call: Call[NoBody, EventsQuery]) -> Answer:
        seen = [number("Last-Event-ID", one) for one in call.last_event_ids if one]
        after = max(call.query.after, *seen, 0)
        turn_id = call.id("turn_id")
        try:
            call.seat.take()
            position = await self._service.position(turn_id, after=after, principal=call.principal)
        except StoreError:
            return CLOSED
        except Overloaded as error:
            if error.code != "draining":
                raise
            return CLOSED
        if position == "ended":
            return Reply(204)
        return Follow(turn_id=turn_id, after=after, each=call.query.deltas == "each")

    async def cancel(self, call: Call[PostCancel, NoQuery]) -> Answer:
        turn, had_ended = await self._service.cancel(call.id("turn_id"), mode=call.body.mode, principal=call.principal)
        return reply(turn, status=200 if had_ended else 202)

    async def steer(self, call: Call[PostSteer, NoQuery]) -> Answer:
        return reply(await self._service.steer(call.id("turn_id"), call.body, principal=call.principal), status=202)

    async def tool_results(self, call: Call[PostToolResults, NoQuery]) -> Answer:
        turn = await self._service.tool_results(call.id("turn_id"), call.body, principal=call.principal)
        return reply(turn, status=202)

    async def approve(self, call: Call[PostApproval, NoQuery]) -> Answer:
        turn = await self._service.approve(call.id("turn_id"), call.body, principal=call.principal)
        return reply(turn, status=202)

    async def output(self, call: Call[NoBody, NoQuery]) -> Answer:
        kept = await self._service.output(call.id("turn_id"), call.id("call_id"), principal=call.principal)
        headers = (
            (b"content-length", str(kept.bytes).encode()),
            *_saved_as(f"{kept.tool_name}-{call.id('call_id')}.txt"),
            (b"cache-control", b"private, max-age=31536000, immutable"),
        )
        return Reply(200, b"", b"text/plain; charset=utf-8", headers, kept.pieces)

    async def model_view(self, call: Call[NoBody, ModelViewQuery]) -> Answer:
        round_ = None if call.query.round is UNSET else call.query.round
        return reply(await self._service.model_view(call.id("turn_id"), round=round_, principal=call.principal))

    async def timeline(self, call: Call[NoBody, NoQuery]) -> Answer:
        return reply(await self._service.timeline(call.id("turn_id"), principal=call.principal))

    async def datum(self, call: Call[NoBody, NoQuery]) -> Answer:
        datum = await self._service.datum(call.id("turn_id"), call.number("index"), principal=call.principal)
        return _attachment(datum)

    async def chats(self, call: Call[NoBody, PageQuery]) -> Answer:
        before = None if call.query.before is UNSET else call.query.before
        return reply(await self._service.chats(principal=call.principal, limit=call.query.limit, before=before))

    async def create_chat(self, call: Call[PostChat, NoQuery]) -> Answer:
        chat = await self._service.create_chat(call.body, principal=call.principal)
        return reply(chat, status=201, location=f"/v1/chats/{chat.id}")

    async def chat(self, call: Call[NoBody, NoQuery]) -> Answer:
        return reply(await self._service.chat(call.id("chat_id"), principal=call.principal))

    async def update_chat(self, call: Call[PatchChat, NoQuery]) -> Answer:
        return reply(await self._service.update_chat(call.id("chat_id"), call.body, principal=call.principal))

    async def delete_chat(self, call: Call[NoBody, NoQuery]) -> Answer:
        await self._service.delete_chat(call.id("chat_id"), principal=call.principal)
        return Reply(204)

    async def turns(self, call: Call[NoBody, TurnsQuery]) -> Answer:
        chat_id, query = call.id("chat_id"), call.query
        if query.tree is not UNSET:
            _refuse_beside_tree(query)
            return reply(await self._service.tree(chat_id, principal=call.principal))
        page = await self._service.turns(
            chat_id,
            branch=None if query.branch is UNSET else query.branch,
            limit=PAGE if query.limit is UNSET else query.limit,
            before=None if query.before is UNSET else query.before,
            principal=call.principal,
        )
        return reply(page)

    async def tools(self, _: Call[NoBody, NoQuery]) -> Answer:
        return reply(self._service.tools())

    async def models(self, _: Call[NoBody, NoQuery]) -> Answer:
        return reply(self._service.models())


def _refuse_beside_tree(query: TurnsQuery) -> None:
    beside = {"branch": query.branch, "limit": query.limit, "before": query.before}
    for name, value in beside.items():
        if value is not UNSET:
            message = f"{name} does not go with tree, which is the whole chat"
            raise InvalidRequest(message, problems=(Problem(f"/{name}", message),))


def _attachment(datum: Datum) -> Reply:
    """Bytes that came from anybody: saved, never shown as a page of this origin."""
    name = datum.name or f"block-{datum.index}"
    media_type = datum.media_type if _MEDIA_TYPE.fullmatch(datum.media_type) else "application/octet-stream"
    headers = (
        *_saved_as(name),
        # The bytes of a block never change; they are the principal's, so no shared cache keeps them.
        (b"cache-control", b"private, max-age=31536000, immutable"),
        (b"etag", f'"{datum.sha256}"'.encode()),
    )
    return Reply(200, datum.data, media_type.encode(), headers)


def _saved_as(name: str) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"content-disposition", f"attachment; filename*=UTF-8''{quote(name, safe='')}".encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
    )


def operations(service: TurnService) -> list[Operation]:
    """The table of this surface."""
    native = Native(service)
    return [*_turns(native), *_chats(native), *_lists(native)]


def _turns(native: Native) -> list[Operation]:
    stream = Media(EVENT_STREAM, "The turn's events, each as the `data` of a server-sent event", carries=Event)
    any_bytes = Media("application/octet-stream", "The bytes, with the media type they were posted with")
    return [
        operation(
            "POST /v1/turns",
            "Start a turn: 202 once it is stored, 200 for a repeat, or its events if Accept asks for them",
            native.start,
            body=PostTurn,
            query=NoQuery,
            answers={202: (Started,), 200: (Started, stream)},
            codes=START_CODES,
        ),
        operation(
            "GET /v1/turns/{turn_id}",
            "A turn up to its last_seq, open blocks included",
            native.turn,
            body=NoBody,
            query=NoQuery,
            answers={200: (TurnView,)},
        ),
        operation(
            "GET /v1/turns/{turn_id}/events",
            "Follow a turn; 204 if it has ended and nothing comes after. Last-Event-ID says the same as `after`",
            native.events,
            body=NoBody,
            query=EventsQuery,
            answers={200: (stream,), 204: ()},
            codes=("readers_full",),
        ),
        operation(
            "POST /v1/turns/{turn_id}/cancel",
            "Cancel a turn; 200 if it has ended already. One that is not known yet is cancelled when it is posted",
            native.cancel,
            body=PostCancel,
            query=NoQuery,
            answers={202: (Cancelled, CancelKept), 200: (Cancelled,)},
            body_optional=True,
        ),
        operation(
            "POST /v1/turns/{turn_id}/steer",
            "Say something into a turn that has not ended: 202 once it is stored; a repeat is accepted",
            native.steer,
            body=PostSteer,
            query=NoQuery,
            answers={202: (Steered,)},
            codes=("steer_id_reused", "turn_ended", "too_many_steers"),
        ),
        operation(
            "POST /v1/turns/{turn_id}/tool_results",
            "Results of a client's tools: 202 once they are stored, all of them or none; a repeat is accepted",
            native.tool_results,
            body=PostToolResults,
            query=NoQuery,
            answers={202: (TurnView,)},
            codes=ANSWER_CODES,
        ),
        operation(
            "POST /v1/turns/{turn_id}/approvals",
            "A yes or no to a call that waits for one, or the answer to what a tool asks: 202 once it is stored",
            native.approve,
            body=PostApproval,
            query=NoQuery,
            answers={202: (TurnView,)},
            codes=(*ANSWER_CODES, "call_not_waiting"),
        ),
        operation(
            "GET /v1/turns/{turn_id}/outputs/{call_id}",
            "The whole output of a call whose tool_result has an href, as an attachment",
            native.output,
            body=NoBody,
            query=NoQuery,
            answers={200: (any_bytes,)},
        ),
        operation(
            "GET /v1/turns/{turn_id}/model_view",
            "What the model was or would be sent",
            native.model_view,
            body=NoBody,
            query=ModelViewQuery,
            answers={200: (ModelView,)},
        ),
        operation(
            "GET /v1/turns/{turn_id}/timeline",
            "What took how long, from the turn's created_at",
            native.timeline,
            body=NoBody,
            query=NoQuery,
            answers={200: (Timeline,)},
        ),
        operation(
            "GET /v1/turns/{turn_id}/blocks/{index}/data",
            "The bytes of an image or file block, as an attachment",
            native.datum,
            body=NoBody,
            query=NoQuery,
            answers={200: (any_bytes,)},
        ),
    ]


def _chats(native: Native) -> list[Operation]:
    return [
        operation(
            "GET /v1/chats",
            "Chats, the newest updated_at first",
            native.chats,
            body=NoBody,
            query=PageQuery,
            answers={200: (ChatPage,)},
        ),
        operation(
            "POST /v1/chats",
            "Make a chat",
            native.create_chat,
            body=PostChat,
            query=NoQuery,
            answers={201: (ChatView,)},
            codes=("chat_id_taken", "provider_not_configured", "unknown_model"),
            body_optional=True,
        ),
        operation(
            "GET /v1/chats/{chat_id}",
            "A chat",
            native.chat,
            body=NoBody,
            query=NoQuery,
            answers={200: (ChatView,)},
        ),
        operation(
            "PATCH /v1/chats/{chat_id}",
            "Change a chat; fields left out stay",
            native.update_chat,
            body=PatchChat,
            query=NoQuery,
            answers={200: (ChatView,)},
            codes=("provider_not_configured", "unknown_model"),
        ),
        operation(
            "DELETE /v1/chats/{chat_id}",
            "Cancel what runs in a chat, then remove it",
            native.delete_chat,
            body=NoBody,
            query=NoQuery,
            answers={204: ()},
            codes=("turn_ending",),
        ),
        operation(
            "GET /v1/chats/{chat_id}/turns",
            "The newest turns of a branch, oldest first; or with tree=1 all of them without blocks",
            native.turns,
            body=NoBody,
            query=TurnsQuery,
            answers={200: (TurnPage, TreePage)},
        ),
    ]


def _lists(native: Native) -> list[Operation]:
    return [
        operation(
            "GET /v1/tools",
            "The registered tools",
            native.tools,
            body=NoBody,
            query=NoQuery,
            answers={200: (ToolPage,)},
        ),
        operation(
            "GET /v1/models",
            "The models there are",
            native.models,
            body=NoBody,
            query=NoQuery,
            answers={200: (ModelPage,)},
        ),
    ]
