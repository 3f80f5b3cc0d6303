"""What OpenAI's chat completions refuse, and how they say so; where another vendor is stricter, that vendor's rule is
named. Pure; each rule yields its complaints, the first counts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from legato.core.blocks import Json

ROLES = ("system", "assistant", "user", "function", "tool", "developer")
NAME = re.compile(r"[a-zA-Z0-9_-]+")
MAX_NAME = 64  # characters
MAX_ID = 40  # characters of a call's id
MAX_STOPS = 4


EMPTY = "empty array. Expected an array with minimum length 1, but got an empty array instead."


def complaints(body: Json) -> Iterator[str]:
    """All that is wrong with the request, most basic first."""
    if not isinstance(body, dict):
        yield "We could not parse the JSON body of your request."
        return
    if not body.get("model"):
        yield "you must provide a model parameter"
    messages = body.get("messages")
    if not isinstance(messages, list):
        yield "Missing required parameter: 'messages'."
        return
    if not messages:
        yield f"Invalid 'messages': {EMPTY}"
    strangers = [
        f"Invalid type for '{field}[{at}]': expected an object, but got something else instead."
        for field in ("messages", "tools")
        for at, one in enumerate(body.get(field) or ())
        if not isinstance(one, dict)
    ]
    yield from strangers
    if strangers:
        return
    for at, message in enumerate(messages):
        yield from _message(at, message)
    yield from _pairing(messages)
    yield from _tools(body, messages)
    yield from _params(body)


def _message(at: int, message: dict[str, Json]) -> Iterator[str]:
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    if role not in ROLES:
        supported = ", ".join(f"'{one}'" for one in ROLES[:-1])
        yield f"Invalid value: '{role}'. Supported values are: {supported}, and '{ROLES[-1]}'."
        return
    if content is None and not (role == "assistant" and calls):
        yield "Invalid value for 'content': expected a string, got null."
    elif content == []:
        yield f"Invalid 'messages[{at}].content': {EMPTY}"
    elif content is not None and not isinstance(content, str | list):
        yield f"Invalid type for 'messages[{at}].content': expected one of a string or array of objects."
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        yield f"Missing required parameter: 'messages[{at}].tool_call_id'."
    if calls is None:
        return
    if role != "assistant":
        yield f"Unknown parameter: 'messages[{at}].tool_calls'."
    elif not calls:
        yield f"Invalid 'messages[{at}].tool_calls': {EMPTY}"
    for inner, call in enumerate(calls):
        yield from _call(f"messages[{at}].tool_calls[{inner}]", call)


def _call(place: str, call: dict[str, Json]) -> Iterator[str]:
    call_id, function = call.get("id"), call.get("function")
    if not call_id or not isinstance(call_id, str):
        yield f"Missing required parameter: '{place}.id'."
    elif len(call_id) > MAX_ID:
        yield _too_long(f"{place}.id", call_id, MAX_ID)
    if call.get("type") != "function":
        yield f"Missing required parameter: '{place}.type'."
    if not isinstance(function, dict):
        yield f"Missing required parameter: '{place}.function'."
        return
    yield from _name(f"{place}.function.name", function.get("name"))
    if not isinstance(function.get("arguments"), str):
        yield f"Missing required parameter: '{place}.function.arguments'."


def _name(place: str, name: Json) -> Iterator[str]:
    if not isinstance(name, str):
        yield f"Missing required parameter: '{place}'."
    elif not NAME.fullmatch(name):
        yield (
            f"Invalid '{place}': string does not match pattern. Expected a string that matches the pattern "
            f"'^{NAME.pattern}$'."
        )
    elif len(name) > MAX_NAME:
        yield _too_long(place, name, MAX_NAME)


def _too_long(place: str, value: str, limit: int) -> str:
    return (
        f"Invalid '{place}': string too long. Expected a string with maximum length {limit}, but got a string with "
        f"length {len(value)} instead."
    )


def _pairing(messages: list[Json]) -> Iterator[str]:
    """Each call is answered once, by the tool messages that follow its message at once."""
    asked: list[str] = []
    answered: list[str] = []
    open_since: int | None = None  # the message whose calls are being answered
    for at, message in enumerate([*messages, {"role": None}]):
        if message.get("role") == "tool":
            used = message.get("tool_call_id")
            if open_since is None:
                yield (
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'."
                )
            elif used not in asked:
                yield f"Invalid parameter: 'tool_call_id' of '{used}' not found in 'tool_calls' of previous message."
            elif used in answered:
                yield f"Duplicate value for 'tool_call_id' of '{used}' in message[{at}]"
            answered.append(str(used))
            continue
        if missing := [call_id for call_id in asked if call_id not in answered]:
            yield (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                "'tool_call_id'. The following tool_call_ids did not have response messages: " + ", ".join(missing)
            )
        asked = [str(call.get("id")) for call in message.get("tool_calls") or ()]
        if len(set(asked)) < len(asked):
            twice = next(call_id for call_id in asked if asked.count(call_id) > 1)
            yield f"Duplicate value for 'tool_call_id' of '{twice}' in message[{at}]"
        answered = []
        open_since = at if asked else None


def _tools(body: dict[str, Json], messages: list[Json]) -> Iterator[str]:
    tools = body.get("tools")
    if tools == []:
        yield f"Invalid 'tools': {EMPTY}"
    names = []
    for at, tool in enumerate(tools or ()):
        function = tool.get("function") or {}
        yield from _name(f"tools[{at}].function.name", function.get("name"))
        names.append(function.get("name"))
    if len(set(names)) < len(names):  # DeepSeek; OpenAI itself says nothing
        yield "Tool names must be unique."
    choice = body.get("tool_choice")
    for field in ("tool_choice", "parallel_tool_calls"):
        if body.get(field) is not None and not tools:
            yield f"Invalid value for '{field}': '{field}' is only allowed when 'tools' are specified."
    if isinstance(choice, dict) and (choice.get("function") or {}).get("name") not in names:
        yield "Invalid value for 'tool_choice': Tool choice 'function' not found in 'tools' parameter."
    # Not OpenAI's rule but that of gateways to models that need it (LiteLLM to Anthropic and Bedrock, 2026-11).
    if not tools and any(message.get("role") == "tool" or message.get("tool_calls") for message in messages):
        yield "Invalid value for 'tools': messages with 'tool_calls' need the 'tools=' param set."


def _params(body: dict[str, Json]) -> Iterator[str]:
    if body.get("stream_options") is not None and not body.get("stream"):
        yield "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        yield "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
    stops = body.get("stop")
    if isinstance(stops, list) and len(stops) > MAX_STOPS:
        yield (
            f"Invalid 'stop': array too long. Expected an array with maximum length {MAX_STOPS}, but got an array with "
            f"length {len(stops)} instead."
        )
