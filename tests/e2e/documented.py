"""Is what the server says what its OpenAPI says? Every answer and event of these tests is held to it (hazard 37).

A validator of just the JSON Schema that msgspec writes. Unlike a client, it takes no field that is not documented.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

Json = Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
}
_KNOWN = {
    "$ref", "additionalProperties", "allOf", "anyOf", "default", "description", "discriminator", "enum", "items",
    "maximum", "maxLength", "minimum", "minLength", "pattern", "properties", "required", "title", "type",
    "maxItems", "minItems", "format",
}  # fmt: skip


class Document:
    """The server's own OpenAPI document."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._paths = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operations)
            for path, operations in document["paths"].items()
        ]

    def complaints(self, method: str, path: str, status: int, content_type: str, body: bytes) -> list[str]:
        """What is wrong with an answer; of paths that are not documented nothing is."""
        operation = next((ops.get(method.lower()) for known, ops in self._paths if known.fullmatch(path)), None)
        if operation is None:
            return []
        answer = operation["responses"].get(str(status))
        where = f"{method} {path} {status}"
        if answer is None:
            return [f"{where} is not documented: {body[:200]!r}"]
        content = answer.get("content", {})
        if not body or "application/octet-stream" in content:
            return []
        kind = content_type if content_type in content else content_type.partition(";")[0]
        if kind not in content:
            return [f"{where} has {content_type or 'no type'}, documented is {[*content]}"]
        value = msgspec.json.decode(body) if kind.endswith("json") else None
        return [f"{where}{wrong}" for wrong in self._wrong(content[kind]["schema"], value, "")]

    def of_event(self, data: bytes) -> list[str]:
        schema = {"$ref": "#/components/schemas/Event"}
        return [f"{data[:200]!r}{wrong}" for wrong in self._wrong(schema, msgspec.json.decode(data), "")]

    def event_types(self) -> set[str]:
        return set(self._document["components"]["schemas"]["Event"]["discriminator"]["mapping"])

    def _wrong(self, schema: Json, value: Json, at: str) -> Iterator[str]:
        if "$ref" in schema:
            yield from self._wrong(self._found(schema["$ref"]), value, at)
            return
        unknown = schema.keys() - _KNOWN
        if unknown:
            yield f"{at}: this validator does not know {unknown}"
        for one in schema.get("allOf", ()):
            yield from self._wrong(one, value, at)
        if "anyOf" in schema:
            yield from self._of_any(schema, value, at)
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{at}: {value!r} is none of {schema['enum']}"
        expected = _TYPES.get(schema.get("type", ""))
        if expected is not None and (
            not isinstance(value, expected) or (value is True or value is False) != (bool in expected)
        ):
            yield f"{at}: {value!r} is no {schema['type']}"
        elif isinstance(value, dict):
            yield from self._of_object(schema, value, at)
        elif isinstance(value, list):
            for number, item in enumerate(value):
                yield from self._wrong(schema.get("items", {}), item, f"{at}/{number}")

    def _of_any(self, schema: Json, value: Json, at: str) -> Iterator[str]:
        chosen = schema.get("discriminator")
        if chosen is not None and isinstance(value, dict):
            tag = value.get(chosen["propertyName"])
            if tag not in chosen["mapping"]:
                yield f"{at}: {tag!r} is not documented"
                return
            yield from self._wrong({"$ref": chosen["mapping"][tag]}, value, at)
            return
        tried = [list(self._wrong(one, value, at)) for one in schema["anyOf"]]
        if all(tried):
            yield min(tried, key=len)[0]

    def _of_object(self, schema: Json, value: dict[str, Json], at: str) -> Iterator[str]:
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{at}/{name} is missing"
        for name, item in value.items():
            if name in properties:
                yield from self._wrong(properties[name], item, f"{at}/{name}")
            elif "title" in schema and properties:
                yield f"{at}/{name} is not documented"
            elif isinstance(schema.get("additionalProperties"), dict):
                yield from self._wrong(schema["additionalProperties"], item, f"{at}/{name}")

    def _found(self, ref: str) -> Json:
        found = self._document
        for step in ref.removeprefix("#/").split("/"):
            found = found[step]
        return found
