"""What a decoder said, put together: the blocks of a response, and the messages that history makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import UNSET

from legato.core.ask import (
    Message,
    SentBlock,
    SentOpaque,
    SentText,
    SentThinking,
    SentToolResult,
    SentToolUse,
)
from legato.core.blocks import Json
from legato.core.inputs import (
    BlockClosed,
    BlockOpened,
    CallPoisoned,
    Delta,
    ProviderInput,
    ResponseEnded,
    ResponseFailed,
    UsageReported,
)
from legato.core.usage import Usage

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"


class Block:
    def __init__(self, opened: BlockOpened) -> None:
        self.opened = opened
        self.text = ""
        self.closed: BlockClosed | None = None
        self.poisoned: str | None = None

    @property
    def kind(self) -> str:
        return self.opened.block_type

    def kept(self, wire: str) -> dict[str, Json]:
        assert self.closed is not None
        return {} if self.closed.provider_data is UNSET else self.closed.provider_data[wire]


class Heard:
    """Fails on what a decoder may never say: a delta outside of a block, or anything after the end."""

    def __init__(self, inputs: Iterable[ProviderInput]) -> None:
        self.blocks: list[Block] = []
        self.usage: Usage | None = None
        self.last: ResponseEnded | ResponseFailed | None = None
        by_key: dict[int, Block] = {}
        for said in inputs:
            assert self.last is None, f"{said} after the end"
            match said:
                case BlockOpened(key=key):
                    assert key not in by_key
                    by_key[key] = Block(said)
                    self.blocks.append(by_key[key])
                case Delta(key=key, text=text):
                    assert text
                    assert by_key[key].closed is None
                    by_key[key].text += text
                case BlockClosed(key=key):
                    assert by_key[key].closed is None
                    by_key[key].closed = said
                case CallPoisoned(key=key, message=message):
                    assert by_key[key].closed is not None
                    by_key[key].poisoned = message
                case UsageReported(usage=usage):
                    self.usage = usage
                case ResponseEnded() | ResponseFailed():
                    self.last = said

    def of(self, kind: str) -> list[Block]:
        return [block for block in self.blocks if block.kind == kind]

    def text_of(self, kind: str) -> str:
        return "".join(block.text for block in self.of(kind))

    @property
    def ended(self) -> ResponseEnded:
        assert isinstance(self.last, ResponseEnded), self.last
        return self.last

    @property
    def failed(self) -> ResponseFailed:
        assert isinstance(self.last, ResponseFailed), self.last
        return self.last


def said_before(heard: Heard, *, answers: str = "fine") -> Sequence[Message]:
    """The assistant's message of a response, and the user's with the results of its calls."""
    said: list[SentBlock] = []
    results: list[SentBlock] = []
    ours: dict[str, str] = {}
    for number, block in enumerate(heard.blocks):
        assert block.closed is not None
        data = block.closed.provider_data
        name = "" if block.opened.tool_name is UNSET else block.opened.tool_name
        match block.kind:
            case "text":
                said.append(SentText(text=block.text, provider_data=data))
            case "thinking" if data is not UNSET:
                said.append(
                    SentThinking(
                        text=block.text,
                        signature=block.closed.signature,
                        redacted=block.closed.redacted,
                        provider_data=data,
                    )
                )
            case "tool_use":
                call_id = f"ours-{number}"
                ours[block.opened.provider_call_id] = call_id
                whole = {} if block.opened.input is UNSET else block.opened.input
                said.append(
                    SentToolUse(
                        call_id=call_id,
                        tool_name=name,
                        input=msgspec.json.decode(block.text) if block.text.strip() else whole,
                        origin=block.opened.origin,
                        provider_data=data,
                    )
                )
                if block.opened.origin == "server":
                    results.append(
                        SentToolResult(
                            call_id=call_id, tool_name=name, text=answers, is_error=False, origin=block.opened.origin
                        )
                    )
            case "tool_result":
                said.append(
                    SentToolResult(
                        call_id=ours.get(block.opened.provider_call_id, "earlier"),
                        tool_name=name,
                        text="",
                        is_error=block.closed.error is not UNSET,
                        origin="provider",
                        output=block.closed.output,
                        provider_data=data,
                    )
                )
            case "opaque":
                said.append(SentOpaque(provider_data=data))
            case _:
                pass
    messages = [Message("assistant", tuple(said))]
    return [*messages, Message("user", tuple(results))] if results else messages


def recordings(wire: str) -> list[Path]:
    return sorted((RECORDINGS / wire).glob("*.sse"))


def frames_of(body: bytes) -> list[bytes]:
    """With the empty line that ends each: joined they are the body."""
    return [piece + b"\n\n" for piece in body.split(b"\n\n") if piece.strip()]


def values_of(body: bytes) -> list[Json]:
    """Every JSON value of the body, read in the simplest way."""
    lines = body.decode().replace("\r\n", "\n").split("\n")
    data = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    return [msgspec.json.decode(one) for one in data if one and one != "[DONE]"]
