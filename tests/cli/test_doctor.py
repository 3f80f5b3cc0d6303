"""`legato doctor`: what is degraded is listed, all else is told, no secret is shown."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.processes import Server, free_port, legato

from legato.runtime.checkup import of_the_spool

pytestmark = pytest.mark.slow  # each starts a process or two

NOWHERE = ("--url", "http://127.0.0.1:9")
BROKEN_FORMATTER = """
from legato import tool, formatter

@tool(effect="read")
def look(n: int) -> str:
    "Look."
    return "seen"

@formatter("look")
def read(result):
    raise KeyError("swordfish")
"""


def copied(server: Server, home: Path, *statements: str) -> str:
    copy = str(home / "copy.db")
    with closing(sqlite3.connect(server.db)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        for statement in statements:
            assert target.execute(statement).rowcount > 0, statement
        target.commit()
    return copy


def asked(*args: str, home: Path, **env: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """The exit code, and by level what is said about what."""
    done = legato("doctor", "--json", *args, cwd=home, **env)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told.pop("ok") == (done.returncode == 0)
    return done.returncode, {level: [(one["about"], one["message"]) for one in told[level]] for level in told}


def test_where_nothing_was_begun_all_is_well(home: Path) -> None:
    done = legato("doctor", *NOWHERE, cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nothing is degraded\n")
    assert "there is no file legato.db yet" in done.stdout
    assert "no server answers at http://127.0.0.1:9" in done.stdout
    assert not list(home.iterdir())


def test_a_server_that_works_is_well(home: Path) -> None:
    with Server(cwd=home) as server:
        server.play({"text": "hello"})
        code, told = asked("--url", server.url, home=home)
        assert (code, told["degraded"]) == (0, [])
        assert ("server", f"answers at {server.url}") in told["noted"]
        assert dict(told["noted"])["database"].startswith("2 turns of 1 chats")
        assert server.stop() == 0


def test_the_server_is_found_where_the_settings_say(home: Path) -> None:
    port = free_port()
    (home / "legato.toml").write_text(f"[server]\nport = {port}\n")
    with Server(cwd=home, port=port) as server:
        _, told = asked(home=home)
        assert ("server", f"answers at http://127.0.0.1:{port}") in told["noted"]
        server.stop()


def test_a_formatter_that_fails_is_listed_without_its_words(home: Path) -> None:
    (home / "mine.py").write_text(BROKEN_FORMATTER)
    with Server("mine.py", cwd=home) as server:
        server.play({"tool": "look", "input": {"n": 1}}, {"end": "calls"}, {"text": "so"})
        done = legato("doctor", "--url", server.url, cwd=home)
        server.stop()
    assert done.returncode == 1
    assert done.stdout.startswith("degraded\n")
    assert "look:KeyError: a formatter failed; the default form is read, once" in done.stdout
    assert "swordfish" not in done.stdout


def test_a_turn_whose_owner_is_gone_is_listed_and_one_that_runs_is_only_told(home: Path) -> None:
    with Server(cwd=home) as server:
        turn = server.start({"text": "begun"}, {"wait": 3600})
        code, told = asked("--url", server.url, home=home)
        assert code == 0
        assert [about for about, message in told["noted"] if message.startswith("running since")] == [f"turn {turn}"]
        server.signal(signal.SIGKILL)
        server.end()
    code, told = asked(*NOWHERE, home=home)
    assert code == 1
    ((about, message),) = told["degraded"]
    assert about == f"turn {turn}"
    assert "its owner is gone" in message


def test_a_turn_that_waits_is_told_with_its_time_and_listed_once_that_is_over(server: Server, home: Path) -> None:
    turn = server.play({"text": "hello"})
    wait = f"UPDATE turn SET status = 'waiting', owner = NULL, ended_at = NULL, wait_until = '{{}}' WHERE id = '{turn}'"
    code, told = asked(*NOWHERE, "--db", copied(server, home, wait.format("2999-01-01T00:00:00.000Z")), home=home)
    assert code == 0
    assert (f"turn {turn}", "waits for somebody, until 2999-01-01T00:00:00.000Z") in told["noted"]
    code, told = asked(*NOWHERE, "--db", copied(server, home, wait.format("2000-01-01T00:00:00.000Z")), home=home)
    assert code == 1
    assert "which is over" in dict(told["degraded"])[f"turn {turn}"]


def test_what_lies_in_the_spool_is_listed(home: Path) -> None:
    with Server(cwd=home) as server:
        server.stop()
    folder = home / "legato.db.spool"
    folder.mkdir()
    (folder / "1.spool").write_bytes(b"x" * 7)
    (folder / "2.broken").write_bytes(b"y")
    code, told = asked(*NOWHERE, home=home)
    assert code == 1
    waiting, spoiled = [message for about, message in told["degraded"] if about == "spool"]
    assert "1.spool: 7 bytes that the store has yet to take" in waiting
    assert "2.broken: 1 bytes set aside, it cannot be read to its end" in spoiled


def test_a_disk_of_the_spool_that_does_not_answer_is_told_and_does_not_hold_doctor_up(tmp_path: Path) -> None:
    """A pipe in the place of a file: whoever opens it to read stands until somebody writes, and nobody does."""
    os.mkfifo(tmp_path / "1.kept")
    (hanging,) = of_the_spool(tmp_path, seconds=0.1)
    assert (hanging.level, hanging.about) == ("degraded", "spool")
    assert f"{tmp_path}: its disk does not answer for 0.1 s" in hanging.message
    (tmp_path / "1.kept").write_bytes(b"")  # so that the thread which stands there comes back


def test_a_provider_that_was_set_up_and_has_no_key_is_listed(home: Path) -> None:
    (home / "legato.toml").write_text(
        '[providers.local]\nwire = "openai_chat"\nbase_url = "http://127.0.0.1:1/v1"\napi_key_env = "LOCAL_KEY"\n'
    )
    code, told = asked(*NOWHERE, home=home)
    assert (code, told["degraded"]) == (1, [("provider local", "has no key: set LOCAL_KEY")])
    code, told = asked(*NOWHERE, home=home, LOCAL_KEY="swordfish")
    assert (code, told["degraded"]) == (0, [])
    assert "swordfish" not in str(told)


def test_pages_that_do_not_fit_together_are_listed(server: Server, home: Path) -> None:
    server.play({"text": "hello"})
    torn = Path(copied(server, home, "UPDATE turn SET depth = depth"))
    with closing(sqlite3.connect(torn)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'turn_place'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = torn.read_bytes()
    torn.write_bytes(data[: (page - 1) * size] + b"\xa5" * size + data[page * size :])
    code, told = asked(*NOWHERE, "--db", str(torn), home=home)
    assert code == 1
    assert dict(told["degraded"])["database"].startswith("its pages do not fit together: ")


def test_who_answers_and_is_no_legato_is_listed(home: Path) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as other:
        thread = Thread(target=other.serve_forever)
        thread.start()
        try:
            code, told = asked("--url", f"http://127.0.0.1:{other.server_port}", home=home)
        finally:
            other.shutdown()
            thread.join()
    assert code == 1
    assert dict(told["degraded"])["server"].startswith("the server refused")
