"""A server as people make them, with the official SDK: ``stdio``, or ``http PORT_FILE``.

With ``--old`` it speaks 2025-11-25 and knows nothing of what came later (over HTTP).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    ImageContent,
    InputRequiredResult,
    TextContent,
    ToolAnnotations,
)
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
server = MCPServer("made-with-sdk")


class Size(BaseModel):
    size: int


class Weather(BaseModel):
    city: str
    degrees: int


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def weather(city: str) -> Weather:
    """The weather."""
    return Weather(city=city, degrees=19)


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def echo(text: str) -> list[TextContent]:
    """Say it again."""
    return [TextContent(text=text)]


@server.tool()
def picture() -> CallToolResult:
    """An image with a caption."""
    return CallToolResult(content=[TextContent(text="a dot"), ImageContent(data=PNG, mime_type="image/png")])


@server.tool()
def huge(mebibytes: int) -> list[TextContent]:
    """Much text."""
    return [TextContent(text="x" * (mebibytes * 1024 * 1024))]


@server.tool()
def broken() -> str:
    """Always fails."""
    raise ToolError("the disk is full")


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Count, and say so."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"at {number}")
    return "done"


@server.tool()
async def wait(ctx: Context) -> str:
    """Say that it has begun, and wait for ever; a file tells how it ended."""
    await ctx.report_progress(0, None, "begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        Path(os.environ["MCP_TEST_FOLDER"], "cancelled").touch()  # noqa: ASYNC240 - it ends here
        raise
    return "never"


@server.tool()
async def key(ctx: Context) -> str:
    """The idempotency key it was called with."""
    meta = ctx.request_context.meta or {}
    return str(meta.get("legato/idempotency-key"))


@server.tool()
async def grow(ctx: Context) -> str:
    """Offer one tool more."""
    server.add_tool(add, name="also_add", description="Added later.")
    await ctx.notify_tools_changed()
    return "grown"


@server.tool()
async def die() -> str:
    """End the process."""
    os._exit(3)


@server.tool()
async def order(pizza: str, ctx: Context) -> str | InputRequiredResult:
    """Asks for a size, and then for a yes."""
    if ctx.protocol_version == "2025-11-25":
        asked = await ctx.elicit("What size?", Size)
        return f"accept {asked.data.size}" if asked.action == "accept" else asked.action
    answers = ctx.input_responses
    if answers is None:
        return InputRequiredResult(
            input_requests={"size": _ask("What size?", {"size": {"type": "integer"}}), "sure": _ask("Sure?", {})},
            request_state=json.dumps({"pizza": pizza}),
        )
    said = {name: one for name, one in answers.items() if isinstance(one, ElicitResult)}
    return f"{ctx.request_state} {said['size'].action} {said['size'].content} {said['sure'].action}"


def _ask(message: str, properties: dict[str, Any]) -> ElicitRequest:
    schema = {"type": "object", "properties": properties}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


class Old:
    """The server as one who never heard of ``server/discover``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        if scope["type"] == "http" and scope["method"] == "POST":
            more = True
            while more:
                part = await receive()
                body += part.get("body", b"")
                more = part.get("more_body", False)
            if b'"server/discover"' in body:
                said = {"jsonrpc": "2.0", "id": json.loads(body)["id"], "error": {"code": -32601, "message": "no"}}
                await send(
                    {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
                )
                await send({"type": "http.response.body", "body": json.dumps(said).encode()})
                return
        given = False

        async def again() -> Message:
            nonlocal given
            if given or scope["type"] != "http" or scope["method"] != "POST":
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


def main() -> None:
    if sys.argv[1] == "stdio":
        server.run("stdio")
        return
    app: ASGIApp = server.streamable_http_app()
    if "--old" in sys.argv:
        app = Old(app)
    listening = socket.create_server(("127.0.0.1", int(os.environ.get("MCP_TEST_PORT", "0"))))
    port = listening.getsockname()[1]
    told = Path(sys.argv[2])
    told.with_suffix(".part").write_text(str(port))
    told.with_suffix(".part").rename(told)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main()
