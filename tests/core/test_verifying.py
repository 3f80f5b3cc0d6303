"""What is kept proves itself: a whole history has no finding, and each kind of damage is found and named."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core.turns import PATIENT_TOOLS, Ending, Life, lives
from tests.stores.kept_lives import KeptRelay, keep, new_turns

from legato.core import inputs as i
from legato.core.blocks import ImageBlock
from legato.core.evidence import Evidence, Finding
from legato.core.plan import TurnLimits
from legato.core.records import Datum, NewTurns, Queued
from legato.core.verifying import verify, verify_chat
from legato.stores.sqlite import open_sqlite
from legato.stores.sqlite.evidence import open_evidence

_crashes = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=3).map(sorted)


def found_in(file: Path) -> list[Finding]:
    findings: list[Finding] = []
    with open_evidence(file) as kept:
        for turn_id in kept.turn_ids(None):
            turn = kept.turn(turn_id)
            findings += verify(turn).findings if isinstance(turn, Evidence) else [turn] if turn is not None else []
        for chat_id in kept.chat_ids():
            chat = kept.chat(chat_id)
            assert chat is not None
            findings += [chat] if isinstance(chat, Finding) else verify_chat(chat)
        findings += kept.strays()
    return findings


async def keep_in(
    file: Path, relay: KeptRelay, *, flush: int, chapters: int | None = None, new: NewTurns | None = None
) -> None:
    store = await open_sqlite(file, readers=1)
    try:
        await keep(store, relay, new=new, flush=flush, chapters=chapters)
    finally:
        await store.close()


@given(
    lives(patient=True, disturbed=False), _crashes, st.sampled_from([None, None, 0, 5, 17]), st.sampled_from([3, 9, 50])
)
def test_whoever_dies_and_whoever_answers_what_is_kept_proves_itself(
    life: Life, crashes: list[tuple[int, int]], cancel_at: int | None, flush: int
) -> None:
    relay = KeptRelay(life, list(crashes), cancel_at)
    relay.run()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "legato.db"
        asyncio.run(keep_in(file, relay, flush=flush))
        assert found_in(file) == []


@given(lives(patient=True, disturbed=False), _crashes, st.integers(1, 3))
def test_a_turn_that_has_not_ended_proves_itself_at_any_owner(
    life: Life, crashes: list[tuple[int, int]], chapters: int
) -> None:
    relay = KeptRelay(life, list(crashes))
    relay.run()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "legato.db"
        asyncio.run(keep_in(file, relay, flush=4, chapters=chapters))
        assert found_in(file) == []


def _call(key: int, tool_name: str) -> tuple[i.ProviderInput, ...]:
    opened = i.BlockOpened(key=key, block_type="tool_use", tool_name=tool_name)
    return opened, i.Delta(key, f'{{"n":{key}}}'), i.BlockClosed(key=key)


WHOLE_LIFE = Life(
    limits=TurnLimits(rounds=5),
    tools=tuple(PATIENT_TOOLS),
    responses=(
        (
            i.BlockOpened(key=0, block_type="text"),
            i.Delta(0, "I will look, "),
            i.Delta(0, "and put it there."),
            i.BlockClosed(key=0),
            *_call(1, "look"),
            *_call(2, "put"),
            *_call(3, "ask_first"),
            i.ResponseEnded(stop_reason="calls", provider_reason="because"),
        ),
    ),
    choices=(),
    endings=(Ending("ok", {"found": "it"}), Ending("ok", "put"), Ending("ok", "posted")),
)
IMAGE = b"\x89PNG, or so it says"


def history(file: Path, *, chapters: int | None = None) -> Path:
    """A user turn with an image; an answer of two owners in two rounds, with an intent, an approval, a kept output."""
    relay = KeptRelay(WHOLE_LIFE, [], large=b"a large output, kept in pieces")
    relay.feed(i.Steered(steer_id="s", text="Hurry"))
    relay.run()
    sha256 = hashlib.sha256(IMAGE).hexdigest()
    image = ImageBlock(
        index=0, round=0, state="complete", media_type="image/png", bytes=len(IMAGE), sha256=sha256, href="/x"
    )
    new = new_turns(blocks=(image,), data=(Datum(index=0, media_type="image/png", sha256=sha256, data=IMAGE),))
    asyncio.run(keep_in(file, relay, flush=6, new=new, chapters=chapters))
    return file


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return history(tmp_path_factory.mktemp("healthy") / "legato.db")


@pytest.fixture
def file(healthy: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copy(healthy, tmp_path / "legato.db"))


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """The same history before anybody answered: its log lies in several segments."""
    return history(tmp_path / "waiting.db", chapters=1)


def damage(file: Path, *statements: str) -> list[tuple[str, str, str]]:
    """Do it, and give what is found: promise, place and sentence."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement
    return told(file)


def told(file: Path) -> list[tuple[str, str, str]]:
    return [(one.promise, one.place, one.message) for one in found_in(file)]


def rewrite_log(file: Path, edit: Callable[[list[bytes]], list[bytes]]) -> list[tuple[str, str, str]]:
    """Edit the packed log of the answer, line by line, and give what is found."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        (packed,) = connection.execute("SELECT lines FROM log WHERE turn_id = 'turn'").fetchone()
        lines = edit(zlib.decompress(packed).splitlines(keepends=True))
        connection.execute("UPDATE log SET lines = ? WHERE turn_id = 'turn'", (zlib.compress(b"".join(lines)),))
    return told(file)


def replaced(old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    """The first line that has ``old``."""

    def edit(lines: list[bytes]) -> list[bytes]:
        place = next(place for place, line in enumerate(lines) if old in line)
        return [*lines[:place], lines[place].replace(old, new, 1), *lines[place + 1 :]]

    return edit


def test_the_healthy_one_has_all_that_is_broken_below(healthy: Path, waiting: Path) -> None:
    assert told(healthy) == told(waiting) == []
    with closing(sqlite3.connect(healthy)) as connection:
        for table, least in {"log": 2, "block": 7, "round": 2, "need": 1, "datum": 1, "output": 2}.items():
            (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert count >= least, table
        for column in ("idempotency_key", "formatter", "result_idx"):
            found = connection.execute(f"SELECT count(*) FROM call WHERE {column} IS NOT NULL")
            assert found.fetchone() > (0,), column
    with closing(sqlite3.connect(waiting)) as connection:
        assert connection.execute("SELECT count(*) FROM log WHERE turn_id = 'turn'").fetchone() > (2,)


OF_THE_ANSWER = "turn_id = 'turn'"
INSERT = "INSERT INTO block SELECT turn_id, {}, round, type, state, text, body, seq FROM block WHERE turn_id = 'turn'"


@pytest.mark.parametrize(
    ("statement", "promise", "place", "words"),
    [
        # the turn's row
        ("UPDATE turn SET status = 'error' WHERE id = 'turn'", "P5", "turn", "its status is not that of its turn_end"),
        ("UPDATE turn SET stop_reason = 'length' WHERE id = 'turn'", "P5", "turn", "its stop_reason is not that"),
        (
            "UPDATE turn SET ended_at = NULL WHERE id = 'turn'",
            "P5",
            "turn",
            "its log has turn_end, its row no",
        ),
        ("UPDATE turn SET last_seq = last_seq + 1 WHERE id = 'turn'", "P9", "turn", "its last event is 1000009"),
        ("UPDATE turn SET created_at = '2027' WHERE id = 'turn'", "P5", "turn", "another created_at"),
        ("UPDATE turn SET usage = '{' WHERE id = 'turn'", "P5", "turn", "cannot be read"),
        (
            """UPDATE turn SET usage = json_set(usage, '$.input_tokens', 7) WHERE id = 'turn'""",
            "P5",
            "turn",
            "its usage is not that",
        ),
        (
            "UPDATE turn SET depth = 7 WHERE id = 'turn'",
            "P4",
            "turn",
            "depth is 7, its place in the chat makes it 2",
        ),
        # blocks
        ("UPDATE block SET text = 'x' WHERE idx = 0 AND type = 'text'", "P9", "block 0", "has 1 bytes of text"),
        ("UPDATE block SET text = upper(text) WHERE idx = 0 AND type = 'text'", "P9", "block 0", "another hash"),
        (
            "UPDATE block SET text = upper(text) WHERE idx = 0 AND type = 'text'",
            "P5",
            "block 0",
            "what the log makes in text",
        ),
        ("UPDATE block SET state = 'partial' WHERE idx = 1", "P5", "block 1", "what the log makes in state"),
        (f"DELETE FROM block WHERE {OF_THE_ANSWER} AND idx = 0", "P5", "block 0", "has no row"),
        ("UPDATE block SET body = '{' WHERE type = 'tool_use'", "P5", "block 1", "cannot be read"),
        (
            f"{INSERT.format(99)} AND idx = 0",
            "P5",
            "block 99",
            "the log closes no such block",
        ),
        # rounds
        ("UPDATE round SET commitment = 'orphaned' WHERE round = 1", "P5", "round 1, attempt 1", "in commitment"),
        ("UPDATE round SET output_tokens = 9 WHERE round = 2", "P5", "round 2, attempt 1", "in usage"),
        ("DELETE FROM round WHERE round = 1", "P5", "round 1, attempt 1", "has no row"),
        ("UPDATE round SET attempt = 2 WHERE round = 1", "P5", "round 1, attempt 2", "the log no such round"),
        # data and outputs
        ("UPDATE datum SET data = x'00' || substr(data, 2)", "P5", "data of block 0", "cannot be read"),
        ("UPDATE datum SET data = CAST(x'00' || substr(data, 2) AS BLOB)", "P4", "data of block 0", "another hash"),
        ("UPDATE datum SET data = x'00'", "P4", "data of block 0", "has 1 bytes, its block says 19"),
        ("DELETE FROM datum", "P4", "data of block 0", "is missing"),
        ("UPDATE datum SET idx = 5", "P4", "data of block 5", "there is no such block"),
        ("DELETE FROM output WHERE first = 8", "P5", "output of call", "has 8 bytes, its result says 30"),
        # calls
        (
            f"{INSERT.format(98)} AND type = 'tool_result' LIMIT 1",
            "P3",
            "call",
            "has 2 results",
        ),
        ("DELETE FROM block WHERE type = 'tool_result'", "P3", "call", "is sealed and has no result"),
        ("DELETE FROM block WHERE type = 'tool_use'", "P3", "call", "has a result, and was never called"),
        ("UPDATE call SET result_idx = 77", "P5", "call", "and 77 is noted"),
        ("UPDATE call SET input_sha256 = 'ab'", "P7", "call", "have another hash than is kept with them"),
        ("UPDATE call SET idempotency_key = 'k' WHERE tool_name = 'put'", "P7", "call", "its idempotency key is not"),
        ("UPDATE call SET input = '{\"n\":9}' WHERE tool_name = 'put'", "P2", "call", "than those sealed or approved"),
        (
            "UPDATE call SET tool_name = 'look' WHERE tool_name = 'put'",
            "P7",
            "call",
            "its intent has another tool",
        ),
        ("UPDATE call SET call_id = 'call_x' WHERE tool_name = 'put'", "P7", "call call_x", "and was never called"),
        ("UPDATE call SET call_id = 'call_x' WHERE tool_name = 'put'", "P5", "call call_x", "and has no result"),
        # needs
        ("DELETE FROM need", "P5", "call", "and nothing is kept of it"),
        ("UPDATE need SET nr = 2", "P5", "call", "are not what its body says"),
        ("UPDATE need SET nr = 2, body = json_set(body, '$.nr', 2)", "P5", "call", "need 1 has number 2"),
        ("UPDATE need SET call_id = 'c', body = json_set(body, '$.call_id', 'c')", "P5", "call c", "was never called"),
        ("UPDATE need SET body = json_set(body, '$.input_sha256', 'ab')", "P2", "call", "bound to other arguments"),
        (
            "UPDATE need SET kind = 'input', body = json_set(body, '$.kind', 'input')",
            "P5",
            "call",
            "of kind input was never said",
        ),
        # what people said meanwhile
        ("DELETE FROM steer", "P5", "steer s", "has no row"),
        ("UPDATE steer SET text = 'Wait'", "P5", "steer s", "have another text"),
        ("UPDATE steer SET state = 'accepted'", "P5", "steer s", "its row says accepted, its log delivered"),
        ("UPDATE steer SET state = 'heard'", "P5", "steer s", "cannot be read"),
        ("INSERT INTO steer VALUES (9, 'turn', 'x', 't', 'posted', 0)", "P5", "steer x", "its log says nothing of it"),
        # the chat
        ("UPDATE chat SET active_turn_id = 'turn'", "P4", "chat", "its active turn turn has ended"),
        ("UPDATE chat SET active_turn_id = 'gone'", "P4", "chat", "its active turn gone is missing"),
        ("UPDATE chat SET head_turn_id = 'gone'", "P4", "chat", "its head gone is missing"),
        ("UPDATE chat SET metadata = '{'", "P5", "chat", "cannot be read"),
        ("DELETE FROM turn WHERE id = 'asked'", "P4", "turn", "the turn before it, asked, is missing"),
        ("DELETE FROM turn WHERE id = 'turn'", "P4", "table block", "belongs to a turn that is missing"),
    ],
)
def test_damage_to_a_row_is_found_and_named(file: Path, statement: str, promise: str, place: str, words: str) -> None:
    found = damage(file, statement)
    assert [one for one in found if one[0] == promise and one[1].startswith(place) and words in one[2]], found


@pytest.mark.parametrize(
    ("edit", "place", "words"),
    [
        (replaced(b"I will", b"I shall"), "event 7", "says that block 0 has 30 bytes, its deltas have 31"),
        (replaced(b"I will", b"I wild"), "event 7", "block 0 has another hash than its deltas"),
        (replaced(b"I will", b"I \xffill"), "event 5", "is no event"),
        (replaced(b'"index":0,', b'"index": 0,'), "event 4", "its bytes are not those of an event as it is said"),
        (replaced(b"block_delta", b"block_dalta"), "event 5", "is no event"),
        (replaced(b'"seq":5,', b'"seq":6,'), "event 6", "the events from 5 to 5 before it are missing"),
        (lambda lines: lines[:4] + lines[5:], "event 6", "the events from 5 to 5 before it are missing"),
        (lambda lines: lines[:4] + lines[3:], "event 4", "comes after event 4"),
        (lambda lines: lines[:1] + lines[:1] + lines[2:], "event 1", "comes after event 1"),
        (lambda lines: [one for one in lines if b'"rewind"' not in one], "event 1000002", "from 1000001 to 1000001"),
        (replaced(b'"to":25', b'"to":26'), "event 1000001", "goes back to event 26, the last one is 25"),
        (lambda lines: lines[:-1], "events 1 to 1000009", "the last event is 1000008"),
        (replaced(b'"index":0,"text"', b'"index":9,"text"'), "event 5", "block 9 is not open"),
        (replaced(b'"turn_start"', b'"turn_waiting"'), "event 1", "its bytes are not those"),
    ],
)
def test_damage_to_the_log_is_found_and_named(
    file: Path, edit: Callable[[list[bytes]], list[bytes]], place: str, words: str
) -> None:
    found = rewrite_log(file, edit)
    assert [one for one in found if one[0] == "P9" and one[1] == place and words in one[2]], found


@pytest.mark.slow
def test_a_flipped_byte_in_a_packed_log_is_found(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        (packed,) = connection.execute("SELECT lines FROM log WHERE turn_id = 'turn'").fetchone()
    for place in range(len(packed)):
        flipped = packed[:place] + bytes([packed[place] ^ 4]) + packed[place + 1 :]
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("UPDATE log SET lines = ? WHERE turn_id = 'turn'", (flipped,))
        found = told(file)
        assert found, place
        assert {one[0] for one in found} == {"P9"}, place


def test_a_segment_that_is_gone_is_found(waiting: Path) -> None:
    with closing(sqlite3.connect(waiting)) as connection:
        ranges = connection.execute("SELECT first_seq, last_seq FROM log WHERE turn_id = 'turn'").fetchall()
    for first, last in ranges[:-1]:
        copy = Path(shutil.copy(waiting, waiting.with_name("copy.db")))
        found = damage(copy, f"DELETE FROM log WHERE turn_id = 'turn' AND first_seq = {first}")
        said = f"the events from {first} to {last} before it are missing"
        assert ("P9", f"event {last + 1}", said) in found


def test_segments_that_are_named_wrongly_or_overlap_are_found(waiting: Path) -> None:
    found = damage(waiting, "UPDATE log SET first_seq = 2 WHERE turn_id = 'turn' AND first_seq = 1")
    assert ("P9", "event 1", "is stored as event 2") in found


@pytest.mark.parametrize(
    ("statement", "promise", "place", "words"),
    [
        (
            "UPDATE turn SET status = 'running', wait_until = NULL WHERE id = 'turn'",
            "P5",
            "turn",
            "its log says that",
        ),
        ("UPDATE turn SET wait_until = NULL WHERE id = 'turn'", "P5", "turn", "wait_until is not set"),
        ("UPDATE turn SET stop_reason = 'end' WHERE id = 'turn'", "P5", "turn", "its row says how it ended"),
        (
            "UPDATE turn SET ended_at = '2026' WHERE id = 'turn'",
            "P5",
            "turn",
            "its row has ended_at, its log no",
        ),
        ("DELETE FROM need", "P5", "call", "waited for approval, and nothing is kept of it"),
        ("UPDATE need SET taken = 1", "P5", "call", "waits, and the need that is kept is another one"),
        ("UPDATE need SET taken = 1", "P5", "turn", "it waits, and for nothing"),
        ("UPDATE chat SET active_turn_id = NULL", "P4", "chat", "and its chat has no active turn"),
    ],
)
def test_damage_to_a_turn_that_waits_is_found_and_named(
    waiting: Path, statement: str, promise: str, place: str, words: str
) -> None:
    found = damage(waiting, statement)
    assert [one for one in found if one[0] == promise and one[1].startswith(place) and words in one[2]], found


def test_a_turn_that_is_claimed_and_has_said_nothing_since_is_whole(waiting: Path) -> None:
    assert damage(waiting, "UPDATE turn SET status = 'running', wait_until = NULL, epoch = 1 WHERE id = 'turn'") == []


def test_turns_that_wait_for_their_chat_are_whole_and_one_that_runs_beside_is_not(tmp_path: Path) -> None:
    file = tmp_path / "legato.db"

    async def queue() -> None:
        store = await open_sqlite(file, readers=1)
        try:
            first = new_turns()
            await store.begin(first)
            second = replace(first.assistant, id="next", prev_turn_id="turn", depth=3)
            assert first.chat is not None
            new = NewTurns(owner=first.chat.owner, assistant=second, on_busy="behind", queue_limit=5)
            assert await store.begin(new) == Queued("turn")
        finally:
            await store.close()

    asyncio.run(queue())
    assert told(file) == [("P4", "turn", "it answers an answer")]
    found = damage(file, "UPDATE turn SET status = 'running' WHERE id = 'next'")
    assert ("P4", "chat", "the turn has not ended, and another one is active") in found
