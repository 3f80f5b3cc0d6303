"""docs/configuration.md names every key with its default, and no other."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.docs.pages import SOURCE, code, fences, prose, rows

from legato.config import Config, McpServerConfig, ProviderConfig, load
from legato.config.load import VENDOR_URLS
from legato.config.model import BUILTIN, SEARCH_KEYS
from legato.core.errors import ConfigError
from legato.core.plan import TurnLimits
from legato.runtime.calls.threads import PLACES
from legato.runtime.clients.admission import AdmissionLimits
from legato.runtime.runner import SOFT_SHARE
from legato.runtime.storing.journal import JournalSettings

PAGE = "docs/configuration.md"
TABLES = {
    "### `[providers.NAME]`": "providers.NAME.",
    "### `[providers.script]`": "providers.script.",
    "## `[server]`": "server.",
    "## `[tools]` and `[formatters]`": "",
    "## `[chat]`": "chat.",
    "## `[web]`": "web.",
    "## `[documents]`": "documents.",
    "## `[limits]`": "limits.",
    "## `[storage]`": "storage.",
    "### `[mcp]`": "mcp.",
    "### `[mcp.NAME]`": "mcp.NAME.",
}
"""The page's tables, and what stands in front of the names in their first column."""


def documented() -> dict[str, str]:
    """Keys and defaults as the page has them."""
    found: dict[str, str] = {}
    for heading, prefix in TABLES.items():
        for name, default, *_ in rows(PAGE, heading):
            key = prefix + code(name)[0]
            assert key not in found, f"{key} is there twice"
            found[key] = default
    return found


def configured() -> Iterator[tuple[str, object]]:
    """Every key there is with its default; ``...`` for one that must be given."""
    sections: dict[str, type[BaseModel]] = {"providers.NAME": ProviderConfig, "mcp.NAME": McpServerConfig}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections["providers.script" if name == "script" else name] = field.annotation
    for section, model in sections.items():
        for name, field in model.model_fields.items():
            default: object = ... if field.is_required() else field.get_default(call_default_factory=True)
            yield f"{section}.{name}", list(default) if isinstance(default, tuple) else default


def test_every_key_is_on_the_page_with_its_default_and_no_other() -> None:
    shown = documented()
    said = {"required": ..., "not set": None}
    read = {
        key: said[default] if default in said else tomllib.loads(f"value = {code(default)[0]}")["value"]
        for key, default in shown.items()
    }
    assert read == dict(configured())


def test_every_key_is_asked_by_somebody() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    keys = [key for key, _ in configured() if not key.startswith(("providers.", "mcp.NAME."))]
    assert [key for key in keys if re.search(rf"\b{re.escape(key)}\b", source) is None] == []


def test_the_file_on_the_page_is_read(tmp_path: Path) -> None:
    (shown,) = fences(PAGE, "toml")
    file = tmp_path / "legato.toml"
    file.write_text(shown.body)
    config = load(file=file, environ={"GROQ_API_KEY": "a-key"})
    assert config.default_model == "groq/openai/gpt-oss-120b"
    assert config.tools.default == ("doc_*", "get_weather")


def test_every_variable_on_the_page_is_one_that_is_read() -> None:
    text = prose(PAGE)
    for name, value in re.findall(r"(LEGATO_\w+__\w+)(?:=(\w+))?", text):
        if name == "LEGATO_SECTION__KEY":
            continue
        provider = "LEGATO_PROVIDERS__GROQ__"
        base = {f"{provider}WIRE": "openai_chat", f"{provider}BASE_URL": "https://api.groq.com/openai/v1"}
        load(environ={**base, "LEGATO_WEB__SEARCH": "none", name: value or "a-value"})
    vendors = {*VENDOR_URLS, *(str(one.api_key_env) for one in BUILTIN.values()), "GEMINI_API_KEY", *SEARCH_KEYS}
    assert set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)?_(?:API_KEY|BASE_URL)\b", text)) == vendors


def test_the_providers_on_the_page_are_those_that_are_built_in_in_their_order() -> None:
    shown = rows(PAGE, "## Providers and keys")[: len(BUILTIN)]
    assert [code(name)[0] for name, *_ in shown] == list(BUILTIN)
    for name, key, base_url, model in shown:
        builtin = BUILTIN[code(name)[0]]
        assert code(key) == [builtin.api_key_env]
        assert code(model) == [builtin.models[0]]
        named = [variable for variable, provider in VENDOR_URLS.items() if provider == code(name)[0]]
        assert code(base_url)[:1] == named


def test_a_key_in_the_file_is_an_error_as_the_page_says(tmp_path: Path) -> None:
    file = tmp_path / "legato.toml"
    file.write_text('[providers.openai]\napi_key = "a-key"\n')
    with pytest.raises(ConfigError, match="api_key_env, or a file in api_key_file"):
        load(file=file)


def test_the_figures_beside_the_keys_are_those_of_the_source() -> None:
    text = " ".join(prose(PAGE).split())
    limits = AdmissionLimits()
    assert f"at most; {limits.default_rounds} where the request does not say" in text
    assert f"at most; {limits.default_seconds:g} where the request does not say" in text
    assert f"tried again, at most {JournalSettings().retry_window:g};" in text
    assert f"{PLACES} worker threads" in text
    assert SOFT_SHARE == 4 / 5
    assert TurnLimits().blocks == 2_000
