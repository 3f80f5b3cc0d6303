"""Who runs a turn, and whether it still lives.

Leases by the database's clock come with takeover between machines; until then an owner names its process, and a turn
is ended as interrupted only where that process is surely gone.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """``host:pid:start``, where start tells this process from a later one of the same number."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid()) or 0}"


def is_gone(owner: str | None) -> bool:
    """True only if the process is known not to run any more. Of another machine nothing is known."""
    if owner is None:
        return True
    host, _, rest = owner.rpartition(":")
    host, _, pid = host.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    started = _started(int(pid))
    return started is not None and rest not in ("0", str(started))


def _started(pid: int) -> int | None:
    """Clock ticks after boot (proc(5), field 22); None where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])
