"""Zip files that anybody made."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.core import archives
from legato.core.archives import pack, unpack
from legato.core.documents import Bounds, Entry
from legato.core.errors import InvalidRequest

BOUNDS = Bounds(document_bytes=100_000)


def zipped(*files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return made.getvalue()


def refused(data: bytes, folder: str = "") -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as error:
        unpack(data, folder=folder, bounds=BOUNDS)
    return error.value.code, error.value.message


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def test_what_was_packed_is_unpacked_and_equal_documents_pack_equally() -> None:
    entries = [Entry("novel/é 龍.md", "Ein Drache\n"), Entry("x", ""), Entry("a/b/c.txt", "x" * 1000)]
    data = pack(entries)
    assert data == pack(entries)
    assert unpack(data, folder="", bounds=BOUNDS) == archives.Unpacked(tuple(entries), ())
    assert unpack(data, folder="in/", bounds=BOUNDS).entries[0].path == "in/novel/é 龍.md"


@pytest.mark.parametrize(
    "name",
    ["../a.md", "a/../../b.md", "/etc/passwd", "//a", "C:/a.md", "c:a.md", "a\\..\\b.md", "a/./b", "a//b", "a\nb"],
)
def test_no_path_leaves_the_workspace(name: str) -> None:
    assert refused(zipped((name, b"x")))[0] == "archive_invalid"
    assert refused(zipped((name, b"x")), folder="in/")[0] == "archive_invalid"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kind: int) -> None:
    code, said = refused(zipped((special("a.md", kind | 0o777), b"/etc/passwd")))
    assert code == "archive_invalid"
    assert "'a.md' is" in said


def test_folders_are_no_documents_and_the_editors_own_files_are_skipped() -> None:
    data = zipped(
        ("notes/", b""),
        (special("more", stat.S_IFDIR | 0o755), b""),
        ("notes/.obsidian/app.json", b"{}"),
        ("__MACOSX/notes/._a.md", b"x"),
        ("notes/a.md", b"x"),
        ("notes/picture.png", b"\x89PNG\r\n\x1a\n\0\xff"),
        ("notes/big.bin", b"x" * 100_001),
    )
    found = unpack(data, folder="", bounds=BOUNDS)
    assert found.entries == (Entry("notes/a.md", "x"),)
    assert found.skipped == (
        "notes/.obsidian/app.json",
        "__MACOSX/notes/._a.md",
        "notes/picture.png",
        "notes/big.bin",
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfDrache", "Drache"),
        ("schläft".encode("utf-16"), "schläft"),
        ("\ufeffschläft".encode("utf-16-be"), "schläft"),
    ],
)
def test_a_text_that_says_how_it_is_encoded_is_read(data: bytes, text: str) -> None:
    (entry,) = unpack(zipped(("a.txt", data)), folder="", bounds=BOUNDS).entries
    assert entry.text == text


def test_a_text_in_another_encoding_is_refused_by_its_name() -> None:
    code, said = refused(zipped(("n/a.MD", "schläft".encode("latin-1"))))
    assert (code, said) == ("archive_invalid", "'n/a.MD' is not UTF-8 at byte 4; convert it first")


def test_a_name_that_does_not_say_it_is_utf8_is_read_as_utf8_if_it_can_be() -> None:
    raw = zipped(("x____.md", b"x"))
    utf8 = raw.replace(b"x____", "xéé".encode())
    assert unpack(utf8, folder="", bounds=BOUNDS).entries[0].path == "xéé.md"
    assert unpack(raw.replace(b"x____", b"x\x82\x82__"), folder="", bounds=BOUNDS).entries[0].path == "xéé__.md"


def test_a_file_over_the_bound_is_named_with_its_size() -> None:
    code, said = refused(zipped(("a.md", b"x" * 100_001)))
    assert (code, said) == ("document_too_large", "'a.md' has 100001 bytes, limit is 100000")


def test_a_size_that_is_a_lie_is_not_believed() -> None:
    """Twice in an archive: before the file, and in the directory behind."""
    data = zipped(("a.md", b"x" * 1_000_000))
    lie = data.replace(struct.pack("<I", 1_000_000), struct.pack("<I", 10))
    assert lie != data
    assert refused(lie)[0] in {"archive_invalid", "document_too_large"}


def test_a_bomb_is_refused_before_it_is_whole() -> None:
    bounds = Bounds(document_bytes=10_000_000)
    bomb = zipped(*((f"{n}.md", b"x" * 10_000_000) for n in range(8)))
    assert len(bomb) < 100_000
    with pytest.raises(InvalidRequest, match=f"limit is {archives.UNPACKED}") as error:
        unpack(bomb, folder="", bounds=bounds)
    assert error.value.code == "archive_too_large"


def test_too_many_documents_and_too_many_files_are_refused() -> None:
    many = zipped(*((f"{n}.md", b"") for n in range(archives.ENTRIES + 1)), method=zipfile.ZIP_STORED)
    assert refused(many)[0] == "archive_too_large"
    files = zipped(*((f".{n}", b"") for n in range(archives.FILES + 1)), method=zipfile.ZIP_STORED)
    assert refused(files) == ("archive_too_large", "the archive has 10001 files, limit is 10000")


def test_encrypted_and_foreign_packings_are_refused() -> None:
    data = bytearray(zipped(("a.md", b"x")))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + at] |= 1
    assert "encrypted" in refused(bytes(data))[1]
    assert "method 12" in refused(zipped(("a.md", b"x"), method=zipfile.ZIP_BZIP2))[1]


@pytest.mark.parametrize(
    "data",
    [b"", b"PK", b"not a zip", zipped(("a.md", b"x"))[:-10], zipped(("a.md", b"x"))[20:]],
    ids=["empty", "two letters", "words", "without its end", "without its beginning"],  # a zip holds the time
)
def test_what_is_no_zip_file_is_refused(data: bytes) -> None:
    assert refused(data)[0] == "archive_invalid"


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_archive_is_read_or_refused_and_nothing_else(changes: list[tuple[int, int]]) -> None:
    data = bytearray(zipped(("a.md", b"Drache " * 20), ("b/é.md", b"x"), (".c", b"")))
    for at, byte in changes:
        data[at % len(data)] = byte
    with suppress(InvalidRequest):
        unpack(bytes(data), folder="", bounds=BOUNDS)
