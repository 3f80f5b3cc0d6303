"""The Messages wire of Anthropic: the request, written.

Pure. What a response of this wire left in ``provider_data["anthropic"]`` goes back as it came. The messages of a
request begin with those of the request before it, cache marks aside: whatever is decided here about a block is decided
by the block and what stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from legato.core.ask import (
    Ask,
    Message,
    NamedTool,
    Params,
    SentBlock,
    SentFile,
    SentImage,
    SentOpaque,
    SentText,
    SentThinking,
    SentToolResult,
    SentToolUse,
    Thinking,
)
from legato.core.blocks import Block, FileBlock, ImageBlock, Json
from legato.core.errors import InvalidRequest
from legato.ports import Dropped
from legato.providers.anthropic import WIRE
from legato.providers.catalogue import Model, Thinks
from legato.providers.outgoing import (
    CallIds,
    Request,
    base64_of,
    data_of,
    is_text,
    kept,
    name_of,
    noted,
    text_of,
    tools,
    vendors,
)

VERSION = "2023-06-01"
_IDS = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_IMAGES = {"image/jpeg", "image/png", "image/gif", "image/webp"}
_MARK = {"type": "ephemeral"}
# Kinds of blocks that may not carry a cache mark (the vendor's documentation on prompt caching, 2026-11).
_UNMARKED = {"thinking", "redacted_thinking"}
_UNKNOWN_MAX_TOKENS = 8_192  # every model since Claude 3.5 can write as much
_DEFAULT_MAX_TOKENS = 32_000  # more would be refused beside a long history: input and max_tokens share the context
_ANSWER_TOKENS = 8_192  # left for the answer beside a thinking budget
_LEAST_BUDGET = 1_024  # the vendor refuses less
_BUDGETS = {"low": 2_048, "medium": 8_192, "high": 24_576}
_OURS = {"model", "messages", "stream"}


def request(ask: Ask, *, model: Model | None, api_key: str | None) -> Request:
    """``ask`` has been through ``fit``."""
    headers = {"anthropic-version": VERSION}
    if api_key:
        headers["x-api-key"] = api_key
    body: dict[str, Json] = {"model": ask.model, "max_tokens": _max_tokens(ask, model), "stream": True}
    if ask.system and ask.system.strip():
        body["system"] = [{"type": "text", "text": ask.system, "cache_control": _MARK}]
    named, may_call = tools(ask)
    if named:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema} for tool in named
        ]
        body["tools"][-1]["cache_control"] = _MARK
        if (choice := _tool_choice(ask.params, may_call=may_call)) is not None:
            body["tool_choice"] = choice
    body["messages"] = _messages(ask)
    body.update(_params(ask, model))
    if (container := _container(ask)) is not None:
        body["container"] = container
    if ask.params.provider is not UNSET:
        _merge(body, headers, ask.params.provider)
    return Request("/v1/messages", headers, msgspec.json.encode(body))


def _merge(body: dict[str, Json], headers: dict[str, str], given: dict[str, Json]) -> None:
    """What the client sends as it is: tools of the provider stand behind ours, betas are a header."""
    for name, item in given.items():
        if name == "tools" and isinstance(item, list):
            body["tools"] = [*body.get("tools", []), *item]
        elif name == "betas" and isinstance(item, list):
            headers["anthropic-beta"] = ",".join(str(beta) for beta in item)
        elif name not in _OURS:
            body[name] = item


# ---- messages


def _messages(ask: Ask) -> list[dict[str, Json]]:
    ids = CallIds(_IDS)
    sent: list[dict[str, Json]] = []
    for message in ask.messages:
        blocks = [raw for block in message.blocks if (raw := _block(ask, block, ids)) is not None]
        if message.role == "user":
            blocks.sort(key=lambda raw: raw["type"] != "tool_result")  # 400 unless results come first
        if not blocks:
            continue
        if message.role == "assistant":
            _trim(blocks)
        if sent and sent[-1]["role"] == message.role:
            sent[-1]["content"].extend(blocks)
        else:
            sent.append({"role": message.role, "content": blocks})
    _mark(sent)
    return sent


def _trim(blocks: list[dict[str, Json]]) -> None:
    """400 if the last assistant text ends in white space; done at the end of each message of the ask, whatever comes
    behind it, so that what was sent stays as it was."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()


def _mark(sent: Sequence[dict[str, Json]]) -> None:
    """Mark the last block of the last two user messages: a mark finds cached blocks at most 20 blocks before it, and a
    round may add more than that (the vendor's documentation on prompt caching, 2026-11; four marks are allowed)."""
    for message in [message for message in sent if message["role"] == "user"][-2:]:
        for raw in reversed(message["content"]):
            if raw["type"] not in _UNMARKED:
                raw["cache_control"] = _MARK
                break


def _block(ask: Ask, block: SentBlock, ids: CallIds) -> dict[str, Json] | None:
    """The block on the wire; None if the wire cannot take it."""
    mine = kept(block.provider_data, WIRE)
    match block:
        case SentText(text=text):
            return {"type": "text", "text": text, **vendors(mine or {})} if text.strip() else None
        case SentThinking():
            return None if mine is None else _thinking(block, mine, ask.model)
        case SentToolUse(origin="provider"):
            return None if mine is None else {**vendors(mine), "input": block.input}
        case SentToolUse():
            extras = vendors(mine or {})
            called = ids.of_call(block, extras.pop("id", None))
            extras.pop("type", None)
            extras.pop("name", None)
            return {"type": "tool_use", "id": called, "name": name_of(block), "input": block.input, **extras}
        case SentToolResult(origin="provider"):
            return None if mine is None else {**vendors(mine), "content": block.output}
        case SentToolResult():
            return _result(block, ids)
        case SentImage():
            return _image(ask, block)
        case SentFile():
            return _file(ask, block)
        case SentOpaque():
            raw = vendors(mine or {})
            return raw if "type" in raw else None


def _thinking(block: SentThinking, mine: dict[str, Json], model: str) -> dict[str, Json] | None:
    """Whole and unchanged or not at all; and only to the model that signed it.

    Models since Opus 5.5 refuse thinking of another model; older ones take no harm from its absence in ended turns.
    """
    if noted(mine, "model") not in {None, model}:
        return None
    raw = vendors(mine)
    if block.redacted is True:
        return {"type": "redacted_thinking", **raw} if "data" in raw else None
    signature = raw.get("signature", block.signature)
    if not isinstance(signature, str):
        return None
    return {**raw, "type": "thinking", "thinking": block.text, "signature": signature}


def _result(block: SentToolResult, ids: CallIds) -> dict[str, Json] | None:
    called = ids.of_result(block)
    if called is None:
        return None
    raw: dict[str, Json] = {"type": "tool_result", "tool_use_id": called}
    if block.text.strip():
        raw["content"] = block.text
    if block.is_error:
        raw["is_error"] = True
    return raw


def _image(ask: Ask, block: SentImage) -> dict[str, Json] | None:
    if block.url is not UNSET:
        return {"type": "image", "source": {"type": "url", "url": block.url}}
    data = data_of(ask, block)
    if data is None:
        return None
    media_type = "image/png" if block.media_type is UNSET else block.media_type
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": base64_of(data)}}


def _file(ask: Ask, block: SentFile) -> dict[str, Json] | None:
    titled: dict[str, Json] = {"type": "document"} if block.name is UNSET else {"type": "document", "title": block.name}
    if block.url is not UNSET:
        return {**titled, "source": {"type": "url", "url": block.url}}
    data = data_of(ask, block)
    if data is None:
        return None
    if is_text(block.media_type):
        text = text_of(data)
        source = {"type": "text", "media_type": "text/plain", "data": text}
        return {**titled, "source": source} if text.strip() else None
    source = {"type": "base64", "media_type": "application/pdf", "data": base64_of(data)}
    return {**titled, "source": source}


def _container(ask: Ask) -> Json:
    """The container of a turn that goes on: calls made from inside code execution need theirs. An older one may have
    expired, so it is not sent with a new turn."""
    if not ask.messages:
        return None
    last = ask.messages[-1]
    if last.role == "user" and not isinstance(last.blocks[0], SentToolResult):
        return None
    for message in reversed(ask.messages):
        if message.role == "assistant":
            for block in reversed(message.blocks):
                response = noted(kept(block.provider_data, WIRE) or {}, "response")
                container = response.get("container") if isinstance(response, dict) else None
                if isinstance(container, dict):
                    return container.get("id")
            return None
    return None


# ---- parameters


def _params(ask: Ask, model: Model | None) -> dict[str, Json]:
    params = ask.params
    body: dict[str, Json] = {}
    if params.temperature is not UNSET:
        body["temperature"] = params.temperature
    if params.top_p is not UNSET:
        body["top_p"] = params.top_p
    if params.stop is not UNSET and (stops := [stop for stop in params.stop if stop.strip()]):
        body["stop_sequences"] = stops  # 400 for one of white space only
    if params.thinking is not UNSET:
        body.update(_thinking_params(params.thinking, _thinks(ask.model, model)))
    return body


def _thinks(name: str, model: Model | None) -> Thinks:
    """Of a model we do not know: those of the vendor are newer than our table and take effort alone; what others serve
    over this wire follows the older form."""
    if model is not None:
        return model.thinks
    return "effort" if name.startswith("claude-") else "budget"


def _thinking_params(thinking: Thinking, thinks: Thinks) -> dict[str, Json]:
    if thinks == "budget" or (thinks == "either" and thinking.effort is UNSET):
        return {"thinking": {"type": "enabled", "budget_tokens": _budget(thinking)}}
    # Without `display` the newer models stream empty thinking (migration guides, 2026-11).
    adaptive = {"type": "adaptive"} if thinks == "either" else {"type": "adaptive", "display": "summarized"}
    return {"thinking": adaptive, "output_config": {"effort": _effort(thinking)}}


def _budget(thinking: Thinking) -> int:
    if thinking.budget_tokens is not UNSET:
        return max(thinking.budget_tokens, _LEAST_BUDGET)
    return _BUDGETS["medium" if thinking.effort is UNSET else thinking.effort]


def _effort(thinking: Thinking) -> str:
    if thinking.effort is not UNSET:
        return thinking.effort
    if thinking.budget_tokens is UNSET:
        return "medium"
    return next((effort for effort, budget in _BUDGETS.items() if thinking.budget_tokens <= budget), "high")


def _max_tokens(ask: Ask, model: Model | None) -> int:
    if ask.params.max_tokens is not UNSET:
        return ask.params.max_tokens
    most = _UNKNOWN_MAX_TOKENS if model is None or model.output is None else model.output
    if ask.params.thinking is UNSET or _thinks(ask.model, model) not in {"budget", "either"}:
        return min(most, _DEFAULT_MAX_TOKENS)
    wanted = _budget(ask.params.thinking) + _ANSWER_TOKENS
    return max(wanted, min(most, _DEFAULT_MAX_TOKENS)) if model is None else min(most, max(wanted, _DEFAULT_MAX_TOKENS))


def _tool_choice(params: Params, *, may_call: bool) -> dict[str, Json] | None:
    choice: dict[str, Json]
    match params.tool_choice if may_call else "none":
        case "none":
            return {"type": "none"}
        case NamedTool(name=name):
            choice = {"type": "tool", "name": name}
        case "required":
            choice = {"type": "any"}
        case "auto":
            choice = {"type": "auto"}
        case _:
            if params.parallel_tool_calls is not False:
                return None
            choice = {"type": "auto"}
    if params.parallel_tool_calls is False:
        choice["disable_parallel_tool_use"] = True
    return choice


# ---- what the model cannot take


def fit(ask: Ask, model: Model | None) -> tuple[Ask, list[Dropped]]:
    """The ask without what the vendor would refuse with 400, and what was left out."""
    dropped: list[Dropped] = []
    params = ask.params
    forces = params.tool_choice == "required" or isinstance(params.tool_choice, NamedTool)
    if forces and model is not None and not model.forced:
        params = msgspec.structs.replace(params, tool_choice="auto")
        dropped.append(_dropped("tool_choice", f"{ask.model} cannot be made to call a tool; it may"))
        forces = False
    if params.thinking is not UNSET:
        params, said = _fit_thinking(params, params.thinking, ask, model, forces=forces)
        dropped += said
    params, said = _fit_sampling(params, ask, model)
    dropped += said
    if params.provider is not UNSET and (ours := sorted(_OURS & params.provider.keys())):
        dropped += [_dropped(f"provider.{name}", "the server sets it") for name in ours]
    return msgspec.structs.replace(ask, params=params), dropped


def _fit_thinking(
    params: Params, thinking: Thinking, ask: Ask, model: Model | None, *, forces: bool
) -> tuple[Params, list[Dropped]]:
    thinks = _thinks(ask.model, model)
    without = msgspec.structs.replace(params, thinking=UNSET)
    if thinks == "no":
        return without, [_dropped("thinking", f"{ask.model} does not think")]
    if forces:
        return without, [_dropped("thinking", "it cannot be had with a forced tool call")]
    if thinks in {"effort", "always"} or (thinks == "either" and thinking.effort is not UNSET):
        return params, []
    if _goes_on_without_thinking(ask):
        return without, [_dropped("thinking", "the calls being answered were made without it")]
    most = params.max_tokens if params.max_tokens is not UNSET else (model.output if model else None)
    budget = _budget(thinking)
    if most is None or budget < most:
        return params, []
    if most <= _LEAST_BUDGET:
        return without, [_dropped("thinking", f"max_tokens is {most}, thinking needs more than {_LEAST_BUDGET}")]
    lowered = max(_LEAST_BUDGET, most * 3 // 4)
    message = f"lowered from {budget} to {lowered}, below max_tokens {most}"
    return (
        msgspec.structs.replace(params, thinking=Thinking(budget_tokens=lowered)),
        [_dropped("thinking.budget_tokens", message)],
    )


def _goes_on_without_thinking(ask: Ask) -> bool:
    """400 if thinking is on while calls are answered that were made in a message that does not begin with thinking."""
    if len(ask.messages) < 2 or not isinstance(ask.messages[-1].blocks[0], SentToolResult):
        return False
    called: Message = ask.messages[-2]
    ids = CallIds(_IDS)
    first = next((raw for block in called.blocks if (raw := _block(ask, block, ids)) is not None), None)
    return first is None or first["type"] not in {"thinking", "redacted_thinking"}


def _fit_sampling(params: Params, ask: Ask, model: Model | None) -> tuple[Params, list[Dropped]]:
    names = [name for name in ("temperature", "top_p") if getattr(params, name) is not UNSET]
    if not names:
        return params, []
    if model is not None and not model.sampling:
        why = f"{ask.model} takes no sampling parameters"
    elif params.thinking is not UNSET:
        why = "it cannot be had with thinking"
    elif len(names) == 2:
        names, why = ["top_p"], "the vendor takes temperature or top_p, not both"
    else:
        return params, []
    changes: dict[str, UnsetType] = dict.fromkeys(names, UNSET)
    return msgspec.structs.replace(params, **changes), [_dropped(name, why) for name in names]


def _dropped(name: str, why: str) -> Dropped:
    return Dropped("param_dropped", f"{name}: {why}")


def reads(block: SentImage | SentFile) -> bool:
    """Whether the wire takes it; it may come from a turn that another provider answered."""
    if isinstance(block, SentImage):
        return block.url is not UNSET or block.media_type is UNSET or block.media_type in _IMAGES
    is_pdf = block.media_type == "application/pdf"
    if block.url is not UNSET:
        return is_pdf or block.media_type is UNSET
    return is_pdf or is_text(block.media_type)


def admit(said: Sequence[Block]) -> None:
    """Raise ``InvalidRequest`` for an image or a file of a kind that this wire never takes."""
    for place, block in enumerate(said):
        if isinstance(block, ImageBlock) and block.url is UNSET and block.media_type not in _IMAGES:
            raise InvalidRequest.at(
                f"/blocks/{place}/media_type", f"expected one of {', '.join(sorted(_IMAGES))}, got {block.media_type!r}"
            )
        if isinstance(block, FileBlock):
            is_pdf = block.media_type == "application/pdf"
            if block.url is not UNSET and not (is_pdf or block.media_type is UNSET):
                raise InvalidRequest.at(
                    f"/blocks/{place}/url", "this provider reads PDF files from URLs only", code="url_not_supported"
                )
            if block.url is UNSET and not (is_pdf or is_text(block.media_type)):
                raise InvalidRequest.at(
                    f"/blocks/{place}/media_type", f"expected application/pdf or text, got {block.media_type!r}"
                )
