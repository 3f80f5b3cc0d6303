"""Ids and signatures an upstream makes up: the same for the same response, never the same for two."""

from __future__ import annotations

import base64
import hashlib

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def made_up(prefix: str, length: int, *of: object) -> str:
    """``prefix`` and ``length`` characters that depend on ``of``."""
    number = int.from_bytes(hashlib.sha512(repr(of).encode()).digest(), "big")
    letters = []
    for _ in range(length):
        number, rest = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[rest])
    return prefix + "".join(letters)


def signature_of(thinking: str) -> str:
    """What signs this thinking and no other, so that an edit is noticed when it comes back."""
    return base64.b64encode(b"legato-upstream:" + hashlib.sha256(thinking.encode()).digest() * 2).decode()


def sealed_words(thinking: str) -> str:
    """Thinking nobody may read: the data of a redacted block."""
    raw = thinking.encode()
    return base64.b64encode(b"legato-upstream:" + hashlib.sha256(raw).digest() + raw).decode()


def unseals(data: str) -> bool:
    """Whether ``data`` is a redacted block's as it was made."""
    try:
        raw = base64.b64decode(data, validate=True)
    except ValueError:
        return False
    mark, digest, words = raw[:16], raw[16:48], raw[48:]
    return mark == b"legato-upstream:" and digest == hashlib.sha256(words).digest()
