"""The composition root: the only file that knows every name.

From one ``Config`` it builds the store, the providers, the tools and the service, and opens and closes them in order.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

from starlette.routing import BaseRoute

from legato.clock import SystemClock
from legato.config import Config, load, locate
from legato.config.mcp_file import MissingVariable, filled
from legato.config.model import SCRIPT_MODEL, LimitsConfig, McpServerConfig, ProviderConfig
from legato.core.ailments import Ailment
from legato.core.documents import Bounds
from legato.core.errors import InvalidRequest
from legato.core.plan import TurnLimits
from legato.deadline import Deadline
from legato.http.app import App, HttpSettings, build_app
from legato.observability import warn_once
from legato.ports import Archive, Clock, Provider, Store, Tool
from legato.providers.directory import ModelDirectory
from legato.providers.provider import HttpProvider, ProviderSettings
from legato.providers.script_provider import ScriptProvider
from legato.runtime.calls.places import Places
from legato.runtime.calls.toolbox import GRACE, Toolbox
from legato.runtime.checkup import of_the_file, of_the_spool
from legato.runtime.clients.admission import AdmissionLimits
from legato.runtime.documents import Workspaces
from legato.runtime.service import ServiceSettings, TurnService
from legato.runtime.storing.journal import JournalSettings
from legato.runtime.storing.spool import Spool
from legato.serve import bind, serve, url_of
from legato.stores.sqlite import SqliteStore, open_sqlite
from legato.stores.sqlite.evidence import open_evidence
from legato.tools import demo
from legato.tools.documents import DOCUMENT_TOOLS, document_tools
from legato.tools.mcp.host import McpHost
from legato.tools.mcp.settings import McpServer
from legato.tools.read_result import read_result
from legato.tools.registry import ToolRegistry
from legato.tools.web.settings import FetchSettings, SearchSettings, WebSettings
from legato.tools.web.tools import web_tools

SYSTEM = (
    "You are a helpful assistant. Answer in the user's language. "
    "Use the tools you have where they help, several at once where they do not depend on each other."
)
"""What every model is told first, unless ``[chat] system`` says something else."""

_log = logging.getLogger(__name__)

_MCP_ENVELOPE = 1024 * 1024
"""Bytes that a message of a server may have around a tool's output."""

Toolish = Tool | Callable[..., object]


@asynccontextmanager
async def open_store(config: Config, *, clock: Clock | None = None) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(Path(config.server.db), synchronous=config.storage.synchronous, clock=clock)
    try:
        yield store
    finally:
        await store.close()


def toolbox_of(config: Config, tools: ToolRegistry, store: Store, *, grace: float = GRACE) -> Toolbox:
    """``grace`` is for tests."""
    limits = config.limits
    return Toolbox(
        tools,
        keep=store.keep_output,
        places=Places(limits.running_calls, of_tool=limits.running_calls_of_tool),
        grace=grace,
        hard_output_bytes=limits.tool_output_bytes,
    )


def spool_of(config: Config) -> Spool:
    """The folder is made when something first goes there."""
    folder = config.storage.spool or f"{config.server.db}.spool"
    return Spool(Path(folder).absolute())


def checkup(config: Config) -> list[Ailment]:
    """What is to be said of the database and the spool. Raises ``ConfigError``, ``StoreUnavailable``."""
    with open_archive(config) as archive:
        kept = list(of_the_file(archive, now=SystemClock().now()))
    return [*kept, *of_the_spool(spool_of(config).folder)]


@contextmanager
def open_archive(config: Config) -> Iterator[Archive]:
    """The database only read, for what looks after it. Raises ``ConfigError``, ``StoreUnavailable``."""
    with open_evidence(Path(config.server.db)) as archive:
        yield archive


@asynccontextmanager
async def open_service(
    config: Config,
    *,
    tools: Iterable[Toolish] = (),
    clock: Clock | None = None,
    around: Callable[[Store], Store] = lambda store: store,
) -> AsyncIterator[TurnService]:
    """The service of a configuration, with ``tools`` beside those the configuration names. Raises ``ConfigError``.

    Two seams for tests: the ``clock`` it goes by, the machine's if none is given, and what stands ``around`` its store.
    """
    registry = tool_registry(config, tools)
    directory = model_directory(config)
    async with mcp_tools(config, registry), open_store(config, clock=clock) as file:
        documents = file.documents(_document_bounds(config))
        store = around(file)
        if config.documents.tools:
            for one in document_tools(documents):
                registry.add(one)
        if len(registry) or config.mcp_servers:
            registry.add(read_result(store))
        toolbox = toolbox_of(config, registry, store)
        try:
            async with TurnService(
                store=store,
                models=directory,
                tools=registry,
                formatters=registry.formatters,
                toolbox=toolbox,
                settings=_service_settings(config),
                spool=spool_of(config),
                clock=clock,
                documents=Workspaces(documents, _document_bounds(config)),
            ) as service:
                yield service
        finally:
            toolbox.close()
            await directory.close()


@asynccontextmanager
async def open_library(
    db: str | Path = "legato.db",
    *,
    tools: Iterable[Toolish] = (),
    model: str | None = None,
    clock: Clock | None = None,
    around: Callable[[Store], Store] = lambda store: store,
) -> AsyncIterator[TurnService]:
    """``legato.open``: environment and ``legato.toml`` count as they do for the server. ``clock`` and ``around`` are
    for tests, as in ``open_service``."""
    flags = {"server.db": str(db)} | ({} if model is None else {"server.model": model})
    file = locate(None, environ=os.environ, folder=Path.cwd())
    config = load(flags=flags, environ=os.environ, file=file)
    async with open_service(config, tools=tools, clock=clock, around=around) as service:
        yield service


async def run_server(config: Config, *, say: Callable[[str], None]) -> int:
    """Serve until a signal comes; the exit code, with which the process is to end. ``say`` gets the first lines. Raises
    ``ConfigError``."""
    deadline = Deadline(config.server.drain)
    sockets = bind(config.server.host, config.server.port, anywhere=config.server.insecure_no_auth)
    try:
        async with open_service(config) as service:
            app = serving_app(config, service)

            async def drain() -> None:
                await service.drain(config.server.drain)

            def ready() -> None:
                for line in first_lines(config, url_of(sockets, config.server.host), service):
                    say(line)

            keep_collections_short()
            deadline.watch()
            exit_code = await serve(app, sockets, drain=drain, ready=ready, deadline=deadline)
    finally:
        for each in sockets:
            each.close()
    deadline.stopped(exit_code)
    return exit_code


def keep_collections_short() -> None:
    """What is there when the server is ready stays; a delta makes no cycles. So the collector looks rarely, and not at
    the modules: with 600 turns a full collection held the loop for 176 ms (measured 2026-11)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def serving_app(config: Config, service: TurnService, *, surfaces: Sequence[BaseRoute] = ()) -> App:
    """The service over HTTP, with further routes where there are some."""
    return build_app(service, settings=_http_settings(config), surfaces=surfaces)


def first_lines(config: Config, url: str, service: TurnService) -> Sequence[str]:
    """What a person reads who has just started it (docs/cli.md)."""
    names = [tool.name for tool in service.tools().data]
    lines = [
        f"Legato is listening on {url}",
        f"  model     {config.default_model or 'none: a request must name one'}",
        f"  tools     {', '.join(names) or 'none'}",
        f"  database  {Path(config.server.db).resolve()}",
    ]
    if config.mcp_servers:
        lines.append(f"  mcp       {', '.join(config.mcp_servers)}: their tools come once they are listed")
    if config.script_enabled and config.default_model == SCRIPT_MODEL:
        lines.append("  no provider has a key, so the built-in script provider answers")
    return [*lines, *(f"  {notice}" for notice in config.notices)]


def tool_registry(config: Config, tools: Iterable[Toolish] = ()) -> ToolRegistry:
    """In order: ``tools``, the configuration's modules, the demo's own where it is what one looks at first, the web."""
    registry = ToolRegistry(tools, result_tokens=config.limits.tool_result_tokens)
    registry.load(config.tools.modules)
    registry.load(config.formatters.modules)
    asked_for = config.mcp_servers or config.documents.tools
    if config.default_model == SCRIPT_MODEL and not len(registry) and not asked_for:
        registry.load([demo.__name__])
    for one in web_tools(_web_settings(config)):
        registry.add(one)
    to_come = [name for name in registry.formatters.names() if name.partition("__")[0] in config.mcp_servers]
    to_come += DOCUMENT_TOOLS if config.documents.tools else ()
    registry.formatters.warn_of_strangers([*registry.names(), *to_come])
    return registry


def mcp_tools(config: Config, registry: ToolRegistry) -> AbstractAsyncContextManager[object]:
    """The servers of MCP, their tools attached. Entering it waits for none of them."""
    if not config.mcp_servers:
        return nullcontext()
    servers = [_mcp_server(name, server, config, os.environ) for name, server in config.mcp_servers.items()]
    host = McpHost(servers, formatters=registry.formatters)
    registry.attach(host)
    return host


def _mcp_server(name: str, server: McpServerConfig, config: Config, environ: Mapping[str, str]) -> McpServer:
    try:
        return McpServer(
            name=name,
            command=None if server.command is None else filled(server.command, environ),
            args=tuple(filled(text, environ) for text in server.args),
            env={key: filled(text, environ) for key, text in server.env.items()},
            cwd=None if server.cwd is None else filled(server.cwd, environ),
            url=None if server.url is None else filled(server.url, environ),
            headers={key: filled(text, environ) for key, text in server.headers.items()},
            timeout=server.timeout,
            idle_timeout=server.idle_timeout,
            connect_timeout=server.connect_timeout,
            max_output=server.max_output,
            message_bytes=config.limits.tool_output_bytes + _MCP_ENVELOPE,
            trust_hints=server.trust_hints,
            needs_approval=server.needs_approval,
            allow=server.allow,
            deny=server.deny,
        )
    except MissingVariable as error:
        return McpServer(name=name, problem=f"{error.name} is not set: set it where Legato is started, or take it out")


def _web_settings(config: Config) -> WebSettings:
    web = config.web
    search, fetch = None, None
    if web.search is not None and web.search != "none":
        search = SearchSettings(
            backend=web.search,
            base_url=web.searxng_url if web.search == "searxng" else None,
            api_key=None if web.api_key is None else web.api_key.get_secret_value(),
            key_name=config.sources.get("web.api_key", "the key"),
            timeout=web.timeout / 2,
        )
    if web.fetch:
        fetch = FetchSettings(
            timeout=web.timeout,
            max_bytes=web.max_bytes,
            allow_hosts=web.allow_hosts,
            allow_private=web.allow_private,
        )
    return WebSettings(search=search, fetch=fetch)


def model_directory(config: Config) -> ModelDirectory:
    providers: dict[str, Provider] = {}
    unready: dict[str, str] = {}
    for name, provider in config.providers.items():
        if provider.ready:
            providers[name] = _provider(name, provider, config.limits)
        else:
            unready[name] = f"provider {name} has no key: set {_where_the_key_goes(provider)}"
    if config.script_enabled:
        providers["script"] = ScriptProvider()
    directory = ModelDirectory(providers, unready=unready, default=config.default_model)
    _look_at_the_default(directory)
    return directory


def _look_at_the_default(directory: ModelDirectory) -> None:
    """One that cannot be asked stops nobody who names another: it is said, and the server starts."""
    if directory.default is None:
        return
    try:
        directory.resolve(None)
    except InvalidRequest as error:
        cause = f"default_model:{directory.default}"
        warn_once(_log, cause, f"turns that name no model will be refused: {error.message}")


def _where_the_key_goes(provider: ProviderConfig) -> str:
    return provider.api_key_env or f"the file {provider.api_key_file}"


def _provider(name: str, provider: ProviderConfig, limits: LimitsConfig) -> Provider:
    return HttpProvider(
        ProviderSettings(
            name=name,
            wire=provider.wire,
            base_url=provider.base_url,
            api_key=None if provider.api_key is None else provider.api_key.get_secret_value(),
            seal=provider.seal,
            connect_timeout=provider.connect_timeout,
            first_byte_timeout=provider.first_byte_timeout,
            first_event_timeout=provider.first_event_timeout,
            idle_timeout=provider.idle_timeout,
            pings_timeout=provider.pings_timeout,
            argument_bytes=limits.argument_bytes,
            client=provider.client,
            max_retries=provider.max_retries,
            models=provider.models,
        )
    )


def _service_settings(config: Config) -> ServiceSettings:
    limits = config.limits
    return ServiceSettings(
        system=config.chat.system or SYSTEM,
        running_turns=limits.running_turns,
        wait_timeout=limits.wait_timeout,
        unsaved_bytes=limits.unsaved_bytes,
        turn=TurnLimits(
            calls_per_round=limits.calls_per_round,
            parallel_calls=limits.parallel_calls,
            blocks=limits.blocks,
            argument_bytes=limits.argument_bytes,
        ),
        admission=AdmissionLimits(
            rounds=limits.rounds,
            seconds=limits.seconds,
            request_blocks=limits.request_blocks,
            default_tools=config.tools.default,
        ),
        journal=JournalSettings(
            flush_interval=config.storage.flush_interval,
            persist_timeout=config.storage.persist_timeout,
            retry_window=config.storage.retry_window,
        ),
    )


def _document_bounds(config: Config) -> Bounds:
    documents = config.documents
    return Bounds(
        document_bytes=documents.document_bytes,
        documents=documents.documents,
        workspace_bytes=documents.workspace_bytes,
        versions=documents.versions,
    )


def _http_settings(config: Config) -> HttpSettings:
    return HttpSettings(
        cors_origins=config.server.cors_origins,
        hosts=config.server.hosts,
        body_bytes=config.limits.body_bytes,
        json_depth=config.limits.json_depth,
        readers=config.limits.readers,
        import_bytes=config.documents.import_bytes,
    )
