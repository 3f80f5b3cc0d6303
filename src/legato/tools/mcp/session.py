"""One connection to a server, over the official SDK: opened, listed, followed and closed in one task.

The only file that knows the SDK's ``Client``. It speaks both generations of the protocol: 2025-11-25 with its handshake
and sessions, and 2026-07-28 without.
"""

from __future__ import annotations

import contextvars
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import version
from typing import Final

import anyio
import mcp_types as types
import msgspec
from mcp.client import Client
from mcp.client._transport import Transport
from mcp.client.session import ClientRequestContext, IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, TypeAdapter, ValidationError

from legato.core.blocks import Json
from legato.core.context import ToolContext
from legato.core.cut import shorten
from legato.core.errors import ToolError
from legato.observability import warn_once
from legato.tools.mcp.asking import REQUESTS, ROUNDS, Wanted, question_of, reply_of, wanted_of
from legato.tools.mcp.failures import ConnectionDied, NotTaken, reason_of
from legato.tools.mcp.http import CUT, REFUSED, UNREACHABLE, http_client
from legato.tools.mcp.settings import Listed, McpServer
from legato.tools.mcp.stdio import Pipes
from legato.tools.mcp.text import text_alone

_log = logging.getLogger(__name__)

_PAGES = 100
"""Of a list of tools: one that never ends must not hold a connection."""
_LIST_AGAIN = 1.0
"""Seconds between two lists at least: a server that says so all the time is not asked all the time."""
_SHORTEST_TTL = 30.0
_SUBSCRIBE_AGAIN = 30.0
"""Seconds before a subscription that ended is made again."""
_STATE_ONLY_PAUSE = 0.25
"""Seconds before a call is sent again whose answer was a state and no question."""
_ERROR_TEXT = 16 * 1024
"""Bytes of an error's text."""
_KEY: Final = "legato/idempotency-key"
"""In the request's ``_meta``: a server that knows it can know a repeat."""
_GONE = {UNREACHABLE, CUT, types.CONNECTION_CLOSED}

_RESULT: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)


class _Call:
    """One that runs, and what its server asks of a person meanwhile: that ends with it."""

    def __init__(self, ctx: ToolContext) -> None:
        self.ctx = ctx
        self.asking: set[anyio.CancelScope] = set()


# Over HTTP a server's question comes on the stream of the call it belongs to, and the SDK answers it in the context of
# the task that made the call.
_running: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("legato_mcp_call", default=None)


class SdkSession:
    """Implements ``owner.Session``."""

    def __init__(self, server: McpServer) -> None:
        self.protocol: str | None = None
        self._server = server
        self._client: Client | None = None
        self._calls: dict[int, _Call] = {}
        self._numbers = 0
        self._pipes: Pipes | None = None
        self._news = anyio.Event()
        self._scope = anyio.CancelScope()
        self._stopping = False
        self._stale = False
        self._lost: str | None = None

    # from its opening to its end

    async def run(self, *, ready: Callable[[], None], listed: Callable[[Sequence[Listed]], None]) -> None:
        # The scope stands around everything, for what is entered inside it must be left inside it. Once the server is
        # ready it has no deadline any more.
        with self._scope as scope:
            scope.deadline = anyio.current_time() + self._server.connect_timeout
            try:
                async with AsyncExitStack() as stack:
                    client = await self._opened(stack)
                    ttl = await self._list(client, listed)
                    scope.deadline = math.inf
                    self._client, self.protocol = client, client.protocol_version
                    ready()
                    await self._follow(client, ttl, listed)
                    self._client = None
            except (MCPError, ValidationError, TimeoutError, ExceptionGroup) as error:
                raise ConnectionDied(self._account(error)) from error
            finally:
                self._client = None
        if scope.cancelled_caught and not self._stopping:
            raise ConnectionDied(self._no_answer())

    def stop(self) -> None:
        self._stopping = True
        self._tell()
        if self._client is None:
            self._scope.cancel()  # nobody waits for a server to open that is not wanted any more

    async def _opened(self, stack: AsyncExitStack) -> Client:
        server = self._server
        if server.url is None:
            self._pipes = Pipes(server, on_end=self._end)
            return await stack.enter_async_context(self._client_over(self._pipes))
        http = await stack.enter_async_context(http_client(server))
        over = streamable_http_client(server.url, http_client=http, max_sse_event_size=server.message_bytes)
        return await stack.enter_async_context(self._client_over(over))

    def _client_over(self, transport: Transport) -> Client:
        return Client(
            transport,
            mode="auto",
            cache=None,
            client_info=types.Implementation(name="legato", version=version("legato")),
            elicitation_callback=self._elicit,
            message_handler=self._hear,
        )

    async def _follow(self, client: Client, ttl: float, listed: Callable[[Sequence[Listed]], None]) -> None:
        """Until told to stop. Lists again when the server says so, when its list is too old, and when a call failed in
        a way that makes one doubt whether the server is there."""
        listed_at = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            if _announces(client) and client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                tasks.start_soon(self._subscribe, client)
            while not self._stopping:
                news = self._news
                if self._lost is not None:
                    raise ConnectionDied(self._lost)
                left = listed_at + (_LIST_AGAIN if self._stale else ttl) - anyio.current_time()
                if left > 0:
                    with anyio.move_on_after(left):
                        await news.wait()
                    continue
                self._stale = False
                ttl = await self._listed_again(client, ttl, listed)
                listed_at = anyio.current_time()
            tasks.cancel_scope.cancel()

    async def _listed_again(self, client: Client, ttl: float, listed: Callable[[Sequence[Listed]], None]) -> float:
        try:
            with anyio.fail_after(self._server.connect_timeout):
                return await self._list(client, listed)
        except (MCPError, ValidationError) as error:
            if isinstance(error, MCPError) and (error.code in _GONE or _forgotten(error)):
                raise
            # It is there, and its list is of no use: the one before stands.
            name = self._server.name
            message = f"mcp server {name}: its new list of tools cannot be read: {_said(error)}"
            warn_once(_log, f"mcp_list:{name}", message)
            return ttl

    async def _list(self, client: Client, listed: Callable[[Sequence[Listed]], None]) -> float:
        """Seconds that the list may be kept, by the server's word."""
        found: list[Listed] = []
        cursor: str | None = None
        ttl = math.inf
        offers = client.server_capabilities.tools is not None
        for _ in range(_PAGES if offers else 0):
            page = await client.list_tools(cursor=cursor)
            found.extend(_listed(tool) for tool in page.tools)
            if page.ttl_ms:
                ttl = min(ttl, max(page.ttl_ms / 1000, _SHORTEST_TTL))
            cursor = page.next_cursor
            if cursor is None:
                break
        listed(found)
        return ttl

    async def _subscribe(self, client: Client) -> None:
        """Since 2026-07-28 a change of the list is told to who asked for it."""
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    self._doubt()  # what changed before anybody listened is told to nobody
                    async for _ in changes:
                        self._doubt()
            except MCPError as error:
                _log.debug("mcp server %s takes no subscription: %s", self._server.name, error)
                return
            except SubscriptionLost:
                pass  # made again below; a server may end it whenever it likes
            await anyio.sleep(_SUBSCRIBE_AGAIN)

    # what comes from it unasked

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._doubt()

    def _end(self, why: str) -> None:
        self._lost = why
        self._tell()

    def _doubt(self) -> None:
        self._stale = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def _elicit(
        self,
        context: ClientRequestContext,  # noqa: ARG002 - the SDK gives it by name
        params: types.ElicitRequestParams,
    ) -> types.ElicitResult | types.ErrorData:
        """A question over the open connection (2025-11-25)."""
        call = _running.get() or self._only_call()
        if call is None:
            message = "several calls run, and this question does not say to which of them it belongs"
            warn_once(_log, f"mcp_question:{self._server.name}", f"mcp server {self._server.name}: {message}")
            return types.ErrorData(code=types.INVALID_REQUEST, message=message)
        with anyio.CancelScope() as scope:
            call.asking.add(scope)
            try:
                return await _asked(call.ctx, params)
            except (ToolError, ValidationError) as error:
                return types.ErrorData(code=types.INVALID_REQUEST, message=reason_of(error))
            finally:
                call.asking.discard(scope)
        return types.ElicitResult(action="cancel")

    def _only_call(self) -> _Call | None:
        """Over stdio a question does not say whose it is. A person of another turn must not be asked."""
        calls = list(self._calls.values())
        one_turn = len({call.ctx.turn_id for call in calls}) == 1
        return calls[-1] if one_turn else None

    # calls

    async def call(self, name: str, arguments: dict[str, Json], ctx: ToolContext, *, effect: str) -> Json:
        client = self._client
        if client is None or (self._pipes is not None and self._pipes.ended):
            raise NotTaken("the connection was closed")
        with self._in_flight(ctx):
            try:
                return _output(await self._answered(client, name, arguments, ctx))
            except MCPError as error:
                if self._pipes is not None and self._pipes.ended:
                    await self._pipes.exited()
                raise self._translated(error, effect) from error
            except ValidationError as error:
                raise ToolError(f"the MCP server {self._server.name} gave no valid result: {_said(error)}") from error

    @contextmanager
    def _in_flight(self, ctx: ToolContext) -> Iterator[None]:
        call = _Call(ctx)
        self._numbers += 1
        number = self._numbers
        self._calls[number] = call
        token = _running.set(call)
        try:
            yield
        finally:
            _running.reset(token)
            del self._calls[number]
            for scope in call.asking:
                scope.cancel()

    async def _answered(
        self, client: Client, name: str, arguments: dict[str, Json], ctx: ToolContext
    ) -> types.CallToolResult:
        """Raises ``InputNeeded`` where the server wants to know something first (2026-07-28)."""
        wanted = Wanted()
        if ctx.resumed is not None:
            wanted = wanted_of(ctx.resumed.state).answered(ctx.resumed.answer)
            if (need := wanted.need()) is not None:
                raise need
        while True:
            result = await self._sent_listed(client, name, arguments, ctx, wanted)
            if isinstance(result, types.CallToolResult):
                return result
            wanted = self._next(result, wanted.rounds + 1)
            if (need := wanted.need()) is not None:
                raise need
            await anyio.sleep(_STATE_ONLY_PAUSE)

    def _next(self, result: types.InputRequiredResult, rounds: int) -> Wanted:
        if rounds > ROUNDS:
            raise ToolError(f"the MCP server {self._server.name} wanted more {rounds} times, limit is {ROUNDS}")
        requests = {key: _dumped(one) for key, one in (result.input_requests or {}).items()}
        if len(requests) > REQUESTS:
            message = f"wants {len(requests)} things at once, limit is {REQUESTS}"
            raise ToolError(f"the MCP server {self._server.name} {message}")
        return Wanted(requests=requests, request_state=result.request_state, rounds=rounds)

    async def _sent_listed(
        self, client: Client, name: str, arguments: dict[str, Json], ctx: ToolContext, wanted: Wanted
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Arguments may have to be in headers too, which the list of tools says: a server that misses one has not run
        the call, and has to be listed again (2026-07-28)."""
        try:
            return await self._sent(client, name, arguments, ctx, wanted)
        except MCPError as error:
            if error.code != types.HEADER_MISMATCH:
                raise
        await client.list_tools()
        return await self._sent(client, name, arguments, ctx, wanted)

    async def _sent(
        self, client: Client, name: str, arguments: dict[str, Json], ctx: ToolContext, wanted: Wanted
    ) -> types.CallToolResult | types.InputRequiredResult:
        params: dict[str, Json] = {"name": name, "arguments": arguments, "_meta": {_KEY: ctx.idempotency_key}}
        if wanted.responses:
            params["inputResponses"] = wanted.responses
        if wanted.request_state is not None:
            params["requestState"] = wanted.request_state

        async def progress(progress: float, total: float | None, message: str | None) -> None:
            ctx.emit(_progress(progress, total, message))

        # Not ``call_tool``: that checks the result against the server's schema, whose patterns would run in our loop.
        request = types.CallToolRequest(params=types.CallToolRequestParams.model_validate(params))
        return await client.session.send_request(request, _RESULT, progress_callback=progress)

    # what went wrong, in words

    def _translated(self, error: MCPError, effect: str) -> Exception:
        if _forgotten(error):
            return NotTaken("it has forgotten the session")
        title = f"the MCP server {self._server.name}"
        if error.code in _GONE:
            self._doubt()
            if error.code == UNREACHABLE:
                return ToolError(f"{title} cannot be reached, the call was not sent: {error.message}")
            why = self._pipes.account() if self._pipes is not None else error.message
            after = "" if effect == "read" else "; it may have taken effect, check before repeating"
            return ToolError(f"the connection to {title} was lost while the call ran: {why}{after}")
        return ToolError(f"{title} answers: {shorten(_said(error), _ERROR_TEXT)}")

    def _account(self, error: BaseException) -> str:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, TimeoutError):
            return self._no_answer()
        if isinstance(error, MCPError):
            closed = error.code == types.CONNECTION_CLOSED
            if self._pipes is not None and closed:
                return self._lost or self._pipes.account()
            return error.message if error.code in {*_GONE, REFUSED} else f"it does not open: {error.message}"
        if isinstance(error, ValidationError):
            return f"what it says is not valid MCP: {_said(error)}"
        return reason_of(error)

    def _no_answer(self) -> str:
        waited = f"it did not answer within {self._server.connect_timeout:g} s"
        if self._pipes is not None and self._pipes.noise is not None:
            return f"{waited}, and wrote what is not MCP: {self._pipes.noise!r}; is it a server for stdio?"
        return f"{waited}; where it needs longer, raise connect_timeout"


async def _asked(ctx: ToolContext, params: types.ElicitRequestParams) -> types.ElicitResult:
    request = {"method": "elicitation/create", "params": params.model_dump(by_alias=True, mode="json")}
    question = question_of(request)
    answer = await ctx.ask(question.message, input_schema=question.input_schema)
    return types.ElicitResult.model_validate(reply_of(answer, question.input_schema))


def _output(result: types.CallToolResult) -> Json:
    """A result that is one text is that text; any other is an object with ``content`` and ``structuredContent``."""
    content: list[Json] = [_dumped(block) for block in result.content]
    output: dict[str, Json] = {"content": content}
    if result.structured_content is not None:
        output["structuredContent"] = result.structured_content
    if result.is_error:
        text = text_alone(output) or msgspec.json.encode(output).decode()
        raise ToolError(shorten(text, _ERROR_TEXT))
    if len(output) == 1 and len(content) == 1 and set(content[0]) == {"type", "text"}:
        return content[0]["text"]
    return output


def _dumped(model: BaseModel) -> dict[str, Json]:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def _listed(tool: types.Tool) -> Listed:
    hints = tool.annotations
    return Listed(
        name=tool.name,
        description=tool.description or tool.title or "",
        input_schema=tool.input_schema,
        read_only=hints is not None and hints.read_only_hint is True,
        idempotent=hints is not None and hints.idempotent_hint is True,
    )


def _announces(client: Client) -> bool:
    tools = client.server_capabilities.tools
    return tools is not None and tools.list_changed is True


def _forgotten(error: MCPError) -> bool:
    """The SDK's words for HTTP 404 within a session (2025-11-25)."""
    return error.code == types.INVALID_REQUEST and error.message == "Session terminated"


def _progress(done: float, total: float | None, message: str | None) -> str:
    counted = f"{done:g}" if total is None else f"{done:g} of {total:g}"
    return f"{message} ({counted})\n" if message else f"{counted}\n"


def _said(error: MCPError | ValidationError) -> str:
    if isinstance(error, MCPError):
        links = _links(error)
        return " ".join([error.message, *links])
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _links(error: MCPError) -> list[str]:
    """Pages that a person has to visit before the call can be made (2025-11-25)."""
    if error.code != types.URL_ELICITATION_REQUIRED:
        return []
    try:
        asked = types.ElicitationRequiredErrorData.model_validate(error.data)
    except ValidationError:
        return []
    return [f"{one.message}: {one.url}" for one in asked.elicitations]
