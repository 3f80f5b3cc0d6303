"""Turns whose owner died are ended in good order, so that no chat is busy for ever (hazard 14).

Taking such a turn over and going on with it is what the epoch and the seq ranges are for; this sweep only ends it.
"""

from __future__ import annotations

import logging

from legato.core import events as e
from legato.core.closing import close_interrupted
from legato.core.records import LogSegment, TurnEnding, TurnRow, TurnWrite
from legato.observability import count
from legato.ports import Clock, Store
from legato.runtime.looking import stored_events
from legato.runtime.owner import is_gone

_logger = logging.getLogger(__name__)


async def end_orphans(store: Store, *, owner: str, clock: Clock) -> int:
    """End every turn whose process is gone; how many that were. Raises ``StoreError``."""
    ended = 0
    for row in await store.unended():
        if row.owner == owner or not is_gone(row.owner):
            continue
        epoch = row.epoch + 1
        if await store.claim(row.id, epoch=epoch, owner=owner):
            await store.write([await _closing_write(store, row, epoch, clock)])
            ended += 1
            count("turns_interrupted")
            _logger.warning("turn %s was running when its server stopped: ended as interrupted", row.id)
    return ended


async def _closing_write(store: Store, row: TurnRow, epoch: int, clock: Clock) -> TurnWrite:
    scribe = close_interrupted(row, await stored_events(store, row.id), epoch=epoch)
    said = [action for action in scribe.actions if isinstance(action, e.BaseEvent)]
    turn = scribe.turn
    stopped = {event.index for event in said if isinstance(event, e.BlockStop)}
    return TurnWrite(
        turn_id=row.id,
        epoch=epoch,
        segment=LogSegment(
            first_seq=said[0].seq,
            last_seq=said[-1].seq,
            lines=b"".join(e.encode(event) + b"\n" for event in said),
        ),
        blocks=tuple(turn.closed[index] for index in sorted(stopped)),
        rounds=turn.rounds,
        ending=TurnEnding(
            status="error",
            stop_reason="error",
            usage=turn.usage,
            error=turn.error,
            ended_at=clock.now(),
        ),
    )
