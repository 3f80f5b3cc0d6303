"""A vendor that fails: asked again before anything was seen, gone on from after it (hazards 20, 21)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import anyio
import pytest
from tests.e2e.house import MODELS, Json, configured, playing, results_in, serving, unpaired, upstream_environ

from legato import tool
from legato.core import events as e
from legato.core.blocks import TextBlock, ToolResultBlock
from legato.core.fold import Turn, fold
from legato.testing.script import Wire
from legato.testing.upstream import (
    Answer,
    Call,
    Cut,
    ErrorEvent,
    Failure,
    Gate,
    HangUp,
    Request,
    Say,
    Script,
    Stall,
    Think,
    Upstream,
)

WIRES = pytest.mark.parametrize("wire", get_args(Wire))
YES = Script([Say("Here it is.")])


@tool(effect="read")
async def quick(what: str) -> str:
    """Comes back at once."""
    return f"seen {what}"


@tool(effect="write")
async def save(what: str) -> str:
    """With effects."""
    return f"saved {what}"


def patience(**settings: float) -> dict[str, Json]:
    """The same settings for both vendors, as flags."""
    return {f"providers__{name}__{key}": one for name in ("anthropic", "openai") for key, one in settings.items()}


def by_name(plays: Mapping[str, list[Answer]]) -> tuple[Callable[[Request], Answer], Counter[str]]:
    """Many turns at once, each named by what its user says first: the n-th request of one gets its n-th answer."""
    asked: Counter[str] = Counter()

    def answer(request: Request) -> Answer:
        said = next(message for message in request.body["messages"] if message["role"] == "user")["content"]
        name = (said if isinstance(said, str) else said[0]["text"]).partition("\n")[0]
        asked[name] += 1
        return plays[name][asked[name] - 1]

    return answer, asked


async def play_all(
    folder: Path, wire: Wire, plays: Mapping[str, list[Answer]], **flags: Json
) -> tuple[dict[str, list[e.Event]], Counter[str], Upstream]:
    """Each play in a turn of its own, all at once; and then each chat is spoken to again."""
    answer, asked = by_name({name: [*answers, YES] for name, answers in plays.items()})
    said: dict[str, list[e.Event]] = {}
    async with Upstream.open(default=answer) as upstream:
        environ = upstream_environ(upstream)
        config = configured(folder, environ=environ, providers__openai__seal="object", **flags)
        async with serving(config, tools=(quick, save), grace=0.05) as house:

            async def one(name: str) -> None:
                started = await house.post(name, model=MODELS[wire])
                said[name] = await house.followed(started["assistant_turn"]["id"], each=True)
                counted = asked[name]
                again = await house.folded(
                    await house.ask("And now?", chat_id=started["chat"]["id"], model=MODELS[wire])
                )
                assert again.status == "complete", name
                asked[name] = counted

            async with anyio.create_task_group() as tasks:
                for name in plays:
                    tasks.start_soon(one, name)
        assert upstream.refused == []
        assert not any(unpaired(request.body) for request in upstream.requests)
    return said, asked, upstream


def text_of(turn: Turn) -> list[str]:
    return [block.text for block in turn.blocks if isinstance(block, TextBlock)]


def notices(events: list[e.Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, e.Notice)]


BEFORE_ANYTHING: dict[str, Answer] = {
    "rate limit": Failure("rate_limit", retry_after="0"),
    "overloaded": Failure("overloaded"),
    "server error": Failure("server_error"),
    "bad gateway": Failure("bad_gateway"),
    "timeout": Failure("timeout"),
    "reset before the headers": HangUp("reset"),
    "closed before the headers": HangUp("eof"),
    "cut behind the headers": Script([Cut()]),
    "reset behind the headers": Script([Cut(how="reset")]),
    "ended without a word": Script([Cut(how="complete")]),
    "an error event behind the headers": Script([ErrorEvent()]),
    "silence": Script([Say("Too late.")], lag=3600),
    "pings and no word": Script([Stall(pings=0.05)]),
}


@WIRES
async def test_a_response_that_dies_before_its_first_block_is_asked_again(wire: Wire, tmp_path: Path) -> None:
    """Hazards 20, 21: nobody had seen anything, and nobody sees it twice."""
    plays = {name: [answer, YES] for name, answer in BEFORE_ANYTHING.items()}
    flags = patience(first_event_timeout=1.0, idle_timeout=1.0, pings_timeout=1.0)
    said, asked, upstream = await play_all(tmp_path, wire, plays, **flags)
    for name, events in said.items():
        turn = fold(events)
        assert (turn.status, text_of(turn)) == ("complete", ["Here it is."]), name
        assert [(one.round, one.attempt, one.commitment) for one in turn.rounds] == [
            (1, 1, "orphaned"),
            (1, 2, "committed"),
        ], name
        assert notices(events) == ["provider_retry"], name
    assert asked == dict.fromkeys(plays, 2)
    bodies = [request.body for request in upstream.requests]
    assert all(bodies.count(body) == 2 for body in bodies if len(body["messages"]) == 1 + ("system" not in body))


@WIRES
async def test_a_vendor_that_is_not_there_is_asked_again(wire: Wire, tmp_path: Path) -> None:
    """Connection refused, until somebody listens."""
    async with playing(tmp_path) as (house, upstream):
        await upstream.stop_listening()
        turn_id = await house.ask("Talk", model=MODELS[wire])
        await house.until(turn_id, lambda event: isinstance(event, e.Notice) and event.code == "provider_retry")
        await upstream.listen()
        upstream.enqueue(YES)
        turn = await house.folded(turn_id)
    assert text_of(turn) == ["Here it is."]


FOR_GOOD: dict[str, tuple[Answer, int]] = {
    "auth": (Failure("auth"), 401),
    "invalid request": (Failure("invalid_request"), 400),
    "not found": (Failure("not_found"), 404),
    "context overflow": (Failure("context_overflow"), 400),
    "too large": (Failure("too_large"), 413),
}


@WIRES
async def test_what_would_fail_again_is_not_asked_again(wire: Wire, tmp_path: Path) -> None:
    plays = {name: [answer] for name, (answer, _) in FOR_GOOD.items()}
    said, asked, _ = await play_all(tmp_path, wire, plays)
    for name, events in said.items():
        turn = fold(events)
        assert (turn.status, turn.stop_reason, turn.blocks) == ("error", "error", ())
        assert turn.error is not None
        assert (turn.error.retryable, turn.error.provider_status) == (False, FOR_GOOD[name][1])
        assert turn.error.provider == ("anthropic" if wire == "anthropic" else "openai")
    assert asked == dict.fromkeys(plays, 1)


@WIRES
@pytest.mark.parametrize("retries", [0, 1])
async def test_a_vendor_that_goes_on_failing_is_asked_as_often_as_configured(
    retries: int, wire: Wire, tmp_path: Path
) -> None:
    async with playing(tmp_path, **patience(max_retries=retries)) as (house, upstream):
        upstream.enqueue(*[Failure("overloaded")] * 5)
        turn_id = await house.ask("Talk", model=MODELS[wire])
        turn = await house.folded(turn_id)
        view = await house.turn(turn_id)
        assert len(upstream.requests) == retries + 1
    assert turn.error is not None
    assert (turn.status, turn.error.code, turn.error.retryable) == ("error", "provider_overloaded", True)
    assert [one["commitment"] for one in view["rounds"]] == ["orphaned"] * (retries + 1)
    assert [one["attempt"] for one in view["rounds"]] == list(range(1, retries + 2))


DEATHS: dict[str, list[Call | Cut | ErrorEvent | Stall]] = {
    "cut": [Cut()],
    "cut in a frame": [Cut(into=20)],
    "reset": [Cut(how="reset")],
    "ended without an end": [Cut(how="complete")],
    "error event": [ErrorEvent()],
    "silence": [Stall()],
    "pings": [Stall(pings=0.05)],
    "white space without end": [Call("endless", raw='{"what": ' + " " * 1_000_000, piece=4_096)],
    "arguments without end": [Call("endless", raw='{"what": [' + "1, " * 400_000, piece=4_096)],
}


@WIRES
async def test_a_response_that_dies_after_visible_text_ends_the_turn_and_keeps_the_text(
    wire: Wire, tmp_path: Path
) -> None:
    """Hazards 20, 21: never asked again in front of a reader. The next turn reads what was said."""
    flags = patience(idle_timeout=0.5, pings_timeout=0.5)
    flags["limits__argument_bytes"] = 50_000
    plays: dict[str, list[Answer]] = {
        name: [Script([Think("Hm."), Say("As far as this"), *death, Say("…")])] for name, death in DEATHS.items()
    }
    said, asked, upstream = await play_all(tmp_path, wire, plays, **flags)
    for name, events in said.items():
        turn = fold(events)
        assert turn.error is not None
        assert (turn.status, turn.error.retryable, text_of(turn)) == ("error", True, ["As far as this"]), name
        assert (turn.error.code == "provider_runaway") == name.endswith("without end"), name
        assert [one.commitment for one in turn.rounds] == ["adopted"], name
        assert "provider_retry" not in notices(events), name
    assert asked == dict.fromkeys(plays, 1)
    later = [str(request.body["messages"]) for request in upstream.requests if "And now?" in str(request.body)]
    assert len(later) == len(plays)
    assert all("As far as this" in messages for messages in later)


@WIRES
async def test_a_response_that_dies_after_a_sealed_call_is_adopted_and_gone_on_from(wire: Wire, tmp_path: Path) -> None:
    """Its calls stand, held ones are answered, what came after them is seen and not sent."""
    flags = patience(idle_timeout=0.5, pings_timeout=0.5)
    flags["limits__argument_bytes"] = 50_000
    plays: dict[str, list[Answer]] = {
        name: [
            Script(
                [
                    Say("I look."),
                    Call("quick", {"what": name}),
                    Call("save", {"what": name}),
                    Say("And then the li"),
                    *death,
                    Say("…"),
                ]
            ),
            YES,
        ]
        for name, death in DEATHS.items()
    }
    said, asked, upstream = await play_all(tmp_path, wire, plays, **flags)
    for name, events in said.items():
        turn = fold(events)
        assert (turn.status, turn.error) == ("complete", None), name
        assert text_of(turn) == ["I look.", "And then the li", "Here it is."], name
        first, second = turn.rounds
        assert (first.commitment, second.commitment) == ("adopted", "committed"), name
        results = {block.tool_name: block for block in turn.blocks if isinstance(block, ToolResultBlock)}
        assert (results["quick"].output, results["save"].outcome) == (f"seen {name}", "error")
        assert not any(isinstance(event, e.ToolStart) and event.tool_name == "save" for event in events)
        assert "provider_failed" in notices(events), name
    assert asked == dict.fromkeys(plays, 2)
    second_requests = [
        request.body
        for request in upstream.requests
        if results_in(request.body) and "Here it is" not in str(request.body["messages"])
    ]
    assert len(second_requests) == len(plays)
    for body in second_requests:
        sent = list(results_in(body).values())
        assert sent[0].startswith("seen ")
        assert "interrupted" in sent[1]
        assert "And then the li" not in str(body["messages"])


@WIRES
async def test_a_read_that_runs_while_its_response_dies_finishes_and_is_sent(wire: Wire, tmp_path: Path) -> None:
    go = anyio.Event()

    @tool(effect="read")
    async def slow() -> str:
        """Waits for its word."""
        await go.wait()
        return "worth the wait"

    async with playing(tmp_path, tools=(slow,)) as (house, upstream):
        upstream.enqueue(Script([Call("slow"), Gate("running"), Say("Meanwhi"), Cut()]), YES)
        turn_id = await house.ask("Go", model=MODELS[wire])
        await house.until(turn_id, lambda event: isinstance(event, e.ToolStart))
        upstream.release("running")
        await house.until(turn_id, lambda event: isinstance(event, e.RoundStop))
        go.set()
        turn = await house.folded(turn_id)
        sent = results_in(upstream.requests[1].body)
    assert turn.status == "complete"
    assert list(sent.values()) == ["worth the wait"]


def test_what_is_played_by_name_is_the_n_th_answer_of_its_name() -> None:
    answer, asked = by_name({"a": [YES, Script([])]})
    body = {"messages": [{"role": "user", "content": "a"}]}
    request = Request(number=1, wire="anthropic", path="", headers={}, body=body, raw=b"", at=0)
    assert answer(request) is YES
    assert answer(request) != YES
    assert asked == {"a": 2}
