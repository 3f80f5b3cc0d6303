"""A served application on a real socket, with a service that waits where the real one waits."""

# ruff: noqa: ARG002 - the fake has the signatures of the real one

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import httpx

from legato.core.errors import Conflict, LegatoError, NotFound
from legato.core.events import BlockDelta, Event, TurnEnd, TurnStart, encode
from legato.core.inputs import CancelMode
from legato.core.posts import PatchChat, PostApproval, PostChat, PostToolResults, PostTurn
from legato.core.records import Datum
from legato.core.usage import UNKNOWN
from legato.core.views import (
    Cancelled,
    ChatPage,
    ChatView,
    ModelPage,
    ModelView,
    Started,
    Timeline,
    ToolPage,
    TreeNode,
    TreePage,
    TurnPage,
    TurnView,
)
from legato.http.app import App, HttpSettings, build_app
from legato.runtime.reading.kept_output import KeptOutput
from legato.runtime.service import LOCAL, TurnService
from legato.serve import Server, bind

NOW = "2026-11-01T12:00:00.000Z"
BOUND = 10.0
"""Seconds after which a test that waits has failed."""


def turn_view(turn_id: str, *, role: Literal["user", "assistant"] = "assistant") -> TurnView:
    return TurnView(
        id=turn_id,
        chat_id="c1",
        prev_turn_id=None,
        siblings=(turn_id,),
        role=role,
        status="running",
        model="script/demo",
        provider="script",
        request=None,
        last_seq=0,
        blocks=(),
        rounds=(),
        waiting_for=(),
        usage=UNKNOWN,
        stop_reason=None,
        error=None,
        metadata={},
        created_at=NOW,
        ended_at=None,
    )


def chat_view(chat_id: str) -> ChatView:
    return ChatView(
        id=chat_id,
        title="",
        system=None,
        model=None,
        metadata={},
        head_turn_id=None,
        active_turn_id=None,
        created_at=NOW,
        updated_at=NOW,
    )


class FakeTurn:
    """One turn's log, which a test writes and readers follow."""

    def __init__(self, turn_id: str) -> None:
        self.id = turn_id
        self.lines: list[bytes] = []
        self.ended = False
        self.let_go = False
        self.readers = 0
        self.cancelled = False
        self._changed = asyncio.Event()

    def say(self, *events: Event) -> None:
        self.lines += map(encode, events)
        self._wake()

    def start(self) -> None:
        self.say(TurnStart(seq=1, turn_id=self.id, chat_id="c1", prev_turn_id=None, created_at=NOW))

    def delta(self, text: str) -> None:
        self.say(BlockDelta(seq=len(self.lines) + 1, index=0, text=text))

    def big(self, seq: int) -> BlockDelta:
        return BlockDelta(seq=seq, index=0, text="x" * 100_000)

    def end(self) -> None:
        self.ended = True
        self.say(TurnEnd(seq=len(self.lines) + 1, status="complete", stop_reason="end", usage=UNKNOWN))

    def release(self) -> None:
        """As the service does when it drains."""
        self.let_go = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed(self) -> None:
        await self._changed.wait()

    def joined(self, *, by: int) -> None:
        self.readers += by
        self._wake()

    async def until_readers(self, count: int) -> None:
        with anyio.fail_after(BOUND):
            while self.readers != count:
                await self._changed.wait()


class FakeReader:
    """Counted from its first read to its end, or until it is cancelled."""

    def __init__(self, turn: FakeTurn, after: int, encode: Callable[[bytes], bytes]) -> None:
        self._turn = turn
        self._after = after
        self._encode = encode
        self._joined = False

    async def read(self) -> bytes | None:
        if not self._joined:
            self._joined = True
            self._turn.joined(by=1)
        try:
            while not self._turn.lines[self._after :]:
                if self._turn.ended or self._turn.let_go:
                    self._turn.joined(by=-1)
                    return None
                await self._turn.changed()
        except asyncio.CancelledError:
            self._turn.joined(by=-1)
            raise
        batch = self._turn.lines[self._after :]
        self._after += len(batch)
        return b"".join(map(self._encode, batch))

    async def push(self, write: Callable[[bytes], bool]) -> None:
        """Nothing is said while it would be listening."""


class FakeOutput(KeptOutput):
    """Pieces that are there, and then perhaps a store that is away."""

    def __init__(self, *pieces: bytes, cut: Exception | None = None) -> None:
        self.tool_name = 'l"o\nok'
        self.bytes = sum(map(len, pieces)) + (cut is not None)
        self._there = pieces
        self._cut = cut

    @property
    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._there:
            await asyncio.sleep(0)
            yield piece
        if self._cut is not None:
            raise self._cut


class FakeService(TurnService):
    """Turns are made by tests, or by a post; ``broken`` is raised instead of every answer."""

    def __init__(self) -> None:
        self.turns_by_id: dict[str, FakeTurn] = {}
        self.posts: dict[str, tuple[PostTurn, str]] = {}
        self.principals: set[str] = set()
        self.broken: Exception | None = None
        self.calls: list[tuple[str, object]] = []
        self.kept: KeptOutput = FakeOutput(b"one ", b"two")
        self.data = Datum(index=0, media_type="text/html", sha256="ab", data=b"<script>", name='a"b\n.html')

    def turn(self, turn_id: str = "t1") -> FakeTurn:
        return self.turns_by_id.setdefault(turn_id, FakeTurn(turn_id))

    async def _answer(self, name: str, asked: object = None) -> None:
        await asyncio.sleep(0)
        self.calls.append((name, asked))
        if self.broken is not None:
            raise self.broken

    def _known(self, turn_id: str) -> FakeTurn:
        if turn_id not in self.turns_by_id:
            raise NotFound(f"there is no turn {turn_id!r}")
        return self.turns_by_id[turn_id]

    async def post(self, post: PostTurn, *, principal: str, fingerprint: str) -> tuple[Started, bool]:
        self.principals.add(principal)
        await self._answer("post", post)
        turn_id = post.turn_id if isinstance(post.turn_id, str) else f"t{len(self.posts) + 100}"
        new = turn_id not in self.posts
        if not new and self.posts[turn_id][1] != fingerprint:
            raise Conflict(f"turn id {turn_id!r} was used for another request", code="turn_id_reused")
        self.posts[turn_id] = (post, fingerprint)
        self.turn(turn_id)
        started = Started(
            chat=chat_view("c1"),
            user_turn=turn_view("u1", role="user"),
            assistant_turn=turn_view(turn_id),
            events_url=f"/v1/turns/{turn_id}/events",
        )
        return started, new

    async def cancel(self, turn_id: str, *, mode: CancelMode = "now", principal: str = LOCAL) -> tuple[Cancelled, bool]:
        await self._answer("cancel", mode)
        turn = self._known(turn_id)
        turn.cancelled = True
        fields = {name: getattr(turn_view(turn_id), name) for name in turn_view(turn_id).__struct_fields__}
        return Cancelled(**fields, stored=True), turn.ended

    async def tool_results(self, turn_id: str, post: PostToolResults, *, principal: str = LOCAL) -> TurnView:
        self.principals.add(principal)
        await self._answer("tool_results", post)
        return turn_view(self._known(turn_id).id)

    async def approve(self, turn_id: str, post: PostApproval, *, principal: str = LOCAL) -> TurnView:
        self.principals.add(principal)
        await self._answer("approve", post)
        return turn_view(self._known(turn_id).id)

    async def output(self, turn_id: str, call_id: str, *, principal: str = LOCAL) -> KeptOutput:
        self.principals.add(principal)
        await self._answer("output", (turn_id, call_id))
        self._known(turn_id)
        return self.kept

    async def get(self, turn_id: str, *, principal: str = LOCAL) -> TurnView:
        await self._answer("get", turn_id)
        return turn_view(self._known(turn_id).id)

    def reader(  # type: ignore[override]  # a reader in what it does; the real one has its store besides
        self, turn_id: str, *, after: int, each: bool, encode: Callable[[bytes], bytes]
    ) -> FakeReader:
        self.calls.append(("reader", (after, each)))
        return FakeReader(self.turns_by_id[turn_id], after, encode)

    async def position(self, turn_id: str, *, after: int, principal: str = LOCAL) -> Literal["ended", "open"]:
        await self._answer("position", after)
        turn = self._known(turn_id)
        return "ended" if turn.ended and after >= len(turn.lines) else "open"

    async def model_view(self, turn_id: str, *, round: int | None = None, principal: str = LOCAL) -> ModelView:
        await self._answer("model_view", round)
        return ModelView(model="script/demo", system=None, tools=(), messages=(), results=())

    async def timeline(self, turn_id: str, *, principal: str = LOCAL) -> Timeline:
        await self._answer("timeline", turn_id)
        return Timeline(spans=(), overlap_ms=0.0)

    async def datum(self, turn_id: str, index: int, *, principal: str = LOCAL) -> Datum:
        await self._answer("datum", index)
        return self.data

    async def chats(self, *, principal: str = LOCAL, limit: int = 50, before: str | None = None) -> ChatPage:
        await self._answer("chats", (limit, before))
        return ChatPage(data=(chat_view("c1"),), next=None)

    async def create_chat(self, post: PostChat, *, principal: str = LOCAL) -> ChatView:
        await self._answer("create_chat", post)
        return chat_view("c2")

    async def chat(self, chat_id: str, *, principal: str = LOCAL) -> ChatView:
        await self._answer("chat", chat_id)
        return chat_view(chat_id)

    async def update_chat(self, chat_id: str, patch: PatchChat, *, principal: str = LOCAL) -> ChatView:
        await self._answer("update_chat", patch)
        return chat_view(chat_id)

    async def delete_chat(self, chat_id: str, *, principal: str = LOCAL) -> None:
        await self._answer("delete_chat", chat_id)

    async def turns(
        self,
        chat_id: str,
        *,
        branch: str | None = None,
        limit: int = 50,
        before: str | None = None,
        principal: str = LOCAL,
    ) -> TurnPage:
        await self._answer("turns", (branch, limit, before))
        return TurnPage(data=(), next=None)

    async def tree(self, chat_id: str, *, principal: str = LOCAL) -> TreePage:
        await self._answer("tree", chat_id)
        node = TreeNode(id="t1", prev_turn_id=None, role="assistant", status="running", created_at=NOW)
        return TreePage(data=(node,))

    def tools(self) -> ToolPage:
        return ToolPage(data=())

    def models(self) -> ModelPage:
        return ModelPage(data=(), first_id=None, last_id=None)

    async def ready(self) -> None:
        await self._answer("ready")


class Edge:
    """A server that listens, and the ways to talk to it."""

    def __init__(self, service: FakeService, app: App, server: Server, port: int) -> None:
        self.service = service
        self.app = app
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.drained = anyio.Event()
        self.may_end = anyio.Event()
        self.stopped = anyio.Event()
        self.opened: list[Raw] = []

    async def raw(self) -> Raw:
        raw = Raw(await anyio.connect_tcp("127.0.0.1", self.port))
        self.opened.append(raw)
        return raw

    async def ask(self, request: bytes) -> bytes:
        """Everything that is answered to raw bytes until the server closes."""
        raw = await self.raw()
        async with raw.stream:
            await raw.send(request)
            return await raw.rest()

    async def quiet(self) -> None:
        """Until no request is being answered."""
        tasks = self.server.server_state.tasks
        with anyio.fail_after(BOUND):
            while tasks:
                await asyncio.wait(tasks)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=BOUND, trust_env=False)


class Raw:
    """Bytes to and from the server."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self.got = b""

    async def send(self, request: bytes) -> None:
        await self.stream.send(request)

    async def until(self, end: bytes) -> bytes:
        """What came up to and with ``end``; what came after it waits for the next call."""
        with anyio.fail_after(BOUND):
            while end not in self.got:
                self.got += await self.stream.receive()
        found, self.got = self.got[: self.got.index(end) + len(end)], self.got[self.got.index(end) + len(end) :]
        return found

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        with anyio.fail_after(BOUND):
            try:
                while True:
                    self.got += await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return self.got


@asynccontextmanager
async def serving(settings: HttpSettings | None = None, service: FakeService | None = None) -> AsyncIterator[Edge]:
    """A server in this loop, ended in order when the block is left. Its drain waits for ``may_end``."""
    service = service or FakeService()
    app = build_app(service, settings=settings or HttpSettings())
    listening = anyio.Event()
    sockets: list[socket.socket] = bind("127.0.0.1", 0)

    async def drain() -> None:
        edge.drained.set()
        await edge.may_end.wait()

    async def serve() -> None:
        await server.serve(sockets)
        edge.stopped.set()

    server = Server(app, drain=drain, ready=listening.set)
    edge = Edge(service, app, server, sockets[0].getsockname()[1])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        with anyio.fail_after(BOUND):
            await listening.wait()
        try:
            yield edge
        finally:
            # Also when a test has failed: a server that is cancelled leaves its sockets to the loop.
            edge.may_end.set()
            server.stop()
            with anyio.move_on_after(BOUND, shield=True):
                for raw in edge.opened:
                    await raw.stream.aclose()
                await edge.stopped.wait()


def get(path: str, *headers: str, host: str = "localhost", method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(path: str, body: bytes, *headers: str) -> bytes:
    length = (
        ()
        if any(one.lower().startswith(("content-length", "transfer-")) for one in headers)
        else (f"Content-Length: {len(body)}",)
    )
    return get(path, "Content-Type: application/json", *length, *headers, method="POST") + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error_with(error: LegatoError) -> FakeService:
    service = FakeService()
    service.broken = error
    return service
