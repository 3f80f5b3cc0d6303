"""One response of the model, while it is read: its blocks get their index, their text, their end.

One object for each request; what came for an earlier one finds nobody.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from msgspec import UNSET, UnsetType

from legato.core import arguments
from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import CallError, Json, Origin, Outcome, ToolResultBlock
from legato.core.results import stop_partial
from legato.core.scribe import Scribe
from legato.core.text import clean
from legato.core.usage import UNKNOWN, Prices, Usage, of_a_death


class SealedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A ``tool_use`` of ours that is whole. ``ordinal`` is its place among those of its response, in the order in which
    they opened. ``problem`` says why its arguments are no object."""

    key: int
    ordinal: int
    call_id: str
    index: int
    tool_name: str
    origin: Origin
    input: dict[str, Json] | None
    problem: CallError | None


class _Block:
    __slots__ = ("argument_bytes", "call_id", "index", "is_call", "opened", "ordinal", "origin", "tool_name")

    def __init__(
        self, opened: i.BlockOpened, index: int, call_id: str, tool_name: str, origin: Origin, ordinal: int
    ) -> None:
        self.opened = opened
        self.ordinal = ordinal
        self.index = index
        self.call_id = call_id
        self.tool_name = tool_name
        self.origin = origin
        self.is_call = opened.block_type == "tool_use"
        self.argument_bytes = 0


class Response:
    """``provider_calls`` pairs the ids of a provider's own calls with ours; it outlives the response, since a result
    may come in the response after a pause. ``client_tools`` are the names of the tools that a client runs."""

    def __init__(
        self,
        scribe: Scribe,
        *,
        turn_id: str,
        round: int,
        attempt: int,
        argument_limit: int,
        provider_calls: dict[str, str],
        client_tools: Collection[str],
    ) -> None:
        self.round = round
        self.attempt = attempt
        self.usage: Usage = UNKNOWN
        self.asked: int | None = None
        """Bytes of the request, once it is sent."""
        self._scribe = scribe
        self._turn_id = turn_id
        self._argument_limit = argument_limit
        self._provider_calls = provider_calls
        self._client_tools = client_tools
        self._blocks: dict[int, _Block] = {}
        self._own_calls = 0
        self.last_index = -1
        """The highest index of its blocks; -1 while none has been said."""

    @property
    def began(self) -> bool:
        return self.last_index >= 0

    def used_at_death(self, prices: Prices) -> Usage:
        """What the vendor reported before it died is not the whole of it."""
        turn = self._scribe.turn
        said = sum(
            len(block.text.encode())
            for block in turn.blocks
            if block.round == self.round and not (isinstance(block, ToolResultBlock) and block.origin != "provider")
        )
        return of_a_death(self.usage, said=said, asked=self.asked, prices=prices)

    def open(self, opened: i.BlockOpened) -> None:
        scribe = self._scribe
        index = self.last_index = scribe.take_index()
        call_id = self._call_id(opened, index)
        tool_name = "" if isinstance(opened.tool_name, UnsetType) else clean(opened.tool_name)
        origin = "client" if opened.origin == "server" and tool_name in self._client_tools else opened.origin
        block = _Block(opened, index, call_id, tool_name, origin, self._own_calls)
        if block.is_call and origin != "provider":
            self._own_calls += 1
        if opened.key in self._blocks:
            self._stop_partial(self._blocks[opened.key])
        self._blocks[opened.key] = block
        of_call = opened.block_type in ("tool_use", "tool_result")
        scribe.say(
            e.BlockStart(
                seq=scribe.next_seq(),
                index=block.index,
                round=self.round,
                block_type=opened.block_type,
                call_id=call_id if of_call else UNSET,
                tool_name=tool_name if of_call else UNSET,
                origin=origin if of_call else UNSET,
            )
        )

    def grow(self, delta: i.Delta) -> None:
        block = self._blocks.get(delta.key)
        if block is None or block.index not in self._scribe.turn.open:
            return
        text = delta.text
        if not text.isascii() or "\0" in text:
            text = clean(text)
        if not text:
            return
        if block.is_call:
            block.argument_bytes += len(text) if text.isascii() else len(text.encode())
            if block.argument_bytes > self._argument_limit:
                return
        self._scribe.say_delta(block.index, text)

    def close(self, closed: i.BlockClosed) -> SealedCall | None:
        """The sealed call, if the block is one that is ours to run."""
        block = self._blocks.get(closed.key)
        if block is None or block.index not in self._scribe.turn.open:
            return None
        if block.is_call:
            return self._close_call(block, closed)
        self._close_other(block, closed)
        return None

    def close_partial(self) -> None:
        """What is still open stops as ``partial``."""
        for block in self._blocks.values():
            self._stop_partial(block)

    def _stop_partial(self, block: _Block) -> None:
        if block.index in self._scribe.turn.open:
            stop_partial(self._scribe, block.index)

    def _close_other(self, block: _Block, closed: i.BlockClosed) -> None:
        outcome: Outcome | UnsetType = UNSET
        if block.opened.block_type == "tool_result":
            outcome = "ok" if isinstance(closed.error, UnsetType) else "error"
        scribe = self._scribe
        length, sha256 = scribe.measured(block.index)
        scribe.say(
            e.BlockStop(
                seq=scribe.next_seq(),
                index=block.index,
                state="complete",
                length=length,
                sha256=sha256,
                citations=closed.citations,
                signature=closed.signature,
                redacted=closed.redacted,
                outcome=outcome,
                output=closed.output,
                error=closed.error,
                media_type=closed.media_type,
                url=closed.url,
                provider_data=closed.provider_data,
            )
        )

    def _close_call(self, block: _Block, closed: i.BlockClosed) -> SealedCall | None:
        scribe = self._scribe
        text = scribe.turn.open[block.index].text
        whole, problem = self._arguments(block, text)
        length, sha256 = scribe.measured(block.index)
        scribe.say(
            e.BlockStop(
                seq=scribe.next_seq(),
                index=block.index,
                state="complete",
                length=length,
                sha256=sha256,
                input=whole,
                provider_data=closed.provider_data,
            )
        )
        if block.origin == "provider":
            return None
        return SealedCall(
            key=closed.key,
            ordinal=block.ordinal,
            call_id=block.call_id,
            index=block.index,
            tool_name=block.tool_name,
            origin=block.origin,
            input=whole,
            problem=problem,
        )

    def _arguments(self, block: _Block, text: str) -> tuple[dict[str, Json] | None, CallError | None]:
        if block.argument_bytes > self._argument_limit:
            message = f"the arguments have {block.argument_bytes} bytes, limit is {self._argument_limit}"
            return None, CallError("arguments_too_large", message)
        whole = block.opened.input
        try:
            if text or isinstance(whole, UnsetType):
                return arguments.parse(text), None
            arguments.check_depth(whole)
            return whole, None
        except arguments.NotAnObject as error:
            return None, CallError("bad_json", str(error))

    def _call_id(self, opened: i.BlockOpened, index: int) -> str:
        known = self._provider_calls.get(opened.provider_call_id)
        if opened.block_type == "tool_result" and known is not None:
            return known
        ours = arguments.call_id(
            turn_id=self._turn_id, epoch=self._scribe.epoch, round=self.round, attempt=self.attempt, index=index
        )
        if opened.block_type == "tool_use" and opened.origin == "provider" and opened.provider_call_id:
            self._provider_calls[opened.provider_call_id] = ours
        return ours
