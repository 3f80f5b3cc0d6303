"""A provider as the runtime sees it: settings, a wire, and the one way to stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias, assert_never

import msgspec
from msgspec import UNSET

from legato.core.ask import Ask, Message, SentBlock, SentFile, SentImage, SentText, SentToolResult, SentToolUse
from legato.core.blocks import Block, ImageBlock
from legato.core.errors import InvalidRequest
from legato.observability import warn_once
from legato.ports import Dropped, ModelInfo, Sink
from legato.providers import anthropic, anthropic_request, catalogue, openai_chat, openai_chat_request
from legato.providers.direct import DirectTransport
from legato.providers.openai_chat_vendors import host_of, seal_of
from legato.providers.stream import attempt
from legato.providers.transport import AiohttpTransport, Transport
from legato.providers.watch import Limits

_logger = logging.getLogger(__name__)

Wire: TypeAlias = Literal["anthropic", "openai_chat"]

# Whose models a host serves under the vendor's own names, however the provider is called in the configuration.
_VENDOR_OF_HOST = {
    "api.anthropic.com": "anthropic",
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
}


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``base_url`` as the vendor writes it: without ``/v1`` on the wire anthropic, with it on openai_chat. Times are in
    seconds; without ``first_byte_timeout`` that of the first event holds. A call with twice ``argument_bytes`` stops
    its response. ``models`` are names known to be served, beside those of the catalogue."""

    name: str
    wire: Wire
    base_url: str
    api_key: str | None = None
    seal: Literal["auto", "object", "next", "finish"] = "auto"
    connect_timeout: float = 10
    first_byte_timeout: float | None = None
    first_event_timeout: float = 300
    idle_timeout: float = 120
    pings_timeout: float = 600
    argument_bytes: int = 1_048_576
    client: Literal["aiohttp", "direct"] = "aiohttp"
    max_retries: int = 2
    models: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"ProviderSettings(name={self.name!r}, wire={self.wire!r}, base_url={self.base_url!r})"


class HttpProvider:
    """Implements ``ports.Provider`` over one of the wires. ``transport`` goes before ``settings.client``."""

    def __init__(self, settings: ProviderSettings, *, transport: Transport | None = None) -> None:
        self.name = settings.name
        self.max_retries = settings.max_retries
        self._settings = settings
        self._base_url = settings.base_url.rstrip("/")
        self._host = host_of(settings.base_url)
        self._vendor = _VENDOR_OF_HOST.get(self._host, settings.name)
        self._transport = transport or (DirectTransport() if settings.client == "direct" else AiohttpTransport())
        self._limits = Limits(
            connect=settings.connect_timeout,
            first_byte=settings.first_byte_timeout or settings.first_event_timeout,
            first_event=settings.first_event_timeout,
            idle=settings.idle_timeout,
            pings=settings.pings_timeout,
            argument_bytes=settings.argument_bytes,
        )

    def __repr__(self) -> str:
        return f"HttpProvider({self._settings!r})"

    def models(self) -> Sequence[ModelInfo]:
        listed = [model.name for model in catalogue.listed(self._vendor)]
        return [self._info(name) for name in dict.fromkeys([*self._settings.models, *listed])]

    def model(self, name: str) -> ModelInfo | None:
        """Never None: what a vendor serves changes faster than any table."""
        return self._info(name)

    def admit(self, model: str, said: Sequence[Block]) -> None:
        info = self._info(model)
        for place, block in enumerate(said):
            if isinstance(block, ImageBlock) and not info.images:
                raise InvalidRequest.at(f"/blocks/{place}/type", f"{model} takes no images")
        match self._settings.wire:
            case "anthropic":
                anthropic_request.admit(said)
            case "openai_chat":
                openai_chat_request.admit(said, host=self._host)
            case wire:
                assert_never(wire)

    def fit(self, ask: Ask) -> tuple[Ask, Sequence[Dropped]]:
        model = catalogue.find(self._vendor, ask.model)
        ask, dropped = _without_what_it_cannot_read(ask, self._info(ask.model), self._reads)
        match self._settings.wire:
            case "anthropic":
                ask, more = anthropic_request.fit(ask, model)
            case "openai_chat":
                ask, more = openai_chat_request.fit(ask, model)
            case wire:
                assert_never(wire)
        self._log(ask.model, known=model is not None, dropped=[*dropped, *more])
        return ask, [*dropped, *more]

    def _reads(self, block: SentImage | SentFile) -> bool:
        match self._settings.wire:
            case "anthropic":
                return anthropic_request.reads(block)
            case "openai_chat":
                return openai_chat_request.reads(block, host=self._host)
            case wire:
                assert_never(wire)

    async def stream(self, ask: Ask, sink: Sink) -> None:
        settings = self._settings
        model = catalogue.find(self._vendor, ask.model)
        price = partial(catalogue.priced, model)
        decoder: anthropic.Decoder | openai_chat.Decoder
        match settings.wire:
            case "anthropic":
                request = anthropic_request.request(ask, model=model, api_key=settings.api_key)
                decoder = anthropic.Decoder(model=ask.model, price=price)
                failure = anthropic.failure
            case "openai_chat":
                request = openai_chat_request.request(ask, host=self._host, api_key=settings.api_key)
                decoder = openai_chat.Decoder(seal=seal_of(self._host, settings.seal), host=self._host, price=price)
                failure = openai_chat.failure
            case wire:
                assert_never(wire)
        await attempt(
            self._transport,
            self._base_url,
            request,
            decoder,
            failure,
            sink,
            limits=self._limits,
            provider=self.name,
            secret=settings.api_key,
        )

    async def close(self) -> None:
        await self._transport.close()

    def _log(self, model: str, *, known: bool, dropped: Sequence[Dropped]) -> None:
        """Once for each cause (docs/guarantees.md, P13)."""
        named = f"{self.name}/{model}"
        if not known:
            warn_once(_logger, f"unknown_model:{named}", f"{named} is in no table: its limits and prices are unknown")
        for one in dropped:
            warn_once(_logger, f"{one.code}:{named}:{one.message}", f"{named}: left out {one.message}")

    def _info(self, name: str) -> ModelInfo:
        return msgspec.structs.replace(catalogue.info(self._vendor, name), provider=self.name)


def _without_what_it_cannot_read(
    ask: Ask, info: ModelInfo, reads: Callable[[SentImage | SentFile], bool]
) -> tuple[Ask, list[Dropped]]:
    dropped: list[Dropped] = []
    if not info.tools:
        if ask.tools:
            names = ", ".join(tool.name for tool in ask.tools)
            dropped.append(Dropped("tools_left_out", f"{info.id} calls no tools; it was not told of {names}"))
        params = msgspec.structs.replace(ask.params, tool_choice=UNSET, parallel_tool_calls=UNSET)
        ask = msgspec.structs.replace(ask, tools=(), params=params, messages=_told(ask, _called))
    if not info.images and any(isinstance(block, SentImage) for message in ask.messages for block in message.blocks):
        ask = msgspec.structs.replace(ask, messages=_told(ask, _seen))
        dropped.append(Dropped("images_left_out", f"{info.id} takes no images"))
    blocks = [block for message in ask.messages for block in message.blocks]
    unread = [block for block in blocks if isinstance(block, SentImage | SentFile) and not reads(block)]
    if unread:
        ask = msgspec.structs.replace(ask, messages=_told(ask, partial(_read, unread=unread)))
        kinds = ", ".join(sorted({_kind(block) for block in unread}))
        dropped.append(Dropped("files_left_out", f"the provider of {info.id} does not take {kinds}"))
    return ask, dropped


def _told(ask: Ask, tell: Callable[[SentBlock], SentBlock]) -> tuple[Message, ...]:
    return tuple(Message(message.role, tuple(map(tell, message.blocks))) for message in ask.messages)


def _seen(block: SentBlock) -> SentBlock:
    """Words in the place of an image, so that the model knows that there was one."""
    return SentText(text="[an image, which this model cannot see]") if isinstance(block, SentImage) else block


def _read(block: SentBlock, unread: Sequence[SentBlock]) -> SentBlock:
    """Words in the place of what this provider does not take, though another did."""
    if not isinstance(block, SentImage | SentFile) or block not in unread:
        return block
    name = f", {block.name}" if isinstance(block, SentFile) and block.name is not UNSET else ""
    return SentText(text=f"[a file{name}, of a kind that this model cannot read: {_kind(block)}]")


def _kind(block: SentImage | SentFile) -> str:
    by = "" if block.url is UNSET else " by URL"
    return ("a file" if block.media_type is UNSET else block.media_type) + by


def _called(block: SentBlock) -> SentBlock:
    """Words in the place of a call and its result, for a model that knows neither."""
    match block:
        case SentToolUse() if block.origin != "provider":
            return SentText(text=f"[called {block.tool_name} with {msgspec.json.encode(block.input).decode()}]")
        case SentToolResult() if block.origin != "provider":
            return SentText(text=f"[{block.tool_name} answered: {block.text}]")
        case _:
            return block
