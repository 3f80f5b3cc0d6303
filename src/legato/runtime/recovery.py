"""Turns that cannot go on are ended in good order, from what is stored: no chat is busy for ever (hazard 14)."""

from __future__ import annotations

import logging

import anyio

from legato.core import events as e
from legato.core.closing import close_interrupted
from legato.core.errors import StoreError
from legato.core.fold import fold
from legato.core.records import KeptSteer, LogSegment, StoredTurn, TurnEnding, TurnRow, TurnWrite
from legato.core.resuming import Stored
from legato.observability import count
from legato.ports import Clock, Store
from legato.runtime.reading.looking import readable_events

_logger = logging.getLogger(__name__)

TRY_SECONDS = 5.0
"""Of one try to end a turn; a store that hangs is asked again."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
"""Seconds between two tries, doubled up to the longest."""


async def end_interrupted(store: Store, row: TurnRow, stored: Stored, *, clock: Clock, error: e.ErrorInfo) -> None:
    """End a turn that was just claimed: ``row`` is as it is since. Raises ``StoreError``."""
    count("turns_interrupted")
    _logger.warning("turn %s cannot go on and is ended: %s", row.id, error.message)
    await store.write([await _closing_write(store, row, stored, row.epoch, clock, error)])


async def end_unstored(store: Store, turn_id: str, *, owner: str, clock: Clock, error: e.ErrorInfo) -> None:
    """End in the store what this process has given up on: what is stored of it stands, the rest did not happen.

    Tried until the store takes it, or says that somebody else has the turn. A write of the old owner that was given up
    on and comes late is refused for its epoch.
    """
    pause = FIRST_PAUSE
    while True:
        with anyio.move_on_after(TRY_SECONDS):
            try:
                row = await store.turn(turn_id)
                if row is not None and row.ended_at is None and row.owner == owner:
                    await _end(store, row, owner=owner, clock=clock, error=error)
                return
            except StoreError as failure:
                count("unstored_end_retries")
                _logger.debug("turn %s cannot be ended yet: %s", turn_id, failure.message)
            except Exception:  # the supervisor of this end
                count("looks_broken")
                _logger.exception("turn %s cannot be ended", turn_id)
                return
        await anyio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _end(store: Store, row: TurnRow, *, owner: str, clock: Clock, error: e.ErrorInfo) -> None:
    """Nothing, if somebody else was faster."""
    epoch = row.epoch + 1
    if await store.claim(row.id, epoch=epoch, owner=owner):
        intents = {intent.call_id for intent in await store.intents(row.id)}
        (events, _), steers = await readable_events(store, row.id), await store.steers(row.id)
        stored = Stored(events=events, intents=intents, steers=steers)
        await store.write([await _closing_write(store, row, stored, epoch, clock, error)])


async def _closing_write(
    store: Store, row: TurnRow, stored: Stored, epoch: int, clock: Clock, error: e.ErrorInfo
) -> TurnWrite:
    """Rows of what stands behind an event that cannot be read go: no reader is told of them any more."""
    kept, stands = await store.load(row.id), fold(stored.events)
    rows = StoredTurn(row=row) if kept is None else kept
    rounds = {(record.round, record.attempt) for record in stands.rounds}
    scribe = close_interrupted(
        row, stored.events, epoch=epoch, intents=stored.intents, steers=stored.steers, error=error
    )
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
        dropped_blocks=tuple(block.index for block in rows.blocks if block.index not in stands.closed),
        dropped_rounds=tuple(
            (record.round, record.attempt) for record in rows.rounds if (record.round, record.attempt) not in rounds
        ),
        steers=tuple(
            KeptSteer(steer_id=steer.steer_id, text=steer.text, state=steer.state) for steer in turn.steered.values()
        ),
        ending=TurnEnding(
            status="error",
            stop_reason="error",
            usage=turn.usage,
            error=turn.error,
            ended_at=clock.now(),
        ),
    )
