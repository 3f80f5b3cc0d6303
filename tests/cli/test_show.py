"""`legato show`: a turn in all its forms, from the server and from the file."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from tests.cli.processes import Server, legato

pytestmark = pytest.mark.slow  # each starts a process or two; the documentation's own commands try the rest

EVERYTHING = (
    {"thinking": "Where might it be?"},
    {"text": "I will look."},
    {"tool": "doc_search", "input": {"query": "dragon"}},
    {"tool": "doc_view", "input": {"section": "nowhere"}},
    {"end": "calls"},
    {"text": "There it is."},
)


@pytest.fixture(scope="module")
def turn(server: Server) -> str:
    return server.play(*EVERYTHING)


def test_a_turn_is_shown_with_its_rounds_calls_results_and_usage(server: Server, turn: str, home: Path) -> None:
    shown = legato("show", turn, "--url", server.url, cwd=home)
    assert shown.returncode == 0
    assert shown.stderr == f"legato show: from {server.url}\n"
    wanted = ["round 1", "Where might it be?", 'doc_search(query="dragon")', "the-cave", "doc_view", "error", "round 2"]
    at = [shown.stdout.index(one) for one in [*wanted, "There it is.", "usage"]]
    assert at == sorted(at)


def test_a_user_turn_is_shown_as_what_was_said(server: Server, turn: str, home: Path) -> None:
    user_turn = server.ask("GET", f"/v1/turns/{turn}")["prev_turn_id"]
    shown = legato("show", user_turn, "--url", server.url, cwd=home)
    assert "user turn" in shown.stdout
    assert "Where might it be?" in shown.stdout


def test_json_is_the_servers_own_answer(server: Server, turn: str, home: Path) -> None:
    shown = legato("show", turn, "--json", "--url", server.url, cwd=home)
    assert json.loads(shown.stdout) == server.ask("GET", f"/v1/turns/{turn}")


def test_raw_is_every_event_as_it_was_said_and_the_same_from_the_file(server: Server, turn: str, home: Path) -> None:
    served = legato("show", turn, "--raw", "--url", server.url, cwd=home)
    seqs = [json.loads(line)["seq"] for line in served.stdout.splitlines()]
    assert seqs == list(range(1, seqs[-1] + 1))
    kept = legato("show", turn, "--raw", "--url", "http://127.0.0.1:9", "--db", server.db, cwd=home)
    assert kept.stdout == served.stdout
    assert server.db in kept.stderr


def test_raw_of_a_running_turn_does_not_wait_for_its_end(server: Server, home: Path) -> None:
    turn = server.start({"text": "begun"}, {"wait": 3600})
    shown = legato("show", turn, "--raw", "--url", server.url, cwd=home)
    assert shown.returncode == 0
    assert '"turn_start"' in shown.stdout
    assert '"turn_end"' not in shown.stdout
    server.ask("POST", f"/v1/turns/{turn}/cancel", {})


def test_the_file_shows_the_same_as_the_server_did(server: Server, turn: str, home: Path) -> None:
    away = ("--url", "http://127.0.0.1:9", "--db", server.db)
    for form in ((), ("--json",)):
        served = legato("show", turn, *form, "--url", server.url, cwd=home)
        kept = legato("show", turn, *form, *away, cwd=home)
        assert kept.returncode == 0
        assert kept.stdout == served.stdout


def test_the_configurations_file_is_read_where_no_server_answers(server: Server, turn: str, home: Path) -> None:
    (home / "legato.toml").write_text(f"[server]\ndb = '{server.db}'\n")
    kept = legato("show", turn, "--url", "http://127.0.0.1:9", cwd=home)
    assert kept.returncode == 0
    assert "There it is." in kept.stdout


def test_what_the_model_was_sent_has_each_result_as_it_was_read(server: Server, turn: str, home: Path) -> None:
    shown = legato("show", turn, "--model-view", "--url", server.url, cwd=home)
    assert shown.returncode == 0
    at = [
        shown.stdout.index(one)
        for one in ("system", "user", "I will look.", "result of doc_search", "error of doc_view")
    ]
    assert at == sorted(at)
    asked = legato("show", turn, "--model-view", "--json", "--url", server.url, cwd=home)
    assert json.loads(asked.stdout) == server.ask("GET", f"/v1/turns/{turn}/model_view")


def test_what_the_model_was_sent_needs_a_server(server: Server, turn: str, home: Path) -> None:
    shown = legato("show", turn, "--model-view", "--url", "http://127.0.0.1:9", "--db", server.db, cwd=home)
    assert shown.returncode == 1
    assert shown.stdout == ""


@pytest.mark.parametrize("form", [(), ("--raw",), ("--json",), ("--model-view",)])
def test_a_turn_that_is_not_there_is_one_sentence(server: Server, home: Path, form: tuple[str, ...]) -> None:
    shown = legato("show", "nothing", *form, "--url", server.url, cwd=home)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "nothing" in shown.stderr
    if "--model-view" not in form:
        kept = legato("show", "nothing", *form, "--url", "http://127.0.0.1:9", "--db", server.db, cwd=home)
        assert (kept.returncode, kept.stdout) == (1, "")


def test_a_file_that_is_no_database_is_one_sentence_and_is_left_alone(home: Path) -> None:
    (home / "other.db").write_bytes(b"not a database, whatever its name says" * 100)
    shown = legato("show", "t", "--url", "http://127.0.0.1:9", "--db", "other.db", cwd=home)
    assert shown.returncode == 2
    assert "other.db" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert (home / "other.db").read_bytes().startswith(b"not a database")


def test_a_file_that_is_not_there_is_not_made(home: Path) -> None:
    shown = legato("show", "t", "--url", "http://127.0.0.1:9", "--db", "none.db", cwd=home)
    assert shown.returncode == 1
    assert not list(home.iterdir())


def test_a_terminal_is_shown_no_escape_sequence_of_anybody_else(server: Server, home: Path) -> None:
    turn = server.play({"text": "plain \x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J bell\x07 end"})
    shown = legato("show", turn, "--url", server.url, cwd=home)
    assert "plain red" in shown.stdout
    assert not {"\x1b", "\x07", "\x9b"} & set(shown.stdout)


def test_reading_the_file_ends_no_turn_of_a_server_that_lives(server: Server, home: Path) -> None:
    turn = server.start({"text": "begun"}, {"wait": 3600})
    kept = legato("show", turn, "--url", "http://127.0.0.1:9", "--db", server.db, cwd=home)
    assert "running" in kept.stdout
    with sqlite3.connect(server.db) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()
    assert server.ask("GET", f"/v1/turns/{turn}")["status"] == "running"
    server.ask("POST", f"/v1/turns/{turn}/cancel", {})
