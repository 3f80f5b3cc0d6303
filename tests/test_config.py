"""Every value has one place it came from; what is wrong is said with its place; a key is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from legato.config import Config, load, locate
from legato.config.mcp_file import MissingVariable, filled
from legato.core.errors import ConfigError

SECRET = "sk-very-secret-0123456789"
GROQ = """
[providers.groq]
wire = "openai_chat"
base_url = "https://api.groq.com/openai/v1/"
api_key_env = "GROQ_API_KEY"
seal = "object"
models = ["llama-3.3-70b-versatile"]
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteFile:
    monkeypatch.chdir(tmp_path)
    return WriteFile()


class WriteFile:
    def __call__(self, text: str) -> Path:
        file = Path("legato.toml")
        file.write_text(text, encoding="utf-8")
        return file


def rows(config: Config) -> dict[str, tuple[str, str]]:
    return {row.key: (row.shown, row.source) for row in config.rows()}


def without_sources(config: Config) -> Config:
    return config.model_copy(update={"sources": {}})


def test_without_anything_the_script_provider_answers_on_loopback() -> None:
    config = load()
    assert (config.server.host, config.server.port, config.server.db) == ("127.0.0.1", 8420, "legato.db")
    assert config.default_model == "script/demo"
    assert config.script_enabled
    assert without_sources(config) == Config()
    assert {source for _, source in rows(config).values()} == {
        "default",
        *(f"{name}_API_KEY, which is not set" for name in ("ANTHROPIC", "OPENAI", "OPENROUTER")),
    }


def test_flags_go_before_environment_before_file_before_defaults(written: WriteFile) -> None:
    file = written('[server]\nport = 1\nhost = "127.0.0.2"\ndb = "file.db"\n')
    environ = {"LEGATO_SERVER__PORT": "2", "LEGATO_SERVER__HOST": "127.0.0.3"}
    config = load(flags={"server.port": 3, "server.host": None}, environ=environ, file=file)
    shown = rows(config)
    assert shown["server.port"] == ("3", "--port")
    assert shown["server.host"] == ('"127.0.0.3"', "LEGATO_SERVER__HOST")
    assert shown["server.db"] == ('"file.db"', "legato.toml")
    assert shown["server.drain"] == ("30", "default")


def test_legatos_own_variable_goes_before_the_vendors_before_the_file(written: WriteFile) -> None:
    file = written('[providers.openai]\nbase_url = "https://file.example/v1"')
    environ = {"OPENAI_BASE_URL": "https://vendor.example/v1"}
    assert load(file=file).providers["openai"].base_url == "https://file.example/v1"
    assert load(file=file, environ=environ).providers["openai"].base_url == "https://vendor.example/v1"
    environ["LEGATO_PROVIDERS__OPENAI__BASE_URL"] = "https://own.example/v1"
    assert load(file=file, environ=environ).providers["openai"].base_url == "https://own.example/v1"


@pytest.mark.parametrize(
    ("environ", "model"),
    [
        ({"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "b"}, "anthropic/claude-sonnet-4-5"),
        ({"OPENROUTER_API_KEY": "c", "OPENAI_API_KEY": "b"}, "openai/gpt-5"),
        ({"OPENROUTER_API_KEY": "c"}, "openrouter/anthropic/claude-sonnet-4.5"),
        ({"OPENROUTER_API_KEY": "c", "LEGATO_SERVER__MODEL": "openai/o9"}, "openai/o9"),
        ({"LEGATO_PROVIDERS__OPENAI__API_KEY": "d"}, "openai/gpt-5"),
        ({"GEMINI_API_KEY": "e"}, "script/demo"),
        ({"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "  "}, "script/demo"),
    ],
)
def test_the_first_provider_with_a_key_chooses_the_model(environ: dict[str, str], model: str) -> None:
    config = load(environ=environ)
    assert config.default_model == model
    assert config.script_enabled == (model == "script/demo")


def test_a_provider_of_ones_own_has_its_key_from_the_variable_it_names(written: WriteFile) -> None:
    config = load(file=written(GROQ), environ={"GROQ_API_KEY": SECRET})
    groq = config.providers["groq"]
    assert groq.ready
    assert groq.api_key is not None
    assert groq.api_key.get_secret_value() == SECRET
    assert groq.base_url == "https://api.groq.com/openai/v1"
    assert config.default_model == "groq/llama-3.3-70b-versatile"
    assert not load(file=written(GROQ)).providers["groq"].ready


def test_a_provider_that_asks_for_no_key_is_ready_and_comes_after_those_with_one(written: WriteFile) -> None:
    local = '[providers.local]\nwire = "openai_chat"\nbase_url = "http://localhost:11434/v1"\nmodels = ["qwen3"]\n'
    config = load(file=written(local))
    assert config.providers["local"].ready
    assert config.default_model == "local/qwen3"
    assert config.script_enabled
    assert (
        load(file=written(local + GROQ), environ={"GROQ_API_KEY": "g"}).default_model == "groq/llama-3.3-70b-versatile"
    )


def test_the_script_provider_can_be_kept_and_can_be_switched_off(written: WriteFile) -> None:
    kept = load(file=written("[providers.script]\nenabled = true"), environ={"OPENAI_API_KEY": "k"})
    assert kept.script_enabled
    off = load(environ={"LEGATO_PROVIDERS__SCRIPT__ENABLED": "false"})
    assert not off.script_enabled
    assert off.default_model is None


def test_a_key_file_is_read_and_the_variable_goes_before_it(written: WriteFile) -> None:
    Path("key").write_text(f"{SECRET}\n", encoding="utf-8")
    file = written('[providers.openai]\napi_key_file = "key"')
    config = load(file=file)
    key = config.providers["openai"].api_key
    assert key is not None
    assert key.get_secret_value() == SECRET
    assert rows(config)["providers.openai.api_key"] == ('"********"', "key")
    both = load(file=file, environ={"OPENAI_API_KEY": "other"})
    assert rows(both)["providers.openai.api_key"] == ('"********"', "OPENAI_API_KEY")


def test_no_key_is_in_a_row_a_repr_or_a_message(written: WriteFile) -> None:
    file = written(GROQ)
    names = ["ANTHROPIC", "OPENAI", "GEMINI", "OPENROUTER", "GROQ", "LEGATO_PROVIDERS__GROQ_"]
    environ = {f"{name}_API_KEY": SECRET for name in names}
    environ["LEGATO_SERVER__DB"] = f"postgresql://me:{SECRET}@db.example/legato"
    config = load(file=file, environ=environ)
    assert SECRET not in repr(config)
    assert SECRET not in str(config.rows())
    assert SECRET not in str(config.notices)
    assert rows(config)["server.db"][0] == '"postgresql://me:********@db.example/legato"'
    with pytest.raises(ConfigError) as caught:
        load(environ={"OPENAI_API_KEY": f"{SECRET} and more"})
    assert SECRET not in str(caught.value)
    assert str(caught.value).startswith("OPENAI_API_KEY: expected a key of visible ASCII")


def test_geminis_key_is_recognised_and_said_to_be_of_no_use_yet(written: WriteFile) -> None:
    config = load(environ={"GEMINI_API_KEY": SECRET})
    assert config.notices == ("GEMINI_API_KEY is set and not used: gemini's wire is not built yet",)
    assert rows(config)["providers.gemini.api_key"] == (
        '"********"',
        "GEMINI_API_KEY, not used: gemini's wire is not built yet",
    )
    told = '[providers.gemini]\nwire = "openai_chat"\nbase_url = "https://g.example"\napi_key_env = "GEMINI_API_KEY"'
    used = load(file=written(told), environ={"GEMINI_API_KEY": SECRET})
    assert used.notices == ()
    assert used.providers["gemini"].ready


def test_a_list_in_a_variable_is_words_with_commas_or_json() -> None:
    environ = {"LEGATO_TOOLS__DEFAULT": "doc_*, get_weather", "LEGATO_SERVER__HOSTS": '["Chat.example.org"]'}
    config = load(environ=environ)
    assert config.tools.default == ("doc_*", "get_weather")
    assert config.server.hosts == ("chat.example.org",)


def test_a_variable_reaches_a_provider_whose_name_has_a_dash(written: WriteFile) -> None:
    file = written('[providers.my-groq]\nwire = "openai_chat"\nbase_url = "https://groq.example/v1"')
    config = load(file=file, environ={"LEGATO_PROVIDERS__MY_GROQ__SEAL": "next"})
    assert config.providers["my-groq"].seal == "next"


def test_a_provider_can_be_told_by_variables_alone() -> None:
    prefix = "LEGATO_PROVIDERS__NEAR__"
    config = load(environ={f"{prefix}WIRE": "anthropic", f"{prefix}BASE_URL": "http://[::1]:9", f"{prefix}MODELS": "m"})
    assert config.providers["near"].wire == "anthropic"
    assert config.default_model == "near/m"


def test_what_kubernetes_sets_for_a_service_named_legato_is_not_ours() -> None:
    environ = {
        "LEGATO_PORT": "tcp://10.0.0.1:8420",
        "LEGATO_PORT_8420_TCP_ADDR": "10.0.0.1",
        "LEGATO_SERVICE_HOST": "10.0.0.1",
        "LEGATO_SERVICE_PORT_HTTP": "8420",
        "LEGATO_CONFIG": "elsewhere.toml",
    }
    assert without_sources(load(environ=environ)) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", "legato.toml: unknown key server.prot, nearest is server.port"),
        ("[servr]\nport = 1", "legato.toml: unknown key servr, nearest is server"),
        ("model = 'x'", "legato.toml: unknown key model, nearest is server.model"),
        ("[storage]\nport = 1", "legato.toml: unknown key storage.port, nearest is server.port"),
        ("[auth]\nkeys = []", "legato.toml: unknown key auth, known here are server, tools,"),
        ("[providers.openai]\nsael = 'auto'", "unknown key providers.openai.sael, nearest is providers.openai.seal"),
        (
            "[providers.script]\nenable = true",
            "unknown key providers.script.enable, nearest is providers.script.enabled",
        ),
        ("[server]\nport = '8420'", 'legato.toml: server.port: expected a valid integer, got "8420"'),
        ("[server]\nport = true", "legato.toml: server.port: expected a valid integer, got true"),
        ("[server]\nport = 65536", "server.port: expected less than or equal to 65535, got 65536"),
        ("[limits]\nrounds = 0", "limits.rounds: expected greater than or equal to 1, got 0"),
        ("[limits]\nseconds = inf", "limits.seconds: expected a finite number, got Infinity"),
        ("[storage]\nsynchronous = 'off'", "storage.synchronous: expected 'normal' or 'full', got \"off\""),
        ("[tools]\ndefault = 'doc_*'", 'tools.default: expected a list, got "doc_*"'),
        ("[server]\ncors_origins = ['*']", "server.cors_origins: expected an exact origin, scheme://host[:port]"),
        ("[server]\ncors_origins = ['http://a.example/']", 'without a path and without *, got "http://a.example/"'),
        ("[server]\nhosts = ['https://a.example']", "server.hosts: expected a host name without scheme"),
        ("server = 1", "legato.toml: server: expected a table, got 1"),
        ("[providers]\ngroq = 1", "legato.toml: providers.groq: expected a table, got 1"),
        ("[providers.groq]\n", "providers.groq: expected wire and base_url, got an empty table"),
        ("[providers.'a/b']\nseal = 'auto'", "providers.a/b: expected a name of a-z, 0-9, single - and _, got 'a/b'"),
        ("[providers.groq]\nseal = 'auto'", "providers.groq has no wire and base_url, and is none of the built-in"),
        ("[providers.groq]\nwire = 'gemini'", "providers.groq.wire: expected 'anthropic' or 'openai_chat', got"),
        (f"[providers.groq]\napi_key = '{SECRET}'", "providers.groq.api_key: expected no key in a file that others"),
        (f"[providers.openai]\napi_key_env = '{SECRET}'", "api_key_env: expected the name of a variable, such as"),
        (f"[web]\napi_key_env = '{SECRET}'", "web.api_key_env: expected the name of a variable, such as"),
        ("[providers.openai]\napi_key_file = 'none'", "openai.api_key_file: none: No such file or directory"),
        ("[providers.openai]\nbase_url = 'api.example'", "expected a URL that begins with http:// or https://, got"),
        ("[providers.openai]\nbase_url = 'https://a:b@c.example'", "expected a URL without user and password"),
        ("[providers.anthropic]\nbase_url = 'https://a.example/v1/'", "appends /v1/messages, so leave /v1 out"),
        ("[server]\nhost = '0.0.0.0'", "server.host is 0.0.0.0, which is not loopback, and nothing asks who comes"),
        ("[server]\nhost = '0.0.0.0'\ninsecure_no_auth = true", "--insecure-no-auth and the names to answer"),
        ("[server", "legato.toml: expected TOML: "),
        ("[web]\nsearch = 'google'", "web.search: expected 'tavily', 'brave', 'searxng' or 'none', got \"google\""),
        ("[web]\nsearch = 'tavily'", "web.search is tavily, which has no key: set TAVILY_API_KEY"),
        ("[web]\nsearch = 'brave'", "which has no key: set BRAVE_API_KEY or BRAVE_SEARCH_API_KEY"),
        ("[web]\nsearch = 'searxng'", "web.search is searxng: say where it answers in web.searxng_url"),
        ("[web]\nsearch = 'brave'\napi_key_env = 'NONE'", "web.api_key_env: NONE is not set"),
        ("[web]\napi_key_env = 'MY'", "web.api_key_env is a search engine's: name it in web.search"),
        (f"[web]\napi_key = '{SECRET}'", "web.api_key: expected no key in a file that others"),
        (
            "[web]\nsearxng_url = 'localhost:8888'",
            "web.searxng_url: expected a URL that begins with http:// or https://",
        ),
        ("[web]\nallow_private = ['10.0.0.1/8']", "expected an address or a network, such as 10.1.0.0/16"),
        ("[web]\nallow_private = ['wiki.example']", "expected an address or a network, such as 10.1.0.0/16"),
        ("[web]\nallow_hosts = ['*.example']", "web.allow_hosts: expected a host name without scheme"),
        ("[web]\nfetch = 'yes'", "web.fetch: expected a valid boolean"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_place(written: WriteFile, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file=written(text))
    assert message in str(caught.value)
    assert "legato.toml" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LEGATO_SERVER__PROT", "1", "unknown variable, nearest is LEGATO_SERVER__PORT"),
        ("LEGATO_MODEL", "x/y", "unknown variable, nearest is LEGATO_SERVER__MODEL"),
        ("LEGATO_PORT", "9000", "unknown variable, nearest is LEGATO_SERVER__PORT"),
        ("LEGATO_PROVIDERS__OPENAI__SAEL", "auto", "unknown variable, nearest is LEGATO_PROVIDERS__OPENAI__SEAL"),
        ("LEGATO_PROVIDERS__A__B__SEAL", "auto", "unknown variable"),
        ("LEGATO_Q", "auto", "unknown variable, variables are called LEGATO_SECTION__KEY"),
        (
            "LEGATO_SERVER__PORT",
            "eighty",
            "server.port: expected a valid integer, unable to parse string as an integer",
        ),
        ("LEGATO_LIMITS__SECONDS", "-1", 'limits.seconds: expected greater than 0, got "-1"'),
        ("LEGATO_SERVER__INSECURE_NO_AUTH", "maybe", "server.insecure_no_auth: expected a valid boolean"),
        ("LEGATO_PROVIDERS__GROQ__SEAL", "object", "providers.groq has no wire and base_url"),
        ("ANTHROPIC_BASE_URL", "https://a.example/v1", "providers.anthropic: base_url is https://a.example/v1"),
        ("OPENAI_BASE_URL", f"https://me:{SECRET}@a.example", "expected a URL without user and password"),
    ],
)
def test_what_is_wrong_in_a_variable_is_said_with_its_name(variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={variable: value})
    assert str(caught.value).startswith(f"{variable}: ")
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_wrong_flag_is_named_as_it_was_given() -> None:
    with pytest.raises(ConfigError, match=r"--port: server\.port: expected less than or equal to 65535, got 99999"):
        load(flags={"server.port": 99999})
    with pytest.raises(ConfigError, match=r"command line: unknown key server\.prot, nearest is server\.port"):
        load(flags={"server.prot": 1})


def test_tools_named_behind_the_command_come_from_the_command_line() -> None:
    config = load(flags={"tools.modules": ["tools.py", "pkg.tools"], "server.db": Path("x.db")})
    assert rows(config)["tools.modules"] == ('["tools.py", "pkg.tools"]', "command line")
    assert config.server.db == "x.db"


def test_another_address_is_bound_only_on_purpose_and_with_names() -> None:
    flags = {"server.host": "0.0.0.0", "server.insecure_no_auth": True, "server.hosts": ["chat.example.org"]}
    assert load(flags=flags).server.host == "0.0.0.0"
    for host in ("127.0.0.9", "::1", "[::1]", "localhost", "me.localhost"):
        assert load(flags={"server.host": host}).server.loopback


def test_the_file_is_the_named_one_else_the_variables_else_the_usual_one(tmp_path: Path) -> None:
    named = {"LEGATO_CONFIG": "variable.toml"}
    assert locate(None, environ={}, folder=tmp_path) is None
    (tmp_path / "legato.toml").touch()
    assert locate(None, environ={}, folder=tmp_path) == tmp_path / "legato.toml"
    assert locate(None, environ=named, folder=tmp_path) == Path("variable.toml")
    assert locate(Path("flag.toml"), environ=named, folder=tmp_path) == Path("flag.toml")


def test_a_file_that_was_named_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: No such file or directory"):
        load(file=tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(b"[chat]\nsystem = '\xe9'")
    with pytest.raises(ConfigError, match="expected UTF-8, got something else at byte 17"):
        load(file=tmp_path / "latin.toml")


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load().server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("environ", "search", "key_from"),
    [
        ({}, "(not set)", "default"),
        ({"TAVILY_API_KEY": SECRET}, '"tavily"', "TAVILY_API_KEY"),
        ({"BRAVE_API_KEY": SECRET}, '"brave"', "BRAVE_API_KEY"),
        ({"BRAVE_SEARCH_API_KEY": SECRET}, '"brave"', "BRAVE_SEARCH_API_KEY"),
        ({"BRAVE_API_KEY": SECRET, "TAVILY_API_KEY": "t"}, '"tavily"', "TAVILY_API_KEY"),
        ({"BRAVE_API_KEY": SECRET, "TAVILY_API_KEY": "t", "LEGATO_WEB__SEARCH": "brave"}, '"brave"', "BRAVE_API_KEY"),
        ({"TAVILY_API_KEY": " "}, "(not set)", "default"),
        ({"TAVILY_API_KEY": SECRET, "LEGATO_WEB__SEARCH": "none"}, '"none"', "default"),
        ({"TAVILY_API_KEY": SECRET, "LEGATO_WEB__SEARXNG_URL": "http://localhost:8888"}, '"searxng"', "default"),
        ({"LEGATO_WEB__SEARCH": "brave", "LEGATO_WEB__API_KEY": SECRET}, '"brave"', "LEGATO_WEB__API_KEY"),
        ({"LEGATO_WEB__SEARCH": "brave", "LEGATO_WEB__API_KEY_ENV": "MY", "MY": SECRET}, '"brave"', "MY"),
    ],
)
def test_a_search_engine_is_chosen_by_its_url_or_key(environ: dict[str, str], search: str, key_from: str) -> None:
    config = load(environ=environ)
    shown = rows(config)
    assert shown["web.search"][0] == search
    assert shown["web.api_key"] == ("(not set)" if key_from == "default" else '"********"', key_from)
    assert SECRET not in f"{config!r} {shown}"


def test_a_search_engines_key_may_be_in_a_file(written: WriteFile) -> None:
    Path("key").write_text(f"{SECRET}\n", encoding="utf-8")
    config = load(file=written('[web]\nsearch = "tavily"\napi_key_file = "key"'))
    assert config.web.api_key is not None
    assert config.web.api_key.get_secret_value() == SECRET
    assert rows(config)["web.api_key"] == ('"********"', "key")


def test_networks_are_read_as_networks(written: WriteFile) -> None:
    file = written('[web]\nallow_private = ["10.1.0.0/16", "::1", "127.0.0.1"]\nallow_hosts = ["Wiki.example"]')
    web = load(file=file).web
    assert web.allow_private == ("10.1.0.0/16", "::1/128", "127.0.0.1/32")
    assert web.allow_hosts == ("wiki.example",)


def test_every_key_has_a_row_and_every_row_of_the_file_could_be_written_back(written: WriteFile) -> None:
    config = load(environ={"OPENAI_API_KEY": SECRET})
    lines: dict[str, list[str]] = {}
    for key, shown, _ in config.rows():
        section, _, name = key.rpartition(".")
        if name != "api_key" and shown != "(not set)":
            lines.setdefault(section, []).append(f"{name} = {shown}")
    text = "\n".join(f"[{section}]\n" + "\n".join(values) for section, values in lines.items())
    again = load(file=written(text), environ={"OPENAI_API_KEY": SECRET})
    assert without_sources(again) == without_sources(config)


def test_a_server_of_mcp_is_told_by_a_table_and_by_variables(written: WriteFile) -> None:
    file = written('[mcp.my-files]\ncommand = "npx"\nargs = ["-y", "${PACKAGE}"]\nenv = { TOKEN = "s3cret" }')
    environ = {
        "LEGATO_MCP__MY_FILES__TRUST_HINTS": "yes",
        "LEGATO_MCP__WEB__URL": "https://mcp.example/mcp?key=s3cret",
        "LEGATO_MCP__WEB__HEADERS": '{"Authorization": "Bearer s3cret"}',
        "LEGATO_MCP__WEB__DENY": "delete_*, drop",
    }
    config = load(file=file, environ=environ)
    assert list(config.mcp_servers) == ["my-files", "web"]
    assert config.mcp_servers["my-files"].args == ("-y", "${PACKAGE}")
    assert config.mcp_servers["my-files"].trust_hints
    assert config.mcp_servers["web"].headers == {"Authorization": "Bearer s3cret"}
    assert config.mcp_servers["web"].deny == ("delete_*", "drop")
    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(config.rows())
    assert rows(config)["mcp.my-files.env"] == ('{"TOKEN" = "********"}', str(file))


def test_the_file_of_another_host_is_read_and_a_table_goes_before_it(written: WriteFile, tmp_path: Path) -> None:
    other = tmp_path / "mcp.json"
    other.write_text(
        '{"mcpServers": {"My Files": {"command": "files", "args": ["/tmp"], "env": {"A": "b"}, "autoApprove": []},'
        ' "web": {"type": "http", "url": "https://mcp.example/mcp", "headers": {"X": "y"}},'
        ' "off": {"command": "off", "disabled": true}, "none": {"comand": "x"}, "old": {"type": "sse", "url": "https://old.example/sse"}}}'
    )
    config = load(file=written(f'[mcp]\nfile = "{other}"\n[mcp.web]\nurl = "https://mine.example"\ntimeout = 5'))
    assert list(config.mcp_servers) == ["web", "My-Files"]
    assert config.mcp_servers["web"].url == "https://mine.example"
    assert config.mcp_servers["web"].timeout == 5
    assert config.mcp_servers["web"].headers == {"X": "y"}
    assert config.mcp_servers["My-Files"].args == ("/tmp",)
    assert rows(config)["mcp.My-Files.command"] == ('"files"', str(other))
    assert config.notices == (
        f"{other}: My Files: autoApprove is not read",
        f"{other}: none: expected command or url",
        f"{other}: none: comand is not read",
        f"{other}: old is of type sse, the HTTP of 2024, which is not spoken: look for its newer url",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mcp.a]\n", "mcp.a: expected command or url, got an empty table"),
        ("[mcp.a]\ntimeout = 5", "mcp.a: expected command or url, one of them"),
        ("[mcp.a]\ncommand = 'x'\nurl = 'http://x'", "mcp.a: expected command or url, one of them"),
        ("[mcp.a]\nurl = 'http://x'\nargs = ['y']", "mcp.a: args is for command, which is not given"),
        ("[mcp.a]\ncommand = 'x'\nheaders = { a = 'b' }", "mcp.a: headers is for url, which is not given"),
        ("[mcp.a]\nurl = 'x'", "mcp.a.url: expected a URL that begins with http:// or https://"),
        ("[mcp.a]\ncomand = 'x'", "unknown key mcp.a.comand, nearest is mcp.a.command"),
        ("[mcp.a__b]\ncommand = 'x'", "mcp.a__b: expected a name of a-z, A-Z, 0-9, single - and _, at most 32"),
        ("[mcp]\nfil = 'x'", "unknown key mcp.fil, nearest is mcp.file"),
        ("[mcp]\nfile = 'none.json'", "legato.toml: mcp.file: none.json: No such file or directory"),
        ("[mcp.a]\ncommand = 'x'\nenv = 's3cret'", "mcp.a.env: expected a table of texts, got ********"),
    ],
)
def test_what_is_wrong_with_a_server_of_mcp_is_said_with_its_place(written: WriteFile, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file=written(text))
    assert message in str(caught.value)
    assert "legato.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON: "),
        ("[]", 'expected {"mcpServers": {"NAME": {"command": …} or {"url": …}}}'),
        ('{"mcpServers": {"a": []}}', "a: expected an object with command or url"),
        ('{"servers": {"…": {"command": "x"}}}', "cannot be a server's name: expected letters and digits"),
        ('{"servers": {"a": {"command": 5}}}', "mcp.a.command: expected a valid string, got 5"),
    ],
)
def test_what_is_wrong_in_the_file_of_another_host_is_said(
    written: WriteFile, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "mcp.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file=written(f'[mcp]\nfile = "{tmp_path / "mcp.json"}"'))
    assert message in str(caught.value)
    assert "mcp.json" in str(caught.value)


def test_a_text_names_variables_and_what_to_take_without_them() -> None:
    environ = {"TOKEN": "t", "EMPTY": ""}
    assert filled("Bearer ${TOKEN} ${env:TOKEN} $TOKEN", environ) == "Bearer t t $TOKEN"
    assert filled("${NONE:-other} ${EMPTY:-}", environ) == "other "
    with pytest.raises(MissingVariable, match="NONE"):
        filled("x ${NONE}", environ)
