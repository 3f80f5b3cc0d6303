"""Each engine is asked as its documents say, read as they say, and its refusals are sentences without the key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.web.local import Handler, bare, gives, sends_to, site

from legato.core.errors import ToolError
from legato.tools.web.engine import Found, Question, Recency
from legato.tools.web.search import searcher_of, tidied
from legato.tools.web.settings import Backend, SearchSettings

pytestmark = pytest.mark.anyio

KEY = "tvly-very-secret-0123456789"
PATHS: Mapping[Backend, str] = {"tavily": "/search", "brave": "/res/v1/web/search", "searxng": "/search"}
BACKENDS: tuple[Backend, ...] = ("tavily", "brave", "searxng")

# As the vendors' documents show them (read 2026-11), shortened.
ANSWERS: Mapping[Backend, dict[str, Any]] = {
    "tavily": {
        "query": "dragons",
        "answer": None,
        "images": [],
        "results": [
            {
                "title": "Dragon",
                "url": "https://en.wikipedia.org/wiki/Dragon",
                "content": "A dragon is a magical creature.",
                "score": 0.81,
                "raw_content": None,
            },
            {"title": "Bells", "url": "https://example.org/bells", "content": "", "published_date": "2026-11-01"},
        ],
        "response_time": "1.67",
        "request_id": "123e4567-e89b-12d3-a456-426614174111",
    },
    "brave": {
        "type": "search",
        "query": {"original": "dragons", "more_results_available": True},
        "mixed": {"type": "mixed", "main": [{"type": "web", "index": 0, "all": False}]},
        "web": {
            "type": "search",
            "family_friendly": True,
            "results": [
                {
                    "type": "search_result",
                    "title": "Dragon",
                    "url": "https://en.wikipedia.org/wiki/Dragon",
                    "description": "A <strong>dragon</strong> is a magical creature.",
                    "profile": {"name": "Wikipedia"},
                    "language": "en",
                    "meta_url": {"scheme": "https"},
                },
                {"title": "Bells", "url": "https://example.org/bells", "description": None, "page_age": "2026-11-01"},
            ],
        },
    },
    "searxng": {
        "query": "dragons",
        "number_of_results": 0,
        "results": [
            {
                "template": "default.html",
                "url": "https://en.wikipedia.org/wiki/Dragon",
                "title": "Dragon",
                "content": "A dragon is a magical creature.",
                "engine": "wikipedia",
                "engines": ["wikipedia"],
                "score": 1.0,
                "publishedDate": None,
            },
            {"url": "https://example.org/bells", "title": "Bells", "content": "", "publishedDate": "2026-11-01"},
            {"url": None, "title": "No page"},
        ],
        "answers": [],
        "suggestions": [],
        "unresponsive_engines": [["google", "timeout"]],
    },
}
FOUND = [
    Found(title="Dragon", url="https://en.wikipedia.org/wiki/Dragon", snippet="A dragon is a magical creature."),
    Found(title="Bells", url="https://example.org/bells", published="2026-11-01"),
]


def settings(backend: Backend, url: str, *, timeout: float = 10) -> SearchSettings:
    return SearchSettings(
        backend=backend, base_url=url, api_key=KEY, key_name=f"{backend.upper()}_API_KEY", timeout=timeout
    )


async def searched(backend: Backend, handler: Handler, *, results: int = 8) -> list[Found]:
    async with site({PATHS[backend]: handler}) as there:
        return await searcher_of(settings(backend, there.url)).search(Question(query="dragons", results=results))


async def refusal(backend: Backend, handler: Handler) -> tuple[str, str]:
    with pytest.raises(ToolError) as caught:
        await searched(backend, handler)
    assert KEY not in f"{caught.value} {caught.value.__cause__!r}"
    assert caught.value.message.startswith(f"{backend} ")
    return caught.value.code, caught.value.message


def answers(value: object, status: int = 200, **headers: str) -> Handler:
    return gives(json.dumps(value), type="application/json", status=status, **headers)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_the_answer_of_each_engine_gives_the_same_results(backend: Backend) -> None:
    assert await searched(backend, answers(ANSWERS[backend])) == FOUND
    assert await searched(backend, answers(ANSWERS[backend]), results=1) == FOUND[:1]


@pytest.mark.parametrize(
    ("backend", "recency", "method", "sent", "headers"),
    [
        (
            "tavily",
            "week",
            "POST",
            {
                "query": "dragons of the alps",
                "max_results": 5,
                "search_depth": "basic",
                "include_answer": False,
                "time_range": "week",
            },
            {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
        ),
        (
            "brave",
            "week",
            "GET",
            {
                "q": "dragons of the alps",
                "count": "5",
                "result_filter": "web",
                "text_decorations": "false",
                "freshness": "pw",
            },
            {"x-subscription-token": KEY, "accept": "application/json"},
        ),
        ("searxng", "day", "GET", {"q": "dragons of the alps", "format": "json", "time_range": "day"}, {}),
        ("searxng", "week", "GET", {"q": "dragons of the alps", "format": "json", "time_range": "month"}, {}),
    ],
)
async def test_an_engine_is_asked_as_its_documents_say(
    backend: Backend, recency: Recency, method: str, sent: dict[str, object], headers: dict[str, str]
) -> None:
    asked: list[object] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(await request.json() if request.can_read_body else dict(request.query))
        return web.json_response(ANSWERS[backend])

    async with site({PATHS[backend]: answer}) as there:
        await searcher_of(settings(backend, there.url)).search(
            Question(query="dragons of the alps", results=5, recency=recency)
        )
        (request,) = there.seen
    assert request.method == method
    assert asked == [sent]
    assert {name: request.headers[name] for name in headers} == headers
    assert (KEY in str(request.headers)) == (backend != "searxng")
    assert KEY not in str(request.url)


async def test_brave_is_asked_with_as_many_words_as_it_takes() -> None:
    async with site({PATHS["brave"]: answers(ANSWERS["brave"])}) as there:
        await searcher_of(settings("brave", there.url)).search(Question(query="a " * 60, results=5))
        assert there.seen[0].query["q"].split() == ["a"] * 50


@pytest.mark.parametrize(
    ("backend", "answer"),
    [
        ("tavily", {"results": []}),
        ("brave", {"type": "search", "query": {"original": "x"}}),
        ("brave", {"type": "search", "web": {"results": []}}),
        ("searxng", {"results": []}),
        ("searxng", {"results": [{"title": "x"}]}),
    ],
)
async def test_nothing_found_is_an_empty_list(backend: Backend, answer: object) -> None:
    assert await searched(backend, answers(answer)) == []


@pytest.mark.parametrize(
    ("backend", "status", "body", "code", "message"),
    [
        (
            "tavily",
            401,
            {"detail": {"error": "Unauthorized: missing or invalid API key."}},
            "search_auth",
            "refused the key (401): check TAVILY_API_KEY: Unauthorized: missing or invalid API key.",
        ),
        (
            "tavily",
            429,
            {"detail": {"error": "Your request has been blocked due to excessive requests."}},
            "search_rate_limited",
            "takes no more requests at the moment (429); it says to come back after 7 s: Your request",
        ),
        (
            "tavily",
            432,
            {"detail": {"error": "This request exceeds your plan's set usage limit."}},
            "search_quota",
            "says that the plan's requests are used up (432): This request exceeds",
        ),
        ("tavily", 433, {}, "search_quota", "used up (433)"),
        ("tavily", 400, {"detail": "Invalid topic"}, "search_rejected", "refused the search (400): Invalid topic"),
        (
            "tavily",
            500,
            {"detail": {"error": "Internal"}},
            "search_unavailable",
            "is out of order (500); try again later",
        ),
        (
            "brave",
            422,
            {
                "type": "ErrorResponse",
                "error": {
                    "status": 422,
                    "code": "SUBSCRIPTION_TOKEN_INVALID",
                    "detail": f"The provided subscription token {KEY} is invalid.",
                    "meta": {"component": "authentication"},
                },
            },
            "search_auth",
            "refused the key (422): check BRAVE_API_KEY: The provided subscription token [key] is invalid.",
        ),
        (
            "brave",
            422,
            {"type": "ErrorResponse", "error": {"code": "VALIDATION", "detail": "Unable to validate request"}},
            "search_rejected",
            "refused the search (422): Unable to validate request",
        ),
        (
            "brave",
            429,
            {"type": "ErrorResponse", "error": {"code": "RATE_LIMITED", "detail": "Request rate limit exceeded"}},
            "search_rate_limited",
            "(429); it says to come back after 7 s: Request rate limit exceeded",
        ),
        ("brave", 429, {"error": {"code": "QUOTA_LIMITED", "detail": "used"}}, "search_quota", "used up (429)"),
        ("brave", 402, "<html>pay</html>", "search_quota", "used up (402)"),
        ("brave", 503, "<html>no</html>", "search_unavailable", "is out of order (503)"),
        ("searxng", 403, "Forbidden", "search_rejected", "settings.yml must list json in search.formats"),
        ("searxng", 429, "Too Many Requests", "search_rate_limited", "takes no more requests"),
        ("searxng", 502, "", "search_unavailable", "is out of order (502)"),
        ("searxng", 404, "", "search_rejected", "refused the search (404)"),
        ("searxng", 401, "", "search_auth", "refused the key (401)"),
    ],
)
async def test_a_refusal_says_whose_it_is_and_what_to_do(
    backend: Backend, status: int, body: object, code: str, message: str
) -> None:
    said = await refusal(backend, answers(body, status, retry_after="7"))
    assert said[0] == code
    assert message in said[1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("body", ["", "<html>", "[]", "null", '{"results": 5}', '{"web": 5}', "{", b"\xff\xfe"])
async def test_what_is_no_answer_of_the_engine_is_said_to_be_none(backend: Backend, body: str | bytes) -> None:
    code, said = await refusal(backend, gives(body, type="application/json"))
    assert (code, said) == ("search_garbled", f"{backend} answered something else than results")


@pytest.mark.parametrize("backend", BACKENDS)
async def test_an_answer_without_an_end_is_left_at_the_bound(backend: Backend) -> None:
    async with bare(b"HTTP/1.1 200 OK\r\n\r\n", again=b"x" * 200_000) as there:
        with pytest.raises(ToolError, match="answered more than 2097152 bytes") as caught:
            await searcher_of(settings(backend, there.url.rstrip("/"))).search(Question(query="x", results=1))
        await asyncio.wait_for(there.gone.wait(), 10)
    assert caught.value.code == "search_garbled"


async def test_who_does_not_answer_in_time_is_said_not_to() -> None:
    async with bare(b"HTTP/1.1 200 OK\r\n\r\n", again=b" ") as there:
        one = searcher_of(settings("tavily", there.url.rstrip("/"), timeout=0.2))
        with pytest.raises(ToolError, match=r"tavily did not answer within 0\.2 s; try again") as caught:
            await one.search(Question(query="x", results=1))
        await asyncio.wait_for(there.gone.wait(), 10)
    assert caught.value.code == "search_timeout"


async def test_who_is_not_there_cannot_be_reached() -> None:
    with pytest.raises(ToolError, match="searxng cannot be reached: Connect") as caught:
        await searcher_of(settings("searxng", "http://127.0.0.1:9")).search(Question(query="x", results=1))
    assert caught.value.code == "search_unavailable"


async def test_a_redirect_does_not_carry_the_key_away() -> None:
    async with site({"/": answers(ANSWERS["brave"])}) as elsewhere:
        code, said = await refusal("brave", sends_to(elsewhere.url))
        assert elsewhere.seen == []
    assert code == "search_rejected"
    assert "(302)" in said


async def test_cancelling_closes_the_connection() -> None:
    async with bare(b"HTTP/1.1 200 OK\r\n\r\n", again=b" ") as there:
        one = searcher_of(settings("brave", there.url.rstrip("/")))
        task = asyncio.create_task(one.search(Question(query="x", results=1)))
        await asyncio.wait_for(there.asked.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(there.gone.wait(), 10)


async def test_a_netrc_neither_breaks_a_search_nor_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for backend in BACKENDS:
        async with site({PATHS[backend]: answers(ANSWERS[backend])}) as there:
            await searcher_of(settings(backend, there.url)).search(Question(query="x", results=1))
            assert "Basic" not in str(there.seen[0].headers)


async def test_a_search_goes_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site({"/res/v1/web/search": answers(ANSWERS["brave"])}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        found = await searcher_of(settings("brave", "http://far.example")).search(Question(query="x", results=8))
        assert found == FOUND
        assert proxy.seen[0].host == "far.example"
        with pytest.raises(ToolError, match="cannot be reached"):
            await searcher_of(settings("brave", "http://127.0.0.1:9")).search(Question(query="x", results=8))
        assert len(proxy.seen) == 1


async def test_links_that_are_none_are_left_out() -> None:
    results = [{"url": url, "title": "t"} for url in ("javascript:x", "file:///etc", "/a", "https://example.org/")]
    assert [one.url for one in await searched("tavily", answers({"results": results}))] == ["https://example.org/"]


def test_a_result_is_plain_text_within_bounds() -> None:
    long = Found(title="A &amp; <strong>B</strong>\n C" + "t" * 400, url="https://example.org/", snippet="s" * 5_000)
    short = tidied(long)
    assert short.title.startswith("A & B Cttt")
    assert (len(short.title), len(short.snippet)) == (200, 600)
    assert tidied(Found(title=" ", url="https://example.org/")).title == "https://example.org/"


def test_a_key_is_in_no_repr() -> None:
    assert KEY not in repr(settings("brave", "https://example.org"))
