"""One question to one search engine. Its wire is in its own file; here are the request, its bounds, and what a refusal
means in words for the model: ``search_auth``, ``search_rate_limited``, ``search_quota``, ``search_rejected``,
``search_timeout``, ``search_unavailable`` and ``search_garbled``. No message holds the key.
"""

from __future__ import annotations

import html
import re
import urllib.request
from typing import assert_never

import aiohttp
import msgspec
from yarl import URL

from legato.core.errors import ToolError
from legato.tools.web.brave import Brave
from legato.tools.web.engine import Engine, Found, Question, Request
from legato.tools.web.searxng import Searxng
from legato.tools.web.settings import USER_AGENT, SearchSettings
from legato.tools.web.tavily import Tavily

ANSWER_BYTES = 2_097_152
"""Of one answer, unpacked: twenty results with their snippets are 100 KB."""
_CONNECTION = 10.0
"""Seconds, as for the providers."""
_TITLE = 200
_SNIPPET = 600
"""Characters: three or four sentences; what is longer is read with ``web_fetch``."""
_URL = 2_048
_DETAIL = 300


class Searcher:
    def __init__(self, engine: Engine, settings: SearchSettings) -> None:
        self._engine = engine
        self._settings = settings
        self.name = engine.name

    async def search(self, question: Question) -> list[Found]:
        """Raises ``ToolError``."""
        status, retry_after, body = await self._answer(self._engine.request(question))
        if status != 200:
            raise self._refused(status, retry_after, body)
        try:
            found = self._engine.results(body)
        except msgspec.DecodeError as error:
            raise self._error("search_garbled", "answered something else than results") from error
        return [tidied(one) for one in found if one.url.startswith(("http://", "https://"))][: question.results]

    async def _answer(self, request: Request) -> tuple[int, str, bytes]:
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout, connect=_CONNECTION)
        method = "GET" if request.json is None else "POST"
        try:
            async with (
                aiohttp.ClientSession(
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"user-agent": USER_AGENT, "accept": "application/json"},
                    timeout=timeout,
                    # Not trust_env: it brings ~/.netrc along, and aiohttp refuses that beside a key (3.14, 2026-11).
                    trust_env=False,
                ) as client,
                # A redirect would carry the key to another host.
                client.request(
                    method,
                    URL(request.url),
                    params=request.params,
                    headers=request.headers,
                    json=request.json,
                    allow_redirects=False,
                    proxy=_proxy_for(URL(request.url)),
                ) as response,
            ):
                body = await self._body(response)
                return response.status, response.headers.get("retry-after", ""), body
        except TimeoutError as error:
            limit = self._settings.timeout
            raise self._error("search_timeout", f"did not answer within {limit:g} s; try again") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._error("search_unavailable", f"cannot be reached: {_named(error)}") from error

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > ANSWER_BYTES:
                raise self._error("search_garbled", f"answered more than {ANSWER_BYTES} bytes")
        return bytes(body)

    def _refused(self, status: int, retry_after: str, body: bytes) -> ToolError:
        refusal = self._engine.refusal(status, body)
        detail = self._without_key(" ".join(refusal.detail.split())[:_DETAIL])
        said = f": {detail}" if detail else ""
        match refusal.code or _code_of(status):
            case "search_auth":
                words = f"refused the key ({status}): check {self._settings.key_name}{said}"
            case "search_rate_limited":
                wait = f"; it says to come back after {retry_after} s" if retry_after.isdecimal() else ""
                words = f"takes no more requests at the moment ({status}){wait}{said}"
            case "search_quota":
                words = f"says that the plan's requests are used up ({status}){said}"
            case "search_unavailable":
                words = f"is out of order ({status}); try again later{said}"
            case _:
                words = f"refused the search ({status}){said}"
        return self._error(refusal.code or _code_of(status), words)

    def _error(self, code: str, words: str) -> ToolError:
        return ToolError(f"{self.name} {words}", code=code)

    def _without_key(self, text: str) -> str:
        key = self._settings.api_key
        return text.replace(key, "[key]") if key else text


def searcher_of(settings: SearchSettings) -> Searcher:
    match settings.backend:
        case "tavily":
            engine: Engine = Tavily(settings.api_key or "", base_url=settings.base_url)
        case "brave":
            engine = Brave(settings.api_key or "", base_url=settings.base_url)
        case "searxng":
            engine = Searxng(settings.base_url or "")
        case backend:
            assert_never(backend)
    return Searcher(engine, settings)


def tidied(found: Found) -> Found:
    """Plain text within bounds: engines mark the words that matched, and escape what they quote."""
    return Found(
        title=_plain(found.title, _TITLE) or found.url[:_TITLE],
        url=found.url[:_URL],
        snippet=_plain(found.snippet, _SNIPPET),
        published=_plain(found.published or "", 40) or None,
    )


def _plain(text: str, characters: int) -> str:
    text = " ".join(html.unescape(re.sub(r"</?(?:strong|b|em|mark)>", "", text)).split())
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _code_of(status: int) -> str:
    if status in {401, 403}:
        return "search_auth"
    if status == 402:
        return "search_quota"
    if status == 429:
        return "search_rate_limited"
    return "search_unavailable" if status >= 500 else "search_rejected"


def _proxy_for(url: URL) -> str | None:
    """The system's, as the providers have it."""
    proxy = urllib.request.getproxies().get(url.scheme)
    return None if not proxy or urllib.request.proxy_bypass(url.host or "") else proxy


def _named(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError():
            return error.os_error.strerror or str(error.os_error)
        case _:
            return (str(error) or type(error).__name__)[:200]
