"""Chats and their branches, as clients see them. Every look-up is by principal: someone else's chat is not found."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from legato.core.blocks import Json
from legato.core.errors import Conflict, InvalidRequest, NotFound
from legato.core.posts import PatchChat, PostChat
from legato.core.records import Chat
from legato.core.text import clean
from legato.core.views import ChatPage, ChatView, TreeNode, TreePage
from legato.ports import CHAT_FIELDS, Clock, Models, Store
from legato.runtime.clock import new_id
from legato.runtime.reading.looking import status_of

METADATA_BYTES = 16_384
"""Of a chat's or a turn's metadata as JSON: labels for the client's own use, no place for content."""


class Chats:
    def __init__(self, *, store: Store, models: Models, clock: Clock) -> None:
        self._store = store
        self._models = models
        self._clock = clock

    async def own(self, chat_id: str, principal: str) -> Chat:
        chat = await self._store.chat(chat_id)
        if chat is None or chat.owner != principal:
            raise NotFound(f"there is no chat {chat_id}")
        return chat

    async def page(self, *, principal: str, limit: int, before: str | None) -> ChatPage:
        chats, following = await self._store.chats(principal, limit=limit, before=before)
        return ChatPage(data=tuple(map(chat_view, chats)), next=following)

    async def create(self, post: PostChat, *, principal: str) -> ChatView:
        if post.model is not None:
            self._models.resolve(post.model)
        check_metadata(post.metadata)
        now = self._clock.now()
        chat = Chat(
            id=new_id() if isinstance(post.id, UnsetType) else post.id,
            owner=principal,
            title=clean(post.title),
            system=None if post.system is None else clean(post.system),
            model=post.model,
            metadata=post.metadata,
            head_turn_id=None,
            active_turn_id=None,
            created_at=now,
            updated_at=now,
        )
        if not await self._store.create_chat(chat):
            raise Conflict(f"there is a chat {chat.id} already", code="chat_id_taken")
        return chat_view(chat)

    async def update(self, chat_id: str, patch: PatchChat, *, principal: str) -> ChatView:
        chat = await self.own(chat_id, principal)
        if isinstance(patch.model, str):
            self._models.resolve(patch.model)
        if not isinstance(patch.metadata, UnsetType):
            check_metadata(patch.metadata)
        if isinstance(patch.head_turn_id, str):
            head = await self._store.turn(patch.head_turn_id)
            if head is None or head.chat_id != chat_id:
                raise InvalidRequest.at("/head_turn_id", f"there is no turn {patch.head_turn_id} in this chat")
        changed = {name: value for name in CHAT_FIELDS if (value := getattr(patch, name)) is not UNSET}
        for name in ("title", "system"):
            if isinstance(changed.get(name), str):
                changed[name] = clean(changed[name])
        # Nothing else of it is written: a turn may have made another head meanwhile, or somebody given another title.
        chat = replace(chat, **changed, updated_at=self._clock.now())
        await self._store.update_chat(chat, fields=[name for name in CHAT_FIELDS if name in changed])
        return chat_view(await self.own(chat_id, principal))

    async def tree(self, chat_id: str, *, principal: str) -> TreePage:
        await self.own(chat_id, principal)
        rows = await self._store.tree(chat_id)
        return TreePage(
            data=tuple(
                [
                    TreeNode(
                        id=row.id,
                        prev_turn_id=row.prev_turn_id,
                        role=row.role,
                        status=await status_of(self._store, row),
                        created_at=row.created_at,
                    )
                    for row in rows
                ]
            )
        )


def check_metadata(metadata: dict[str, Json]) -> None:
    size = len(msgspec.json.encode(metadata))
    if size > METADATA_BYTES:
        message = f"has {size} bytes as JSON, limit is {METADATA_BYTES}"
        raise InvalidRequest.at("/metadata", message, limit=METADATA_BYTES, actual=size)


def chat_view(chat: Chat) -> ChatView:
    shown = {name: getattr(chat, name) for name in ChatView.__struct_fields__}
    return ChatView(**shown)
