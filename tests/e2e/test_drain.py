"""A server that is told to stop: readers are sent on, turns finish or are released (hazard 22)."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
from tests.e2e.asking import asked
from tests.e2e.house import (
    MODELS,
    Child,
    Visitor,
    configured,
    playing,
    serving,
    spawned,
    unpaired,
    upstream_environ,
)
from tests.patience import BOUND

from legato import tool
from legato.core import events as e
from legato.core.blocks import TextBlock, ToolResultBlock
from legato.core.fold import fold
from legato.core.inputs import Answered
from legato.core.records import Answer
from legato.core.resuming import RELEASED
from legato.runtime import service
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, Gate, Say, Script, Upstream, Wait

TOOLS = '''
import time

import anyio

from legato import tool

@tool(effect="read")
async def look() -> str:
    """Never comes back."""
    await anyio.sleep_forever()

@tool(effect="write")
def deaf() -> str:
    """Does not listen."""
    time.sleep(3600)
'''


class Reader:
    """What came over one stream, and whether it was ended or broken off."""

    def __init__(self) -> None:
        self.events: list[e.Event] = []
        self.joined = anyio.Event()
        self.over = anyio.Event()
        self.broken: httpx.TransportError | None = None

    async def read(self, child: Child, turn_id: str) -> None:
        try:
            async for event in child.events(turn_id, each=True):
                self.events.append(event)
                if isinstance(event, e.BlockStart):
                    self.joined.set()
        except httpx.TransportError as error:
            self.broken = error
        self.over.set()


async def refused_as_draining(child: Visitor) -> httpx.Response:
    """The answer to a post, once the server has taken note of the signal."""
    with anyio.fail_after(BOUND):
        while True:
            answer = await child.client.post("/v1/turns", json={"input": "?", "tools": ["nobody"]})
            if answer.status_code == 503:
                return answer
            await anyio.lowlevel.checkpoint()


@contextlib.asynccontextmanager
async def opened(folder: Path, *args: str, tools: str = "") -> AsyncIterator[tuple[Child, Upstream]]:
    async with (
        Upstream.open() as upstream,
        spawned(folder, *args, tools=tools, environ=upstream_environ(upstream)) as child,
    ):
        yield child, upstream


async def test_readers_are_let_go_at_once_and_their_turns_finish(tmp_path: Path) -> None:
    """Thirty readers of three turns: each stream is ended, not broken, without ``turn_end``, while the turns run on."""
    async with opened(tmp_path) as (child, upstream):
        upstream.enqueue(*[Script([Say("Before, "), Gate("here"), Say("and after.")])] * 4)
        turns = [await child.ask("Talk", model=MODELS["anthropic"]) for _ in range(4)]
        await upstream.reached("here", times=4)
        readers = {turn_id: [Reader() for _ in range(10)] for turn_id in turns[:3]}
        async with anyio.create_task_group() as tasks:
            for turn_id, those in readers.items():
                for reader in those:
                    tasks.start_soon(reader.read, child, turn_id)
                    with anyio.fail_after(BOUND):
                        await reader.joined.wait()
            child.signal(signal.SIGTERM)
            with anyio.fail_after(BOUND):
                for reader in (one for those in readers.values() for one in those):
                    await reader.over.wait()
        refused = await refused_as_draining(child)
        ready = await child.client.get("/readyz")
        alive = await child.client.get("/livez")
        running = await child.turn(turns[0])
        with pytest.raises(httpx.RemoteProtocolError):
            await child.client.get(f"/v1/turns/{turns[0]}/events")
        cancelled = await child.cancel(turns[3])
        upstream.release("here")
        assert await child.ended() == 0
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) >= 1
    assert (ready.status_code, ready.json()["code"], alive.status_code) == (503, "draining", 200)
    assert running["status"] == "running"
    assert cancelled["stored"] is True
    async with opened(tmp_path) as (child, _):
        for turn_id, those in readers.items():
            for reader in those:
                assert reader.broken is None
                assert not isinstance(reader.events[-1], e.TurnEnd)
                rest = await child.followed(turn_id, after=reader.events[-1].seq)
                turn = fold([*reader.events, *rest])
                assert (turn.status, [block.text for block in turn.blocks]) == ("complete", ["Before, ", "and after."])
        assert (await child.turn(turns[3]))["status"] == "cancelled"


@pytest.mark.slow
async def test_a_turn_that_outlasts_the_drain_goes_on_in_the_next_server(tmp_path: Path) -> None:
    """Its call is adopted, its read runs again, and the model reads its result."""
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        upstream.enqueue(Script([Say("As far as this. "), Call("look"), Gate("here")]), Script([Say("There it is.")]))
        async with spawned(tmp_path, "--drain", "0.1", tools=TOOLS, environ=environ) as child:
            turn_id = await child.ask("Talk", model=MODELS["anthropic"])
            had = await child.until(turn_id, lambda event: isinstance(event, e.ToolStart))
            child.signal(signal.SIGTERM)
            assert await child.ended() == 0
            await upstream.hung_up(1)
        async with spawned(tmp_path, tools=TOOLS.replace("await anyio.sleep_forever()", ""), environ=environ) as child:
            events = await child.followed(turn_id, each=True)
            rest = await child.followed(turn_id, after=had.seq)
        assert not unpaired(upstream.requests[-1].body)
    turn = fold(events)
    assert (turn.error, turn.status) == (None, "complete")
    assert [block.text for block in turn.blocks if isinstance(block, TextBlock)] == ["As far as this. ", "There it is."]
    [result] = [block for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert result.outcome == "ok"
    assert fold([*events[: events.index(had) + 1], *rest]).blocks == turn.blocks


async def test_a_turn_that_outlasts_the_drain_is_let_go_of_when_its_block_has_ended(tmp_path: Path) -> None:
    """What was being said is said to its end, and stands: nothing is asked for twice."""
    found = anyio.Event()

    @tool(effect="read")
    async def look() -> str:
        """Comes back at the second server."""
        await found.wait()
        return "seen"

    async with Upstream.open() as upstream:
        config = configured(tmp_path, environ=upstream_environ(upstream), providers__openai__seal="object")
        talk = Script([Say("As far "), Gate("half"), Say("as this."), Call("look"), Wait(3600)])
        upstream.enqueue(talk, Script([Say("There it is.")]))
        async with serving(config, tools=(look,)) as house, anyio.create_task_group() as tasks:
            turn_id = await house.ask("Talk", model=MODELS["openai_chat"])
            await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta))
            runner = house.service._running.get(turn_id)
            assert runner is not None
            tasks.start_soon(house.service.drain, 0)
            with anyio.fail_after(BOUND):
                while not runner._releasing and not runner._ended.is_set():
                    await anyio.lowlevel.checkpoint()
            upstream.release("half")
        found.set()
        async with serving(config, tools=(look,)) as house:
            turn = await house.folded(turn_id)
    assert (turn.error, turn.status, len(upstream.requests)) == (None, "complete", 2)
    said = [(block.text, block.state) for block in turn.blocks if isinstance(block, TextBlock)]
    assert said == [("As far as this.", "complete"), ("There it is.", "complete")]


@pytest.mark.slow
async def test_a_second_signal_stops_at_once_and_the_turn_is_asked_again(tmp_path: Path) -> None:
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        upstream.enqueue(Script([Say("As far as this"), Gate("here")]), Script([Say("Anew.")]))
        async with spawned(tmp_path, "--drain", "3600", environ=environ) as child:
            turn_id = await child.ask("Talk", model=MODELS["anthropic"])
            await child.until(turn_id, lambda event: isinstance(event, e.BlockDelta) and event.text == " this")
            child.signal(signal.SIGTERM)
            await refused_as_draining(child)
            child.signal(signal.SIGTERM)
            assert await child.ended() == 128 + signal.SIGTERM
        async with spawned(tmp_path, environ=environ) as child:
            turn = await child.folded(turn_id)
    assert (turn.error, [block.text for block in turn.blocks]) == (None, ["Anew."])


async def test_whoever_cuts_a_drain_waits_for_no_blocks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that after a second signal, too, what was said is stored, and handed on as it stands."""
    monkeypatch.setattr(service, "RELEASE_SECONDS", 3600.0)
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("As far as this", gaps=[0, 0, 0, 3600])]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        had = await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta) and event.text == " as")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(house.service.drain, 3600)
            await refused_as_draining(house)
            tasks.cancel_scope.cancel()
        with anyio.fail_after(BOUND):
            await house.service.drain(0)
    async with spawned(tmp_path) as child, contextlib.aclosing(child.events(turn_id, each=True)) as events:
        assert had in [await anext(events) for _ in range(had.seq)]


@pytest.mark.parametrize("said", ["answer", "cancel"])
async def test_what_is_said_to_a_turn_while_it_is_let_go_of_is_for_its_next_owner(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored, so it counts; but here nothing can be begun any more, and nothing may say that it was."""
    monkeypatch.setattr(service, "STORING_SECONDS", 3 * BOUND)  # that the store takes it, and no spool
    store = FaultyStore()
    changed: list[str] = []

    @tool(effect="read")
    async def look() -> str:
        """Never comes back."""
        await anyio.sleep_forever()
        return ""

    @tool(effect="write", needs_approval=True)
    async def change() -> str:
        """Asks first."""
        changed.append("changed")
        return "changed"

    async with playing(tmp_path, tools=(look, change), around=store.over) as (house, upstream):
        upstream.enqueue(Script([Call("look", {}), Call("change", {})]))
        turn_id = await house.ask("Go", model=MODELS["anthropic"])
        (waiting,) = await asked(house, turn_id)
        runner = house.service._running.get(turn_id)
        assert runner is not None
        await runner.kept()
        store.hold("write")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(house.service.drain, 0)
            await runner.quiet()
            if said == "answer":
                await house.service._store.answer(turn_id, [Answer(call_id=waiting.call_id, decision="approve")])
                runner.receive(Answered(answer=Answer(call_id=waiting.call_id, decision="approve")))
            else:
                await house.cancel(turn_id)
            store.back()
    assert changed == []
    with contextlib.closing(sqlite3.connect(tmp_path / "legato.db")) as database:
        assert database.execute("SELECT count(*) FROM call WHERE idempotency_key IS NOT NULL").fetchone() == (0,)
        (last,) = database.execute("SELECT lines FROM log ORDER BY first_seq DESC LIMIT 1").fetchone()
    end = e.decode(last.splitlines()[-1])
    assert isinstance(end, e.Notice)
    assert end.code == RELEASED


@pytest.mark.slow
async def test_a_plain_tool_that_does_not_listen_does_not_hold_the_exit(tmp_path: Path) -> None:
    async with opened(tmp_path, "--drain", "0", tools=TOOLS) as (child, upstream):
        upstream.enqueue(Script([Call("deaf")]))
        turn_id = await child.ask("Talk", model=MODELS["openai_chat"])
        await child.until(turn_id, lambda event: isinstance(event, e.ToolStart))
        child.signal(signal.SIGTERM)
        assert await child.ended() == 0
    async with opened(tmp_path) as (child, _):
        turn = await child.folded(turn_id)
    [result] = [block for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert result.outcome == "unknown"
    assert "may have taken effect" in str(result.error)
