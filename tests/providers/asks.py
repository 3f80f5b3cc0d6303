"""Asks to make requests from, and conversations that grow round by round."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from legato.core.ask import (
    Ask,
    Message,
    Params,
    SentBlock,
    SentOpaque,
    SentText,
    SentThinking,
    SentToolResult,
    SentToolUse,
    ToolSpec,
)
from legato.core.blocks import Json, ProviderData

GET = ToolSpec("get", "Get it.", {"type": "object", "properties": {"a": {"type": "integer"}}})


PLAIN = Params()


def ask(
    *messages: Message,
    model: str = "claude-sonnet-4-5",
    system: str | None = "Be good.",
    tools: tuple[ToolSpec, ...] = (GET,),
    params: Params = PLAIN,
    round: int = 1,
    data: dict[str, bytes] | None = None,
) -> Ask:
    return Ask(model=model, system=system, tools=tools, messages=messages, params=params, round=round, data=data or {})


def user(*blocks: SentBlock | str) -> Message:
    return Message("user", tuple(SentText(text=block) if isinstance(block, str) else block for block in blocks))


def assistant(*blocks: SentBlock | str) -> Message:
    return Message("assistant", tuple(SentText(text=block) if isinstance(block, str) else block for block in blocks))


def call(call_id: str, name: str = "get", *, wire: str = "", id: str = "", **input: Json) -> SentToolUse:
    data = {wire: {"id": id}} if wire else UNSET
    return SentToolUse(call_id=call_id, tool_name=name, input=input, origin="server", provider_data=data)


def result(call_id: str, text: str = "it", name: str = "get", *, is_error: bool = False) -> SentToolResult:
    return SentToolResult(call_id=call_id, tool_name=name, text=text, is_error=is_error, origin="server")


def body_of(made: bytes) -> dict[str, Json]:
    body: dict[str, Json] = msgspec.json.decode(made)
    return body


def without_marks(value: Json) -> Json:
    """Cache marks aside."""
    if isinstance(value, list):
        return [without_marks(item) for item in value]
    if isinstance(value, dict):
        return {name: without_marks(item) for name, item in value.items() if name != "cache_control"}
    return value


texts = st.text("ab \n", min_size=1, max_size=6)


@st.composite
def histories(draw: st.DrawFn, wire: str) -> Sequence[Message]:
    """A conversation as ``core.messages`` makes it: roles alternate, results come first and are all there."""
    messages: list[Message] = []
    number = 0
    for _ in range(draw(st.integers(1, 4))):
        results = messages.pop().blocks if messages and messages[-1].role == "user" else ()
        messages.append(Message("user", (*results, SentText(text=draw(texts)))))
        for _ in range(draw(st.integers(0, 2))):
            blocks: list[SentBlock] = []
            if draw(st.booleans()):
                signed: list[ProviderData | UnsetType] = [UNSET, {wire: {"signature": "s"}}, {"other": {}}]
                data = draw(st.sampled_from(signed))
                blocks.append(SentThinking(text=draw(texts), signature="s", provider_data=data))
            if draw(st.booleans()):
                blocks.append(SentText(text=draw(texts)))
            calls = []
            for _ in range(draw(st.integers(0, 3))):
                number += 1
                vendors = draw(st.sampled_from(["", "same", "x!", "long" * 40, f"call_{number}"]))
                calls.append(call(f"ours-{number}", wire=wire, id=vendors, a=number))
            blocks += calls
            if draw(st.booleans()):
                blocks.append(SentOpaque(provider_data={wire: {"type": "odd", "n": number}}))
            if not blocks:
                continue
            messages.append(Message("assistant", tuple(blocks)))
            if not calls:
                break
            messages.append(Message("user", tuple(result(one.call_id) for one in calls)))
    return messages
