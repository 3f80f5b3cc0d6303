"""Bytes of the web as text: a byte order mark, then what the header says, then what the document says, then a guess.

Encodings are those of the WHATWG's list that Python reads, and no others: Python also calls compression an encoding.
"""

from __future__ import annotations

import codecs
import re

_DECLARED_WITHIN = 1_024
"""Bytes in which a document must say its encoding (HTML, 4.2.5.4)."""
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_XML = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

_READ = frozenset(
    codecs.lookup(name).name
    for name in (
        *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic"),
        *("gb2312", "gbk", "gb18030", "big5", "big5hkscs", "euc-jp", "iso-2022-jp", "shift-jis", "cp932"),
        *("euc-kr", "cp949", "cp866", "cp874"),
        *(f"cp125{one}" for one in range(9)),
        *(f"iso-8859-{one}" for one in range(1, 17) if one != 12),
    )
)
# What browsers read where a page says less than it uses (WHATWG Encoding, 4.2).
_WIDER = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "utf-16": "utf-16-le",
}


def text_of(data: bytes, header: str | None) -> str:
    """Never raises: what cannot be read is U+FFFD. ``header`` is the charset of Content-Type."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    said = _known(header) or _declared(data)
    if said is not None:
        return data.decode(said, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        # A body cut inside a character is UTF-8 all the same; anything else is what old pages without a word are in.
        whole = error.reason == "unexpected end of data"
        return data.decode("utf-8" if whole else "cp1252", errors="replace")


def is_binary(data: bytes, header: str | None) -> bool:
    """Whether bytes that are said to be text are none: a NUL near the beginning, outside of UTF-16."""
    wide = (_known(header) or "").startswith("utf-16") or data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return not wide and b"\0" in data[:_DECLARED_WITHIN]


def _declared(data: bytes) -> str | None:
    head = data[:_DECLARED_WITHIN]
    said = _META.search(head) or _XML.search(head)
    encoding = _known(said[1].decode("ascii")) if said else None
    # Bytes in which this could be read are not UTF-16, whatever they say (WHATWG HTML, 13.2.3.2).
    return "utf-8" if encoding is not None and encoding.startswith("utf-16") else encoding


def _known(label: str | None) -> str | None:
    if not label:
        return None
    try:
        name = codecs.lookup(label.strip(" \"'")).name
    except (LookupError, ValueError, UnicodeError):
        return None
    name = _WIDER.get(name, name)
    return name if name in _READ else None
