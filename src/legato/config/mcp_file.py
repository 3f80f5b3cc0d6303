"""``mcpServers`` as other hosts write it, in JSON; and values that name variables.

People have such a file already, from Claude Desktop, VS Code and others. What it says of a server is read as if it
stood in ``[mcp.NAME]``; what else stands in it is for other hosts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from legato.core.errors import ConfigError

NAME = re.compile(r"[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*")
"""Of a server. Without ``__``, which stands between it and a tool's name."""
LONGEST_NAME = 32
"""Characters: half of what a tool's name may have."""

_READ = ("command", "args", "env", "cwd", "url", "headers")
_PASSED_OVER = {"type", "transport", "disabled", "enabled", "description", "name"}
_REFERENCE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class FileValue(NamedTuple):
    """``server`` is its name made to fit."""

    server: str
    key: str
    value: object


class McpFile(NamedTuple):
    values: tuple[FileValue, ...]
    notices: tuple[str, ...]


def is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None and len(name) <= LONGEST_NAME and name != "file"


def read_mcp_file(path: Path) -> McpFile:
    """Raises ``ConfigError`` for a file that is not there, or is not of that shape."""
    values: list[FileValue] = []
    notices: list[str] = []
    for name, entry in _servers(path).items():
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: {name}: expected an object with command or url")
        if entry.get("disabled") is True or entry.get("enabled") is False:
            continue
        if entry.get("type", entry.get("transport")) == "sse":
            notices.append(
                f"{path}: {name} is of type sse, the HTTP of 2024, which is not spoken: look for its newer url"
            )
            continue
        values += [FileValue(_fitting(name, path), key, entry[key]) for key in _READ if key in entry]
        if not any(key in entry for key in _READ):  # else the server's own checks say what is missing
            notices.append(f"{path}: {name}: expected command or url")
        notices += [f"{path}: {name}: {key} is not read" for key in entry if key not in {*_READ, *_PASSED_OVER}]
    return McpFile(tuple(values), tuple(notices))


def _servers(path: Path) -> dict[str, object]:
    try:
        document: object = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8, got something else at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected JSON: {error}") from error
    servers = None
    if isinstance(document, dict):
        servers = document.get("mcpServers", document.get("servers"))
    if not isinstance(servers, dict):
        raise ConfigError(f'{path}: expected {{"mcpServers": {{"NAME": {{"command": …}} or {{"url": …}}}}}}')
    return servers


def _fitting(name: str, path: Path) -> str:
    fitting = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")[:LONGEST_NAME].strip("-")
    name = name if is_name(name) else fitting
    if not is_name(name):
        raise ConfigError(f"{path}: {name!r} cannot be a server's name: expected letters and digits")
    return name


class MissingVariable(Exception):
    """A value names a variable that is not set."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def filled(text: str, environ: Mapping[str, str]) -> str:
    """With the values of ``${NAME}``, ``${NAME:-otherwise}`` and ``${env:NAME}`` in it. Raises ``MissingVariable``."""

    def value(found: re.Match[str]) -> str:
        known = environ.get(found[1]) or found[2]
        if known is None:
            raise MissingVariable(found[1])
        return known

    return _REFERENCE.sub(value, text)
