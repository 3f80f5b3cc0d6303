"""What people and clients say to calls that wait for them, over HTTP and both wires (docs/http.md, TOOLS 2; P2, P3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import anyio
import pytest
from tests.e2e.asking import PICK, answer, asked, give, has_given, rests, result, results
from tests.e2e.house import MODELS, Json, playing, results_in, unpaired

from legato import InputNeeded, ToolContext, tool
from legato.core import events as e
from legato.core.blocks import ToolUseBlock
from legato.core.records import Answer
from legato.testing.script import Wire
from legato.testing.upstream import Call, Gate, Say, Script

WIRES = pytest.mark.parametrize("wire", get_args(Wire))


class Desk:
    """Tools that need a yes, and what they did."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []

        @tool(effect="write", needs_approval=True)
        async def drop(name: str) -> str:
            """Drop something, if a person agrees."""
            self.ran.append(("drop", name))
            return f"dropped {name}"

        @tool(effect="read", needs_approval=lambda given: given["name"] == "secret")
        async def peek(name: str) -> str:
            """Look at something; at secrets, if a person agrees."""
            self.ran.append(("peek", name))
            return f"saw {name}"

        self.tools = (drop, peek)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def arguments_in(body: Json) -> list[Json]:
    """Of the calls that a request sends, on both wires."""
    found = []
    for message in body["messages"]:
        found += [json.loads(call["function"]["arguments"]) for call in message.get("tool_calls") or ()]
        content = message["content"] if isinstance(message.get("content"), list) else ()
        found += [part["input"] for part in content if part.get("type") == "tool_use"]
    return found


# Approvals


@WIRES
async def test_a_yes_given_while_the_model_still_talks_lets_the_call_run_once_the_response_has_ended(
    wire: Wire, desk: Desk, tmp_path: Path
) -> None:
    """The need is said at the seal, the stream stands behind it; a person's time overlaps the stream."""
    async with playing(tmp_path, tools=desk.tools) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"}), Gate("talking"), Say("Still talking.")]))
        turn_id = await house.ask("Drop it", model=MODELS[wire])
        (need,) = await asked(house, turn_id)
        view = await house.turn(turn_id)
        answered = await answer(house, turn_id, need.call_id)
        assert desk.ran == []
        upstream.release("talking")
        events = await house.followed(turn_id, each=True)
        turn = await house.folded(turn_id)
    assert view["status"] == "running"
    assert view["waiting_for"] == [{"call_id": need.call_id, "kind": "approval"}]
    assert answered["waiting_for"] == []
    kinds = [type(event) for event in events]
    assert kinds.index(e.CallWaiting) < kinds.index(e.CallAnswered) < kinds.index(e.RoundStop)
    assert kinds.index(e.RoundStop) < kinds.index(e.ToolStart)
    assert e.TurnWaiting not in kinds
    assert desk.ran == [("drop", "a")]
    assert (turn.status, result(turn).outcome, result(turn).output) == ("complete", "ok", "dropped a")


@WIRES
async def test_a_call_runs_on_the_arguments_a_person_puts_in_and_the_history_keeps_the_models(
    wire: Wire, desk: Desk, tmp_path: Path
) -> None:
    async with playing(tmp_path, tools=desk.tools) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "all"})]), Script([Say("Done.")]))
        turn_id = await house.ask("Drop it", model=MODELS[wire])
        (need,) = await asked(house, turn_id)
        await rests(house, turn_id)
        await answer(house, turn_id, need.call_id, input={"name": "one"})
        turn = await house.folded(turn_id)
        view = await house.turn(turn_id)
    assert desk.ran == [("drop", "one")]
    assert (result(turn).output, result(turn).ran_input) == ("dropped one", {"name": "one"})
    (use,) = (block for block in turn.blocks if isinstance(block, ToolUseBlock))
    assert use.input == {"name": "all"}
    assert [block.get("ran_input") for block in view["blocks"] if block["type"] == "tool_result"] == [{"name": "one"}]
    sent = upstream.requests[-1].body
    assert arguments_in(sent) == [{"name": "all"}]
    assert list(results_in(sent).values()) == ["dropped one"]
    assert unpaired(sent) == []
    assert upstream.refused == []


async def test_arguments_the_tool_does_not_take_are_refused_with_their_place_and_the_call_waits_on(
    desk: Desk, tmp_path: Path
) -> None:
    async with playing(tmp_path, tools=desk.tools) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"})]))
        turn_id = await house.ask("Drop it", model=MODELS["anthropic"])
        (need,) = await asked(house, turn_id)
        refused = await answer(house, turn_id, need.call_id, input={"nam": "a"}, status=422)
        beside = await answer(house, turn_id, need.call_id, input={"name": "b"}, decision="deny", status=422)
        await rests(house, turn_id)
        again = await answer(house, turn_id, need.call_id, input={"name": 7}, status=422)
        view = await house.turn(turn_id)
        await answer(house, turn_id, need.call_id)
        turn = await house.folded(turn_id)
    for problem in (refused, beside, again):
        assert (problem["code"], problem["errors"][0]["path"]) == ("invalid_request", "/input")
    assert "nam" in refused["detail"]
    assert view["waiting_for"] == [{"call_id": need.call_id, "kind": "approval"}]
    assert result(turn).output == "dropped a"


@WIRES
async def test_a_no_is_a_result_whose_reason_the_model_reads(wire: Wire, desk: Desk, tmp_path: Path) -> None:
    async with playing(tmp_path, tools=desk.tools) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"})]), Script([Say("I will not.")]))
        turn_id = await house.ask("Drop it", model=MODELS[wire])
        (need,) = await asked(house, turn_id)
        await answer(house, turn_id, need.call_id, decision="deny", reason="it is still used")
        turn = await house.folded(turn_id)
    assert desk.ran == []
    assert result(turn).outcome == "denied"
    (read,) = results_in(upstream.requests[-1].body).values()
    assert "it is still used" in read


async def test_the_second_click_changes_nothing_and_another_answer_is_too_late(desk: Desk, tmp_path: Path) -> None:
    """Before the turn goes on, while it runs, and after its end."""
    async with playing(tmp_path, tools=desk.tools) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"}), Gate("talking")]), Script([Gate("second")]))
        turn_id = await house.ask("Drop it", model=MODELS["anthropic"])
        (need,) = await asked(house, turn_id)
        await answer(house, turn_id, need.call_id)
        codes = []
        for gate in ("talking", "second", None):
            await answer(house, turn_id, need.call_id)
            codes.append((await answer(house, turn_id, need.call_id, decision="deny", status=409))["code"])
            codes.append((await answer(house, turn_id, need.call_id, input={"name": "b"}, status=409))["code"])
            if gate is not None:
                upstream.release(gate)
                await (upstream.reached("second") if gate == "talking" else house.followed(turn_id))
    assert set(codes) == {"already_answered"}
    assert desk.ran == [("drop", "a")]


async def test_an_answer_that_nobody_asked_for_is_refused_by_its_own_name(desk: Desk, tmp_path: Path) -> None:
    async with playing(tmp_path, tools=desk.tools) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"}), Call("pick"), Call("peek", {"name": "b"})]))
        turn_id = await house.ask("Do it", model=MODELS["anthropic"], client_tools=[PICK])
        await rests(house, turn_id)
        view = await house.turn(turn_id)
        ids = {block["tool_name"]: block["call_id"] for block in view["blocks"] if block["type"] == "tool_use"}
        nobody = await answer(house, turn_id, "nobody", status=404)
        ran = await answer(house, turn_id, ids["peek"], status=404)
        no_turn = await answer(house, "no-turn", ids["drop"], status=404)
        of_client = await answer(house, turn_id, ids["pick"], status=422)
        of_person = await give(house, turn_id, {"call_id": ids["drop"], "output": 1}, status=422)
        await house.cancel(turn_id)
        await house.followed(turn_id)
        late = await answer(house, turn_id, ids["drop"], status=409)
        late_result = await give(house, turn_id, {"call_id": ids["pick"], "output": 1}, status=409)
    assert [problem["code"] for problem in (nobody, ran, no_turn)] == ["unknown_call", "unknown_call", "not_found"]
    assert (of_client["errors"][0]["path"], of_person["errors"][0]["path"]) == ("/call_id", "/results/0/call_id")
    assert "tool_results" in of_client["detail"]
    assert "approvals" in of_person["detail"]
    assert [problem["code"] for problem in (late, late_result)] == ["turn_ended", "turn_ended"]
    assert desk.ran == [("peek", "b")]


@WIRES
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_two_answers_in_any_order_run_the_calls_in_the_models_order(
    order: tuple[int, int], wire: Wire, desk: Desk, tmp_path: Path
) -> None:
    """One lane: the second waits for the first, though its yes came earlier."""
    async with playing(tmp_path, tools=desk.tools) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"}), Call("drop", {"name": "b"})]), Script([Say("Done.")]))
        turn_id = await house.ask("Drop both", model=MODELS[wire])
        needs = await asked(house, turn_id, times=2)
        seq = await rests(house, turn_id)
        await answer(house, turn_id, needs[order[0]].call_id)
        if order == (0, 1):
            # The first runs at once, whatever the second still waits for.
            await house.until(turn_id, has_given("dropped a"))
        await rests(house, turn_id, after=seq)
        between = list(desk.ran)
        await answer(house, turn_id, needs[order[1]].call_id)
        turn = await house.folded(turn_id)
    assert between == ([("drop", "a")] if order == (0, 1) else [])
    assert desk.ran == [("drop", "a"), ("drop", "b")]
    assert [results(turn)[need.call_id].output for need in needs] == ["dropped a", "dropped b"]
    assert list(results_in(upstream.requests[-1].body).values()) == ["dropped a", "dropped b"]


@WIRES
async def test_a_read_that_needs_a_yes_starts_with_it_while_the_model_still_talks(
    wire: Wire, desk: Desk, tmp_path: Path
) -> None:
    """Its sibling, which needs none, does not wait."""
    async with playing(tmp_path, tools=desk.tools) as (house, upstream):
        calls = [Call("peek", {"name": "secret"}), Call("peek", {"name": "open"})]
        upstream.enqueue(Script([*calls, Gate("talking"), Say("Still talking.")]))
        turn_id = await house.ask("Look", model=MODELS[wire])
        (need,) = await asked(house, turn_id)
        await house.until(turn_id, has_given("saw open"))
        assert desk.ran == [("peek", "open")]
        await answer(house, turn_id, need.call_id)
        await house.until(turn_id, has_given("saw secret"))
        upstream.release("talking")
        turn = await house.folded(turn_id)
    assert desk.ran == [("peek", "open"), ("peek", "secret")]
    assert [one.output for one in results(turn).values()] == ["saw open", "saw secret"]


# Clients' tools


@WIRES
async def test_a_client_gives_what_its_tool_found_and_the_model_goes_on(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Pick one."), Call("pick", {"of": [1, 2]})]), Script([Say("Two it is.")]))
        turn_id = await house.ask("Choose", model=MODELS[wire], client_tools=[PICK])
        (need,) = await asked(house, turn_id)
        await rests(house, turn_id)
        view = await house.turn(turn_id)
        went_on = await give(house, turn_id, {"call_id": need.call_id, "output": {"picked": 2}})
        turn = await house.folded(turn_id)
        repeated = await give(house, turn_id, {"call_id": need.call_id, "output": {"picked": 2}})
        other = await give(house, turn_id, {"call_id": need.call_id, "output": {"picked": 1}}, status=409)
    assert (need.kind, view["status"]) == ("client_tool", "waiting")
    assert view["waiting_for"] == [{"call_id": need.call_id, "kind": "client_tool"}]
    (use,) = (block for block in view["blocks"] if block["type"] == "tool_use")
    assert (use["origin"], use["input"]) == ("client", {"of": [1, 2]})
    assert went_on["id"] == turn_id
    assert (turn.status, result(turn).outcome, result(turn).output) == ("complete", "ok", {"picked": 2})
    assert result(turn).origin == "client"
    assert list(results_in(upstream.requests[-1].body).values()) == ['{"picked":2}']
    assert (repeated["status"], other["code"]) == ("complete", "already_answered")


async def test_a_client_is_asked_only_once_the_response_has_ended_well(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Call("pick"), Gate("talking")]))
        turn_id = await house.ask("Choose", model=MODELS["anthropic"], client_tools=[PICK])
        await house.until(turn_id, lambda event: isinstance(event, e.BlockStop))
        assert (await house.turn(turn_id))["waiting_for"] == []
        upstream.release("talking")
        (need,) = await asked(house, turn_id)
        await give(house, turn_id, {"call_id": need.call_id, "output": None})
        events = await house.followed(turn_id)
    kinds = [type(event) for event in events]
    assert kinds.index(e.RoundStop) < kinds.index(e.CallWaiting)


async def test_what_a_client_could_not_do_is_an_error_the_model_reads(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Call("pick")]), Script([Say("Too bad.")]))
        turn_id = await house.ask("Choose", model=MODELS["anthropic"], client_tools=[PICK])
        (need,) = await asked(house, turn_id)
        await give(house, turn_id, {"call_id": need.call_id, "error": "the window was closed"})
        turn = await house.folded(turn_id)
    block = result(turn)
    assert block.outcome == "error"
    assert (block.error.code, block.error.message) == ("client_error", "the window was closed")  # type: ignore[union-attr]
    assert "the window was closed" in next(iter(results_in(upstream.requests[-1].body).values()))


async def test_several_results_are_kept_all_or_none(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Call("pick", {"nr": number}) for number in range(3)]), Script([Say("Good.")]))
        turn_id = await house.ask("Choose", model=MODELS["anthropic"], client_tools=[PICK])
        needs = await asked(house, turn_id, times=3)
        await rests(house, turn_id)
        first, second, third = (need.call_id for need in needs)
        one = {"call_id": first, "output": "one"}
        refused = [
            await give(house, turn_id, one, {"call_id": "nobody", "output": "x"}, status=404),
            await give(house, turn_id, one, {"call_id": first, "output": "twice"}, status=422),
            await give(house, turn_id, one, {"call_id": second}, status=422),
            await give(house, turn_id, one, {"call_id": second, "output": 1, "error": "both"}, status=422),
            await give(house, turn_id, one, {"call_id": second, "outptu": 1}, status=422),
        ]
        view = await house.turn(turn_id)
        assert len(view["waiting_for"]) == 3
        await give(house, turn_id, one, {"call_id": second, "output": "two"})
        await give(house, turn_id, {"call_id": second, "output": "2"}, {"call_id": third, "output": "3"}, status=409)
        await give(house, turn_id, {"call_id": third, "output": "three"})
        turn = await house.folded(turn_id)
    paths = [problem.get("errors", [{"path": None}])[0]["path"] for problem in refused]
    assert paths == [None, "/results/1/call_id", "/results/1", "/results/1", "/results/1/outptu"]
    assert "did you mean `output`" in refused[-1]["detail"]
    assert [results(turn)[call_id].output for call_id in (first, second, third)] == ["one", "two", "three"]


async def test_a_result_over_its_bound_names_the_bound_and_one_below_it_is_taken(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Call("pick")]))
        turn_id = await house.ask("Choose", model=MODELS["anthropic"], client_tools=[PICK])
        (need,) = await asked(house, turn_id)
        most = 1_048_576
        too_large = await give(house, turn_id, {"call_id": need.call_id, "output": "x" * (most - 1)}, status=422)
        many = [{"call_id": f"c{number}", "output": 1} for number in range(129)]
        too_many = await give(house, turn_id, *many, status=422)
        none = await give(house, turn_id, status=422)
        await give(house, turn_id, {"call_id": need.call_id, "output": "x" * (most - 2)})
        turn = await house.folded(turn_id)
    assert (too_large["limit"], too_large["actual"], too_large["errors"][0]["path"]) == (
        most,
        most + 1,
        "/results/0/output",
    )
    assert "128" in too_many["detail"]
    assert (too_many["errors"][0]["path"], none["errors"][0]["path"]) == ("/results", "/results")
    assert len(str(result(turn).output)) == most - 2


async def test_a_reason_or_an_error_over_its_bound_is_refused(desk: Desk, tmp_path: Path) -> None:
    async with playing(tmp_path, tools=desk.tools) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"}), Call("pick")]))
        turn_id = await house.ask("Do it", model=MODELS["anthropic"], client_tools=[PICK])
        needs = {need.kind: need.call_id for need in await asked(house, turn_id, times=2)}
        reason = await answer(house, turn_id, needs["approval"], decision="deny", reason="x" * 2001, status=422)
        error = await give(house, turn_id, {"call_id": needs["client_tool"], "error": "x" * 8193}, status=422)
        unknown = await answer(house, turn_id, needs["approval"], reson="x", status=422)
        decision = await answer(house, turn_id, needs["approval"], decision="maybe", status=422)
    assert [problem["errors"][0]["path"] for problem in (reason, error, unknown, decision)] == [
        "/reason",
        "/results/0/error",
        "/reson",
        "/decision",
    ]


# What a tool asks


async def test_a_running_tool_asks_and_goes_on_with_what_a_person_says(tmp_path: Path) -> None:
    """The process keeps the turn: it runs, and says what it waits for."""
    schema: Json = {"type": "object", "properties": {"shelf": {"type": "integer"}}}
    told: list[Answer] = []

    @tool(effect="read")
    async def ask_where(*, ctx: ToolContext) -> str:
        """Ask a person where it is."""
        told.append(await ctx.ask("Which shelf?", input_schema=schema))
        return "found"

    async with playing(tmp_path, tools=(ask_where,)) as (house, upstream):
        upstream.enqueue(Script([Call("ask_where")]), Script([Say("Good.")]))
        turn_id = await house.ask("Where?", model=MODELS["anthropic"])
        (need,) = await asked(house, turn_id)
        view = await house.turn(turn_id)
        await answer(house, turn_id, need.call_id, input={"shelf": 9})
        turn = await house.folded(turn_id)
    assert (need.kind, need.message, need.input_schema) == ("input", "Which shelf?", schema)
    assert view["waiting_for"] == [
        {"call_id": need.call_id, "kind": "input", "message": "Which shelf?", "input_schema": schema}
    ]
    assert [(one.decision, one.input) for one in told] == [("approve", {"shelf": 9})]
    assert (result(turn).output, turn.status) == ("found", "complete")


async def test_an_answer_that_does_not_fit_what_was_asked_is_refused_and_the_call_waits_on(tmp_path: Path) -> None:
    schema: Json = {"type": "object", "properties": {"shelf": {"type": "integer"}}, "required": ["shelf"]}

    @tool(effect="write")
    async def take_from(*, ctx: ToolContext) -> str:
        """Take something from a shelf that a person names."""
        if ctx.resumed is None:
            raise InputNeeded("Which shelf?", input_schema=schema)
        given = ctx.resumed.answer.input
        assert isinstance(given, dict)
        return f"from shelf {given['shelf']}"

    async with playing(tmp_path, tools=(take_from,)) as (house, upstream):
        upstream.enqueue(Script([Call("take_from")]), Script([Say("Good.")]))
        turn_id = await house.ask("Take it", model=MODELS["anthropic"])
        (need,) = await asked(house, turn_id)
        await rests(house, turn_id)
        refusals = [await answer(house, turn_id, need.call_id, status=422)]
        refusals += [
            await answer(house, turn_id, need.call_id, input=wrong, status=422) for wrong in ({}, {"shelf": "9"})
        ]
        await answer(house, turn_id, need.call_id, input={"shelf": 9})
        turn = await house.folded(turn_id)
    missing, other = "shelf is required, and missing", "shelf: expected integer, got str"
    assert [one["errors"] for one in refusals] == [
        [{"path": "/input", "message": message}] for message in (missing, missing, other)
    ]
    assert result(turn).output == "from shelf 9"


async def test_two_identical_reads_of_one_response_share_one_execution(tmp_path: Path) -> None:
    """Each has its own start, deltas and result."""
    ran: list[str] = []
    may_end = anyio.Event()

    @tool(effect="read")
    async def look(at: str, *, ctx: ToolContext) -> str:
        """Look at something."""
        ran.append(at)
        await ctx.emit("looking")
        await may_end.wait()
        return f"saw {at}"

    async with playing(tmp_path, tools=(look,)) as (house, upstream):
        calls = [Call("look", {"at": "home"}), Call("look", {"at": "home"}), Call("look", {"at": "sea"})]
        upstream.enqueue(Script([*calls, Gate("talking")]), Script([Say("Good.")]))
        turn_id = await house.ask("Look", model=MODELS["anthropic"])
        await upstream.reached("talking")
        await house.until(turn_id, lambda event: isinstance(event, e.ToolStart) and event.index == 2)
        may_end.set()
        upstream.release("talking")
        events = await house.followed(turn_id, each=True)
        turn = await house.folded(turn_id)
    assert sorted(ran) == ["home", "sea"]
    assert [one.output for one in results(turn).values()] == ["saw home", "saw home", "saw sea"]
    assert [one.text for one in results(turn).values()] == ["looking"] * 3
    assert len([event for event in events if isinstance(event, e.ToolStart)]) == 3
    assert len(results_in(upstream.requests[-1].body)) == 3
