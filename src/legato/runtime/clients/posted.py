"""What is posted becomes blocks: text made clean, base64 made bytes, and the user turn's own log."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from legato.core import events as e
from legato.core import user_turn
from legato.core.blocks import Block, FileBlock, ImageBlock, TextBlock
from legato.core.errors import InvalidRequest
from legato.core.posts import PostedFile, PostedImage, PostedText, PostTurn
from legato.core.records import Datum, LogSegment, TurnEnding, TurnRow, TurnWrite
from legato.core.text import clean
from legato.core.usage import UNKNOWN

TITLE_CHARACTERS = 60


def posted_blocks(post: PostTurn, *, turn_id: str, limit: int) -> tuple[tuple[Block, ...], list[Datum]]:
    """The blocks of the user turn ``turn_id`` and the bytes beside them. Raises ``InvalidRequest``."""
    if post.input is not UNSET and post.blocks is not UNSET:
        raise InvalidRequest.at("/input", "stands for one text block; send either input or blocks")
    if isinstance(post.input, str):
        return (_text(post.input, 0, "/input"),), []
    posted = () if isinstance(post.blocks, UnsetType) else post.blocks
    if not posted:
        raise InvalidRequest.at("/blocks", "is empty")
    if len(posted) > limit:
        message = f"has {len(posted)} blocks, limit is {limit}"
        raise InvalidRequest.at("/blocks", message, limit=limit, actual=len(posted))
    blocks: list[Block] = []
    data: list[Datum] = []
    for index, block in enumerate(posted):
        if isinstance(block, PostedText):
            blocks.append(_text(block.text, index, f"/blocks/{index}/text"))
        else:
            blocks.append(_attachment(block, index, turn_id, data))
    return tuple(blocks), data


def title(post: PostTurn) -> str:
    """The first words, on one line."""
    text = post.input if isinstance(post.input, str) else ""
    if not isinstance(post.blocks, UnsetType):
        text = next((block.text for block in post.blocks if isinstance(block, PostedText)), "")
    words = clean(" ".join(text[: 4 * TITLE_CHARACTERS].split()))
    if len(words) <= TITLE_CHARACTERS:
        return words
    return words[:TITLE_CHARACTERS].rsplit(" ", 1)[0].rstrip() + "…"


def user_write(row: TurnRow, blocks: Sequence[Block]) -> TurnWrite:
    """The user turn as a store keeps it: its log, and its blocks as the fold of that log has them."""
    turn, events = user_turn.say(
        turn_id=row.id,
        chat_id=row.chat_id,
        prev_turn_id=row.prev_turn_id,
        created_at=row.created_at,
        blocks=blocks,
    )
    body = b"".join(e.encode(event) + b"\n" for event in events)
    return TurnWrite(
        turn_id=row.id,
        epoch=0,
        segment=LogSegment(first_seq=1, last_seq=turn.last_seq, lines=body),
        blocks=turn.blocks,
        ending=TurnEnding(status="complete", stop_reason="end", usage=UNKNOWN, error=None, ended_at=row.created_at),
    )


def _text(text: str, index: int, path: str) -> TextBlock:
    if not text.strip():
        raise InvalidRequest.at(path, "is empty")
    return TextBlock(index=index, round=0, state="complete", text=clean(text))


class _Content(msgspec.Struct, frozen=True):
    media_type: str
    data: bytes
    sha256: str


def _attachment(block: PostedImage | PostedFile, index: int, turn_id: str, data: list[Datum]) -> ImageBlock | FileBlock:
    path = f"/blocks/{index}"
    if (block.data is UNSET) == (block.url is UNSET):
        raise InvalidRequest.at(path, "needs either data or url")
    name = block.name if isinstance(block, PostedFile) else UNSET
    content = None if isinstance(block.data, UnsetType) else _content(block, block.data, path)
    if content is not None:
        shown_name = None if isinstance(name, UnsetType) else name
        data.append(
            Datum(
                index=index,
                media_type=content.media_type,
                sha256=content.sha256,
                data=content.data,
                name=shown_name,
            )
        )
    sha256 = UNSET if content is None else content.sha256
    size = UNSET if content is None else len(content.data)
    href = UNSET if content is None else f"/v1/turns/{turn_id}/blocks/{index}/data"
    if isinstance(block, PostedImage):
        return ImageBlock(
            index=index,
            round=0,
            state="complete",
            media_type=block.media_type,
            url=block.url,
            bytes=size,
            sha256=sha256,
            href=href,
        )
    return FileBlock(
        index=index,
        round=0,
        state="complete",
        name=name,
        media_type=block.media_type,
        url=block.url,
        bytes=size,
        sha256=sha256,
        href=href,
    )


def _content(block: PostedImage | PostedFile, encoded: str, path: str) -> _Content:
    if isinstance(block.media_type, UnsetType):
        raise InvalidRequest.at(f"{path}/media_type", "is missing, and data needs one")
    if isinstance(block, PostedImage) and not block.media_type.startswith("image/"):
        raise InvalidRequest.at(f"{path}/media_type", f"is {block.media_type}, an image needs image/…")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest.at(f"{path}/data", "is not base64") from error
    if not content:
        raise InvalidRequest.at(f"{path}/data", "is empty")
    return _Content(block.media_type, content, hashlib.sha256(content).hexdigest())
