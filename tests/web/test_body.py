"""A body is bounded on the wire and unpacked, in whatever pieces it comes."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.core.errors import ToolError
from legato.tools.web.body import Unpacked

TEXT = b"The dragon sleeps on bells. " * 40


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {"": TEXT, "identity": TEXT, "gzip": gzip.compress(TEXT), "x-gzip": gzip.compress(TEXT)}
PACKED |= {"GZIP ": gzip.compress(TEXT), "deflate": zlib.compress(TEXT)}


def unpacked(encoding: str, pieces: list[bytes], *, limit: int = 100_000) -> bytes:
    body = Unpacked(encoding, limit=limit, name="web.max_bytes")
    for piece in pieces:
        body.feed(piece)
    return body.end()


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_a_body_is_the_same_in_whatever_pieces_it_comes(encoding: str, size: int) -> None:
    data = PACKED[encoding]
    assert unpacked(encoding, [data[at : at + size] for at in range(0, len(data), size)]) == TEXT


@pytest.mark.parametrize("size", [2, 7, 100_000])
def test_deflate_without_zlibs_header_is_read_as_browsers_do(size: int) -> None:
    data = raw_deflate(TEXT)
    assert unpacked("deflate", [data[at : at + size] for at in range(0, len(data), size)]) == TEXT


def test_what_zlib_still_holds_when_a_piece_is_full_is_not_lost() -> None:
    for size in range(65_500, 66_100):
        assert len(unpacked("deflate", [raw_deflate(b"a" * size)])) == size


def test_what_comes_behind_the_end_of_a_packed_body_is_no_part_of_it() -> None:
    assert unpacked("gzip", [gzip.compress(TEXT) + b"\0" * 50, b"more"]) == TEXT


def test_a_packed_body_that_breaks_off_is_what_came_of_it() -> None:
    came = unpacked("gzip", [gzip.compress(TEXT)[:-20]])
    assert TEXT.startswith(came)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_stopped_at_the_bound_and_not_behind_it(encoding: str) -> None:
    bomb = zlib.compress(bytes(200_000_000), 9) if encoding == "deflate" else gzip.compress(bytes(200_000_000))
    body = Unpacked(encoding, limit=1_000_000, name="web.max_bytes")
    with pytest.raises(ToolError, match=r"larger than 1000000 bytes \(web.max_bytes\)") as caught:
        body.feed(bomb)
    assert caught.value.code == "web_too_large"
    assert len(body.end()) < 1_100_000


def test_packed_bytes_that_unpack_to_nothing_are_counted_as_well() -> None:
    nothing = zlib.compressobj(wbits=31)
    head = nothing.compress(b"")
    empty = nothing.flush(zlib.Z_FULL_FLUSH)
    body = Unpacked("gzip", limit=1_000, name="web.max_bytes")
    for piece in [head, *[empty] * (1_000 // len(empty) - 5)]:
        body.feed(piece)
    with pytest.raises(ToolError, match="larger than 1000 bytes"):
        body.feed(empty * 10)
    assert body.end() == b""


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 5_000])
def test_what_was_not_asked_for_is_refused_by_its_name(encoding: str) -> None:
    with pytest.raises(ToolError, match="expected gzip, deflate") as caught:
        Unpacked(encoding, limit=10, name="web.max_bytes")
    assert caught.value.code == "web_garbled"
    assert len(caught.value.message) < 200


@given(st.lists(st.binary(max_size=50), max_size=8), st.sampled_from(["gzip", "deflate", ""]))
def test_any_bytes_are_a_body_or_a_sentence(pieces: list[bytes], encoding: str) -> None:
    try:
        data = unpacked(encoding, pieces, limit=200)
    except ToolError:
        return
    assert len(data) <= 200
