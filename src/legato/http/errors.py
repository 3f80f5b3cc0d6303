"""Every error that leaves over HTTP, as ``application/problem+json`` (RFC 9457, docs/http.md "Errors").

``CODES`` is the closed list: docs/errors.md and the OpenAPI show the same, and a test compares them with what the
source raises. A code's status stands here, because only this surface speaks HTTP. A problem's ``type`` is
``/errors/{code}``, relative to the server that said it, which serves the code's meaning there.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

import anyio
import msgspec
from msgspec import UNSET
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legato.core.errors import (
    Conflict,
    InvalidJson,
    InvalidRequest,
    LegatoError,
    Overloaded,
    ProviderError,
    RequestError,
    StoreError,
    TooLarge,
)
from legato.core.views import ProblemDetails, ProblemView
from legato.http.hangup import hang_up
from legato.http.headers import has_body
from legato.http.opening import Opening
from legato.observability import count

logger = logging.getLogger(__name__)

# Seconds that an answered request's body is still read and thrown away: a socket closed on unread bytes is reset, and
# the reset may overtake the answer. Clients that read the answer leave at once.
LINGER_SECONDS: Final = 1.0
# Characters of a message or a pointer that are sent: either may hold what the client wrote, which may have 10 MiB.
SHOWN: Final = 8_192
# Seconds until a store that was away is worth asking again.
STORE_RETRY_AFTER: Final = 1


class Code(msgspec.Struct, frozen=True):
    """One error code, its status and what it means. ``title`` is the same for every occurrence (RFC 9457)."""

    code: str
    status: int
    title: str


CODES: Final[dict[str, Code]] = {
    one.code: one
    for one in (
        Code("bad_request", 400, "The request is not HTTP as we read it"),
        Code("invalid_json", 400, "The body is not JSON; line and column say where"),
        Code("origin_refused", 403, "The page that asks is from an origin that is not allowed"),
        Code("proxy_without_auth", 403, "Somebody from elsewhere asks through a proxy, and no authentication is set"),
        Code("not_found", 404, "There is no such thing, or it is someone else's"),
        Code("unknown_call", 404, "No such call of the turn waits, or has waited, for an answer"),
        Code("method_not_allowed", 405, "The path does not take this method; Allow names those it takes"),
        Code("request_timeout", 408, "The request did not arrive in time"),
        Code("already_answered", 409, "The call has another answer, which came first"),
        Code("call_not_waiting", 409, "The call does not wait for an answer any more"),
        Code("chat_busy", 409, "The chat has a turn that has not ended; turn_id names it"),
        Code("chat_id_taken", 409, "There is a chat of this id already"),
        Code("document_changed", 409, "The document is at another version; read it again"),
        Code("document_exists", 409, "There is a document, or a folder, at this path already"),
        Code("passage_ambiguous", 409, "The passage stands in the document more than once"),
        Code("passage_not_found", 409, "The passage does not stand in the document; detail shows what is nearest"),
        Code("steer_id_reused", 409, "The turn has a steer of this id, which says something else"),
        Code("turn_ended", 409, "The turn has ended"),
        Code("turn_id_reused", 409, "There is a turn of this id, made by another request"),
        Code("body_too_large", 413, "The body is over the limit"),
        Code("uri_too_long", 414, "The path or the query is over the limit"),
        Code("unsupported_media_type", 415, "The body is not application/json in UTF-8, uncompressed"),
        Code("host_refused", 421, "The server does not answer to this Host"),
        Code("archive_invalid", 422, "The zip file cannot be read, or holds what a workspace does not take"),
        Code("archive_too_large", 422, "The archive has more files or bytes than it may have"),
        Code("document_too_large", 422, "The document has more bytes than it may have"),
        Code("invalid_request", 422, "A field or parameter is wrong; errors names it"),
        Code("json_too_deep", 422, "The body's JSON is nested over the limit"),
        Code("path_invalid", 422, "The path is none that a document or folder can have"),
        Code("provider_not_configured", 422, "The model's provider has no key"),
        Code("script_invalid", 422, "A line of the script is wrong"),
        Code("too_many_documents", 422, "The folder has more documents than one change may move or delete"),
        Code("too_many_steers", 422, "The turn has as many steers as it may have"),
        Code("unknown_model", 422, "No provider has this model"),
        Code("unknown_tool", 422, "There is no tool of this name"),
        Code("url_not_supported", 422, "The model's provider takes no URLs; send the data"),
        Code("workspace_full", 422, "The workspace has as many documents or bytes as it may have"),
        Code("queue_full", 429, "The chat has as many queued turns as it may have"),
        Code("headers_too_large", 431, "The request's head is over the limit"),
        Code("internal", 500, "The server failed; its log says how"),
        Code("draining", 503, "The server is about to stop"),
        Code("persistence_failed", 503, "The store refused what had to be stored"),
        Code("readers_full", 503, "The server has as many open event streams as it may have"),
        Code("stale_epoch", 503, "The turn went to another process meanwhile"),
        Code("store_behind", 503, "More is said than the store takes, and too much of it waits"),
        Code("store_unavailable", 503, "The store did not answer, or not in time"),
        Code("too_many_turns", 503, "As many turns are running as may run"),
        Code("turn_ending", 503, "The turn was cancelled and is still ending"),
    )
}


class Failure(msgspec.Struct, frozen=True):
    """An error as it is sent."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    def start(self, *more: tuple[bytes, bytes]) -> Message:
        return {"type": "http.response.start", "status": self.status, "headers": [*self.headers, *more]}


class MethodNotAllowed(RequestError):
    """``allow`` are the methods the path takes."""

    def __init__(self, method: str, allow: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not for this path, it takes {', '.join(allow)}", code="method_not_allowed")
        self.allow = allow


def failure_of(error: Exception) -> Failure:
    """The answer to an error. One that nobody raised on purpose is ``internal``, and says nothing of itself."""
    details = _details(error)
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    match error:
        case Overloaded(retry_after=seconds):
            headers.append((b"retry-after", str(seconds).encode()))
            if error.code == "draining":  # the client's next connection may reach the server that comes after this one
                headers.append((b"connection", b"close"))
        case StoreError():
            headers.append((b"retry-after", str(STORE_RETRY_AFTER).encode()))
        case MethodNotAllowed(allow=allow):
            headers.append((b"allow", ", ".join(allow).encode()))
        case _:
            pass
    body = msgspec.json.encode(details)
    headers.append((b"content-length", str(len(body)).encode()))
    count("http_problems", code=details.code)
    return Failure(details.status, body, tuple(headers))


def _details(error: Exception) -> ProblemDetails:
    if not isinstance(error, RequestError | StoreError | ProviderError):
        return _problem(CODES["internal"], "the server failed; its log says how")
    known = CODES.get(error.code) or Code(error.code, error.status, HTTPStatus(error.status).phrase)
    details = _problem(known, error.message)
    match error:
        case InvalidJson(line=line, column=column):
            return msgspec.structs.replace(details, line=line, column=column)
        case InvalidRequest(problems=problems, limit=limit, actual=actual):
            shown = tuple(ProblemView(path=_shown(one.path), message=_shown(one.message)) for one in problems)
            return msgspec.structs.replace(details, errors=shown or UNSET, limit=_given(limit), actual=_given(actual))
        case TooLarge(limit=limit, actual=actual) | Overloaded(limit=limit, actual=actual):
            return msgspec.structs.replace(details, limit=_given(limit), actual=_given(actual))
        case Conflict(turn_id=str(turn_id)):
            return msgspec.structs.replace(details, turn_id=turn_id)
        case _:
            return details


def _problem(known: Code, detail: str) -> ProblemDetails:
    return ProblemDetails(
        type=f"/errors/{known.code}", title=known.title, status=known.status, detail=_shown(detail), code=known.code
    )


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _given(number: int | None) -> int | msgspec.UnsetType:
    return UNSET if number is None else number


async def send_failure(error: Exception, send: Send) -> None:
    """Answer a request whose body was read, or that had none."""
    failure = failure_of(error)
    await send(failure.start())
    await send({"type": "http.response.body", "body": failure.body})


async def refuse(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request whose body was not read to its end: whole and at once, then close the connection."""
    if not has_body(scope):
        await send_failure(error, send)
        return
    failure = failure_of(error)
    await send(failure.start((b"connection", b"close")))
    await send({"type": "http.response.body", "body": failure.body, "more_body": True})
    with anyio.move_on_after(LINGER_SECONDS):
        while (await receive()).get("more_body", False):
            pass
    await send({"type": "http.response.body", "body": b""})


class Guard:
    """Turns what is raised further in into an answer; what nobody raised on purpose is logged here, once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun: list[Message] = []
        try:
            await self._app(scope, receive, Opening(send, begun.append))
        # The supervisor of a request: one that fails must not take the server along, nor show its insides.
        except Exception as error:
            if not isinstance(error, LegatoError) or error.status == 500:
                logger.exception("%s %s failed", scope["method"], scope["path"])
            if begun:
                await hang_up(scope, receive)
            else:
                await send_failure(error, send)
