"""The document names what is served, and what is named is served (hazard 37)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest
from tests.http.edge import Edge

from legato.core import events, posts, views
from legato.core.blocks import Json
from legato.http.errors import CODES

pytestmark = pytest.mark.anyio

# OpenAPI 3.1, "Path Item Object" and "Operation Object".
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
# docs/http.md, all but what is not built yet: steer, ticket.
PATHS = {
    "/v1/turns": {"post"},
    "/v1/turns/{turn_id}": {"get"},
    "/v1/turns/{turn_id}/events": {"get"},
    "/v1/turns/{turn_id}/cancel": {"post"},
    "/v1/turns/{turn_id}/tool_results": {"post"},
    "/v1/turns/{turn_id}/steer": {"post"},
    "/v1/turns/{turn_id}/approvals": {"post"},
    "/v1/turns/{turn_id}/outputs/{call_id}": {"get"},
    "/v1/turns/{turn_id}/model_view": {"get"},
    "/v1/turns/{turn_id}/timeline": {"get"},
    "/v1/turns/{turn_id}/blocks/{index}/data": {"get"},
    "/v1/chats": {"get", "post"},
    "/v1/chats/{chat_id}": {"get", "patch", "delete"},
    "/v1/chats/{chat_id}/turns": {"get"},
    "/v1/documents": {"get"},
    "/v1/documents/search": {"get"},
    "/v1/documents/at/{path}": {"get", "put", "delete"},
    "/v1/documents/versions/{path}": {"get"},
    "/v1/documents/diff/{path}": {"get"},
    "/v1/documents/edit": {"post"},
    "/v1/documents/move": {"post"},
    "/v1/documents/restore": {"post"},
    "/v1/documents/archive": {"get", "post"},
    "/v1/tools": {"get"},
    "/v1/models": {"get"},
    "/v1/openapi.json": {"get"},
    "/livez": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
    "/errors/{code}": {"get"},
}


@pytest.fixture(scope="module")
async def document(shared_edge: Edge) -> dict[str, Json]:
    async with shared_edge.client() as client:
        answer = await client.get("/v1/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    read: dict[str, Json] = answer.json()
    return read


def operations(document: dict[str, Json]) -> Iterator[tuple[str, str, dict[str, Json]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(value: Json) -> Iterator[str]:
    match value:
        case dict():
            for key, below in value.items():
                if key == "$ref":
                    yield below
                else:
                    yield from references(below)
        case list():
            for below in value:
                yield from references(below)
        case _:
            pass


async def test_the_document_is_openapi_3_1(document: dict[str, Json]) -> None:
    assert document["openapi"] == "3.1.0"
    assert {"title", "version"} <= document["info"].keys()
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        assert path.startswith("/")
        assert method in METHODS
        inside = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
        assert inside == re.findall(r"\{(\w+)\}", path)
        assert all(one["required"] for one in operation["parameters"] if one["in"] == "path")
        assert all({"name", "in", "schema"} <= one.keys() for one in operation["parameters"])
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert response["description"]
            for media_type, content in response.get("content", {}).items():
                assert "/" in media_type
                assert isinstance(content["schema"], dict)


async def test_every_reference_leads_somewhere_and_every_schema_has_a_plain_name(document: dict[str, Json]) -> None:
    schemas = document["components"]["schemas"]
    assert {one for one in references(document) if one.removeprefix("#/components/schemas/") not in schemas} == set()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in schemas)


async def test_every_path_of_the_contract_is_named_and_no_other(document: dict[str, Json]) -> None:
    assert {path: set(methods) for path, methods in document["paths"].items()} == PATHS


async def test_what_is_named_is_served_and_what_is_served_is_named(
    shared_edge: Edge, document: dict[str, Json]
) -> None:
    async with shared_edge.client() as client:
        for path, methods in document["paths"].items():
            concrete = path.format(turn_id="t1", chat_id="c1", call_id="call_1", index=0, code="internal", path="a/b")
            allowed = set((await client.options(concrete)).headers["allow"].lower().split(", "))
            assert allowed - {"options", "head"} == set(methods)
            assert ("head" in allowed) is ("get" in methods)


async def test_every_event_is_documented_by_its_name(document: dict[str, Json]) -> None:
    schemas = document["components"]["schemas"]
    event = schemas["Event"]
    tags = {msgspec.inspect.type_info(one).tag for one in get_args(events.Event)}  # type: ignore[attr-defined]
    mapping = event["discriminator"]["mapping"]
    assert event["discriminator"]["propertyName"] == "type"
    assert set(mapping) == tags
    assert {one["$ref"] for one in event["anyOf"]} == set(mapping.values())
    for tag, reference in mapping.items():
        schema = schemas[reference.rpartition("/")[2]]
        assert schema["properties"]["type"] == {"enum": [tag]}
        assert "seq" in schema["required"]
    stream = document["paths"]["/v1/turns/{turn_id}/events"]["get"]["responses"]["200"]
    assert stream["content"]["text/event-stream"]["schema"] == {"$ref": "#/components/schemas/Event"}
    assert "204" in document["paths"]["/v1/turns/{turn_id}/events"]["get"]["responses"]


async def test_every_posted_and_shown_field_is_documented(document: dict[str, Json]) -> None:
    schemas = document["components"]["schemas"]
    for one in (
        posts.PostTurn,
        posts.PostCancel,
        posts.PostChat,
        posts.PatchChat,
        views.TurnView,
        views.ProblemDetails,
    ):
        assert set(schemas[one.__name__]["properties"]) == set(one.__struct_encode_fields__)
    assert schemas["PostTurn"]["additionalProperties"] is False


async def test_query_parameters_are_documented_with_their_bounds(document: dict[str, Json]) -> None:
    parameters = {one["name"]: one for one in document["paths"]["/v1/chats/{chat_id}/turns"]["get"]["parameters"]}
    assert set(parameters) == {"chat_id", "branch", "tree", "limit", "before"}
    assert (parameters["limit"]["schema"]["minimum"], parameters["limit"]["schema"]["maximum"]) == (1, 200)
    after = document["paths"]["/v1/turns/{turn_id}/events"]["get"]["parameters"][1]
    assert (after["name"], after["schema"]["minimum"]) == ("after", 0)


async def test_every_error_code_is_documented_with_its_status(document: dict[str, Json]) -> None:
    said: dict[str, str] = {}
    for _, _, operation in operations(document):
        for status, response in operation["responses"].items():
            problem = response.get("content", {}).get("application/problem+json")
            if problem is not None:
                for code in problem["schema"]["allOf"][1]["properties"]["code"]["enum"]:
                    said[code] = status
    said["method_not_allowed"] = "405"  # of a method that is not in the document
    assert said == {one.code: str(one.status) for one in CODES.values()}
