"""What an async generator says that it gives: a stream of text, or it is told at start and not at its first call."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Mapping

_STREAMS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)


def not_a_stream_of_text(function: Callable[..., object], local_names: Mapping[str, object]) -> str | None:
    """What is wrong with its return annotation, and what to do. None where it is right, missing, or cannot be read."""
    function = inspect.unwrap(function)
    try:
        written = getattr(function, "__annotations__", {}).get("return", inspect.Signature.empty)
        if written is inspect.Signature.empty:
            return None
        holder = types.SimpleNamespace(__annotations__={"return": written})
        hints = typing.get_type_hints(holder, getattr(function, "__globals__", {}), dict(local_names))
    except Exception:  # noqa: BLE001 - evaluating an annotation runs whatever is written there; what it yields will tell
        return None
    returned = hints["return"]
    if returned in (*_STREAMS, typing.Any, object):
        return None
    if typing.get_origin(returned) not in _STREAMS:
        named = inspect.formatannotation(returned)
        return f"it yields, so it gives a stream and not {named}; write -> AsyncIterator[str]"
    pieces = (*typing.get_args(returned), typing.Any)[0]
    if isinstance(pieces, type) and pieces not in (object, typing.Any) and not issubclass(pieces, str):
        return f"it yields {pieces.__name__}, and a stream is text; yield str, or return a list"
    return None
