"""A look at what is kept: the file's pages, turns that nobody runs or answers, what waits in the spool."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

from legato.core.ailments import Ailment
from legato.core.evidence import Unended
from legato.core.records import TurnRow
from legato.ports import Archive
from legato.runtime.clock import seconds_between
from legato.runtime.owning.owner import is_gone
from legato.runtime.storing import spool_file

WAL_BYTES = 256 * 1024 * 1024
"""It is moved into the database every 16 MiB or so: past this somebody reads and never comes to an end."""
SPOOL_SECONDS = 5.0
"""For a look at the spool: a disk may hang."""
UNPACKED = 1_000
"""Ended turns are packed at once, while nothing else is to be done."""


def of_the_file(archive: Archive, *, now: str) -> Iterator[Ailment]:
    """Raises ``StoreUnavailable``."""
    state = archive.file_state()
    size = f"{state.bytes:,} bytes, and {state.wal_bytes:,} bytes beside it"
    yield Ailment(level="noted", about="database", message=f"{state.turns:,} turns of {state.chats:,} chats in {size}")
    for problem in state.problems:
        yield Ailment(level="degraded", about="database", message=f"its pages do not fit together: {problem}")
    if state.wal_bytes > WAL_BYTES:
        message = (
            f"{state.wal_bytes:,} bytes wait beside it to be moved in, more than {WAL_BYTES:,}: who reads so long?"
        )
        yield Ailment(level="degraded", about="database", message=message)
    if state.unpacked > UNPACKED:
        message = f"{state.unpacked:,} ended turns are not packed, more than {UNPACKED:,}"
        yield Ailment(level="degraded", about="database", message=message)
    for unended in archive.unended():
        yield _of_a_turn(unended, now)


def of_the_spool(folder: Path, *, seconds: float = SPOOL_SECONDS) -> Iterator[Ailment]:
    """A disk that does not answer in ``seconds`` is said to hang."""
    found: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    # A daemon, so that a thread which never comes back does not hold the process' exit.
    threading.Thread(target=lambda: found.put(list(_lying_in(folder))), name="legato-spool", daemon=True).start()
    try:
        lying = found.get(timeout=seconds)
    except queue.Empty:
        lying = [f"{folder}: its disk does not answer for {seconds:g} s, and what lies there cannot be stored"]
    for message in lying:
        yield Ailment(level="degraded", about="spool", message=message)


def _lying_in(folder: Path) -> Iterator[str]:
    try:
        for path in spool_file.files_in(folder):
            yield f"{path}: {path.stat().st_size:,} bytes that the store has yet to take; a server on it does so"
        for kept in spool_file.kept_in(folder):
            why = "what a newer owner had said otherwise" if kept.readable else "it cannot be read to its end"
            turns = ", ".join(kept.turn_ids) or "none"
            yield f"{kept.path}: {kept.bytes:,} bytes set aside, {why}; turns: {turns}"
    except OSError as error:
        yield f"{folder}: {error.strerror or error}"


def _of_a_turn(unended: Unended, now: str) -> Ailment:
    row = unended.row
    about = f"turn {row.id}"
    if row.status == "waiting":
        return _of_a_waiting_turn(row, unended.since_ms, now)
    if row.status == "queued":
        return Ailment(level="noted", about=about, message=f"queued since {row.created_at}")
    if row.lease_until is not None and row.lease_until < now:
        message = f"{row.status} since {row.created_at}, and its owner's lease is over since {row.lease_until}"
    elif is_gone(row.owner):
        message = f"{row.status} since {row.created_at}, and its owner is gone"
    else:
        return Ailment(level="noted", about=about, message=f"{row.status} since {row.created_at}")
    return Ailment(level="degraded", about=about, message=f"{message}: a server that runs takes it up")


def _of_a_waiting_turn(row: TurnRow, since_ms: float | None, now: str) -> Ailment:
    hours = "" if since_ms is None else _duration(seconds_between(row.created_at, now) - since_ms / 1000)
    message = f"waits for somebody{f' since {hours}' if hours else ''}, until {row.wait_until}"
    over = row.wait_until is not None and row.wait_until < now
    if over:
        message += ", which is over: a server that runs ends it"
    return Ailment(level="degraded" if over else "noted", about=f"turn {row.id}", message=message)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
