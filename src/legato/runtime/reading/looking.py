"""A turn as clients see it: of one that runs here its fold, of any other what is stored."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from legato.core import events as e
from legato.core import lines as log_lines
from legato.core.errors import NotFound
from legato.core.fold import Turn, fold
from legato.core.records import StoredTurn, TurnRow
from legato.core.usage import total
from legato.core.views import TurnView, WaitingFor
from legato.ports import Store
from legato.runtime.owning.owner import is_gone
from legato.runtime.runner import TurnRunner


async def stored_events(store: Store, turn_id: str) -> list[e.Event]:
    """Everything of a turn that is stored, as it was said."""
    segments = await store.log(turn_id, after=0)
    return [e.decode(line) for segment in segments for line in log_lines.split(segment.lines)]


async def readable_events(store: Store, turn_id: str) -> tuple[list[e.Event], str | None]:
    """Those before the first that cannot be read, and why that one cannot; None if all can."""
    events: list[e.Event] = []
    for segment in await store.log(turn_id, after=0):
        for line in log_lines.split(segment.lines):
            try:
                events.append(e.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                return events, str(error)
    return events, None


async def is_free(store: Store, row: TurnRow) -> bool:
    """Nobody runs it, though it should run: its owner is known to be dead, or did not renew its lease."""
    if row.ended_at is not None or row.status in ("waiting", "queued"):
        return False
    return is_gone(row.owner) or bool(await store.overdue(row.id))


async def status_of(store: Store, row: TurnRow) -> e.TurnStatus:
    """As its row says it; ``recovering`` also while nobody has taken it up yet."""
    return "recovering" if await is_free(store, row) else row.status


async def view(store: Store, turn_id: str, runner: TurnRunner | None) -> TurnView:
    """Raises ``NotFound``. ``runner`` is the turn's, where it runs in this process."""
    if runner is not None and not runner.live.hidden:
        siblings = await store.siblings(runner.row)
        if not runner.live.closed:  # its end was said meanwhile, and is stored; or it is somebody else's by now
            return running_view(runner, siblings)
    stored = await store.load(turn_id)
    if stored is None:
        raise NotFound(f"there is no turn {turn_id}")
    siblings = await store.siblings(stored.row)
    if stored.row.ended_at is not None:
        return stored_view(stored, siblings)
    turn = fold(await stored_events(store, turn_id))
    if turn.ended:  # since its row was read
        return await view(store, turn_id, None)
    said = folded_view(stored.row, turn, siblings)
    status = await status_of(store, stored.row)
    return replace(said, status=status) if status == "recovering" else said


def running_view(runner: TurnRunner, siblings: Sequence[str]) -> TurnView:
    """The fold of what was said. The end, while it is being stored, was not said yet."""
    turn = runner.machine.turn
    said = folded_view(runner.row, turn, siblings)
    if not turn.ended:
        return said
    return replace(said, status="running", stop_reason=None, error=None, last_seq=runner.live.last_seq)


def folded_view(row: TurnRow, turn: Turn, siblings: Sequence[str]) -> TurnView:
    return TurnView(
        id=row.id,
        chat_id=row.chat_id,
        prev_turn_id=row.prev_turn_id,
        siblings=tuple(siblings),
        role=row.role,
        status=("queued" if row.status == "queued" else "running") if turn.status == "queued" else turn.status,
        model=row.model,
        provider=row.provider,
        request=row.request,
        last_seq=turn.last_seq,
        blocks=turn.blocks,
        rounds=turn.rounds,
        waiting_for=tuple(
            WaitingFor(
                call_id=need.call_id,
                kind=need.kind,
                nr=need.nr,
                message=need.message,
                input_schema=need.input_schema,
            )
            for need in turn.waiting.values()
        ),
        usage=turn.usage if turn.ended else total(record.usage for record in turn.rounds),
        stop_reason=turn.stop_reason,
        error=turn.error,
        metadata=row.metadata,
        created_at=row.created_at,
        ended_at=None,
    )


def stored_view(stored: StoredTurn, siblings: Sequence[str]) -> TurnView:
    row = stored.row
    return TurnView(
        id=row.id,
        chat_id=row.chat_id,
        prev_turn_id=row.prev_turn_id,
        siblings=tuple(siblings),
        role=row.role,
        status=row.status,
        model=row.model,
        provider=row.provider,
        request=row.request,
        last_seq=row.last_seq,
        blocks=stored.blocks,
        rounds=stored.rounds,
        waiting_for=(),
        usage=row.usage,
        stop_reason=row.stop_reason,
        error=row.error,
        metadata=row.metadata,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
