"""What the surfaces need of the turn service; ``runtime.service.TurnService`` is it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Literal, Protocol

from legato.core.posts import PatchChat, PostChat, PostTurn
from legato.core.records import Datum
from legato.core.views import (
    Cancelled,
    ChatPage,
    ChatView,
    ModelPage,
    ModelView,
    Started,
    Timeline,
    ToolPage,
    TreePage,
    TurnPage,
    TurnView,
)


class TurnService(Protocol):
    async def post(self, post: PostTurn, *, principal: str, fingerprint: str) -> tuple[Started, bool]: ...

    async def cancel(self, turn_id: str, *, mode: Literal["now"], principal: str) -> tuple[Cancelled, bool]: ...

    async def get(self, turn_id: str, *, principal: str) -> TurnView: ...

    def frames(
        self, turn_id: str, *, after: int, each: bool, encode: Callable[[bytes], bytes]
    ) -> AsyncGenerator[bytes, None]:
        """All that is pending, framed by ``encode`` and joined: at each wake-up one piece, shared by all readers."""

    async def position(self, turn_id: str, *, after: int, principal: str) -> Literal["ended", "open"]: ...

    async def model_view(self, turn_id: str, *, round: int | None, principal: str) -> ModelView: ...

    async def timeline(self, turn_id: str, *, principal: str) -> Timeline: ...

    async def datum(self, turn_id: str, index: int, *, principal: str) -> Datum: ...

    async def chats(self, *, principal: str, limit: int, before: str | None) -> ChatPage: ...

    async def create_chat(self, post: PostChat, *, principal: str) -> ChatView: ...

    async def chat(self, chat_id: str, *, principal: str) -> ChatView: ...

    async def update_chat(self, chat_id: str, patch: PatchChat, *, principal: str) -> ChatView: ...

    async def delete_chat(self, chat_id: str, *, principal: str) -> None: ...

    async def turns(
        self, chat_id: str, *, branch: str | None, limit: int, before: str | None, principal: str
    ) -> TurnPage: ...

    async def tree(self, chat_id: str, *, principal: str) -> TreePage: ...

    def tools(self) -> ToolPage: ...

    def models(self) -> ModelPage: ...

    async def ready(self) -> None: ...
