"""HTML to Markdown beside the server: a process for each page, killed when its time is up (``page_worker.py``).

A thread could not be stopped, and while it parses every turn would wait for the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from legato.core.errors import ConfigError, ToolError

_log = logging.getLogger(__name__)

_WORKER = Path(__file__).with_name("page_worker.py")
_AT_ONCE = 4
"""Pages: each takes a core and 20 to 300 MB while it is read."""
SECONDS = 10
"""For one page: a megabyte of honest HTML takes one."""
_MEMORY = 1_073_741_824
"""Bytes of address space of the process, where the system bounds it."""
CHARACTERS = 2_000_000
"""Of the Markdown that is kept of a page."""
# Each thread waits for one process: more pages than threads wait for a place, which counts as their call's time.
_threads = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="legato-web-page")


class Page(msgspec.Struct, frozen=True):
    """A page as it is read. ``cut`` where it is longer than ``CHARACTERS``."""

    title: str
    text: str
    cut: bool = False


def check_installed() -> None:
    """Raises ``ConfigError`` where the extra is missing."""
    if importlib.util.find_spec("justhtml") is None:
        raise ConfigError("web.fetch reads HTML with justhtml, which is not installed: pip install 'legato[web]'")


async def page_of(html: str, url: str, *, seconds: float = SECONDS) -> Page:
    """Raises ``ToolError`` with code ``web_unreadable``. Cancel it to end the process."""
    worker = _Worker(html, url, seconds)
    try:
        data = await asyncio.get_running_loop().run_in_executor(_threads, worker.run)
    finally:
        worker.stop()
    if data is None:
        raise ToolError(f"{url} is HTML that cannot be read within {seconds:g} s", code="web_unreadable")
    try:
        return msgspec.json.decode(data, type=Page)
    except msgspec.DecodeError as error:
        raise ToolError(f"{url} is HTML that cannot be read", code="web_unreadable") from error


class _Worker:
    """One process. ``run`` is called in a thread and ``stop`` from anywhere, before it, meanwhile or after."""

    def __init__(self, html: str, url: str, seconds: float) -> None:
        self._html = html
        self._seconds = seconds
        head = {"url": url, "memory": _MEMORY, "seconds": int(seconds) + 1, "characters": CHARACTERS}
        self._head = json.dumps(head).encode() + b"\n"
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()

    def run(self) -> bytes | None:
        """What it wrote, empty where it failed; None where its time was up."""
        if self._stopped.is_set():
            return b""
        command = [sys.executable, "-P", str(_WORKER)]
        with subprocess.Popen(  # noqa: S603 - our own file, by our own interpreter
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # a Ctrl-C in the terminal is for the server, which drains
        ) as process:
            self._process = process
            if self._stopped.is_set():  # between the first look and the start
                process.kill()
            try:
                data, said = process.communicate(
                    self._head + self._html.encode(errors="replace"), timeout=self._seconds
                )
            except subprocess.TimeoutExpired:
                process.kill()
                return None
            if process.returncode != 0 and not self._stopped.is_set():
                last = said.decode(errors="replace").strip().rpartition("\n")[2][:200] or "it said nothing"
                _log.warning("the process that reads a page ended with %d: %s", process.returncode, last)
            return data

    def stop(self) -> None:
        self._stopped.set()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
