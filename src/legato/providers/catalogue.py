"""The models we know something of.

Small on purpose: a model that is not here works, with everything taken to be possible. A name stands for its dated
snapshots too (``gpt-4o`` for ``gpt-4o-2024-08-06``). Sources, read in November 2026: platform.claude.com/docs (models
overview, model pages, migration guides), developers.openai.com/api/docs (models, pricing), api-docs.deepseek.com
(pricing), console.groq.com/docs (models). A figure nobody vouched for is None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from legato.core.usage import Usage
from legato.ports import ModelInfo

Thinks: TypeAlias = Literal["no", "budget", "either", "effort", "always"]
"""How a model is told to think: not at all, by a budget of tokens, by budget or effort, by effort alone, or by effort
and it cannot be turned off."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model: ``context`` and ``output`` in tokens, ``prices`` in USD per million tokens of input,
    cached input and output; ``cache_write`` is what writing a token to the cache costs in tokens of input.

    ``sampling``: temperature and top_p may be set. ``forced``: a tool may be forced. ``thinks_with_tools``: on chat
    completions, thinking may be asked for beside tools.
    """

    name: str
    provider: str
    display_name: str
    context: int | None = None
    output: int | None = None
    prices: tuple[float, float, float] | None = None
    cache_write: float = 1.0
    tools: bool = True
    images: bool = True
    files: bool = True
    thinks: Thinks = "no"
    sampling: bool = True
    forced: bool = True
    thinks_with_tools: bool = True
    created: str = "1970-01-01T00:00:00Z"


def _midnight(day: str | None) -> str:
    """Of the day of release; the epoch where we do not know it."""
    return f"{day or '1970-01-01'}T00:00:00Z"


def _claude(
    name: str,
    display_name: str,
    created: str | None,
    *,
    context: int = 200_000,
    output: int,
    prices: tuple[float, float, float] | None,
    thinks: Thinks = "budget",
    sampling: bool = True,
    forced: bool = True,
) -> Model:
    return Model(
        name=name, provider="anthropic", display_name=display_name, created=_midnight(created), context=context,
        output=output, prices=prices, cache_write=1.25, thinks=thinks, sampling=sampling, forced=forced,
    )  # fmt: skip


def _gpt(
    name: str,
    display_name: str,
    created: str | None,
    *,
    context: int,
    output: int,
    prices: tuple[float, float, float],
    thinks: Thinks = "no",
    thinks_with_tools: bool = True,
) -> Model:
    return Model(
        name=name, provider="openai", display_name=display_name, created=_midnight(created), context=context,
        output=output, prices=prices, thinks=thinks, sampling=thinks == "no", thinks_with_tools=thinks_with_tools,
    )  # fmt: skip


def _open(
    name: str,
    provider: str,
    display_name: str,
    *,
    context: int,
    output: int | None,
    prices: tuple[float, float, float] | None = None,
    thinks: Thinks = "no",
    tools: bool = True,
    images: bool = False,
) -> Model:
    return Model(
        name=name, provider=provider, display_name=display_name, context=context, output=output, prices=prices,
        thinks=thinks, tools=tools, images=images, files=False,
    )  # fmt: skip


_MODELS = (
    _claude("claude-fable-5-1", "Claude Fable 5.1", None, context=1_000_000, output=128_000,
            prices=(10, 1, 50), thinks="always", sampling=False, forced=False),
    _claude("claude-opus-5-5", "Claude Opus 5.5", None, context=1_000_000, output=128_000,
            prices=(4, 0.2, 20), thinks="always", sampling=False, forced=False),
    _claude("claude-sonnet-5-5", "Claude Sonnet 5.5", None, context=1_000_000, output=128_000,
            prices=(2, 0.1, 10), thinks="always", sampling=False, forced=False),
    # Haiku 5.5 is priced in tiers, which three figures cannot say.
    _claude("claude-haiku-5-5", "Claude Haiku 5.5", None, context=1_000_000, output=128_000, prices=None,
            thinks="effort", sampling=False),
    _claude("claude-opus-5", "Claude Opus 5", "2026-07-24", context=1_000_000, output=128_000,
            prices=(5, 0.5, 25), thinks="effort", sampling=False),
    _claude("claude-sonnet-5", "Claude Sonnet 5", "2026-06-30", context=1_000_000, output=128_000,
            prices=(2, 0.2, 10), thinks="effort", sampling=False),
    _claude("claude-opus-4-7", "Claude Opus 4.7", "2026-04-16", context=1_000_000, output=128_000,
            prices=(5, 0.5, 25), thinks="effort", sampling=False),
    _claude("claude-opus-4-6", "Claude Opus 4.6", "2026-02-05", context=1_000_000, output=128_000,
            prices=(5, 0.5, 25), thinks="either"),
    _claude("claude-sonnet-4-6", "Claude Sonnet 4.6", "2026-02-17", context=1_000_000, output=64_000,
            prices=(3, 0.3, 15), thinks="either"),
    _claude("claude-opus-4-5", "Claude Opus 4.5", "2025-11-24", output=64_000, prices=(5, 0.5, 25)),
    _claude("claude-sonnet-4-5", "Claude Sonnet 4.5", "2025-09-29", output=64_000, prices=(3, 0.3, 15)),
    _claude("claude-haiku-4-5", "Claude Haiku 4.5", "2025-10-15", output=64_000, prices=(1, 0.1, 5)),
    _claude("claude-opus-4-1", "Claude Opus 4.1", "2025-08-05", output=32_000, prices=(15, 1.5, 75)),
    _claude("claude-opus-4-0", "Claude Opus 4", "2025-05-14", output=32_000, prices=(15, 1.5, 75)),
    _claude("claude-opus-4-20250514", "Claude Opus 4", "2025-05-14", output=32_000, prices=(15, 1.5, 75)),
    _claude("claude-sonnet-4-0", "Claude Sonnet 4", "2025-05-14", output=64_000, prices=(3, 0.3, 15)),
    _claude("claude-sonnet-4-20250514", "Claude Sonnet 4", "2025-05-14", output=64_000, prices=(3, 0.3, 15)),
    _claude("claude-3-7-sonnet", "Claude Sonnet 3.7", "2025-02-19", output=64_000, prices=(3, 0.3, 15)),
    _claude("claude-3-5-sonnet", "Claude Sonnet 3.5", "2024-10-22", output=8_192, prices=(3, 0.3, 15), thinks="no"),
    _claude("claude-3-5-haiku", "Claude Haiku 3.5", "2024-10-22", output=8_192, prices=(0.8, 0.08, 4), thinks="no"),
    _gpt("gpt-5.4", "GPT-5.4", None, context=1_050_000, output=128_000, prices=(2.5, 0.25, 15),
         thinks="effort", thinks_with_tools=False),
    _gpt("gpt-5.2", "GPT-5.2", "2025-12-11", context=400_000, output=128_000, prices=(1.75, 0.175, 14),
         thinks="effort"),
    _gpt("gpt-5.1", "GPT-5.1", "2025-11-13", context=400_000, output=128_000, prices=(1.25, 0.125, 10),
         thinks="effort"),
    _gpt("gpt-5", "GPT-5", "2025-08-07", context=400_000, output=128_000, prices=(1.25, 0.125, 10), thinks="always"),
    _gpt("gpt-5-mini", "GPT-5 mini", "2025-08-07", context=400_000, output=128_000, prices=(0.25, 0.025, 2),
         thinks="always"),
    _gpt("gpt-5-nano", "GPT-5 nano", "2025-08-07", context=400_000, output=128_000, prices=(0.05, 0.005, 0.4),
         thinks="always"),
    _gpt("gpt-4.1", "GPT-4.1", "2025-04-14", context=1_047_576, output=32_768, prices=(2, 0.5, 8)),
    _gpt("gpt-4.1-mini", "GPT-4.1 mini", "2025-04-14", context=1_047_576, output=32_768, prices=(0.4, 0.1, 1.6)),
    _gpt("gpt-4.1-nano", "GPT-4.1 nano", "2025-04-14", context=1_047_576, output=32_768, prices=(0.1, 0.025, 0.4)),
    _gpt("gpt-4o", "GPT-4o", "2024-05-13", context=128_000, output=16_384, prices=(2.5, 1.25, 10)),
    _gpt("gpt-4o-mini", "GPT-4o mini", "2024-07-18", context=128_000, output=16_384, prices=(0.15, 0.075, 0.6)),
    _gpt("o3", "o3", "2025-04-16", context=200_000, output=100_000, prices=(2, 0.5, 8), thinks="always"),
    _gpt("o3-mini", "o3-mini", "2025-01-31", context=200_000, output=100_000, prices=(1.1, 0.55, 4.4),
         thinks="always"),
    _gpt("o4-mini", "o4-mini", "2025-04-16", context=200_000, output=100_000, prices=(1.1, 0.275, 4.4),
         thinks="always"),
    _gpt("o1", "o1", "2024-12-17", context=200_000, output=100_000, prices=(15, 7.5, 60), thinks="always"),
    # DeepSeek's prices are in yuan and differ by the hour, so none is given.
    _open("deepseek-flash", "deepseek", "DeepSeek V4.1 Flash", context=1_000_000, output=384_000, thinks="effort",
          images=True),
    _open("deepseek-v4-flash", "deepseek", "DeepSeek V4 Flash", context=1_000_000, output=384_000, thinks="effort",
          images=True),
    _open("deepseek-v4-pro", "deepseek", "DeepSeek V4 Pro", context=1_000_000, output=384_000, thinks="effort"),
    _open("deepseek-chat", "deepseek", "DeepSeek chat", context=128_000, output=8_192),
    _open("deepseek-reasoner", "deepseek", "DeepSeek reasoner", context=128_000, output=64_000, thinks="always"),
    _open("llama-3.3-70b-versatile", "groq", "Llama 3.3 70B", context=131_072, output=32_768,
          prices=(0.59, 0.59, 0.79)),
    _open("llama-3.1-8b-instant", "groq", "Llama 3.1 8B", context=131_072, output=131_072, prices=(0.05, 0.05, 0.08)),
    _open("openai/gpt-oss-120b", "groq", "GPT-OSS 120B", context=131_072, output=65_536, prices=(0.15, 0.075, 0.6),
          thinks="always"),
    _open("openai/gpt-oss-20b", "groq", "GPT-OSS 20B", context=131_072, output=65_536, prices=(0.075, 0.0375, 0.3),
          thinks="always"),
    _open("groq/compound", "groq", "Groq Compound", context=131_072, output=8_192, tools=False),
    _open("groq/compound-mini", "groq", "Groq Compound Mini", context=131_072, output=8_192, tools=False),
)  # fmt: skip

_BY_NAME = {(model.provider, model.name): model for model in _MODELS}
_SNAPSHOT = re.compile(r"-(20\d{2}-?\d{2}-?\d{2}|latest)$")
_FAMILIES = {
    "claude-": "anthropic",
    "gpt-": "openai",
    "chatgpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "deepseek-": "deepseek",
    "gemini-": "gemini",
}


def find(provider: str, name: str) -> Model | None:
    """The entry of a model of the provider, by its name or by the name its snapshot is one of."""
    return _BY_NAME.get((provider, name)) or _BY_NAME.get((provider, _SNAPSHOT.sub("", name)))


def listed(provider: str) -> Sequence[Model]:
    """The models of a provider, newest families first."""
    return [model for model in _MODELS if model.provider == provider]


def provider_of(bare_name: str) -> str | None:
    """Who serves the model of a name without a provider; None if nobody is known to."""
    for model in _MODELS:
        if model.name == bare_name and "/" not in bare_name:
            return model.provider
    for beginning, provider in _FAMILIES.items():
        if bare_name.startswith(beginning):
            return provider
    return None


def info(provider: str, name: str) -> ModelInfo:
    """What is known of the model, under the name it was asked for by."""
    model = find(provider, name)
    if model is None:
        return ModelInfo(id=name, provider=provider, display_name=name, known=False)
    return ModelInfo(
        id=name,
        provider=provider,
        display_name=model.display_name,
        context=model.context,
        max_output=model.output,
        input_price=model.prices[0] if model.prices else None,
        output_price=model.prices[2] if model.prices else None,
        tools=model.tools,
        images=model.images,
        files=model.files,
        thinking=model.thinks != "no",
        created=model.created,
    )


def priced(model: Model | None, usage: Usage) -> Usage:
    """The usage with its cost, where the provider did not say one and the prices are known."""
    if usage.cost_usd is not None or model is None or model.prices is None:
        return usage
    if usage.input_tokens is None or usage.output_tokens is None:
        return usage
    price, cached_price, output_price = model.prices
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    fresh = max(usage.input_tokens - read - written, 0)
    cost = fresh * price + read * cached_price + written * price * model.cache_write
    cost += usage.output_tokens * output_price
    return msgspec.structs.replace(usage, cost_usd=round(cost / 1e6, 9))
