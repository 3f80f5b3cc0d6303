"""The one meaning of events: ``fold(events)`` is the turn.

The server, the command line and the tests use this fold; a reader in another language writes its own, and
tests/vectors/ holds both to it. Whatever way a reader came by the events (as they were said, merged, cut and resumed,
read back from a store), the fold is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from legato.core import events as e
from legato.core.blocks import (
    Block,
    BlockState,
    FileBlock,
    ImageBlock,
    OpaqueBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from legato.core.records import RoundRecord
from legato.core.text import cut, measure
from legato.core.usage import UNKNOWN, Usage


class OpenBlock:
    """A block that still grows. ``pieces`` are its deltas, joined only when somebody asks."""

    __slots__ = ("pieces", "start")

    def __init__(self, start: e.BlockStart, text: str = "") -> None:
        self.start = start
        self.pieces: list[str] = [text] if text else []

    @property
    def text(self) -> str:
        if len(self.pieces) > 1:
            self.pieces[:] = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class FoldedRound:
    """A round with the seqs of what began, told and ended it, which a rewind needs."""

    __slots__ = ("noticed", "record", "started", "steered", "stopped")

    def __init__(self, record: RoundRecord, started: int) -> None:
        self.record = record
        self.started = started
        self.stopped: int | None = None
        self.noticed: list[int] = []
        self.steered: list[int] = []


class Turn:
    """What events 1 to ``last_seq`` make of a turn."""

    def __init__(self) -> None:
        self.turn_id = ""
        self.chat_id = ""
        self.prev_turn_id: str | None = None
        self.created_at = ""
        self.status: e.TurnStatus = "queued"
        self.stop_reason: e.TurnStopReason | None = None
        self.usage: Usage = UNKNOWN
        self.error: e.ErrorInfo | None = None
        self.last_seq = 0
        self.open: dict[int, OpenBlock] = {}
        self.closed: dict[int, Block] = {}
        self.starts: dict[int, e.BlockStart] = {}
        self.folded_rounds: list[FoldedRound] = []
        self.waiting: dict[str, e.CallWaiting] = {}
        self.needs: list[e.CallWaiting | e.CallAnswered] = []
        self.steers: list[e.Steer] = []

    @property
    def ended(self) -> bool:
        return self.stop_reason is not None

    @property
    def rounds(self) -> tuple[RoundRecord, ...]:
        return tuple(folded.record for folded in self.folded_rounds)

    @property
    def steered(self) -> dict[str, e.Steer]:
        """By ``steer_id``, in their order: what became of each."""
        return {steer.steer_id: steer for steer in self.steers}

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Open blocks included, by index."""
        shown = {index: _shown(block) for index, block in self.open.items()}
        return tuple(block for _, block in sorted((shown | self.closed).items()))

    def apply(self, event: e.Event) -> None:
        """An event that is not newer than ``last_seq`` is ignored, so a repeat changes nothing."""
        if event.seq > self.last_seq:
            _APPLY[type(event)](self, event)
            self.last_seq = event.seq


def fold(events: Iterable[e.Event]) -> Turn:
    turn = Turn()
    for event in events:
        turn.apply(event)
    return turn


def squash(events: Iterable[e.Event]) -> list[e.Event]:
    """Merge neighbouring deltas of one block: ``seq`` is the last one's, ``first_seq`` the first one's."""
    squashed: list[e.Event] = []
    run: list[e.BlockDelta] = []
    for event in events:
        if isinstance(event, e.BlockDelta):
            if run and run[-1].index != event.index:
                squashed.append(merge(run))
                run = []
            run.append(event)
        else:
            if run:
                squashed.append(merge(run))
                run = []
            squashed.append(event)
    if run:
        squashed.append(merge(run))
    return squashed


def merge(run: Sequence[e.BlockDelta]) -> e.BlockDelta:
    """One delta for consecutive ones of one block. A run of one is itself."""
    first, last = run[0], run[-1]
    if first is last:
        return first
    first_seq = first.seq if isinstance(first.first_seq, UnsetType) else first.first_seq
    return e.BlockDelta(seq=last.seq, index=last.index, text="".join(delta.text for delta in run), first_seq=first_seq)


def standing(turn: Turn) -> tuple[e.Standing, ...]:
    """All blocks of a turn as a ``rewind`` lists them."""
    return tuple(e.Standing(block.index, block.state, len(block.text.encode())) for block in turn.blocks)


def _turn_start(turn: Turn, event: e.TurnStart) -> None:
    turn.turn_id = event.turn_id
    turn.chat_id = event.chat_id
    turn.prev_turn_id = event.prev_turn_id
    turn.created_at = event.created_at
    turn.status = "running"


def _round_start(turn: Turn, event: e.RoundStart) -> None:
    record = RoundRecord(round=event.round, attempt=event.attempt, model=event.model, provider=event.provider)
    turn.folded_rounds.append(FoldedRound(record, event.seq))


def _round_stop(turn: Turn, event: e.RoundStop) -> None:
    for folded in turn.folded_rounds:
        if (folded.record.round, folded.record.attempt) == (event.round, event.attempt):
            folded.record = replace(
                folded.record,
                commitment=event.commitment,
                kept_to=None if isinstance(event.kept_to, UnsetType) else event.kept_to,
                stop_reason=event.stop_reason,
                provider_reason=event.provider_reason,
                usage=event.usage,
            )
            folded.stopped = event.seq


def _block_start(turn: Turn, event: e.BlockStart) -> None:
    turn.starts[event.index] = event
    turn.open[event.index] = OpenBlock(event)


def _block_delta(turn: Turn, event: e.BlockDelta) -> None:
    block = turn.open.get(event.index)
    if block is not None:
        block.pieces.append(event.text)


def _block_stop(turn: Turn, event: e.BlockStop) -> None:
    block = turn.open.pop(event.index, None)
    if block is not None:
        turn.closed[event.index] = _closed(block, event)
        if block.start.block_type == "tool_result" and isinstance(block.start.call_id, str):
            turn.waiting.pop(block.start.call_id, None)  # it was answered in another way: a cancel, say


def _notice(turn: Turn, event: e.Notice) -> None:
    if isinstance(event.round, UnsetType):
        return
    for folded in turn.folded_rounds:
        if folded.record.round == event.round:
            folded.record = replace(folded.record, notices=(*folded.record.notices, event.message))
            folded.noticed.append(event.seq)


def _steer(turn: Turn, event: e.Steer) -> None:
    turn.steers.append(event)
    if event.state == "delivered" and turn.folded_rounds:
        folded = turn.folded_rounds[-1]
        folded.record = replace(folded.record, steers=(*folded.record.steers, event.text))
        folded.steered.append(event.seq)


def _call_waiting(turn: Turn, event: e.CallWaiting) -> None:
    turn.needs.append(event)
    turn.waiting[event.call_id] = event


def _call_answered(turn: Turn, event: e.CallAnswered) -> None:
    turn.needs.append(event)
    turn.waiting.pop(event.call_id, None)
    turn.status = "running"


def _turn_waiting(turn: Turn, _: e.TurnWaiting) -> None:
    turn.status = "waiting"


def _nothing(turn: Turn, _: e.Event) -> None:
    """A fact for people; the turn is the same after it."""


def _rewind(turn: Turn, event: e.Rewind) -> None:
    stand = {standing.index: standing for standing in event.blocks}
    texts = {block.index: (block, block.text) for block in turn.blocks}
    turn.starts = {index: start for index, start in turn.starts.items() if index in stand}
    turn.open, turn.closed = {}, {}
    for index, (block, text) in texts.items():
        kept = stand.get(index)
        if kept is None:
            continue
        shorter = cut(text, kept.length)
        if kept.state == "open":
            turn.open[index] = OpenBlock(turn.starts[index], shorter)
        elif shorter == text and block.state != "open":
            turn.closed[index] = replace(block, state=kept.state)
        else:
            turn.closed[index] = _cut_short(block, shorter, kept.state)
    turn.steers = [steer for steer in turn.steers if steer.seq <= event.to]
    turn.folded_rounds = [folded for folded in turn.folded_rounds if folded.started <= event.to]
    for folded in turn.folded_rounds:
        _rewind_round(folded, event.to)
    needs = [need for need in turn.needs if need.seq <= event.to]
    turn.needs, turn.waiting = [], {}
    for need in needs:
        _APPLY[type(need)](turn, need)
    for block in turn.closed.values():
        if isinstance(block, ToolResultBlock):
            turn.waiting.pop(block.call_id, None)
    turn.status = "running"


def _cut_short(block: Block, text: str, state: BlockState) -> Block:
    if isinstance(block, ImageBlock | FileBlock):  # what they have is not streamed, their hash is the data's
        return replace(block, state=state)
    length, sha256 = measure(text)
    return replace(block, state=state, text=text, length=length, sha256=sha256)


def _rewind_round(folded: FoldedRound, to: int) -> None:
    record = folded.record
    if folded.stopped is not None and folded.stopped > to:
        record = RoundRecord(
            round=record.round,
            attempt=record.attempt,
            model=record.model,
            provider=record.provider,
            notices=record.notices,
            steers=record.steers,
        )
        folded.stopped = None
    folded.noticed = [seq for seq in folded.noticed if seq <= to]
    folded.steered = [seq for seq in folded.steered if seq <= to]
    folded.record = replace(
        record, notices=record.notices[: len(folded.noticed)], steers=record.steers[: len(folded.steered)]
    )


def _turn_end(turn: Turn, event: e.TurnEnd) -> None:
    turn.status = event.status
    turn.stop_reason = event.stop_reason
    turn.usage = event.usage
    turn.error = None if isinstance(event.error, UnsetType) else event.error
    turn.waiting.clear()


_APPLY: dict[type[e.Event], Callable[[Turn, Any], None]] = {
    e.TurnStart: _turn_start,
    e.RoundStart: _round_start,
    e.RoundStop: _round_stop,
    e.BlockStart: _block_start,
    e.BlockDelta: _block_delta,
    e.BlockStop: _block_stop,
    e.ToolStart: _nothing,
    e.CallWaiting: _call_waiting,
    e.CallAnswered: _call_answered,
    e.TurnWaiting: _turn_waiting,
    e.Steer: _steer,
    e.Notice: _notice,
    e.Rewind: _rewind,
    e.TurnEnd: _turn_end,
}


def _shown(block: OpenBlock) -> Block:
    """An open block as clients see it: what ``block_stop`` will add is not there yet."""
    return _closed(block, e.BlockStop(seq=0, index=block.start.index, state="open"))


def _closed(block: OpenBlock, stop: e.BlockStop) -> Block:
    start = block.start
    base: dict[str, Any] = {
        name: value
        for name, value in (
            ("index", start.index),
            ("round", start.round),
            ("state", stop.state),
            ("text", block.text),
            ("length", stop.length),
            ("sha256", stop.sha256),
            ("provider_data", stop.provider_data),
        )
        if value is not UNSET
    }
    match start.block_type:
        case "text":
            return TextBlock(**base, citations=stop.citations)
        case "thinking":
            return ThinkingBlock(**base, signature=stop.signature, redacted=stop.redacted)
        case "tool_use":
            whole = None if isinstance(stop.input, UnsetType) else stop.input
            return ToolUseBlock(**base, **_call(start), input=whole)
        case "tool_result":
            return ToolResultBlock(
                **base,
                **_call(start),
                outcome=None if isinstance(stop.outcome, UnsetType) else stop.outcome,
                output=None if stop.output is UNSET else stop.output,
                error=stop.error,
                ran_input=stop.ran_input,
                bytes=stop.bytes,
                href=stop.href,
            )
        case "image":
            return ImageBlock(**base, media_type=stop.media_type, url=stop.url, bytes=stop.bytes, href=stop.href)
        case "file":
            return FileBlock(
                **base, name=stop.name, media_type=stop.media_type, url=stop.url, bytes=stop.bytes, href=stop.href
            )
        case "opaque":
            return OpaqueBlock(**base)


def _call(start: e.BlockStart) -> dict[str, Any]:
    return {"call_id": start.call_id, "tool_name": start.tool_name, "origin": start.origin}
