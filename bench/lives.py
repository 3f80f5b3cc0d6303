"""Clients as they are: who read a while and go, cancel, ask again, say something into a turn, and come back.

Each life is one client's, from its first request until every turn that it began has ended. A seed chooses it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from legato.core.blocks import Json

MODEL: Final = "script/echo"
MODES: Final = ("now", "after_block", "after_round")
LONG: Final = 40
"""Turns after which a client begins a new chat: each turn reads all of its chat."""
PATIENCE: Final = 60.0
"""Seconds for one request, and for a turn's end."""

Step = dict[str, Json]


class Refused(Exception):
    """An answer that was not expected."""


class Client:
    """``turns`` are those that were accepted."""

    def __init__(self, port: int, seed: int) -> None:
        self.turns = 0
        self._port = port
        self._random = random.Random(seed)
        self._chat = self._id()
        self._chat_turns = 0

    async def live(self) -> None:
        """One of the lives."""
        lives: Sequence[tuple[Callable[[], Awaitable[None]], int]] = (
            (self._talk, 30),
            (self._use_tools, 15),
            (self._cancel, 20),
            (self._cancel_too_early, 5),
            (self._steer, 8),
            (self._ask_while_busy, 8),
            (self._hang_up_on_the_answer, 5),
            (self._sign, 4),
            (self._let_wait, 1),
            (self._show, 4),
            (self._meet_faults, 5),
            (self._ask_wrongly, 4),
            (self._delete, 2),
        )
        one = self._random.choices([life for life, _ in lives], [weight for _, weight in lives])[0]
        async with asyncio.timeout(PATIENCE):
            await one()

    # The lives

    async def _talk(self) -> None:
        turn_id = await self._post(self._words())
        await self._read_in_pieces(turn_id)

    async def _use_tools(self) -> None:
        turn_id = await self._post(*self._calls(), {"end": "calls"}, self._words())
        await self._read_in_pieces(turn_id)

    async def _cancel(self) -> None:
        turn_id = await self._post(self._words(slowly=True), *self._calls(), {"end": "calls"}, self._words(slowly=True))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_in_pieces(turn_id))
            for _ in range(self._random.choice((1, 1, 2))):
                await asyncio.sleep(self._random.random() * 0.2)
                await self._ask("POST", f"/v1/turns/{turn_id}/cancel", {"mode": self._random.choice(MODES)})

    async def _cancel_too_early(self) -> None:
        turn_id = self._id()
        await self._ask("POST", f"/v1/turns/{turn_id}/cancel")
        await self._post(self._words(), turn_id=turn_id)
        await self._read(turn_id)

    async def _steer(self) -> None:
        turn_id = await self._post(self._words(slowly=True), *self._calls(), {"end": "calls"}, self._words(slowly=True))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_in_pieces(turn_id))
            for _ in range(self._random.choice((1, 2, 3))):
                await asyncio.sleep(self._random.random() * 0.1)
                await self._ask("POST", f"/v1/turns/{turn_id}/steer", {"text": "And another thing."})

    async def _ask_while_busy(self) -> None:
        chat = self._id()
        turns = [await self._post(self._words(slowly=True), {"wait": 0.3}, chat_id=chat)]
        for on_busy in self._random.choices(("reject", "queue", "queue", "steer", "interrupt", "replace"), k=3):
            status, answer = await self._ask("POST", "/v1/turns", self._body((self._words(),), chat, on_busy=on_busy))
            if status == 202:
                turns.append(_turn_of(answer))
            if on_busy == "queue" and self._random.random() < 0.5:
                await self._ask("POST", f"/v1/turns/{turns[-1]}/cancel")
        self.turns += len(set(turns)) - 1
        for turn_id in turns:
            await self._read(turn_id)

    async def _hang_up_on_the_answer(self) -> None:
        turn_id, chat = self._id(), self._id()
        body = self._body((self._words(), *self._calls()), chat, turn_id=turn_id)
        await self._ask("POST", "/v1/turns", body, cut=self._random.randrange(200))
        self.turns += 1
        await self._until_ended(turn_id)

    async def _sign(self) -> None:
        turn_id = await self._post({"tool": "sign", "input": {"what": "this"}}, chat_id=self._id())
        turn = await self._until(turn_id, lambda turn: turn["status"] == "waiting")
        call_id = turn["waiting_for"][0]["call_id"]
        answers = [{"call_id": call_id, "decision": self._random.choice(("approve", "deny"))}]
        if self._random.random() < 0.3:
            await self._ask("POST", f"/v1/turns/{turn_id}/cancel")
        else:
            await self._ask("POST", f"/v1/turns/{turn_id}/approvals", answers[0])
        await self._read(turn_id)

    async def _let_wait(self) -> None:
        """For somebody who never comes."""
        turn_id = await self._post({"tool": "sign", "input": {"what": "that"}}, chat_id=self._id())
        await self._until(turn_id, lambda turn: turn["status"] == "waiting")
        await self._read(turn_id, cut=300)

    async def _show(self) -> None:
        turn_id = await self._post(*self._calls())
        await self._read(turn_id)
        for path in ("", "/model_view", "/timeline"):
            await self._ask("GET", f"/v1/turns/{turn_id}{path}")
        await self._ask("GET", f"/v1/chats/{self._chat}/turns?limit=20")
        await self._ask("GET", "/v1/chats?limit=20")
        await self._ask("GET", "/metrics", cut=self._random.randrange(500))

    async def _meet_faults(self) -> None:
        fault = self._random.choice(("cut", "refusal", "length", "bad_json"))
        turn_id = await self._post(self._words(), {"fail": fault})
        await self._read_in_pieces(turn_id)

    async def _ask_wrongly(self) -> None:
        await self._ask("POST", "/v1/turns", {"input": "?", "model": f"nobody/{self._id()}"})
        await self._ask("POST", "/v1/turns", {"input": "?", "tools": [self._id()]})
        await self._ask("POST", "/v1/turns", {"inputt": "?"})
        await self._ask("GET", f"/v1/turns/{self._id()}")
        await self._ask("GET", f"/v1/turns/{self._id()}/events")
        await self._ask("GET", f"/{self._id()}")
        turn_id = await self._post({"tool": f"no_{self._random.randrange(10**9)}", "input": {}})
        await self._read(turn_id)

    async def _delete(self) -> None:
        turn_id, chat = self._id(), self._id()
        await self._post(self._words(slowly=True), chat_id=chat, turn_id=turn_id)
        await self._read(turn_id, cut=self._random.randrange(2_000))
        await self._ask("DELETE", f"/v1/chats/{chat}")

    # What they are made of

    def _id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def _words(self, *, slowly: bool = False) -> Step:
        pace = self._random.choice((100, 300)) if slowly else 0
        return {"text": "word " * self._random.randrange(5, 40), "pace": pace}

    def _calls(self) -> list[Step]:
        calls: list[Step] = [
            {"tool": "look", "input": {"ms": self._random.randrange(30)}},
            {"tool": "look", "input": {"ms": self._random.randrange(30)}},
            {"tool": "change", "input": {"what": self._id()}},
            {"tool": "fail", "input": {"why": self._id()}},
            {"tool": "much", "input": {"size": self._random.choice((10_000, 300_000))}},
        ]
        return self._random.sample(calls, k=self._random.choice((1, 2, 3)))

    def _body(self, steps: Sequence[Step], chat: str, **fields: Json) -> Json:
        script = "```script\n" + "\n".join(map(json.dumps, steps)) + "\n```"
        return {"input": script, "model": MODEL, "chat_id": chat, **fields}

    async def _post(self, *steps: Step, chat_id: str | None = None, **fields: Json) -> str:
        """A turn, in the client's own chat unless another is named."""
        if chat_id is None:
            self._chat_turns += 1
            if self._chat_turns % LONG == 0:
                self._chat = self._id()
        status, answer = await self._ask("POST", "/v1/turns", self._body(steps, chat_id or self._chat, **fields))
        if status != 202:
            raise Refused(f"{status} {answer}")
        self.turns += 1
        return _turn_of(answer)

    async def _read_in_pieces(self, turn_id: str) -> None:
        """Two readers: one goes and does not come back, one comes back until the end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(turn_id, cut=self._random.randrange(3_000)))
            after = 0
            for _ in range(self._random.choice((0, 1, 3))):
                after = await self._read(turn_id, after=after, cut=self._random.randrange(3_000))
            await self._read(turn_id, after=after)

    async def _read(self, turn_id: str, *, after: int = 0, cut: int | None = None) -> int:
        """The last whole event's number; without ``cut`` to the turn's end."""
        said = await self._exchange("GET", f"/v1/turns/{turn_id}/events?after={after}", None, cut)
        if cut is None and b"event: turn_end" not in said and b" 204 " not in said[:20]:
            raise Refused(f"a stream of {turn_id} ended in {said[-300:]!r}")
        whole = said[: said.rfind(b"\n\n") + 1]
        ids = [int(line[4:]) for line in whole.splitlines() if line.startswith(b"id: ")]
        return ids[-1] if ids else after

    async def _until_ended(self, turn_id: str) -> None:
        """Of a turn that may never have been accepted."""
        for _ in range(3):
            status, _ = await self._ask("GET", f"/v1/turns/{turn_id}")
            if status == 200:
                await self._read(turn_id)
                return
            await asyncio.sleep(0.02)
        self.turns -= 1

    async def _until(self, turn_id: str, true: Callable[[Json], bool]) -> Json:
        while True:
            _, turn = await self._ask("GET", f"/v1/turns/{turn_id}")
            if true(turn):
                return turn
            await asyncio.sleep(0.02)

    async def _ask(self, method: str, path: str, body: Json = None, *, cut: int | None = None) -> tuple[int, Json]:
        """Status and JSON; 0 and nothing for an exchange that was cut."""
        said = await self._exchange(method, path, body, cut)
        head, _, answer = said.partition(b"\r\n\r\n")
        if cut is not None or not head.startswith(b"HTTP/1.1 "):
            return 0, None
        is_json = b"json" in head and answer
        return int(head[9:12]), json.loads(answer) if is_json else None

    async def _exchange(self, method: str, path: str, body: Json, cut: int | None) -> bytes:
        """One connection. ``cut``: it is dropped after so many bytes of the answer, reset or closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            data = b"" if body is None else json.dumps(body).encode()
            kind = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}\r\n".encode() + data
            )
            said = bytearray()
            while (cut is None or len(said) < cut) and (piece := await reader.read(65_536)):
                said += piece
            if cut is not None and self._random.random() < 0.5:
                writer.transport.abort()
            return bytes(said)
        finally:
            writer.close()


def _turn_of(answer: Json) -> str:
    turn_id: str = answer["assistant_turn"]["id"]
    return turn_id
