"""A turn that waits for people and clients has no process, and whoever answers brings one (P8, P9)."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sqlite3
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from msgspec import UNSET
from tests.e2e.asking import PICK, answer, asked, give, has_given, owners, rests, result, results, row_of
from tests.e2e.house import (
    MODELS,
    Child,
    Json,
    configured,
    playing,
    results_in,
    script,
    serving,
    spawned,
    unpaired,
    upstream_environ,
)
from tests.patience import BOUND

from legato import InputNeeded, NotNow, ToolContext, tool
from legato.core import events as e
from legato.core.fold import Turn, fold
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, Gate, Say, Script, Upstream

TOOLS = '''
from pathlib import Path

from legato import InputNeeded, ToolContext, tool


@tool(effect="write", needs_approval=True)
def drop(name: str) -> str:
    """Drop something, if a person agrees."""
    with Path("dropped").open("a") as file:
        file.write(name + "\\n")
    return f"dropped {name}"


@tool(effect="write")
async def book(*, ctx: ToolContext) -> str:
    """Book a room; a person chooses which."""
    if ctx.resumed is None:
        raise InputNeeded("Which room?", input_schema={"type": "object"}, state={"offer": 17})
    return f"room {ctx.resumed.answer.input['room']} of offer {ctx.resumed.state['offer']}"


@tool(effect="read")
async def look(*, ctx: ToolContext) -> str:
    """Have somebody look."""
    with Path("looked").open("a") as file:
        file.write("again\\n")
    told = await ctx.ask("Is it there?")
    return f"a person said {told.decision}"
'''


@tool(effect="write", needs_approval=True)
async def drop(name: str) -> str:
    """Drop something, if a person agrees."""
    return f"dropped {name}"


@tool(effect="read")
async def peek() -> str:
    """Look at something."""
    return "seen"


@contextlib.asynccontextmanager
async def child_of(folder: Path, upstream: Upstream, *args: str) -> AsyncIterator[Child]:
    async with spawned(folder, *args, tools=TOOLS, environ=upstream_environ(upstream)) as child:
        yield child


def same(turn: Turn) -> tuple[object, ...]:
    """All that readers are told of a turn."""
    return turn.blocks, turn.rounds, turn.waiting, turn.usage, turn.status, turn.stop_reason, turn.last_seq


def sent_results(upstream: Upstream) -> list[str]:
    """What the last request told the model of its calls; it keeps the vendor's rules."""
    body = upstream.requests[-1].body
    assert unpaired(body) == []
    assert upstream.refused == []
    return list(results_in(body).values())


# At rest


@pytest.mark.parametrize("model", MODELS.values())
async def test_a_turn_at_rest_is_stored_without_owner_and_runs_nowhere(model: str, tmp_path: Path) -> None:
    """Its siblings that need nobody have run, and their results are kept."""
    async with playing(tmp_path, tools=(drop, peek)) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"}), Call("peek")]), Script([Say("Done.")]))
        turn_id = await house.ask("Drop it", model=model)
        seq = await rests(house, turn_id)
        row, running = row_of(tmp_path, turn_id), len(house.service._running)
        view = await house.turn(turn_id)
        (need,) = view["waiting_for"]
        await answer(house, turn_id, need["call_id"])
        events = await house.followed(turn_id)
        after = row_of(tmp_path, turn_id)
    assert (row, running) == (("waiting", None), 0)
    assert (view["status"], view["last_seq"], view["ended_at"]) == ("waiting", seq, None)
    assert [block["output"] for block in view["blocks"] if block["type"] == "tool_result"] == ["seen"]
    assert after[0] == "complete"
    rewind = next(event for event in events if isinstance(event, e.Rewind))
    assert rewind.to == seq
    assert rewind.seq > e.EPOCH_SIZE
    assert sent_results(upstream) == ["dropped a", "seen"]


async def test_a_reader_follows_through_the_wait_as_one_who_comes_later_sees_it(tmp_path: Path) -> None:
    """The stream stays open, and brings the rewind and the rest."""
    async with playing(tmp_path, tools=(drop, peek)) as (house, upstream):
        upstream.enqueue(Script([Say("I drop."), Call("drop", {"name": "a"}), Call("peek")]), Script([Say("Done.")]))
        turn_id = await house.ask("Drop it", model=MODELS["anthropic"])
        said: list[e.Event] = []
        waits, over = anyio.Event(), anyio.Event()

        async def follow() -> None:
            async for event in house.events(turn_id, each=True):
                said.append(event)
                if isinstance(event, e.TurnWaiting):
                    waits.set()
            over.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            with anyio.fail_after(BOUND):
                await waits.wait()
                (need,) = (await house.turn(turn_id))["waiting_for"]
                await answer(house, turn_id, need["call_id"])
                await over.wait()
        late = await house.followed(turn_id, each=True)
        merged = await house.folded(turn_id)
    assert isinstance(said[-1], e.TurnEnd)
    assert said == late
    assert same(fold(said)) == same(merged)
    assert [type(event) for event in said].count(e.TurnWaiting) == 1


async def test_a_browser_that_lost_the_line_waits_on_with_its_last_event_id(tmp_path: Path) -> None:
    """Not 204: the turn has not ended. Nothing is said again, and nothing is left out."""
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("Pick."), Call("pick")]), Script([Say("Done.")]))
        turn_id = await house.ask("Choose", model=MODELS["anthropic"], client_tools=[PICK])
        seq = await rests(house, turn_id)
        before = [event async for event in _until_seq(house.events(turn_id, each=True), seq)]
        (need,) = (await house.turn(turn_id))["waiting_for"]
        headers = {"last-event-id": str(seq), "accept": "text/event-stream"}
        async with house.client.stream("GET", f"/v1/turns/{turn_id}/events?deltas=each", headers=headers) as stream:
            assert stream.status_code == 200
            await give(house, turn_id, {"call_id": need["call_id"], "output": 2})
            with anyio.fail_after(BOUND):
                body = b"".join([piece async for piece in stream.aiter_raw()])
        whole = await house.followed(turn_id, each=True)
    after = [e.decode(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]
    assert isinstance(after[0], e.Rewind)
    assert [*before, *after] == whole


async def _until_seq(events: AsyncIterator[e.Event], seq: int) -> AsyncIterator[e.Event]:
    async for event in events:
        yield event
        if event.seq == seq:
            return


@pytest.mark.slow
async def test_a_stream_of_a_turn_at_rest_is_kept_alive_by_comments(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Call("pick")]))
        turn_id = await house.ask("Choose", model=MODELS["anthropic"], client_tools=[PICK])
        seq = await rests(house, turn_id)
        async with house.client.stream("GET", f"/v1/turns/{turn_id}/events?after={seq}") as stream:
            pieces = stream.aiter_raw()
            with anyio.fail_after(BOUND):
                while not (await anext(pieces)).startswith(b":"):
                    pass


async def test_a_chat_whose_turn_waits_is_busy_with_it(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Call("pick")]))
        posted = await house.post("Choose", model=MODELS["anthropic"], client_tools=[PICK])
        turn_id, chat_id = posted["assistant_turn"]["id"], posted["chat"]["id"]
        await rests(house, turn_id)
        busy = await house.client.post("/v1/turns", json={"input": "And?", "chat_id": chat_id})
        chat = await house.get(f"/v1/chats/{chat_id}")
    assert (busy.status_code, busy.json()["code"], busy.json()["turn_id"]) == (409, "chat_busy", turn_id)
    assert chat["active_turn_id"] == turn_id


# How a wait ends otherwise


async def test_a_cancel_ends_a_waiting_turn_with_its_calls_answered(tmp_path: Path) -> None:
    async with playing(tmp_path, tools=(drop,)) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"}), Call("pick")]), Script([Say("Go on.")]))
        turn_id = await house.ask("Drop it", model=MODELS["anthropic"], client_tools=[PICK])
        await rests(house, turn_id)
        cancelled = await house.cancel(turn_id)
        turn = await house.folded(turn_id)
        again = await house.cancel(turn_id, status=200)
        chat_id = (await house.turn(turn_id))["chat_id"]
        further = await house.ask("And?", chat_id=chat_id, model=MODELS["anthropic"])
        assert (await house.folded(further)).status == "complete"
        assert len(sent_results(upstream)) == 2
    assert cancelled["stored"] is True
    assert (turn.status, turn.stop_reason, again["status"]) == ("cancelled", "cancelled", "cancelled")
    assert {one.outcome for one in results(turn).values()} == {"cancelled"}
    assert turn.waiting == {}


async def test_a_wait_that_is_over_is_answered_timeout_and_the_turn_goes_on(tmp_path: Path) -> None:
    async with playing(tmp_path, tools=(drop,), limits__wait_timeout=0.2) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"}), Call("pick")]), Script([Say("Nobody was there.")]))
        turn_id = await house.ask("Drop it", model=MODELS["anthropic"], client_tools=[PICK])
        turn = await house.folded(turn_id)
        call_id = next(iter(results(turn)))
        late = await answer(house, turn_id, call_id, status=409)
    assert turn.status == "complete"
    errors = [one.error for one in results(turn).values()]
    assert [one.outcome for one in results(turn).values()] == ["timeout", "timeout"]
    assert [None if error is UNSET else error.code for error in errors] == ["wait_timeout"] * 2
    assert len(sent_results(upstream)) == 2
    assert late["code"] == "turn_ended"


async def test_a_chat_whose_turn_waits_can_be_removed(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Call("pick")]))
        posted = await house.post("Choose", model=MODELS["anthropic"], client_tools=[PICK])
        turn_id = posted["assistant_turn"]["id"]
        (need,) = await asked(house, turn_id)
        await rests(house, turn_id)
        removed = await house.client.delete(f"/v1/chats/{posted['chat']['id']}")
        gone = await house.client.get(f"/v1/turns/{turn_id}")
        late = await give(house, turn_id, {"call_id": need.call_id, "output": 1}, status=404)
    assert (removed.status_code, gone.status_code, late["code"]) == (204, 404, "not_found")


@pytest.mark.parametrize("failing", ["claim", "intents"])
async def test_a_wait_that_is_over_stays_so_though_the_store_fails_while_the_turn_is_taken_up(
    failing: str, tmp_path: Path
) -> None:
    """The row says no more that it waited, and until when."""
    store = FaultyStore()

    async with playing(tmp_path, tools=(drop,), around=store.over) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"})]), Script([Say("Nobody was there.")]))
        turn_id = await house.ask("Drop it", model=MODELS["anthropic"])
        await rests(house, turn_id)
        if failing == "claim":
            store.lose_answers("claim")
        else:
            store.away("intents")
        with contextlib.closing(sqlite3.connect(tmp_path / "legato.db")) as database, database:
            database.execute("UPDATE turn SET wait_until = '2000-01-01T00:00:00.000Z' WHERE id = ?", [turn_id])
        await store.reached(failing)
        await store.reached("to_wake", times=store.calls.count("to_wake") + 1)  # it has heard of the failure
        store.back()
        turn = await house.folded(turn_id)
        assert sent_results(upstream) == ["nobody answered in time"]
    assert (turn.status, result(turn).outcome) == ("complete", "timeout")


# Time


async def test_an_hour_of_waiting_counts_in_no_limit_and_stands_in_the_timeline(tmp_path: Path) -> None:
    """The hour is made by setting the turn's beginning back while it rests; a turn has ten seconds here."""
    async with playing(tmp_path, tools=(drop,), limits__seconds=10) as (house, upstream):
        upstream.enqueue(Script([Call("drop", {"name": "a"})]), Script([Say("Done.")]))
        turn_id = await house.ask("Drop it", model=MODELS["anthropic"])
        (need,) = await asked(house, turn_id)
        await rests(house, turn_id)
        resting = await house.get(f"/v1/turns/{turn_id}/timeline")
        with contextlib.closing(sqlite3.connect(tmp_path / "legato.db")) as database, database:
            earlier = "strftime('%Y-%m-%dT%H:%M:%fZ', created_at, '-1 hour')"
            database.execute(f"UPDATE turn SET created_at = {earlier} WHERE id = ?", [turn_id])
        await answer(house, turn_id, need.call_id)
        turn = await house.folded(turn_id)
        spans = (await house.get(f"/v1/turns/{turn_id}/timeline"))["spans"]
    assert (turn.status, turn.stop_reason) == ("complete", "end")
    (open_wait,) = (span for span in resting["spans"] if span["kind"] == "waiting")
    assert (open_wait["call_id"], open_wait["end_ms"]) == (need.call_id, None)
    assert all(span["end_ms"] is not None for span in owners(resting["spans"]))
    (wait,) = (span for span in spans if span["kind"] == "waiting")
    assert wait["end_ms"] - wait["start_ms"] > 3_500_000
    first, second = owners(spans)
    assert first["end_ms"] < second["start_ms"]
    assert wait["start_ms"] < first["end_ms"] < wait["end_ms"]
    assert second["start_ms"] - first["end_ms"] > 3_500_000
    assert second["end_ms"] is not None


# Over restarts and processes


async def test_a_turn_at_rest_outlives_its_server_and_is_answered_in_the_next(tmp_path: Path) -> None:
    """Killed while it waits, it is touched by nobody: no notice of a recovery, the same seq."""
    async with Upstream.open() as upstream:
        upstream.enqueue(Script([Call("drop", {"name": "a"}), Call("pick")]), Script([Say("Done.")]))
        async with child_of(tmp_path, upstream) as child:
            turn_id = await child.ask("Drop it", model=MODELS["anthropic"], client_tools=[PICK])
            needs = {need.kind: need.call_id for need in await asked(child, turn_id, times=2)}
            seq = await rests(child, turn_id)
            before = await child.turn(turn_id)
            await child.kill()
        async with child_of(tmp_path, upstream) as child:
            after = await child.turn(turn_id)
            await answer(child, turn_id, needs["approval"])
            second = await rests(child, turn_id, after=seq)
            await child.kill()
        async with child_of(tmp_path, upstream) as child:
            await give(child, turn_id, {"call_id": needs["client_tool"], "output": "picked"})
            events = await child.followed(turn_id, each=True)
        turn = fold(events)
        told = sent_results(upstream)
    assert after == before
    assert after["last_seq"] == seq
    assert [event.code for event in events if isinstance(event, e.Notice)] == []
    rewinds = [event for event in events if isinstance(event, e.Rewind)]
    assert [rewind.to for rewind in rewinds] == [seq, second]
    assert turn.status == "complete"
    assert told == ["dropped a", "picked"]
    assert (tmp_path / "dropped").read_text() == "a\n"


@pytest.mark.slow
async def test_an_answer_may_come_to_another_server_on_the_same_file(tmp_path: Path) -> None:
    """While the turn rests it is the other's to go on with; while it runs, its owner hears of the answer."""
    async with (
        Upstream.open() as upstream,
        child_of(tmp_path, upstream) as first,
        child_of(tmp_path, upstream) as second,
    ):
        upstream.enqueue(
            Script([Call("drop", {"name": "a"}), Gate("talking")]), Script([Call("pick")]), Script([Say("Done.")])
        )
        turn_id = await first.ask("Drop it", model=MODELS["anthropic"], client_tools=[PICK])
        (need,) = await asked(first, turn_id)
        await answer(second, turn_id, need.call_id)
        upstream.release("talking")
        (pick,) = await asked(first, turn_id, after=need.seq)
        seq = await rests(first, turn_id, after=pick.seq)
        assert (await second.turn(turn_id))["status"] == "waiting"
        await give(second, turn_id, {"call_id": pick.call_id, "output": "picked"})
        here, there = await first.followed(turn_id, each=True), await second.followed(turn_id, each=True)
        told = sent_results(upstream)
    assert here == there
    assert fold(here).status == "complete"
    assert told[-1] == "picked"
    assert (tmp_path / "dropped").read_text() == "a\n"
    assert next(event.to for event in here if isinstance(event, e.Rewind) and event.seq > seq) == seq


@pytest.mark.slow
async def test_what_a_tool_asks_and_its_state_outlive_the_server(tmp_path: Path) -> None:
    async with Upstream.open() as upstream:
        upstream.enqueue(Script([Call("book")]), Script([Say("Booked.")]))
        async with child_of(tmp_path, upstream) as child:
            turn_id = await child.ask("Book", model=MODELS["anthropic"])
            (need,) = await asked(child, turn_id)
            await rests(child, turn_id)
            await child.kill()
        async with child_of(tmp_path, upstream) as child:
            view = await child.turn(turn_id)
            await answer(child, turn_id, need.call_id, input={"room": 9})
            turn = await child.folded(turn_id)
    assert view["waiting_for"] == [
        {
            "call_id": need.call_id,
            "kind": "input",
            "message": "Which room?",
            "input_schema": {"type": "object"},
        }
    ]
    assert (result(turn).outcome, result(turn).output) == ("ok", "room 9 of offer 17")


@pytest.mark.slow
async def test_a_running_read_that_asked_is_run_and_asks_again_after_its_server_died(tmp_path: Path) -> None:
    async with Upstream.open() as upstream:
        upstream.enqueue(Script([Call("look")]), Script([Say("Good.")]))
        async with child_of(tmp_path, upstream) as child:
            turn_id = await child.ask("Look", model=MODELS["anthropic"])
            (first,) = await asked(child, turn_id)
            await child.until(turn_id, lambda event: isinstance(event, e.RoundStop))
            await answer(child, turn_id, "nobody", status=404)  # which is told once all that was said is stored
            await child.kill()
        async with child_of(tmp_path, upstream) as child:
            (again,) = await asked(child, turn_id, after=e.EPOCH_SIZE)
            await answer(child, turn_id, again.call_id, decision="deny")
            turn = await child.folded(turn_id)
    assert again.call_id == first.call_id
    assert (tmp_path / "looked").read_text() == "again\nagain\n"
    assert result(turn).output == "a person said deny"


@pytest.mark.slow
async def test_a_server_whose_turns_all_wait_stops_at_once(tmp_path: Path) -> None:
    """It may drain for a minute, which the test would not wait for; and the turn is answered in the next."""
    async with Upstream.open() as upstream:
        upstream.enqueue(Script([Call("drop", {"name": "a"})]), Script([Say("Done.")]))
        async with child_of(tmp_path, upstream, "--drain", "60") as child:
            turn_id = await child.ask("Drop it", model=MODELS["anthropic"])
            (need,) = await asked(child, turn_id)
            await rests(child, turn_id)
            child.signal(signal.SIGTERM)
            assert await child.ended() == 0
        async with child_of(tmp_path, upstream) as child:
            await answer(child, turn_id, need.call_id)
            turn = await child.folded(turn_id)
    assert (turn.status, result(turn).output) == ("complete", "dropped a")


@pytest.mark.slow
async def test_an_answer_that_was_stored_is_gone_on_with_though_its_server_died_at_once(tmp_path: Path) -> None:
    """202, and then nothing: the next server finds it."""
    async with Upstream.open() as upstream:
        upstream.enqueue(Script([Call("drop", {"name": "a"})]), Script([Say("Done.")]))
        async with child_of(tmp_path, upstream) as child:
            turn_id = await child.ask("Drop it", model=MODELS["anthropic"])
            (need,) = await asked(child, turn_id)
            await rests(child, turn_id)
            await answer(child, turn_id, need.call_id)
            await child.kill()
        async with child_of(tmp_path, upstream) as child:
            turn = await child.folded(turn_id)
    assert turn.status == "complete"
    dropped = tmp_path / "dropped"
    assert result(turn).outcome in {"ok", "unknown"}
    assert (dropped.read_text() if dropped.exists() else "") in {"", "a\n"}
    assert result(turn).outcome == "unknown" or dropped.read_text() == "a\n"


# What tools do about it


async def test_a_tool_that_needs_a_word_is_called_again_with_it_and_what_it_kept(tmp_path: Path) -> None:
    """Twice, even: each question is a need of its own."""
    calls = itertools.count(1)

    @tool(effect="write")
    async def book(nights: int, *, ctx: ToolContext) -> Mapping[str, Json]:
        """Book a room."""
        number = next(calls)
        if ctx.resumed is None:
            await ctx.emit("asking\n")
            raise InputNeeded("Which room?", input_schema={"type": "object"}, state={"asked": 1})
        told, kept = ctx.resumed.answer, ctx.resumed.state
        if kept["asked"] == 1:
            assert isinstance(told.input, dict)
            raise InputNeeded("Sure?", state={"asked": 2, "room": told.input["room"]})
        return {"room": kept["room"], "nights": nights, "sure": told.decision, "call": number}

    async with playing(tmp_path, tools=(book,)) as (house, upstream):
        upstream.enqueue(Script([Call("book", {"nights": 2})]), Script([Say("Booked.")]))
        turn_id = await house.ask("Book", model=MODELS["anthropic"])
        (which,) = await asked(house, turn_id)
        seq = await rests(house, turn_id)
        await answer(house, turn_id, which.call_id, input={"room": 9})
        (sure,) = await asked(house, turn_id, after=seq)
        await rests(house, turn_id, after=seq)
        await answer(house, turn_id, sure.call_id)
        events = await house.followed(turn_id)
        turn = await house.folded(turn_id)
    assert ([which.message, sure.message], sure.input_schema) == (["Which room?", "Sure?"], UNSET)
    assert result(turn).output == {"room": 9, "nights": 2, "sure": "approve", "call": 3}
    assert result(turn).text == "asking\n"
    assert len([event for event in events if isinstance(event, e.ToolStart)]) == 1


async def test_an_answer_that_comes_again_does_not_answer_the_next_question(tmp_path: Path) -> None:
    """Who says the same to that one says which question is meant."""

    @tool(effect="write")
    async def pay(*, ctx: ToolContext) -> str:
        """Pay, if a person agrees twice."""
        if ctx.resumed is None:
            raise InputNeeded("The room?", state=1)
        if ctx.resumed.state == 1:
            raise InputNeeded("And breakfast, for 500?", state=2)
        return f"paid: {ctx.resumed.answer.decision}"

    async with playing(tmp_path, tools=(pay,)) as (house, upstream):
        upstream.enqueue(Script([Call("pay")]), Script([Say("Paid.")]))
        turn_id = await house.ask("Pay", model=MODELS["anthropic"])
        (first,) = await asked(house, turn_id)
        seq = await rests(house, turn_id)
        await answer(house, turn_id, first.call_id)
        (second,) = await asked(house, turn_id, after=seq)
        await rests(house, turn_id, after=seq)
        again = await answer(house, turn_id, first.call_id)
        unknown = await answer(house, turn_id, first.call_id, nr=3, status=422)
        assert (first.nr, second.nr, again["status"], again["waiting_for"][0]["nr"]) == (UNSET, 2, "waiting", 2)
        assert unknown["errors"][0]["path"] == "/nr"
        await answer(house, turn_id, first.call_id, nr=2)
        turn = await house.folded(turn_id)
        late = await answer(house, turn_id, first.call_id, nr=1)
    assert (result(turn).output, late["status"]) == ("paid: approve", "complete")


async def test_a_tool_that_would_rather_know_the_end_of_the_response_is_called_again_after_it(tmp_path: Path) -> None:
    tries: list[str] = []

    @tool(effect="read")
    async def look(*, ctx: ToolContext) -> str:
        """Look, but not too early."""
        tries.append(ctx.idempotency_key)
        if len(tries) == 1:
            raise NotNow
        return "seen"

    async with playing(tmp_path, tools=(look, peek)) as (house, upstream):
        upstream.enqueue(Script([Call("look"), Call("peek"), Gate("talking")]), Script([Say("Good.")]))
        turn_id = await house.ask("Look", model=MODELS["anthropic"])
        await house.until(turn_id, has_given("seen"))  # of its sibling, which was started after it
        while not tries:
            await anyio.lowlevel.checkpoint()
        assert len(tries) == 1
        upstream.release("talking")
        events = await house.followed(turn_id)
        turn = await house.folded(turn_id)
    assert len(tries) == 2
    assert len(set(tries)) == 1
    assert [one.output for one in results(turn).values()] == ["seen", "seen"]
    assert len([event for event in events if isinstance(event, e.ToolStart)]) == 2
    assert e.TurnWaiting not in [type(event) for event in events]


async def test_a_script_waits_for_its_clients_too(tmp_path: Path) -> None:
    """Without any vendor: what examples and other people's tests are built on."""
    async with serving(configured(tmp_path)) as house:
        turn_id = await house.ask(
            script({"tool": "pick", "input": {"of": [1]}}, {"text": "thanks"}), client_tools=[PICK]
        )
        (need,) = await asked(house, turn_id)
        await rests(house, turn_id)
        await give(house, turn_id, {"call_id": need.call_id, "output": 1})
        turn = await house.folded(turn_id)
    assert turn.status == "complete"
