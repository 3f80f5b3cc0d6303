"""The command line: `legato serve`, and what people ask of a server, of its file and of their settings (docs/cli.md).

Only `serve` and the reading of a database file know the server's insides; all else is a client of docs/http.md. What is
heavy is imported where it is used, so that `legato --help` answers within 150 ms.
"""

from __future__ import annotations

from legato.cli.commands import main

__all__ = ["main"]
