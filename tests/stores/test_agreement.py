"""The memory store is a fake that is trusted: over random histories it says what the SQLite store says."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stores.values import Make, at, lines

from legato.core.blocks import Block, TextBlock, ToolResultBlock
from legato.core.errors import LegatoError
from legato.core.events import EPOCH_SIZE
from legato.core.records import (
    Accepted,
    Chat,
    NewTurns,
    Reading,
    RoundRecord,
    Span,
    TurnEnding,
    TurnRow,
    TurnWrite,
)
from legato.core.usage import UNKNOWN
from legato.ports import Store
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
blocks: st.SearchStrategy[Block] = st.builds(
    TextBlock, index=st.integers(0, 2), round=st.just(1), state=st.sampled_from(("partial", "complete")), text=words
) | st.builds(
    ToolResultBlock,
    index=st.integers(0, 2),
    round=st.just(1),
    state=st.just("complete"),
    call_id=st.just("c"),
    tool_name=words,
    origin=st.just("server"),
    output=st.none() | words | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(words),
)
rounds = st.builds(
    RoundRecord,
    round=st.integers(1, 2),
    attempt=st.just(1),
    model=words,
    provider=words,
    kept_to=st.none() | st.just(3),
)
readings = st.builds(Reading, call_id=st.sampled_from(("c", "d")), text=words, formatter=words, version=st.just(1))
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
    turns.map(lambda turn_id: (f"cancel {turn_id}", lambda store: store.request_cancel(turn_id))),
    made_chats.map(lambda one: (repr(one), lambda store: store.create_chat(one))),
    made_chats.map(lambda one: (f"update {one}", lambda store: store.update_chat(one))),
    st.just((f"delete {CHATS[1]}", lambda store: store.delete_chat(CHATS[1]))),
)
# What a chat's life mostly is, the rest now and then.
steps = st.one_of(begins, groups, groups, groups, others)


async def outcome(store: Store, step: Step) -> object:
    try:
        return await step(store)
    except LegatoError as error:
        return type(error).__name__, error.code, getattr(error, "turn_id", None)


async def everything(store: Store) -> dict[str, object]:
    found: dict[str, object] = {"unended": list(await store.unended())}
    for chat_id in CHATS:
        found[chat_id] = (await store.chat(chat_id), list(await store.tree(chat_id)))
    for owner in ("ann", "bob"):
        found[owner] = await store.chats(owner, limit=1, before=None)
    for turn_id in TURNS:
        kept = await store.turn(turn_id)
        found[turn_id] = (
            await store.load(turn_id),
            await lines(store, turn_id),
            list(await store.spans(turn_id)),
            list(await store.branch(turn_id)),
            [] if kept is None else list(await store.siblings(kept)),
        )
    return found


async def play(steps: list[Said]) -> None:
    memory = MemoryStore()
    with tempfile.TemporaryDirectory() as folder:
        sqlite = await open_sqlite(Path(folder) / "legato.db", readers=1)
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


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, min_size=5, max_size=30))
def test_over_any_history_the_stores_say_the_same(history: list[Said]) -> None:
    asyncio.run(play(history))
