"""A deploy under five hundred open streams: one server is told to stop, another stands beside it (hazard 22)."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.abc
import httpx
import pytest
from tests.e2e.house import Child, spawned

from legato.core import events as e
from legato.core.fold import Turn, fold

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

TURNS = 100
READERS = 5
"""Of each turn."""
PATIENCE = 60.0
"""Seconds, for what takes long with five hundred readers in one test."""
DRAIN = 4

TOOLS = '''
from pathlib import Path

import anyio

from legato import tool

@tool(effect="read")
async def gate(name: str) -> str:
    """Opens once there is a file of that name."""
    while not Path(name).exists():
        await anyio.sleep(0.05)
    return name
'''


def script(*steps: dict[str, object]) -> str:
    return "```script\n" + "\n".join(map(json.dumps, steps)) + "\n```"


def at(gate: str) -> dict[str, object]:
    return {"tool": "gate", "input": {"name": gate}}


ENDS_IN_THE_DRAIN = script({"text": "I wait. "}, at("drained"), {"end": "calls"}, {"text": "It came in time."})
OUTLASTS_IT_IN_A_TOOL = script({"text": "I wait. "}, at("later"), {"end": "calls"}, {"text": "It came later."})
OUTLASTS_IT_TALKING = script(
    {"text": "I wait. "},
    at("joined"),
    {"end": "calls"},
    *({"text": "and on it goes on ", "pace": 10, "new": True} for _ in range(10)),
)
KINDS = (ENDS_IN_THE_DRAIN, OUTLASTS_IT_IN_A_TOOL, OUTLASTS_IT_TALKING)


class Stream:
    """One request for a turn's events, as bytes on a socket."""

    def __init__(self) -> None:
        self.joined = anyio.Event()
        self.over = anyio.Event()
        self.reset = False
        self._raw = bytearray()

    async def read(self, port: int, turn_id: str, after: int = 0) -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as socket:
            query = f"/v1/turns/{turn_id}/events?after={after}"
            await socket.send(f"GET {query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            try:
                while True:
                    self._raw += await socket.receive()
                    if b"event: tool_start" in self._raw:
                        self.joined.set()
            except anyio.EndOfStream:
                pass
            except anyio.BrokenResourceError:
                self.reset = True
        self.over.set()

    @property
    def ended_well(self) -> bool:
        """As HTTP ends a body, and between two events."""
        return not self.reset and self._raw.endswith(b"\n\n\r\n0\r\n\r\n")

    @property
    def events(self) -> list[e.Event]:
        return [e.decode(line[6:]) for line in self._body().splitlines() if line.startswith(b"data: ")]

    def _body(self) -> bytes:
        _, _, rest = bytes(self._raw).partition(b"\r\n\r\n")
        body = bytearray()
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return bytes(body)


class Reader:
    """Comes back, to another server, with the number of the last event it had."""

    def __init__(self, turn_id: str) -> None:
        self.turn_id = turn_id
        self.first = Stream()
        self.events: list[e.Event] = []

    async def follow(self, port: int, other: int) -> None:
        await self.first.read(port, self.turn_id)
        self.events = self.first.events
        while not isinstance(self.events[-1], e.TurnEnd):
            stream = Stream()
            await stream.read(other, self.turn_id, self.events[-1].seq)
            assert stream.ended_well
            self.events += stream.events


async def started(child: Child) -> list[str]:
    """A third of the turns of each kind."""
    kinds = itertools.cycle(KINDS)
    return [await child.ask(next(kinds), model="script/echo") for _ in range(TURNS)]


async def refused(child: Child) -> Sequence[httpx.Response]:
    """What is told to whoever asks for work."""
    ready = await child.client.get("/readyz")
    posted = await child.client.post("/v1/turns", json={"input": "?"})
    return ready, posted


def last_words(events: Sequence[e.Event]) -> list[type[e.Event]]:
    """The last two of the first server that had the turn."""
    return [type(event) for event in events if event.seq < e.EPOCH_SIZE][-2:]


def as_seen(turn: Turn) -> object:
    return turn.status, turn.stop_reason, turn.error, turn.blocks


async def test_five_hundred_readers_are_sent_on_to_the_next_server_and_miss_nothing(tmp_path: Path) -> None:
    async with (
        spawned(tmp_path, tools=TOOLS) as other,
        spawned(tmp_path, "--drain", str(DRAIN), tools=TOOLS) as child,
        anyio.create_task_group() as tasks,
    ):
        with anyio.fail_after(PATIENCE):
            turns = await started(child)
            readers = [Reader(turn_id) for turn_id in turns for _ in range(READERS)]
            for reader in readers:
                tasks.start_soon(reader.follow, child.port, other.port)
            for reader in readers:
                await reader.first.joined.wait()
            (tmp_path / "joined").touch()
            await child.until(turns[2], lambda event: isinstance(event, e.BlockStart) and event.round == 2)
            await child.get("/livez")  # over a connection that is kept
            child.signal(signal.SIGTERM)
            await readers[0].first.over.wait()
            told = await refused(child)
            for reader in readers:
                await reader.first.over.wait()
            running = [await child.turn(turn_id) for turn_id in turns[:3]]
        (tmp_path / "drained").touch()
        with anyio.fail_after(DRAIN + 5):
            assert await child.ended() == 0
        (tmp_path / "later").touch()
        with anyio.fail_after(PATIENCE):
            whole = {turn_id: await other.followed(turn_id, each=True) for turn_id in turns}
    assert [(answer.status_code, answer.json()["code"]) for answer in told] == [(503, "draining")] * 2
    assert [answer.headers["connection"] for answer in told] == ["close"] * 2
    assert int(told[1].headers["retry-after"]) >= 1
    assert [turn["status"] for turn in running] == ["running"] * 3
    assert [reader.turn_id for reader in readers if not reader.first.ended_well] == []
    assert not any(isinstance(event, e.TurnEnd) for reader in readers for event in reader.first.events)
    undisturbed = {turn_id: fold(events) for turn_id, events in whole.items()}
    assert {turn.status for turn in undisturbed.values()} == {"complete"}
    for reader in readers:
        assert as_seen(fold(reader.events)) == as_seen(undisturbed[reader.turn_id])
    last = {turn_id: last_words(events) for turn_id, events in whole.items()}
    let_go = [turn_id for turn_id in turns if e.TurnEnd not in last[turn_id]]
    assert let_go == [turn_id for number, turn_id in enumerate(turns) if number % 3]
    assert [last[turn_id] for turn_id in turns[2::3]] == [[e.BlockStop, e.Notice]] * len(turns[2::3])
