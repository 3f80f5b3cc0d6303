"""The events of a user turn. It is said all at once and born ended, in the same events as any other turn."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from legato.core import events as e
from legato.core.blocks import Block, BlockType, FileBlock, ImageBlock, TextBlock
from legato.core.fold import Turn
from legato.core.scribe import Scribe
from legato.core.text import clean, measure
from legato.core.usage import UNKNOWN


def say(
    *, turn_id: str, chat_id: str, prev_turn_id: str | None, created_at: str, blocks: Sequence[Block]
) -> tuple[Turn, list[e.Event]]:
    """The folded turn and its events. ``blocks`` are text, image and file blocks; their ``index`` is their place."""
    scribe = Scribe(epoch=0)
    scribe.say(
        e.TurnStart(
            seq=scribe.next_seq(), turn_id=turn_id, chat_id=chat_id, prev_turn_id=prev_turn_id, created_at=created_at
        )
    )
    for block in blocks:
        _say_block(scribe, block)
    scribe.say(e.TurnEnd(seq=scribe.next_seq(), status="complete", stop_reason="end", usage=UNKNOWN))
    events = [event for event in scribe.actions if isinstance(event, e.BaseEvent)]
    return scribe.turn, events


def _say_block(scribe: Scribe, block: Block) -> None:
    index = scribe.take_index()
    match block:
        case TextBlock():
            scribe.say(e.BlockStart(seq=scribe.next_seq(), index=index, round=0, block_type="text"))
            text = clean(block.text)
            if text:
                scribe.say(e.BlockDelta(seq=scribe.next_seq(), index=index, text=text))
            length, sha256 = measure(text)
            stop = e.BlockStop(seq=scribe.next_seq(), index=index, state="complete", length=length, sha256=sha256)
            scribe.say(stop)
        case ImageBlock() | FileBlock():
            block_type: BlockType = "image" if isinstance(block, ImageBlock) else "file"
            scribe.say(e.BlockStart(seq=scribe.next_seq(), index=index, round=0, block_type=block_type))
            scribe.say(
                e.BlockStop(
                    seq=scribe.next_seq(),
                    index=index,
                    state="complete",
                    sha256=block.sha256,
                    name=clean(block.name) if isinstance(block, FileBlock) and isinstance(block.name, str) else UNSET,
                    media_type=block.media_type,
                    url=block.url,
                    bytes=block.bytes,
                    href=block.href,
                )
            )
        case _:
            raise TypeError(f"a user turn has text, image and file blocks, not {type(block).__name__}")
