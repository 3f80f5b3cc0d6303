"""A turn's runner against a provider that misbehaves in ways no wire can."""

# ruff: noqa: ARG002 - the fakes have the signatures of the real ones

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import anyio
import anyio.lowlevel
import msgspec
import pytest
from tests.patience import BOUND, until
from tests.stores.values import Make

from legato import tool
from legato.core import events as e
from legato.core import inputs as i
from legato.core.ask import Ask
from legato.core.blocks import Block
from legato.core.messages import CORRECTION
from legato.core.records import Intent, NewTurns, Reading
from legato.core.views import TurnView
from legato.observability import process
from legato.ports import Begun, Dropped, ModelInfo, Resolved, Sink
from legato.runtime.calls.toolbox import Toolbox
from legato.runtime.service import TurnService
from legato.stores.memory import MemoryStore
from legato.tools.registry import ToolRegistry

pytestmark = pytest.mark.anyio

Play: TypeAlias = Callable[[Ask, Sink], Awaitable[None]]


class Played:
    """A provider of one model whose responses are a function."""

    name = "played"
    max_retries = 1

    def __init__(self, play: Play) -> None:
        self._play = play
        self.rounds: list[int] = []

    def models(self) -> Sequence[ModelInfo]:
        return ()

    def model(self, name: str) -> ModelInfo | None:
        return None

    def admit(self, model: str, said: Sequence[Block]) -> None:
        pass

    def fit(self, ask: Ask) -> tuple[Ask, Sequence[Dropped]]:
        return ask, ()

    async def stream(self, ask: Ask, sink: Sink) -> None:
        self.rounds.append(ask.round)
        await self._play(ask, sink)

    async def close(self) -> None:
        pass


class OneModel:
    def __init__(self, provider: Played) -> None:
        self._provider = provider

    def resolve(self, name: str | None) -> Resolved:
        return Resolved(provider=self._provider, model="m", name="played/m")

    def all(self) -> Sequence[ModelInfo]:
        return ()


@tool(effect="read")
async def look() -> str:
    """Look."""
    return "found"


SAID: list[i.ProviderInput] = [
    i.BlockOpened(key=0, block_type="text"),
    i.Delta(0, "Here it is."),
    i.BlockClosed(key=0),
]
CALL: list[i.ProviderInput] = [
    i.BlockOpened(key=0, block_type="tool_use", tool_name="look"),
    i.BlockClosed(key=0),
    i.ResponseEnded(stop_reason="calls", provider_reason="calls"),
]
END = i.ResponseEnded(stop_reason="end", provider_reason="end")


async def ended(provider: Played) -> TurnView:
    tools = ToolRegistry([look])
    service = TurnService(
        store=MemoryStore(),
        models=OneModel(provider),
        tools=tools,
        formatters=tools.formatters,
        toolbox=Toolbox(tools),
    )
    with anyio.fail_after(10):
        async with service:
            turn = await service.start("Go")
            async for _ in service.follow(turn.id):
                pass
            return await service.get(turn.id)


async def test_a_provider_that_breaks_after_its_end_was_heard_harms_no_later_response() -> None:
    talking = anyio.Event()

    async def play(ask: Ask, sink: Sink) -> None:
        if ask.round == 1:
            sink(CALL)
            await talking.wait()
            raise RuntimeError("too late")
        sink(SAID)
        talking.set()
        await anyio.wait_all_tasks_blocked()
        sink([END])

    turn = await ended(Played(play))
    assert (turn.status, turn.stop_reason) == ("complete", "end")
    assert [record.commitment for record in turn.rounds] == ["committed", "committed"]


async def test_a_response_that_comes_to_no_end_is_a_failure_and_not_a_wait() -> None:
    async def play(ask: Ask, sink: Sink) -> None:
        sink(SAID)

    turn = await ended(Played(play))
    assert turn.status == "error"
    assert turn.error is not None
    assert turn.error.code == "provider_cut"
    assert turn.blocks[0].text == "Here it is."


async def test_a_provider_with_a_bug_ends_its_own_turn_in_an_error() -> None:
    async def play(ask: Ask, sink: Sink) -> None:
        raise RuntimeError("no")

    turn = await ended(Played(play))
    assert turn.error is not None
    assert turn.error.code == "internal"


async def correction_kept(store: MemoryStore) -> Reading:
    """Once it is stored."""
    kept: dict[str, Reading] = {}
    while not kept:
        [row] = await store.unended()
        stored = await store.load(row.id)
        kept = {} if stored is None else stored.readings
        await anyio.lowlevel.checkpoint()
    [reading] = kept.values()
    return reading


@pytest.mark.parametrize("runs", [False, True])
async def test_that_a_result_must_not_be_read_is_stored_before_its_response_has_ended(runs: bool) -> None:
    """A next owner has to know it: the result says that all went well, or will where the call runs again."""
    store, began, released, said = MemoryStore(), anyio.Event(), anyio.Event(), anyio.Event()

    @tool(name="look", effect="read")
    async def waiting() -> str:
        """x"""
        began.set()
        if runs:
            await released.wait()
        return "seen"

    async def play(ask: Ask, sink: Sink) -> None:
        if ask.round > 1:
            sink([*SAID, END])
            return
        sink(CALL[:2])
        await (began if runs else said).wait()
        sink([i.CallPoisoned(key=0, message="its name became 'put'")])
        reading = await correction_kept(store)
        assert reading.formatter == CORRECTION
        assert "its name became 'put'" in reading.text
        released.set()
        sink([CALL[2]])

    tools = ToolRegistry([waiting])
    service = TurnService(
        store=store,
        models=OneModel(Played(play)),
        tools=tools,
        formatters=tools.formatters,
        toolbox=Toolbox(tools),
    )
    outcomes = []
    with anyio.fail_after(10):
        async with service:
            turn = await service.start("Go")
            async for event in service.follow(turn.id):
                if isinstance(event, e.BlockStop) and isinstance(event.outcome, str):
                    outcomes.append(event.outcome)
                    said.set()
            assert (await service.get(turn.id)).error is None
    assert outcomes == ["error" if runs else "ok"]


async def test_a_write_that_was_about_to_begin_when_its_turn_was_let_go_of_is_begun_by_the_next_owner() -> None:
    """Were its intent stored, the next owner could not know that nothing of it has run."""
    store, half, ran = MemoryStore(), anyio.Event(), []

    @tool(effect="write")
    async def look() -> str:
        """x"""
        ran.append("ran")
        return "seen"

    async def play(ask: Ask, sink: Sink) -> None:
        if ask.round > 1:
            sink([*SAID, END])
            return
        sink(SAID[:2])
        await half.wait()
        sink([SAID[2], *CALL])

    services = two_services(store, look, Played(play))
    with anyio.fail_after(BOUND):
        async with services[0] as service, anyio.create_task_group() as tasks:
            turn = await service.start("Go")
            runner = service._running.get(turn.id)
            assert runner is not None
            await until(lambda: runner.machine.said_half)
            tasks.start_soon(service.drain, 0)
            await until(lambda: runner._releasing)
            half.set()
        assert await store.intents(turn.id) == []
        async with services[1] as service:
            ends = [event async for event in service.follow(turn.id) if isinstance(event, e.BlockStop)]
    assert ran == ["ran"]
    assert [end.outcome for end in ends if end.outcome is not msgspec.UNSET] == ["ok"]


def two_services(store: MemoryStore, tool: Callable[..., object], provider: Played) -> list[TurnService]:
    """The second one takes up what the first has let go of."""
    tools = ToolRegistry([tool])
    return [
        TurnService(
            store=store,
            models=OneModel(provider),
            tools=tools,
            formatters=tools.formatters,
            toolbox=Toolbox(tools),
        )
        for _ in range(2)
    ]


class Buggy(MemoryStore):
    """``broken`` has the calls that meet a bug of the store, once each."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[str] = []

    def _meet(self, call: str) -> None:
        if call in self.broken:
            self.broken.remove(call)
            raise AttributeError("a bug")

    async def begin(self, new: NewTurns) -> Begun:
        self._meet("begin")
        return await super().begin(new)

    async def intents(self, turn_id: str) -> Sequence[Intent]:
        self._meet("intents")
        return await super().intents(turn_id)


async def test_a_bug_met_where_a_turn_is_stored_or_taken_up_ends_neither_the_service_nor_another_turn() -> None:
    """It used to end the task group of them all: the server answered 503 from then on."""
    store, before = Buggy(), process.value("looks_broken")

    async def play(ask: Ask, sink: Sink) -> None:
        sink([*SAID, END])

    services = two_services(store, look, Played(play))
    left = await Make().begun(store, status="running", model="played/m")
    store.broken = ["begin", "intents"]
    with anyio.fail_after(BOUND):
        async with services[0] as service:
            with pytest.raises(AttributeError):
                await service.start("Go")
            await until(lambda: not store.broken)
            turn = await service.start("Go")
            ends = [event async for event in service.follow(turn.id) if isinstance(event, e.TurnEnd)]
        async with services[1] as service:  # another one has no such bug
            ends += [event async for event in service.follow(left.assistant.id) if isinstance(event, e.TurnEnd)]
    assert [end.status for end in ends] == ["complete", "complete"]
    assert process.value("looks_broken") == before + 1
