"""Does what the plan says to a server, beside everybody who uses it, and looks at it afterwards.

Two servers at most are on the file. Everybody comes to either, and tries again until it is answered: nobody here knows
when one dies.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, assert_never

import aiohttp
import msgspec
from aiohttp import ClientTimeout

from legato.core import events as e
from legato.core.blocks import Json
from legato.testing.torture import checks, report
from legato.testing.torture.child import Child, free_port, hold_lock
from legato.testing.torture.plan import (
    Ask,
    Cancel,
    Freeze,
    Full,
    Kill,
    Lock,
    Pause,
    PlannedReader,
    Restart,
    Step,
    Twin,
)
from legato.testing.torture.readers import Reader
from legato.testing.torture.report import Report, Window
from legato.testing.torture.tools import EFFECTS, read_effects
from legato.testing.torture.vendor import FURTHER, SAID, Vendor
from legato.testing.upstream import Upstream

MODELS: Final = {"anthropic": "anthropic/claude-sonnet-4-5", "openai_chat": "openai/gpt-5"}
LIVE: Final = 16
"""Turns at once: the plan waits while there are more."""
SETTLED: Final = 90.0
"""Seconds after which a turn that has not ended will not: two leases, and some."""
ANSWERED: Final = 10.0
"""Seconds until somebody who asked asks again."""
PICK: Final = {
    "name": "pick",
    "description": "Asks the client to choose.",
    "input_schema": {"type": "object", "properties": {"what": {"type": "string"}, "ms": {"type": "integer"}}},
}


class Torture:
    def __init__(self, seed: int, plan: tuple[Step, ...], folder: Path, say: Callable[[str], None]) -> None:
        self._seed = seed
        self._plan = plan
        self._folder = folder
        self._say = say
        self._asks = {step.turn: step for step in plan if isinstance(step, Ask)}
        self._told: dict[int, checks.Told] = {}
        self._chats: dict[int, str] = {}
        self._answered: set[tuple[str, str]] = set()
        self._windows: list[Window] = []
        self._live = asyncio.Semaphore(LIVE)
        self._chance = random.Random(seed)  # noqa: S311  (nobody is to be kept from guessing)
        self._twin_left = 0
        self.report = Report(seed=seed, turns=len(self._asks), steps=len(plan))

    async def run(self) -> Report:
        began = time.monotonic()
        vendor = Vendor(list(self._asks.values()))
        async with (
            Upstream.open(default=vendor.answer) as upstream,
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=ClientTimeout(total=ANSWERED)
            ) as self._session,
        ):
            environ = _environ(upstream)
            self._child = Child(self._folder, environ, port=free_port())
            self._twin = Child(self._folder, environ, port=free_port())
            self._up: list[Child] = []
            try:
                await self._start(self._child)
                await self._do_all()
                await self._look()
                if (code := await self._child.end()) != 0:
                    self._break("P8", f"SIGTERM at rest ended it with {code}")
            finally:
                await self._child.kill()
                await self._twin.kill()
            for refused in upstream.refused:
                self._break("hazard 1", f"the vendor refused: {refused}")
        await self._check(vendor)
        self.report.seconds = time.monotonic() - began
        return self.report

    # -- the plan

    async def _do_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number, step in enumerate(self._plan, 1):
                if number % 100 == 0:
                    self._say(f"step {number} of {len(self._plan)}")
                self._tasks = tasks
                if not await self._do(number, step):
                    break  # those that are stuck are named by what nobody has seen of them

    async def _do(self, number: int, step: Step) -> bool:
        """False where turns have taken all places and do not end."""
        if self._twin in self._up:
            self._twin_left -= 1
            if self._twin_left <= 0:
                await self._stop_twin()
        match step:
            case Ask():
                try:
                    async with asyncio.timeout(SETTLED):
                        await self._live.acquire()
                except TimeoutError:
                    return False
                self._tasks.create_task(self._use(number, step))
            case Cancel(turn=turn):
                self._tasks.create_task(self._cancel(number, turn))
            case Pause(seconds=seconds):
                await asyncio.sleep(seconds)
            case _:
                await self._hurt(step)
        return True

    async def _hurt(self, step: Kill | Freeze | Lock | Full | Restart | Twin) -> None:
        if isinstance(step, Kill):
            await asyncio.sleep(step.after)
        began = time.monotonic()
        match step:
            case Kill():
                self._up.remove(self._child)
                await self._child.kill()
                await self._start(self._child)
            case Restart():
                self._up.remove(self._child)
                if (code := await self._child.end()) != 0:
                    self._break("P8", f"SIGTERM ended it with {code}")
                await self._start(self._child)
            case Freeze(seconds=seconds):
                await self._child.freeze(seconds)
            case Lock(seconds=seconds):
                await hold_lock(self._folder / "legato.db", seconds)
            case Full(seconds=seconds):
                await self._child.fill_disk(seconds)
            case Twin(steps=steps):
                self._twin_left = max(self._twin_left, steps)
                if self._twin not in self._up:
                    await self._start(self._twin)
            case _:
                assert_never(step)
        over = isinstance(step, Freeze) and step.seconds > 30
        self._windows.append(Window("frozen 34 s" if over else type(step).__name__.lower(), began, time.monotonic()))

    async def _start(self, child: Child) -> None:
        await child.start()
        self._up.append(child)

    async def _stop_twin(self) -> None:
        self._up.remove(self._twin)
        began = time.monotonic()
        await self._twin.kill()
        self._windows.append(Window("twin killed", began, time.monotonic()))

    # -- who uses it

    def _url(self) -> str:
        return self._chance.choice(self._up or [self._child]).url

    async def _use(self, step: int, ask: Ask) -> None:
        told = checks.Told(step=step, turn_id=f"torture-{self._seed}-{ask.turn}")
        body = {
            "input": SAID.format(ask.turn),
            "turn_id": told.turn_id,
            "chat_id": f"torture-{self._seed}-chat-{ask.chat}",
            "model": MODELS[ask.wire],
            "client_tools": [PICK],
            "on_busy": "queue",
        }
        try:
            status, answer = await self._until_answered("/v1/turns", body)
            if status not in (200, 202):
                self._break("P4", f"a turn was refused with {status}: {answer}", step, told.turn_id)
                return
            self._told[ask.turn] = told
            self._chats[ask.chat] = told.turn_id
            async with asyncio.TaskGroup() as readers:
                for planned in ask.readers:
                    told.readers.append(Reader(told.turn_id, each=planned.each, drops=planned.drops))
                    readers.create_task(self._read(told.readers[-1], planned, ask, told))
        finally:
            self._live.release()

    async def _read(self, reader: Reader, planned: PlannedReader, ask: Ask, told: checks.Told) -> None:
        await asyncio.sleep(planned.late)

        def heard(event: e.Event) -> None:
            if isinstance(event, e.CallWaiting) and (told.turn_id, event.call_id) not in self._answered:
                self._answered.add((told.turn_id, event.call_id))
                self._tasks.create_task(self._answer(ask, told, event))

        async with self._unless_stuck(told):
            await reader.follow(self._session, self._url, heard=heard)

    @asynccontextmanager
    async def _unless_stuck(self, told: checks.Told) -> AsyncIterator[None]:
        """Left at last though the turn has not ended: the checks say so."""
        try:
            async with asyncio.timeout(2 * SETTLED):
                yield
        except TimeoutError:
            self._say(f"turn {told.turn_id} does not end")

    async def _answer(self, ask: Ask, told: checks.Told, waiting: e.CallWaiting) -> None:
        """As a person, or as the client whose tool it is."""
        await asyncio.sleep(ask.thinks)
        path = f"/v1/turns/{told.turn_id}/"
        if waiting.kind == "client_tool":
            body: Json = {"results": [{"call_id": waiting.call_id, "output": "picked"}]}
            status, _ = await self._until_answered(path + "tool_results", body)
        else:
            body = {"call_id": waiting.call_id, "decision": "deny" if ask.no else "approve"}
            status, _ = await self._until_answered(path + "approvals", body)
            if ask.no and status == 202:
                told.denied.add(waiting.call_id)
        if status >= 400:  # what it asked for was not stored, and is forgotten: it may be asked again
            self._answered.discard((told.turn_id, waiting.call_id))

    async def _cancel(self, step: int, turn: int) -> None:
        if turn not in self._told:
            return
        began = time.monotonic()
        status, answer = await self._until_answered(f"/v1/turns/{self._told[turn].turn_id}/cancel", {})
        self.report.cancels += 1
        self.report.slowest_cancel = max(self.report.slowest_cancel, time.monotonic() - began)
        self._told[turn].cancels.append(step)
        if status not in (200, 202):
            self._break("P11", f"a cancel was answered {status}: {answer}", step, self._told[turn].turn_id)

    async def _until_answered(self, path: str, body: Json) -> tuple[int, str]:
        """Asked again while nobody answers, or it is too much for now; the last answer after so many seconds."""
        last = (0, "nobody answered")
        until = time.monotonic() + SETTLED
        while time.monotonic() < until:
            try:
                async with self._session.post(self._url() + path, json=body) as answer:
                    last = (answer.status, await answer.text())
                # Of two who make a chat at once, one is told that it is there now.
                if last[0] < 500 and last[0] != 429 and "chat_id_taken" not in last[1]:
                    return last
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # gone or silent
            await asyncio.sleep(0.1)
        return last

    # -- afterwards

    async def _look(self) -> None:
        """At every turn once more, from the first event, and go on in every chat."""
        if self._twin in self._up:
            await self._stop_twin()
        for told in self._told.values():
            if told.turn is None:
                continue
            for each in (True, False):
                told.late.append(Reader(told.turn_id, each=each))
                async with self._unless_stuck(told):
                    await told.late[-1].follow(self._session, self._url)
            told.rows = await self._rows(told.turn_id)
        for chat, turn_id in self._chats.items():
            await self._go_on(chat, turn_id)

    async def _rows(self, turn_id: str) -> Json:
        async with self._session.get(f"{self._url()}/v1/turns/{turn_id}") as answer:
            return await answer.json() if answer.status == 200 else None

    async def _go_on(self, chat: int, turn_id: str) -> None:
        body = {"input": FURTHER, "chat_id": f"torture-{self._seed}-chat-{chat}"}
        status, answer = await self._until_answered("/v1/turns", body)
        if status != 202:
            self._break("hazard 1", f"a further turn was refused with {status}: {answer}", 0, turn_id)
            return
        further = Reader(msgspec.json.decode(answer)["assistant_turn"]["id"])
        try:
            async with asyncio.timeout(ANSWERED):
                await further.follow(self._session, self._url)
        except TimeoutError:
            self._break("P8", "a further turn of a quiet chat does not end", 0, further.turn_id)
            return
        if further.turn.status != "complete":
            said = further.turn.error.code if further.turn.error is not None else further.wrong
            self._break("hazard 1", f"a further turn ended as {further.turn.status}: {said}", 0, further.turn_id)

    async def _check(self, vendor: Vendor) -> None:
        effects = read_effects(self._folder / EFFECTS)
        for told in self._told.values():
            mine = [line for line in effects if line.turn_id == told.turn_id]
            self.report.broken += checks.check_turn(told, mine)
        self.report.broken += checks.check_keys(effects)
        verifying = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "legato", "verify", "--json", "--db", "legato.db"),
            cwd=self._folder,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await verifying.communicate()
        self.report.broken += checks.check_verified(said)
        if verifying.returncode not in (0, 1):
            self._break("verify", f"it exited with {verifying.returncode}")
        self.report.effects = sum(line.deed == "effect" for line in effects)
        self._count(vendor)

    def _count(self, vendor: Vendor) -> None:
        told = list(self._told.values())
        self._windows += [
            Window(broke.kind, broke.at, broke.at + 3, f"torture-{self._seed}-{broke.turn}") for broke in vendor.broke
        ]
        for window in self._windows:
            self.report.faults[window.fault] = self.report.faults.get(window.fault, 0) + 1
        gaps = {one.turn_id: [gap for reader in one.readers for gap in reader.gaps] for one in told}
        self.report.longest = report.longest(self._windows, gaps)
        self.report.accepted = len(told)
        self.report.ended = sum(one.turn is not None for one in told)
        for reader in (reader for one in told for reader in one.readers):
            self.report.readers += 1
            self.report.came += reader.came
            self.report.events += reader.events
        for turn in (one.turn for one in told if one.turn is not None):
            name = turn.status if turn.error is None else turn.error.code
            self.report.outcomes[name] = self.report.outcomes.get(name, 0) + 1

    def _break(self, promise: str, found: str, step: int = 0, turn_id: str | None = None) -> None:
        self.report.broken.append(checks.Broken(promise=promise, step=step, turn_id=turn_id, found=found))


def _environ(upstream: Upstream) -> dict[str, str]:
    return {
        "ANTHROPIC_API_KEY": "a-key",
        "ANTHROPIC_BASE_URL": upstream.base_url("anthropic"),
        "OPENAI_API_KEY": "another-key",
        "OPENAI_BASE_URL": upstream.base_url("openai_chat"),
        "LEGATO_PROVIDERS__OPENAI__SEAL": "object",
        "LEGATO_PROVIDERS__OPENAI__IDLE_TIMEOUT": "2",
        "LEGATO_PROVIDERS__ANTHROPIC__IDLE_TIMEOUT": "2",
    }
