"""SearXNG's wire, as its documentation has it (docs.searxng.org/dev/search_api, read 2026-11).

``GET /search?format=json``; an instance that does not list json in its ``search.formats`` answers 403, and one whose
limiter takes us for a bot 429. The number of results cannot be asked for; ``time_range`` knows no week.
"""

from __future__ import annotations

import msgspec

from legato.tools.web.engine import Found, Question, Refusal, Request

_RANGES = {"day": "day", "week": "month", "month": "month", "year": "year"}
_NO_JSON = "the instance gives no JSON: its settings.yml must list json in search.formats"


class _Result(msgspec.Struct, rename={"published": "publishedDate"}):
    url: str | None = None
    title: str | None = None
    content: str | None = None
    published: str | None = None


class _Answer(msgspec.Struct):
    results: list[_Result]


class Searxng:
    name = "searxng"

    def __init__(self, base_url: str) -> None:
        self._url = f"{base_url.rstrip('/')}/search"

    def request(self, question: Question) -> Request:
        params = {"q": question.query, "format": "json"}
        if question.recency is not None:
            params["time_range"] = _RANGES[question.recency]
        return Request(url=self._url, params=params)

    def results(self, body: bytes) -> list[Found]:
        answer = msgspec.json.decode(body, type=_Answer)
        return [
            Found(title=one.title or "", url=one.url, snippet=one.content or "", published=one.published)
            for one in answer.results
            if one.url
        ]

    def refusal(self, status: int, body: bytes) -> Refusal:
        del body
        return Refusal(code="search_rejected", detail=_NO_JSON) if status == 403 else Refusal()
