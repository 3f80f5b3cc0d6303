"""Real processes: `legato` as a person runs it, its server, and a keyboard and screen for it."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

LEGATO = [sys.executable, "-m", "legato"]
PATIENCE = 40.0
"""Seconds until a test gives up on what should have happened."""


def environment(**more: str) -> dict[str, str]:
    """Ours without keys, settings and colours that somebody may have set."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LEGATO_") and not re.search(r"_API_KEY$|_BASE_URL$", name)
    }
    return kept | {"PYTHONUNBUFFERED": "1", "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"} | more


def legato(*args: str, cwd: Path, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(
        [*LEGATO, *args],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **given,
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Running:
    """A command that runs. What it said is read as it comes, and never waited for longer than ``PATIENCE``."""

    def __init__(self, *args: str, cwd: Path, **env: str) -> None:
        self.process = subprocess.Popen(
            [*LEGATO, *args],
            cwd=cwd,
            env=environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.said = ""
        self.complained = ""
        self._decoders = [codecs.getincrementaldecoder("utf-8")() for _ in range(2)]

    def until(self, text: str) -> str:
        """What was said up to and with ``text``, which must come."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.said:
            assert self._read(deadline), f"expected {text!r}, got {self.said!r} and {self.complained!r}"
        return self.said

    def until_there_is(self, file: Path) -> None:
        """For a command that goes on talking."""
        deadline = time.monotonic() + PATIENCE
        while not file.exists():
            assert self._read(deadline), f"expected {file}, got {self.said!r} and {self.complained!r}"

    def until_complaint(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.complained:
            assert self._read(deadline), f"expected {text!r}, got {self.said!r} and {self.complained!r}"

    def end(self) -> int:
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(timeout=max(1.0, deadline - time.monotonic()))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def _read(self, deadline: float) -> bool:
        """Something more, from either; False when both have ended, or time has."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        streams = [one for one in (self.process.stdout, self.process.stderr) if not one.closed]
        ready = select.select(streams, [], [], max(0.0, deadline - time.monotonic()))[0] if streams else []
        for one in ready:
            data = os.read(one.fileno(), 65536)
            if not data:
                one.close()
            elif one is self.process.stdout:
                self.said += self._decoders[0].decode(data)
            else:
                self.complained += self._decoders[1].decode(data)
        return bool(ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for one in (self.process.stdout, self.process.stderr):
            if one is not None:
                one.close()


class Server(Running):
    """`legato serve`, and what a test asks it without the command line."""

    def __init__(self, *args: str, cwd: Path, port: int = 0, **env: str) -> None:
        super().__init__("serve", "--port", str(port), *args, cwd=cwd, **env)
        self.url = ""
        self.db = str(cwd / "legato.db")

    def __enter__(self) -> Self:
        try:
            found = None
            while found is None:
                assert self._read(time.monotonic() + PATIENCE), self.complained
                found = re.search(r"http://\S+(?=\n)", self.said)
        except BaseException:
            super().__exit__()
            raise
        self.url = found[0]
        return self

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)

    def start(self, *steps: object, **more: object) -> str:
        """Start a turn that plays these steps; its id."""
        started = self.ask("POST", "/v1/turns", {"input": script(*steps), "model": "script/echo"} | more)
        return str(started["assistant_turn"]["id"])

    def play(self, *steps: object, **more: object) -> str:
        """The same, to its end."""
        turn_id = self.start(*steps, **more)
        with urllib.request.urlopen(f"{self.url}/v1/turns/{turn_id}/events", timeout=PATIENCE) as response:
            response.read()
        return turn_id

    def until_draining(self) -> None:
        """It has taken note of the first Ctrl-C: no turn is accepted any more."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                self.play({"text": "?"})
            except urllib.error.HTTPError as refusal:
                refusal.close()
                return
            except ConnectionError:
                return
        raise AssertionError("it goes on as if nothing had been said")

    def stop(self) -> int:
        self.signal(signal.SIGINT)
        return self.end()


def script(*steps: object) -> str:
    return "```script\n" + "\n".join(json.dumps(step) for step in steps) + "\n```"


class Typing:
    """A command on a terminal of its own."""

    def __init__(self, *args: str, cwd: Path, **env: str) -> None:
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(sys.executable, [*LEGATO, *args], environment(**env))
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._seen = 0
        self._exit_code: int | None = None

    def until(self, text: str) -> str:
        """What was shown since the last ``until``, up to ``text``, which must come."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown[self._seen :]:
            assert self._read(deadline), f"expected {text!r}, got {self.shown[self._seen :]!r}"
        start, self._seen = self._seen, self.shown.index(text, self._seen) + len(text)
        return self.shown[start : self._seen]

    def type(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def end(self) -> int:
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        while self._exit_code is None:
            assert time.monotonic() < deadline, f"it does not end: {self.shown[-500:]!r}"
            self._wait(0.05)
        return self._exit_code

    def _wait(self, seconds: float) -> None:
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended:
            self._exit_code = os.waitstatus_to_exitcode(status)
        else:
            select.select([], [], [], seconds)

    def _read(self, deadline: float) -> bool:
        if not select.select([self._screen], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._screen, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            data = b""
        self.shown += self._decoder.decode(data)
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._screen)
