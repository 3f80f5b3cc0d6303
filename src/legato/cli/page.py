"""A turn, and what the model was sent of it, as a person reads them: lines of clean text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

import msgspec

from legato.cli.brief import arguments_line, call_line, seconds_between, usage_line, value_line
from legato.cli.hints import hint
from legato.cli.seen import SeenBlock, SeenModelView, SeenRound, SeenTurn, SeenWaiting
from legato.cli.untrusted import clean
from legato.core.blocks import Json

_RESULT_LINES: Final = 60
"""Of one result. `--json` has the whole."""
_VALUE_CHARACTERS: Final = 4_000


def turn_page(turn: SeenTurn, *, url: str) -> Iterator[str]:
    """``url`` is where the commands go that answer what waits."""
    yield from _head(turn)
    if turn.role == "user":
        for block in turn.blocks:
            yield ""
            yield from _block(block, {})
        return
    results = {block.call_id: block for block in turn.blocks if block.type == "tool_result"}
    for number, blocks in groupby(sorted(turn.blocks, key=lambda one: (one.round, one.index)), lambda one: one.round):
        yield ""
        yield from (_round(record) for record in turn.rounds if record.round == number)
        for block in blocks:
            if block.type != "tool_result":
                yield from _indented(_block(block, results))
    yield ""
    yield from _foot(turn, url)


def _head(turn: SeenTurn) -> Iterator[str]:
    ended = f"{turn.status}, {turn.stop_reason}" if turn.stop_reason else turn.status
    yield clean(f"{turn.role} turn {turn.id}: {ended}")
    yield clean(f"  chat    {turn.chat_id}")
    yield clean(f"  after   {turn.prev_turn_id or 'nothing: it begins the chat'}")
    if others := [one for one in turn.siblings if one != turn.id]:
        yield clean(f"  beside  {', '.join(others)}")
    if turn.model:
        yield clean(f"  model   {turn.model}")
    took = None if turn.ended_at is None else seconds_between(turn.created_at, turn.ended_at)
    yield clean(f"  at      {turn.created_at}" + ("" if took is None else f", took {took:.1f} s"))


def _foot(turn: SeenTurn, url: str) -> Iterator[str]:
    yield from (f"waits   {_need(turn, need, url)}" for need in turn.waiting_for)
    if turn.error is not None:
        by = f" (from {turn.error.provider}, {turn.error.provider_status})" if turn.error.provider_status else ""
        yield clean(f"error {turn.error.code}: {turn.error.message}{by}")
    yield f"usage   {usage_line(turn.usage)}"
    yield f"events  up to {turn.last_seq}"


def _need(turn: SeenTurn, need: SeenWaiting, url: str) -> str:
    """What is waited for, and what to type for it."""
    call = call_line(turn, need.call_id)
    place = (turn.id, need.call_id)
    match need.kind:
        case "approval":
            return f"for a yes or no to {call}: {hint('approve', *place, url=url)}"
        case "input":
            schema = "" if need.input_schema is None else f" {value_line(need.input_schema, _VALUE_CHARACTERS)}"
            told = ("--input", "JSON") if schema else ()
            asks = clean(f"for an answer to {call}, which asks: {need.message}{schema}")
            return f"{asks}: {hint('approve', *place, *told, url=url)}"
        case "client_tool":
            return f"for its client to run {call}: {hint('answer', *place, '--output', 'JSON', url=url)}"
        case _:
            return clean(f"for {need.kind} of {call}")


def _round(record: SeenRound) -> str:
    said = [f"round {record.round}" + (f" (attempt {record.attempt})" if record.attempt > 1 else "")]
    said.append(record.commitment or "running")
    if record.kept_to is not None:
        said.append(f"kept to block {record.kept_to}")
    if record.stop_reason is not None:
        said.append(f"stopped for {record.stop_reason}")
    return clean(f"{', '.join(said)}: {usage_line(record.usage)}" + "".join(f"; told: {one}" for one in record.notices))


def _block(block: SeenBlock, results: dict[str, SeenBlock]) -> Iterator[str]:
    cut = "" if block.state == "complete" else f" [{clean(block.state)}]"
    match block.type:
        case "text" | "thinking":
            yield f"{block.type}{cut}"
            yield from _indented(_text("redacted" if block.redacted and not block.text else block.text))
            yield from (clean(f"  source: {one.get('title') or ''} {one.get('url') or ''}") for one in block.citations)
        case "tool_use":
            shown = arguments_line(block.input, _VALUE_CHARACTERS) if block.input is not None else block.text
            yield clean(f"call {block.tool_name}({shown}){cut}  {block.call_id}")
            if (result := results.get(block.call_id)) is not None:
                yield from _indented(_result(result))
        case "tool_result":
            yield from _result(block)
        case "image" | "file":
            where = block.href or block.url or ""
            size = "" if block.bytes is None else f", {block.bytes:,} bytes"
            yield clean(f"{block.type} {block.name or ''} {block.media_type or ''}{size} {where}".rstrip())
        case _:
            yield clean(f"{block.type}{cut}: a kind of block that is not known here")


def _result(block: SeenBlock) -> Iterator[str]:
    cut = "" if block.state == "complete" else f" [{clean(block.state)}]"
    if block.ran_input is not None:
        yield f"ran with {arguments_line(block.ran_input, _VALUE_CHARACTERS)}"
    if block.text:
        yield "showed"
        yield from _indented(_text(block.text))
    if block.error is not None:
        yield clean(f"{block.outcome or 'running'}: {block.error.message} ({block.error.code}){cut}")
    else:
        yield clean(f"{block.outcome or 'running'}{cut}")
    if block.output is not None:
        yield from _indented(_value(block.output))


def _value(value: Json) -> Iterator[str]:
    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    lines = list(_text(text))
    yield from lines[:_RESULT_LINES]
    if len(lines) > _RESULT_LINES:
        yield f"… {len(lines) - _RESULT_LINES} more lines; --json has all of it"


def _text(text: str) -> Iterator[str]:
    yield from clean(text).rstrip("\n").split("\n")


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}".rstrip() for line in lines)


def model_view_page(view: SeenModelView) -> Iterator[str]:
    yield clean(f"model   {view.model}")
    yield clean(f"tools   {', '.join(tool.name for tool in view.tools) or 'none'}")
    if view.system is not None:
        yield ""
        yield "system"
        yield from _indented(_text(view.system))
    readings = {reading.call_id: reading for reading in view.results}
    for message in view.messages:
        yield ""
        yield clean(message.role)
        for block in message.blocks:
            if block.type == "tool_result":
                reading = readings.get(block.call_id)
                by = "" if reading is None else f", by {reading.formatter} {reading.version}, {reading.bytes:,} bytes"
                yield clean(f"  {'error' if block.is_error else 'result'} of {block.tool_name}  {block.call_id}{by}")
                yield from _indented(_indented(_text(block.text)))
            else:
                yield from _indented(_block(block, {}))
