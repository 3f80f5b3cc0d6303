"""P1: how long a turn takes over the longest path through it, in each scenario of docs/performance.md, on both wires.

The server is a child process, the model an ``Upstream`` in this one, the reader a plain HTTP client: a turn is
measured from its POST to its ``turn_end`` as the reader sees it. The reader is also the person who approves.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import Literal

import aiohttp
import msgspec

from bench.scenarios import FIRST_TOKEN, FURTHER, SCENARIOS, SECOND_ROUND, TEXT, Job, Scenario
from bench.server import legato
from bench.table import keep, show
from legato.core.blocks import Json
from legato.testing.upstream import Call, Request, Say, Script, Upstream, Wait, Wire, round_of

WIRES: tuple[Wire, ...] = ("anthropic", "openai_chat")
MODELS: dict[Wire, str] = {"anthropic": "anthropic/bench", "openai_chat": "openai/bench"}
DELTAS_OF_TEXT = 15  # 50 a second, as models are
PARTS: tuple[Literal["before", "between", "after"], ...] = ("before", "between", "after")
WARM_UP = Scenario("warm-up", (Job(0.0, 0.0),), 0.0)
PIECE = 8  # characters of arguments in a delta

TOOLS = '''
import asyncio
import time
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

@tool(effect="write", lane=lambda given: given["lane"])
async def change_in(lane: str, seconds: float, number: int, note: str) -> str:
    """Change something, in a lane."""
    await asyncio.sleep(seconds)
    return f"changed {number}"

@tool(effect="read", needs_approval=True)
async def look_if_allowed(seconds: float, number: int, note: str) -> str:
    """Look something up that not everybody may see."""
    await asyncio.sleep(seconds)
    return f"looked {number}"

@tool(effect="write", needs_approval=True)
async def change_if_allowed(seconds: float, number: int, note: str) -> str:
    """Change something that not everybody may change."""
    await asyncio.sleep(seconds)
    return f"changed {number}"

@tool(effect="read")
def block(seconds: float, number: int, note: str) -> str:
    """Look something up in a plain function, which blocks its thread."""
    time.sleep(seconds)
    return f"looked {number}"
'''


class Seen(msgspec.Struct, frozen=True):
    """A turn as its reader saw it, CLOCK_MONOTONIC. ``gap`` is the longest time without an event while a tool ran."""

    begun: float
    ended: float
    gap: float


class Run(msgspec.Struct, frozen=True):
    """One turn, in seconds; ``before`` the first request to the model, ``between`` the two beyond the longest path,
    ``after`` the second round's time: what the server took."""

    took: float
    before: float
    between: float
    after: float
    gap: float


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
    jobs = scenario.jobs
    ending = "And so on."
    if any(job.blocks for job in jobs):  # talks on as models do, so that a gap in it is seen
        ending = "word " * round(scenario.text_after * DELTAS_OF_TEXT / TEXT)
    said: list[Say | Call] = [Say("word " * DELTAS_OF_TEXT, over=TEXT), *(_call(*job) for job in enumerate(jobs))]
    said.append(Say(ending, over=scenario.text_after))
    return Script([Wait(FIRST_TOKEN), *(_jittered(scenario, *step) for step in enumerate(said))])


def _jittered(scenario: Scenario, number: int, step: Say | Call) -> Say | Call:
    return msgspec.structs.replace(step, gaps=scenario.gaps(number, len(step.deltas()), step.over or 0.0))


def _call(number: int, job: Job) -> Call:
    # Each call differs, since two equal ones would share one execution.
    arguments: dict[str, Json] = {"seconds": job.takes, "number": number, "note": "as asked for by the benchmark"}
    if job.lane is not None:
        arguments = {"lane": job.lane, **arguments}
    return Call(_tool(job), arguments, over=job.args, piece=PIECE)


def _tool(job: Job) -> str:
    if job.blocks:
        return "block"
    verb = "look" if job.effect == "read" else "change"
    return verb + ("_in" if job.lane is not None else "_if_allowed" if job.person is not None else "")


def second_round() -> Script:
    return Script([Wait(FIRST_TOKEN), Say("All is done.", over=SECOND_ROUND - FIRST_TOKEN)])


class Reader:
    """Posts one turn, follows it to its end, and approves what it is asked to. Raises if the turn does not end well."""

    def __init__(self, client: aiohttp.ClientSession, url: str, thinks: float) -> None:
        self._client = client
        self._url = url
        self._thinks = thinks
        self._last = b""
        self._at = 0.0
        self._running: set[str] = set()
        self._gap = 0.0

    async def turn(self, model: str) -> Seen:
        begun = time.monotonic()
        body = {"input": "Go.", "model": model}
        headers = {"accept": "text/event-stream"}
        async with asyncio.TaskGroup() as tasks:
            async with self._client.post(f"{self._url}/v1/turns", json=body, headers=headers) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"the turn was refused: {answer.status} {await answer.text()}")
                place = self._url + answer.headers["location"]
                ended = await self._follow(answer, place, tasks)
            while ended is None:  # it waited, and whoever goes on with it has another stream
                after = msgspec.json.decode(self._last[5:])["seq"]
                async with self._client.get(f"{place}/events?after={after}") as answer:
                    if answer.status != 200:
                        raise RuntimeError(f"the stream ended without turn_end; its last event was {self._last!r}")
                    ended = await self._follow(answer, place, tasks)
        said = msgspec.json.decode(self._last[5:])
        if said["status"] != "complete" or said["stop_reason"] != "end":
            raise RuntimeError(f"the turn did not end well: {self._last!r}")
        return Seen(begun, ended, self._gap)

    async def _follow(self, answer: aiohttp.ClientResponse, place: str, tasks: asyncio.TaskGroup) -> float | None:
        """When ``turn_end`` came; None if the stream was closed without it."""
        async for line in answer.content:
            if not line.startswith(b"data:"):
                continue
            now = time.monotonic()
            if self._running:
                self._gap = max(self._gap, now - self._at)
            self._last, self._at = line, now
            if b'"type":"turn_end"' in line:
                return now
            if b'"type":"block_delta"' not in line:
                self._note(msgspec.json.decode(line[5:]), place, tasks)
        return None

    def _note(self, event: Json, place: str, tasks: asyncio.TaskGroup) -> None:
        match event:
            case {"type": "tool_start", "call_id": str(call_id)}:
                self._running.add(call_id)
            case {"type": "block_start", "block_type": "tool_result", "call_id": str(call_id)}:
                self._running.discard(call_id)
            case {"type": "call_waiting", "call_id": str(call_id)}:
                tasks.create_task(self._approve(call_id, place))
            case _:
                pass

    async def _approve(self, call_id: str, place: str) -> None:
        await asyncio.sleep(self._thinks)
        decision = {"call_id": call_id, "decision": "approve"}
        async with self._client.post(f"{place}/approvals", json=decision) as answer:
            if answer.status != 202:
                raise RuntimeError(f"the approval was refused: {answer.status} {await answer.text()}")


def run_of(scenario: Scenario, seen: Seen, requests: Sequence[Request]) -> Run:
    """What the upstream saw of the turn between its two ends."""
    first, second = (one.at for one in requests if seen.begun <= one.at <= seen.ended)
    return Run(
        took=seen.ended - seen.begun,
        before=first - seen.begun,
        between=second - first - (scenario.ideal() - SECOND_ROUND),
        after=seen.ended - second - SECOND_ROUND,
        gap=seen.gap,
    )


class Model:
    """Plays the scenario that is the current one."""

    def __init__(self) -> None:
        self.current = WARM_UP

    def answer(self, request: Request) -> Script:
        return second_round() if round_of(request) else first_round(self.current)


async def measure(scenarios: Sequence[Scenario], wires: Sequence[Wire], runs: int) -> list[Measured]:
    """One upstream for all, whose script changes with the scenario; a server for each set of limits."""
    model = Model()
    measured = []
    async with Upstream.open(default=model.answer) as upstream:
        for limits, group in groupby(sorted(scenarios, key=limits_of), key=limits_of):
            server = legato(upstream=upstream.base_url("anthropic"), tools=TOOLS, limits=limits)
            with ExitStack() as stack:
                child = await asyncio.to_thread(stack.enter_context, server)
                url = f"http://127.0.0.1:{child.port}"
                measured += await measure_at(url, list(group), wires, runs, model, upstream)
        if upstream.refused:
            raise RuntimeError(f"the upstream refused requests: {upstream.refused}")
    return sorted(measured, key=lambda one: (wires.index(one.wire), scenarios.index(one.scenario)))


def limits_of(scenario: Scenario) -> tuple[tuple[str, int], ...]:
    return scenario.limits


async def measure_at(
    url: str, scenarios: Sequence[Scenario], wires: Sequence[Wire], runs: int, model: Model, upstream: Upstream
) -> list[Measured]:
    measured = []
    async with aiohttp.ClientSession() as client:
        for wire in wires:
            for model.current in (WARM_UP, *scenarios):
                thinks = max(job.person or 0.0 for job in model.current.jobs)
                times = 1 if model.current is WARM_UP else runs
                seen = [await Reader(client, url, thinks).turn(MODELS[wire]) for _ in range(times)]
                several = tuple(run_of(model.current, one, upstream.requests) for one in seen)
                measured.append(Measured(model.current, wire, several))
    return [one for one in measured if one.scenario is not WARM_UP]


def a_call_costs(measured: Sequence[Measured]) -> float:
    """Milliseconds that each further call adds to a turn's time over the ideal: the slope of the straight line through
    the scenarios. What a turn costs without any is left out of it."""
    return statistics.linear_regression([len(one.scenario.jobs) for one in measured], [one.over for one in measured])[0]


def report(measured: Sequence[Measured], name: str) -> None:
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
        name,
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
                    "longest_gap_ms": round(max(run.gap for run in one.runs) * 1000, 3),
                }
                for one in measured
            ]
        },
    )
    for wire in dict.fromkeys(one.wire for one in measured):
        of_wire = [one for one in measured if one.wire == wire]
        for what, some in (("the nine", SCENARIOS), ("all", (*SCENARIOS, *FURTHER))):
            counted = [one for one in of_wire if one.scenario in some]
            if len({len(one.scenario.jobs) for one in counted}) > 1:
                print(f"{wire}, {what}: each further call adds {a_call_costs(counted):+.2f} ms (P1: under 1)")
        for one in of_wire:
            if any(job.blocks for job in one.scenario.jobs):
                gaps = [run.gap * 1000 for run in one.runs]
                said = f"{wire}, {one.scenario.id}: longest gap between events {statistics.median(gaps):.1f} ms"
                print(f"{said}, at worst {max(gaps):.1f}; the model's own {1000 * TEXT / DELTAS_OF_TEXT:.0f}")
    print(f"written to {path}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.overlap", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="the median of so many is shown")
    parser.add_argument("--only", nargs="*", default=[], help="scenarios: S1 to S9, or those of --further")
    parser.add_argument("--further", action="store_true", help="those with places, lanes, people, jitter, and a page")
    parser.add_argument("--wire", choices=WIRES, action="append", help="one wire only")
    asked = parser.parse_args(arguments)
    among = (*SCENARIOS, *FURTHER) if asked.only else FURTHER if asked.further else SCENARIOS
    scenarios = [one for one in among if not asked.only or one.id in asked.only]
    measured = asyncio.run(measure(scenarios, asked.wire or WIRES, asked.runs))
    report(measured, "overlap-further" if asked.further else "overlap")


if __name__ == "__main__":
    main()
