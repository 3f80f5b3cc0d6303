"""A server over HTTP: both generations of the protocol, and what may go wrong below them."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from anyio.abc import SocketStream
from tests.mcp.house import House, hosting, memory_grows_less_than, over_http, until

from legato.runtime.calls.toolbox import CancelFlag
from legato.tools.mcp.settings import McpServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

Json: TypeAlias = Any
TOOL = {"name": "say", "inputSchema": {"type": "object"}}
TOLD = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 0,
    "cacheScope": "public",
}


@pytest.mark.parametrize("old", [False, True])
async def test_a_tool_is_called_and_what_it_gives_is_kept_whole(tmp_path: Path, old: bool) -> None:
    async with over_http(tmp_path, old=old) as over, hosting(over.server()) as house:
        assert house.status("sdk").protocol == ("2025-11-25" if old else "2026-07-28")
        assert await house.output("sdk__echo", text="hello") == "hello"
        assert await house.output("sdk__key") == {
            "content": [{"type": "text", "text": "the key"}],
            "structuredContent": {"result": "the key"},
        }
        weather = await house.output("sdk__weather", city="Oslo")
        assert weather["structuredContent"] == {"city": "Oslo", "degrees": 19}
        assert json.loads(house.reading("sdk__weather", weather)) == {"city": "Oslo", "degrees": 19}
        picture = await house.output("sdk__picture")
        assert house.reading("sdk__picture", picture) == "a dot\n[image: image/png, 70 bytes]"
        assert picture["content"][1]["data"].startswith("iVBORw0KGgo")
        assert await house.error("sdk__broken") == "Error executing tool broken: the disk is full"
        await house.output("sdk__count", to=2)
        assert house.shown == ["at 1 (1 of 2)\n", "at 2 (2 of 2)\n"]


@pytest.mark.parametrize("old", [False, True])
async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(tmp_path: Path, old: bool) -> None:
    flag = CancelFlag()
    async with (
        over_http(tmp_path, old=old) as over,
        hosting(over.server()) as house,
        anyio.create_task_group() as tasks,
    ):

        async def cancel() -> None:
            await until(lambda: bool(house.shown))
            flag.cancel()

        tasks.start_soon(cancel)
        assert (await house.run("sdk__wait", flag=flag)).outcome == "cancelled"
        await until((tmp_path / "cancelled").exists)
        assert await house.output("sdk__echo", text="still there") == "still there"


@pytest.mark.parametrize("old", [False, True])
async def test_a_server_that_was_started_anew_takes_the_next_call(tmp_path: Path, old: bool) -> None:
    async with over_http(tmp_path, old=old) as over, hosting(over.server()) as house:
        over.kill()
        assert "cannot be reached, the call was not sent" in await house.error("sdk__echo", text="gone")
        over.start()
        await over.ready()
        await until(lambda: house.status("sdk").state == "ready")
        assert await house.output("sdk__echo", text="back") == "back"


async def test_a_session_that_was_forgotten_is_made_anew_and_the_call_sent_again(tmp_path: Path) -> None:
    async with over_http(tmp_path, old=True) as over, hosting(over.server()) as house:
        over.kill()
        over.start()
        await over.ready()
        assert await house.output("sdk__echo", text="back") == "back"


@pytest.mark.parametrize("old", [False, True])
async def test_a_redirect_within_the_server_is_followed_by_all_that_is_said(tmp_path: Path, old: bool) -> None:
    """Servers send on from one form of a path to the other, with a slash at the end and without."""
    flag = CancelFlag()
    async with over_http(tmp_path, old=old) as over:
        moved = over.server(url=f"http://127.0.0.1:{over.port}/mcp/")
        async with hosting(moved) as house, anyio.create_task_group() as tasks:
            assert house.status("sdk").problem is None
            assert await house.output("sdk__echo", text="hello") == "hello"
            tasks.start_soon(partial(house.run, "sdk__wait", flag=flag))
            await until(lambda: bool(house.shown))
            flag.cancel()
            await until((tmp_path / "cancelled").exists)


async def test_a_list_that_changes_is_followed_since_2026(tmp_path: Path) -> None:
    async with over_http(tmp_path) as over, hosting(over.server()) as house:
        before = house.registry.names()
        await house.output("sdk__grow")
        await until(lambda: house.registry.names() == (*before, "sdk__also_add"))


# A server of our own making, which answers each method with what it is told.

Said: TypeAlias = tuple[int, str, bytes]
Answers: TypeAlias = Callable[[Json], Said | None]


def said(message: Json, result: Json) -> Said:
    body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
    return 200, "content-type: application/json", body.encode()


class Odd:
    """HTTP by hand. ``call`` answers ``tools/call``; None hangs up. A call that says ``wait`` is answered once it is
    ``released``."""

    def __init__(self, call: Answers) -> None:
        self.call = call
        self.calls = 0
        self.port = 0
        self.waited = anyio.Event()
        self.released = anyio.Event()

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive()
            head, _, body = data.partition(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            while len(body) < length:
                body += await stream.receive()
            if b'"wait"' in body:
                self.waited.set()
                await self.released.wait()
            answer = self.answer(json.loads(body))
            if answer is None:
                return
            status, headers, content = answer
            size = f"content-length: {len(content)}\r\n" if "content-length" not in headers else ""
            top = f"HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}\r\n{size}\r\n"
            try:
                await stream.send(top.encode() + content)
                if "content-length" in headers:
                    while True:  # promised more than it has: as much as anybody takes
                        await stream.send(b"x" * 65536)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    def answer(self, message: Json) -> Said | None:
        match message["method"]:
            case "server/discover":
                return said(message, TOLD)
            case "tools/list":
                return said(message, {"tools": [TOOL], "resultType": "complete", "ttlMs": 0, "cacheScope": "public"})
            case _:
                self.calls += 1
                return self.call(message)


def good(message: Json) -> Said:
    return said(message, {"content": [{"type": "text", "text": "fine"}], "resultType": "complete"})


@asynccontextmanager
async def odd(call: Answers, **options: Any) -> AsyncIterator[tuple[Odd, House]]:
    server = Odd(call)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    server.port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        async with hosting(McpServer(name="odd", url=f"http://127.0.0.1:{server.port}/mcp", **options)) as house:
            yield server, house
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (401, "content-type: text/plain", b"no"),
            "it answers with HTTP 401; it asks who comes: give a token in headers",
        ),
        ((500, "content-type: application/json", b"{}"), "it answers with HTTP 500"),
        ((200, "content-type: text/html", b"<p>"), "it answers with text/html, which is not MCP: look at url"),
        ((200, "content-type: application/json", b"<p>"), "Failed to parse JSON response"),
        ((200, "content-type: application/json\r\ncontent-encoding: gzip", gzip.compress(b"{}")), "is compressed"),
        ((200, "content-type: text/event-stream", b"data: {}\n\n"), "Failed to parse SSE message"),
        ((200, "content-type: text/event-stream", b": nothing\n\n"), "the connection to the MCP server odd was lost"),
        ((307, "location: http://other.example/mcp", b""), "Redirect to http://other.example/mcp not followed"),
        (None, "the connection to the MCP server odd was lost while the call ran"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_of_its_call_only(answer: Said | None, message: str) -> None:
    async with odd(lambda _: answer) as (server, house):
        assert message in await house.error("odd__say")
        assert server.calls == 1  # what was sent is not sent again
        server.call = good
        assert await house.output("odd__say") == "fine"


async def test_one_call_that_breaks_off_touches_no_other_of_its_server() -> None:
    async with odd(lambda message: None if message["params"]["arguments"] == {} else good(message)) as (server, house):
        outputs: list[Json] = []

        async def sibling() -> None:
            outputs.append(await house.output("odd__say", wait=True))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sibling)
            await server.waited.wait()
            assert "was lost while the call ran" in await house.error("odd__say")
            server.released.set()
        assert outputs == ["fine"]
        assert house.status("odd").state == "ready"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_an_answer_without_end_takes_no_memory_and_fails_its_call_only(kind: str) -> None:
    endless = (200, f"content-type: {kind}\r\ncontent-length: 1073741824", b"data: ")
    async with odd(lambda _: endless, message_bytes=1024 * 1024) as (server, house):
        with memory_grows_less_than(32):
            assert "1048576" in await house.error("odd__say")
        server.call = good
        assert await house.output("odd__say") == "fine"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("http://127.0.0.1:9/mcp", "nobody answers at http://127.0.0.1:9/mcp: All connection attempts failed"),
        ("http://none.invalid/mcp", "nobody answers at http://none.invalid/mcp: "),
    ],
)
async def test_a_server_that_is_not_there_is_a_sentence_in_the_status(path: str, problem: str) -> None:
    async with hosting(McpServer(name="gone", url=path, connect_timeout=5.0)) as house:
        assert (house.status("gone").problem or "").startswith(problem)


async def test_a_wrong_path_is_a_sentence_in_the_status(tmp_path: Path) -> None:
    async with over_http(tmp_path) as over:
        wrong = over.server(url=f"http://127.0.0.1:{over.port}/wrong")
        async with hosting(wrong) as house:
            assert house.status("sdk").problem == (
                "it answers with HTTP 404; there is nothing at this path: look at url"
            )
