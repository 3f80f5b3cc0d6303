"""One file of a spool: records, each with its length and two checksums, appended and synced.

``NAME.spool`` is one that the store has yet to take; its process holds a lock on it. ``NAME.N.kept`` holds the writes
of one turn that the store refused for good, ``NAME.broken`` is one that cannot be read to its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec

from legato.core.records import TurnWrite

MAGIC = b"legato spool 1\n"
_SIZES = struct.Struct(">II")
_HEADER = struct.Struct(">III")
"""What stands before a payload: with a checksum of its own, so that a torn record is told from a spoiled one."""
GROUP_BYTES = 4_194_304
"""Read at once: one write may be larger, and then comes alone."""

_MADE = re.compile(r"\d{14}(?=-)")
_decoder = msgspec.msgpack.Decoder(TurnWrite)
_json_decoder = msgspec.json.Decoder(TurnWrite)


class KeptSpool(msgspec.Struct, frozen=True, kw_only=True):
    """A file that stays: the store refused it, or nobody can read it. ``turn_ids`` are those that can be read in it."""

    path: str
    bytes: int
    turn_ids: tuple[str, ...]
    readable: bool


def files_in(folder: Path) -> list[Path]:
    """Those to be drained. Raises ``OSError``; a folder that is not there has none."""
    return sorted(folder.glob("*.spool")) if folder.is_dir() else []


def kept_in(folder: Path) -> list[KeptSpool]:
    """Those that stay, for people to look at. Raises ``OSError``."""
    kept: list[KeptSpool] = []
    for path in sorted([*folder.glob("*.kept"), *folder.glob("*.broken")]) if folder.is_dir() else ():
        data = path.read_bytes()
        turns = dict.fromkeys(write.turn_id for write, _ in _records(data, len(MAGIC)))
        kept.append(KeptSpool(path=str(path), bytes=len(data), turn_ids=tuple(turns), readable=path.suffix == ".kept"))
    return kept


def set_aside(folder: Path, writes: Sequence[TurnWrite]) -> None:
    """In a file that stays from the start. Raises ``OSError``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _put(folder / f"{_new_name(folder)}.0.kept", MAGIC + b"".join(map(_record, writes)))
    _sync_folder(folder)


class FolderLock:
    """Who holds it drains what dead processes left. It goes with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> FolderLock | None:
        """None if somebody else has it."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        if _locked(descriptor):
            return cls(descriptor)
        os.close(descriptor)
        return None

    def release(self) -> None:
        os.close(self._descriptor)


class SpoolFile:
    """Made, or adopted from a process that is gone; ours alone until it is closed or removed. Methods block.

    ``borrowed``: its process lives, and removes it. What it holds by now may be read all the same, and given to the
    store: writes may be repeated.
    """

    def __init__(self, path: Path, descriptor: int, *, size: int, borrowed: bool = False) -> None:
        self.path = path
        self.borrowed = borrowed
        self.refused: dict[str, bool] = {}
        """Turns that the store does not take, and whether what is here of them is to be kept."""
        self.torn = 0
        """Bytes at its end that are no record, once it was read to there."""
        self.spoiled = False
        """A record was written in part and could not be taken back: nothing may come after it."""
        self._broken = False
        self._descriptor = descriptor
        self.size = self._before = size
        self._given = self._read_to = len(MAGIC)

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Raises ``OSError``."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Under another name until it is locked: else whoever looks meanwhile takes it for one that was left.
        name = _new_name(folder)
        new, path = folder / f"{name}.new", folder / f"{name}.spool"
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _locked(descriptor)
            _write_all(descriptor, MAGIC)
            os.fsync(descriptor)
            new.rename(path)
            _sync_folder(folder)
        except BaseException:
            os.close(descriptor)
            for half_made in (new, path):
                half_made.unlink(missing_ok=True)
            raise
        return cls(path, descriptor, size=len(MAGIC))

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """None if somebody else has just drained it. Raises ``OSError``."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        borrowed = not _locked(descriptor)
        found = os.fstat(descriptor)
        if found.st_nlink == 0:
            os.close(descriptor)
            return None
        return cls(path, descriptor, size=found.st_size, borrowed=borrowed)

    def append(self, writes: Sequence[TurnWrite]) -> None:
        """All of them, synced, or none. Raises ``OSError``."""
        data = b"".join(map(_record, writes))
        try:
            _write_all(self._descriptor, data)
            os.fsync(self._descriptor)
        except OSError:
            # After a failed sync nobody knows what is on disk: what was written is taken back.
            try:
                os.ftruncate(self._descriptor, self.size)
            except OSError:
                self.spoiled = True
            raise
        self._before, self.size = self.size, self.size + len(data)

    def forget(self) -> None:
        """Take back what was appended last: nobody heard that it was kept."""
        self.size = self._before
        try:
            os.ftruncate(self._descriptor, self.size)
            os.fsync(self._descriptor)
        except OSError:
            self.spoiled = True

    def next_group(self, most: int) -> list[TurnWrite]:
        """The next writes, each of another turn; the same again until ``advance``. Empty at the end."""
        group: dict[str, TurnWrite] = {}
        at = self._given
        if at == len(MAGIC) and os.pread(self._descriptor, len(MAGIC), 0) != MAGIC:
            self._ends_badly(0)
            return []
        for write, end in _records(self._window(at), 0):
            if write.turn_id in group or len(group) == most:
                break
            group[write.turn_id] = write
            self._read_to = at + end
        if not group and at < self.size:
            self._ends_badly(at)
        return list(group.values())

    def advance(self) -> None:
        """The store has taken the group."""
        self._given = self._read_to

    def remove(self) -> None:
        """It is drained: only what the store refused, or nobody can read, stays. Raises ``OSError``."""
        if self.borrowed:
            self.close()
            return
        kept = [turn_id for turn_id, keep in self.refused.items() if keep]
        if kept:
            data = os.pread(self._descriptor, self._given, 0)
            for number, turn_id in enumerate(kept):
                said = [_record(write) for write, _ in _records(data, len(MAGIC)) if write.turn_id == turn_id]
                _put(self.path.with_suffix(f".{number}.kept"), MAGIC + b"".join(said))
        if self._broken:
            self.path.replace(self.path.with_suffix(".broken"))
        else:
            self.path.unlink(missing_ok=True)
        _sync_folder(self.path.parent)
        self.close()

    @property
    def closed(self) -> bool:
        return self._descriptor < 0

    def close(self) -> None:
        """It stays where it is, for whoever adopts it. May be called again."""
        if not self.closed:
            os.close(self._descriptor)
            self._descriptor = -1

    def _window(self, at: int) -> bytes:
        """From ``at`` as many bytes as a group may have, or the one record there if that is larger."""
        data = os.pread(self._descriptor, min(GROUP_BYTES, self.size - at), at)
        if len(data) >= _HEADER.size:
            length, _, _ = _header(data, 0)
            if len(data) < _HEADER.size + length <= self.size - at:
                data = os.pread(self._descriptor, _HEADER.size + length, at)
        return data

    def _ends_badly(self, at: int) -> None:
        """The last record of a process that died is cut short, or its bytes never reached the disk. Anything else was
        whole once, and is kept for a person to look at."""
        rest = os.pread(self._descriptor, self.size - at, at)
        self.torn = len(rest)
        self._broken = any(rest) and not (_is_cut(rest) if at else MAGIC.startswith(rest))


def _is_cut(rest: bytes) -> bool:
    """What stands here is the beginning of one record, or one whose bytes did not all arrive."""
    if len(rest) < _HEADER.size:
        return True
    length, checksum, check = _header(rest, 0)
    if check != zlib.crc32(rest[: _SIZES.size]) or _HEADER.size + length < len(rest):
        return False
    payload = rest[_HEADER.size :]
    return len(payload) < length or zlib.crc32(payload) != checksum


def _new_name(folder: Path) -> str:
    """Files are drained in the order of their names: by the time they were made, and behind those that are there, also
    when the clock was set back since."""
    made = [int(name[0]) for file in folder.iterdir() if (name := _MADE.match(file.name))]
    return f"{max([time.time_ns() // 1_000_000, *(before + 1 for before in made)]):014d}-{uuid.uuid4().hex[:12]}"


def _record(write: TurnWrite) -> bytes:
    payload = _payload(write)
    sizes = _SIZES.pack(len(payload), zlib.crc32(payload))
    return sizes + struct.pack(">I", zlib.crc32(sizes)) + payload


def _payload(write: TurnWrite) -> bytes:
    try:
        return msgspec.msgpack.encode(write)
    except OverflowError:  # a model's numbers may be larger than msgpack's; no map of msgpack begins as JSON's do
        return msgspec.json.encode(write)


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """Length and checksum of the payload, and the checksum of both."""
    length, checksum, check = _HEADER.unpack_from(data, at)
    return length, checksum, check


def _records(data: bytes, at: int) -> Iterator[tuple[TurnWrite, int]]:
    """Whole ones, each with where it ends."""
    while at + _HEADER.size <= len(data):
        length, checksum, check = _header(data, at)
        if check != zlib.crc32(data[at : at + _SIZES.size]):
            return
        payload = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        try:
            write = (_json_decoder if payload.startswith(b"{") else _decoder).decode(payload)
        except msgspec.DecodeError:  # of a version that has other records
            return
        at += _HEADER.size + length
        yield write, at


def _put(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _locked(descriptor: int) -> bool:
    """It is ours from now on, until the descriptor is closed."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _sync_folder(folder: Path) -> None:
    """A new name is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
