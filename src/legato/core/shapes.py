"""What can be said of an object by its JSON Schema without running a stranger's patterns: names and plain types."""

from __future__ import annotations

from collections.abc import Mapping

from legato.core.blocks import Json

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int, float),  # 5.0 is the integer 5
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def misfit(value: dict[str, Json], schema: dict[str, Json]) -> str | None:
    """What is missing, or of another type than its property has; None where nothing is. What a schema says besides is
    for whoever made it: one pattern can hold the loop for good."""
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if isinstance(name, str) and name not in value:
            return f"{name} is required, and missing"
    properties = schema.get("properties")
    for name, one in value.items():
        declared = properties.get(name) if isinstance(properties, dict) else None
        kind = declared.get("type") if isinstance(declared, dict) else None
        if isinstance(kind, str) and kind in _TYPES and not _is(one, kind):
            return f"{name}: expected {kind}, got {type(one).__name__}"
    return None


def _is(value: Json, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])
