"""A chat as its client holds it: where the next turn hangs, and the requests that make one (docs/http.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import uuid_utils

from legato.cli.api import Api, chat_path, turn_path
from legato.cli.failures import Failed, Refused, Unreachable
from legato.cli.seen import SeenChat, SeenModels, SeenStart, SeenTree, SeenTurn, SeenTurns
from legato.cli.tree import Tree
from legato.core.blocks import Json

_TRIES: Final = 6
"""Of a start whose line broke: 1 + 2 + 4 + 8 + 15 s are longer than a server takes to restart."""
_PAUSE_MAX_SECONDS: Final = 15.0


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line."""

    text: tuple[str, ...] = ()
    model: str | None = None
    chat_id: str | None = None
    system: str | None = None
    tools: bool = True


class Talk:
    """``head`` is the assistant turn that the next one follows, ``user_turn`` the one it answers."""

    def __init__(self, api: Api, wishes: Wishes) -> None:
        self.chat_id = wishes.chat_id or new_id()
        self.model = wishes.model
        self.head: str | None = None
        self.user_turn: str | None = None
        self._api = api
        self._tools = wishes.tools
        self._system = wishes.system
        self._is_there = False
        self._is_new = wishes.chat_id is None

    async def open(self) -> SeenChat | None:
        """The chat that is gone on with; None for a new one."""
        if self._is_new:
            return None
        try:
            chat = await self._api.get(chat_path(self.chat_id), SeenChat)
        except Refused as error:
            if error.status != 404:
                raise
            return None
        self._is_there = True
        if chat.head_turn_id is not None:
            await self._stand_on(chat.head_turn_id)
        return chat

    async def default_model(self) -> str:
        models = await self._api.get("/v1/models", SeenModels)
        return models.data[0].id if models.data else "none"

    def said(self, text: str) -> dict[str, Json]:
        """The request for a turn after the last one."""
        hangs = {} if self.head is None else {"prev_turn_id": self.head}
        return self._body() | hangs | {"blocks": [{"type": "text", "text": text}]}

    def again(self) -> dict[str, Json]:
        """The request for another answer to the last user turn. Raises ``Failed``."""
        if self.user_turn is None:
            raise Failed("nothing was said yet that could be answered again")
        return self._body() | {"prev_turn_id": self.user_turn}

    async def edited(self, text: str) -> dict[str, Json]:
        """The request for the last user turn said otherwise, beside it. Raises ``Failed``."""
        if self.user_turn is None:
            raise Failed("nothing was said yet that could be edited")
        former = await self.turn(self.user_turn)
        blocks = [{"type": "text", "text": text}]
        return self._body() | {"prev_turn_id": former.prev_turn_id, "blocks": blocks}

    def _body(self) -> dict[str, Json]:
        body: dict[str, Json] = {"turn_id": new_id(), "chat_id": self.chat_id}
        if self.model is not None:
            body["model"] = self.model
        if not self._tools:
            body["tools"] = []
        return body

    async def start(self, body: dict[str, Json], *, lost: Callable[[str], None]) -> SeenStart:
        """Start the turn of ``body``. One whose answer did not arrive is asked again: its turn_id makes it one turn."""
        await self._settle_system()
        for tries in range(_TRIES):
            try:
                started = await self._api.send("POST", "/v1/turns", body, SeenStart)
            except (Unreachable, Refused) as error:
                if tries + 1 == _TRIES or not _may_pass(error, tries):
                    raise
                seconds = min(2.0**tries, _PAUSE_MAX_SECONDS)
                lost(f"{error.message}; trying again in {seconds:g} s")
                await asyncio.sleep(seconds)
            else:
                self._is_there = True
                self.head, self.user_turn = started.assistant_turn.id, started.user_turn.id
                return started
        raise AssertionError("the last try returns or raises")

    async def _settle_system(self) -> None:
        """A system prompt is the chat's: what a turn brings along stands in front of that turn's text only."""
        if self._system is None:
            return
        if self._is_there:
            await self._api.send("PATCH", chat_path(self.chat_id), {"system": self._system}, SeenChat)
        else:
            chat = {"id": self.chat_id, "system": self._system, "model": self.model}
            await self._api.send("POST", "/v1/chats", chat, SeenChat)
        self._is_there, self._system = True, None

    async def cancel(self, turn_id: str) -> None:
        await self._api.send("POST", f"{turn_path(turn_id)}/cancel", {"mode": "now"}, msgspec.Raw)

    async def approve(self, turn_id: str, body: dict[str, Json]) -> None:
        """Answer a call that waits for a person."""
        await self._api.send("POST", f"{turn_path(turn_id)}/approvals", body, msgspec.Raw)

    async def turn(self, turn_id: str) -> SeenTurn:
        return await self._api.get(turn_path(turn_id), SeenTurn)

    async def tree(self) -> Tree:
        if not self._is_there:
            raise Failed("nothing was said yet in this chat")
        return Tree((await self._api.get(f"{chat_path(self.chat_id)}/turns?tree=1", SeenTree)).data)

    async def last_turns(self, limit: int) -> tuple[SeenTurn, ...]:
        """Of the branch that is gone on with, oldest first."""
        if self.head is None:
            return ()
        path = f"{chat_path(self.chat_id)}/turns?branch={self.head}&limit={limit}"
        return (await self._api.get(path, SeenTurns)).data

    async def switch(self, leaf: str) -> None:
        """Go on from another branch, here and for whoever opens the chat next."""
        await self._api.send("PATCH", chat_path(self.chat_id), {"head_turn_id": leaf}, SeenChat)
        await self._stand_on(leaf)

    async def _stand_on(self, head: str) -> None:
        turn = await self.turn(head)
        self.head = head
        self.user_turn = turn.prev_turn_id if turn.role == "assistant" else head


def _may_pass(error: Unreachable | Refused, tries: int) -> bool:
    """Nobody there at the first try is nobody there; a line that broke, or a server that restarts, may come back."""
    if isinstance(error, Refused):
        return error.passing
    return error.connected or tries > 0


def new_id() -> str:
    return str(uuid_utils.uuid7())
