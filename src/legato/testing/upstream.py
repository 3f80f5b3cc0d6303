"""A model vendor on a local port: speaks Anthropic's Messages and OpenAI's chat completions over real HTTP.

```python
async with Upstream.open() as upstream:             # or `with Upstream.open() as upstream:`, on a thread of its own
    upstream.enqueue(Script([Say("I will look."), Gate("talking"), Call("get_weather", {"city": "Oslo"})]))
    ...                                             # a client asks upstream.base_url("anthropic")
    await upstream.reached("talking")               # wait_reached() where nothing can be awaited
    upstream.release("talking")
```
Answers are taken in order, each by the next request that keeps the vendor's rules; a request that breaks them is
refused in the vendor's words (``refused``) and takes none. An answer may be a function of the request. It calls no
tool and knows no time but the loop's: what a script says happens when it says, or when the test says.

``python -m legato.testing.upstream --port 9000 --script FILE | --recording FILE`` serves one on the command line.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeAlias, assert_never

import msgspec

from legato.core.blocks import Json
from legato.testing import anthropic_wire, openai_wire
from legato.testing.check import check_growth, check_request, signatures_in
from legato.testing.connection import Connection, Incoming
from legato.testing.marks import PATIENCE, Gates, Marks
from legato.testing.player import Player
from legato.testing.script import (
    AfterSeal,
    Answer,
    Call,
    ChatStyle,
    Cut,
    End,
    ErrorEvent,
    Failure,
    Figures,
    Gate,
    HangUp,
    Ping,
    Raw,
    Recording,
    Say,
    Script,
    Stall,
    Step,
    Think,
    Wait,
    Wire,
)
from legato.testing.script_file import parse
from legato.testing.timeline import Act, Frame, Pause, Sever, recorded, regrouped, severed

__all__ = [
    "AfterSeal",
    "Answer",
    "Answering",
    "Call",
    "ChatStyle",
    "Cut",
    "End",
    "ErrorEvent",
    "Failure",
    "Figures",
    "Gate",
    "HangUp",
    "Ping",
    "Raw",
    "Recording",
    "Request",
    "Say",
    "Script",
    "Stall",
    "Step",
    "Think",
    "Upstream",
    "VendorWire",
    "Wait",
    "Wire",
    "check_growth",
    "check_request",
    "main",
    "round_of",
]


class VendorWire(Protocol):
    """What a wire's module offers."""

    def render(self, script: Script, *, number: int, body: Json) -> Iterator[Act]: ...

    def whole(self, script: Script, *, number: int, body: Json) -> Json: ...

    def failure(self, failed: Failure, *, number: int) -> tuple[int, dict[str, str], bytes]: ...

    def headers_of(self, number: int) -> dict[str, str]: ...


PATHS: dict[str, Wire] = {"/v1/messages": "anthropic", "/v1/chat/completions": "openai_chat"}
WIRES: dict[Wire, VendorWire] = {"anthropic": anthropic_wire, "openai_chat": openai_wire}
EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was received: ``number`` counts from 1. ``body`` is None where ``raw`` is no JSON."""

    number: int
    wire: Wire
    path: str
    headers: dict[str, str]
    body: Json
    raw: bytes
    at: float
    """The loop's monotonic time, seconds."""


Answering: TypeAlias = Answer | Callable[[Request], Answer]


class Upstream:
    """Open it with ``async with`` in a running loop, or with ``with`` on a thread of its own; once."""

    def __init__(self, *, host: str, port: int, check: bool, default: Answering) -> None:
        self._host = host
        self._port = port
        self._check = check
        self._default = default
        self._answers: deque[Answering] = deque()
        self._marks = Marks()
        self._gates = Gates(self._marks)
        self._connections: set[Connection] = set()
        self._signatures: dict[str, str] = {}
        self._broken: list[Exception] = []
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._all_gone = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._leave = asyncio.Event()
        self.requests: list[Request] = []
        self.refused: list[str] = []

    @classmethod
    def open(
        cls,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        check: bool = True,
        default: Answering = Script([Say("Nothing was enqueued.")]),  # noqa: B008  (a frozen value)
    ) -> Upstream:
        """``port`` 0 is any free one. ``check=False`` answers requests that break the vendor's rules too. ``default``
        answers when the queue is empty."""
        return cls(host=host, port=port, check=check, default=default)

    # -- for the test

    @property
    def port(self) -> int:
        return self._port

    def base_url(self, wire: Wire) -> str:
        """As ``ANTHROPIC_BASE_URL`` and ``OPENAI_BASE_URL`` have it: without ``/v1``, and with."""
        root = f"http://{self._host}:{self._port}"
        return root if wire == "anthropic" else f"{root}/v1"

    def enqueue(self, *answers: Answering) -> None:
        self._answers.extend(answers)

    def release(self, gate: str) -> None:
        """Let go every stream that stands there, and those that come later."""
        self._running_loop().call_soon_threadsafe(self._gates.release, gate)

    async def reached(self, gate: str, *, times: int = 1, patience: float = PATIENCE) -> None:
        """Return once ``times`` streams have come to the gate. Raises ``TimeoutError`` after ``patience`` seconds."""
        await self._marks.wait(f"gate {gate}", times, patience)

    async def received(self, count: int, *, patience: float = PATIENCE) -> Request:
        """The ``count``-th request that kept the rules or was refused, once it has come."""
        await self._marks.wait("request", count, patience)
        return self.requests[count - 1]

    async def hung_up(self, number: int, *, patience: float = PATIENCE) -> None:
        """Return once the client has left request ``number`` before its answer was complete."""
        await self._marks.wait(f"hang-up {number}", 1, patience)

    async def answered(self, number: int, *, patience: float = PATIENCE) -> None:
        """Return once the last byte of the answer to request ``number`` was written, or the connection severed."""
        await self._marks.wait(f"answer {number}", 1, patience)

    def wait_reached(self, gate: str, *, times: int = 1, patience: float = PATIENCE) -> None:
        self._marks.wait_blocking(f"gate {gate}", times, patience)

    def wait_received(self, count: int, *, patience: float = PATIENCE) -> Request:
        self._marks.wait_blocking("request", count, patience)
        return self.requests[count - 1]

    def wait_hung_up(self, number: int, *, patience: float = PATIENCE) -> None:
        self._marks.wait_blocking(f"hang-up {number}", 1, patience)

    async def stop_listening(self) -> None:
        """Refuse connections from now on; those that stand go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def listen(self) -> None:
        """Take connections, on the same port as before."""
        loop = self._running_loop()
        self._server = await loop.create_server(lambda: Connection(self, loop), self._host, self._port, backlog=4096)
        self._port = self._server.sockets[0].getsockname()[1]

    # -- opening and closing

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises what an answer raised, if the test itself did not fail."""
        await self._close()
        self._complain(error)

    async def _close(self) -> None:
        await self.stop_listening()
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            await self._all_gone.wait()

    def _complain(self, error: BaseException | None) -> None:
        if self._broken and error is None:
            raise ExceptionGroup("an answer could not be given", self._broken)

    def __enter__(self) -> Self:
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(opened),), name="upstream", daemon=True)
        self._thread.start()
        opened.result(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running_loop().call_soon_threadsafe(self._leave.set)
        assert self._thread is not None
        self._thread.join(PATIENCE)
        self._complain(error)

    async def _serve(self, opened: Future[None]) -> None:
        try:
            await self.__aenter__()
        except OSError as error:  # the port is taken: whoever opens it is told
            opened.set_exception(error)
            return
        opened.set_result(None)
        await self._leave.wait()
        await self._close()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the upstream is not open: use `async with` or `with`")
        return self._loop

    # -- for its connections

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._all_gone.clear()

    def closed(self, connection: Connection, *, early: bool) -> None:
        self._connections.discard(connection)
        if early:
            self._marks.hit(f"hang-up {connection.number}")
        if not self._connections:
            self._all_gone.set()

    def player(self, acts: Iterator[Act], connection: Connection) -> Player:
        return Player(acts, connection, self._gates, self._running_loop())

    def arrived(self, incoming: Incoming, connection: Connection) -> None:
        path = incoming.path.partition("?")[0]
        wire = PATHS.get(path)
        if wire is None or incoming.method != "POST":
            self._fail(
                Failure("not_found", message=f"Not found: {incoming.method} {path}"), "openai_chat", 0, connection
            )
            return
        request = Request(
            number=len(self.requests) + 1,
            wire=wire,
            path=incoming.path,
            headers=dict(incoming.headers),
            body=_json(incoming.raw),
            raw=incoming.raw,
            at=self._running_loop().time(),
        )
        self.requests.append(request)
        refused = self._refusal(request, too_large=incoming.too_large)
        if refused is not None:
            self.refused.append(refused.message or refused.kind)
            self._fail(refused, wire, request.number, connection)
        else:
            self._answer(request, connection)
        self._marks.hit("request")

    def _answer(self, request: Request, connection: Connection) -> None:
        answer = self._answers.popleft() if self._answers else self._default
        try:
            self._play(answer(request) if callable(answer) else answer, request, connection)
        except Exception as error:  # noqa: BLE001  (a test's own function may raise anything; it is told at the end)
            self._broken.append(error)
            self._fail(Failure("server_error", message=repr(error)), request.wire, request.number, connection)

    def _refusal(self, request: Request, *, too_large: bool) -> Failure | None:
        """How the vendor refuses the request, if it does."""
        if too_large:
            return Failure("too_large")
        if not self._check:
            return None
        if request.wire == "anthropic":
            if not (request.headers.get("x-api-key") or request.headers.get("authorization")):
                return Failure("auth", message="x-api-key header is required")
            if "anthropic-version" not in request.headers:
                return Failure("invalid_request", message="anthropic-version: header is required")
        elif not request.headers.get("authorization", "").startswith("Bearer "):
            return Failure("auth", message="You didn't provide an API key.")
        said = check_request(request.wire, request.body, signatures=self._signatures)
        return None if said is None else Failure("invalid_request", message=said)

    def _play(self, answer: Answer, request: Request, connection: Connection) -> None:
        match answer:
            case Script():
                self._play_script(answer, request, connection)
            case Recording():
                self._signatures |= signatures_in(answer.bytes())
                acts = recorded(answer.bytes(), answer.pace)
                acts = regrouped(acts, frames=answer.frames_per_write, size=answer.bytes_per_write)
                self._stream(acts, request, connection)
            case Failure():
                self._fail(answer, request.wire, request.number, connection)
            case HangUp():
                acts = iter((Pause(answer.lag), Sever(answer.how, 0)))
                connection.answer(200, {}, self._told(acts, request.number), number=request.number, length=0)
            case _:
                assert_never(answer)

    def _play_script(self, script: Script, request: Request, connection: Connection) -> None:
        wire, number, body = WIRES[request.wire], request.number, request.body
        # All at once: what a wire has no words for is found out now, not in the middle.
        acts = severed(iter(list(wire.render(script, number=number, body=body))))
        if not body.get("stream"):
            said = msgspec.json.encode(wire.whole(script, number=number, body=body))
            acts = chain((act for act in acts if not isinstance(act, Frame)), (Frame(said),))
            headers = {"content-type": "application/json", **wire.headers_of(number)}
            connection.answer(200, headers, self._told(acts, number), number=number, length=len(said))
            return
        acts = regrouped(acts, frames=script.frames_per_write, size=script.bytes_per_write)
        self._stream(chain((Pause(script.lag), Frame(b""), Pause(script.quiet)), acts), request, connection)

    def _stream(self, acts: Iterator[Act], request: Request, connection: Connection) -> None:
        headers = {**EVENT_STREAM, **WIRES[request.wire].headers_of(request.number)}
        connection.answer(200, headers, self._told(acts, request.number), number=request.number, length=None)

    def _fail(self, failed: Failure, wire: Wire, number: int, connection: Connection) -> None:
        status, headers, body = WIRES[wire].failure(failed, number=number)
        acts = self._told(iter((Frame(body),)), number)
        connection.answer(status, headers, acts, number=number, length=len(body))

    def _told(self, acts: Iterator[Act], number: int) -> Iterator[Act]:
        """The acts; and whoever waits is told when the last was asked for."""
        for act in acts:
            if isinstance(act, Sever):
                self._marks.hit(f"answer {number}")
            yield act
        self._marks.hit(f"answer {number}")


def round_of(request: Request) -> int:
    """Which round of its turn a request asks for, from 0: the assistant's messages after the last say of a person."""
    rounds = 0
    for message in request.body["messages"]:
        content = message.get("content")
        answers = isinstance(content, list) and bool(content) and content[0].get("type") == "tool_result"
        if message["role"] == "assistant":
            rounds += 1
        elif message["role"] == "user" and not answers:
            rounds = 0
    return rounds


def _json(raw: bytes) -> Json:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve on a port until SIGINT or SIGTERM. Each turn plays the script's rounds from the first."""
    parser = argparse.ArgumentParser(prog="legato.testing.upstream", description="A model vendor on a local port.")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--no-check", action="store_true", help="answer requests that break the vendor's rules too")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--script", type=Path, help="one JSON step a line")
    what.add_argument("--recording", type=Path, help="the body of a response, sent as it is")
    asked = parser.parse_args(arguments)
    rounds: list[Answer] = [Recording(asked.recording)] if asked.recording else [*parse(asked.script.read_text())]

    def answer(request: Request) -> Answer:
        number = round_of(request)
        return rounds[number] if number < len(rounds) else Script([Say("done")])

    async def serve() -> None:
        stop = asyncio.Event()
        for one in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(one, stop.set)
        async with Upstream.open(port=asked.port, check=not asked.no_check, default=answer) as upstream:
            sys.stdout.write(f"upstream at {upstream.base_url('anthropic')}\n")
            sys.stdout.flush()
            await stop.wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
