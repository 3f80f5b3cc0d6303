"""A provider from its settings: what it knows of models, what it refuses, what it hides."""

from __future__ import annotations

import msgspec
import pytest
from tests.providers.asks import ask, assistant, call, result, user

from legato.core.ask import NamedTool, Params, SentImage, SentText, ToolSpec
from legato.core.blocks import ImageBlock
from legato.core.errors import InvalidRequest
from legato.core.usage import Usage
from legato.ports import Provider
from legato.providers import catalogue
from legato.providers.provider import HttpProvider, ProviderSettings
from legato.providers.script_provider import ScriptProvider


def provider(name: str = "groq", base_url: str = "https://api.groq.com/openai/v1", **fields: object) -> HttpProvider:
    raw = {"name": name, "wire": "openai_chat", "base_url": base_url, "api_key": "gsk_secret", **fields}
    return HttpProvider(msgspec.convert(raw, ProviderSettings))


def test_both_providers_are_what_the_port_asks_for() -> None:
    providers: list[Provider] = [provider(), ScriptProvider()]
    assert [one.name for one in providers] == ["groq", "script"]
    assert all(one.max_retries == 2 for one in providers)


def test_a_key_stands_in_no_representation() -> None:
    made = provider()
    assert "gsk_secret" not in f"{made!r} {made} {made._settings!r} {made._settings}"


def test_models_are_those_of_the_settings_and_of_the_catalogue_once_each() -> None:
    made = provider("mine", models=("llama-3.1-8b-instant", "my-own"))
    names = [info.id for info in made.models()]
    assert names[:2] == ["llama-3.1-8b-instant", "my-own"]
    assert len(names) == len(set(names))
    assert all(info.provider == "mine" for info in made.models())
    assert made.model("my-own") == msgspec.structs.replace(catalogue.info("mine", "my-own"), provider="mine")


def test_an_unknown_model_is_taken_to_be_able_to_do_everything() -> None:
    info = provider().model("of-next-year")
    assert info is not None
    assert not info.known
    assert info.tools
    assert info.images
    assert info.context is None


def test_a_name_stands_for_its_snapshots() -> None:
    assert catalogue.find("openai", "gpt-4o-2024-08-06") == catalogue.find("openai", "gpt-4o")
    assert catalogue.find("anthropic", "claude-sonnet-4-5-20250929") == catalogue.find("anthropic", "claude-sonnet-4-5")
    assert catalogue.find("openai", "gpt-4o-audio") is None
    assert catalogue.find("groq", "gpt-4o") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("claude-sonnet-4-5", "anthropic"),
        ("claude-of-next-year", "anthropic"),
        ("gpt-5", "openai"),
        ("o3", "openai"),
        ("deepseek-chat", "deepseek"),
        ("llama-3.3-70b-versatile", "groq"),
        ("demo", None),
        ("", None),
    ],
)
def test_a_bare_name_has_a_provider_where_somebody_is_known_to_serve_it(name: str, expected: str | None) -> None:
    assert catalogue.provider_of(name) == expected


def test_every_entry_of_the_catalogue_is_plausible() -> None:
    for vendor in ("anthropic", "openai", "deepseek", "groq"):
        models = catalogue.listed(vendor)
        assert models
        for model in models:
            assert model.context is None or model.output is None or model.output <= model.context
            assert model.prices is None or model.prices[1] <= model.prices[0] <= model.prices[2]
            assert catalogue.provider_of(model.name) in {vendor, None} or "/" in model.name


def test_a_cost_counts_what_came_from_the_cache_and_went_into_it() -> None:
    model = catalogue.find("anthropic", "claude-sonnet-4-5")
    usage = Usage(
        input_tokens=1_000, cache_read_tokens=600, cache_write_tokens=200, output_tokens=100, source="reported"
    )
    cost = catalogue.priced(model, usage).cost_usd
    assert cost == pytest.approx((200 * 3 + 600 * 0.3 + 200 * 3.75 + 100 * 15) / 1e6)


def test_a_cost_is_unknown_rather_than_wrong_and_the_vendors_own_word_counts() -> None:
    model = catalogue.find("openai", "gpt-4o")
    assert catalogue.priced(model, Usage(output_tokens=5)).cost_usd is None
    assert catalogue.priced(None, Usage(input_tokens=1, output_tokens=5)).cost_usd is None
    assert catalogue.priced(model, Usage(input_tokens=1, output_tokens=5, cost_usd=0.5)).cost_usd == 0.5


def test_a_model_that_calls_no_tools_is_told_of_none_and_reads_the_old_calls_as_words() -> None:
    get = ToolSpec("get", "Get it.", {})
    messages = (user("go"), assistant(call("c", a=1)), user(result("c", "found")))
    params = Params(tool_choice=NamedTool("get"), parallel_tool_calls=False)
    fitted, dropped = provider().fit(ask(*messages, model="groq/compound", tools=(get,), params=params))
    assert fitted.tools == ()
    assert fitted.params == Params()
    assert [one.code for one in dropped] == ["tools_left_out"]
    assert fitted.messages[1].blocks == (SentText(text='[called get with {"a":1}]'),)
    assert fitted.messages[2].blocks == (SentText(text="[get answered: found]"),)


def test_a_model_that_sees_nothing_is_refused_a_new_image_and_told_of_an_old_one() -> None:
    made = provider("deepseek", "https://api.deepseek.com")
    block = ImageBlock(index=0, round=0, state="complete", url="https://e.org/i.png")
    with pytest.raises(InvalidRequest):
        made.admit("deepseek-chat", [block])
    made.admit("of-next-year", [block])
    fitted, dropped = made.fit(ask(user(SentImage(url="https://e.org/i.png"), "see"), model="deepseek-chat", tools=()))
    assert [one.code for one in dropped] == ["images_left_out"]
    assert fitted.messages[0].blocks[0] == SentText(text="[an image, which this model cannot see]")


def test_what_fits_is_not_touched() -> None:
    asked = ask(user("go"), model="llama-3.3-70b-versatile")
    fitted, dropped = provider().fit(asked)
    assert fitted == asked
    assert dropped == []


def test_what_degrades_is_logged_once_for_each_cause(caplog: pytest.LogCaptureFixture) -> None:
    made = provider("a-name-of-this-test", "https://example.org/v1")
    asked = ask(user("go"), model="nobody-knows", params=Params(stop=("a", "b", "c", "d", "e")))
    for _ in range(3):
        made.fit(asked)
    messages = [record.message for record in caplog.records]
    assert len(messages) == 2
    assert "is in no table" in messages[0]
    assert "stop: 5 given" in messages[1]
