"""The server under measure: `legato serve` as a child process, on its own core, talking to an upstream of ours."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import msgspec

SERVE = (sys.executable, "-m", "legato", "serve")
READY_WITHIN = 20.0  # seconds
STOP_WITHIN = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


class Child(msgspec.Struct, frozen=True):
    """A running process and the port it listens on."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """User and system time it has used so far, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cores() -> tuple[set[int], set[int]]:
    """Where the server runs, and where everything else does; the same where there is one core only."""
    mine = sorted(os.sched_getaffinity(0))
    return {mine[0]}, set(mine[1:]) or set(mine)


@contextmanager
def pinned(core: set[int]) -> Iterator[None]:
    """This process on these cores; its children inherit them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    command: Sequence[str], *, port: int, ready: str, env: Mapping[str, str], cwd: Path, core: set[int] | None = None
) -> Iterator[Child]:
    """The command, once ``ready`` is answered with 200; ended by SIGTERM. What it wrote is shown if it fails."""
    log = cwd / f"{Path(command[-1]).name}-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, **env},
            cwd=cwd,
            stdout=out,
            stderr=out,
        )
        try:
            if core:
                os.sched_setaffinity(process.pid, core)  # its threads are yet to come, and inherit it
            _until_ready(process, port, ready, log)
            yield Child(process.pid, port)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_ready(process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urlopen(f"http://127.0.0.1:{port}{ready}", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.02)
    raise RuntimeError(f"the server was not ready within {READY_WITHIN} s; it wrote:\n{log.read_text()[-4000:]}")


@contextmanager
def legato(
    *,
    upstream: str,
    tools: str = "",
    core: set[int] | None = None,
    db: Path | None = None,
    client: str = "aiohttp",
    limits: Sequence[tuple[str, int]] = (),
    serve: Sequence[str] = SERVE,
) -> Iterator[Child]:
    """`legato serve` with both wires going to ``upstream`` (a URL without ``/v1``) by one of the two HTTP clients,
    storing in one SQLite file. ``limits`` by their names in the configuration; ``serve`` is what stands in the place of
    `legato serve`."""
    with tempfile.TemporaryDirectory(prefix="legato-bench-", ignore_cleanup_errors=True) as folder:
        cwd = Path(folder)
        (cwd / "tools.py").write_text(tools)
        port = free_port()
        env = {
            "ANTHROPIC_API_KEY": "bench",
            "ANTHROPIC_BASE_URL": upstream,
            "OPENAI_API_KEY": "bench",
            "OPENAI_BASE_URL": f"{upstream}/v1",
            "LEGATO_PROVIDERS__OPENAI__SEAL": "object",
            "LEGATO_PROVIDERS__ANTHROPIC__CLIENT": client,
            "LEGATO_PROVIDERS__OPENAI__CLIENT": client,
            "LEGATO_LIMITS__RUNNING_TURNS": "5000",
            **{f"LEGATO_LIMITS__{name.upper()}": str(number) for name, number in limits},
        }
        command = [*serve, *(["tools.py"] if tools else [])]
        command += ["--port", str(port), "--db", str(db or cwd / "bench.db"), "--drain", "1"]
        with running(command, port=port, ready="/readyz", env=env, cwd=cwd, core=core) as child:
            yield child
