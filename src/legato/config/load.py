"""From flags, environment and file to one Config. Everything that is wrong is a ConfigError that names where it stands.

A value is read in layers, each going before the next: flags, ``LEGATO_…``, the vendors' own variables, the file,
defaults. Every value is checked where it came from, so that the message can say so; a variable that is empty counts as
not set, because that is how compose files and shells pass on what they do not have.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar, get_origin

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from legato.config.mcp_file import LONGEST_NAME, is_name, read_mcp_file
from legato.config.model import (
    BUILTIN,
    MASK,
    SCRIPT,
    SEARCH_KEYS,
    ChatConfig,
    Config,
    DocumentsConfig,
    FormattersConfig,
    LimitsConfig,
    McpConfig,
    McpServerConfig,
    ProviderConfig,
    ScriptConfig,
    ServerConfig,
    StorageConfig,
    ToolsConfig,
    WebConfig,
    unsecret,
)
from legato.core.errors import ConfigError

FILE_NAME = "legato.toml"
PREFIX = "LEGATO_"
FILE_VARIABLE = "LEGATO_CONFIG"

# What people have set already, for every tool that asks these vendors.
VENDOR_URLS = {"ANTHROPIC_BASE_URL": "anthropic", "OPENAI_BASE_URL": "openai"}
GEMINI_KEY = "GEMINI_API_KEY"

# Their values may hold secrets: no message shows one.
_MASKED = ("api_key", "api_key_env", "env", "headers")

# Kubernetes sets these in every pod beside a service that is named legato; they are not meant for us.
_KUBERNETES = re.compile(r"LEGATO_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP|SCTP)\w*)")

_SECTIONS: dict[str, type[BaseModel]] = {
    "server": ServerConfig,
    "tools": ToolsConfig,
    "limits": LimitsConfig,
    "storage": StorageConfig,
    "formatters": FormattersConfig,
    "chat": ChatConfig,
    "web": WebConfig,
    "documents": DocumentsConfig,
    "mcp": McpConfig,
}
_PROVIDER_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")

Key: TypeAlias = tuple[str, ...]  # ("server", "port"), ("providers", "groq", "seal")
_Model = TypeVar("_Model", bound=BaseModel)


class Setting(NamedTuple):
    """One value as it was found. ``words`` is true for text that stands for a number, a list, a truth value."""

    key: Key
    raw: object
    source: str
    words: bool


def locate(explicit: Path | None, *, environ: Mapping[str, str], folder: Path) -> Path | None:
    """The file to load: the one named by ``--config``, by ``LEGATO_CONFIG``, or ``legato.toml`` if it is there."""
    if explicit is not None:
        return explicit
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    usual = folder / FILE_NAME
    return usual if usual.is_file() else None


def load(
    *, flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Config:
    """Read everything once. ``flags`` are by their dotted key (``server.port``); one that is None was not given.

    Raises ``ConfigError``.
    """
    environ = {name: value for name, value in (environ or {}).items() if value}
    settings: dict[Key, Setting] = {}
    for setting in _from_file(file) if file is not None else ():
        settings[setting.key] = setting
    for setting in _from_vendors(environ):
        settings[setting.key] = setting
    for setting in _from_environ(environ, providers=_provider_names(settings), servers=_server_names(settings)):
        settings[setting.key] = setting
    for setting in _from_flags(flags or {}):
        settings[setting.key] = setting
    told = _from_mcp_file(settings)
    values = {key: _checked(setting) for key, setting in settings.items()}
    sources = {".".join(key): setting.source for key, setting in settings.items()}
    web = _with_search_key(_section(WebConfig, ("web",), values, sources), sources, environ)

    providers = {
        name: _provider(name, values, sources, environ) for name in _provider_names(settings) if name != SCRIPT
    }
    notices = _unused_keys(providers, sources, environ)
    return Config(
        server=_section(ServerConfig, ("server",), values, sources),
        providers=providers,
        script=_section(ScriptConfig, ("providers", SCRIPT), values, sources),
        tools=_section(ToolsConfig, ("tools",), values, sources),
        limits=_section(LimitsConfig, ("limits",), values, sources),
        storage=_section(StorageConfig, ("storage",), values, sources),
        formatters=_section(FormattersConfig, ("formatters",), values, sources),
        chat=_section(ChatConfig, ("chat",), values, sources),
        web=web,
        documents=_section(DocumentsConfig, ("documents",), values, sources),
        mcp=_section(McpConfig, ("mcp",), values, sources),
        mcp_servers={
            name: _section(McpServerConfig, ("mcp", name), values, sources) for name in _server_names(settings)
        },
        notices=(*notices, *told),
        sources=sources,
    )


# Layers


def _from_file(file: Path) -> Iterator[Setting]:
    source = str(file)
    try:
        document = tomllib.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: expected UTF-8, got something else at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: expected TOML: {error}") from error
    for key, raw in _leaves(document, source):
        if _field(key) is None:
            raise ConfigError(f"{source}: unknown key {'.'.join(key)}, {_nearest_key(key)}")
        if key[-1] == "api_key":
            raise ConfigError(
                f"{source}: {'.'.join(key)}: expected no key in a file that others may read: "
                "name a variable in api_key_env, or a file in api_key_file"
            )
        yield Setting(key, raw, source, words=False)


def _leaves(document: Mapping[str, object], source: str) -> Iterator[tuple[Key, object]]:
    """The values of the file at the depth where we have keys."""
    for section, table in document.items():
        if section != "providers" and section not in _SECTIONS:
            yield (section,), table
        elif not isinstance(table, dict):
            raise ConfigError(f"{source}: {section}: expected a table, got {_got(table)}")
        elif section == "mcp":
            yield from _mcp_leaves(table, source)
        elif section != "providers":
            yield from (((section, name), raw) for name, raw in table.items())
        else:
            for provider, inner in table.items():
                if not isinstance(inner, dict):
                    raise ConfigError(f"{source}: providers.{provider}: expected a table, got {_got(inner)}")
                if _PROVIDER_NAME.fullmatch(provider) is None:
                    raise ConfigError(
                        f"{source}: providers.{provider}: expected a name of a-z, 0-9, single - and _, got {provider!r}"
                    )
                if not inner and provider not in {*BUILTIN, SCRIPT}:
                    raise ConfigError(f"{source}: providers.{provider}: expected wire and base_url, got an empty table")
                yield from (((section, provider, name), raw) for name, raw in inner.items())


def _mcp_leaves(table: Mapping[str, object], source: str) -> Iterator[tuple[Key, object]]:
    for name, inner in table.items():
        if not isinstance(inner, dict):
            yield ("mcp", name), inner
            continue
        if not is_name(name):
            kinds = f"a-z, A-Z, 0-9, single - and _, at most {LONGEST_NAME}"
            raise ConfigError(f"{source}: mcp.{name}: expected a name of {kinds}, got {name!r}")
        if not inner:
            raise ConfigError(f"{source}: mcp.{name}: expected command or url, got an empty table")
        yield from ((("mcp", name, key), raw) for key, raw in inner.items())


def _from_mcp_file(settings: dict[Key, Setting]) -> tuple[str, ...]:
    """Add what the file of other hosts says and nothing else does; what is to be said of it."""
    named = settings.get(("mcp", "file"))
    if named is None or not isinstance(named.raw, str):
        return ()
    try:
        found = read_mcp_file(Path(named.raw))
    except ConfigError as error:
        raise ConfigError(f"{named.source}: mcp.file: {error}") from None
    for server, key, value in found.values:
        settings.setdefault(("mcp", server, key), Setting(("mcp", server, key), value, named.raw, words=False))
    return found.notices


def _from_vendors(environ: Mapping[str, str]) -> Iterator[Setting]:
    for variable, provider in VENDOR_URLS.items():
        if variable in environ:
            yield Setting(("providers", provider, "base_url"), environ[variable], variable, words=True)


def _from_environ(environ: Mapping[str, str], *, providers: Iterable[str], servers: Iterable[str]) -> Iterator[Setting]:
    # A variable cannot hold a dash, so LEGATO_PROVIDERS__MY_GROQ__SEAL is also for [providers.my-groq].
    named = {name.replace("-", "_"): name for name in providers}
    known = {name.replace("-", "_").lower(): name for name in servers}
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE or _is_of_kubernetes(variable, raw):
            continue
        key = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        if len(key) == 3 and key[0] == "providers":
            key = (key[0], named.get(key[1], key[1]), key[2])
            if _PROVIDER_NAME.fullmatch(key[1]) is None:
                raise ConfigError(f"{variable}: expected a provider's name of a-z, 0-9 and single _, got {key[1]!r}")
        if len(key) == 3 and key[0] == "mcp":
            key = (key[0], known.get(key[1], key[1]), key[2])
            if not is_name(key[1]):
                raise ConfigError(f"{variable}: expected a server's name of a-z, 0-9 and single _, got {key[1]!r}")
        if _field(key) is None:
            raise ConfigError(f"{variable}: unknown variable, {_nearest_variable(variable, named.values())}")
        yield Setting(key, raw, variable, words=True)


def _is_of_kubernetes(variable: str, raw: str) -> bool:
    return _KUBERNETES.fullmatch(variable) is not None or (variable == "LEGATO_PORT" and "://" in raw)


def _from_flags(flags: Mapping[str, object]) -> Iterator[Setting]:
    for dotted, raw in flags.items():
        key = tuple(dotted.split("."))
        if _field(key) is None:
            raise ConfigError(f"command line: unknown key {dotted}, {_nearest_key(key)}")
        if raw is not None:
            # Tools are named by what stands behind the command, all else by an option of the key's own name.
            source = "command line" if dotted == "tools.modules" else f"--{key[-1].replace('_', '-')}"
            yield Setting(key, str(raw) if isinstance(raw, Path) else raw, source, words=False)


# One value


def _field(key: Key) -> FieldInfo | None:
    match key:
        case ("providers", "script", name):
            return ScriptConfig.model_fields.get(name)
        case ("providers", _, name):
            return ProviderConfig.model_fields.get(name)
        case ("mcp", _, name):
            return McpServerConfig.model_fields.get(name)
        case (section, name) if section in _SECTIONS:
            return _SECTIONS[section].model_fields.get(name)
        case _:
            return None


def _checked(setting: Setting) -> object:
    """The value in the type of its key. Words may stand for other types, values of a file may not."""
    field = _field(setting.key)
    assert field is not None
    raw = setting.raw
    if get_origin(field.annotation) is tuple:
        raw = _listed(raw, words=setting.words)
    elif get_origin(field.annotation) is dict and setting.words:
        raw = _from_json(raw)
    adapter: TypeAdapter[object] = TypeAdapter(field.rebuild_annotation())
    try:
        return adapter.validate_python(raw, strict=not setting.words and setting.key[-1] != "api_key")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        got = MASK if setting.key[-1] in _MASKED else _got(first["input"])
        raise ConfigError(f"{setting.source}: {'.'.join(setting.key)}: {_expected(first['msg'])}, got {got}") from None


def _listed(raw: object, *, words: bool) -> object:
    """``a, b`` and ``["a", "b"]`` are lists where a variable holds them."""
    if isinstance(raw, list):
        return tuple(raw)
    if not words or not isinstance(raw, str):
        return raw
    if raw.lstrip().startswith("["):
        try:
            return tuple(json.loads(raw))
        except ValueError:
            return raw
    return tuple(part for part in (part.strip() for part in raw.split(",")) if part)


def _from_json(raw: object) -> object:
    """``{"name": "value"}`` where a variable holds it."""
    try:
        return json.loads(str(raw))
    except (ValueError, RecursionError):
        return raw


def _expected(message: str) -> str:
    """pydantic's message in our words."""
    message = message.removeprefix("Value error, ")
    if message.startswith("Input should be "):
        return "expected " + message.removeprefix("Input should be ").replace("a valid tuple", "a list").replace(
            "a valid dictionary", "a table of texts"
        )
    return message if message.startswith("expected ") else f"expected another value ({message})"


def _got(value: object) -> str:
    text = unsecret(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 80 else f"{text[:77]}..."


# Sections


def _section(model: type[_Model], prefix: Key, values: Mapping[Key, object], sources: Mapping[str, str]) -> _Model:
    given = {key[-1]: value for key, value in values.items() if key[:-1] == prefix}
    return _made(model, prefix, given, sources)


def _made(model: type[_Model], prefix: Key, given: Mapping[str, object], sources: Mapping[str, str]) -> _Model:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        path = ".".join(prefix)
        where = ", ".join(dict.fromkeys(sources[one] for name in given if (one := f"{path}.{name}") in sources))
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "missing":
            missing = " and ".join(str(one["loc"][-1]) for one in error.errors() if one["type"] == "missing")
            known = ", ".join([*BUILTIN, SCRIPT])
            raise ConfigError(f"{where}: {path} has no {missing}, and is none of the built-in {known}") from None
        raise ConfigError(f"{where}: {path}: {first['msg'].removeprefix('Value error, ')}") from None


def _provider_names(settings: Iterable[Key]) -> list[str]:
    """Built-in ones first, in the order in which they become the default, then the others as they are named."""
    return list(dict.fromkeys([*BUILTIN, *(key[1] for key in settings if key[0] == "providers")]))


def _server_names(settings: Iterable[Key]) -> list[str]:
    """Of MCP, as they are named: tables first, then the file of other hosts."""
    return list(dict.fromkeys(key[1] for key in settings if key[0] == "mcp" and len(key) == 3))


def _provider(
    name: str, values: Mapping[Key, object], sources: dict[str, str], environ: Mapping[str, str]
) -> ProviderConfig:
    prefix = ("providers", name)
    builtin = BUILTIN.get(name)
    given: dict[str, object] = {} if builtin is None else builtin.model_dump(exclude_unset=True)
    given |= {key[-1]: value for key, value in values.items() if key[:-1] == prefix}
    provider = _made(ProviderConfig, prefix, given, sources)
    if provider.api_key is None:
        provider = _with_key(name, provider, sources, environ)
    _usable_in_a_header(provider.api_key, sources.get(f"providers.{name}.api_key", ""))
    return provider


def _with_key(
    name: str, provider: ProviderConfig, sources: dict[str, str], environ: Mapping[str, str]
) -> ProviderConfig:
    """The key from where ``api_key_env``, then ``api_key_file`` say; without one the provider is not ready."""
    key, source = "", ""
    if provider.api_key_env is not None:
        key = environ.get(provider.api_key_env, "").strip()
        source = provider.api_key_env if key else f"{provider.api_key_env}, which is not set"
    if not key and provider.api_key_file is not None:
        source = provider.api_key_file
        key = _key_in(Path(provider.api_key_file), f"{sources[f'providers.{name}.api_key_file']}: providers.{name}")
    if source:
        sources[f"providers.{name}.api_key"] = source
    return provider.model_copy(update={"api_key": SecretStr(key)}) if key else provider


def _key_in(path: Path, where: str) -> str:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "expected UTF-8"
        raise ConfigError(f"{where}.api_key_file: {path}: {why}") from None
    if not key:
        raise ConfigError(f"{where}.api_key_file: {path}: expected a key, got an empty file")
    return key


def _usable_in_a_header(key: SecretStr | None, source: str) -> None:
    if key is not None and re.fullmatch(r"[!-~]+", key.get_secret_value()) is None:
        raise ConfigError(f"{source}: expected a key of visible ASCII characters, got white space or others in it")


def _with_search_key(web: WebConfig, sources: dict[str, str], environ: Mapping[str, str]) -> WebConfig:
    """The search engine that was named, or whose URL or key there is, and its key from where it is said to be."""
    keys = {variable: key for variable in SEARCH_KEYS if (key := environ.get(variable, "").strip())}
    search = web.search
    if search is None and web.searxng_url is not None:
        search, sources["web.search"] = "searxng", sources["web.searxng_url"]
    elif search is None and keys and web.api_key is None:
        variable = next(iter(keys))
        search, sources["web.search"] = SEARCH_KEYS[variable], variable
    web = web.model_copy(update={"search": search})
    given = [name for name in ("api_key", "api_key_env", "api_key_file") if getattr(web, name) is not None]
    if search is None and given:
        raise ConfigError(f"{sources[f'web.{given[0]}']}: web.{given[0]} is a search engine's: name it in web.search")
    if search == "searxng" and web.searxng_url is None:
        raise ConfigError(f"{sources['web.search']}: web.search is searxng: say where it answers in web.searxng_url")
    if search not in SEARCH_KEYS.values():
        return web
    if web.api_key is None:
        key, source = _search_key(
            web, {name: keys[name] for name in keys if SEARCH_KEYS[name] == search}, sources, environ
        )
        sources["web.api_key"] = source
        web = web.model_copy(update={"api_key": SecretStr(key)})
    _usable_in_a_header(web.api_key, sources["web.api_key"])
    return web


def _search_key(
    web: WebConfig, usual: Mapping[str, str], sources: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[str, str]:
    """The key and where it is from. A search engine that was named and has no key would refuse every search."""
    if web.api_key_env is not None:
        if key := environ.get(web.api_key_env, "").strip():
            return key, web.api_key_env
        if web.api_key_file is None:
            raise ConfigError(f"{sources['web.api_key_env']}: web.api_key_env: {web.api_key_env} is not set")
    if web.api_key_file is not None:
        return _key_in(Path(web.api_key_file), f"{sources['web.api_key_file']}: web"), web.api_key_file
    for variable, key in usual.items():
        return key, variable
    names = " or ".join(variable for variable, engine in SEARCH_KEYS.items() if engine == web.search)
    raise ConfigError(f"{sources['web.search']}: web.search is {web.search}, which has no key: set {names}")


def _unused_keys(
    providers: Mapping[str, ProviderConfig], sources: dict[str, str], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Gemini's key is one that people have set already; nothing can use it until its wire is built."""
    if GEMINI_KEY not in environ or any(provider.api_key_env == GEMINI_KEY for provider in providers.values()):
        return ()
    sources["unused.providers.gemini.api_key"] = f"{GEMINI_KEY}, not used: gemini's wire is not built yet"
    return (f"{GEMINI_KEY} is set and not used: gemini's wire is not built yet",)


# Nearest names


def _known_keys() -> list[str]:
    keys = [f"{section}.{name}" for section, model in _SECTIONS.items() for name in model.model_fields]
    keys += [f"providers.NAME.{name}" for name in ProviderConfig.model_fields if name != "api_key"]
    return [*keys, *(f"mcp.NAME.{name}" for name in McpServerConfig.model_fields)]


def _nearest_key(key: Key) -> str:
    """The known key that was most likely meant: first of the same section, then the same name elsewhere, then any."""
    dotted = ".".join(key)
    if len(key) > 1 and key[0] == "providers":
        names = ScriptConfig.model_fields if key[1] == SCRIPT else ProviderConfig.model_fields
        same = {name: ".".join([*key[:2], name]) for name in names if name != "api_key"}
    elif len(key) > 2 and key[0] == "mcp":
        same = {name: ".".join([*key[:2], name]) for name in McpServerConfig.model_fields}
    elif key[0] in _SECTIONS:
        same = {name: f"{key[0]}.{name}" for name in _SECTIONS[key[0]].model_fields}
    else:
        same = {section: section for section in [*_SECTIONS, "providers"]}
    if close := difflib.get_close_matches(key[-1], same, n=1):
        return f"nearest is {same[close[0]]}"
    known = _known_keys()
    elsewhere = [one for one in known if one.rpartition(".")[2] == key[-1]]
    if close := elsewhere or difflib.get_close_matches(dotted, known, n=1):
        return f"nearest is {close[0]}"
    return f"known here are {', '.join(same.values())}"


def _nearest_variable(variable: str, providers: Iterable[str]) -> str:
    keys = [key for key in _known_keys() if "NAME" not in key]
    keys += [f"providers.{name}.{field}" for name in providers for field in ProviderConfig.model_fields]
    known = [key.replace("-", "_").replace(".", "__").upper() for key in keys]
    asked = variable.removeprefix(PREFIX)
    elsewhere = [one for one in known if one.rpartition("__")[2] == asked]
    close = elsewhere or difflib.get_close_matches(asked, [*known, FILE_VARIABLE.removeprefix(PREFIX)], n=1)
    return f"nearest is {PREFIX}{close[0]}" if close else f"variables are called {PREFIX}SECTION__KEY"
