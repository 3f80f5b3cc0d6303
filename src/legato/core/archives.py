"""Documents as a zip file, and back. What comes in was made by anybody: no path leaves the workspace, nothing is
unpacked before its size was looked at, and what an entry says of itself is not believed."""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

import msgspec

from legato.core.documents import Bounds, Entry, document_path
from legato.core.errors import InvalidRequest

# Documents of one archive: they are stored in one transaction, which other writes wait for: 0.7 s
# for 2 KB each (2026-11).
ENTRIES: Final = 2_000
# Files that are looked at at all. A folder of notes has pictures beside its texts, and settings of its editor.
FILES: Final = 10_000
# Bytes of all that is unpacked, and of all that is packed: both are held in memory.
UNPACKED: Final = 67_108_864

_CENTRAL: Final = b"PK\x01\x02"
_TEXTS: Final = (".md", ".markdown", ".txt")
_JUNK: Final = re.compile(r"(?:^|/)(?:\.[^/]|__MACOSX/)")
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_UTF8_NAME: Final = 0x800
_ENCRYPTED: Final = 0x1
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Of every file that is packed: equal documents give equal archives. Zip knows no time before 1980.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = (stat.S_IFREG | 0o644) << 16


class Unpacked(msgspec.Struct, frozen=True):
    """``skipped`` are the paths of files that are no text, or whose names begin with a dot."""

    entries: tuple[Entry, ...]
    skipped: tuple[str, ...]


def unpack(data: bytes, *, folder: str, bounds: Bounds) -> Unpacked:
    """The documents of a zip file, their paths put below ``folder``. Raises ``InvalidRequest``. May take a second."""
    # Each file's entry in the directory begins so; to let zipfile find out would cost a kilobyte for each.
    if (seen := data.count(_CENTRAL)) > FILES:
        raise _too_much(f"the archive has {seen} files, limit is {FILES}", FILES, seen)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _unpacked(archive, folder, bounds)
    except zipfile.BadZipFile as error:
        raise InvalidRequest(f"the body is no zip file that can be read: {error}", code="archive_invalid") from error
    except (zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise InvalidRequest(f"the zip file is damaged: {error}", code="archive_invalid") from error


def pack(entries: Sequence[Entry]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.path, _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = _MODE
            archive.writestr(info, entry.text.encode())
    return packed.getvalue()


def _unpacked(archive: zipfile.ZipFile, folder: str, bounds: Bounds) -> Unpacked:
    entries: list[Entry] = []
    skipped: list[str] = []
    room = UNPACKED
    for info, name in _files(archive):
        if _JUNK.search(name):
            skipped.append(name)
            continue
        path = _path(folder, name)
        is_text = name.lower().endswith(_TEXTS)
        if info.file_size > bounds.document_bytes and not is_text:
            skipped.append(name)
            continue
        raw = _read(archive, info, name, bounds)
        room -= len(raw)
        if room < 0:
            raise _too_much(f"the archive has more than {UNPACKED} bytes, limit is {UNPACKED}", UNPACKED)
        text = _decoded(raw, name, is_text=is_text)
        if text is None:
            skipped.append(name)
            continue
        entries.append(Entry(path, text))
        if len(entries) > ENTRIES:
            raise _too_much(f"the archive has more than {ENTRIES} documents, limit is {ENTRIES}", ENTRIES)
    return Unpacked(tuple(entries), tuple(skipped))


def _files(archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    for info in archive.infolist():
        name = _name(info)
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            _refuse(f"{name[:100]!r} is a link, and a workspace has none")
        if name.endswith("/") or stat.S_ISDIR(mode):
            continue
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            _refuse(f"{name[:100]!r} is no file")
        if ".." in name.split("/"):
            _refuse(f"{name[:100]!r} leaves the folder it is in")
        if name.startswith("/") or _DRIVE.match(name):
            _refuse(f"{name[:100]!r} is an absolute path")
        if info.flag_bits & _ENCRYPTED:
            _refuse(f"{name[:100]!r} is encrypted")
        if info.compress_type not in _METHODS:
            _refuse(f"{name[:100]!r} is packed by method {info.compress_type}; deflate and stored are read")
        yield info, name


def _name(info: zipfile.ZipInfo) -> str:
    """As it was written. Where nothing says in what, it is UTF-8 if it can be: most programs write that and forget to
    say so; else what zip was made with, code page 437."""
    name = info.orig_filename
    if info.flag_bits & _UTF8_NAME:
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


def _path(folder: str, name: str) -> str:
    try:
        return document_path(f"{folder}{name}")
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{name[:100]!r} cannot be a path: {error.problems[0].message}", code="archive_invalid"
        ) from error


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, bounds: Bounds) -> bytes:
    """No more than one byte past the bound, whatever its size was said to be."""
    limit = bounds.document_bytes
    with archive.open(info) as file:
        raw = file.read(limit + 1) if info.file_size <= limit else b""
    if len(raw) > limit or info.file_size > limit:
        actual = max(info.file_size, len(raw))
        raise InvalidRequest(
            f"{name[:100]!r} has {actual} bytes, limit is {limit}",
            code="document_too_large",
            limit=limit,
            actual=actual,
        )
    return raw


def _decoded(raw: bytes, name: str, *, is_text: bool) -> str | None:
    """None for what is no text. A file that its name calls a text must be one."""
    try:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            return raw.decode("utf-16")
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not is_text:
            return None
        _refuse(f"{name[:100]!r} is not UTF-8 at byte {error.start}; convert it first")
    return text if is_text or "\0" not in text else None


def _refuse(message: str) -> NoReturn:
    raise InvalidRequest(message, code="archive_invalid")


def _too_much(message: str, limit: int, actual: int | None = None) -> InvalidRequest:
    return InvalidRequest(message, code="archive_too_large", limit=limit, actual=actual)
