"""What a reader of the pages has in front of them: a folder with the project's command in it, a server in a process of
its own, a vendor on a local port in place of the real ones; and their shell.

The pages' lines are run as they stand. Only what differs on every machine is replaced: the port, and the ids that the
pages call ``TURN`` and ``CHAT``.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.docs.pages import ROOT

from legato.testing.upstream import Answer, Call, Request, Say, Script, Think, Upstream, round_of

PAGES_URL = "http://127.0.0.1:8420"
"""Where the pages' own server is."""
BOUND = 30.0
"""Seconds after which a command that has not ended has failed."""

_CLIENTS = ("chat", "ls", "show", "tail")


class Desk(NamedTuple):
    """A folder to work in, with ``examples`` and ``.venv/bin/legato``, and the environment that goes with it."""

    folder: Path
    environ: Mapping[str, str]


def answer(request: Request) -> Answer:
    """A turn as the pages tell it: it thinks, talks, asks the tools it has, and answers at length."""
    tools = [tool.get("name") or tool["function"]["name"] for tool in request.body.get("tools", ())]
    calls = [
        Call(name, arguments)
        for name, arguments in (
            ("get_weather", {"city": "Oslo"}),
            ("doc_search", {"query": "dragon"}),
            ("doc_view", {"section": "the-cave"}),
        )
        if name in tools
    ]
    if round_of(request) == 0 and calls:
        return Script([Think("Let me see."), Say("I will look."), *calls, Say("Meanwhile I go on talking.")])
    return Script([Say("Here is what I found, and it is a long story. " * 12)])


def vendor_environ(upstream: Upstream) -> dict[str, str]:
    """The vendor's own variables, pointed at the upstream."""
    return {"ANTHROPIC_API_KEY": "a-key", "ANTHROPIC_BASE_URL": upstream.base_url("anthropic")}


@contextmanager
def desk(folder: Path, environ: Mapping[str, str]) -> Iterator[Desk]:
    """Without the machine's own keys, so that nothing here ever asks a real vendor."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / ".venv" / "bin").mkdir(parents=True)
    command = folder / ".venv" / "bin" / "legato"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m legato "$@"\n')
    command.chmod(0o755)
    foreign = re.compile(r"LEGATO_|.*_API_KEY$|.*_BASE_URL$|.*_proxy$", re.IGNORECASE)
    mine = {name: value for name, value in os.environ.items() if foreign.match(name) is None}
    yield Desk(folder, {**mine, **environ})


class Running(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    said: Sequence[str]


@contextmanager
def server(at: Desk, *arguments: str, port: int = 0) -> Iterator[Running]:
    """``legato serve …`` on a free port, or this one, from its first lines on; stopped by Ctrl-C at the end."""
    command = [sys.executable, "-m", "legato", "serve", *arguments, "--port", str(port), "--drain", "0"]
    with subprocess.Popen(command, cwd=at.folder, env=at.environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = [process.stdout.readline().rstrip("\n") for _ in range(4)]
            url = said[0].rpartition(" ")[2]
            assert url.startswith("http://"), said
            yield Running(process, url, said)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(BOUND)
            finally:
                process.kill()


class Shell:
    """Runs blocks one after another; each may name ids that came up in the output of those before."""

    def __init__(self, at: Desk, url: str) -> None:
        self._at = at
        self._url = url
        self._ids: dict[str, str] = {}

    def run(self, lines: str, *, bound: float = BOUND) -> str:
        """Standard output; every command of the block must succeed."""
        lines = lines.replace(PAGES_URL, self._url)
        for name, value in self._ids.items():
            lines = re.sub(rf"\b{name}\b", value, lines)
        client = rf"^(\.venv/bin/legato (?:{'|'.join(_CLIENTS)})\b)"
        lines = re.sub(client, rf"\1 --url {self._url}", lines, flags=re.MULTILINE)
        done = subprocess.run(
            ["bash", "-euc", lines],
            cwd=self._at.folder,
            env=self._at.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=bound,
            check=False,
        )
        assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}"
        for name in ("turn", "chat", "call"):
            if found := re.findall(rf'"{name}_id":"([\w-]+)"', done.stdout):
                self._ids[name.upper()] = found[-1]
        return done.stdout
