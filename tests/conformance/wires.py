"""The wires that the suite runs on, each with how its requests are read. A further wire is one line in ``WIRES``.

What is read here is what the upstream received: the history a model is given, call by call with its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from tests.e2e.house import MODELS, results_in

from legato.testing.script import Wire

Json = Any


class SentCall(NamedTuple):
    """A call as a request carries it. ``arguments`` are an object where the wire has objects, else their JSON;
    ``result`` is None where the request has none for it."""

    id: str
    name: str
    arguments: Json
    result: str | None


def _of_anthropic(body: Json) -> Iterator[tuple[str, str, Json]]:
    for message in body["messages"]:
        if message["role"] == "assistant" and isinstance(message["content"], list):
            for part in message["content"]:
                if part["type"] == "tool_use":
                    yield part["id"], part["name"], part["input"]


def _of_openai_chat(body: Json) -> Iterator[tuple[str, str, Json]]:
    for message in body["messages"]:
        for call in message.get("tool_calls") or ():
            yield call["id"], call["function"]["name"], call["function"]["arguments"]


WIRES: Mapping[Wire, Callable[[Json], Iterator[tuple[str, str, Json]]]] = {
    "anthropic": _of_anthropic,
    "openai_chat": _of_openai_chat,
}

EVERY_WIRE = pytest.mark.parametrize("wire", WIRES)

assert MODELS.keys() == WIRES.keys()


def calls_in(wire: Wire, body: Json) -> list[SentCall]:
    """The calls of a request's history, in its order."""
    results = results_in(body)
    return [SentCall(*call, results.get(call[0])) for call in WIRES[wire](body)]


def said_in(body: Json) -> str:
    """All that the history has, to be searched."""
    return str(body["messages"])
