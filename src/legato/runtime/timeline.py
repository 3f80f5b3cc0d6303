"""Where a turn's time went (docs/http.md, timeline), written down from the events it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from legato.core import events as e
from legato.core.fold import Turn
from legato.core.records import Span

_Kind = Literal["round", "block", "tool_held", "tool_wait", "tool_run", "store", "waiting", "owner"]


class TimelineRecorder:
    """``now`` is seconds on a clock that never goes back; ``began`` is what it said when the turn was created.
    ``earlier`` are the spans of the owners before; what they left open goes on."""

    def __init__(self, *, now: Callable[[], float], began: float, earlier: Sequence[Span] = ()) -> None:
        self._now = now
        self._began = began
        self._earlier = [span for span in earlier if span.end_ms is not None]
        self._spans: dict[tuple[str, str], Span] = {
            (span.kind, span.call_id): span for span in earlier if span.end_ms is None and isinstance(span.call_id, str)
        }
        self._open("owner", "", name="owner", round=0)

    def spans(self) -> tuple[Span, ...]:
        return (*self._earlier, *self._spans.values())

    def see(self, event: e.Event, turn: Turn, *, held: Callable[[str], bool]) -> None:
        """``event``, no delta, was just said; ``turn`` has it. ``held``: tools of this name wait for their response."""
        match event:
            case e.RoundStart():
                self._open("round", _round_key(event), name=event.model, round=event.round)
            case e.RoundStop():
                self._close("round", _round_key(event))
            case e.BlockStart():
                self._open(
                    "block",
                    str(event.index),
                    name=event.block_type,
                    round=event.round,
                    index=event.index,
                    call_id=event.call_id,
                )
            case e.BlockStop():
                self._close("block", str(event.index))
                self._see_call(turn.starts[event.index], held)
            case e.ToolStart():
                start = turn.starts[event.index]
                self._close("tool_held", event.call_id)
                self._close("tool_wait", event.call_id)
                self._open_call("tool_run", start)
            case e.CallWaiting():
                self._open_call("waiting", turn.starts[event.index])
            case e.CallAnswered():
                self._close("waiting", event.call_id)
            case e.TurnWaiting():
                self._close("owner", "")
            case e.TurnEnd():
                for kind, name in list(self._spans):
                    self._close(kind, name)
            case _:
                return

    def store_wait(self, name: str, round: int) -> Callable[[], None]:
        """Somebody waits for the store from now on; call what is returned when it is over."""
        self._open("store", name, name=name, round=round)
        return lambda: self._close("store", name)

    def _see_call(self, start: e.BlockStart, held: Callable[[str], bool]) -> None:
        if isinstance(start.call_id, UnsetType) or isinstance(start.tool_name, UnsetType) or start.origin == "provider":
            return
        if start.block_type == "tool_use":
            self._open_call("tool_held" if held(start.tool_name) else "tool_wait", start)
        else:
            for kind in ("tool_held", "tool_wait", "tool_run", "waiting"):
                self._close(kind, start.call_id)

    def _open_call(self, kind: _Kind, start: e.BlockStart) -> None:
        assert not isinstance(start.call_id, UnsetType)
        assert not isinstance(start.tool_name, UnsetType)
        self._open(
            kind,
            start.call_id,
            name=start.tool_name,
            round=start.round,
            index=start.index,
            call_id=start.call_id,
        )

    def _open(
        self,
        kind: _Kind,
        key: str,
        *,
        name: str,
        round: int,
        index: int | UnsetType = UNSET,
        call_id: str | UnsetType = UNSET,
    ) -> None:
        self._spans[kind, key] = Span(
            kind=kind, name=name, round=round, start_ms=self._ms(), end_ms=None, index=index, call_id=call_id
        )

    def _close(self, kind: str, key: str) -> None:
        span = self._spans.get((kind, key))
        if span is not None and span.end_ms is None:
            self._spans[kind, key] = replace(span, end_ms=self._ms())

    def _ms(self) -> float:
        return round((self._now() - self._began) * 1000, 3)


def _round_key(event: e.RoundStart | e.RoundStop) -> str:
    return f"{event.round}.{event.attempt}"


def owned_seconds(spans: Sequence[Span]) -> float:
    """How long the turn was run by anybody: the time that counts, waiting does not."""
    return sum(span.end_ms - span.start_ms for span in spans if span.kind == "owner" and span.end_ms is not None) / 1000


def last_known(spans: Sequence[Span]) -> float:
    """Seconds from the turn's beginning to the last of its spans' ends and starts; 0 where there are none."""
    return max((span.end_ms or span.start_ms for span in spans), default=0.0) / 1000


def overlap_ms(spans: Sequence[Span]) -> float:
    """What early start saved: per round, against all its tools starting together once the response had ended."""
    saved = 0.0
    ends = {span.round: span.end_ms for span in spans if span.kind == "round" and span.end_ms is not None}
    for number, stream_end in ends.items():
        runs = [(run.start_ms, run.end_ms) for run in spans if run.kind == "tool_run" and run.round == number]
        ended = [(start, end) for start, end in runs if end is not None]
        if ended:
            without = stream_end + max(end - start for start, end in ended)
            really = max(stream_end, *(end for _, end in ended))
            saved += max(0.0, without - really)
    return round(saved, 3)
