"""The OpenAPI 3.1 document, made from the table that mounts the routes and from the types they read and show.

So what is served is documented and what is documented is served; a test compares the two all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from legato.core.blocks import Json
from legato.core.events import Event
from legato.core.views import ProblemDetails
from legato.http.errors import CODES, Code
from legato.http.query import struct_of
from legato.http.routes import Media, NoBody, Operation, RawBody

PROBLEM: Final = "application/problem+json"
REF: Final = "#/components/schemas/{name}"
# Errors that any request may be answered with.
EVERYWHERE: Final = (
    "bad_request",
    "origin_refused",
    "proxy_without_auth",
    "request_timeout",
    "body_too_large",
    "uri_too_long",
    "unsupported_media_type",
    "host_refused",
    "invalid_request",
    "headers_too_large",
    "internal",
)
WITH_PATH: Final = ("not_found",)
WITH_BODY: Final = ("invalid_json", "json_too_deep")
WITH_STORE: Final = ("store_unavailable", "draining", "persistence_failed", "stale_epoch")
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


def document(table: Sequence[Operation], *, version: str) -> dict[str, Json]:
    types = list(_types(table))
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = dict(zip(map(id, types), schemas, strict=True))
    components["Event"] = {**by_type[id(Event)], "description": "One event of a turn; `seq` counts 1, 2, 3 …"}
    paths: dict[str, dict[str, Json]] = {}
    for one in table:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Legato",
            "version": version,
            "description": "A self-hosted LLM turn server. Clients ignore fields, events and values they do not know.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _types(table: Sequence[Operation]) -> Iterator[object]:
    """Every type that is read or shown, once."""
    seen: dict[int, object] = {id(one): one for one in (Event, ProblemDetails)}
    for operation in table:
        shown = [one for answers in operation.answers.values() for one in answers if not isinstance(one, Media)]
        for one in (*shown, operation.body):
            if one not in {NoBody, RawBody}:
                seen.setdefault(id(one), one)
    yield from seen.values()


def _operation(one: Operation, by_type: dict[int, Json]) -> dict[str, Json]:
    described: dict[str, Json] = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": [*_path_parameters(one), *_query_parameters(one)],
        "responses": _answers(one, by_type) | _errors(one),
    }
    if one.takes is not None:
        described["requestBody"] = {"required": True, "content": {name: {} for name in one.takes.content_types}}
    elif one.body is not NoBody:
        described["requestBody"] = {
            "required": not one.body_optional,
            "content": {"application/json": {"schema": by_type[id(one.body)]}},
        }
    return described


def _path_parameters(one: Operation) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(one.path)
    ]


def _query_parameters(one: Operation) -> list[Json]:
    described: dict[str, Json] = msgspec.json.schema(one.query)["$defs"][one.query.__name__]["properties"]
    parameters: list[Json] = []
    for field in struct_of(one.query).fields:
        schema = dict(described[field.encode_name])
        description = schema.pop("description", "")
        parameters.append({"name": field.encode_name, "in": "query", "description": description, "schema": schema})
    return parameters


def _answers(one: Operation, by_type: dict[int, Json]) -> dict[str, Json]:
    responses: dict[str, Json] = {}
    for status, answers in one.answers.items():
        content: dict[str, Json] = {}
        structs = [by_type[id(answer)] for answer in answers if not isinstance(answer, Media)]
        if structs:
            content["application/json"] = {"schema": structs[0] if len(structs) == 1 else {"anyOf": structs}}
        said = [answer.said for answer in answers if isinstance(answer, Media)]
        for answer in answers:
            if isinstance(answer, Media):
                content[answer.content_type] = {"schema": _carried(answer)}
        responses[str(status)] = {"description": ". ".join(said) or "As asked"}
        if content:
            responses[str(status)]["content"] = content
    return responses


def _carried(media: Media) -> Json:
    return {"$ref": REF.format(name="Event")} if media.carries is Event else {}


def codes_of(one: Operation) -> list[Code]:
    """The errors an operation may be answered with, by status."""
    codes = [*EVERYWHERE, *one.codes]
    if "{" in one.path:
        codes += WITH_PATH
    if one.body not in {NoBody, RawBody}:
        codes += WITH_BODY
    if one.path.startswith("/v1/"):
        codes += WITH_STORE
    return sorted((CODES[code] for code in dict.fromkeys(codes)), key=lambda code: (code.status, code.code))


def _errors(one: Operation) -> dict[str, Json]:
    by_status: dict[str, list[Code]] = {}
    for code in codes_of(one):
        by_status.setdefault(str(code.status), []).append(code)
    return {
        status: {
            "description": "\n".join(f"`{code.code}`: {code.title}" for code in codes),
            "content": {PROBLEM: {"schema": _problem(codes)}},
        }
        for status, codes in by_status.items()
    }


def _problem(codes: Sequence[Code]) -> Json:
    return {
        "allOf": [
            {"$ref": REF.format(name="ProblemDetails")},
            {"properties": {"code": {"enum": [code.code for code in codes]}}},
        ]
    }
