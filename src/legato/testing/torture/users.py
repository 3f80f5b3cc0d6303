"""Who uses the servers: they post, follow, answer, cancel, and say more, at whichever server there is.

Everybody comes again until somebody answers: nobody here knows when a server dies.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import aiohttp
import msgspec

from legato.core import events as e
from legato.core.blocks import Json
from legato.testing.script import Wire
from legato.testing.torture.plan import Ask, Cancel, PlannedReader, Steer
from legato.testing.torture.readers import Reader
from legato.testing.torture.servers import Servers
from legato.testing.torture.told import Decision, GivenCancel, Told
from legato.testing.torture.vendor import FURTHER, SAID, STEERED

MODELS: Final[dict[Wire, str]] = {"anthropic": "anthropic/claude-sonnet-4-5", "openai_chat": "openai/gpt-5"}
TALKS: Final = 5.0
"""Seconds until the turn that was just posted says something."""
PICK: Final = {
    "name": "pick",
    "description": "Asks the client to choose.",
    "input_schema": {"type": "object", "properties": {"what": {"type": "string"}, "ms": {"type": "integer"}}},
}


class Said(NamedTuple):
    """An answer. ``asked`` is since when, in monotonic seconds; ``alone``: meanwhile one server was up and no fault
    there."""

    status: int
    text: str
    asked: float = 0.0
    alone: bool = False

    @property
    def json(self) -> Json:
        return msgspec.json.decode(self.text)


class Users:
    """``told`` is by turn what was seen of it, of those that became one; ``chats`` has the last turn of each. Whoever
    follows a turn gives it ``patience`` seconds, whoever asks something half of them.
    ``tasks``, in which they answer, is set before the first turn.
    ``complain`` is told what should not have been answered: a promise, what was found, the step and the turn."""

    def __init__(
        self,
        seed: int,
        servers: Servers,
        session: aiohttp.ClientSession,
        complain: Callable[[str, str, int, str], None],
        *,
        patience: float,
    ) -> None:
        self.told: dict[int, Told] = {}
        self.chats: dict[int, str] = {}
        self.steered = self.refused = self.answers = 0
        self.slowest_cancel = 0.0
        self._seed = seed
        self._servers = servers
        self._session = session
        self.tasks: asyncio.TaskGroup | None = None
        self._complain = complain
        self._patience = patience
        self._chance = random.Random(seed)  # noqa: S311  (nobody is to be kept from guessing)
        self._answered: set[tuple[str, str]] = set()
        self._posted: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._steers: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
        self._texts: dict[str, str] = {}

    def url(self) -> str:
        return self._servers.any_url(self._chance)

    def turn_id(self, turn: int) -> str:
        return f"torture-{self._seed}-{turn}"

    async def use(self, step: int, ask: Ask) -> None:
        """Post the turn, and follow it to its end."""
        turn_id = self.turn_id(ask.turn)
        told = Told(step=step, turn_id=turn_id, steers=self._steers[turn_id])
        life = self._servers.life
        early = ask.unwanted and await self._cancel_early(turn_id)
        body = {
            "input": SAID.format(ask.turn),
            "turn_id": turn_id,
            "chat_id": self.chat_id(ask.chat),
            "model": MODELS[ask.wire],
            "client_tools": [PICK],
            "on_busy": ask.on_busy,
        }
        said = await self.until_answered("/v1/turns", body)
        # Whoever was asked remembers it, and nobody else does: so it counts where that can only have been one.
        told.unwanted = early and said.alone and life == self._servers.life
        if said.status == 409 and ask.on_busy == "reject" and "chat_busy" in said.text:
            self.refused += 1
        elif said.status not in (200, 202):
            self._complain("P4", f"a turn was refused with {said.status}: {said.text}", step, turn_id)
        elif (into := said.json["assistant_turn"]["id"]) != turn_id:
            self.steered += 1
            self._accepted_into(into, turn_id, SAID.format(ask.turn))
        else:
            told.posted = time.monotonic()
            self.told[ask.turn] = told
            self.chats[ask.chat] = turn_id
        self._posted[ask.turn].set()
        if ask.turn in self.told:
            await self._follow(ask, told)

    async def somebody_talks(self) -> None:
        """Once a turn has begun and not ended; or after some time, if none does."""
        until = time.monotonic() + TALKS
        while time.monotonic() < until:
            turns = [reader.turn for told in self.told.values() for reader in told.readers]
            if any(turn.open and not turn.ended for turn in turns):
                return
            await asyncio.sleep(0.02)

    async def cancel(self, step: int, planned: Cancel) -> None:
        """As soon as the turn was accepted, if it was."""
        await self._posted[planned.turn].wait()
        if planned.turn not in self.told:
            return
        told = self.told[planned.turn]
        began = time.monotonic()
        said = await self.until_answered(f"/v1/turns/{told.turn_id}/cancel", {"mode": planned.mode})
        now = time.monotonic()
        self.slowest_cancel = max(self.slowest_cancel, now - began)
        if said.status not in (200, 202):
            self._complain("P11", f"a cancel was answered {said.status}: {said.text}", step, told.turn_id)
            return
        shown = said.json
        given = GivenCancel(
            mode=planned.mode,
            status=said.status,
            stored=shown["stored"],
            asked=said.asked,
            at=now,
            last_seq=shown["last_seq"],
            alone=said.alone,
        )
        told.cancels.append(given)

    async def steer(self, step: int, planned: Steer) -> None:
        """Likewise."""
        await self._posted[planned.turn].wait()
        if planned.turn not in self.told:
            return
        turn_id, steer_id = self.told[planned.turn].turn_id, f"steer-{self._seed}-{planned.number}"
        text = STEERED.format(planned.number)
        said = await self.until_answered(f"/v1/turns/{turn_id}/steer", {"text": text, "steer_id": steer_id})
        if said.status == 202:
            self._accepted_into(turn_id, steer_id, text)
        elif "turn_ended" not in said.text:
            self._complain("steers", f"a steer was answered {said.status}: {said.text}", step, turn_id)

    async def ask_again(self, told: Told) -> None:
        """Of what was said into a turn that has ended, what became of it."""
        for steer_id in told.steers:
            body = {"text": self._texts[steer_id], "steer_id": steer_id}
            said = await self.until_answered(f"/v1/turns/{told.turn_id}/steer", body)
            told.steers[steer_id] = said.json["steer"]["state"] if said.status == 202 else f"refused: {said.text}"

    async def go_on(self, chat: int) -> Reader | Said:
        """One turn more in a chat that is quiet, by a reader who has followed it for as long as one such may take."""
        said = await self.until_answered("/v1/turns", {"input": FURTHER, "chat_id": self.chat_id(chat)})
        if said.status != 202:
            return said
        further = Reader(said.json["assistant_turn"]["id"])
        async with _unless_stuck(self._patience):
            await further.follow(self._session, self.url)
        return further

    async def get(self, path: str) -> Json:
        async with self._session.get(self.url() + path) as answer:
            return await answer.json() if answer.status == 200 else None

    def chat_id(self, chat: int) -> str:
        return f"torture-{self._seed}-chat-{chat}"

    async def _cancel_early(self, turn_id: str) -> bool:
        """Of a turn that is not posted yet. Whether the one server that there is remembers it."""
        said = await self.until_answered(f"/v1/turns/{turn_id}/cancel", {})
        return said.status == 202 and said.alone

    def _accepted_into(self, turn_id: str, steer_id: str, text: str) -> None:
        self._texts[steer_id] = text
        self._steers[turn_id][steer_id] = None

    async def _follow(self, ask: Ask, told: Told) -> None:
        async with asyncio.TaskGroup() as readers:
            for planned in ask.readers:
                told.readers.append(Reader(told.turn_id, each=planned.each, drops=planned.drops))
                readers.create_task(self._read(told.readers[-1], planned, ask, told))

    async def _read(self, reader: Reader, planned: PlannedReader, ask: Ask, told: Told) -> None:
        await asyncio.sleep(planned.late)

        assert self.tasks is not None
        start = self.tasks.create_task

        def heard(event: e.Event) -> None:
            if isinstance(event, e.CallWaiting) and (told.turn_id, event.call_id) not in self._answered:
                self._answered.add((told.turn_id, event.call_id))
                start(self._answer(ask, told, event))

        async with _unless_stuck(self._patience):
            await reader.follow(self._session, self.url, heard=heard)

    async def follow_again(self, told: Told, *, each: bool, drops: tuple[int, ...] = ()) -> None:
        told.late.append(Reader(told.turn_id, each=each, drops=drops))
        async with _unless_stuck(self._patience):
            await told.late[-1].follow(self._session, self.url)

    async def _answer(self, ask: Ask, told: Told, waiting: e.CallWaiting) -> None:
        """As a person, or as the client whose tool it is."""
        await asyncio.sleep(ask.thinks)
        path = f"/v1/turns/{told.turn_id}/"
        if waiting.kind == "client_tool":
            path += "tool_results"
            body: Json = {"results": [{"call_id": waiting.call_id, "output": "picked"}]}
            other: Json = {"results": [{"call_id": waiting.call_id, "output": "something else"}]}
        else:
            path += "approvals"
            no: Json = {"call_id": waiting.call_id, "decision": "deny", "reason": "not today"}
            yes: Json = {"call_id": waiting.call_id, "decision": "approve"}
            edit: Json = {**yes, "input": {"what": f"edited-{told.turn_id}-{waiting.call_id}", "ms": 5}}
            body, other = {"yes": (yes, no), "no": (no, yes), "edit": (edit, yes)}[ask.says]
        decisions = told.decisions.setdefault(waiting.call_id, [])
        decided = Decision(decision=body.get("decision", ""), input=body.get("input"))
        decisions.append(decided)
        until = time.monotonic() + self._patience
        said = await self.until_answered(path, body)
        refused: Said | None = None
        # What it asked for may not be stored, and is forgotten then: it is seen to wait until somebody says so.
        while said.status != 202 and told.waits_for(waiting.call_id) and time.monotonic() < until:
            refused = said if said.alone else refused
            await asyncio.sleep(0.5)
            said = await self.until_answered(path, body)
        if said.status == 202:
            self.answers += 1
            if refused is not None:
                told.misheard.append(f"an answer was refused with {refused.status}, and taken later: {refused.text}")
            decisions[-1] = msgspec.structs.replace(decided, taken=True)
            await self._answer_again(ask, told, path, body if ask.again == "same" else other)
        else:
            self._answered.discard((told.turn_id, waiting.call_id))

    async def _answer_again(self, ask: Ask, told: Told, path: str, body: Json) -> None:
        """The same once more is no fault; another comes too late."""
        if ask.again == "no":
            return
        said = await self.until_answered(path, body)
        if said.status not in ((202,) if ask.again == "same" else (409,)):
            told.misheard.append(f"a second answer ({ask.again}) was answered {said.status}: {said.text}")

    async def until_answered(self, path: str, body: Json) -> Said:
        """Asked again while nobody answers, or it is too much for now; the last answer after so many seconds."""
        last = Said(0, "nobody answered")
        until = time.monotonic() + self._patience / 2
        while time.monotonic() < until:
            life, alone, asked = self._servers.life, self._servers.alone, time.monotonic()
            try:
                async with self._session.post(self.url() + path, json=body) as answer:
                    text = await answer.text()
                    still = alone and self._servers.alone and life == self._servers.life
                    last = Said(answer.status, text, asked, alone=still)
                # Of two who make a chat at once, one is told that it is there now.
                if last.status < 500 and last.status != 429 and "chat_id_taken" not in last.text:
                    return last
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # gone or silent
            await asyncio.sleep(0.1)
        return last


@asynccontextmanager
async def _unless_stuck(patience: float) -> AsyncIterator[None]:
    """Left at last though a turn has not ended: the checks say so."""
    try:
        async with asyncio.timeout(patience):
            yield
    except TimeoutError:
        pass  # its reader has not seen the end
