"""Commands that one command tells a person to type next. They reach the server that was talked to."""

from __future__ import annotations

from typing import Final

from legato.cli.untrusted import clean

DEFAULT_URL: Final = "http://127.0.0.1:8420"


def hint(command: str, *words: str, url: str) -> str:
    """``legato COMMAND WORDS``, with ``--url`` where that is not the one a command takes by itself."""
    said = ["legato", command, *words]
    if url.rstrip("/") != DEFAULT_URL:
        said += ["--url", url]
    return clean(" ".join(said))
