"""One page: the request and its redirects, each through the doorway; its body within its bounds; its text.

What goes wrong is a ``ToolError`` in words for the model: ``web_refused`` for what is never asked for,
``web_unreachable`` and ``web_timeout`` for who did not answer, ``web_status`` for an answer that is none, ``web_type``,
``web_too_large``, ``web_garbled`` and ``web_unreadable`` for what came.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeAlias

import aiohttp
import msgspec
from yarl import URL

from legato.core.errors import ToolError
from legato.core.text import clean
from legato.tools.web.body import ACCEPT_ENCODING, read
from legato.tools.web.charsets import is_binary, text_of
from legato.tools.web.dialing import Lookup, look_up, session
from legato.tools.web.doorway import Doorway, shown
from legato.tools.web.pages import CHARACTERS, Page, page_of
from legato.tools.web.settings import USER_AGENT, FetchSettings

REDIRECTS = 5
"""Browsers follow 20; five are a login, a language, a www, a slash and one more."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXT = re.compile(
    r"text/.+|application/(?:json|xml|yaml|x-yaml|toml|javascript|ecmascript|x-ndjson|sql|x-sh"
    r"|[a-z0-9.+-]+\+(?:json|xml|yaml))"
)
_HTML_BEGINS = re.compile(r"\s*(?:<!--.{0,500}?-->\s*)?<(?:!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_ACCEPT = "text/html, application/xhtml+xml, text/markdown, text/plain;q=0.9, application/json;q=0.9, */*;q=0.1"

_PHRASES = {int(status): status.phrase for status in HTTPStatus}

Convert: TypeAlias = Callable[[str, str], Awaitable[Page]]


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """``url`` is where it was found in the end. ``cut`` where there is more than ``text``."""

    url: str
    media_type: str
    title: str
    text: str
    cut: bool = False


class Fetcher:
    """``lookup`` and ``convert`` are the seams for tests of DNS and of slow pages."""

    def __init__(self, settings: FetchSettings, *, lookup: Lookup = look_up, convert: Convert = page_of) -> None:
        self._settings = settings
        self._doorway = Doorway(allow_hosts=settings.allow_hosts, allow_private=settings.allow_private)
        self._lookup = lookup
        self._convert = convert

    async def fetch(self, text: str) -> Fetched:
        """Raises ``ToolError``. Cancel it to close the connection at once."""
        url = self._doorway.url(text)
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._followed(url)
        except TimeoutError as error:
            limit = self._settings.timeout
            raise ToolError(f"{shown(text)} took longer than {limit:g} s (web.timeout)", code="web_timeout") from error

    async def _followed(self, url: URL) -> Fetched:
        for _ in range(REDIRECTS + 1):
            answer = await self._asked(url)
            if isinstance(answer, Fetched):
                return answer
            url = answer
        raise ToolError(f"more than {REDIRECTS} redirects, the last to {shown(str(url))}", code="web_refused")

    async def _asked(self, url: URL) -> Fetched | URL:
        """The page, or where it is instead."""
        headers = {"accept": _ACCEPT, "accept-encoding": ACCEPT_ENCODING, "user-agent": USER_AGENT}
        host = url.raw_host or ""
        idle = self._settings.idle_timeout
        try:
            async with (
                session(self._doorway, host, idle_timeout=idle, headers=headers, lookup=self._lookup) as client,
                client.get(url, allow_redirects=False) as response,
            ):
                location = response.headers.get("location")
                if response.status in _REDIRECTS and location:
                    return self._doorway.redirect(url, location)
                _check_status(url, response)
                media_type = _media_type(url, response)
                data = await self._body(response)
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(url, error, idle) from error
        return await self._page(url, media_type, response.charset, data)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        return await read(
            response.content,
            response.headers.get("content-encoding", ""),
            limit=self._settings.max_bytes,
            name="web.max_bytes",
            said=response.content_length,
        )

    async def _page(self, url: URL, media_type: str, charset: str | None, data: bytes) -> Fetched:
        if is_binary(data, charset):
            raise ToolError(f"{shown(str(url))} says it is {media_type or 'nothing'}, and is binary", code="web_type")
        text = clean(text_of(data, charset))
        if media_type in _HTML or (not media_type and _looks_like_html(text)):
            page = await self._convert(text, str(url))
            return Fetched(
                url=str(url), media_type=media_type or "text/html", title=page.title, text=page.text, cut=page.cut
            )
        cut = len(text) > CHARACTERS
        return Fetched(
            url=str(url), media_type=media_type or "text/plain", title="", text=text[:CHARACTERS].strip(), cut=cut
        )


def _check_status(url: URL, response: aiohttp.ClientResponse) -> None:
    status = response.status
    if 200 <= status < 300:
        return
    hint = ""
    if status in {401, 403, 407}:
        hint = "; it may want a login, or no programs"
    if status in {429, 503} and (wait := retry_after(response.headers.get("retry-after"))):
        hint = f"; {wait}"
    raise ToolError(
        f"{shown(str(url))} answered {status} {_PHRASES.get(status, '')}".rstrip() + hint, code="web_status"
    )


def retry_after(value: str | None) -> str:
    """Retry-After in words; empty where it says nothing that can be read."""
    if not value:
        return ""
    value = value.strip()
    if re.fullmatch(r"\d{1,9}", value):
        return f"it says to come back after {value} s"
    if re.fullmatch(r"[A-Za-z]{3}, [A-Za-z0-9: -]{10,30}GMT", value):
        return f"it says to come back after {value}"
    return ""


def _media_type(url: URL, response: aiohttp.ClientResponse) -> str:
    """Of the answer, in lower case; empty where it says none. Raises ``ToolError`` for what is no text."""
    said = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not said or said in _HTML or _TEXT.fullmatch(said):
        return said
    kind = said[:80]
    raise ToolError(f"{shown(str(url))} is {kind}; only text is fetched: HTML, Markdown, JSON, XML", code="web_type")


def _looks_like_html(text: str) -> bool:
    return _HTML_BEGINS.match(text) is not None


def _unreachable(url: URL, error: aiohttp.ClientError | OSError, idle: float) -> ToolError:
    where = url.host or ""
    match error:
        case aiohttp.SocketTimeoutError():
            return ToolError(f"{where} was silent for {idle:g} s", code="web_timeout")
        case aiohttp.ConnectionTimeoutError():
            return ToolError(f"{where} cannot be reached: no connection in time", code="web_timeout")
        case aiohttp.ClientConnectorCertificateError():
            return ToolError(
                f"the certificate of {where} was refused: {error.certificate_error}", code="web_unreachable"
            )
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or str(error.os_error)
            return ToolError(f"{where} cannot be reached: {reason}", code="web_unreachable")
        case aiohttp.InvalidURL():
            return ToolError(f"{shown(str(url))} is no URL that can be asked for", code="web_refused")
        case aiohttp.ClientResponseError():
            return ToolError(f"{where} answered what is no HTTP: {error.message[:200]}", code="web_garbled")
        case _:
            reason = str(error) or type(error).__name__
            return ToolError(f"the connection to {where} was lost: {reason[:200]}", code="web_unreachable")
