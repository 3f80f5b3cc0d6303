"""The whole server in this loop, on a real socket and a SQLite file, with an upstream in place of the vendors.

``playing`` opens both; ``serving`` the server alone. ``frames_of`` and ``standing`` cut a response at any frame.
Whatever is read through ``client`` and ``events`` is held to the server's own OpenAPI (documented.py).
"""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
from msgspec.structs import replace
from tests.e2e.documented import Document
from tests.patience import BOUND

from legato import compose
from legato.config import Config, load
from legato.core import events as e
from legato.core.fold import Turn, fold
from legato.ports import Clock, Store
from legato.runtime.calls.toolbox import GRACE
from legato.runtime.service import TurnService
from legato.runtime.storing.journal import JournalSettings
from legato.serve import Server, bind
from legato.testing.clock import JumpingClock
from legato.testing.process import ServerProcess
from legato.testing.script import Wire
from legato.testing.timeline import Frame, recorded
from legato.testing.upstream import WIRES, Gate, Raw, Script, Upstream
from legato.tools.read_result import read_result

MODELS: dict[Wire, str] = {"anthropic": "anthropic/claude-sonnet-4-5", "openai_chat": "openai/gpt-5"}
"""A model on each wire; the upstream plays both."""

Json = Any


class Visitor:
    """Speaks to a server as anybody would."""

    def __init__(self, client: httpx.AsyncClient, port: int) -> None:
        self.client = client
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.document = Document({"paths": {}})
        self._deltas = 0

    async def read_document(self) -> None:
        """From now on every answer and event is held to it."""
        self.document = document = Document((await self.client.get("/v1/openapi.json")).json())

        async def check(answer: httpx.Response) -> None:
            kind = answer.headers.get("content-type", "")
            if answer.request.method != "HEAD" and not kind.startswith("text/event-stream"):
                body = await answer.aread()
                asked = answer.request
                wrong = document.complaints(asked.method, asked.url.path, answer.status_code, kind, body)
                assert wrong == []

        self.client.event_hooks["response"].append(check)

    async def post(self, said: str | None = None, **fields: Json) -> Json:
        """The answer's JSON to a turn that was accepted."""
        body = fields if said is None else {"input": said, **fields}
        answer = await self.client.post("/v1/turns", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def ask(self, said: str | None = None, **fields: Json) -> str:
        """Post a turn that is accepted; the assistant turn's id."""
        turn_id: str = (await self.post(said, **fields))["assistant_turn"]["id"]
        return turn_id

    async def cancel(self, turn_id: str, *, status: int = 202) -> Json:
        answer = await self.client.post(f"/v1/turns/{turn_id}/cancel")
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str) -> Json:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def turn(self, turn_id: str) -> Json:
        return await self.get(f"/v1/turns/{turn_id}")

    async def events(self, turn_id: str, *, after: int = 0, each: bool = False) -> AsyncGenerator[e.Event, None]:
        """One reader, until the stream is closed."""
        async with aclosing(self.frames(turn_id, after=after, each=each)) as frames:
            async for data in frames:
                yield e.decode(data)

    async def frames(self, turn_id: str, *, after: int = 0, each: bool = False) -> AsyncGenerator[bytes, None]:
        """The ``data`` of each frame as it came."""
        query = f"?after={after}" + ("&deltas=each" if each else "")
        async with self.client.stream("GET", f"/v1/turns/{turn_id}/events{query}") as answer:
            if answer.status_code == 204:
                return
            assert answer.status_code == 200
            buffer = b""
            async for piece in answer.aiter_raw():
                *frames, buffer = (buffer + piece).split(b"\n\n")
                for frame in frames:
                    for line in frame.splitlines():
                        if line.startswith(b"data: "):
                            self._check(line[6:])
                            yield line[6:]

    def _check(self, data: bytes) -> None:
        """Held to the schema, its deltas only as often as it takes to see that they are all alike."""
        self._deltas += data.startswith(b'{"type":"block_delta"')
        if self._deltas < 50 or not data.startswith(b'{"type":"block_delta"'):
            assert self.document.of_event(data) == []

    async def followed(self, turn_id: str, *, after: int = 0, each: bool = False) -> list[e.Event]:
        """Everything from ``after`` on, until ``turn_end``."""
        with anyio.fail_after(BOUND):
            said = [event async for event in self.events(turn_id, after=after, each=each)]
        assert isinstance(said[-1], e.TurnEnd)
        return said

    async def folded(self, turn_id: str) -> Turn:
        return fold(await self.followed(turn_id))

    async def until(self, turn_id: str, true: Callable[[e.Event], bool]) -> e.Event:
        """The first event of the turn that ``true`` is true of."""
        with anyio.fail_after(BOUND):
            async with aclosing(self.events(turn_id, each=True)) as said:
                async for event in said:
                    if true(event):
                        return event
        raise AssertionError("the turn ended before that")


class House(Visitor):
    """A server in this process, and what is inside it."""

    def __init__(self, service: TurnService, server: Server, client: httpx.AsyncClient, port: int) -> None:
        super().__init__(client, port)
        self.service = service
        self.server = server


class Child(Visitor):
    """A server in a process of its own, which can be killed."""

    def __init__(self, process: ServerProcess, client: httpx.AsyncClient, port: int) -> None:
        super().__init__(client, port)
        self.process = process

    async def ended(self) -> int:
        """The exit code, once there is one; negative for a signal."""
        return await self.process.ended()

    async def kill(self) -> None:
        await self.process.kill()

    def signal(self, number: signal.Signals) -> None:
        self.process.send(number)


@asynccontextmanager
async def spawned(
    folder: Path,
    *args: str,
    tools: str = "",
    environ: Mapping[str, str] | None = None,
    clock: JumpingClock | None = None,
) -> AsyncIterator[Child]:
    """``legato serve`` on the database that ``configured`` names. ``tools`` is the source of a file of tools. Killed at
    the end if it still runs."""
    if tools:
        (folder / "mine.py").write_text(tools)
        args = ("mine.py", *args)
    async with (
        ServerProcess(folder, *args, environ=environ, clock=clock, patience=BOUND) as process,
        httpx.AsyncClient(base_url=process.url, timeout=BOUND, trust_env=False) as client,
    ):
        child = Child(process, client, int(process.url.rpartition(":")[2]))
        await child.read_document()
        yield child


def configured(
    folder: Path, *, environ: Mapping[str, str] | None = None, toml: str | None = None, **flags: Json
) -> Config:
    """``flags`` by key with ``__`` for the dot: ``storage__flush_interval=0.01``."""
    file = None
    if toml is not None:
        file = folder / "legato.toml"
        file.write_text(toml)
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    return load(flags={"server.db": str(folder / "legato.db"), **dotted}, environ=environ or {}, file=file)


def upstream_environ(upstream: Upstream) -> dict[str, str]:
    """The vendors' own variables, pointed at the upstream: ``anthropic/…`` and ``openai/…`` are played by it."""
    return {
        "ANTHROPIC_API_KEY": "a-key",
        "ANTHROPIC_BASE_URL": upstream.base_url("anthropic"),
        "OPENAI_API_KEY": "another-key",
        "OPENAI_BASE_URL": upstream.base_url("openai_chat"),
    }


@asynccontextmanager
async def open_service(
    config: Config,
    *,
    tools: tuple[Callable[..., object], ...] = (),
    around: Callable[[Store], Store] = lambda store: store,
    grace: float = GRACE,
    retry_window: float = JournalSettings().retry_window,
    clock: Clock | None = None,
) -> AsyncIterator[TurnService]:
    """As ``compose.open_service``, with something ``around`` the store, another ``grace`` for tools told to stop, and
    another ``retry_window`` for what the store does not take."""
    settings = compose._service_settings(config)
    journal = replace(settings.journal, retry_window=retry_window)
    registry = compose.tool_registry(config, tools)
    directory = compose.model_directory(config)
    async with compose.open_store(config, clock=clock) as store:
        if len(registry):
            registry.add(read_result(store))
        toolbox = compose.toolbox_of(config, registry, store, grace=grace)
        try:
            async with TurnService(
                store=around(store),
                models=directory,
                tools=registry,
                formatters=registry.formatters,
                toolbox=toolbox,
                settings=replace(settings, journal=journal),
                spool=compose.spool_of(config),
                clock=clock,
            ) as service:
                yield service
        finally:
            toolbox.close()
            await directory.close()


@asynccontextmanager
async def serving(
    config: Config,
    *,
    tools: tuple[Callable[..., object], ...] = (),
    around: Callable[[Store], Store] = lambda store: store,
    grace: float = GRACE,
    retry_window: float = JournalSettings().retry_window,
    clock: Clock | None = None,
) -> AsyncIterator[House]:
    """Open until the block is left; then it drains without waiting for turns."""
    sockets = bind("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    listening, stopped = anyio.Event(), anyio.Event()
    async with open_service(
        config, tools=tools, around=around, grace=grace, retry_window=retry_window, clock=clock
    ) as service:

        async def drain() -> None:
            await service.drain(0)

        server = Server(compose.serving_app(config, service), drain=drain, ready=listening.set)

        async def serve() -> None:
            await server.serve(sockets)
            stopped.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            with anyio.fail_after(BOUND):
                await listening.wait()
            try:
                async with httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", timeout=BOUND, trust_env=False
                ) as client:
                    house = House(service, server, client, port)
                    await house.read_document()
                    yield house
            finally:
                server.stop()
                with anyio.move_on_after(BOUND, shield=True):
                    await stopped.wait()


@contextmanager
def hasty(house: House, *, retry_window: float = 0.3, persist_timeout: float = 5.0) -> Iterator[None]:
    """Its journal gives up soon, while a fault lasts. Set from the start it would be a race: on a busy machine the turn
    itself takes as long to be stored."""
    journal = house.service._journal
    before = journal._settings
    journal._settings = replace(before, retry_window=retry_window, persist_timeout=persist_timeout)
    try:
        yield
    finally:
        journal._settings = before


class Stage(NamedTuple):
    house: House
    upstream: Upstream


@asynccontextmanager
async def playing(
    folder: Path,
    *,
    tools: tuple[Callable[..., object], ...] = (),
    around: Callable[[Store], Store] = lambda store: store,
    grace: float = GRACE,
    retry_window: float = JournalSettings().retry_window,
    clock: Clock | None = None,
    **flags: Json,
) -> AsyncIterator[Stage]:
    """A server whose vendors are an upstream, calls sealed by their object on both wires."""
    async with Upstream.open() as upstream:
        config = configured(
            folder, environ=upstream_environ(upstream), **{"providers__openai__seal": "object", **flags}
        )
        async with serving(
            config, tools=tools, around=around, grace=grace, retry_window=retry_window, clock=clock
        ) as house:
            yield Stage(house, upstream)


def body_of(wire: Wire, script: Script) -> bytes:
    """The bytes of a response, gates and waits left out."""
    acts = WIRES[wire].render(script, number=1, body={"model": "some-model"})
    return b"".join(act.data for act in acts if isinstance(act, Frame))


def frames_of(body: bytes) -> list[bytes]:
    return [act.data for act in recorded(body, pace=0) if isinstance(act, Frame)]


def standing(wire: Wire, frames: list[bytes], gate: str) -> Script:
    """A response that says these frames, which follow its first, and then stands at the gate."""
    said = b"".join(frames)
    raw = Raw(anthropic=said) if wire == "anthropic" else Raw(openai_chat=said)
    return Script([raw, Gate(gate)])


def tool_results(call_id: str, text: str) -> Json:
    return {"type": "tool_result", "tool_use_id": call_id, "content": text}


def results_in(body: Json) -> dict[str, str]:
    """The results a request sends, as text by the vendor's call id, in their order, on both wires."""
    found: dict[str, str] = {}
    for message in body["messages"]:
        if message["role"] == "tool":
            found[message["tool_call_id"]] = _text(message["content"])
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part.get("type") == "tool_result":
                found[part["tool_use_id"]] = _text(part.get("content", ""))
    return found


def _text(content: Json) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def unpaired(body: Json) -> list[str]:
    """What is wrong with a request's calls and results, by an independent reading of both wires."""
    wrong: list[str] = []
    asked: list[str] = []
    for message in body["messages"]:
        content = message["content"] if isinstance(message.get("content"), list) else []
        answers = [part["tool_use_id"] for part in content if part.get("type") == "tool_result"]
        if message["role"] == "tool":
            answers = [message["tool_call_id"]]
        for answer in answers:
            if answer in asked:
                asked.remove(answer)
            else:
                wrong.append(f"{answer} answers nothing")
        if asked and not answers:
            wrong.append(f"{asked} have no result")
            asked = []
        asked += [part["id"] for part in content if part.get("type") == "tool_use"]
        asked += [call["id"] for call in message.get("tool_calls") or ()]
    return [*wrong, *(f"{one} has no result" for one in asked)]


def script(*steps: Mapping[str, Json]) -> str:
    """A user turn that is itself the script (docs/testing.md)."""
    return "```script\n" + "\n".join(json.dumps(step) for step in steps) + "\n```"
