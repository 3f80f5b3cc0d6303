"""Request headers out of an ASGI scope. A header may come more than once; only its user knows what that means."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.types import Scope


def values(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header, in order, without surrounding space. ``name`` is lower case."""
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]


def has_body(scope: Scope) -> bool:
    """Whether a body follows the head, by what the head says."""
    return bool(values(scope, b"transfer-encoding")) or any(one != "0" for one in values(scope, b"content-length"))


def wants_event_stream(scope: Scope) -> bool:
    """Whether ``Accept`` names ``text/event-stream``, and likes it no less than JSON. Wildcards do not name it."""
    liked = dict(_weights(",".join(values(scope, b"accept"))))
    stream = liked.get("text/event-stream", 0.0)
    return stream > 0 and stream >= liked.get("application/json", 0.0)


def _weights(accept: str) -> Iterator[tuple[str, float]]:
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        yield media_type, next((_weight(one[2:]) for one in parameters if one.startswith("q=")), 1.0)


def _weight(text: str) -> float:
    """A q-value; one that is none counts as 1, as if it had not been said."""
    try:
        weight = float(text)
    except ValueError:
        return 1.0
    return weight if 0 <= weight <= 1 else 1.0
