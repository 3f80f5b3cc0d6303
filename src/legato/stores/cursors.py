"""The cursor of a list of chats: the last chat that was shown, as text that clients hand back and never read."""

from __future__ import annotations

import base64
import binascii

import msgspec

from legato.core.errors import InvalidRequest
from legato.core.records import Chat

_decoder = msgspec.json.Decoder(tuple[str, str])


def after(chat: Chat) -> str:
    """The cursor for the page that begins behind this chat. It stays good when the chat is deleted."""
    return base64.urlsafe_b64encode(msgspec.json.encode((chat.updated_at, chat.id))).decode().rstrip("=")


def read(cursor: str) -> tuple[str, str]:
    """``updated_at`` and id of the last chat shown. Raises ``InvalidRequest`` for what ``after`` did not make."""
    try:
        return _decoder.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest.at("/before", "expected the `next` of an earlier page") from error
