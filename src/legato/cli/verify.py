"""`legato verify`: what is kept is read back from the file, turn by turn, and each contradiction is a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from legato.cli.failures import FAILED, MISUSED, Failed
from legato.cli.settings import configured
from legato.cli.untrusted import clean
from legato.compose import open_archive
from legato.core.errors import ConfigError, StoreError
from legato.core.evidence import Evidence, Finding
from legato.core.verifying import verify, verify_chat
from legato.ports import Archive

_TICK: Final = 0.1
"""Seconds between two words about how far it is."""


def run(turn_id: str | None, *, chat_id: str | None, db: Path | None, config: Path | None, as_json: bool) -> int:
    if turn_id is not None and chat_id is not None:
        raise Failed("TURN and --chat are two things to verify; name one", exit_code=MISUSED)
    settings = configured({"server.db": db}, file=config)
    try:
        with open_archive(settings) as archive:
            proof = Proof(archive, turn_id, chat_id)
            for finding in proof.findings():
                _print(finding, as_json=as_json)
    except (ConfigError, StoreError) as error:
        raise Failed(error.message, exit_code=MISUSED if isinstance(error, ConfigError) else FAILED) from error
    _print_sum(proof.summary(), settings.server.db, as_json=as_json)
    return FAILED if proof.found else 0


class Summary(msgspec.Struct, frozen=True, tag_field="type", tag="summary"):
    turns: int
    events: int
    chats: int
    findings: int


class Proof:
    """Of one turn, of a chat, or of all. One turn is in memory at a time."""

    def __init__(self, archive: Archive, turn_id: str | None, chat_id: str | None) -> None:
        self.found = 0
        self._archive = archive
        self._turn_id = turn_id
        self._chat_id = chat_id
        self._turns = self._events = self._chats = 0

    def findings(self) -> Iterator[Finding]:
        """Raises ``Failed`` where there is no such turn, or chat."""
        for finding in self._all():
            self.found += 1
            yield finding

    def summary(self) -> Summary:
        return Summary(self._turns, self._events, self._chats, self.found)

    def _all(self) -> Iterator[Finding]:
        if self._turn_id is not None:
            yield from self._turn(self._turn_id, missing=f"there is no turn {self._turn_id}")
            return
        # The chat first: that it is not there is said before anything else.
        for chat_id in self._archive.chat_ids() if self._chat_id is None else (self._chat_id,):
            yield from self._chat(chat_id)
        progress = _Progress(self._archive.count_turns(self._chat_id))
        for turn_id in self._archive.turn_ids(self._chat_id):
            yield from self._turn(turn_id)
            progress.tell(self._turns)
        progress.end()
        if self._chat_id is None:
            yield from self._archive.strays()

    def _turn(self, turn_id: str, *, missing: str | None = None) -> Iterable[Finding]:
        evidence = self._archive.turn(turn_id)
        if evidence is None:
            if missing is not None:
                raise Failed(missing)
            return ()  # its chat was deleted meanwhile
        self._turns += 1
        if not isinstance(evidence, Evidence):
            return (evidence,)
        verified = verify(evidence)
        self._events += verified.events
        return verified.findings

    def _chat(self, chat_id: str) -> Iterable[Finding]:
        evidence = self._archive.chat(chat_id)
        if evidence is None:
            if self._chat_id is not None:
                raise Failed(f"there is no chat {chat_id}")
            return ()
        self._chats += 1
        return (evidence,) if isinstance(evidence, Finding) else verify_chat(evidence)


class _Progress:
    """On a terminal, for whoever waits."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = sys.stderr.isatty()
        self._next = time.monotonic() + _TICK

    def tell(self, done: int) -> None:
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _TICK
            sys.stderr.write(f"\r{done:,} of {self._total:,} turns\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")


def _print(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(finding).decode() + "\n")
        return
    whose = f"turn {finding.turn_id}" if finding.turn_id is not None else f"chat {finding.chat_id or '?'}"
    where = "" if finding.place in ("turn", "chat") else f", {finding.place}"
    sys.stdout.write(clean(f"{whose}{where}: {finding.message} [{finding.promise}]").replace("\n", " ") + "\n")


def _print_sum(summary: Summary, db: str, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
        return
    found = "nothing is wrong" if not summary.findings else f"{summary.findings:,} findings"
    chats = f" of {summary.chats:,} chats" if summary.chats else ""
    sys.stdout.write(f"{clean(db)}: {summary.turns:,} turns{chats}, {summary.events:,} events: {found}\n")
