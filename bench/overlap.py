"""P1: how long a turn takes over the longest path through it, in each scenario of docs/performance.md, on both wires.

The server is a child process, the model an ``Upstream`` in this one, the reader a plain HTTP client: a turn is
measured from its POST to its ``turn_end`` as the reader sees it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

import aiohttp
import msgspec

from bench.scenarios import FIRST_TOKEN, SCENARIOS, SECOND_ROUND, TEXT, Job, Scenario
from bench.server import legato
from bench.table import keep, show
from legato.testing.upstream import Call, Request, Say, Script, Step, Upstream, Wait, Wire, round_of

WIRES: tuple[Wire, ...] = ("anthropic", "openai_chat")
MODELS: dict[Wire, str] = {"anthropic": "anthropic/bench", "openai_chat": "openai/bench"}
DELTAS_OF_TEXT = 15  # 50 a second, as models are
PARTS: tuple[Literal["before", "between", "after"], ...] = ("before", "between", "after")
PIECE = 8  # characters of arguments in a delta

TOOLS = '''
import asyncio
from legato import tool

@tool(effect="read")
async def look(seconds: float, number: int, note: str) -> str:
    """Look something up."""
    await asyncio.sleep(seconds)
    return f"looked {number}"

@tool(effect="write")
async def change(seconds: float, number: int, note: str) -> str:
    """Change something."""
    await asyncio.sleep(seconds)
    return f"changed {number}"
'''


class Run(msgspec.Struct, frozen=True):
    """One turn, in seconds; ``before`` the first request to the model, ``between`` the two beyond the longest path,
    ``after`` the second round's time: what the server took."""

    took: float
    before: float
    between: float
    after: float


class Measured(msgspec.Struct, frozen=True):
    """The runs of one scenario on one wire."""

    scenario: Scenario
    wire: Wire
    runs: tuple[Run, ...]

    @property
    def median(self) -> float:
        return statistics.median(one.took for one in self.runs)

    def part(self, name: Literal["before", "between", "after"]) -> float:
        """Milliseconds, the median."""
        seconds: list[float] = [getattr(one, name) for one in self.runs]
        return statistics.median(seconds) * 1000

    @property
    def ratio(self) -> float:
        return self.median / self.scenario.ideal()

    @property
    def over(self) -> float:
        """Milliseconds over the ideal."""
        return (self.median - self.scenario.ideal()) * 1000


def first_round(scenario: Scenario) -> Script:
    steps: list[Step] = [Wait(FIRST_TOKEN), Say("word " * DELTAS_OF_TEXT, over=TEXT)]
    steps += [_call(number, job) for number, job in enumerate(scenario.jobs)]
    steps.append(Say("And so on.", over=scenario.text_after))
    return Script(steps)


def _call(number: int, job: Job) -> Call:
    # Each call differs, since two equal ones would share one execution.
    arguments = {"seconds": job.takes, "number": number, "note": "as asked for by the benchmark"}
    return Call("look" if job.effect == "read" else "change", arguments, over=job.args, piece=PIECE)


def second_round() -> Script:
    return Script([Wait(FIRST_TOKEN), Say("All is done.", over=SECOND_ROUND - FIRST_TOKEN)])


async def turn(client: aiohttp.ClientSession, url: str, model: str) -> tuple[float, float]:
    """When the turn was posted and when it had ended, CLOCK_MONOTONIC. Raises if it did not end well."""
    begun = time.monotonic()
    body = {"input": "Go.", "model": model}
    last = b""
    async with client.post(f"{url}/v1/turns", json=body, headers={"accept": "text/event-stream"}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"the turn was refused: {answer.status} {await answer.text()}")
        async for line in answer.content:
            if line.startswith(b"data:"):
                last = line
            if line.startswith(b"data:") and b'"type":"turn_end"' in line:
                ended = time.monotonic()
                break
        else:
            raise RuntimeError(f"the stream ended without turn_end; its last event was {last!r}")
    said = msgspec.json.decode(last[5:])
    if said["status"] != "complete" or said["stop_reason"] != "end":
        raise RuntimeError(f"the turn did not end well: {last!r}")
    return begun, ended


def run_of(scenario: Scenario, begun: float, ended: float, requests: Sequence[Request]) -> Run:
    """What the upstream saw of the turn between the two ends."""
    first, second = (one.at for one in requests if begun <= one.at <= ended)
    return Run(
        took=ended - begun,
        before=first - begun,
        between=second - first - (scenario.ideal() - SECOND_ROUND),
        after=ended - second - SECOND_ROUND,
    )


async def measure(scenarios: Sequence[Scenario], wires: Sequence[Wire], runs: int) -> list[Measured]:
    """One server and one upstream for all; the upstream's script changes with the scenario."""
    current = scenarios[0]

    def answer(request: Request) -> Script:
        return second_round() if round_of(request) else first_round(current)

    measured = []
    async with Upstream.open(default=answer) as upstream:
        with ExitStack() as stack:
            child = await asyncio.to_thread(
                stack.enter_context, legato(upstream=upstream.base_url("anthropic"), tools=TOOLS)
            )
            url = f"http://127.0.0.1:{child.port}"
            async with aiohttp.ClientSession() as client:
                for wire in wires:
                    current = Scenario("warm-up", (Job(0.0, 0.0),), 0.0)
                    await turn(client, url, MODELS[wire])
                    for current in scenarios:
                        spans = [await turn(client, url, MODELS[wire]) for _ in range(runs)]
                        seen = tuple(run_of(current, *span, upstream.requests) for span in spans)
                        measured.append(Measured(current, wire, seen))
        if upstream.refused:
            raise RuntimeError(f"the upstream refused requests: {upstream.refused}")
    return measured


def a_call_costs(measured: Sequence[Measured]) -> float:
    """Milliseconds that each further call adds to a turn's time over the ideal: the slope of the straight line through
    the scenarios. What a turn costs without any is left out of it."""
    return statistics.linear_regression([len(one.scenario.jobs) for one in measured], [one.over for one in measured])[0]


def report(measured: Sequence[Measured]) -> None:
    rows = [
        [
            one.scenario.id,
            one.wire,
            f"{one.scenario.ideal():.2f}",
            f"{one.scenario.after_the_stream() + 1e-9:.2f}",
            f"{one.median:.3f}",
            f"{one.ratio:.3f}",
            f"{one.over:+.1f}",
            *(f"{one.part(name):.1f}" for name in PARTS),
        ]
        for one in measured
    ]
    columns = ["scenario", "wire", "ideal s", "after stream", "measured s", "ratio", "over ms", *PARTS]
    note = "before the first request to the model, between the two, after the second: ms that the server took"
    show("Overlap: a turn over its longest path (P1: ratio at most 1.02)", columns, rows, note=note)
    path = keep(
        "overlap",
        {
            "turns": [
                {
                    "scenario": one.scenario.id,
                    "wire": one.wire,
                    "ideal_s": round(one.scenario.ideal(), 6),
                    "after_the_stream_s": round(one.scenario.after_the_stream(), 6),
                    "measured_s": [round(run.took, 6) for run in one.runs],
                    **{f"{name}_ms": round(one.part(name), 3) for name in PARTS},
                    "ratio": round(one.ratio, 5),
                    "over_ms": round(one.over, 3),
                    "calls": len(one.scenario.jobs),
                }
                for one in measured
            ]
        },
    )
    for wire in dict.fromkeys(one.wire for one in measured):
        of_wire = [one for one in measured if one.wire == wire]
        if len({len(one.scenario.jobs) for one in of_wire}) > 1:
            print(f"{wire}: each further call adds {a_call_costs(of_wire):+.2f} ms (P1: under 1)")
    print(f"written to {path}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.overlap", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="the median of so many is shown")
    parser.add_argument("--only", nargs="*", default=[], help="scenarios, S1 to S9")
    parser.add_argument("--wire", choices=WIRES, action="append", help="one wire only")
    asked = parser.parse_args(arguments)
    scenarios = [one for one in SCENARIOS if not asked.only or one.id in asked.only]
    report(asyncio.run(measure(scenarios, asked.wire or WIRES, asked.runs)))


if __name__ == "__main__":
    main()
