"""What a search engine is asked and answers, in our words, and what an engine is: its wire, in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

import msgspec

Recency: TypeAlias = Literal["day", "week", "month", "year"]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    query: str
    results: int
    recency: Recency | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One result, in plain text. ``published`` is as the engine says it."""

    title: str
    url: str
    snippet: str = ""
    published: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """``json`` makes it a POST."""

    url: str
    params: Mapping[str, str] = msgspec.field(default_factory=dict)
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    json: Mapping[str, object] | None = None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What a status other than 200 means to this engine, where it is not what it means to all."""

    code: str | None = None
    detail: str = ""


class Engine(Protocol):
    """A wire. All of it is pure."""

    name: str

    def request(self, question: Question) -> Request: ...

    def results(self, body: bytes) -> list[Found]:
        """Raises ``msgspec.DecodeError`` for what is no answer of this engine."""

    def refusal(self, status: int, body: bytes) -> Refusal: ...
