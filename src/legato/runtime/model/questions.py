"""What a turn is asked with, from what is stored: its chat's words, its tools, the branch in front of it."""

from __future__ import annotations

from collections.abc import Sequence

from legato.core.ask import Params, ToolSpec
from legato.core.blocks import Json
from legato.core.records import Chat, StoredTurn, TurnRow
from legato.ports import Models, Store, Tools
from legato.runtime.model.asking import Question, system_prompt

ANYTHING: dict[str, Json] = {"type": "object"}
"""The schema of a client's tool that gives none."""


class Questions:
    """``system`` is the server's own system prompt, in front of every chat's."""

    def __init__(self, *, store: Store, models: Models, tools: Tools, system: str) -> None:
        self._store = store
        self._models = models
        self._tools = tools
        self._system = system

    async def of(self, row: TurnRow, *, chat: Chat | None = None, user: StoredTurn | None = None) -> Question:
        """``chat`` is the turn's and ``user`` the user turn that it answers, where they are at hand: then the first
        turn of a chat reads nothing before it asks the model (P16)."""
        chat = chat or await self._store.chat(row.chat_id)
        return Question(
            model=self._models.resolve(row.model).model,
            system=system_prompt(self._system, None if chat is None else chat.system),
            tools=self._specs(row),
            params=Params() if row.request is None else row.request.params,
            before=tuple(await self._before(row, user)),
        )

    async def _before(self, row: TurnRow, user: StoredTurn | None) -> Sequence[StoredTurn]:
        if user is not None and user.row.prev_turn_id is None:
            return (user,)
        return () if row.prev_turn_id is None else await self._store.branch(row.prev_turn_id)

    def _specs(self, row: TurnRow) -> tuple[ToolSpec, ...]:
        """The server's tools in the registry's order, then the client's in the request's."""
        if row.request is None:
            return ()
        tools = (self._tools.get(name) for name in row.request.tools)
        client_tools = (
            ToolSpec(tool.name, tool.description, tool.input_schema or ANYTHING) for tool in row.request.client_tools
        )
        return (*(tool.spec for tool in tools if tool is not None), *client_tools)
