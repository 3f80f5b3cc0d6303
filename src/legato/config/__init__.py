"""One frozen Config, made once at start: flags over environment over legato.toml over defaults."""

from __future__ import annotations

from legato.config.load import load, locate
from legato.config.model import (
    ChatConfig,
    Config,
    FormattersConfig,
    LimitsConfig,
    McpConfig,
    McpServerConfig,
    ProviderConfig,
    Row,
    ScriptConfig,
    Seal,
    ServerConfig,
    StorageConfig,
    ToolsConfig,
    WebConfig,
    Wire,
)

__all__ = [
    "ChatConfig",
    "Config",
    "FormattersConfig",
    "LimitsConfig",
    "McpConfig",
    "McpServerConfig",
    "ProviderConfig",
    "Row",
    "ScriptConfig",
    "Seal",
    "ServerConfig",
    "StorageConfig",
    "ToolsConfig",
    "WebConfig",
    "Wire",
    "load",
    "locate",
]
