"""A cancel at any moment: the turn ends at once and in good order, and the chat goes on (hazards 1, 18, 19)."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from tests.e2e.asking import PICK
from tests.e2e.house import MODELS, House, Json, body_of, frames_of, playing, standing, unpaired
from tests.patience import BOUND

from legato import ToolContext, tool
from legato.core import events as e
from legato.core.blocks import TextBlock, ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn, fold
from legato.observability import process
from legato.testing.check import signatures_in
from legato.testing.script import Wire
from legato.testing.store import FaultyStore
from legato.testing.upstream import (
    Call,
    End,
    Failure,
    Gate,
    Say,
    Script,
    Stall,
    Think,
    Upstream,
    Wait,
)

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
FILES = [file for wire in get_args(Wire) for file in sorted((RECORDINGS / wire).glob("*.sse"))]
WIRES = pytest.mark.parametrize("wire", get_args(Wire))


@tool(effect="read")
async def look(what: str, *, ctx: ToolContext) -> str:
    """Never comes back by itself."""
    await ctx.emit(f"looking for {what}\n")
    await anyio.sleep_forever()
    return "never"


@tool(effect="read")
async def quick(what: str) -> str:
    """Comes back at once."""
    return f"seen {what}"


@tool(effect="write")
async def save(what: str) -> str:
    """With effects: runs once its response has ended."""
    return f"saved {what}"


TOOLS = (look, quick, save)
RICH = Script(
    [
        Think("Where could it be?"),
        Say("I will look in three places. 🐉 "),
        Call("quick", {"what": "the hoard"}),
        Call("look", {"what": "the cave"}),
        Call("save", {"what": "what I know"}),
        Call("quick", raw='{"what": "torn'),
        Say("And one more. "),
        Call("functions.look it up", {"what": "it"}),
        Say("Wait for it. "),
        Call("quick", {"what": "the valley"}),
    ]
)


def cuts(frames: int, count: int) -> list[int]:
    """So many different numbers of frames after the first, up to all of them."""
    return sorted(random.Random(frames).sample(range(frames), min(count, frames)))


async def cancel_at(house: House, upstream: Upstream, gate: str, **fields: Json) -> tuple[Turn, str]:
    """Post, cancel when the upstream stands at the gate, and follow to the end."""
    started = await house.post("Find the dragon", **fields)
    turn_id = started["assistant_turn"]["id"]
    await upstream.reached(gate)
    cancelled = await house.cancel(turn_id)
    assert cancelled["stored"] is True
    return await house.folded(turn_id), started["chat"]["id"]


async def go_on(house: House, upstream: Upstream, chat_id: str) -> None:
    """The chat takes a next turn over each wire, and neither vendor refuses what it is sent."""
    for model in MODELS.values():
        upstream.enqueue(Script([Say("Go on, then."), End("end")]))
        turn = await house.folded(await house.ask("And now?", chat_id=chat_id, model=model))
        assert (turn.status, turn.error, upstream.refused) == ("complete", None, [])
        assert not unpaired(upstream.requests[-1].body)


def check_cancelled(turn: Turn) -> None:
    """Ended as cancelled, nothing open, each call of ours answered once."""
    assert (turn.status, turn.stop_reason) == ("cancelled", "cancelled")
    assert not turn.open
    calls = [b.call_id for b in turn.blocks if isinstance(b, ToolUseBlock) and b.origin != "provider"]
    sealed = [
        b.call_id
        for b in turn.blocks
        if isinstance(b, ToolUseBlock) and b.origin != "provider" and b.state == "complete"
    ]
    answered = [b.call_id for b in turn.blocks if isinstance(b, ToolResultBlock) and b.origin != "provider"]
    assert sorted(answered) == sorted(sealed)
    assert len(set(calls)) == len(calls)


async def cancel_rich(folder: Path, wire: Wire, count: int) -> None:
    frames = frames_of(body_of(wire, RICH))
    async with playing(folder, tools=TOOLS, grace=0.05) as (house, upstream):
        for at in cuts(len(frames), count):
            upstream.enqueue(standing(wire, frames[1 : 1 + at], f"after {at}"))
            turn, chat_id = await cancel_at(house, upstream, f"after {at}", model=MODELS[wire])
            check_cancelled(turn)
            await go_on(house, upstream, chat_id)


@WIRES
async def test_a_turn_cancelled_at_any_frame_leaves_a_chat_that_both_vendors_take(wire: Wire, tmp_path: Path) -> None:
    """Hazard 1, by cancel: a rich response with six calls, cut at many of its frames."""
    await cancel_rich(tmp_path, wire, 14)


@WIRES
async def test_a_second_round_cancelled_at_any_frame_keeps_the_first(wire: Wire, tmp_path: Path) -> None:
    """Hazard 1, by cancel in a later round: what the first one found stays in the history."""
    frames = frames_of(body_of(wire, RICH))
    async with playing(tmp_path, tools=TOOLS, grace=0.05) as (house, upstream):
        for at in cuts(len(frames), 5):
            upstream.enqueue(
                Script([Say("First."), Call("quick", {"what": "first"}), Call("save", {"what": "it"})]),
                standing(wire, frames[1 : 1 + at], f"after {at}"),
            )
            turn, chat_id = await cancel_at(house, upstream, f"after {at}", model=MODELS[wire])
            check_cancelled(turn)
            outputs = [block.output for block in turn.blocks if isinstance(block, ToolResultBlock) and block.round == 1]
            assert outputs == ["seen first", "saved it"]
            await go_on(house, upstream, chat_id)


def recorded(files: list[Path], count: int) -> Iterator[tuple[Path, list[bytes], int]]:
    for file in files:
        frames = frames_of(file.read_bytes())
        for at in cuts(len(frames), count):
            yield file, frames, at


def named_in(recording: bytes) -> list[Json]:
    """A client's tool for each name: so calls wait, and the cancel has something to answer."""
    names = {name.decode() for name in re.findall(rb'"name": ?"([a-zA-Z0-9_-]{1,64})"', recording)}
    return [{**PICK, "name": name} for name in sorted(names - {one.__name__ for one in TOOLS})]


async def cancel_recordings(folder: Path, files: list[Path], count: int) -> None:
    async with playing(folder, tools=TOOLS, grace=0.05) as (house, upstream):
        for file, frames, at in recorded(files, count):
            wire: Wire = "anthropic" if file.parent.name == "anthropic" else "openai_chat"
            upstream._signatures |= signatures_in(file.read_bytes())
            gate = f"{file.stem} after {at}"
            first = 1 if wire == "anthropic" else 0  # the upstream's own beginning stands for it
            upstream.enqueue(standing(wire, frames[first : 1 + at], gate))
            started = await house.post("Go on", model=MODELS[wire], client_tools=named_in(file.read_bytes()))
            turn_id = started["assistant_turn"]["id"]
            await upstream.reached(gate)
            await house.client.post(f"/v1/turns/{turn_id}/cancel")
            turn = await house.folded(turn_id)
            if turn.status == "cancelled":
                check_cancelled(turn)
            else:  # the cut lies behind the vendor's last word
                assert turn.ended
            await go_on(house, upstream, started["chat"]["id"])


@pytest.mark.skipif(not FILES, reason=f"no recordings at {RECORDINGS}")
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 4))])
async def test_recorded_turns_cancelled_at_any_frame_leave_chats_that_both_vendors_take(
    part: int, tmp_path: Path
) -> None:
    """Hazard 1, by cancel: every recorded stream, cut at two of its frames."""
    await cancel_recordings(tmp_path, FILES[part::4], 2)


@WIRES
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_turn_cancelled_at_every_frame_leaves_a_chat_that_both_vendors_take(wire: Wire, tmp_path: Path) -> None:
    """Hazard 1, by cancel: the rich response, cut at each of its frames."""
    await cancel_rich(tmp_path, wire, 1_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not FILES, reason=f"no recordings at {RECORDINGS}")
@pytest.mark.parametrize("part", range(4))
async def test_recorded_turns_cancelled_at_many_frames_leave_chats_that_both_vendors_take(
    part: int, tmp_path: Path
) -> None:
    """Hazard 1, by cancel, at thirty frames of each."""
    await cancel_recordings(tmp_path, FILES[part::4], 30)


@WIRES
async def test_a_cancel_keeps_what_a_reader_had_and_what_had_finished(wire: Wire, tmp_path: Path) -> None:
    """Hazard 18: the stored text is what was on the screen; finished results stay."""
    async with playing(tmp_path, tools=TOOLS, grace=0.05) as (house, upstream):
        upstream.enqueue(
            Script(
                [Say("A first part, "), Call("quick", {"what": "it"}), Say("a second part,"), Gate("here"), Say(" x")]
            )
        )
        turn_id = await house.ask("Find it", model=MODELS[wire])
        await upstream.reached("here")
        had: list[e.Event] = []
        with anyio.fail_after(BOUND):
            async for event in house.events(turn_id, each=True):
                had.append(event)
                texts = "".join(b.text for b in fold(had).blocks if isinstance(b, TextBlock))
                results = [b for b in fold(had).blocks if isinstance(b, ToolResultBlock) and b.outcome == "ok"]
                if texts == "A first part, a second part," and results:
                    break
        on_screen = fold(had)
        await house.cancel(turn_id)
        turn = await house.folded(turn_id)
        view = await house.turn(turn_id)
        await upstream.hung_up(1)
    assert [block.text for block in turn.blocks] == [block.text for block in on_screen.blocks]
    assert [block["text"] for block in view["blocks"]] == [block.text for block in on_screen.blocks]
    results = [block for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert [(block.outcome, block.output) for block in results] == [("ok", "seen it")]
    assert view["status"] == "cancelled"
    assert view["ended_at"] is not None


async def test_a_cancel_may_be_repeated_while_it_is_carried_out_and_after_the_end(tmp_path: Path) -> None:
    async with playing(tmp_path, tools=TOOLS, grace=0.05) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        answers: list[Json] = []

        async def cancel() -> None:
            answers.append((await house.client.post(f"/v1/turns/{turn_id}/cancel")).json())

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(cancel)
        events = await house.followed(turn_id, each=True)
        again = await house.cancel(turn_id, status=200)
        view = await house.turn(turn_id)
    assert all(answer["stored"] is True for answer in answers)
    assert sum(isinstance(event, e.TurnEnd) for event in events) == 1
    assert again["stored"] is True
    assert {**again, "stored": None} == {**view, "stored": None}


async def test_a_cancel_after_the_end_is_200_and_changes_nothing(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("All said.")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        before = await house.followed(turn_id, each=True)
        view = await house.turn(turn_id)
        late = await house.cancel(turn_id, status=200)
        after = await house.followed(turn_id, each=True)
    assert (late["status"], late["stored"]) == ("complete", True)
    assert before == after
    assert {**view, "stored": True} == late


@WIRES
@pytest.mark.parametrize(
    "answer",
    [
        Script([Gate("here"), Say("Too late.")]),
        Script([Say("Too late.")], lag=3600),
        Script([Say("Too late.")], quiet=3600),
        Script([Stall()]),
        Script([Stall(pings=0.01)]),
    ],
    ids=["after the headers", "before the headers", "before the first event", "a silent vendor", "pings"],
)
async def test_a_cancel_before_the_first_token_ends_the_turn_and_hangs_up(
    answer: Script, wire: Wire, tmp_path: Path
) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(answer)
        started = await house.post("Talk", model=MODELS[wire])
        turn_id = started["assistant_turn"]["id"]
        await upstream.received(1)
        await house.cancel(turn_id)
        turn = await house.folded(turn_id)
        await upstream.hung_up(1)
        check_cancelled(turn)
        assert turn.blocks == ()
        assert [record.commitment for record in turn.rounds] == ["orphaned"]
        await go_on(house, upstream, started["chat"]["id"])


@WIRES
async def test_a_cancel_while_a_stream_is_stalled_in_mid_text_keeps_the_text(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("As far as this"), Stall()]))
        started = await house.post("Talk", model=MODELS[wire])
        turn_id = started["assistant_turn"]["id"]
        await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta) and event.text == " this")
        await house.cancel(turn_id)
        turn = await house.folded(turn_id)
        await upstream.hung_up(1)
        assert [block.text for block in turn.blocks] == ["As far as this"]
        await go_on(house, upstream, started["chat"]["id"])


@WIRES
async def test_a_cancel_while_the_turn_waits_to_ask_again_ends_the_wait(wire: Wire, tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Failure("overloaded", retry_after="100"))
        started = await house.post("Talk", model=MODELS[wire])
        turn_id = started["assistant_turn"]["id"]
        await house.until(turn_id, lambda event: isinstance(event, e.RoundStart) and event.attempt == 2)
        await house.cancel(turn_id)
        turn = await house.folded(turn_id)
        check_cancelled(turn)
        assert len(upstream.requests) == 1
        await go_on(house, upstream, started["chat"]["id"])


@WIRES
async def test_a_cancel_is_answered_in_grace_while_a_plain_tool_does_not_listen(wire: Wire, tmp_path: Path) -> None:
    """A thread that does not listen is counted and left behind, and does not hold the turn."""
    running, let_go = threading.Event(), threading.Event()

    @tool(effect="write")
    def deaf() -> str:
        """Does not listen."""
        running.set()
        let_go.wait(30)
        return "never read"

    before = process.value("tool_threads_abandoned", tool="deaf")
    async with playing(tmp_path, tools=(deaf,), grace=0.05) as (house, upstream):
        upstream.enqueue(Script([Say("I begin."), Call("deaf")]))
        started = await house.post("Begin", model=MODELS[wire])
        turn_id = started["assistant_turn"]["id"]
        await anyio.to_thread.run_sync(running.wait, BOUND)
        await house.cancel(turn_id)
        turn = await house.folded(turn_id)
        check_cancelled(turn)
        result = next(block for block in turn.blocks if isinstance(block, ToolResultBlock))
        assert result.outcome == "cancelled"
        assert process.value("tool_threads_abandoned", tool="deaf") == before + 1
        await go_on(house, upstream, started["chat"]["id"])
        let_go.set()
    assert "may have taken effect" in str(result.error)


async def test_cancelled_turns_leave_no_task_and_no_connection_behind(tmp_path: Path) -> None:
    async with playing(tmp_path, tools=TOOLS, grace=0.05) as (house, upstream):

        async def one() -> None:
            upstream.enqueue(Script([Say("Talking."), Call("look", {"what": "it"}), Gate("here")]))
            turn_id = await house.ask("Talk", model=MODELS["anthropic"])
            await house.until(turn_id, lambda event: isinstance(event, e.ToolStart))
            await house.cancel(turn_id)
            check_cancelled(await house.folded(turn_id))
            await upstream.hung_up(len(upstream.requests))

        await one()
        tasks, open_to_vendor = len(asyncio.all_tasks()), len(upstream._connections)
        for _ in range(5):
            await one()
        with anyio.fail_after(BOUND):
            while len(asyncio.all_tasks()) > tasks or len(upstream._connections) > open_to_vendor:
                await anyio.lowlevel.checkpoint()
        assert not len(house.service._running)
        assert not house.service._house.toolbox._workshop.left_behind


async def test_a_cancelled_wait_for_effects_starts_nothing(tmp_path: Path) -> None:
    """A held call is answered, and never runs."""
    ran: list[str] = []

    @tool(effect="write")
    async def act(what: str) -> str:
        """With effects."""
        ran.append(what)
        return what

    async with playing(tmp_path, tools=(act,)) as (house, upstream):
        upstream.enqueue(Script([Call("act", {"what": "a"}), Call("act", {"what": "b"}), Gate("here")]))
        turn_id = await house.ask("Act", model=MODELS["openai_chat"])
        await upstream.reached("here")
        await house.until(turn_id, lambda event: isinstance(event, e.BlockStop))
        await house.cancel(turn_id)
        turn = await house.folded(turn_id)
    check_cancelled(turn)
    assert ran == []
    assert all(block.outcome == "cancelled" for block in turn.blocks if isinstance(block, ToolResultBlock))


async def test_a_cancel_may_come_between_the_last_result_and_the_next_round(tmp_path: Path) -> None:
    """While results are stored for the next request: it is never made."""
    async with playing(tmp_path, tools=TOOLS) as (house, upstream):
        upstream.enqueue(Script([Call("quick", {"what": "it"})]), Script([Wait(3600)]))
        started = await house.post("Look", model=MODELS["anthropic"])
        turn_id = started["assistant_turn"]["id"]
        await house.until(turn_id, lambda event: isinstance(event, e.RoundStop))
        await house.cancel(turn_id)
        turn = await house.folded(turn_id)
        check_cancelled(turn)
        upstream._answers.clear()
        await go_on(house, upstream, started["chat"]["id"])


@WIRES
async def test_a_cancelled_request_is_counted_and_said_to_be_an_estimate(wire: Wire, tmp_path: Path) -> None:
    """Hazard 24: neither missing nor 0."""
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("word " * 200), Gate("here")]), Script([Gate("before")]))
        turn_id = await house.ask("Talk", model=MODELS[wire])
        await upstream.reached("here")
        await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta) and event.seq > 100)
        await house.cancel(turn_id)
        said = sum(len(block.text.encode()) for block in (await house.folded(turn_id)).blocks)
        cut = await house.turn(turn_id)
        silent_id = await house.ask("Talk", model=MODELS[wire])
        await upstream.reached("before")
        await house.cancel(silent_id)
        await house.followed(silent_id)
        silent = await house.turn(silent_id)
    usage = cut["rounds"][0]["usage"]
    assert usage == cut["usage"]
    assert (usage["source"], usage["output_tokens"]) == ("estimated", -(-said // 4))
    assert usage["input_tokens"] > 0
    assert usage["cost_usd"] > 0
    assert silent["usage"]["source"] in ("estimated", "unknown")
    assert silent["usage"]["output_tokens"] != 0


async def test_a_cancel_hangs_up_though_the_store_stands_still(tmp_path: Path) -> None:
    """P6, P11: nothing that is stored is waited for between the cancel and the vendor's socket."""
    store = FaultyStore()
    async with playing(tmp_path, around=store.over) as (house, upstream):
        upstream.enqueue(Script([Say("Talking."), Gate("here")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        store.hold()
        answers: list[Json] = []

        async def cancel() -> None:
            answers.append(await house.cancel(turn_id))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            await upstream.hung_up(1)
            assert answers == []
        assert answers[0]["stored"] is False
        store.back()
        check_cancelled(await house.folded(turn_id))


async def test_a_cancel_hangs_up_before_a_tool_that_takes_its_time_has_ended(tmp_path: Path) -> None:
    """Until then nobody wants what the vendor says, and pays for it."""
    enough = threading.Event()

    @tool(effect="read")
    def finish_first() -> str:
        """Does not listen."""
        enough.wait(BOUND)
        return "at last"

    async with playing(tmp_path, tools=(finish_first,), grace=BOUND) as (house, upstream):
        upstream.enqueue(Script([Call("finish_first"), Say("Meanwhile I talk on."), Gate("here")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        await house.until(turn_id, lambda event: isinstance(event, e.ToolStart))
        await house.cancel(turn_id)
        await upstream.hung_up(1)
        assert (await house.turn(turn_id))["status"] == "running"
        enough.set()
        turn = await house.folded(turn_id)
    check_cancelled(turn)
    assert [block.output for block in turn.blocks if isinstance(block, ToolResultBlock)] == ["at last"]


async def test_a_cancel_after_the_block_lets_it_be_said_and_hangs_up(tmp_path: Path) -> None:
    async with playing(tmp_path) as (house, upstream):
        upstream.enqueue(Script([Say("This much "), Gate("half"), Say("and no more."), Say("Never."), Wait(3600)]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("half")
        answer = await house.client.post(f"/v1/turns/{turn_id}/cancel", json={"mode": "after_block"})
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        upstream.release("half")
        turn = await house.folded(turn_id)
        await upstream.hung_up(1)
    check_cancelled(turn)
    assert turn.blocks[0].state == "complete"


async def test_a_cancel_after_the_round_lets_its_calls_finish_and_asks_nothing_more(tmp_path: Path) -> None:
    async with playing(tmp_path, tools=TOOLS) as (house, upstream):
        upstream.enqueue(Script([Say("I look."), Gate("half"), Call("quick", {"what": "it"})]))
        turn_id = await house.ask("Look", model=MODELS["openai_chat"])
        await upstream.reached("half")
        answer = await house.client.post(f"/v1/turns/{turn_id}/cancel", json={"mode": "after_round"})
        assert answer.status_code == 202
        upstream.release("half")
        turn = await house.folded(turn_id)
        wrong = await house.client.post(f"/v1/turns/{turn_id}/cancel", json={"mode": "later"})
        assert wrong.status_code == 422
    check_cancelled(turn)
    assert [block.output for block in turn.blocks if isinstance(block, ToolResultBlock)] == ["seen it"]
    assert [record.commitment for record in turn.rounds] == ["committed"]
    assert len(upstream.requests) == 1
