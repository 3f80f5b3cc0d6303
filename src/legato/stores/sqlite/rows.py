"""Records as rows and back: the only place that knows which field lies in which column.

Each kind has its columns, in the order of the tuple that is stored and of the tuple that is read.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from legato.core.blocks import Block, Json
from legato.core.events import ErrorInfo
from legato.core.records import (
    Answer,
    Chat,
    Datum,
    Intent,
    KeptNeed,
    KeptSteer,
    Need,
    Reading,
    RoundRecord,
    Span,
    TurnEnding,
    TurnRequest,
    TurnRow,
)
from legato.core.usage import Usage

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = tuple[Value, ...]
# What sqlite3 gives back: the schema knows the types of the columns, Python does not.
Found: TypeAlias = tuple[Any, ...]

CHAT = "id, owner, title, system, model, metadata, head_turn_id, active_turn_id, created_at, updated_at"
TURN = (
    "id, chat_id, prev_turn_id, role, status, created_at, depth, model, provider, request, fingerprint, metadata,"
    " stop_reason, usage, error, ended_at, cancel_requested, owner, epoch, lease_until, wait_until, last_seq"
)
BLOCK = "turn_id, idx, round, type, state, text, body, seq"
ROUND = (
    "turn_id, round, attempt, model, provider, commitment, kept_to, stop_reason, provider_reason, input_tokens,"
    " cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd, usage_source, notices, steers,"
    " seq"
)
INTENT = "turn_id, call_id, round, idx, tool_name, input, input_sha256, idempotency_key, owner"
RESULT = "turn_id, call_id, result_idx"
READING = "turn_id, call_id, reading, formatter, version"
NEED = "turn_id, call_id, nr, kind, body, seq"
KEPT_NEED = "body, answer, taken"
STEER = "turn_id, steer_id, text, state, seq"
KEPT_STEER = "steer_id, text, state"
TIMELINE = "turn_id, spans, seq"
DATUM = "turn_id, idx, media_type, sha256, name, data"

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, Json]).decode
_decode_request = msgspec.json.Decoder(TurnRequest).decode
_decode_usage = msgspec.json.Decoder(Usage).decode
_decode_error = msgspec.json.Decoder(ErrorInfo).decode
_decode_block: msgspec.json.Decoder[Block] = msgspec.json.Decoder(Block)
_decode_told = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_need = msgspec.json.Decoder(Need).decode
_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_spans = msgspec.json.Decoder(tuple[Span, ...]).decode


def as_json(value: object) -> str:
    return _encode(value).decode()


def chat_row(chat: Chat) -> Row:
    return (
        chat.id,
        chat.owner,
        chat.title,
        chat.system,
        chat.model,
        as_json(chat.metadata),
        chat.head_turn_id,
        chat.active_turn_id,
        chat.created_at,
        chat.updated_at,
    )


def chat_of(found: Found) -> Chat:
    return Chat(
        id=found[0],
        owner=found[1],
        title=found[2],
        system=found[3],
        model=found[4],
        metadata=_decode_object(found[5]),
        head_turn_id=found[6],
        active_turn_id=found[7],
        created_at=found[8],
        updated_at=found[9],
    )


def turn_row(row: TurnRow) -> Row:
    return (
        row.id,
        row.chat_id,
        row.prev_turn_id,
        row.role,
        row.status,
        row.created_at,
        row.depth,
        row.model,
        row.provider,
        None if row.request is None else as_json(row.request),
        row.fingerprint,
        as_json(row.metadata),
        row.stop_reason,
        as_json(row.usage),
        None if row.error is None else as_json(row.error),
        row.ended_at,
        row.cancel_requested,
        row.owner,
        row.epoch,
        row.lease_until,
        row.wait_until,
        row.last_seq,
    )


def turn_of(found: Found) -> TurnRow:
    return TurnRow(
        id=found[0],
        chat_id=found[1],
        prev_turn_id=found[2],
        role=found[3],
        status=found[4],
        created_at=found[5],
        depth=found[6],
        model=found[7],
        provider=found[8],
        request=None if found[9] is None else _decode_request(found[9]),
        fingerprint=found[10],
        metadata=_decode_object(found[11]),
        stop_reason=found[12],
        usage=_decode_usage(found[13]),
        error=None if found[14] is None else _decode_error(found[14]),
        ended_at=found[15],
        cancel_requested=bool(found[16]),
        owner=found[17],
        epoch=found[18],
        lease_until=found[19],
        wait_until=found[20],
        last_seq=found[21],
    )


def ending_row(ending: TurnEnding) -> Row:
    return (
        ending.status,
        ending.stop_reason,
        as_json(ending.usage),
        None if ending.error is None else as_json(ending.error),
        ending.ended_at,
    )


def block_row(turn_id: str, block: Block, seq: int) -> Row:
    body: dict[str, Json] = msgspec.to_builtins(block)
    index, round_, type_, state = body.pop("index"), body.pop("round"), body.pop("type"), body.pop("state")
    return turn_id, index, round_, type_, state, body.pop("text", ""), as_json(body), seq


def block_of(found: Found) -> Block:
    """The columns are put back in front of the body as text: decoding once costs 1 µs, by way of a dict 7 (2026-11)."""
    _, index, round_, type_, state, text, body, _ = found
    head = f'{{"type":"{type_}","index":{index},"round":{round_},"state":"{state}","text":'.encode()
    rest = b"}" if body == "{}" else b"," + body.encode()[1:]
    return _decode_block.decode(head + _encode(text) + rest)


def round_row(turn_id: str, record: RoundRecord, seq: int) -> Row:
    usage = record.usage
    return (
        turn_id,
        record.round,
        record.attempt,
        record.model,
        record.provider,
        record.commitment,
        record.kept_to,
        record.stop_reason,
        record.provider_reason,
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.cost_usd,
        usage.source,
        as_json(record.notices),
        as_json(record.steers),
        seq,
    )


def round_of(found: Found) -> RoundRecord:
    return RoundRecord(
        round=found[1],
        attempt=found[2],
        model=found[3],
        provider=found[4],
        commitment=found[5],
        kept_to=found[6],
        stop_reason=found[7],
        provider_reason=found[8],
        usage=Usage(
            input_tokens=found[9],
            cache_read_tokens=found[10],
            cache_write_tokens=found[11],
            output_tokens=found[12],
            reasoning_tokens=found[13],
            cost_usd=found[14],
            source=found[15],
        ),
        notices=_decode_told(found[16]),
        steers=_decode_told(found[17]),
    )


def intent_row(turn_id: str, intent: Intent) -> Row:
    return (
        turn_id,
        intent.call_id,
        intent.round,
        intent.index,
        intent.tool_name,
        as_json(intent.input),
        intent.input_sha256,
        intent.idempotency_key,
        intent.owner,
    )


def intent_of(found: Found) -> Intent:
    return Intent(
        call_id=found[1],
        round=found[2],
        index=found[3],
        tool_name=found[4],
        input=_decode_object(found[5]),
        input_sha256=found[6],
        idempotency_key=found[7],
        owner=found[8],
    )


def reading_row(turn_id: str, reading: Reading) -> Row:
    return turn_id, reading.call_id, reading.text, reading.formatter, reading.version


def reading_of(found: Found) -> Reading:
    return Reading(call_id=found[1], text=found[2], formatter=found[3], version=found[4])


def need_row(turn_id: str, need: Need, seq: int) -> Row:
    return turn_id, need.call_id, need.nr, need.kind, as_json(need), seq


def kept_need_of(found: Found) -> KeptNeed:
    body, answer, taken = found
    return KeptNeed(
        need=_decode_need(body), answer=None if answer is None else _decode_answer(answer), taken=bool(taken)
    )


def steer_row(turn_id: str, steer: KeptSteer, seq: int) -> Row:
    return turn_id, steer.steer_id, steer.text, steer.state, seq


def kept_steer_of(found: Found) -> KeptSteer:
    return KeptSteer(steer_id=found[0], text=found[1], state=found[2])


def datum_row(turn_id: str, datum: Datum) -> Row:
    return turn_id, datum.index, datum.media_type, datum.sha256, datum.name, datum.data


def datum_of(found: Found) -> Datum:
    return Datum(index=found[1], media_type=found[2], sha256=found[3], name=found[4], data=found[5])


def spans_of(found: str) -> tuple[Span, ...]:
    return _decode_spans(found)
