"""What the SQLite store costs: rows a second by 64 callers, a flush of many turns, a branch of 1,000 turns.

The last two are measured again beside a loop that never rests: threads share one interpreter lock, and a store that
asks for it at each row could be slow exactly when the server is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from legato.core.blocks import TextBlock, ToolResultBlock, ToolUseBlock
from legato.core.events import BlockDelta, encode
from legato.core.records import Chat, LogSegment, NewTurns, RoundRecord, TurnEnding, TurnRow, TurnWrite
from legato.core.usage import Usage
from legato.stores.sqlite import SqliteStore, open_sqlite

NOW = "2026-11-24T05:00:00.000Z"
BUSY = 0.001  # seconds of work between two looks at the loop


def row(number: int, chat: str, *, role: str = "assistant", prev: str | None = None) -> TurnRow:
    return TurnRow(
        id=f"019ab5d2-77aa-7e00-8000-{number:012}",
        chat_id=chat,
        prev_turn_id=prev,
        role="user" if role == "user" else "assistant",
        status="complete" if role == "user" else "running",
        created_at=NOW,
        depth=1,
        ended_at=NOW if role == "user" else None,
    )


def segment(first: int, events: int) -> LogSegment:
    lines = b"".join(encode(BlockDelta(seq=seq, index=0, text="word ")) + b"\n" for seq in range(first, first + events))
    return LogSegment(first_seq=first, last_seq=first + events - 1, lines=lines)


def chat_of(name: str) -> Chat:
    return Chat(
        id=name,
        owner="me",
        title=name,
        system=None,
        model=None,
        metadata={},
        head_turn_id=None,
        active_turn_id=None,
        created_at=NOW,
        updated_at=NOW,
    )


async def start(store: SqliteStore, turns: int, numbers: int = 0) -> list[str]:
    """Running turns, each in a chat of its own."""
    made = [row(numbers + one, f"chat-{numbers + one}") for one in range(turns)]
    await asyncio.gather(*(store.begin(NewTurns(owner="me", chat=chat_of(one.chat_id), assistant=one)) for one in made))
    return [one.id for one in made]


async def callers(store: SqliteStore, seconds: float) -> float:
    """64 callers, each writing 16 rows at a time and waiting for them: rows a second."""
    ids = await start(store, 64)
    stop = time.perf_counter() + seconds
    rows = 0

    async def call(turn_id: str) -> None:
        nonlocal rows
        first = 1
        while time.perf_counter() < stop:
            block = [TextBlock(index=first + one, round=1, state="complete", text="word " * 20) for one in range(15)]
            await store.write([TurnWrite(turn_id=turn_id, epoch=0, segment=segment(first, 16), blocks=tuple(block))])
            rows, first = rows + 16, first + 16

    begun = time.perf_counter()
    await asyncio.gather(*map(call, ids))
    return rows / (time.perf_counter() - begun)


async def flush(store: SqliteStore, turns: int) -> float:
    """One journal flush of this many turns, 12 deltas each: milliseconds, the median of several."""
    ids = await start(store, turns, numbers=10_000)
    took = []
    for number in range(12):
        writes = [TurnWrite(turn_id=one, epoch=0, segment=segment(number * 12 + 1, 12)) for one in ids]
        begun = time.perf_counter()
        await store.write(writes)
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1000


async def fill_branch(store: SqliteStore, turns: int) -> str:
    """A chat of this many turns; each answer has a thought, two calls with results and a text. Gives the leaf."""
    chat = "chat-branch"
    await store.create_chat(chat_of(chat))
    prev: str | None = None
    for number in range(0, turns, 2):
        user = row(100_000 + number, chat, role="user", prev=prev)
        answer = row(100_001 + number, chat, prev=user.id)
        asked = TextBlock(index=0, round=0, state="complete", text="What is the weather in Oslo? " * 4)
        write = TurnWrite(turn_id=user.id, epoch=0, segment=segment(1, 4), blocks=(asked,))
        await store.begin(NewTurns(owner="me", user=user, user_write=write, assistant=answer))
        await store.write([answered(answer.id)])
        prev = answer.id
    assert prev is not None
    return prev


def answered(turn_id: str) -> TurnWrite:
    digest = "a" * 64
    call = ToolUseBlock(
        index=1, round=1, state="complete", text='{"city":"Oslo"}', call_id="c1", tool_name="get_weather",
        origin="server", input={"city": "Oslo"}, length=15, sha256=digest,
    )  # fmt: skip
    result = ToolResultBlock(
        index=2, round=1, state="complete", call_id="c1", tool_name="get_weather", origin="server", outcome="ok",
        output={"city": "Oslo", "celsius": 21}, length=0, sha256=digest,
    )  # fmt: skip
    said = TextBlock(index=3, round=2, state="complete", text="It is fine today. " * 30, length=540, sha256=digest)
    usage = Usage(input_tokens=900, output_tokens=120, source="reported")
    rounds = tuple(
        RoundRecord(round=one, attempt=1, model="m", provider="p", commitment="committed", usage=usage)
        for one in (1, 2)
    )
    ending = TurnEnding(status="complete", stop_reason="end", usage=usage, error=None, ended_at=NOW)
    return TurnWrite(
        turn_id=turn_id, epoch=0, segment=segment(1, 120), blocks=(call, result, said), rounds=rounds, ending=ending
    )


async def branch(store: SqliteStore, leaf: str, turns: int) -> float:
    """Milliseconds until the branch is there, the median of several."""
    took = []
    for _ in range(7):
        begun = time.perf_counter()
        found = await store.branch(leaf)
        took.append(time.perf_counter() - begun)
        assert len(found) == turns
    return statistics.median(took) * 1000


async def beside_a_busy_loop(measured: Callable[[], Awaitable[float]]) -> float:
    async def busy() -> None:
        while True:
            until = time.perf_counter() + BUSY
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        spinning = group.create_task(busy())
        figure = await measured()
        spinning.cancel()
    return figure


async def main(seconds: float, turns: int, branch_turns: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for synchronous in ("normal", "full"):
            store = await open_sqlite(
                Path(folder) / f"{synchronous}.db", synchronous="full" if synchronous == "full" else "normal"
            )
            print(f"{synchronous:7} 64 callers            {await callers(store, seconds):10,.0f} rows/s")
            print(f"{synchronous:7} flush of {turns} turns    {await flush(store, turns):10.1f} ms")
            await store.close()
        store = await open_sqlite(Path(folder) / "branch.db")
        leaf = await fill_branch(store, branch_turns)
        print(f"branch of {branch_turns} turns             {await branch(store, leaf, branch_turns):10.1f} ms")
        busy = await beside_a_busy_loop(lambda: branch(store, leaf, branch_turns))
        print(f"branch of {branch_turns} turns, busy loop  {busy:10.1f} ms")
        busy = await beside_a_busy_loop(lambda: flush(store, turns))
        print(f"flush of {turns} turns, busy loop    {busy:10.1f} ms")
        await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--turns", type=int, default=650)
    parser.add_argument("--branch", type=int, default=1000)
    options = parser.parse_args()
    asyncio.run(main(options.seconds, options.turns, options.branch))
