"""Tavily's wire, as its API reference has it (docs.tavily.com, /api-reference/endpoint/search, read 2026-11).

``POST /search`` with a bearer key; ``max_results`` up to 20, queries up to 400 characters. 432 and 433 are its own: the
plan's limit, and that of pay-as-you-go. An error is ``{"detail": {"error": "…"}}``.
"""

from __future__ import annotations

import msgspec

from legato.tools.web.engine import Found, Question, Refusal, Request

BASE_URL = "https://api.tavily.com"
_QUOTA = frozenset({432, 433})


class _Result(msgspec.Struct):
    url: str
    title: str | None = None
    content: str | None = None
    published_date: str | None = None


class _Answer(msgspec.Struct):
    results: list[_Result]


class _Detail(msgspec.Struct):
    error: str = ""


class _Error(msgspec.Struct):
    detail: _Detail | str = ""


class Tavily:
    name = "tavily"

    def __init__(self, key: str, *, base_url: str | None = None) -> None:
        self._url = f"{base_url or BASE_URL}/search"
        self._key = key

    def request(self, question: Question) -> Request:
        asked: dict[str, object] = {
            "query": question.query,
            "max_results": question.results,
            "search_depth": "basic",
            "include_answer": False,
        }
        if question.recency is not None:
            asked["time_range"] = question.recency
        return Request(url=self._url, headers={"authorization": f"Bearer {self._key}"}, json=asked)

    def results(self, body: bytes) -> list[Found]:
        answer = msgspec.json.decode(body, type=_Answer)
        return [
            Found(title=one.title or "", url=one.url, snippet=one.content or "", published=one.published_date)
            for one in answer.results
        ]

    def refusal(self, status: int, body: bytes) -> Refusal:
        code = "search_quota" if status in _QUOTA else None
        try:
            detail = msgspec.json.decode(body, type=_Error).detail
        except msgspec.DecodeError:
            return Refusal(code=code)
        return Refusal(code=code, detail=detail if isinstance(detail, str) else detail.error)
