"""The two tools, as a model sees them, and how it reads what they give."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from legato.core.blocks import Json
from legato.core.context import ToolContext
from legato.ports import Tool
from legato.tools.declare import tool, tool_of
from legato.tools.web.doorway import URL_CHARACTERS, shown
from legato.tools.web.engine import Question, Recency
from legato.tools.web.fetching import Fetcher
from legato.tools.web.pages import check_installed
from legato.tools.web.search import Searcher, searcher_of
from legato.tools.web.settings import FetchSettings, SearchSettings, WebSettings

_GRACE = 5.0
"""Seconds that a call may take past its own clock, which says more than the runtime's."""
_QUERY = 400
"""Characters: as much as Brave and Tavily take."""
_RESULTS = 8
_RESULTS_MOST = 20

Query: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=_QUERY, description="What to look for, in a few words")
]
Results: TypeAlias = Annotated[int, Field(ge=1, le=_RESULTS_MOST, description="How many results")]
Since: TypeAlias = Annotated[Recency | None, Field(description="Only what is this new")]
Address: TypeAlias = Annotated[str, Field(max_length=URL_CHARACTERS, description="An http or https URL")]


def web_tools(settings: WebSettings) -> list[Tool]:
    """Those that are configured. Raises ``ConfigError`` where pages are to be read and the extra is missing."""
    tools: list[Tool] = []
    if settings.search is not None:
        tools.append(web_search_of(searcher_of(settings.search), settings.search))
    if settings.fetch is not None:
        check_installed()
        tools.append(web_fetch_of(Fetcher(settings.fetch), settings.fetch))
    return tools


def web_search_of(searcher: Searcher, settings: SearchSettings) -> Tool:
    @tool(effect="read", timeout=settings.timeout + _GRACE, formatter=read_search)
    async def web_search(query: Query, results: Results = _RESULTS, recency: Since = None, *, ctx: ToolContext) -> Json:
        """Search the web. Gives titles, URLs and snippets of pages; read one with web_fetch if you have it."""
        await ctx.emit(f"asking {searcher.name} for {query} …\n")
        found = await searcher.search(Question(query=query, results=results, recency=recency))
        return {"query": query, "engine": searcher.name, "results": found}

    return _declared(web_search)


def web_fetch_of(fetcher: Fetcher, settings: FetchSettings) -> Tool:
    @tool(effect="read", timeout=settings.timeout + _GRACE, formatter=read_page)
    async def web_fetch(url: Address, *, ctx: ToolContext) -> Json:
        """Read a page of the public web as Markdown. Takes HTML and other text; no images, no PDF, no logins."""
        await ctx.emit(f"reading {shown(url)} …\n")
        return await fetcher.fetch(url)

    return _declared(web_fetch)


def read_search(output: Json) -> str:
    """Numbered, three lines a result."""
    found = output["results"]
    if not found:
        return f"no results for {output['query']!r} ({output['engine']})"
    many = "1 result" if len(found) == 1 else f"{len(found)} results"
    lines = [f"{many} for {output['query']!r} ({output['engine']})"]
    for number, one in enumerate(found, 1):
        published = f" ({one['published']})" if one.get("published") else ""
        lines += ["", f"{number}. {one['title']}{published}", f"   {one['url']}"]
        if one.get("snippet"):
            lines.append(f"   {one['snippet']}")
    return "\n".join(lines)


def read_page(output: Json) -> str:
    """A head of where it is from, an empty line, and the text."""
    head = [f"url: {output['url']}"]
    if output["title"]:
        head.append(f"title: {output['title']}")
    head.append(f"type: {output['media_type']}")
    if output["cut"]:
        head.append(f"only the first {len(output['text'])} characters are here")
    return "\n".join([*head, "", output["text"] or "(there is no text on this page; it may need scripts)"])


def _declared(function: object) -> Tool:
    declared = tool_of(function)
    assert declared is not None
    return declared
