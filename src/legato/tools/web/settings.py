"""What the web tools are told when they are made. Bytes are bytes, times are seconds."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Backend: TypeAlias = Literal["tavily", "brave", "searxng"]

USER_AGENT = "Legato/0.1 (a tool that reads one page for one person's question)"


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``base_url`` is where a SearXNG answers; of the vendors, their own where it is left out. ``key_name`` is where
    the key came from, for messages: the key itself is in none."""

    backend: Backend
    base_url: str | None = None
    api_key: str | None = None
    key_name: str = "the key"
    timeout: float = 15

    def __repr__(self) -> str:
        return f"SearchSettings(backend={self.backend!r}, base_url={self.base_url!r})"


class FetchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``timeout`` is for a whole call, ``idle_timeout`` between two pieces of an answer. ``max_bytes`` counts the body
    after it was unpacked. ``allow_hosts`` are names that may be private, ``allow_private`` addresses and networks."""

    timeout: float = 30
    idle_timeout: float = 10
    max_bytes: int = 5_242_880
    allow_hosts: tuple[str, ...] = ()
    allow_private: tuple[str, ...] = ()


class WebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that is None is not there."""

    search: SearchSettings | None = None
    fetch: FetchSettings | None = None
