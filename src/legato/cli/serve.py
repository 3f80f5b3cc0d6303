"""`legato serve`: from flags to a running server, and what is said when it cannot run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path

from legato.cli.failures import MISUSED, Failed
from legato.cli.settings import configured
from legato.compose import run_server
from legato.core.errors import ConfigError
from legato.observability import configure_logging


def serve(flags: Mapping[str, object], *, file: Path | None) -> int:
    """Serve until a signal comes; the exit code. ``flags`` are by their dotted key."""
    config = configured(flags, file=file)
    configure_logging()
    try:
        return _on_uvloop(run_server(config, say=_say))
    except ConfigError as error:
        raise Failed(error.message, exit_code=MISUSED) from error


def _say(line: str) -> None:
    # Whoever waits for the first line reads it from a pipe as well: at once.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _on_uvloop(main: Coroutine[None, None, int]) -> int:
    try:
        import uvloop
    except ImportError:  # it is not made for Windows
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
