"""docs/web.md says what the source does."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import SOURCE, code, fences, prose, rows

from legato.config import load
from legato.config.model import SEARCH_KEYS
from legato.tools.web import fetching, pages, search
from legato.tools.web.settings import USER_AGENT, FetchSettings
from legato.tools.web.tools import read_search

PAGE = "docs/web.md"


def test_every_code_is_on_the_page_and_no_other() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (SOURCE / "tools" / "web").glob("*.py"))
    given = set(re.findall(r"\"((?:search|web)_(?:[a-z]+_)*[a-z]+)\"", source)) - {"web_search", "web_fetch"}
    shown = [one for codes, _ in rows(PAGE, "## What can go wrong") for one in code(codes)]
    assert len(shown) == len(set(shown))
    assert set(shown) == given - {"search_depth"}


def test_the_file_on_the_page_is_read(tmp_path: Path) -> None:
    file = tmp_path / "legato.toml"
    file.write_text(fences(PAGE, "toml")[0].body)
    web = load(file=file).web
    assert (web.search, web.searxng_url, web.fetch) == ("searxng", "http://localhost:8888", True)


def test_the_engines_are_those_that_can_be_asked() -> None:
    keys = [one for _, given, *_ in rows(PAGE, "## `web_search`") for one in code(given) if one in SEARCH_KEYS]
    assert keys == list(SEARCH_KEYS)


def test_a_result_is_written_as_on_the_page() -> None:
    shown = fences(PAGE, "text")[0].body
    found = {"title": "Tatzelwurm", "url": "https://en.wikipedia.org/wiki/Tatzelwurm"}
    snippet = "A creature in the folklore of the Alps …"
    output = {"query": "dragons of the alps", "engine": "searxng", "results": [{**found, "snippet": snippet}, found]}
    assert read_search(output).startswith(shown.rstrip())


def test_the_figures_are_those_of_the_source() -> None:
    text = " ".join(prose(PAGE).split())
    settings = FetchSettings()
    bounds = {name: value for name, value, *_ in rows(PAGE, "## `web_fetch`")}
    assert bounds["`web.timeout`"].startswith(f"{settings.timeout:g} s")
    assert bounds["silence"] == f"{settings.idle_timeout:g} s"
    assert bounds["`web.max_bytes`"].startswith(f"{settings.max_bytes >> 20} MiB")
    assert bounds["reading HTML"].startswith(f"{pages.SECONDS} s and 1 GiB")
    assert bounds["text"].startswith(f"{pages.CHARACTERS:,} characters")
    assert bounds["redirects"] == str(fetching.REDIRECTS)
    assert f"{search.ANSWER_BYTES >> 20} MiB" in text
    assert USER_AGENT.startswith("Legato/")
