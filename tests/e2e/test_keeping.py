"""What was said to be kept is kept: through kill -9, and with a store that hangs or is away (P4 to P8; hazard 14)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
from tests.e2e.asking import PICK, asked, give, rests
from tests.e2e.house import (
    MODELS,
    Child,
    Json,
    Stage,
    Visitor,
    configured,
    hasty,
    playing,
    serving,
    spawned,
    unpaired,
    upstream_environ,
)
from tests.patience import BOUND

from legato import tool
from legato.core import events as e
from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn, fold
from legato.observability import process
from legato.testing.store import FaultyStore
from legato.testing.upstream import Answer, Call, Failure, Gate, Say, Script, Think, Upstream

TOOLS = '''
from pathlib import Path

import anyio

from legato import ToolContext, tool

@tool(effect="read")
async def look(what: str) -> str:
    """Never comes back."""
    await anyio.sleep_forever()

@tool(effect="read")
async def quick(what: str) -> str:
    """Comes back at once."""
    return f"seen {what}"

@tool(effect="write")
async def save(what: str, *, ctx: ToolContext) -> str:
    """Writes down that it runs, says so, and never comes back."""
    with Path("ran").open("a") as ran:
        ran.write(what)
    await ctx.emit("it runs")
    await anyio.sleep_forever()
'''


def rows(folder: Path, query: str, *values: object) -> list[tuple[Json, ...]]:
    """What is in the file, read by somebody else."""
    with contextlib.closing(sqlite3.connect(folder / "legato.db")) as database:
        return database.execute(query, values).fetchall()


async def go_on(house: Visitor, upstream: Upstream, chat_id: str) -> None:
    """The chat takes a next turn over each wire, and neither vendor refuses what it is sent."""
    for model in MODELS.values():
        upstream.enqueue(Script([Say("Go on, then.")]))
        turn = await house.folded(await house.ask("And now?", chat_id=chat_id, model=model))
        assert (turn.status, turn.error, upstream.refused) == ("complete", None, [])
        assert not unpaired(upstream.requests[-1].body)


# The server is killed


async def test_a_turn_that_was_accepted_is_in_the_file_though_the_server_is_killed_at_once(tmp_path: Path) -> None:
    """P4: five turns, each with its user's words; and the same request after the restart finds its turn."""

    def body(number: int) -> Json:
        return {"input": f"word {number}", "turn_id": f"turn-{number}", "model": MODELS["anthropic"]}

    async with Upstream.open() as upstream:
        upstream.enqueue(*[Script([Gate("after the kill"), Say("Here again.")])] * 10)
        environ = upstream_environ(upstream)
        async with spawned(tmp_path, environ=environ) as child:
            for number in range(5):
                assert (await child.client.post("/v1/turns", json=body(number))).status_code == 202
            await child.kill()
        for number in range(5):
            [(asked,)] = rows(tmp_path, "SELECT prev_turn_id FROM turn WHERE id = ?", f"turn-{number}")
            assert rows(tmp_path, "SELECT text FROM block WHERE turn_id = ?", asked) == [(f"word {number}",)]
        upstream.release("after the kill")
        async with spawned(tmp_path, environ=environ) as child:
            again = await child.client.post("/v1/turns", json=body(4))
            assert (again.status_code, again.json()["assistant_turn"]["id"]) == (200, "turn-4")
            for number in range(5):
                turn = await child.folded(f"turn-{number}")
                assert (turn.error, [block.text for block in turn.blocks]) == (None, ["Here again."])


class Cut:
    """A turn in some state when its server is killed, and what a reader of it had by then."""

    def __init__(self, *answers: Answer, until: Callable[[e.Event], bool]) -> None:
        self.answers = answers
        self.had: list[e.Event] = []
        self.started: Json = None
        self.there = anyio.Event()
        self._until = until

    @property
    def turn_id(self) -> str:
        turn_id: str = self.started["assistant_turn"]["id"]
        return turn_id

    async def read(self, child: Child) -> None:
        """Until the line is cut."""
        with contextlib.suppress(httpx.TransportError):
            async for event in child.events(self.turn_id, each=True):
                self.had.append(event)
                if self._until(event):
                    self.there.set()


def said(text: str) -> Callable[[e.Event], bool]:
    return lambda event: isinstance(event, e.BlockDelta) and event.text == text


def states() -> dict[str, Cut]:
    quick, never = Call("quick", {"what": "a"}), Gate("never")
    return {
        "before the first byte": Cut(Script([Say("x")], lag=3600), until=lambda event: isinstance(event, e.RoundStart)),
        "standing in a text": Cut(Script([Think("Hm."), Say("As far as this"), never]), until=said(" this")),
        "in the middle of a stream": Cut(Script([Say("word " * 1_000, pace=400)]), until=lambda event: event.seq == 60),
        "a read runs": Cut(
            Script([Say("I look."), quick, Call("look", {"what": "b"}), never]),
            until=lambda event: isinstance(event, e.ToolStart) and event.tool_name == "look",
        ),
        "a write runs": Cut(Script([quick, Call("save", {"what": "b"})]), until=said("it runs")),
        "a write is held": Cut(Script([Call("save", {"what": "c"}), Say("Now."), never]), until=said("Now.")),
        "in the second round": Cut(Script([quick]), Script([Say("So far"), never]), until=said(" far")),
        "while it waits to ask again": Cut(
            Failure("overloaded", retry_after="100"), until=lambda event: isinstance(event, e.Notice)
        ),
    }


async def cut_all(folder: Path, upstream: Upstream, cuts: dict[str, Cut]) -> None:
    """Bring each turn to its state in one server, and kill it."""
    environ = upstream_environ(upstream)
    async with spawned(folder, environ=environ, tools=TOOLS) as child, anyio.create_task_group() as readers:
        for cut in cuts.values():
            upstream.enqueue(*cut.answers)
            cut.started = await child.post("Go", model=MODELS["anthropic"])
            readers.start_soon(cut.read, child)
            with anyio.fail_after(BOUND):
                await cut.there.wait()
        await child.kill()


@tool(effect="read")
async def look(what: str) -> str:
    """Comes back, this time."""
    return f"seen {what}"


@tool(effect="read")
async def quick(what: str) -> str:
    """Comes back at once."""
    return f"seen {what}"


@tool(effect="write")
async def save(what: str) -> str:
    """With effects."""
    return f"saved {what}"


def check_taken_up(turn: Turn, events: list[e.Event]) -> None:
    """Brought to its end by a new owner, who begins with a rewind; nothing is open, each call is answered."""
    assert (turn.error, turn.status, turn.stop_reason) == (None, "complete", "end")
    assert not turn.open
    first = next(event for event in events if event.seq > e.EPOCH_SIZE)
    assert isinstance(first, e.Rewind)
    assert first.seq == e.EPOCH_SIZE + 1
    calls = [one.call_id for one in turn.blocks if isinstance(one, ToolUseBlock) and one.state == "complete"]
    assert sorted(calls) == sorted(one.call_id for one in turn.blocks if isinstance(one, ToolResultBlock))
    assert all(record.commitment is not None for record in turn.rounds)


async def test_the_turns_of_a_killed_server_go_on_in_the_next_and_every_chat_is_usable(tmp_path: Path) -> None:
    """Hazards 1 and 14, P8, P9: eight turns in eight states; readers come back with the cursor they had."""
    cuts = states()
    async with Upstream.open() as upstream:
        await cut_all(tmp_path, upstream, cuts)
        config = configured(tmp_path, environ=upstream_environ(upstream))
        async with serving(config, tools=(look, quick, save)) as house:
            for name, cut in cuts.items():
                whole = await house.followed(cut.turn_id, each=True)
                turn = fold(whole)
                check_taken_up(turn, whole)
                for had in (cut.had, cut.had[: len(cut.had) // 2], cut.had[:1]):
                    rest = await house.followed(cut.turn_id, after=had[-1].seq)
                    assert fold([*had, *rest]).blocks == turn.blocks, name
                    assert fold([*had, *rest]).rounds == turn.rounds, name
                view = await house.turn(cut.turn_id)
                assert [block["text"] for block in view["blocks"]] == [block.text for block in turn.blocks]
                assert (view["status"], view["last_seq"]) == ("complete", whole[-1].seq)
                chat = await house.get(f"/v1/chats/{view['chat_id']}")
                assert chat["active_turn_id"] is None
                await go_on(house, upstream, view["chat_id"])
    outcomes = {name: _outcomes(fold(cut.had)) for name, cut in cuts.items()}
    assert outcomes["a read runs"] == {"quick": "ok"}
    assert ran(tmp_path) == "b"


def ran(folder: Path) -> str:
    return (folder / "ran").read_text()


def _outcomes(turn: Turn) -> dict[str, str | None]:
    return {block.tool_name: block.outcome for block in turn.blocks if isinstance(block, ToolResultBlock)}


@pytest.mark.slow
async def test_a_write_that_ran_when_the_server_was_killed_is_unknown_and_not_run_again(tmp_path: Path) -> None:
    """P7, hazard 23 in small. One that was held, and whose response never ended, never ran."""
    # The intent of the one that runs is stored in one flush with what was said of the one that is held.
    cuts = {name: states()[name] for name in ("a write is held", "a write runs")}
    async with Upstream.open() as upstream:
        await cut_all(tmp_path, upstream, cuts)
        async with spawned(tmp_path, environ=upstream_environ(upstream), tools=TOOLS) as child:
            running = await child.folded(cuts["a write runs"].turn_id)
            held = await child.folded(cuts["a write is held"].turn_id)
    assert _outcomes(running)["save"] == "unknown"
    assert _outcomes(held) == {"save": "error"}
    assert ran(tmp_path) == "b"


@pytest.mark.slow
async def test_a_second_server_on_the_same_file_ends_no_turn_of_the_first(tmp_path: Path) -> None:
    """And its readers follow what runs elsewhere, to the end."""
    async with Upstream.open() as upstream:
        upstream.enqueue(Script([Say("Before, "), Gate("here"), Say("after.")]))
        environ = upstream_environ(upstream)
        async with spawned(tmp_path, environ=environ) as first:
            turn_id = await first.ask("Talk", model=MODELS["anthropic"])
            await upstream.reached("here")
            async with serving(configured(tmp_path, environ=environ)) as second:
                assert (await second.turn(turn_id))["status"] == "running"
                async with reading(second, turn_id) as read:
                    upstream.release("here")
            whole = await first.followed(turn_id)
    assert fold(read).blocks == fold(whole).blocks
    assert fold(whole).status == "complete"


# The store hangs, is away, refuses


@contextlib.asynccontextmanager
async def faulty(folder: Path, **flags: Json) -> AsyncIterator[tuple[Stage, FaultyStore]]:
    store = FaultyStore()
    async with playing(folder, tools=(look, quick, save), around=store.over, grace=0.05, **flags) as stage:
        try:
            yield stage, store
        finally:
            store.back()


@contextlib.asynccontextmanager
async def reading(house: Visitor, turn_id: str) -> AsyncIterator[list[e.Event]]:
    """A reader who has joined, and has read to the end when the block is left."""
    read: list[e.Event] = []
    joined = anyio.Event()

    async def follow() -> None:
        async for event in house.events(turn_id):
            read.append(event)
            joined.set()

    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await joined.wait()
            yield read


def _error(events: list[e.Event]) -> str | None:
    """The code of the error the turn ended with."""
    end = events[-1]
    return end.error.code if isinstance(end, e.TurnEnd) and isinstance(end.error, e.ErrorInfo) else None


async def test_the_end_is_said_only_once_everything_is_stored(tmp_path: Path) -> None:
    """P5: the reader has everything but the end while the write stands; with the end, the file has it too."""
    async with faulty(tmp_path) as ((house, upstream), store):
        upstream.enqueue(Script([Say("All "), Gate("here"), Say("of it.")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        store.hold("write")
        read: list[e.Event] = []
        stopped = anyio.Event()

        async def follow() -> None:
            async for event in house.events(turn_id):
                read.append(event)
                if isinstance(event, e.RoundStop):
                    stopped.set()
                if isinstance(event, e.TurnEnd):
                    assert rows(tmp_path, "SELECT status FROM turn WHERE id = ?", turn_id) == [("complete",)]
                    texts = rows(tmp_path, "SELECT text FROM block WHERE turn_id = ? ORDER BY idx", turn_id)
                    assert [text for (text,) in texts] == ["All ", "of it."]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            upstream.release("here")
            with anyio.fail_after(BOUND):
                await stopped.wait()
            view = await house.turn(turn_id)
            assert (view["status"], view["ended_at"], view["stop_reason"]) == ("running", None, None)
            assert view["last_seq"] == read[-1].seq
            assert not isinstance(read[-1], e.TurnEnd)
            store.back()
    assert isinstance(read[-1], e.TurnEnd)


async def test_a_turn_that_ends_while_it_is_looked_at_is_not_shown_to_run(tmp_path: Path) -> None:
    """Who goes on from such a view is told 204, and shows it running for ever (hazard 14; met by `legato torture`)."""
    async with faulty(tmp_path) as ((house, upstream), store):
        upstream.enqueue(Script([Say("Soon "), Gate("here"), Say("over.")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        store.hold("siblings")
        looks = store.calls.count("siblings")
        views: list[Json] = []

        async def look() -> None:
            views.append(await house.turn(turn_id))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await store.reached("siblings", times=looks + 1)
            upstream.release("here")
            end = (await house.followed(turn_id))[-1]
            store.back()
    assert [(view["status"], view["last_seq"], view["ended_at"] is not None) for view in views] == [
        ("complete", end.seq, True)
    ]


async def test_a_view_of_what_is_stored_is_of_one_moment(tmp_path: Path) -> None:
    """The row of a turn that waits is read, then its log: it goes on and ends between the two."""
    async with faulty(tmp_path) as ((house, upstream), store):
        upstream.enqueue(Script([Call("pick", {})]), Script([Say("So be it.")]))
        turn_id = await house.ask("Pick", model=MODELS["anthropic"], client_tools=[PICK])
        await rests(house, turn_id)
        [waiting] = await asked(house, turn_id)
        store.hold("siblings")
        looks = store.calls.count("siblings")
        views: list[Json] = []

        async def look() -> None:
            views.append(await house.turn(turn_id))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await store.reached("siblings", times=looks + 1)
            tasks.start_soon(give, house, turn_id, {"call_id": waiting.call_id, "output": "this"})
            await house.followed(turn_id)
            store.back()
    assert [(view["status"], view["ended_at"] is not None) for view in views] == [("complete", True)]


async def test_a_turn_that_is_taken_up_is_heard_once_that_is_stored(tmp_path: Path) -> None:
    """Else it could be taken up once more from what is stored, and rewound to what readers had dropped by then."""
    async with faulty(tmp_path) as ((house, upstream), store):
        upstream.enqueue(Script([Call("pick", {})]), Script([Say("So be it.")]))
        turn_id = await house.ask("Pick", model=MODELS["anthropic"], client_tools=[PICK])
        waits = await rests(house, turn_id)
        [waiting] = await asked(house, turn_id)
        store.hold("write")
        written = store.calls.count("write")
        await give(house, turn_id, {"call_id": waiting.call_id, "output": "this"})
        await store.reached("write", times=written + 1)
        assert (await house.turn(turn_id))["last_seq"] == waits
        read: list[e.Event] = []
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                read.extend([event async for event in house.events(turn_id, after=waits)])

            tasks.start_soon(follow)
            await house.get("/livez")
            assert (await house.turn(turn_id))["last_seq"] == waits
            assert read == []
            store.back()
    assert isinstance(read[0], e.Rewind)
    assert isinstance(read[-1], e.TurnEnd)


async def test_deltas_and_reads_go_on_while_the_store_hangs(tmp_path: Path) -> None:
    """P6, hazard 16: each piece reaches the reader before the next is released, and no write has come through."""
    async with faulty(tmp_path) as ((house, upstream), store):
        pieces = [f"piece-{number}" for number in range(8)]
        steps = [step for piece in pieces for step in (Say(piece), Gate(piece))]
        upstream.enqueue(Script([*steps, Call("quick", {"what": "it"}), Gate("last")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached(pieces[0])
        store.hold("write")
        begun = [name for name in store.calls if name == "write"]
        for piece in pieces:
            await house.until(turn_id, said(piece))
            upstream.release(piece)
        await house.until(turn_id, lambda event: isinstance(event, e.BlockStop) and event.output == "seen it")
        assert store.calls.count("write") <= len(begun) + 1
        [(last,)] = rows(tmp_path, "SELECT last_seq FROM turn WHERE id = ?", turn_id)
        store.back()
        upstream.release("last")
        events = await house.followed(turn_id, each=True)
    assert last < events[-1].seq
    assert fold(events).status == "complete"


async def test_a_store_that_was_away_has_everything_once_it_is_back(tmp_path: Path) -> None:
    """P6: writes that failed, and one that was lost after its commit, are repeated; nothing is twice."""
    async with faulty(tmp_path) as ((house, upstream), store):
        upstream.enqueue(Script([Say("One, "), Gate("here"), Say("two.")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        store.away("write", times=3)
        upstream.release("here")
        first = await house.followed(turn_id, each=True)
        store.back()
        store.lose_answers("write")
        upstream.enqueue(Script([Say("Three, "), Gate("there"), Say("four.")]))
        other = await house.ask("Talk", model=MODELS["openai_chat"])
        await store.reached("write", times=store.calls.count("write") + 2)
        upstream.release("there")
        store.back()
        second = await house.followed(other, each=True)
        again = [await house.followed(one, each=True) for one in (turn_id, other)]
    async with serving(configured(tmp_path)) as house:
        assert [await house.followed(one, each=True) for one in (turn_id, other)] == again == [first, second]
        view = await house.turn(other)
    assert [block["text"] for block in view["blocks"]] == ["Three, four."]


@pytest.mark.parametrize("fault", ["hangs", "is away"])
async def test_a_cancel_acts_at_once_whatever_the_store_does(fault: str, tmp_path: Path) -> None:
    """P6: 202 with ``stored`` false; the vendor is hung up on, and the readers see the turn stop."""
    async with faulty(tmp_path) as ((house, upstream), store):
        upstream.enqueue(Script([Say("Talking"), Gate("here")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        await house.until(turn_id, lambda event: isinstance(event, e.BlockDelta))
        read: list[e.Event] = []
        joined, stopped = anyio.Event(), anyio.Event()

        async def follow() -> None:
            async for event in house.events(turn_id):
                read.append(event)
                joined.set()
                if isinstance(event, e.RoundStop):
                    stopped.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            with anyio.fail_after(BOUND):
                await joined.wait()
            if fault == "hangs":
                store.hold()
            else:
                store.away()
            cancelled = await house.cancel(turn_id)
            await upstream.hung_up(1)
            with anyio.fail_after(BOUND):
                await stopped.wait()
            store.back()
        view = await house.turn(turn_id)
    assert cancelled["stored"] is False
    assert cancelled["id"] == turn_id
    assert isinstance(read[-1], e.TurnEnd)
    assert (view["status"], [block["text"] for block in view["blocks"]]) == ("cancelled", ["Talking"])


async def test_a_turn_the_store_refuses_ends_alone_and_its_chat_goes_on(tmp_path: Path) -> None:
    """P6, hazard 14: ``persistence_failed``; its neighbour is stored, and nothing runs for ever."""
    async with faulty(tmp_path) as ((house, upstream), store):
        upstream.enqueue(Script([Say("Refused."), Gate("a")]), Script([Say("Taken."), Gate("b")]))
        started = await house.post("Talk", model=MODELS["anthropic"])
        refused = started["assistant_turn"]["id"]
        await upstream.reached("a")
        taken = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("b")
        store.refuse(refused)
        async with reading(house, refused) as events:
            upstream.release("a")
        assert _error(events) == "persistence_failed"
        upstream.release("b")
        assert (await house.folded(taken)).status == "complete"
        store.back()
        turn = await house.folded(refused)
        view = await house.turn(refused)
        assert (turn.status, view["status"], view["error"]["code"]) == ("error", "error", "persistence_failed")
        assert view["ended_at"] is not None
        assert fold([*events, *await house.followed(refused, after=e.EPOCH_SIZE)]).blocks == turn.blocks
        await go_on(house, upstream, started["chat"]["id"])
    assert process.value("journal_rows_refused") >= 1


async def test_a_store_that_stays_away_ends_the_turn_and_takes_the_chat_back_once_it_is_there(tmp_path: Path) -> None:
    """P6: past the retry window the turn ends as ``persistence_failed``, said to readers; later the row says so too."""
    store = FaultyStore()
    async with playing(tmp_path, around=store.over) as (house, upstream):
        upstream.enqueue(Script([Say("Talking"), Gate("here"), Say(" on")]))
        started = await house.post("Talk", model=MODELS["anthropic"])
        turn_id = started["assistant_turn"]["id"]
        await upstream.reached("here")
        store.away("write", "claim")
        with hasty(house, retry_window=0.1):
            async with reading(house, turn_id) as events:
                upstream.release("here")
        assert _error(events) == "persistence_failed"
        store.back()
        assert (await house.folded(turn_id)).status == "error"
        await go_on(house, upstream, started["chat"]["id"])


@pytest.mark.parametrize("retry_window", [60.0, 0.3])
async def test_a_store_that_is_too_far_behind_costs_new_turns_and_only_as_long_as_it_is(
    retry_window: float, tmp_path: Path
) -> None:
    """P12: ``store_behind`` with both numbers, while what was said waits or until it is given up on; not after."""
    store = FaultyStore()
    async with playing(tmp_path, around=store.over, limits__unsaved_bytes=2_000) as (house, upstream):
        upstream.enqueue(Script([Gate("here"), Say("word " * 100), Gate("said")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        await upstream.reached("here")
        store.away("write", "claim")
        journal, body = house.service._journal, {"input": "And I?", "model": MODELS["anthropic"]}
        with hasty(house, retry_window=retry_window, persist_timeout=0.1):
            async with reading(house, turn_id) as events:
                upstream.release("here")
                while journal.unsaved_bytes() <= 2_000:
                    await anyio.lowlevel.checkpoint()
                refused = await house.client.post("/v1/turns", json=body)
                if retry_window < 1:
                    while len(house.service._running):
                        await anyio.lowlevel.checkpoint()
                store.back()
                upstream.release("said")
        assert (refused.status_code, refused.json()["code"], refused.json()["limit"]) == (503, "store_behind", 2_000)
        assert refused.json()["actual"] > 2_000
        assert int(refused.headers["retry-after"]) >= 1
        assert _error(events) == ("persistence_failed" if retry_window < 1 else None)
        upstream.enqueue(Script([Say("Yes.")]))
        assert (await house.folded(await house.ask(**body))).status == "complete"


async def test_a_post_while_the_store_is_away_is_503_and_makes_nothing(tmp_path: Path) -> None:
    async with faulty(tmp_path) as ((house, upstream), store):
        body = {"input": "Talk", "turn_id": "mine", "model": MODELS["anthropic"]}
        store.away()
        refused = await house.client.post("/v1/turns", json=body)
        ready = await house.client.get("/readyz")
        alive = await house.client.get("/livez")
        store.back()
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert (ready.status_code, alive.status_code) == (503, 200)
        assert (await house.client.get("/v1/turns/mine")).status_code == 404
        assert upstream.requests == []
        upstream.enqueue(Script([Say("Now.")]))
        assert (await house.client.post("/v1/turns", json=body)).status_code == 202
        assert (await house.folded("mine")).status == "complete"


async def test_a_post_that_was_given_up_on_makes_one_turn_all_the_same(tmp_path: Path) -> None:
    """A write that was given up on may still happen: the repeat finds its turn."""
    async with faulty(tmp_path, storage__persist_timeout=0.1) as ((house, upstream), store):
        body = {"input": "Talk", "turn_id": "mine", "model": MODELS["anthropic"]}
        upstream.enqueue(Script([Say("Once.")]))
        store.hold("begin")
        answers = [await house.client.post("/v1/turns", json=body) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503] * 3
        store.back()
        with anyio.fail_after(BOUND):
            while (await house.client.get("/v1/turns/mine")).status_code == 404:
                await anyio.lowlevel.checkpoint()
        turn = await house.folded("mine")
        again = await house.client.post("/v1/turns", json=body)
        assert (again.status_code, turn.status, len(upstream.requests)) == (200, "complete", 1)


async def test_a_stream_with_the_store_away_is_closed_without_a_status(tmp_path: Path) -> None:
    """An ``EventSource`` takes any other answer for the end."""
    async with faulty(tmp_path) as ((house, upstream), store):
        upstream.enqueue(Script([Say("Talking"), Gate("here")]))
        turn_id = await house.ask("Talk", model=MODELS["anthropic"])
        store.away("turn", "chat", "log")
        with pytest.raises(httpx.RemoteProtocolError):
            await house.client.get(f"/v1/turns/{turn_id}/events")
        store.back()
        upstream.release("here")
        assert (await house.folded(turn_id)).status == "complete"


async def test_a_read_while_the_store_is_away_is_503_and_nothing_breaks(tmp_path: Path) -> None:
    async with faulty(tmp_path) as ((house, _), store):
        store.away()
        for path in ("/v1/chats", "/v1/turns/x", "/v1/chats/x", "/v1/turns/x/timeline", "/v1/turns/x/model_view"):
            answer = await house.client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), path
        store.back()
        assert (await house.client.get("/v1/chats")).status_code == 200


async def test_a_store_with_faults_has_in_the_end_what_one_without_has(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:

    async def played(*, faults: bool) -> list[tuple[str, str]]:
        folder = tmp_path_factory.mktemp("played")
        async with faulty(folder) as ((house, upstream), store):
            if faults:
                store.slow(0.01)
                store.away("write", times=2)
            upstream.enqueue(Script([Say("One."), Call("quick", {"what": "a"}), Call("save", {"what": "b"})]))
            turn_id = await house.ask("Go", model=MODELS["anthropic"])
            turn = await house.folded(turn_id)
            stored = rows(folder, "SELECT type, text FROM block WHERE turn_id = ? ORDER BY idx", turn_id)
        assert turn.status == "complete"
        return sorted((str(kind), str(text)) for kind, text in stored)

    assert await played(faults=True) == await played(faults=False)
