"""What tests of running calls share: a toolbox, what its tools have shown, and a store that may be away."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
from tests import patience

from legato.core.blocks import Json
from legato.core.errors import StoreError
from legato.core.inputs import ToolEnd, ToolFinished
from legato.core.records import Answer, Resumed
from legato.observability import process
from legato.runtime.calls.places import OF_TOOL, RUNNING, Places
from legato.runtime.calls.threads import Threads
from legato.runtime.calls.toolbox import CancelFlag, StartedCall, Toolbox
from legato.runtime.calls.watch import End
from legato.tools.registry import ToolRegistry

PATIENCE = 10.0
"""Seconds after which a test gives up waiting for what should have happened at once."""

EPOCH = 3
"""Of the owner that runs the calls."""

Ask = Callable[[str, dict[str, Json] | None], Awaitable[Answer]]


class Kept:
    """``Store.keep_output`` for ``EPOCH``: what was kept by turn and call. ``trouble`` is raised, one for each write,
    then none. Where it ``hangs`` no write comes back; ``called`` is set by the first."""

    def __init__(self, *trouble: StoreError, hangs: bool = False) -> None:
        self.called = anyio.Event()
        self._hangs = hangs
        self.outputs: dict[tuple[str, str], bytes] = {}
        self.writes = 0
        self.trouble = list(trouble)

    async def keep(self, turn_id: str, call_id: str, offset: int, piece: bytes, *, epoch: int) -> None:
        assert epoch == EPOCH
        self.writes += 1
        self.called.set()
        if self._hangs:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        if self.trouble:
            raise self.trouble.pop(0)
        there = self.outputs.get((turn_id, call_id), b"")
        self.outputs[turn_id, call_id] = there[:offset] + piece + there[offset + len(piece) :]

    @property
    def only(self) -> bytes:
        (output,) = self.outputs.values()
        return output


class Bench:
    """A toolbox, what its tools have shown, and an event of each side that a test waits for."""

    def __init__(self, *functions: Callable[..., object], kept: Kept | None = None, **bounds: float) -> None:
        self.threads: Threads[End] = Threads(
            int(bounds.pop("places", 8)), left_behind=int(bounds.pop("left_behind", 8))
        )
        self.places = Places(int(bounds.pop("running", RUNNING)), of_tool=int(bounds.pop("of_tool", OF_TOOL)))
        grace = bounds.pop("grace", PATIENCE)
        sizes = {name: int(size) for name, size in bounds.items()}
        self.kept = kept if kept is not None else Kept()
        self.toolbox = Toolbox(
            ToolRegistry(functions),
            keep=self.kept.keep,
            places=self.places,
            threads=self.threads,
            grace=grace,
            **sizes,
        )
        self.shown: list[str] = []
        self.state: dict[str, Json] = {}
        self.flag = CancelFlag()
        self._name = next(iter(ToolRegistry(functions).names()), "")

    async def run(self, name: str | None = None, /, *, flag: CancelFlag | None = None, **input: Json) -> ToolFinished:
        end = await self.end(name, flag=flag, input=input)
        assert isinstance(end, ToolFinished)
        return end

    async def run_asking(self, ask: Ask) -> ToolFinished:
        end = await self.end(ask=ask)
        assert isinstance(end, ToolFinished)
        return end

    async def end(
        self,
        name: str | None = None,
        /,
        *,
        flag: CancelFlag | None = None,
        input: dict[str, Json] | None = None,
        owned: Callable[[], bool] = lambda: True,
        resumed: Resumed | None = None,
        ask: Ask | None = None,
    ) -> ToolEnd:
        call = StartedCall(
            turn_id="turn",
            chat_id="chat",
            call_id="call",
            tool_name=name or self._name,
            input=input or {},
            principal="local",
            idempotency_key="key",
            epoch=EPOCH,
            state=self.state,
            owned=owned,
            resumed=resumed,
            ask=ask,
        )
        with anyio.fail_after(PATIENCE):
            return await self.toolbox.run(call, emit=self.shown.append, cancel=flag or self.flag)

    async def reconcile(self, name: str | None = None, /, *, dead: bool = True) -> ToolFinished:
        with anyio.fail_after(PATIENCE):
            return await self.toolbox.reconcile(
                turn_id="turn",
                call_id="call",
                tool_name=name or self._name,
                idempotency_key="key",
                epoch=EPOCH,
                dead=dead,
                cancel=self.flag,
            )


def counted(name: str, **labels: str) -> float:
    return process.value(name, **labels)


async def until(event: threading.Event | Callable[[], bool]) -> None:
    """Wait for a thread, or for something to be so, without blocking the loop."""
    await patience.until(event.is_set if isinstance(event, threading.Event) else event, bound=PATIENCE)
