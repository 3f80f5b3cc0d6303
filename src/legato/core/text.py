"""Text as it may be numbered, hashed and stored: valid UTF-8 without NUL (docs/architecture.md), and its measure."""

from __future__ import annotations

import hashlib

_REPLACEMENT = "\ufffd"


def clean(text: str) -> str:
    """Lone surrogates and NUL become U+FFFD. Both stores and JSON readers choke on them; all else stays as it is."""
    if text.isascii():
        return text.replace("\0", _REPLACEMENT) if "\0" in text else text
    try:
        text.encode()
    except UnicodeEncodeError:
        # A pair of surrogates that a vendor escaped one by one is one character; what stays alone is none.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", _REPLACEMENT)


def measure(text: str) -> tuple[int, str]:
    """``length`` in UTF-8 bytes and ``sha256`` of them, hex."""
    data = text.encode()
    return len(data), hashlib.sha256(data).hexdigest()


def cut(text: str, length: int) -> str:
    """The first ``length`` UTF-8 bytes, without a torn last character."""
    return text.encode()[:length].decode(errors="ignore")
