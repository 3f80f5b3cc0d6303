"""`legato tail`: each event of a turn on its own line, to the end, whatever becomes of the line or of the server.

The cursor's file is written after the lines it stands for were: a tail that is killed in between says them again, and
never leaves one out.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing
from pathlib import Path

import msgspec

from legato.cli.api import connected
from legato.cli.failures import FAILED, MISUSED, Failed
from legato.cli.follow import Follower, Frame, Lost
from legato.cli.untrusted import clean, visible_json
from legato.cli.witness import Witness
from legato.core.blocks import Json

_VALUE_MAX = 100
"""Characters of one field in the form for people."""


def run(url: str, turn_id: str, *, after: int, each: bool, cursor: Path | None, as_json: bool) -> int:
    kept = None if cursor is None else CursorFile(cursor, turn_id)
    if kept is not None:
        after = max(after, kept.read())
    return asyncio.run(_tail(url, turn_id, after=after, each=each, kept=kept, as_json=as_json))


async def _tail(url: str, turn_id: str, *, after: int, each: bool, kept: CursorFile | None, as_json: bool) -> int:
    witness = Witness(after=after)
    told = 0
    async with connected(url) as api:
        follower = Follower(api, turn_id, after=after, each=each, lost=_say_lost, found=_say_found)
        async with aclosing(follower.batches()) as batches:
            async for frames in batches:
                _print([frame for frame in frames if frame.seq > witness.turn.last_seq], as_json=as_json)
                for frame in frames:
                    witness.take(frame)
                for complaint in witness.complaints[told:]:
                    sys.stderr.write(f"legato tail: {complaint}\n")
                told = len(witness.complaints)
                if kept is not None:
                    kept.write(witness.turn.last_seq)
    return FAILED if told else 0


def _print(frames: list[Frame], *, as_json: bool) -> None:
    if as_json:
        lines = [frame.line for frame in frames]
        shown = [visible_json(line) for line in lines] if sys.stdout.isatty() else lines
        sys.stdout.buffer.write(b"".join(line + b"\n" for line in shown))
    else:
        sys.stdout.write("".join(for_people(frame) + "\n" for frame in frames))
    sys.stdout.flush()


def for_people(frame: Frame) -> str:
    """`57  block_delta    index=3 text="Hel"`"""
    fields: dict[str, Json] = msgspec.json.decode(frame.line)
    shown = (f"{name}={_short(value)}" for name, value in fields.items() if name not in {"type", "seq"})
    return clean(f"{frame.seq:>7}  {frame.type:13}  {' '.join(shown)}").rstrip()


def _short(value: Json) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUE_MAX else f"{text[:_VALUE_MAX]}… ({len(text)} characters)"


def _say_lost(lost: Lost) -> None:
    sys.stderr.write(f"legato tail: {lost.why}; trying again in {lost.seconds:.1f} s\n")


def _say_found() -> None:
    sys.stderr.write("legato tail: the line is back\n")


class _Cursor(msgspec.Struct):
    turn_id: str
    seq: int


class CursorFile:
    """Where a tail stands, so that the next one goes on from there. It belongs to one turn."""

    def __init__(self, path: Path, turn_id: str) -> None:
        self._path = path
        self._turn_id = turn_id

    def read(self) -> int:
        """0 where there is none yet. Raises ``Failed`` for a file that is not ours or not this turn's."""
        try:
            cursor = msgspec.json.decode(self._path.read_bytes(), type=_Cursor)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise Failed(f"--cursor {self._path}: {error.strerror}", exit_code=MISUSED) from error
        except msgspec.DecodeError as error:
            raise Failed(
                f"--cursor {self._path}: expected a cursor of legato tail: {error}", exit_code=MISUSED
            ) from error
        if cursor.turn_id != self._turn_id:
            raise Failed(f"--cursor {self._path}: it is of turn {clean(cursor.turn_id)}", exit_code=MISUSED)
        return cursor.seq

    def write(self, seq: int) -> None:
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            beside.write_bytes(msgspec.json.encode(_Cursor(self._turn_id, seq)) + b"\n")
            beside.replace(self._path)
        except OSError as error:
            raise Failed(f"--cursor {self._path}: {error.strerror}") from error
