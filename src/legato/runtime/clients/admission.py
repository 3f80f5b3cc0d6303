"""What a POST becomes: all of it is checked and settled before anything is stored or asked (docs/http.md)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from legato.core.ask import NamedTool, Params
from legato.core.blocks import Block
from legato.core.errors import InvalidRequest, NotFound
from legato.core.posts import OnBusy, PostTurn
from legato.core.records import Chat, ClientTool, Datum, Limits, NewTurns, StoredTurn, TurnRequest, TurnRow, TurnWrite
from legato.core.text import clean
from legato.ports import Clock, Models, Resolved, Store, Tools
from legato.runtime.chats import check_metadata
from legato.runtime.clients.posted import posted_blocks, title, user_write
from legato.runtime.clock import new_id

CLIENT_TOOLS = 128
"""As many as vendors take in one request."""
CLIENT_TOOLS_BYTES = 262_144
"""Of all of them as JSON: they are stored with the turn, and sent with each of its requests."""
_PLACES: Mapping[OnBusy, Literal["reject", "behind", "in_front"]] = {
    "reject": "reject",
    "queue": "behind",
    "steer": "reject",
    "interrupt": "in_front",
    "replace": "in_front",
}
"""Where the new turn stands among those of a busy chat."""
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_COMPARED = 100
"""Characters of a name that are compared with those of the tools: difflib counts each, a second for ten million."""


class AdmissionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The server's own bounds of one request; a request may ask for less, never for more."""

    rounds: int = 50
    seconds: float = 1800.0
    request_blocks: int = 100
    default_rounds: int = 10
    default_seconds: float = 600.0
    default_tools: tuple[str, ...] = ("*",)
    queued_turns: int = 20


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """A request that can be stored and run. ``chat`` is the chat as it will be."""

    new: NewTurns
    chat: Chat
    user: StoredTurn | None
    resolved: Resolved
    on_busy: OnBusy


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the turns hang: ``prev`` is the turn in front of the new ones, ``chat`` None for a new one."""

    chat: Chat | None
    chat_id: str
    prev: TurnRow | None


class _UserTurn(msgspec.Struct, frozen=True):
    """The user turn as it will be stored, its log, and the bytes beside it."""

    stored: StoredTurn
    write: TurnWrite
    data: tuple[Datum, ...]


class Admissions:
    def __init__(self, *, store: Store, models: Models, tools: Tools, clock: Clock, limits: AdmissionLimits) -> None:
        self._store = store
        self._models = models
        self._tools = tools
        self._clock = clock
        self._limits = limits

    async def admit(self, post: PostTurn, *, principal: str, fingerprint: str, owner: str) -> Admission:
        """Raises ``RequestError`` for what cannot be done; nothing is stored."""
        place = await self._place(post, principal)
        resolved = self._models.resolve(_model(post, place.chat))
        request = self._request(post)
        self.bounds(post.limits)
        now = self._clock.now()
        answers = place.prev is not None and place.prev.role == "user"
        user = None if answers else self._user_turn(post, place, now)
        said = await self._said(place.prev) if user is None else user.stored.blocks
        resolved.provider.admit(resolved.model, said)
        prev = place.prev if user is None else user.stored.row
        assert prev is not None
        assistant = TurnRow(
            id=post.turn_id if isinstance(post.turn_id, str) else new_id(),
            chat_id=place.chat_id,
            prev_turn_id=prev.id,
            role="assistant",
            status="running",
            created_at=now,
            depth=prev.depth + 1,
            model=resolved.name,
            provider=resolved.provider.name,
            request=request,
            fingerprint=fingerprint,
            metadata=post.metadata,
            owner=owner,
        )
        if prev.id == assistant.id:
            raise InvalidRequest.at("/user_turn_id", "is the same as turn_id")
        new_chat = None if place.chat is not None else self._new_chat(post, place.chat_id, principal, now)
        chat = place.chat or new_chat
        assert chat is not None
        return Admission(
            new=NewTurns(
                owner=principal,
                assistant=assistant,
                chat=new_chat,
                user=None if user is None else user.stored.row,
                user_write=None if user is None else user.write,
                user_data=() if user is None else user.data,
                on_busy=_PLACES[post.on_busy],
                queue_limit=self._limits.queued_turns,
            ),
            chat=replace(chat, head_turn_id=assistant.id, active_turn_id=assistant.id, updated_at=now),
            user=None if user is None else user.stored,
            resolved=resolved,
            on_busy=post.on_busy,
        )

    # Where it hangs

    async def _place(self, post: PostTurn, principal: str) -> _Place:
        chat = None
        if isinstance(post.chat_id, str):
            chat = await self._store.chat(post.chat_id)
            if chat is not None and chat.owner != principal:
                raise NotFound(f"there is no chat {post.chat_id}")
        prev = await self._prev(post, chat, principal)
        if prev is not None and chat is None:
            if isinstance(post.chat_id, str):
                raise InvalidRequest.at("/prev_turn_id", f"is of another chat than {post.chat_id}")
            chat = await self._store.chat(prev.chat_id)
        has_blocks = post.blocks is not UNSET or post.input is not UNSET
        if prev is not None and prev.role == "user":
            if has_blocks:
                raise InvalidRequest.at(
                    "/blocks",
                    f"must be left out, since {prev.id} is a user turn and is answered again; to edit it, "
                    "send the new blocks with that turn's own prev_turn_id",
                )
            if post.user_turn_id is not UNSET:
                raise InvalidRequest.at("/user_turn_id", "must be left out where no user turn is made")
        elif not has_blocks:
            raise InvalidRequest.at("/blocks", "is missing: say something in blocks or in input")
        if chat is not None:
            chat_id = chat.id
        else:
            chat_id = post.chat_id if isinstance(post.chat_id, str) else new_id()
        return _Place(chat=chat, chat_id=chat_id, prev=prev)

    async def _prev(self, post: PostTurn, chat: Chat | None, principal: str) -> TurnRow | None:
        wanted = post.prev_turn_id
        if isinstance(wanted, UnsetType):
            wanted = None if chat is None else await self._usual_prev(chat, post.on_busy)
        if wanted is None:
            return None
        prev = await self._store.turn(wanted)
        owner = chat if prev is None or chat is not None else await self._store.chat(prev.chat_id)
        if prev is None or owner is None or owner.owner != principal:
            raise InvalidRequest.at("/prev_turn_id", f"there is no turn {wanted}")
        if chat is not None and prev.chat_id != chat.id:
            raise InvalidRequest.at("/prev_turn_id", f"turn {wanted} is of another chat than {chat.id}")
        return prev

    async def _usual_prev(self, chat: Chat, on_busy: OnBusy) -> str | None:
        """Behind what is said last; of a turn that is stopped, behind it or in its place."""
        active = None if chat.active_turn_id is None else await self._store.turn(chat.active_turn_id)
        if active is None or on_busy not in ("interrupt", "replace"):
            return chat.head_turn_id
        if on_busy == "interrupt" or active.prev_turn_id is None:
            return active.id
        asked = await self._store.turn(active.prev_turn_id)
        return None if asked is None else asked.prev_turn_id

    async def _said(self, prev: TurnRow | None) -> Sequence[Block]:
        stored = None if prev is None else await self._store.load(prev.id)
        return () if stored is None else stored.blocks

    def _new_chat(self, post: PostTurn, chat_id: str, principal: str, now: str) -> Chat:
        return Chat(
            id=chat_id,
            owner=principal,
            title=title(post),
            system=None,
            model=post.model if isinstance(post.model, str) else None,
            metadata={},
            head_turn_id=None,
            active_turn_id=None,
            created_at=now,
            updated_at=now,
        )

    # What is said

    def _user_turn(self, post: PostTurn, place: _Place, now: str) -> _UserTurn:
        turn_id = post.user_turn_id if isinstance(post.user_turn_id, str) else new_id()
        blocks, data = posted_blocks(post, turn_id=turn_id, limit=self._limits.request_blocks)
        row = TurnRow(
            id=turn_id,
            chat_id=place.chat_id,
            prev_turn_id=None if place.prev is None else place.prev.id,
            role="user",
            status="complete",
            created_at=now,
            depth=1 if place.prev is None else place.prev.depth + 1,
            stop_reason="end",
            ended_at=now,
        )
        write = user_write(row, blocks)
        assert write.segment is not None
        row = replace(row, last_seq=write.segment.last_seq)
        return _UserTurn(StoredTurn(row=row, blocks=write.blocks), write, tuple(data))

    # What it is asked with

    def _request(self, post: PostTurn) -> TurnRequest:
        tools = self._tool_names(post)
        client_tools = self._client_tools(post)
        _check_params(post.params, (*tools, *(tool.name for tool in client_tools)))
        check_metadata(post.metadata)
        system = post.system if isinstance(post.system, str) else None
        return TurnRequest(
            params=post.params,
            system=None if system is None else clean(system),
            tools=tools,
            client_tools=client_tools,
            limits=post.limits,
        )

    def _tool_names(self, post: PostTurn) -> tuple[str, ...]:
        known = self._tools.names()
        if isinstance(post.tools, UnsetType):
            patterns = self._limits.default_tools
            return tuple(name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns))
        for place, name in enumerate(post.tools):
            if name not in known:
                near = difflib.get_close_matches(name[:_COMPARED], known, n=1)
                hint = f", did you mean {near[0]!r}?" if near else ""
                raise InvalidRequest.at(f"/tools/{place}", f"there is no tool {name!r}{hint}", code="unknown_tool")
            if name in post.tools[:place]:
                raise InvalidRequest.at(f"/tools/{place}", f"{name!r} is named twice")
        # The registry's order, not the request's: the list's order is part of what a prompt cache keys on.
        return tuple(name for name in known if name in post.tools)

    def _client_tools(self, post: PostTurn) -> tuple[ClientTool, ...]:
        tools = post.client_tools
        if len(tools) > CLIENT_TOOLS:
            message = f"has {len(tools)} tools, limit is {CLIENT_TOOLS}"
            raise InvalidRequest.at("/client_tools", message, limit=CLIENT_TOOLS, actual=len(tools))
        size = len(msgspec.json.encode(tools))
        if size > CLIENT_TOOLS_BYTES:
            message = f"has {size} bytes as JSON, limit is {CLIENT_TOOLS_BYTES}"
            raise InvalidRequest.at("/client_tools", message, limit=CLIENT_TOOLS_BYTES, actual=size)
        known = self._tools.names()
        for place, tool in enumerate(tools):
            path = f"/client_tools/{place}"
            if not _TOOL_NAME.fullmatch(tool.name):
                raise InvalidRequest.at(f"{path}/name", f"{tool.name!r} must be 1 to 64 of a-z, A-Z, 0-9, _ and -")
            if tool.name in known:
                raise InvalidRequest.at(f"{path}/name", f"{tool.name!r} is a tool of the server: choose another name")
            if any(tool.name == other.name for other in tools[:place]):
                raise InvalidRequest.at(f"{path}/name", f"{tool.name!r} is there twice")
            if tool.input_schema and tool.input_schema.get("type") != "object":
                raise InvalidRequest.at(
                    f"{path}/input_schema", 'must be JSON Schema of an object: {"type": "object", …}'
                )
        return tools

    def bounds(self, asked: Limits) -> tuple[int, float]:
        """The rounds and seconds of a turn. Raises ``InvalidRequest`` over the server's own."""
        limits = self._limits
        rounds = min(limits.default_rounds, limits.rounds)
        seconds = min(limits.default_seconds, limits.seconds)
        if isinstance(asked.rounds, int):
            rounds = int(_bounded("rounds", asked.rounds, limits.rounds))
        if isinstance(asked.seconds, int | float):
            seconds = _bounded("seconds", asked.seconds, limits.seconds)
        return rounds, seconds


def _bounded(name: str, asked: float, limit: float) -> float:
    if asked <= 0:
        raise InvalidRequest.at(f"/limits/{name}", f"is {asked}, must be more than 0")
    if asked > limit:
        shown = f"{asked:g}" if asked < 2**53 else str(asked)  # rounds may be a number over all floats
        message = f"is {shown}, limit of this server is {limit:g}"
        raise InvalidRequest.at(f"/limits/{name}", message, limit=int(limit), actual=int(asked))
    return asked


def _model(post: PostTurn, chat: Chat | None) -> str | None:
    if isinstance(post.model, str):
        return post.model
    return None if chat is None else chat.model


def _check_params(params: Params, tools: Sequence[str]) -> None:
    if isinstance(params.max_tokens, int) and params.max_tokens < 1:
        raise InvalidRequest.at("/params/max_tokens", f"is {params.max_tokens}, must be at least 1")
    thinking = params.thinking
    if not isinstance(thinking, UnsetType):
        if (thinking.effort is UNSET) == (thinking.budget_tokens is UNSET):
            raise InvalidRequest.at("/params/thinking", "needs either effort or budget_tokens")
        if isinstance(thinking.budget_tokens, int) and thinking.budget_tokens < 1:
            raise InvalidRequest.at("/params/thinking/budget_tokens", "must be at least 1")
    choice = params.tool_choice
    if isinstance(choice, NamedTool) and choice.name not in tools:
        raise InvalidRequest.at("/params/tool_choice/name", f"there is no tool {choice.name!r} in this turn")
    if choice == "required" and not tools:
        raise InvalidRequest.at("/params/tool_choice", "is required, and this turn has no tools")
