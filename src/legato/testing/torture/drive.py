"""Does what the plan says to servers and their users, looks at what is left, and checks it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import ClientTimeout

from legato.testing.torture import checks, report
from legato.testing.torture.plan import Ask, Cancel, Pause, Spool, Steer, Step
from legato.testing.torture.planning import LONG
from legato.testing.torture.readers import Reader
from legato.testing.torture.report import Report
from legato.testing.torture.servers import Servers
from legato.testing.torture.told import Told, Window, World
from legato.testing.torture.tools import EFFECTS, read_effects
from legato.testing.torture.users import Users
from legato.testing.torture.vendor import SAID, Vendor
from legato.testing.upstream import Upstream

LIVE: Final = 16
"""Turns at once: the plan waits while there are more."""
LOOKING: Final = 8
"""Turns looked at at once, afterwards."""
SETTLED: Final = 180.0
"""Seconds after which a turn that has not ended will not: two leases, many kills, and some."""
SETTLED_IN_HASTE: Final = 30.0
"""Likewise where nobody is stopped for longer than a lease."""
EACH_STEP: Final = 0.35
"""Seconds that a step of the plan may take, all in all, beside half as much again as the last turn has to end in."""
ANSWERED: Final = 10.0
"""Seconds until somebody who asked asks again."""


class Torture:
    """``say`` is told how far it is."""

    def __init__(self, seed: int, plan: tuple[Step, ...], folder: Path, say: Callable[[str], None]) -> None:
        self._seed = seed
        self._plan = plan
        self._folder = folder
        self._say = say
        self._asks = {step.turn: step for step in plan if isinstance(step, Ask)}
        self._in_haste = len(self._asks) < LONG
        self._settled = SETTLED_IN_HASTE if self._in_haste else SETTLED
        self._bound = 1.5 * self._settled + EACH_STEP * len(plan)
        self._live = asyncio.Semaphore(LIVE)
        self.report = Report(seed=seed, turns=len(self._asks), steps=len(plan))

    async def run(self) -> Report:
        """Raises ``DidNotStart``, perhaps in a group."""
        began = time.monotonic()
        vendor = Vendor(list(self._asks.values()))
        timeout = ClientTimeout(total=ANSWERED)
        async with (
            Upstream.open(default=vendor.answer) as upstream,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session,
        ):
            environ = _environ(upstream, in_haste=self._in_haste)
            drain, apart = (1, 0.3) if self._in_haste else (3, 1.2)
            servers = Servers(self._folder, environ, drain=drain, apart=apart)
            users = Users(self._seed, servers, session, self._complain, patience=self._settled)
            bound = asyncio.timeout(self._bound)
            try:
                async with bound:
                    await self._do_and_look(servers, users)
            except TimeoutError:
                if not bound.expired():
                    raise
                # Each wait has its bound, and where nothing is answered any more they come one after the other.
                self._complain("P8", f"not all was done and looked at after {self._bound:.0f} s")
            finally:
                await servers.kill()
            for refused in upstream.refused:
                self._complain("hazard 1", f"the vendor refused: {refused}")
        for wrong in servers.wrong:
            self._complain("hazard 22", wrong)
        await self._check(vendor, servers, users)
        self.report.seconds = time.monotonic() - began
        return self.report

    async def _do_and_look(self, servers: Servers, users: Users) -> None:
        await servers.start()
        async with asyncio.TaskGroup() as tasks:
            users.tasks = tasks
            await self._do_all(servers, users, tasks)
        await servers.stop_twin()
        await self._look(users)
        await servers.end()

    async def _do_all(self, servers: Servers, users: Users, tasks: asyncio.TaskGroup) -> None:
        """Until all is done; or until turns have taken all places and do not end: what nobody has seen of them names
        them."""
        for number, step in enumerate(self._plan, 1):
            if number % 100 == 0:
                self._say(f"step {number} of {len(self._plan)}")
            await servers.step()
            match step:
                case Ask():
                    try:
                        async with asyncio.timeout(self._settled):
                            await self._live.acquire()
                    except TimeoutError:
                        return
                    tasks.create_task(self._use(users, number, step))
                case Cancel():
                    tasks.create_task(users.cancel(number, step))
                case Steer():
                    tasks.create_task(users.steer(number, step))
                case Pause(seconds=seconds):
                    await asyncio.sleep(seconds)
                case _:
                    if isinstance(step, Spool):
                        await users.somebody_talks()
                    await servers.hurt(step)

    async def _use(self, users: Users, number: int, ask: Ask) -> None:
        try:
            await users.use(number, ask)
        finally:
            self._live.release()

    async def _look(self, users: Users) -> None:
        """At every turn once more, from the first event, and go on in every chat."""
        places = asyncio.Semaphore(LOOKING)

        async def look_at(told: Told) -> None:
            async with places:
                await self._look_at(users, told)

        async def go_on(chat: int) -> None:
            async with places:
                await self._go_on(users, chat)

        async with asyncio.TaskGroup() as tasks:
            for told in users.told.values():
                tasks.create_task(look_at(told))
        async with asyncio.TaskGroup() as tasks:
            for chat in users.chats:
                tasks.create_task(go_on(chat))

    async def _look_at(self, users: Users, told: Told) -> None:
        if told.turn is not None:
            await users.follow_again(told, each=False, drops=(1000,))
            await users.follow_again(told, each=True, drops=(500, 3000))
            await users.follow_again(told, each=True)
            await users.ask_again(told)
            told.rows = await users.get(f"/v1/turns/{told.turn_id}")

    async def _go_on(self, users: Users, chat: int) -> None:
        turn_id = users.chats[chat]
        self.report.broken += checks.check_chat(await users.get(f"/v1/chats/{users.chat_id(chat)}"))
        further = await users.go_on(chat)
        if not isinstance(further, Reader):
            self._complain("hazard 1", f"a further turn was refused with {further.status}: {further.text}", 0, turn_id)
        elif further.turn.status != "complete":
            said = further.turn.error.code if further.turn.error is not None else further.wrong
            found = f"a further turn is {further.turn.status}: {said}"
            self._complain("hazard 1", found, 0, further.turn_id)

    async def _check(self, vendor: Vendor, servers: Servers, users: Users) -> None:
        effects = read_effects(self._folder / EFFECTS)
        rounds = [planned for ask in self._asks.values() for planned in ask.rounds]
        planned = {call.what: call for each in rounds for call in each.calls}
        world = World(windows=servers.windows, planned=planned)
        for turn, told in users.told.items():
            mine = [line for line in effects if line.turn_id == told.turn_id]
            self.report.broken += checks.check_turn(told, mine, world)
            self.report.broken += checks.check_heard(told, told.turn, SAID.format(turn), vendor.heard)
        self.report.broken += checks.check_keys(effects)
        for said in sorted(vendor.twice):
            self._complain("steers", f"a request to the model has twice: {said}")
        await self._verify()
        self.report.effects = sum(line.deed == "effect" for line in effects)
        broke = [Window(f"vendor: {one.kind}", one.at, one.at + 3, users.turn_id(one.turn)) for one in vendor.broke]
        self._count([*servers.windows, *broke], users)

    async def _verify(self) -> None:
        verifying = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "legato", "verify", "--json", "--db", "legato.db"),
            cwd=self._folder,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await verifying.communicate()
        self.report.broken += checks.check_verified(said)
        if verifying.returncode not in (0, 1):
            self._complain("verify", f"it exited with {verifying.returncode}")

    def _count(self, windows: list[Window], users: Users) -> None:
        told, counted = list(users.told.values()), self.report
        counted.tolls = report.tolls(windows, told, counted.broken)
        counted.accepted = len(told)
        counted.ended = sum(one.turn is not None for one in told)
        counted.refused, counted.steered, counted.answers = users.refused, users.steered, users.answers
        counted.steers = sum(len(one.steers) for one in told)
        counted.cancels = sum(len(one.cancels) for one in told)
        counted.slowest_cancel = users.slowest_cancel
        readers = [reader for one in told for reader in one.readers]
        counted.readers = len(readers)
        counted.views = sum(len(reader.views) for reader in readers)
        counted.came = sum(reader.came for reader in readers)
        counted.events = sum(reader.events for reader in readers)
        turns = [one.turn for one in told if one.turn is not None]
        counted.outcomes = Counter(turn.status if turn.error is None else turn.error.code for turn in turns)

    def _complain(self, promise: str, found: str, step: int = 0, turn_id: str | None = None) -> None:
        self.report.broken.append(checks.Broken(promise=promise, step=step, turn_id=turn_id, found=found))


def _environ(upstream: Upstream, *, in_haste: bool) -> dict[str, str]:
    return {
        "ANTHROPIC_API_KEY": "a-key",
        "ANTHROPIC_BASE_URL": upstream.base_url("anthropic"),
        "OPENAI_API_KEY": "another-key",
        "OPENAI_BASE_URL": upstream.base_url("openai_chat"),
        "LEGATO_PROVIDERS__OPENAI__SEAL": "object",
        "LEGATO_PROVIDERS__OPENAI__IDLE_TIMEOUT": "1" if in_haste else "2",
        "LEGATO_PROVIDERS__ANTHROPIC__IDLE_TIMEOUT": "1" if in_haste else "2",
        "LEGATO_STORAGE__RETRY_WINDOW": "1" if in_haste else "3",
    }
