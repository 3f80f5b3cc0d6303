"""What a writer makes of a script: acts in their order, to be performed by a ``Player``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from legato.testing.script import Ending, Gate, Paced


class Frame(msgspec.Struct, frozen=True):
    """Bytes that leave in one write."""

    data: bytes


class Pause(msgspec.Struct, frozen=True):
    """The next act is due so many seconds after this one was due."""

    seconds: float


class Until(msgspec.Struct, frozen=True):
    """The next act is due so many seconds after the first byte."""

    at: float


class Sever(msgspec.Struct, frozen=True):
    """Break off after ``into`` bytes of the next frame."""

    how: Ending
    into: int


class Silence(msgspec.Struct, frozen=True):
    """Nothing more, ever, but ``frame`` each ``every`` seconds if it is set."""

    every: float | None
    frame: bytes


class Breathe(msgspec.Struct, frozen=True):
    """Let the loop run, so that what was written is likely to be read before what comes."""


Act: TypeAlias = Frame | Pause | Until | Gate | Sever | Silence | Breathe


def waits(step: Paced, count: int) -> Iterator[Pause | Until | None]:
    """What stands before each of a step's ``count`` deltas."""
    times = step.at if step.at is not None else step.gaps
    if times is not None:
        if len(times) != count:
            raise ValueError(f"{count} deltas, but {len(times)} times")
        wait = Until if step.at is not None else Pause
        yield from (wait(seconds) if seconds else None for seconds in times)
        return
    seconds = step.over / count if step.over is not None and count else (1 / step.pace if step.pace else 0)
    yield from (Pause(seconds) if seconds else None for _ in range(count))


def paced(step: Paced, frames: Sequence[bytes]) -> Iterator[Act]:
    """The frames of a step's deltas, each at its time. A step without a delta still takes its ``over``."""
    if not frames and step.over:
        yield Pause(step.over)
    for wait, frame in zip(waits(step, len(frames)), frames, strict=True):
        if wait is not None:
            yield wait
        yield Frame(frame)


def recorded(body: bytes, pace: float) -> Iterator[Act]:
    """A recording's frames as they are; what follows the last blank line is one more."""
    at = 0
    while at < len(body):
        ends = [end + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (end := body.find(mark, at)) >= 0]
        end = min(ends, default=len(body))
        if pace:
            yield Pause(1 / pace)
        yield Frame(body[at:end])
        at = end


def severed(acts: Iterator[Act]) -> Iterator[Act]:
    """The acts up to a cut, with the part of the next frame that still leaves."""
    for act in acts:
        if not isinstance(act, Sever):
            yield act
            continue
        if act.into:
            for after in acts:
                if isinstance(after, Frame):
                    yield Frame(after.data[: act.into])
                    break
                yield after
        yield act
        return


def regrouped(acts: Iterator[Act], *, frames: int, size: int | None) -> Iterator[Act]:
    """The same bytes at the same times in other writes: ``frames`` at a time (0: as many as are due together), or
    ``size`` bytes at a time."""
    if size is not None:
        yield from _split(acts, size)
    elif frames != 1:
        yield from _joined(acts, frames)
    else:
        yield from acts


def _split(acts: Iterator[Act], size: int) -> Iterator[Act]:
    for act in acts:
        if not isinstance(act, Frame):
            yield act
            continue
        for at in range(0, len(act.data), size):
            yield Frame(act.data[at : at + size])
            yield Breathe()


def _joined(acts: Iterator[Act], frames: int) -> Iterator[Act]:
    held: list[bytes] = []
    for act in acts:
        if isinstance(act, Frame):
            held.append(act.data)
            if len(held) == frames:
                yield Frame(b"".join(held))
                held.clear()
            continue
        if held:
            yield Frame(b"".join(held))
            held.clear()
        yield act
    if held:
        yield Frame(b"".join(held))
