"""Every model that can be asked, by the name users give it: ``provider/model``, or a bare name of a known family."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from legato.core.errors import InvalidRequest
from legato.ports import ModelInfo, Provider, Resolved
from legato.providers.catalogue import provider_of

_AT = "/model"


class ModelDirectory:
    """Implements ``ports.Models``. ``unready`` says of a provider without its key what is missing. ``default`` is
    ``provider/model``, None where a request must name its model."""

    def __init__(self, providers: Mapping[str, Provider], *, unready: Mapping[str, str], default: str | None) -> None:
        self._providers = dict(providers)
        self._unready = dict(unready)
        self.default = default

    def resolve(self, name: str | None) -> Resolved:
        wanted = name or self.default
        if wanted is None:
            raise InvalidRequest.at(_AT, "is missing, and this server has no default model", code="unknown_model")
        provider_name, model = self._split(wanted)
        provider = self._providers.get(provider_name)
        if provider is None:
            raise self._no_provider(wanted, provider_name)
        if not model or provider.model(model) is None:
            raise InvalidRequest.at(_AT, f"{provider_name} has no model {model!r}", code="unknown_model")
        return Resolved(provider=provider, model=model, name=f"{provider_name}/{model}")

    def all(self) -> Sequence[ModelInfo]:
        infos = [info for provider in self._providers.values() for info in provider.models()]
        first = [info for info in infos if f"{info.provider}/{info.id}" == self.default]
        return first + [info for info in infos if info not in first]

    async def close(self) -> None:
        for provider in self._providers.values():
            await provider.close()

    def _split(self, wanted: str) -> tuple[str, str]:
        """``openrouter/anthropic/claude-…``: the provider's own name for a model may have slashes too."""
        provider, slash, model = wanted.partition("/")
        if slash and (provider in self._providers or provider in self._unready):
            return provider, model
        known = provider_of(wanted)
        return (known, wanted) if known is not None else (provider, model if slash else wanted)

    def _no_provider(self, wanted: str, provider: str) -> InvalidRequest:
        missing = self._unready.get(provider)
        if missing is not None:
            return InvalidRequest.at(_AT, f"{wanted}: {missing}", code="provider_not_configured")
        names = [*self._providers, *self._unready]
        near = difflib.get_close_matches(provider, names, n=1)
        hint = f", did you mean {near[0]}/…?" if near else f"; the providers are: {', '.join(self._providers)}"
        return InvalidRequest.at(_AT, f"there is no model {wanted!r}{hint}", code="unknown_model")
