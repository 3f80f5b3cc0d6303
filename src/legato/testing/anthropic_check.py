"""What Anthropic's Messages API refuses, and how it says so. Pure; each rule yields its complaints, the first counts.

Messages of one role in a row are one to the vendor ("consecutive turns are combined", API reference), so here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from legato.core.blocks import Json
from legato.testing.names import signature_of, unseals

FIELDS = {
    "cache_control", "container", "context_management", "inference_geo", "max_tokens", "mcp_servers", "messages",
    "metadata", "model", "output_config", "output_format", "service_tier", "speed", "stop_sequences", "stream",
    "system", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p",
}  # fmt: skip
BLOCK_FIELDS = {
    "text": {"type", "text", "cache_control", "citations"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
    "tool_use": {"type", "id", "name", "input", "cache_control", "caller"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
}
ONLY_OF = {"tool_result": "user", "tool_use": "assistant", "thinking": "assistant", "redacted_thinking": "assistant"}
THOUGHTS = ("thinking", "redacted_thinking")

ID = re.compile(r"[a-zA-Z0-9_-]+")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
MIN_BUDGET = 1024  # tokens
MAX_CACHE_MARKS = 4
MORE = "Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"


def complaints(body: Json, signatures: Mapping[str, str]) -> Iterator[str]:
    """All that is wrong with the request, most basic first."""
    if not isinstance(body, dict):
        yield "The request body is not valid JSON"
        return
    shape = list(chain(_fields(body), _messages(body)))
    yield from shape
    if shape:
        return
    messages = _merged(body["messages"])
    yield from _contents(messages)
    yield from _pairing(messages)
    yield from _server_tools(messages)
    yield from _thoughts(messages, signatures)
    yield from _last_message(messages)
    yield from _tools(body, messages)
    yield from _thinking(body, messages)
    yield from _cache_marks(body)


Blocks = list[tuple[int, int, dict[str, Json]]]
"""Blocks with their place: the number of their message as it was sent, and their number in it."""


def _fields(body: dict[str, Json]) -> Iterator[str]:
    for field in ("model", "messages", "max_tokens"):
        if field not in body:
            yield f"{field}: Field required"
    for field in body:
        if field not in FIELDS:
            yield f"{field}: Extra inputs are not permitted"
    if isinstance(body.get("max_tokens"), int) and body["max_tokens"] < 1:
        yield "max_tokens: Input should be greater than or equal to 1"
    for sequence in body.get("stop_sequences") or ():
        if not sequence.strip():
            yield "stop_sequences: each stop sequence must contain non-whitespace"
    for at, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict):
            yield f"tools.{at}: Input should be an object"
    system = body.get("system", "x")
    for block in system if isinstance(system, list) else ():
        if not block.get("text"):
            yield "system: text content blocks must be non-empty"


def _messages(body: dict[str, Json]) -> Iterator[str]:
    messages = body.get("messages")
    if not isinstance(messages, list):
        if "messages" in body:
            yield "messages: Input should be a valid list"
        return
    if not messages:
        yield "messages: at least one message is required"
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            yield f"messages.{at}: Input should be an object"
            continue
        role, content = message.get("role"), message.get("content")
        for inner, block in enumerate(content if isinstance(content, list) else ()):
            if not isinstance(block, dict):
                yield f"messages.{at}.content.{inner}: Input should be an object"
        if role == "system":
            yield (
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not '
                '"system" as an input message role.'
            )
        elif role not in {"user", "assistant"}:
            yield f"messages.{at}.role: Input should be 'user' or 'assistant'"
        elif at == 0 and role != "user":
            yield 'messages: first message must use the "user" role'
        if content is None:
            yield f"messages.{at}.content: Field required"
        elif not isinstance(content, str | list):
            yield f"messages.{at}.content: Input should be a valid list"
        elif not content and not (role == "assistant" and at == len(messages) - 1):
            yield (
                f"messages.{at}: all messages must have non-empty content except for the optional final assistant "
                "message"
            )


def _merged(messages: list[Json]) -> list[tuple[str, Blocks]]:
    """The messages as the vendor reads them: one after another of the same role are one, a string is a text block."""
    merged: list[tuple[str, Blocks]] = []
    for at, message in enumerate(messages):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        placed = [(at, inner, block) for inner, block in enumerate(blocks)]
        if merged and merged[-1][0] == message["role"]:
            merged[-1][1].extend(placed)
        else:
            merged.append((message["role"], placed))
    return merged


def _contents(messages: list[tuple[str, Blocks]]) -> Iterator[str]:
    ids: set[str] = set()
    for role, blocks in messages:
        for at, inner, block in blocks:
            place, kind = f"messages.{at}.content.{inner}", block.get("type")
            if kind is None:
                yield f"{place}.type: Field required"
                continue
            if kind in ONLY_OF and role != ONLY_OF[kind]:
                yield f"messages.{at}: `{kind}` blocks can only be in `{ONLY_OF[kind]}` messages"
            yield from (
                f"{place}.{kind}.{field}: Extra inputs are not permitted"
                for field in block
                if kind in BLOCK_FIELDS and field not in BLOCK_FIELDS[kind]
            )
            match kind:
                case "text":
                    yield from _text(block)
                case "tool_use":
                    yield from _tool_use(place, block)
                    if block.get("id") in ids:
                        yield f"{place}: `tool_use` ids must be unique"
                    ids.add(str(block.get("id")))
                case "tool_result":
                    yield from _tool_result(place, block)
                case _:  # thinking has rules of its own below; of other kinds nothing is known
                    pass


def _text(block: dict[str, Json]) -> Iterator[str]:
    if not block.get("text"):
        yield "messages: text content blocks must be non-empty"
    elif not block["text"].strip():
        yield "messages: text content blocks must contain non-whitespace text"


def _tool_use(place: str, block: dict[str, Json]) -> Iterator[str]:
    if not ID.fullmatch(block.get("id") or ""):
        yield f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
    if not NAME.fullmatch(block.get("name") or ""):
        yield f"{place}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
    if not isinstance(block.get("input"), dict):
        yield f"{place}.tool_use.input: Input should be a valid dictionary"


def _tool_result(place: str, block: dict[str, Json]) -> Iterator[str]:
    content = block.get("content")
    if "tool_use_id" not in block:
        yield f"{place}.tool_result.tool_use_id: Field required"
    if content is not None and not isinstance(content, str | list):
        yield f"{place}.tool_result.content: Input should be a valid list"
    if block.get("is_error") and not content:
        yield f"{place}: content cannot be empty if `is_error` is true"
    for inner in content if isinstance(content, list) else ():
        if inner.get("type") == "text":
            yield from _text(inner)


def _pairing(messages: list[tuple[str, Blocks]]) -> Iterator[str]:
    """Every call is answered once, at the head of the message that follows."""
    for number, (role, blocks) in enumerate(messages):
        results = [(at, inner, block) for at, inner, block in blocks if block.get("type") == "tool_result"]
        asked = [block["id"] for _, _, block in messages[number - 1][1] if block.get("type") == "tool_use"]
        if role == "user":
            seen: set[str] = set()
            for at, inner, block in results:
                used = str(block.get("tool_use_id"))
                if number == 0 or used not in asked:
                    yield (
                        f"messages.{at}.content.{inner}: unexpected `tool_use_id` found in `tool_result` blocks: "
                        f"{used}. Each `tool_result` block must have a corresponding `tool_use` block in the previous "
                        "message."
                    )
                elif used in seen:
                    yield (
                        f"messages.{at}.content.{inner}: each tool_use must have a single result. "
                        f"Found multiple `tool_result` blocks with id: {used}"
                    )
                seen.add(used)
            continue
        calls = [(at, block["id"]) for at, _, block in blocks if block.get("type") == "tool_use"]
        answered = _leading_results(messages[number + 1][1]) if number + 1 < len(messages) else set()
        if missing := [call_id for _, call_id in calls if call_id not in answered]:
            yield (
                f"messages.{calls[-1][0]}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )


def _leading_results(blocks: Blocks) -> set[str]:
    """Ids answered before anything else is said: a result after a text is none ("results come first")."""
    found: set[str] = set()
    for _, _, block in blocks:
        if block.get("type") != "tool_result":
            break
        found.add(str(block.get("tool_use_id")))
    return found


def _server_tools(messages: list[tuple[str, Blocks]]) -> Iterator[str]:
    """A call the vendor answers itself stands before its result; only a paused response may end without it."""
    used: dict[str, tuple[int, str, int]] = {}
    for number, (_, blocks) in enumerate(messages):
        for at, inner, block in blocks:
            kind = str(block.get("type"))
            if kind == "server_tool_use":
                used[str(block.get("id"))] = (at, str(block.get("name")), number)
            elif kind.endswith("_tool_result") and kind != "mcp_tool_result":
                answered = str(block.get("tool_use_id"))
                if used.pop(answered, None) is None:
                    yield (
                        f"messages.{at}.content.{inner}: unexpected `tool_use_id` found in `{kind}` blocks: "
                        f"{answered}. Each `{kind}` block must have a corresponding `server_tool_use` block before it."
                    )
    for call_id, (at, name, number) in used.items():
        if number < len(messages) - 1:
            yield (
                f"messages.{at}: `{name}` tool use with id `{call_id}` was found without a corresponding "
                f"`{name}_tool_result` block"
            )


def _thoughts(messages: list[tuple[str, Blocks]], signatures: Mapping[str, str]) -> Iterator[str]:
    """Thinking comes back as it was given, signature and all."""
    for _, blocks in messages:
        for at, inner, block in blocks:
            place = f"messages.{at}.content.{inner}"
            match block.get("type"):
                case "thinking":
                    text, signature = block.get("thinking"), block.get("signature")
                    if not isinstance(signature, str):
                        yield f"{place}.thinking.signature: Field required"
                    elif not isinstance(text, str):
                        yield f"{place}.thinking.thinking: Field required"
                    elif signature != signature_of(text) and signatures.get(signature) != text:
                        yield f"{place}: Invalid `signature` in `thinking` block"
                case "redacted_thinking":
                    data = block.get("data")
                    if not isinstance(data, str) or not (unseals(data) or data in signatures):
                        yield f"{place}: Invalid `data` in `redacted_thinking` block"
                case _:
                    pass


def _last_message(messages: list[tuple[str, Blocks]]) -> Iterator[str]:
    for role, blocks in messages:
        if role == "assistant" and blocks and blocks[-1][2].get("type") in THOUGHTS:
            yield f"messages.{blocks[-1][0]}: The final block in an assistant message cannot be `thinking`."
    role, blocks = messages[-1]
    if role == "assistant" and blocks and blocks[-1][2].get("type") == "text":
        text = str(blocks[-1][2].get("text"))
        if text != text.rstrip():
            yield "messages: final assistant content cannot end with trailing whitespace"


def _tools(body: dict[str, Json], messages: list[tuple[str, Blocks]]) -> Iterator[str]:
    tools = body.get("tools") or []
    names = []
    for at, tool in enumerate(tools):
        if tool.get("type", "custom") != "custom":  # the vendor's own tools have names of their own
            names.append(tool.get("name"))
            continue
        if not NAME.fullmatch(tool.get("name") or ""):
            yield f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
        schema = tool.get("input_schema")
        if not isinstance(schema, dict):
            yield f"tools.{at}.custom.input_schema: Field required"
        elif schema.get("type") != "object":
            yield f"tools.{at}.custom.input_schema.type: Input should be 'object'"
        names.append(tool.get("name"))
    if len(set(names)) < len(names):
        yield "tools: Tool names must be unique."
    choice = body.get("tool_choice")
    if choice is not None and not tools:
        yield "tool_choice may only be specified while providing tools"
    elif choice is not None and choice.get("type") == "tool" and choice.get("name") not in names:
        yield f"Tool '{choice.get('name')}' not found in provided tools"
    uses = any(block.get("type") in {"tool_use", "tool_result"} for _, blocks in messages for _, _, block in blocks)
    if uses and not tools:
        yield "Requests which include `tool_use` or `tool_result` blocks must define tools."


def _thinking(body: dict[str, Json], messages: list[tuple[str, Blocks]]) -> Iterator[str]:
    thinking = body.get("thinking") or {}
    if thinking.get("type") not in {"enabled", "adaptive"}:
        return
    if thinking["type"] == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int):
            yield "thinking.enabled.budget_tokens: Field required"
            return
        if budget < MIN_BUDGET:
            yield f"thinking.enabled.budget_tokens: Input should be greater than or equal to {MIN_BUDGET}"
        if body["max_tokens"] <= budget:
            yield f"`max_tokens` must be greater than `thinking.budget_tokens`. {MORE}#max-tokens-and-context-window"
        yield from _starts_with_thinking(messages)
    if body.get("temperature", 1) != 1:
        yield f"`temperature` may only be set to 1 when thinking is enabled. {MORE}"
    if (body.get("tool_choice") or {}).get("type") in {"any", "tool"}:
        yield "Thinking may not be enabled when tool_choice forces tool use."


def _starts_with_thinking(messages: list[tuple[str, Blocks]]) -> Iterator[str]:
    """While its calls are being answered, an assistant's say starts with thinking: the first message after the last
    one that a person wrote, not each (without interleaved thinking only the first has some)."""
    if messages[-1][0] == "user" and not _leading_results(messages[-1][1]):
        return
    opening: Blocks = []
    for role, blocks in messages:
        if role == "user" and not _leading_results(blocks):
            opening = []
        elif role == "assistant" and not opening:
            opening = blocks
    if opening and opening[0][2].get("type") not in THOUGHTS:
        at, inner, block = opening[0]
        yield (
            f"messages.{at}.content.{inner}.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{block.get('type')}`. When `thinking` is enabled, a final `assistant` message must start with a "
            f"thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks). {MORE}"
        )


def _cache_marks(body: dict[str, Json]) -> Iterator[str]:
    system = body.get("system")
    contents = [message["content"] for message in body["messages"]]
    blocks = chain(
        body.get("tools") or (),
        system if isinstance(system, list) else (),
        (block for content in contents if isinstance(content, list) for block in content),
    )
    marks = sum("cache_control" in block and block["cache_control"] is not None for block in blocks)
    if marks > MAX_CACHE_MARKS:
        yield f"A maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided. Found {marks}."
