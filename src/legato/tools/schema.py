"""JSON Schema as a model reads it best: no titles, nothing to look up elsewhere, the short facts first.

``$defs`` are put where they are used, since several vendors' models and wires read ``$ref`` badly or not at all; only
a type that holds itself stays a definition.
"""

from __future__ import annotations

from collections.abc import Iterator

from legato.core.blocks import Json

_ONE = frozenset({"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"})
_MANY = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
# `title` repeats the name. `discriminator` is OpenAPI's, and points into `$defs`.
_NOISE = frozenset({"title", "discriminator"})
_REF = "#/$defs/"


def tidy(schema: dict[str, Json]) -> dict[str, Json]:
    """The schema of a tool's arguments, from pydantic's."""
    defs: dict[str, Json] = schema.get("$defs", {})
    recursive = {name for name in defs if name in _reached(defs, name)}
    body = {"type": "object", "properties": {}, **_tidied(schema, defs, recursive)}
    kept = {name: _tidied(defs[name], defs, recursive) for name in recursive}
    return {**body, "$defs": kept} if kept else body


def _reached(defs: dict[str, Json], start: str) -> set[str]:
    """The definitions that one leads to, itself only if it leads back."""
    found: set[str] = set()
    ahead = list(_refs(defs[start]))
    while ahead:
        name = ahead.pop()
        if name not in found and name in defs:
            found.add(name)
            ahead.extend(_refs(defs[name]))
    return found


def _refs(node: Json) -> Iterator[str]:
    if isinstance(node, dict):
        ref = node.get("$ref")
        if isinstance(ref, str) and ref.startswith(_REF):
            yield ref.removeprefix(_REF)
        for value in node.values():
            yield from _refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _refs(value)


def _tidied(node: Json, defs: dict[str, Json], recursive: set[str]) -> Json:
    """Knows which values are schemas: a property may be named ``title``, a default may look like a schema."""
    if not isinstance(node, dict):
        return node
    out: dict[str, Json] = {}
    ref = node.get("$ref")
    if isinstance(ref, str) and ref.startswith(_REF) and (name := ref.removeprefix(_REF)) not in recursive:
        out.update(_tidied(defs.get(name, {}), defs, recursive))
        node = {key: value for key, value in node.items() if key != "$ref"}
    for key, value in node.items():
        if key in _NOISE or key == "$defs":
            continue
        if key in _NAMED and isinstance(value, dict):
            out[key] = {one: _tidied(inner, defs, recursive) for one, inner in value.items()}
        elif key in _MANY and isinstance(value, list):
            out[key] = [_tidied(inner, defs, recursive) for inner in value]
        elif key in _ONE:
            out[key] = _tidied(value, defs, recursive)
        else:
            out[key] = value
    return out
