"""Brave's wire, as its documentation has it (api-dashboard.search.brave.com, web search, read 2026-11).

``GET /res/v1/web/search`` with the key in ``X-Subscription-Token``; ``count`` up to 20, ``q`` up to 400 characters and
50 words. An error is ``{"error": {"code", "detail"}}``; a wrong key is 422 ``SUBSCRIPTION_TOKEN_INVALID``, not 401. A
429 has no Retry-After but ``X-RateLimit-Reset``, from which nothing useful can be told: one second, or the month.
"""

from __future__ import annotations

import msgspec

from legato.tools.web.engine import Found, Question, Refusal, Request

BASE_URL = "https://api.search.brave.com"
_WORDS = 50
_FRESHNESS = {"day": "pd", "week": "pw", "month": "pm", "year": "py"}
_CODES = {
    "SUBSCRIPTION_TOKEN_INVALID": "search_auth",
    "RATE_LIMITED": "search_rate_limited",
    "QUOTA_LIMITED": "search_quota",
    "USAGE_LIMIT_EXCEEDED": "search_quota",
}


class _Result(msgspec.Struct):
    url: str
    title: str | None = None
    description: str | None = None
    page_age: str | None = None
    age: str | None = None


class _Web(msgspec.Struct):
    results: list[_Result] = []


class _Answer(msgspec.Struct):
    """``web`` is left out where nothing was found."""

    type: str
    web: _Web | None = None


class _Detail(msgspec.Struct):
    code: str = ""
    detail: str = ""


class _Error(msgspec.Struct):
    error: _Detail


class Brave:
    name = "brave"

    def __init__(self, key: str, *, base_url: str | None = None) -> None:
        self._url = f"{base_url or BASE_URL}/res/v1/web/search"
        self._key = key

    def request(self, question: Question) -> Request:
        params = {
            "q": " ".join(question.query.split()[:_WORDS]),
            "count": str(question.results),
            "result_filter": "web",
            "text_decorations": "false",
        }
        if question.recency is not None:
            params["freshness"] = _FRESHNESS[question.recency]
        return Request(url=self._url, params=params, headers={"x-subscription-token": self._key})

    def results(self, body: bytes) -> list[Found]:
        answer = msgspec.json.decode(body, type=_Answer)
        return [
            Found(title=one.title or "", url=one.url, snippet=one.description or "", published=one.page_age or one.age)
            for one in (answer.web.results if answer.web is not None else [])
        ]

    def refusal(self, status: int, body: bytes) -> Refusal:
        del status
        try:
            error = msgspec.json.decode(body, type=_Error).error
        except msgspec.DecodeError:
            return Refusal()
        return Refusal(code=_CODES.get(error.code), detail=error.detail)
