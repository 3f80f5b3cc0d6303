"""A thousand open streams over two connections that read: none is held between two statements (hazard 15)."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from tests.e2e.house import MODELS, House, Json, playing
from tests.patience import BOUND

from legato.core import events as e
from legato.core.fold import fold
from legato.observability import process
from legato.testing.upstream import Call, Gate, Say, Script

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

TURNS = 200
"""Half of them run here, half wait for a client: readers of the former read memory, those of the latter the store."""
READERS = 5
"""Of each."""
PATIENCE = 90.0
LOOKS = 200
really_connect = sqlite3.connect
CLIENT_TOOLS: Json = [{"name": "locate", "input_schema": {"type": "object"}}]


@pytest.fixture(autouse=True)
def _room_for_sockets() -> Iterator[None]:
    """Each stream has two ends in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * TURNS * READERS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the system allows {hard} open files, the test needs {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Every connection that the store opens."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noting(name: str, *asked: Json, **more: Json) -> sqlite3.Connection:
        made.append(connect(name, *asked, **more))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", noting)
    return made


class Stream:
    """One reader, as bytes on a socket."""

    def __init__(self, turn_id: str) -> None:
        self.turn_id = turn_id
        self.raw = bytearray()
        self.spoken_to = anyio.Event()
        self.ended = anyio.Event()

    async def read(self, port: int) -> None:
        """Until the server closes it."""
        async with await anyio.connect_tcp("127.0.0.1", port) as socket:
            head = f"GET /v1/turns/{self.turn_id}/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            await socket.send(head.encode())
            try:
                while True:
                    self.raw += await socket.receive()
                    if b"event: block_delta\n" in self.raw:
                        self.spoken_to.set()
                    if b"event: turn_end\n" in self.raw:
                        self.ended.set()
            except anyio.EndOfStream:
                return

    @property
    def events(self) -> list[e.Event]:
        _, _, rest = bytes(self.raw).partition(b"\r\n\r\n")
        body = bytearray()
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return [e.decode(line[6:]) for line in bytes(body).splitlines() if line.startswith(b"data: ")]


async def each(happened: Callable[[Stream], anyio.Event], streams: list[Stream]) -> None:
    with anyio.fail_after(PATIENCE):
        for stream in streams:
            await happened(stream).wait()


async def waiting(house: House, turn_id: str) -> str:
    """The call it waits for, once it does."""
    await house.until(turn_id, lambda event: isinstance(event, e.TurnWaiting))
    call_id: str = (await house.turn(turn_id))["waiting_for"][0]["call_id"]
    return call_id


async def nobody_reads(db: Path, opened: list[sqlite3.Connection]) -> None:
    """No connection is in a transaction, but for a moment. And SQLite says that none has a statement open: it empties
    its log, which it does only while nobody reads from there."""

    def emptied() -> tuple[int, int, int]:
        with closing(really_connect(db, timeout=BOUND)) as database:
            found: tuple[int, int, int] = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return found

    in_use = 0
    for _ in range(LOOKS):
        in_use += any(one.in_transaction for one in opened)
        await anyio.lowlevel.checkpoint()
    assert in_use < LOOKS / 2
    assert await anyio.to_thread.run_sync(emptied) == (0, 0, 0)


async def test_a_thousand_streams_of_two_hundred_turns_hold_no_connection_between_two_statements(
    opened: list[sqlite3.Connection], tmp_path: Path
) -> None:
    async with playing(tmp_path) as (house, upstream):
        running, resting = [], {}
        for number in range(TURNS // 2):
            upstream.enqueue(Script([Say(f"Turn {number} "), Gate("go on"), Say("ends.")]))
            running.append(await house.ask("Talk", model=MODELS["anthropic"]))
            await upstream.reached("go on", times=number + 1)
            upstream.enqueue(Script([Say("Where?"), Call("locate", {})]))
            turn_id = await house.ask("Talk", model=MODELS["anthropic"], client_tools=CLIENT_TOOLS)
            resting[turn_id] = await waiting(house, turn_id)
        streams = [Stream(turn_id) for turn_id in (*running, *resting) for _ in range(READERS)]
        async with anyio.create_task_group() as tasks:
            for stream in streams:
                tasks.start_soon(stream.read, house.port)
            await each(lambda stream: stream.spoken_to, streams)
            assert process.value("readers") >= TURNS * READERS
            await nobody_reads(tmp_path / "legato.db", opened)
            # Who asks for anything else has not to wait for one of them to go.
            assert len((await house.get("/v1/chats?limit=200"))["data"]) == TURNS
            assert not any(stream.ended.is_set() for stream in streams)
            upstream.enqueue(*[Script([Say("Oslo, then.")])] * len(resting))
            upstream.release("go on")
            for turn_id, call_id in resting.items():
                answer = {"results": [{"call_id": call_id, "output": "Oslo"}]}
                answered = await house.client.post(f"/v1/turns/{turn_id}/tool_results", json=answer)
                assert answered.status_code == 202, answered.text
            await each(lambda stream: stream.ended, streams)
        await nobody_reads(tmp_path / "legato.db", opened)
        assert len(opened) <= 3  # one that writes, and two that read
        for turn_id in (*running, *resting):
            first, *others = [fold(stream.events) for stream in streams if stream.turn_id == turn_id]
            assert first.status == "complete"
            assert all(other.blocks == first.blocks for other in others)
