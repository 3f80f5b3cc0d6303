"""The configuration as a command reads it: flags over environment over file over defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from legato.cli.failures import MISUSED, Failed
from legato.config import Config, load, locate
from legato.core.errors import ConfigError


def configured(flags: Mapping[str, object], *, file: Path | None) -> Config:
    """Raises ``Failed`` with the sentence that names what is wrong and where it stands."""
    try:
        found = locate(file, environ=os.environ, folder=Path.cwd())
        return load(flags=flags, environ=os.environ, file=found)
    except ConfigError as error:
        raise Failed(error.message, exit_code=MISUSED) from error
