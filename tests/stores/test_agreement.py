"""The memory store is a fake that is trusted: over random histories it says what the SQLite store says."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stores.values import Make, at, lines

from legato.core.blocks import Block, TextBlock, ToolResultBlock, ToolUseBlock
from legato.core.errors import LegatoError
from legato.core.events import EPOCH_SIZE
from legato.core.records import (
    Accepted,
    Answer,
    Chat,
    Intent,
    Need,
    NewTurns,
    Reading,
    Rest,
    RoundRecord,
    Span,
    TurnEnding,
    TurnRow,
    TurnWrite,
)
from legato.core.usage import UNKNOWN
from legato.ports import CHAT_FIELDS, Store
from legato.stores.memory import MemoryStore
from legato.stores.sqlite import open_sqlite

Step: TypeAlias = Callable[[Store], Awaitable[object]]

CHATS = ("c0", "c1")
TURNS = ("t0", "t1", "t2", "t3", "t4")
chats, turns = st.sampled_from(CHATS), st.sampled_from(TURNS)
times = st.integers(0, 5).map(at)
owners = st.sampled_from(("ann", "ann", "ann", "bob"))
words = st.sampled_from(("", "a", "é\u2028", "\x00", "🐉"))
make = Make()


def row(turn_id: str, chat_id: str, role: str, prev: str | None, made: str, ended: str | None) -> TurnRow:
    return TurnRow(
        id=turn_id,
        chat_id=chat_id,
        prev_turn_id=prev,
        role="user" if role == "user" else "assistant",
        status="queued",
        created_at=made,
        depth=1,
        ended_at=ended,
    )


def chat(chat_id: str, owner: str, title: str, updated: str, head: str | None) -> Chat:
    return Chat(
        id=chat_id,
        owner=owner,
        title=title,
        system=None,
        model=None,
        metadata={"t": title},
        head_turn_id=head,
        active_turn_id=None,
        created_at=updated,
        updated_at=updated,
    )


made_chats = st.builds(chat, chats, owners, words, times, st.none() | turns)
outputs = st.none() | words | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(words)
CALLS = ("c0", "c1", "c2")


def use(index: int, text: str) -> ToolUseBlock:
    return ToolUseBlock(
        index=index, round=1, state="complete", text=text, call_id=CALLS[index], tool_name="t", origin="server"
    )


def result(index: int, tool_name: str, output: object) -> ToolResultBlock:
    """A call has one result, so the index says whose it is."""
    return ToolResultBlock(
        index=index,
        round=1,
        state="complete",
        call_id=CALLS[index],
        tool_name=tool_name,
        origin="server",
        output=output,
    )


indexes = st.integers(0, 2)
blocks: st.SearchStrategy[Block] = (
    st.builds(TextBlock, index=indexes, round=st.just(1), state=st.sampled_from(("partial", "complete")), text=words)
    | st.builds(use, indexes, words)
    | st.builds(result, indexes, words, outputs)
)
rounds = st.builds(
    RoundRecord,
    round=st.integers(1, 2),
    attempt=st.just(1),
    model=words,
    provider=words,
    kept_to=st.none() | st.just(3),
)
calls = st.sampled_from(CALLS)
readings = st.builds(Reading, call_id=calls, text=words, formatter=words, version=st.just(1))
intents = st.builds(
    Intent,
    call_id=calls,
    round=st.just(1),
    index=indexes,
    tool_name=words,
    input=st.just({}),
    input_sha256=words,
    idempotency_key=st.sampled_from(["key", "other"]),
    owner=st.none() | words,
)
needs = st.builds(
    Need, call_id=calls, nr=st.integers(1, 2), kind=st.just("input"), input_sha256=words, state=outputs, message=words
)
answers = st.builds(Answer, call_id=calls, decision=st.just("approve")) | st.builds(
    Answer, call_id=calls, output=outputs
)
spans = st.builds(
    Span, kind=st.just("round"), name=words, round=st.just(1), start_ms=st.just(1.5), end_ms=st.none() | st.just(2.0)
)
endings = st.builds(
    TurnEnding,
    status=st.just("complete"),
    stop_reason=st.just("end"),
    usage=st.just(UNKNOWN),
    error=st.none(),
    ended_at=times,
)


@st.composite
def writes(draw: st.DrawFn, turn_ids: st.SearchStrategy[str] = turns) -> TurnWrite:
    epoch = draw(st.sampled_from((0, 0, 0, 1, 2)))
    first = draw(st.integers(1, 8))
    segment = make.segment(epoch * EPOCH_SIZE + first, epoch * EPOCH_SIZE + first + draw(st.integers(0, 4)))
    return TurnWrite(
        turn_id=draw(turn_ids),
        epoch=epoch,
        segment=draw(st.sampled_from((segment, segment, None))),
        blocks=tuple(draw(st.lists(blocks, max_size=2))),
        rounds=tuple(draw(st.lists(rounds, max_size=2))),
        readings=tuple(draw(st.lists(readings, max_size=2))),
        intents=tuple(draw(st.lists(intents, max_size=1))),
        needs=tuple(draw(st.lists(needs, max_size=2))),
        taken=tuple(draw(st.lists(st.tuples(calls, st.integers(1, 2)), max_size=1))),
        dropped_blocks=tuple(draw(st.sampled_from(((), (), (1,), (0, 2))))),
        dropped_rounds=tuple(draw(st.sampled_from(((), (), ((1, 1),), ((2, 1), (2, 2)))))),
        rest=draw(st.none() | st.builds(Rest, wait_until=times)),
        spans=tuple(draw(st.lists(spans, max_size=1))),
        ending=draw(st.sampled_from((None, None, draw(endings)))),
    )


# So that most of what is written finds its turn.
PRELUDE = (
    NewTurns(
        owner="ann",
        user=row("t0", "c0", "user", None, at(1), at(1)),
        assistant=row("t1", "c0", "assistant", "t0", at(1), None),
    ),
    NewTurns(owner="ann", assistant=row("t2", "c1", "assistant", None, at(2), None)),
)


@st.composite
def news(draw: st.DrawFn) -> NewTurns:
    chat_id, user_id = draw(chats), draw(turns)
    prev = draw(st.sampled_from((None, None, draw(turns))))
    with_user = draw(st.booleans())
    user = row(user_id, chat_id, "user", prev, draw(times), draw(st.none() | times)) if with_user else None
    return NewTurns(
        owner=draw(owners),
        chat=msgspec.structs.replace(draw(made_chats), id=chat_id) if draw(st.integers(0, 4)) == 0 else None,
        user=user,
        user_write=draw(st.none() | writes(st.just(user_id))) if with_user else None,
        assistant=row(
            draw(turns), chat_id, "assistant", user_id if with_user else prev, draw(times), draw(st.none() | times)
        ),
    )


Said: TypeAlias = tuple[str, Step]

begins: st.SearchStrategy[Said] = news().map(lambda new: (repr(new), lambda store: store.begin(new)))
groups: st.SearchStrategy[Said] = st.lists(writes(), min_size=1, max_size=2).map(
    lambda some: (repr(some), lambda store: store.write(some))
)
others: st.SearchStrategy[Said] = st.one_of(
    st.tuples(turns, st.integers(0, 2), owners).map(
        lambda one: (f"claim {one}", lambda store: store.claim(one[0], epoch=one[1], owner=one[2]))
    ),
    st.tuples(turns, st.lists(answers, min_size=1, max_size=2)).map(
        lambda one: (f"answer {one}", lambda store: store.answer(one[0], one[1]))
    ),
    st.tuples(turns, calls, st.integers(0, 5), st.binary(max_size=4), st.integers(0, 2)).map(
        lambda one: (f"keep {one}", lambda store: store.keep_output(*one[:4], epoch=one[4]))
    ),
    turns.map(lambda turn_id: (f"cancel {turn_id}", lambda store: store.request_cancel(turn_id))),
    made_chats.map(lambda one: (repr(one), lambda store: store.create_chat(one))),
    st.tuples(made_chats, st.lists(st.sampled_from(CHAT_FIELDS), unique=True)).map(
        lambda one: (f"update {one}", lambda store: store.update_chat(one[0], fields=one[1]))
    ),
    st.just((f"delete {CHATS[1]}", lambda store: store.delete_chat(CHATS[1]))),
)
# What a chat's life mostly is, the rest now and then.
steps = st.one_of(begins, groups, groups, groups, others)


class Standing:
    """A clock that stands, so that both give a lease until the same moment."""

    def now(self) -> str:
        return at(3)

    def after(self, seconds: float) -> str:
        return at(3 + int(seconds))

    def monotonic(self) -> float:
        return 0.0


async def outcome(store: Store, step: Step) -> object:
    try:
        return await step(store)
    except LegatoError as error:
        return type(error).__name__, error.code, getattr(error, "turn_id", None)


async def everything(store: Store) -> dict[str, object]:
    found: dict[str, object] = {
        "unended": list(await store.unended()),
        "overdue": list(await store.overdue()),
        "woken": list(await store.to_wake(at(3))),
    }
    for chat_id in CHATS:
        results = [await store.result(chat_id, call_id) for call_id in CALLS]
        found[chat_id] = (await store.chat(chat_id), list(await store.tree(chat_id)), results)
    for owner in ("ann", "bob"):
        found[owner] = await store.chats(owner, limit=1, before=None)
    for turn_id in TURNS:
        kept = await store.turn(turn_id)
        found[turn_id] = (
            await store.load(turn_id),
            await lines(store, turn_id),
            list(await store.spans(turn_id)),
            list(await store.intents(turn_id)),
            list(await store.needs(turn_id)),
            [await store.output(turn_id, call_id, offset=from_, limit=3) for call_id in CALLS for from_ in range(6)],
            list(await store.branch(turn_id)),
            [] if kept is None else list(await store.siblings(kept)),
        )
    return found


async def play(steps: list[Said]) -> None:
    memory = MemoryStore(clock=Standing())
    with tempfile.TemporaryDirectory() as folder:
        sqlite = await open_sqlite(Path(folder) / "legato.db", readers=1, clock=Standing())
        try:
            for store in (memory, sqlite):
                for chat_id in CHATS:
                    assert await store.create_chat(chat(chat_id, "ann", "", at(0), None))
                for first in PRELUDE:
                    assert await store.begin(first) == Accepted()
            for said, step in steps:
                assert await outcome(memory, step) == await outcome(sqlite, step), said
            assert await everything(memory) == await everything(sqlite)
        finally:
            await sqlite.close()


@pytest.mark.timeout(300)  # a busy machine gets there too
@settings(max_examples=20, deadline=None)
@given(st.lists(steps, min_size=5, max_size=30))
def test_over_any_history_the_stores_say_the_same(history: list[Said]) -> None:
    asyncio.run(play(history))
