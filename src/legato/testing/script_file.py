"""Scripts as a file: one JSON step a line, as the script provider takes it, a round after each ``end``.

Beside those steps: ``{"gate": NAME}``, ``{"ping": true}`` and ``{"usage": {"input_tokens": 9}}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Literal

import msgspec

from legato.core.blocks import Json
from legato.testing.script import (
    Call,
    Cut,
    End,
    ErrorEvent,
    Figures,
    Gate,
    Ping,
    Raw,
    Reason,
    Say,
    Script,
    Stall,
    Step,
    Think,
    Wait,
    words,
)

KINDS = ("thinking", "text", "tool", "wait", "end", "fail", "gate", "ping", "usage")
FAULTS: Mapping[str, Sequence[Step]] = {
    "overloaded": (ErrorEvent(),),
    "cut": (Cut(),),
    "stall": (Stall(),),
    "refusal": (End("refusal"),),
    "length": (End("length"),),
    "bad_json": (Raw.garbage(b'data: {"type":\n\n'), Cut()),
}


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step; exactly one of ``KINDS`` says what it is."""

    thinking: str | None = None
    text: str | None = None
    tool: str | None = None
    wait: float | None = None
    end: Reason | None = None
    fail: Literal["overloaded", "cut", "stall", "refusal", "length", "bad_json"] | None = None
    gate: str | None = None
    ping: bool | None = None
    usage: Figures | None = None
    pace: float = 0
    repeat: int = 1
    new: bool = False
    signature: str | None = None
    input: dict[str, Json] = {}
    raw: str | None = None
    id: str | None = None

    def kinds(self) -> list[str]:
        return [name for name in KINDS if getattr(self, name) is not None]


def parse(text: str) -> list[Script]:
    """The rounds of a script file. Raises ``ValueError`` that names the line."""
    rounds: list[list[Line]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("```"):
            continue
        try:
            step = msgspec.json.decode(line, type=Line)
        except msgspec.DecodeError as error:
            raise ValueError(f"line {number}: {error}") from error
        if len(step.kinds()) != 1:
            raise ValueError(f"line {number}: expected one step, found {', '.join(step.kinds()) or 'none'}")
        rounds[-1].append(step)
        if step.end is not None:
            rounds.append([])
    return [_script(lines) for lines in rounds if lines]


def _script(lines: Sequence[Line]) -> Script:
    figures = next((line.usage for line in lines if line.usage is not None), Figures())
    return Script(list(_steps([line for line in lines if line.usage is None])), usage=figures)


def _steps(lines: Sequence[Line]) -> Iterator[Step]:
    """Neighbouring texts are one block, each word at its own line's pace, unless the later line is ``new``."""
    blocks = 0
    numbered = []
    for line in lines:
        blocks += line.new
        numbered.append((line, blocks))
    for (kind, _), run in groupby(numbered, key=lambda one: (one[0].kinds()[0], one[1])):
        together = [line for line, _ in run]
        if kind in {"thinking", "text"}:
            yield _block(together)
        else:
            for line in together:
                yield from _step(line)


def _block(lines: Sequence[Line]) -> Think | Say:
    pieces: list[str] = []
    gaps: list[float] = []
    for line in lines:
        said = words((line.text or line.thinking or "") * line.repeat)
        pieces += said
        gaps += [1 / line.pace if line.pace else 0.0] * len(said)
    text = "".join(pieces)
    if lines[0].thinking is None:
        return Say(text, pieces=pieces, gaps=gaps)
    return Think(text, pieces=pieces, gaps=gaps)


def _step(line: Line) -> Iterator[Step]:
    if line.tool is not None:
        yield Call(line.tool, line.input, raw=line.raw, id=line.id, pace=line.pace)
    elif line.wait is not None:
        yield Wait(line.wait)
    elif line.gate is not None:
        yield Gate(line.gate)
    elif line.ping is not None:
        yield Ping()
    elif line.fail is not None:
        yield from FAULTS[line.fail]
    elif line.end is not None:
        yield End(line.end)
