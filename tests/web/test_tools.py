"""The two tools as a registry, a model and its formatters see them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.web.local import gives, site

from legato.compose import tool_registry
from legato.config import load
from legato.core.context import ToolContext
from legato.core.errors import ConfigError, ToolError
from legato.tools.registry import ToolRegistry
from legato.tools.web.settings import FetchSettings, SearchSettings, WebSettings
from legato.tools.web.tools import read_page, read_search, web_tools

pytestmark = pytest.mark.anyio

LOOPBACK = ("127.0.0.1",)


def context(shown: list[str]) -> ToolContext:
    return ToolContext(
        turn_id="t",
        chat_id="c",
        call_id="k",
        principal="local",
        idempotency_key="key",
        state={},
        emit=shown.append,
        cancelled=lambda: False,
    )


def both(url: str = "http://127.0.0.1:9") -> ToolRegistry:
    search = SearchSettings(backend="searxng", base_url=url)
    return ToolRegistry(web_tools(WebSettings(search=search, fetch=FetchSettings(allow_private=LOOPBACK))))


async def called(registry: ToolRegistry, name: str, input: dict[str, Any], shown: list[str]) -> tuple[Any, str]:
    """What the tool gave as it is stored, and what the model reads of it."""
    tool = registry.get(name)
    assert tool is not None
    assert tool.check(input) is None
    run: Callable[[], Any] = tool.bind(input, context(shown))
    output = tool.jsonable(await run())
    reading = registry.formatters.read(
        call_id="k", tool_name=name, outcome="ok", output=output, error=None, max_bytes=tool.max_output
    )
    assert reading.formatter == name
    return output, reading.text


def test_only_what_is_configured_is_there() -> None:
    assert web_tools(WebSettings()) == []
    assert both().names() == ("web_search", "web_fetch")
    assert sorted(both().formatters.names()) == ["web_fetch", "web_search"]


@pytest.mark.parametrize("name", ["web_search", "web_fetch"])
def test_both_may_start_while_the_model_talks_and_say_more_than_the_runtimes_clock(name: str) -> None:
    tool = both().get(name)
    assert tool is not None
    assert (tool.effect, tool.kind, tool.needs_approval) == ("read", "async", False)
    assert tool.timeout == {"web_search": 20, "web_fetch": 35}[name]


@pytest.mark.parametrize(
    ("name", "input", "message"),
    [
        ("web_search", {}, "query"),
        ("web_search", {"query": ""}, "query"),
        ("web_search", {"query": "x" * 401}, "query"),
        ("web_search", {"query": "x", "results": 21}, "results"),
        ("web_search", {"query": "x", "results": 0}, "results"),
        ("web_search", {"query": "x", "recency": "hour"}, "recency"),
        ("web_fetch", {}, "url"),
        ("web_fetch", {"url": 5}, "url"),
        ("web_fetch", {"url": "https://example.org/", "method": "POST"}, "method"),
        ("web_fetch", {"url": f"https://example.org/{'x' * 2048}"}, "url"),
    ],
)
def test_arguments_that_are_none_are_refused(name: str, input: dict[str, Any], message: str) -> None:
    tool = both().get(name)
    assert tool is not None
    assert message in (tool.check(input) or "")


async def test_a_search_is_stored_whole_and_read_as_numbered_lines() -> None:
    results = [
        {"url": "https://example.org/a", "title": "A", "content": "about a", "publishedDate": "2026-11-01"},
        {"url": "https://example.org/b", "title": "B"},
    ]
    shown: list[str] = []
    async with site({"/search": gives(json.dumps({"results": results}), type="application/json")}) as there:
        output, text = await called(both(there.url), "web_search", {"query": "bells"}, shown)
    assert output["results"][0] == {
        "title": "A",
        "url": "https://example.org/a",
        "snippet": "about a",
        "published": "2026-11-01",
    }
    assert shown == ["asking searxng for bells …\n"]
    assert text == (
        "2 results for 'bells' (searxng)\n\n"
        "1. A (2026-11-01)\n   https://example.org/a\n   about a\n\n"
        "2. B\n   https://example.org/b"
    )


async def test_a_page_is_stored_whole_and_read_with_a_head() -> None:
    shown: list[str] = []
    async with site({"/": gives("<title>Caves</title><p>Deep.")}) as there:
        output, text = await called(both(), "web_fetch", {"url": there.url}, shown)
    assert output == {"url": there.url, "media_type": "text/html", "title": "Caves", "text": "Deep.", "cut": False}
    assert text == f"url: {there.url}\ntitle: Caves\ntype: text/html\n\nDeep."
    assert shown == [f"reading {there.url} …\n"]


async def test_what_readers_are_shown_of_a_url_has_no_password() -> None:
    shown: list[str] = []
    with pytest.raises(ToolError, match="before the @"):
        await called(both(), "web_fetch", {"url": "http://me:secret@example.org/"}, shown)
    assert shown == ["reading http://example.org/ …\n"]


def test_a_search_without_results_says_so() -> None:
    assert read_search({"query": "x", "engine": "brave", "results": []}) == "no results for 'x' (brave)"


@pytest.mark.parametrize(
    ("text", "cut", "read"),
    [
        ("", False, "url: u\ntype: text/html\n\n(there is no text on this page; it may need scripts)"),
        ("ab", True, "url: u\ntype: text/html\nonly the first 2 characters are here\n\nab"),
    ],
)
def test_a_page_with_less_than_there_was_says_so(text: str, *, cut: bool, read: str) -> None:
    assert read_page({"url": "u", "media_type": "text/html", "title": "", "text": text, "cut": cut}) == read


async def test_calls_at_once_do_not_touch_each_other() -> None:
    pages = {f"/{at}": gives(f"<p>{at}") for at in range(6)}
    registry = both()
    async with site(pages) as there:
        got = await asyncio.gather(
            *(called(registry, "web_fetch", {"url": f"{there.url}/{at}"}, []) for at in range(7)),
            return_exceptions=True,
        )
    assert [one[0]["text"] for one in got if not isinstance(one, BaseException)] == list("012345")
    assert isinstance(got[6], ToolError)


def test_the_configuration_says_which_are_there() -> None:
    def names(**environ: str) -> set[str]:
        return {name for name in tool_registry(load(environ=environ)).names() if name.startswith("web_")}

    assert names() == set()
    assert names(TAVILY_API_KEY="k") == {"web_search"}
    assert names(LEGATO_WEB__SEARXNG_URL="http://localhost:8888") == {"web_search"}
    assert names(LEGATO_WEB__FETCH="true") == {"web_fetch"}
    assert names(BRAVE_API_KEY="k", LEGATO_WEB__FETCH="true") == {"web_search", "web_fetch"}
    assert names(BRAVE_API_KEY="k", LEGATO_WEB__SEARCH="none") == set()


def test_the_demos_tools_are_there_beside_them() -> None:
    assert "doc_search" in tool_registry(load(environ={"TAVILY_API_KEY": "k"})).names()


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'legato\[web\]'"):
        web_tools(WebSettings(fetch=FetchSettings()))
    assert len(web_tools(WebSettings(search=SearchSettings(backend="brave")))) == 1
