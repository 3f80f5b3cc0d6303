"""When tools run and what becomes of them, over HTTP and both wires (P1, P2, P3; hazards 17, 26, 33, 34, 36)."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import get_args

import anyio
import anyio.to_thread
import pytest
from tests.e2e.house import MODELS, House, Json, playing, results_in, tool_results, unpaired
from tests.patience import BOUND, until

from legato import ToolContext, ToolError, formatter, tool
from legato.core import events as e
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn
from legato.observability import process
from legato.testing.check import check_growth
from legato.testing.script import Wire
from legato.testing.store import FaultyStore
from legato.testing.upstream import Call, End, Gate, Say, Script, Think

WIRES = pytest.mark.parametrize("wire", get_args(Wire))


def results(turn: Turn) -> dict[str, ToolResultBlock]:
    """By tool name."""
    return {block.tool_name: block for block in turn.blocks if isinstance(block, ToolResultBlock)}


def gave(output: str, event: e.Event) -> bool:
    """A result's end, with this output."""
    return isinstance(event, e.BlockStop) and event.output == output


def place(events: list[e.Event], true: Callable[[e.Event], bool]) -> int:
    """Where the first event stands that ``true`` is true of."""
    return next(at for at, event in enumerate(events) if true(event))


# When they start


@WIRES
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_read_tool_has_started_while_the_model_still_talks(kind: str, wire: Wire, tmp_path: Path) -> None:
    """P1: the stream stands at a gate behind the call, and the tool runs."""
    started = threading.Event()

    @tool(effect="read", name="look")
    async def look() -> str:
        """Looks."""
        started.set()
        return "seen"

    @tool(effect="read", name="look")
    def look_in_thread() -> str:
        """Looks."""
        started.set()
        return "seen"

    async with playing(tmp_path, tools=(look if kind == "async" else look_in_thread,)) as (house, upstream):
        upstream.enqueue(Script([Say("Now: "), Call("look"), Gate("talking"), Say("still talking")]))
        turn_id = await house.ask("Look", model=MODELS[wire])
        assert await anyio.to_thread.run_sync(started.wait, BOUND)
        seen = await house.until(turn_id, partial(gave, "seen"))
        upstream.release("talking")
        events = await house.followed(turn_id, each=True)
    assert isinstance(seen, e.BlockStop)
    assert place(events, lambda one: one == seen) < place(events, lambda one: isinstance(one, e.RoundStop))


@WIRES
async def test_a_write_starts_only_once_its_response_has_ended_and_its_intent_is_stored(
    wire: Wire, tmp_path: Path
) -> None:
    """P2, P7: held while the model talks, then while the store hangs."""
    ran: list[list[tuple[object, ...]]] = []
    store = FaultyStore()

    @tool(effect="write")
    async def act(what: str, *, ctx: ToolContext) -> str:
        """With effects."""
        with contextlib.closing(sqlite3.connect(tmp_path / "legato.db")) as database:
            rows = database.execute(
                "SELECT tool_name, input, idempotency_key FROM call WHERE turn_id = ? AND idempotency_key IS NOT NULL",
                [ctx.turn_id],
            )
            ran.append([*rows, (ctx.idempotency_key,)])
        return f"did {what}"

    @tool(effect="read")
    async def look() -> str:
        """Reads."""
        return "seen"

    async with playing(tmp_path, tools=(act, look), around=store.over) as (house, upstream):
        upstream.enqueue(Script([Call("act", {"what": "it"}), Call("look"), Gate("talking")]))
        turn_id = await house.ask("Act", model=MODELS[wire])
        # The read behind it was started and has ended: so the write was ready too, and is held.
        await house.until(turn_id, partial(gave, "seen"))
        assert ran == []
        store.hold("write")
        writes = store.calls.count("write")
        upstream.release("talking")
        await house.until(turn_id, lambda event: isinstance(event, e.RoundStop))
        await store.reached("write", times=writes + 1)
        assert ran == []
        store.back()
        events = await house.followed(turn_id, each=True)
    assert len(ran) == 1
    (name, arguments, key), (told,) = ran[0]
    assert (name, arguments) == ("act", '{"what":"it"}')
    assert key == told
    act_started = place(events, lambda one: isinstance(one, e.ToolStart) and one.tool_name == "act")
    assert act_started > place(events, lambda one: isinstance(one, e.RoundStop))


@WIRES
async def test_an_eager_write_starts_at_its_seal(wire: Wire, tmp_path: Path) -> None:
    ran = anyio.Event()

    @tool(effect="write", eager=True)
    async def act() -> str:
        """With effects, at once."""
        ran.set()
        return "did"

    async with playing(tmp_path, tools=(act,)) as (house, upstream):
        upstream.enqueue(Script([Call("act"), Gate("talking")]))
        turn_id = await house.ask("Act", model=MODELS[wire])
        with anyio.fail_after(BOUND):
            await ran.wait()
        upstream.release("talking")
        turn = await house.folded(turn_id)
    assert results(turn)["act"].outcome == "ok"


@WIRES
async def test_calls_with_effects_run_one_at_a_time_in_call_order(wire: Wire, tmp_path: Path) -> None:
    """One lane for the turn; a lane of its own runs beside it."""
    log: list[str] = []
    lane_over = anyio.Event()

    @tool(effect="write")
    async def act(what: str) -> str:
        """In the turn's lane."""
        log.append(f"{what} begins")
        await lane_over.wait()
        log.append(f"{what} ends")
        return what

    @tool(effect="write", lane=lambda arguments: str(arguments["lane"]))
    async def act_in(lane: str) -> str:
        """In a lane of its own."""
        log.append(f"lane {lane}")
        lane_over.set()
        return lane

    async with playing(tmp_path, tools=(act, act_in)) as (house, upstream):
        upstream.enqueue(
            Script([Call("act", {"what": "a"}), Call("act", {"what": "b"}), Call("act_in", {"lane": "x"})])
        )
        turn = await house.folded(await house.ask("Act", model=MODELS[wire]))
        sent = results_in(upstream.requests[1].body)
    assert log == ["a begins", "lane x", "a ends", "b begins", "b ends"]
    assert list(sent.values()) == ["a", "b", "x"]
    assert turn.status == "complete"


# What becomes of their results


@WIRES
async def test_results_are_shown_as_they_come_and_sent_in_call_order(wire: Wire, tmp_path: Path) -> None:
    go = {name: anyio.Event() for name in "abc"}

    @tool(effect="read")
    async def look(what: str, *, ctx: ToolContext) -> str:
        """Waits for its word."""
        await go[what].wait()
        await ctx.emit(f"coming: {what}\n")
        return f"seen {what}"

    async with playing(tmp_path, tools=(look,)) as (house, upstream):
        upstream.enqueue(Script([Say("Three."), *(Call("look", {"what": name}) for name in "abc"), Gate("talking")]))
        turn_id = await house.ask("Look", model=MODELS[wire])
        for name in "cab":
            go[name].set()
            await house.until(turn_id, partial(gave, f"seen {name}"))
        upstream.release("talking")
        turn = await house.folded(turn_id)
        sent = results_in(upstream.requests[1].body)
    shown = [block for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert [block.output for block in shown] == ["seen c", "seen a", "seen b"]
    assert [block.text for block in shown] == ["coming: c\n", "coming: a\n", "coming: b\n"]
    calls = [block.call_id for block in turn.blocks if isinstance(block, ToolUseBlock)]
    assert sorted(calls) == sorted(block.call_id for block in shown)
    assert list(sent.values()) == ["seen a", "seen b", "seen c"]


class NotJson:
    """What no JSON is."""


@tool(effect="read")
async def good(what: str = "it") -> Json:
    """Works."""
    return {"seen": what}


@tool(effect="read")
def good_in_thread() -> str:
    """Works, in a thread."""
    return "seen"


@tool(effect="read")
async def streamed() -> AsyncIterator[str]:
    """Streams its output."""
    for piece in ("one ", "two ", "three"):
        yield piece


@tool(effect="read")
async def raising() -> str:
    """Raises what it did not mean to."""
    raise ValueError("no such valley")


@tool(effect="read")
def raising_in_thread() -> str:
    """Raises, in a thread."""
    raise KeyError("valley")


@tool(effect="read")
async def refusing() -> str:
    """Says no."""
    raise ToolError("the valley is closed", code="closed")


@tool(effect="read")
async def not_json() -> Json:
    """Gives what is no JSON."""
    return NotJson()


@tool(effect="read", timeout=0.05)
async def slow() -> str:
    """Takes too long."""
    await anyio.sleep_forever()
    return "never"


@tool(effect="read", timeout=60, idle_timeout=0.05)
async def idle(*, ctx: ToolContext) -> str:
    """Shows something, and nothing more."""
    await ctx.emit("one moment")
    await anyio.sleep_forever()
    return "never"


@tool(effect="read")
async def huge() -> str:
    """Gives more than may be stored."""
    return "x" * 200_000


@tool(effect="read")
async def exiting() -> str:
    """Would end the process."""
    raise SystemExit(3)


MIXED: dict[str, tuple[Call, str, str | None]] = {
    # name: the call, its outcome, the code of its error
    "good": (Call("good", {"what": "a"}), "ok", None),
    "good_in_thread": (Call("good_in_thread"), "ok", None),
    "streamed": (Call("streamed"), "ok", None),
    "raising": (Call("raising"), "error", "tool_failed"),
    "raising_in_thread": (Call("raising_in_thread"), "error", "tool_failed"),
    "refusing": (Call("refusing"), "error", "closed"),
    "not_json": (Call("not_json"), "error", "not_json"),
    "slow": (Call("slow"), "timeout", "timeout"),
    "idle": (Call("idle"), "timeout", "idle_timeout"),
    "huge": (Call("huge"), "error", "output_too_large"),
    "exiting": (Call("exiting"), "error", "tool_failed"),
    "nobody": (Call("nobody", {"a": 1}), "error", "unknown_tool"),
}
WRONG = {
    "torn": (Call("good", raw='{"what": "a'), "bad_json"),
    "no object": (Call("good", raw="[1]"), "bad_json"),
    "a wrong type": (Call("good", {"what": 3}), "invalid_arguments"),
    "an extra one": (Call("good", {"what": "a", "where": "b"}), "invalid_arguments"),
}
EVERY_TOOL = (
    good, good_in_thread, streamed, raising, raising_in_thread, refusing, not_json, slow, idle, huge, exiting,
)  # fmt: skip


@WIRES
async def test_every_call_gets_one_result_and_no_failure_disturbs_its_siblings(
    wire: Wire, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """P3: all ways a call may end, side by side in one response."""
    caplog.set_level(logging.CRITICAL, logger="legato")
    calls = [call for call, _, _ in MIXED.values()]
    async with playing(tmp_path, tools=EVERY_TOOL, grace=0.05, limits__tool_output_bytes=100_000) as (house, upstream):
        upstream.enqueue(Script([Say("All of them."), *calls]))
        turn = await house.folded(await house.ask("Go", model=MODELS[wire]))
        assert upstream.refused == []
        assert not unpaired(upstream.requests[1].body)
        sent = results_in(upstream.requests[1].body)
    assert turn.status == "complete"
    said = results(turn)
    shown = {name: (said[name].outcome, getattr(said[name].error, "code", None)) for name in MIXED}
    assert shown == {name: (outcome, code) for name, (_, outcome, code) in MIXED.items()}
    assert len([block for block in turn.blocks if isinstance(block, ToolResultBlock)]) == len(MIXED)
    by_name = dict(zip(MIXED, sent.values(), strict=True))
    assert by_name["good"] == '{"seen":"a"}'
    assert by_name["streamed"] == said["streamed"].output == said["streamed"].text == "one two three"
    assert "no such valley" in by_name["raising"]
    assert "Traceback" not in by_name["raising"]
    assert by_name["refusing"] == "the valley is closed"
    assert "limit is 100000" in by_name["huge"]
    assert said["idle"].text == "one moment"
    assert "the tools are: good" in by_name["nobody"]


@WIRES
async def test_arguments_that_are_wrong_are_answered_and_nothing_runs(wire: Wire, tmp_path: Path) -> None:
    calls = [call for call, _ in WRONG.values()]
    async with playing(tmp_path, tools=(good,)) as (house, upstream):
        # A torn call poisons what follows it on the wire that has no other end for a call: so each has its response.
        upstream.enqueue(*(Script([call, End("calls")]) for call in calls))
        turn_id = await house.ask("Go", model=MODELS[wire])
        events = await house.followed(turn_id, each=True)
        turn = await house.folded(turn_id)
        assert upstream.refused == []
    codes = [getattr(block.error, "code", None) for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert codes == [code for _, code in WRONG.values()]
    assert not any(isinstance(event, e.ToolStart) for event in events)


@WIRES
async def test_large_output_is_kept_whole_and_read_in_bounds(wire: Wire, tmp_path: Path) -> None:
    """Hazard 26 in small: every byte is kept beside the turn, the row and the model have head and tail."""
    whole = "".join(f"line {number}\n" for number in range(100_000))

    @tool(effect="read", max_output=4096)
    async def dump() -> str:
        """A lot."""
        return whole

    async with playing(tmp_path, tools=(dump,)) as (house, upstream):
        upstream.enqueue(Script([Call("dump")]))
        turn_id = await house.ask("Dump", model=MODELS[wire])
        turn = await house.folded(turn_id)
        view = await house.get(f"/v1/turns/{turn_id}/model_view")
        [sent] = results_in(upstream.requests[1].body).values()
        result = results(turn)["dump"]
        kept = await house.client.get(str(result.href))
    assert (kept.status_code, kept.text, kept.headers["content-length"]) == (200, whole, str(result.bytes))
    assert isinstance(result.output, str)
    assert len(result.output) < 64 * 1024
    assert len(sent.encode()) <= 4096
    assert sent.startswith("line 0\n")
    assert sent.endswith("line 99999\n")
    assert "bytes left out" in sent
    assert (view["results"][0]["text"], view["results"][0]["bytes"]) == (sent, len(sent.encode()))


@WIRES
async def test_what_a_tool_shows_while_it_runs_is_not_sent_to_the_model(wire: Wire, tmp_path: Path) -> None:
    @tool(effect="read")
    def chatty(*, ctx: ToolContext) -> str:
        """Shows much, from a thread."""
        for number in range(200):
            ctx.emit(f"{number} ")
        return "short"

    async with playing(tmp_path, tools=(chatty,)) as (house, upstream):
        upstream.enqueue(Script([Call("chatty")]))
        turn = await house.folded(await house.ask("Go", model=MODELS[wire]))
        sent = results_in(upstream.requests[1].body)
    assert results(turn)["chatty"].text == "".join(f"{number} " for number in range(200))
    assert list(sent.values()) == ["short"]


@WIRES
async def test_the_loop_goes_on_while_a_plain_tool_blocks_its_thread(wire: Wire, tmp_path: Path) -> None:
    """Hazard 17: deltas reach readers while the tool has not returned; it returns only after they have."""
    blocked, let_go = threading.Event(), threading.Event()

    @tool(effect="read")
    def block() -> str:
        """Blocks until it is let go."""
        blocked.set()
        return "let go" if let_go.wait(BOUND) else "the loop stood still"

    async with playing(tmp_path, tools=(block,)) as (house, upstream):
        upstream.enqueue(Script([Call("block"), Gate("blocked"), Say("word " * 100), Gate("said")]))
        turn_id = await house.ask("Block", model=MODELS[wire])
        assert await anyio.to_thread.run_sync(blocked.wait, BOUND)
        upstream.release("blocked")
        seen = 0
        async with contextlib.aclosing(house.events(turn_id, each=True)) as events:
            with anyio.fail_after(BOUND):
                async for event in events:
                    seen += isinstance(event, e.BlockDelta) and event.text.strip() == "word"
                    if seen == 100:
                        break
        runner = house.service._running.get(turn_id)
        assert runner is not None
        assert not any(isinstance(block, ToolResultBlock) for block in runner.machine.turn.blocks)
        let_go.set()
        upstream.release("said")
        turn = await house.folded(turn_id)
    assert results(turn)["block"].output == "let go"


@WIRES
async def test_places_and_counts_are_charged_in_the_models_order(wire: Wire, tmp_path: Path) -> None:
    """Two run at once, the fifth of a reply is over the limit."""
    running: list[str] = []
    most = 0
    go = anyio.Event()

    @tool(effect="read")
    async def look(what: str) -> str:
        """Looks."""
        nonlocal most
        running.append(what)
        most = max(most, len(running))
        if len(running) == 2:
            go.set()
        await go.wait()
        running.remove(what)
        return what

    async with playing(tmp_path, tools=(look,), limits__parallel_calls=2, limits__calls_per_round=4) as (
        house,
        upstream,
    ):
        upstream.enqueue(Script([Call("look", {"what": name}) for name in "abcdef"]))
        turn = await house.folded(await house.ask("Look", model=MODELS[wire]))
        sent = list(results_in(upstream.requests[1].body).values())
    assert most == 2
    assert sent[:4] == ["a", "b", "c", "d"]
    assert all("limit is 4" in text for text in sent[4:])
    assert turn.status == "complete"


async def test_a_tool_runs_so_often_at_once_in_all_turns_together(tmp_path: Path) -> None:
    begun: list[str] = []
    go = anyio.Event()

    @tool(effect="read")
    async def look(what: str) -> str:
        """Looks."""
        begun.append(what)
        if what == "a":
            await go.wait()
        return what

    @tool(effect="read")
    async def glance(what: str) -> str:
        """Looks at something else."""
        begun.append(what)
        return what

    async with playing(tmp_path, tools=(look, glance), limits__running_calls_of_tool=1) as (house, upstream):
        upstream.enqueue(Script([Call("look", {"what": "a"})]), Script([Call("look", {"what": "b"})]))
        first = await house.ask("Look", model=MODELS["anthropic"])
        await until(lambda: begun == ["a"])
        second = await house.ask("Look", model=MODELS["anthropic"])
        await until(lambda: process.value("tool_places_waiting") == 1)
        upstream.enqueue(Script([Call("glance", {"what": "c"})]), Script([Say("Seen.")]))
        assert (await house.folded(await house.ask("Look", model=MODELS["anthropic"]))).status == "complete"
        assert begun == ["a", "c"]
        upstream.enqueue(Script([Say("Seen.")]), Script([Say("Seen.")]))
        go.set()
        assert [(await house.folded(turn_id)).status for turn_id in (first, second)] == ["complete", "complete"]
    assert begun == ["a", "c", "b"]


# What the model is told


@WIRES
async def test_a_turn_at_its_last_round_is_told_so_and_its_answer_is_kept(wire: Wire, tmp_path: Path) -> None:
    """Hazards 33, 34: the notices are in the requests that went out, at their end; the last one allows no call."""
    async with playing(tmp_path, tools=(good,)) as (house, upstream):
        upstream.enqueue(
            Script([Say("One."), Call("good", {"what": "a"})]),
            Script([Say("Two."), Call("good", {"what": "b"})]),
            Script([Say("My answer."), Call("good", {"what": "c"})]),
        )
        turn_id = await house.ask("Go", model=MODELS[wire], limits={"rounds": 3})
        turn = await house.folded(turn_id)
        first, second, third = (request.body for request in upstream.requests)
        said = [_last_text(body) for body in (second, third)]
        view = await house.get(f"/v1/turns/{turn_id}/model_view")
    assert upstream.refused == []
    assert (turn.status, turn.stop_reason, turn.error) == ("complete", "limit_rounds", None)
    assert "Only one more round" in said[0]
    assert "No more tool calls" in said[1]
    assert [_may_call(body) for body in (first, second, third)] == [True, True, False]
    assert third["tools"] == first["tools"]
    texts = [block.text for block in turn.blocks if block.round == 3]
    assert texts[0] == "My answer."
    last = [block for block in turn.blocks if isinstance(block, ToolResultBlock)][-1]
    assert getattr(last.error, "code", None) == "limit_rounds"
    assert "No more tool calls" in str(view["messages"][-1])
    assert check_growth(first, second) is None
    assert check_growth(second, third) is None


def _last_text(body: Json) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else str(content[-1].get("text"))


def _may_call(body: Json) -> bool:
    return body.get("tool_choice") not in ("none", {"type": "none"})


@WIRES
async def test_a_turn_whose_time_is_up_stops_in_good_order(wire: Wire, tmp_path: Path) -> None:
    @tool(effect="read")
    async def forever() -> str:
        """Never comes back."""
        await anyio.sleep_forever()
        return "never"

    async with playing(tmp_path, tools=(forever,), grace=0.05) as (house, upstream):
        upstream.enqueue(Script([Say("I look."), Call("forever")]))
        started = await house.post("Go", model=MODELS[wire], limits={"seconds": 0.3})
        turn = await house.folded(started["assistant_turn"]["id"])
        upstream.enqueue(Script([Say("Yes.")]))
        again = await house.folded(await house.ask("And?", chat_id=started["chat"]["id"], model=MODELS[wire]))
        assert upstream.refused == []
    assert (turn.status, turn.stop_reason) == ("complete", "limit_seconds")
    assert results(turn)["forever"].outcome == "cancelled"
    assert again.status == "complete"


@WIRES
async def test_a_forced_call_is_forced_in_the_first_round_only(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path, tools=(good,)) as (house, upstream):
        upstream.enqueue(Script([Call("good")]))
        turn = await house.folded(await house.ask("Go", model=MODELS[wire], params={"tool_choice": "required"}))
        first, second = (request.body for request in upstream.requests)
    assert first["tool_choice"] in ("required", {"type": "any"})
    assert second.get("tool_choice") in (None, "auto", {"type": "auto"})
    assert turn.status == "complete"


# Formatters


def formatted(version: int) -> Callable[[Json], str]:
    @formatter("good", version=version)
    def shown(output: Json) -> str:
        return f"version {version}: {output['seen']}"

    return shown


@WIRES
async def test_a_changed_formatter_changes_no_result_that_was_read(wire: Wire, tmp_path: Path) -> None:
    """What the model has read it reads ever after, through a restart with another formatter."""
    async with playing(tmp_path, tools=(good, formatted(1))) as (house, upstream):
        upstream.enqueue(Script([Call("good", {"what": "a"})]))
        started = await house.post("Go", model=MODELS[wire])
        first_turn = started["assistant_turn"]["id"]
        await house.folded(first_turn)
        before = upstream.requests[1].body
    async with playing(tmp_path, tools=(good, formatted(2))) as (house, upstream):
        upstream.enqueue(Script([Call("good", {"what": "b"})]))
        turn_id = await house.ask("Again", chat_id=started["chat"]["id"], model=MODELS[wire])
        await house.folded(turn_id)
        sent = list(results_in(upstream.requests[1].body).values())
        view = await house.get(f"/v1/turns/{turn_id}/model_view")
        assert check_growth(before, upstream.requests[0].body) is None
    assert sent == ["version 1: a", "version 2: b"]
    assert [(one["text"], one["formatter"], one["version"]) for one in view["results"]] == [
        ("version 1: a", "good", 1),
        ("version 2: b", "good", 2),
    ]


@WIRES
async def test_a_formatter_that_raises_is_replaced_warned_of_once_and_counted(
    wire: Wire, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Hazard 36."""
    name = f"broken_{wire}"

    @tool(effect="read", name=name)
    async def broken() -> Json:
        """Its formatter is broken."""
        return {"a": 1}

    @formatter(name)
    def breaks(output: Json) -> str:
        return str(output["b"])

    async with playing(tmp_path, tools=(broken, breaks)) as (house, upstream):
        upstream.enqueue(Script([Call(name), Call(name)]), Script([Call(name)]))
        await house.folded(await house.ask("Go", model=MODELS[wire]))
        sent = list(results_in(upstream.requests[2].body).values())
        metrics = (await house.client.get("/metrics")).text
    assert sent == ['{"a":1}'] * 3
    warned = [record for record in caplog.records if f"formatter of {name!r} raised" in record.message]
    assert len(warned) == 1
    assert process.value("formatter_fallbacks", tool=name, cause="KeyError") == 3
    assert f'legato_formatter_fallbacks_total{{cause="KeyError",tool="{name}"}} 3' in metrics


@WIRES
async def test_every_request_begins_with_the_bytes_of_the_one_before(wire: Wire, tmp_path: Path) -> None:
    """Hazard 27: over turns, rounds, tools, thinking, limits, a cancel and a failure; marks for the cache aside."""

    async def turn(house: House, said: str, **fields: Json) -> str:
        started = await house.post(said, model=MODELS[wire], system="Be brief.", limits={"rounds": 3}, **fields)
        await house.folded(started["assistant_turn"]["id"])
        chat_id: str = started["chat"]["id"]
        return chat_id

    async with playing(tmp_path, tools=(good, raising), grace=0.05) as (house, upstream):
        upstream.enqueue(
            Script([Think("Hm."), Say("One. "), Call("good", {"what": "a"}), Call("raising")]),
            Script([Call("good", {"what": "b"})]),
            Script([Say("Said.  ")]),
        )
        chat_id = await turn(house, "First")
        upstream.enqueue(Script([Say("Cut short, "), Gate("cut")]))
        cancelled = await house.ask("Second", chat_id=chat_id, model=MODELS[wire])
        await upstream.reached("cut")
        await house.cancel(cancelled)
        await house.folded(cancelled)
        upstream.enqueue(Script([Say("Too lo"), Call("good", raw="{"), End("length")]))
        await turn(house, "Too long", chat_id=chat_id)
        upstream.enqueue(Script([Call("nobody")]), Script([Say("Third.")]))
        await turn(house, "Third", chat_id=chat_id)
        upstream.enqueue(Script([Say("Fourth.")]))
        await turn(house, "Fourth", chat_id=chat_id)
        bodies = [request.body for request in upstream.requests]
    assert upstream.refused == []
    assert len(bodies) >= 7
    for before, after in itertools.pairwise(bodies):
        assert check_growth(before, after) is None
        assert not unpaired(after)


def test_what_is_called_a_result_here_is_read_the_same_on_both_wires() -> None:
    of_anthropic = {"messages": [{"role": "user", "content": [tool_results("a", "seen")]}]}
    of_openai = {"messages": [{"role": "tool", "tool_call_id": "a", "content": "seen"}]}
    assert results_in(of_anthropic) == results_in(of_openai) == {"a": "seen"}
