"""`legato verify`: what is kept proves itself, while a server writes and after, and what is broken is named."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.processes import PATIENCE, Server, legato

pytestmark = pytest.mark.slow  # each starts a process or two


@pytest.fixture(scope="module")
def turn(server: Server) -> str:
    return server.play(
        {"thinking": "Where might it be?"},
        {"tool": "doc_search", "input": {"query": "dragon"}},
        {"tool": "doc_view", "input": {"section": "nowhere"}},
        {"end": "calls"},
        {"text": "There it is."},
    )


def break_it(server: Server, home: Path, statement: str) -> str:
    """A copy of the server's file in which ``statement`` was done."""
    broken = str(home / "broken.db")
    with closing(sqlite3.connect(server.db)) as source, closing(sqlite3.connect(broken)) as copy:
        source.backup(copy)
        assert copy.execute(statement).rowcount > 0
        copy.commit()
    return broken


def test_a_server_that_runs_is_read_beside_and_all_is_whole(server: Server, turn: str, home: Path) -> None:
    running = server.start({"text": "begun"}, {"wait": 3600})
    verified = legato("verify", "--db", server.db, cwd=home)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.endswith("nothing is wrong\n")
    assert server.ask("GET", f"/v1/turns/{running}")["status"] == "running"
    server.ask("POST", f"/v1/turns/{running}/cancel", {})


def test_one_turn_and_one_chat_can_be_asked_for(server: Server, turn: str, home: Path) -> None:
    one = legato("verify", turn, "--json", "--db", server.db, cwd=home)
    kept = server.ask("GET", f"/v1/turns/{turn}")
    said = {"type": "summary", "turns": 1, "events": kept["last_seq"], "chats": 0, "findings": 0}
    assert json.loads(one.stdout) == said
    both = legato("verify", "--chat", kept["chat_id"], "--json", "--db", server.db, cwd=home)
    assert json.loads(both.stdout)["turns"] == 2
    assert json.loads(both.stdout)["chats"] == 1


def test_what_is_broken_is_named_with_its_turn_its_place_and_its_promise(server: Server, turn: str, home: Path) -> None:
    broken = break_it(server, home, f"UPDATE block SET text = 'Here it is.' WHERE turn_id = '{turn}' AND type = 'text'")
    verified = legato("verify", "--db", broken, cwd=home)
    assert verified.returncode == 1
    first = verified.stdout.splitlines()[0]
    assert first.startswith(f"turn {turn}, block ")
    assert first.endswith("its row differs from what the log makes in text [P5]")
    assert verified.stdout.splitlines()[-1].endswith("2 findings")


def test_json_is_a_finding_a_line_and_the_sum_last(server: Server, turn: str, home: Path) -> None:
    broken = break_it(server, home, f"UPDATE turn SET status = 'error' WHERE id = '{turn}'")
    verified = legato("verify", "--json", "--db", broken, cwd=home)
    assert verified.returncode == 1
    finding, summary = map(json.loads, verified.stdout.splitlines())
    assert (finding["type"], finding["turn_id"], finding["place"], finding["promise"]) == (
        "finding",
        turn,
        "turn",
        "P5",
    )
    assert (summary["type"], summary["findings"]) == ("summary", 1)


def test_all_is_whole_after_each_kill_and_once_the_turns_have_ended(home: Path) -> None:
    steps = ({"text": "I look. " * 30}, {"tool": "doc_search", "input": {"query": "dragon"}}, {"end": "calls"})
    turns: list[str] = []
    for _ in range(3):
        with Server(cwd=home) as server:
            turns += [server.start(*steps, {"text": "There. " * 30}) for _ in range(4)]
            server.signal(signal.SIGKILL)
            server.end()
        assert legato("verify", cwd=home).stdout.endswith("nothing is wrong\n")
    with Server(cwd=home) as server:
        for turn in turns:
            with urllib.request.urlopen(f"{server.url}/v1/turns/{turn}/events", timeout=PATIENCE) as events:
                assert b"event: turn_end" in events.read()
        server.stop()
    verified = legato("verify", cwd=home)
    assert verified.stdout.startswith("legato.db: 24 turns of 12 chats, ")
    assert verified.stdout.endswith("nothing is wrong\n")


def test_nothing_is_written_to_the_file(server: Server, turn: str, home: Path) -> None:
    broken = Path(break_it(server, home, f"DELETE FROM log WHERE turn_id = '{turn}'"))
    before = broken.read_bytes()
    assert legato("verify", "--db", str(broken), cwd=home).returncode == 1
    assert broken.read_bytes() == before


def test_no_words_of_anybody_are_shown(server: Server, home: Path) -> None:
    turn = server.play({"text": "my password is swordfish"})
    broken = break_it(server, home, f"UPDATE block SET text = text || 'é' WHERE turn_id = '{turn}'")
    verified = legato("verify", "--db", broken, cwd=home)
    assert verified.returncode == 1
    assert "swordfish" not in verified.stdout + verified.stderr


@pytest.mark.parametrize("asked", [("nothing",), ("--chat", "nothing")])
def test_what_is_not_there_is_one_sentence(server: Server, home: Path, asked: tuple[str, ...]) -> None:
    verified = legato("verify", *asked, "--db", server.db, cwd=home)
    assert (verified.returncode, verified.stdout) == (1, "")
    assert "nothing" in verified.stderr
    assert verified.stderr.count("\n") == 1


def test_a_file_that_is_not_there_is_not_made_and_no_database_is_left_alone(home: Path) -> None:
    (home / "other.db").write_bytes(b"not a database, whatever its name says" * 100)
    with closing(sqlite3.connect(home / "foreign.db")) as foreign:
        foreign.execute("CREATE TABLE t (x)")
    for name, said in (
        ("none.db", "there is no such file"),
        (".", "is a directory"),
        ("other.db", "no SQLite database"),
        ("foreign.db", "another program"),
    ):
        verified = legato("verify", "--db", name, cwd=home)
        assert (verified.returncode, verified.stdout) == (2, "")
        assert said in verified.stderr
        assert verified.stderr.count("\n") == 1
    assert not (home / "none.db").exists()


def test_a_database_of_another_version_is_refused_with_what_to_do(server: Server, turn: str, home: Path) -> None:
    broken = break_it(server, home, "UPDATE turn SET depth = depth")
    with closing(sqlite3.connect(broken)) as older:
        older.execute("PRAGMA user_version = 2")
    verified = legato("verify", "--db", broken, cwd=home)
    assert (verified.returncode, verified.stdout) == (2, "")
    assert "has schema 2" in verified.stderr


def test_a_database_of_which_half_is_left_is_not_said_to_be_none(server: Server, turn: str, home: Path) -> None:
    half = Path(break_it(server, home, "UPDATE turn SET depth = depth"))
    data = half.read_bytes()
    half.write_bytes(data[: len(data) // 2])
    verified = legato("verify", "--db", str(half), cwd=home)
    assert (verified.returncode, verified.stdout) == (2, "")
    assert "it cannot be used (sqlite: database disk image is malformed)" in verified.stderr


def test_a_page_that_is_torn_out_ends_in_findings_or_in_a_sentence(server: Server, turn: str, home: Path) -> None:
    whole = break_it(server, home, "UPDATE turn SET depth = depth")
    data = Path(whole).read_bytes()
    for page in range(1, len(data) // 4096, 7):
        torn = Path(shutil.copy(whole, home / "torn.db"))
        torn.write_bytes(data[: page * 4096] + b"\xa5" * 4096 + data[(page + 1) * 4096 :])
        verified = legato("verify", "--db", str(torn), cwd=home)
        assert "Traceback" not in verified.stderr, page
        assert verified.returncode in (0, 1), page  # a page that is free, or of documents, is none of a turn's
