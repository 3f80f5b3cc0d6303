"""What can be configured. Each value has a unit and a reason; nothing here reads the environment or a file.

Bytes are bytes, times are seconds, and a bound that is met is answered with its name and its number.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

Wire: TypeAlias = Literal["anthropic", "openai_chat"]
Client: TypeAlias = Literal["aiohttp", "direct"]
Seal: TypeAlias = Literal["auto", "object", "next", "finish"]
Search: TypeAlias = Literal["tavily", "brave", "searxng", "none"]

MASK = "********"


def _a_base_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("expected a URL that begins with http:// or https://")
    if url.username is not None:
        raise ValueError("expected a URL without user and password: name the key in api_key_env or api_key_file")
    if url.query or url.fragment:
        raise ValueError("expected a URL without ? and #: the wire's path is appended to it")
    return value.rstrip("/")


def _an_endpoint(value: str) -> str:
    url = urlsplit(value)
    if not value.startswith("${") and (url.scheme not in {"http", "https"} or not url.hostname):
        raise ValueError("expected a URL that begins with http:// or https://")
    return value


def _an_origin(value: str) -> str:
    url = urlsplit(value)
    if not url.scheme or not url.netloc or value != f"{url.scheme}://{url.netloc}" or "*" in value:
        raise ValueError("expected an exact origin, scheme://host[:port], without a path and without *")
    return value.lower()


def _a_host_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", value):
        raise ValueError("expected a host name without scheme, port and *")
    return value.lower()


def _a_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError("expected an address or a network, such as 10.1.0.0/16") from error


def _a_variable(value: str) -> str:
    # A key that was put where its variable's name belongs would be shown as one: in the log, and to clients.
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError("expected the name of a variable, such as GROQ_API_KEY, and never the key itself")
    return value


Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Name: TypeAlias = Annotated[str, Field(min_length=1)]
Variable: TypeAlias = Annotated[str, AfterValidator(_a_variable)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class ServerConfig(Section):
    model: Name | None = None
    """``provider/model`` for turns that name none; left out, the first provider with a key chooses."""
    host: Name = "127.0.0.1"
    port: int = Field(default=8420, ge=0, le=65535)
    """0 takes any free port."""
    db: Name = Field(default="legato.db", repr=False)  # a URL of a database may hold a password
    """Path of the database, from the folder the server is started in."""
    cors_origins: tuple[Annotated[str, AfterValidator(_an_origin)], ...] = ()
    """Other origins whose pages may ask, exactly as browsers send them."""
    hosts: tuple[Annotated[str, AfterValidator(_a_host_name)], ...] = ()
    """Names answered in ``Host`` besides loopback's; any other is 421, against DNS rebinding."""
    drain: float = Field(default=30, ge=0, allow_inf_nan=False)
    """Seconds that running turns get to end after a stop was asked for. Orchestrators kill after 30 by default."""
    insecure_no_auth: bool = False
    """Bind an address that others can reach although everybody who asks is let in."""

    @property
    def loopback(self) -> bool:
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _reachable_only_on_purpose(self) -> ServerConfig:
        if not self.loopback and not (self.insecure_no_auth and self.hosts):
            raise ValueError(
                f"server.host is {self.host}, which is not loopback, and nothing asks who comes: that needs "
                "--insecure-no-auth and the names to answer in server.hosts"
            )
        return self


class ProviderConfig(Section):
    """Who serves models, and over which wire."""

    wire: Wire
    base_url: Annotated[str, AfterValidator(_a_base_url)]
    """As the vendor writes it: without ``/v1`` on the wire anthropic, with it on openai_chat."""
    api_key_env: Variable | None = None
    """Name of the variable that holds the key; it goes before ``api_key_file``."""
    api_key_file: Name | None = None
    """Path of a file that holds the key alone. Neither of the two: the provider asks for no key."""
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    """Found when the configuration is loaded; never in legato.toml."""
    seal: Seal = "auto"
    """When a call's arguments are taken to be whole, on the wire openai_chat."""
    connect_timeout: Seconds = 10
    """Name, TCP and TLS; past ten seconds nobody is there."""
    first_byte_timeout: Seconds | None = None
    """Until the head of the answer; left out, ``first_event_timeout``: a small server answers once it has read all."""
    first_event_timeout: Seconds = 300
    """Of silence until the first event that means something: a model may think for minutes before it says so."""
    idle_timeout: Seconds = 120
    """Of silence after it, without an event or a ping."""
    pings_timeout: Seconds = 600
    """Without an event that means something though pings or white space come; never less than the limit of silence.
    Somebody is there and thinks, perhaps; the vendors' own SDKs give up after ten minutes too."""
    client: Client = "aiohttp"
    """The HTTP client: ``direct`` is our own, for many streams at once; it costs half and knows no proxies."""
    max_retries: int = Field(default=2, ge=0)
    """Tries after the first, before anything was visible. The vendors' SDKs have 2 as well."""
    models: tuple[Name, ...] = ()
    """Models known to be served, without the provider's name; the first is its default."""

    @property
    def ready(self) -> bool:
        """It has its key, or asks for none."""
        return self.api_key is not None or (self.api_key_env is None and self.api_key_file is None)

    @model_validator(mode="after")
    def _base_url_fits_its_wire(self) -> ProviderConfig:
        if self.wire == "anthropic" and self.base_url.endswith("/v1"):
            raise ValueError(f"base_url is {self.base_url}: the wire anthropic appends /v1/messages, so leave /v1 out")
        return self


class ScriptConfig(Section):
    enabled: bool | None = None
    """Whether ``script/…`` models answer; left out, they do while no provider has a key."""


class ToolsConfig(Section):
    default: tuple[Name, ...] = ("*",)
    """Glob patterns: the tools of a turn that names none."""
    modules: tuple[Name, ...] = ()
    """Python files or dotted modules; every ``@tool`` in them is registered."""


class LimitsConfig(Section):
    """Bounds of what comes in and of what is kept in memory. A request may ask for less, never for more."""

    body_bytes: Count = 10_485_760
    """A request's body, counted while it arrives. 10 MiB: a few photographs in base64."""
    json_depth: Count = 64
    """Nested arrays and objects of a body. Tool schemas reach 20; Python's own parsers give up near 1,000."""
    request_blocks: Count = 100
    """Blocks of a user turn: vendors take about as many images."""
    rounds: Count = 50
    """Requests to the model in a turn. The last one is asked to answer without tools."""
    seconds: Seconds = 1800
    """Time of a turn, waiting for people and clients aside."""
    wait_timeout: Seconds = 604_800
    """How long a turn waits for people and clients; then their calls are answered ``timeout``. A week."""
    blocks: Count = 2_000
    """Blocks of a turn. Fifty rounds of a text, a thought and a dozen calls with their results are 1,300."""
    calls_per_round: Count = 64
    """Calls of one response; those past it are answered with an error, in the model's order."""
    parallel_calls: Count = 16
    """Calls that run at once in a turn; the others wait their turn, which is not counted as tool time."""
    running_calls: Count = 1_024
    """Calls that run at once, of all turns; the others wait likewise."""
    running_calls_of_tool: Count = 256
    """Of them, calls of one tool: mostly one service answers them all."""
    argument_bytes: Count = 1_048_576
    """Arguments of one call: a file to be written fits, a model that never stops does not."""
    tool_output_bytes: Count = 67_108_864
    """JSON of one result that is stored; past it the call is an error that says so, never a piece of the result."""
    tool_result_tokens: Count = 50_000
    """What a model reads of one result, by our own estimate: a quarter of a context of 200,000. A tool's ``max_output``
    (64 KiB, three times less) is met first, unless it says more."""
    running_turns: Count = 1_000
    """Turns that run at once. One core carries 650 of 50 deltas a second (P14); most are slower."""
    readers: Count = 5_000
    """Open event streams. A reader is one integer here and a file descriptor to the system."""
    unsaved_bytes: Count = 67_108_864
    """Events said and not stored, of all turns. Past it new turns get 503, and providers are not read."""


class StorageConfig(Section):
    persist_timeout: Seconds = 5
    """Deadline of one write."""
    retry_window: Annotated[float, Field(gt=0, le=20)] = 20
    """How long a write is tried again before what was said goes to the spool. While the store is away no lease is
    renewed, so it ends well before one of 30 s does."""
    spool: Name | None = None
    """A folder for what the store does not take, best on another disk. Left out, it is beside the database."""
    flush_interval: Seconds = 0.25
    """How much of open blocks may be missing after a crash (P5)."""
    synchronous: Literal["normal", "full"] = "full"
    """SQLite's: ``full`` keeps every commit through a power cut, ``normal`` through a crash of the process only.
    In groups it is 11 µs a row instead of 10 (measured 2026-11), so the safe one is the default."""


class FormattersConfig(Section):
    modules: tuple[Name, ...] = ()
    """Python files or dotted modules; every ``@formatter`` in them is registered."""


class ChatConfig(Section):
    system: str = ""
    """What every model is told first, in front of a chat's own words; empty means the words built in."""


class WebConfig(Section):
    """``web_search`` and ``web_fetch``, which are there only if this says so (docs/web.md)."""

    search: Search | None = None
    """The search engine; left out, the one whose URL or key there is."""
    searxng_url: Annotated[str, AfterValidator(_a_base_url)] | None = None
    """Where a SearXNG answers."""
    api_key_env: Variable | None = None
    """Name of the variable that holds the search engine's key, where it is not one of those people have already."""
    api_key_file: Name | None = None
    """Path of a file that holds the key alone."""
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    """Found when the configuration is loaded; never in legato.toml."""
    fetch: bool = False
    """Let a model read pages of the public web."""
    timeout: Seconds = 30
    """A page, with its redirects and its reading. Search engines have half of it: they answer in two."""
    max_bytes: Count = 5_242_880
    """A page's body, unpacked. 5 MiB: longer documents are not read by a model in one go."""
    allow_hosts: tuple[Annotated[str, AfterValidator(_a_host_name)], ...] = ()
    """Exact names that may be at private addresses."""
    allow_private: tuple[Annotated[str, AfterValidator(_a_network)], ...] = ()
    """Addresses and networks that are fetched although they are not public."""


class McpConfig(Section):
    file: Name | None = None
    """Path of a JSON file with ``mcpServers``, as other hosts have it. What ``[mcp.NAME]`` says goes before it."""


class McpServerConfig(Section):
    """A server of the Model Context Protocol (docs/mcp.md). ``${NAME}`` in a text stands for a variable's value."""

    command: Name | None = None
    """Program to start, which speaks over its standard input and output."""
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    """Its variables, beside HOME, PATH and the like. Ours, keys of providers among them, it does not get."""
    cwd: Name | None = None
    url: Annotated[str, AfterValidator(_an_endpoint)] | None = Field(default=None, repr=False)
    """Where it answers, over streamable HTTP. ``command`` or ``url``, one of them."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    timeout: Seconds = 60
    """Of one call, as with any tool."""
    idle_timeout: Seconds | None = None
    """Of one call, without a word of progress."""
    connect_timeout: Seconds = 30
    """Until it has told its tools: ``npx`` may have to download it first."""
    max_output: Count = 65_536
    """Bytes of a result that the model reads."""
    trust_hints: bool = False
    """Believe it which of its tools only read, and which may run twice."""
    needs_approval: tuple[Name, ...] = ()
    """Glob patterns: its tools that need a person's yes."""
    allow: tuple[Name, ...] = ("*",)
    """Glob patterns: its tools that are offered."""
    deny: tuple[Name, ...] = ()
    """Glob patterns: those of them that are not."""

    @model_validator(mode="after")
    def _one_way_to_it(self) -> McpServerConfig:
        if (self.command is None) == (self.url is None):
            raise ValueError("expected command or url, one of them")
        foreign = ["args", "env", "cwd"] if self.command is None else ["headers"]
        given = [name for name in foreign if name in self.model_fields_set]
        if given:
            raise ValueError(f"{given[0]} is for {'command' if self.command is None else 'url'}, which is not given")
        return self


class DocumentsConfig(Section):
    """The workspace (docs/documents.md). Its HTTP is always there, its tools only if this says so."""

    tools: bool = False
    """Offer ``doc_tree``, ``doc_view``, ``doc_search``, ``doc_create``, ``doc_edit`` and ``doc_move``."""
    document_bytes: Count = 1_048_576
    """A document's text. 1 MiB is a novel, and what the arguments of a call may have."""
    documents: Count = 10_000
    """Documents of one owner."""
    workspace_bytes: Count = 268_435_456
    """Texts of one owner, as they stand."""
    versions: Count = 100
    """Texts kept of one document, the present one among them."""
    import_bytes: Count = 33_554_432
    """A zip file that is imported, counted while it arrives. Texts pack to a third."""


class Row(NamedTuple):
    """One line of ``legato config``: ``key = shown  # from source``."""

    key: str
    shown: str
    source: str


def _provider(wire: Wire, base_url: str, api_key_env: str, model: str) -> ProviderConfig:
    return ProviderConfig(wire=wire, base_url=base_url, api_key_env=api_key_env, models=(model,))


# The variables people have for a search engine's key, in the order in which they choose one.
SEARCH_KEYS: Mapping[str, Search] = MappingProxyType(
    {"TAVILY_API_KEY": "tavily", "BRAVE_API_KEY": "brave", "BRAVE_SEARCH_API_KEY": "brave"}
)

# There without being configured, in the order in which they become the default. Each names a model that calls tools
# well and that a first try can afford.
BUILTIN: Mapping[str, ProviderConfig] = MappingProxyType(
    {
        "anthropic": _provider("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", "claude-sonnet-4-5"),
        "openai": _provider("openai_chat", "https://api.openai.com/v1", "OPENAI_API_KEY", "gpt-5"),
        "openrouter": _provider(
            "openai_chat", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "anthropic/claude-sonnet-4.5"
        ),
    }
)

SCRIPT = "script"
SCRIPT_MODEL = "script/demo"


class Config(Section):
    """Everything the server was told. ``sources`` says of each key that is not a default where it came from."""

    server: ServerConfig = ServerConfig()
    providers: dict[str, ProviderConfig] = Field(default_factory=lambda: dict(BUILTIN))
    script: ScriptConfig = ScriptConfig()
    tools: ToolsConfig = ToolsConfig()
    limits: LimitsConfig = LimitsConfig()
    storage: StorageConfig = StorageConfig()
    formatters: FormattersConfig = FormattersConfig()
    chat: ChatConfig = ChatConfig()
    web: WebConfig = WebConfig()
    documents: DocumentsConfig = DocumentsConfig()
    mcp: McpConfig = McpConfig()
    mcp_servers: dict[str, McpServerConfig] = Field(default_factory=dict)
    notices: tuple[str, ...] = ()
    """What was found and cannot be used: said at start."""
    sources: dict[str, str] = Field(default_factory=dict, repr=False)

    @property
    def script_enabled(self) -> bool:
        if self.script.enabled is not None:
            return self.script.enabled
        return all(provider.api_key is None for provider in self.providers.values())

    @property
    def default_model(self) -> str | None:
        """None where a request must name its model: no provider is ready to choose one, and the script is off."""
        if self.server.model is not None:
            return self.server.model
        with_models = {name: provider for name, provider in self.providers.items() if provider.models}
        for name, provider in with_models.items():
            if provider.api_key is not None:
                return f"{name}/{provider.models[0]}"
        for name, provider in with_models.items():
            if provider.ready:
                return f"{name}/{provider.models[0]}"
        return SCRIPT_MODEL if self.script_enabled else None

    def rows(self) -> list[Row]:
        """Each value, and where it came from, with secrets masked."""
        return list(self._rows())

    def _rows(self) -> Iterator[Row]:
        for section, fields in (("server", self.server), *((f"providers.{n}", p) for n, p in self.providers.items())):
            yield from self._section(section, fields)
        yield from self._section(f"providers.{SCRIPT}", self.script)
        for name in ("tools", "limits", "storage", "formatters", "chat", "web", "documents", "mcp"):
            yield from self._section(name, getattr(self, name))
        for name, server in self.mcp_servers.items():
            yield from self._section(f"mcp.{name}", server)
        # Keys that were found and that no wire can use yet.
        for key, source in self.sources.items():
            if key.startswith("unused."):
                yield Row(key.removeprefix("unused."), json.dumps(MASK), source)

    def _section(self, section: str, fields: Section) -> Iterator[Row]:
        for name, value in fields:
            key = f"{section}.{name}"
            said = re.sub(r"\?.*", f"?{MASK}", value) if name == "url" and isinstance(value, str) else value
            yield Row(key, shown(said), self.sources.get(key, "default"))


def shown(value: object) -> str:
    """A value as legato.toml would write it, without its secret."""
    if value is None:
        return "(not set)"
    if isinstance(value, SecretStr):
        return json.dumps(MASK)
    if isinstance(value, str):
        return json.dumps(unsecret(value), ensure_ascii=False)
    if isinstance(value, dict):
        # The variables and headers of a server: whatever is handed on like that may be a secret.
        return "{" + ", ".join(f"{json.dumps(name)} = {json.dumps(MASK)}" for name in value) + "}"
    return json.dumps(value, ensure_ascii=False, default=str)


def unsecret(text: str) -> str:
    """A text in which the passwords of URLs are masked."""
    return re.sub(r"(?<=://)([^/@:\s]*):[^/\s]*@", rf"\1:{MASK}@", text)
