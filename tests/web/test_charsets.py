"""Bytes are read as what they are, then as what is said, and never fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.tools.web.charsets import is_binary, text_of

WORD = "Drachenhöhle"


@pytest.mark.parametrize(
    ("data", "header", "text"),
    [
        (WORD.encode(), None, WORD),
        (WORD.encode(), "utf-8", WORD),
        (WORD.encode(), '"UTF-8"', WORD),
        (WORD.encode("latin-1"), "iso-8859-1", WORD),
        (WORD.encode("latin-1"), None, WORD),
        (WORD.encode("utf-8-sig"), "latin-1", WORD),
        (b"\xff\xfe" + WORD.encode("utf-16-le"), "utf-8", WORD),
        (b"\xfe\xff" + WORD.encode("utf-16-be"), None, WORD),
        (WORD.encode("utf-16-le"), "utf-16", WORD),
        ("“quoted”".encode("cp1252"), "iso-8859-1", "“quoted”"),
        ("“quoted”".encode("cp1252"), "us-ascii", "“quoted”"),
        ("дракон".encode("koi8-r"), "koi8-r", "дракон"),
        ("дракон".encode("cp1251"), "windows-1251", "дракон"),
        ("竜の洞窟".encode("shift_jis"), "Shift_JIS", "竜の洞窟"),
        ("竜の洞窟".encode("euc-jp"), "euc-jp", "竜の洞窟"),
        ("龙".encode("gb18030"), "gb2312", "龙"),
        ("용".encode("euc-kr"), "euc-kr", "용"),
        (b'<meta charset="windows-1251">' + "дракон".encode("cp1251"), None, '<meta charset="windows-1251">дракон'),
        (
            b'<META http-equiv="Content-Type" content="text/html; charset=koi8-r">' + "дракон".encode("koi8-r"),
            None,
            '<META http-equiv="Content-Type" content="text/html; charset=koi8-r">дракон',
        ),
        (b'<?xml version="1.0" encoding="iso-8859-1"?>\xe9', None, '<?xml version="1.0" encoding="iso-8859-1"?>é'),
        (b'<meta charset="utf-16">' + WORD.encode(), None, f'<meta charset="utf-16">{WORD}'),
        (WORD.encode(), "no-such-thing", WORD),
        ("höh".encode()[:2], None, "h\N{REPLACEMENT CHARACTER}"),
        (b"a\xffb", "utf-8", "a\N{REPLACEMENT CHARACTER}b"),
        (b"", None, ""),
    ],
)
def test_a_text_is_read_in_its_encoding(data: bytes, header: str | None, text: str) -> None:
    assert text_of(data, header) == text


@pytest.mark.parametrize(
    "name", ["zlib", "hex", "base64", "bz2", "rot13", "utf-7", "unicode_escape", "idna", "punycode", "undefined", "\0"]
)
def test_what_python_calls_an_encoding_and_the_web_does_not_is_passed_over(name: str) -> None:
    assert text_of(b"plain +AGE- \\u0041", name) == "plain +AGE- \\u0041"


@given(st.binary(max_size=300), st.one_of(st.none(), st.text(max_size=20)))
def test_no_bytes_and_no_label_fail(data: bytes, header: str | None) -> None:
    assert isinstance(text_of(data, header), str)
    assert isinstance(is_binary(data, header), bool)


def test_a_nul_near_the_beginning_is_binary_but_for_utf_16() -> None:
    assert is_binary(b"\x7fELF\0\0", None)
    assert is_binary(b"a\0b", "utf-8")
    assert not is_binary("text".encode("utf-16-le"), "utf-16le")
    assert not is_binary("text".encode("utf-16"), None)
    assert not is_binary(b"text" * 1_000 + b"\0", None)
