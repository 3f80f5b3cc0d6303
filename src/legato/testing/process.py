"""A server in a process of its own, which a test kills, stops and starts again on the same file.

```python
async with ServerProcess(tmp_path, "tools.py", environ=…) as server:  # `legato serve`; it listens at server.url
    await server.kill()                                                # as `kill -9`, or a machine that is gone
    await server.start()                                               # the same file, the same address
    await server.stop()                                                # SIGSTOP: it stands, its connections stay open
    server.go_on()
    assert await server.terminate() == 0                               # SIGTERM, and wait
```
However the block is left, no process is: what it started dies with it. Nothing waits without a bound, and what did not
happen is told with what the process has said.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio

from legato.testing.clock import JumpingClock

PATIENCE: Final = 30.0
"""A process has for whatever it is told; `legato serve` listens after half a second on an idle machine."""
LOOK_SECONDS: Final = 0.01
"""Between two looks at what a process has said and whether it lives."""
SHOWN: Final = 4000
"""Characters of what it said last, in an error."""
PORT: Final = "{port}"
"""Stands for the port in a command of one's own: 0 at the first start, later the one it had."""

_LISTENS: Final = re.compile(r"(https?://[^\s/]+:(\d+))\D")
_FOREIGN: Final = re.compile(r"LEGATO_|.*_API_KEY$|.*_BASE_URL$|.*_proxy$", re.IGNORECASE)


class ProcessFailed(Exception):
    """A process ended, or did not do what it was told in time. The message ends with what it said last."""


class ServerProcess:
    """``legato serve ARGUMENTS`` in ``folder``, on the database ``db`` there; or any ``command`` that says the URL it
    listens at, on stdout or stderr.

    ``environ`` is added to this process' own, of which keys of vendors, proxies and Legato's settings are left out: so
    that no test asks a real vendor. Of a ``clock`` it has the file, and goes by it: with a command of one's own see
    ``legato.testing.clock``. ``patience`` is how many seconds it has for whatever it is told.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        command: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        db: str | Path = "legato.db",
        clock: JumpingClock | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.folder = folder
        self.db = folder / db
        self.url = ""
        """Where it listens, once it was started; the same at every start."""
        serve = (*_served_by(clock), "--db", str(self.db), "--port", PORT)
        self._command = (*(command or serve), *arguments)
        self._environ = environ or {}
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Callable[[], object] | None = None
        self._log: Path | None = None
        self._heard = 0
        self._port = "0"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        """Also while it is stopped."""
        if self._process is None or self._process.poll() is not None:
            self._end()  # at once: its number may soon be another's
            return False
        return True

    @property
    def said(self) -> str:
        """All that it wrote to stdout and stderr, at every start."""
        return self._said_from(0)

    async def start(self) -> None:
        """Until it listens. Raises ``ProcessFailed``; then nothing of it runs."""
        if self.running:
            raise RuntimeError(f"process {self.pid} runs already: kill it, or terminate it")
        self._spawn()
        try:
            await self._until(self._listens, "say where it listens")
        except BaseException:
            self._end()
            raise

    async def kill(self) -> None:
        """SIGKILL, to it and to what it started; returns when it is gone. Nothing happens where it is gone already."""
        self._end()

    async def terminate(self) -> int:
        """SIGTERM; the exit code once it has ended, 0 for an orderly end. Raises ``ProcessFailed`` where it does not
        end, and then it is killed. One that is stopped goes on first."""
        self.send(signal.SIGTERM)
        self.go_on()
        return await self.ended()

    async def ended(self) -> int:
        """The exit code, negative for a signal, once it has ended. Raises ``ProcessFailed`` as ``terminate`` does."""
        process = self._running()
        try:
            await self._until(lambda: not self.running, "end")
        except ProcessFailed:
            self._end()
            raise
        return process.returncode

    async def stop(self) -> None:
        """SIGSTOP: returns when it stands."""
        process = self._running()
        self.send(signal.SIGSTOP)
        await self._until(lambda: not self.running or _stands(process), "stand still")

    def go_on(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Any signal, and no waiting; nothing where it has ended."""
        self._running().send_signal(number)

    def fill_disk(self, *, most: int = 0) -> None:
        """As on a full disk no file that it writes grows beyond ``most`` bytes, until ``free_disk``. Linux only."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (most, hard))

    def free_disk(self) -> None:
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard, hard))

    def _spawn(self) -> None:
        if self._log is None:
            descriptor, name = tempfile.mkstemp(prefix="server-", suffix=".log", dir=self.folder)
            os.close(descriptor)
            self._log = Path(name)
        self._heard = self._log.stat().st_size
        kept = {name: value for name, value in os.environ.items() if _FOREIGN.match(name) is None}
        if "PYTHONPATH" in kept:  # it runs in another folder, and must import what the test does
            kept["PYTHONPATH"] = os.pathsep.join(
                str(Path(one).absolute()) for one in kept["PYTHONPATH"].split(os.pathsep)
            )
        with self._log.open("ab") as log:
            # No await from here to the guard: a cancel cannot come between the process and whoever ends it.
            self._process = subprocess.Popen(  # noqa: S603  (a test's own command)
                [part.replace(PORT, self._port) for part in self._command],
                cwd=self.folder,
                env={**kept, "PYTHONUNBUFFERED": "1", **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = weakref.finalize(self, _kill, self._process)

    def _listens(self) -> bool:
        found = _LISTENS.search(self._said_from(self._heard))
        if found is None:
            if not self.running:
                raise self._failed(f"ended with {self._running().returncode} before it listened")
            return False
        self.url, self._port = found[1], found[2]
        return True

    def _said_from(self, byte: int) -> str:
        if self._log is None:
            return ""
        with self._log.open("rb") as log:
            log.seek(byte)
            return log.read().decode(errors="replace")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the process was not started")
        return self._process

    async def _until(self, true: Callable[[], bool], what: str) -> None:
        deadline = anyio.current_time() + self._patience
        while not true():
            if anyio.current_time() > deadline:
                raise self._failed(f"did not {what} within {self._patience:g} s")
            await anyio.sleep(LOOK_SECONDS)

    def _failed(self, what: str) -> ProcessFailed:
        said = self._said_from(self._heard)[-SHOWN:].strip() or "nothing"
        return ProcessFailed(f"`{' '.join(self._command)}` {what}; it said:\n{said}")

    def _end(self) -> None:
        if self._guard is not None:
            self._guard()


def _served_by(clock: JumpingClock | None) -> Sequence[str]:
    if clock is None:
        return (sys.executable, "-m", "legato", "serve")
    if clock.file is None:
        raise ValueError("another process needs a clock with a file: JumpingClock(tmp_path / 'clock')")
    return (sys.executable, "-m", "legato.testing.clock", str(clock.file), "legato", "serve")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, which is in its group. Called once."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM where only dead ones are left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


def _stands(process: subprocess.Popen[bytes]) -> bool:
    """It is stopped; or dead, which whoever looks next finds out."""
    pid, status = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
    if pid and not os.WIFSTOPPED(status):
        process.returncode = os.waitstatus_to_exitcode(status)
    return pid != 0
