"""`legato approve` and `legato answer`: what a person or a client says to a call that waits for it."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from legato.cli.api import Api, connected, turn_path
from legato.cli.brief import call_line
from legato.cli.failures import MISUSED, Failed
from legato.cli.hints import hint
from legato.cli.seen import SeenTurn, SeenWaiting
from legato.cli.untrusted import clean, one_line
from legato.core.blocks import Json

_ARGUMENTS_MAX = 200
PEOPLE = ("approval", "input")
"""Kinds of needs that `approve` answers."""
CLIENTS = ("client_tool",)
"""Likewise `answer`."""


def approve(url: str, turn_id: str, call_id: str | None, *, deny: bool, reason: str | None, given: str | None) -> int:
    if deny and given is not None:
        raise Failed("--input goes with a yes; say why not with --reason", exit_code=MISUSED)
    if reason is not None and not deny:
        raise Failed("--reason goes with --deny; a yes needs none", exit_code=MISUSED)
    body: dict[str, Json] = {"decision": "deny" if deny else "approve"}
    if reason is not None:
        body["reason"] = reason
    if given is not None:
        body["input"] = _json("--input", given)
        if not isinstance(body["input"], dict):
            raise Failed('--input: expected a JSON object, as {"name": "value"}', exit_code=MISUSED)
    return asyncio.run(_approve(url, turn_id, call_id, body))


def answer(url: str, turn_id: str, call_id: str | None, *, output: str | None, error: str | None) -> int:
    if (output is None) == (error is None):
        raise Failed("needs either --output JSON or --error TEXT", exit_code=MISUSED)
    said: dict[str, Json] = {"error": error} if output is None else {"output": _json("--output", output)}
    return asyncio.run(_answer(url, turn_id, call_id, said))


async def _approve(url: str, turn_id: str, call_id: str | None, body: dict[str, Json]) -> int:
    async with connected(url) as api:
        turn = await _turn(api, turn_id)
        call_id = call_id or _only(turn, PEOPLE, url).call_id
        which = [need.nr for need in turn.waiting_for if need.call_id == call_id and need.nr is not None]
        body = {"call_id": call_id, **body, **({"nr": which[0]} if which else {})}
        await api.send("POST", f"{turn_path(turn_id)}/approvals", body, SeenTurn)
        _say("denied" if body["decision"] == "deny" else "approved", turn, call_id, body.get("input"))
    return 0


async def _answer(url: str, turn_id: str, call_id: str | None, said: dict[str, Json]) -> int:
    async with connected(url) as api:
        turn = await _turn(api, turn_id)
        call_id = call_id or _only(turn, CLIENTS, url).call_id
        body: dict[str, Json] = {"results": [{"call_id": call_id, **said}]}
        await api.send("POST", f"{turn_path(turn_id)}/tool_results", body, SeenTurn)
        _say("answered", turn, call_id, None)
    return 0


async def _turn(api: Api, turn_id: str) -> SeenTurn:
    return await api.get(turn_path(turn_id), SeenTurn)


def _only(turn: SeenTurn, kinds: tuple[str, ...], url: str) -> SeenWaiting:
    """The one call that can be meant. Raises ``Failed`` where there is none, or a choice."""
    found = [need for need in turn.waiting_for if need.kind in kinds]
    if len(found) == 1:
        return found[0]
    if found:
        raise Failed(f"{len(found)} calls wait; name one: " + "; ".join(_choice(turn, need) for need in found))
    others = [need for need in turn.waiting_for if need.kind not in kinds]
    if others:
        instead = "answer" if kinds == PEOPLE else "approve"
        whom = "a person" if others[0].kind in PEOPLE else "its client"
        raise Failed(f"what waits here waits for {whom}: {hint(instead, turn.id, others[0].call_id, url=url)}")
    raise Failed(f"nothing of turn {clean(turn.id)} waits: it is {clean(turn.status)}")


def _choice(turn: SeenTurn, need: SeenWaiting) -> str:
    asks = f" asks {one_line(need.message, _ARGUMENTS_MAX)}" if need.message else ""
    return f"{clean(need.call_id)} {call_line(turn, need.call_id)}{asks}"


def _say(what: str, turn: SeenTurn, call_id: str, given: Json) -> None:
    asks = any(need.call_id == call_id and need.kind == "input" for need in turn.waiting_for)
    sys.stdout.write(f"{what}: {call_line(turn, call_id, None if asks else given)}\n")


def _json(option: str, text: str) -> Json:
    """``-`` is what is piped in."""
    try:
        value: Json = msgspec.json.decode(sys.stdin.buffer.read() if text == "-" else text.encode())
    except msgspec.DecodeError as error:
        raise Failed(f"{option}: expected JSON: {error}", exit_code=MISUSED) from error
    return value
