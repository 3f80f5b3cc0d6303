"""Somebody else at the database: a process that is in the middle of a write."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.patience import BOUND


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another process is in the middle of a write."""
    source = (
        "import sqlite3, sys\n"
        "held = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "held.execute('BEGIN IMMEDIATE')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
        "held.execute('COMMIT')\n"
    )
    command = [sys.executable, "-c", source, str(folder / "legato.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.stdin.close()
            assert holder.wait(BOUND) == 0
