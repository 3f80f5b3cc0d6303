"""What is typed, and what is said of it before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.processes import Server, environment, legato

from legato import __version__

HEAVY = ("pydantic", "aiohttp", "uvicorn", "asyncio", "rich", "msgspec", "starlette", "sqlite3")


def test_help_is_given_without_importing_what_only_commands_need(home: Path) -> None:
    code = (
        "import sys, json; sys.argv = ['legato', '--help']\n"
        "from legato.cli import main\n"
        "code = main()\n"
        "sys.stderr.write(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=home,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    code_given, imported = json.loads(child.stderr)
    assert code_given == 0
    assert "serve" in child.stdout
    assert [name for name in HEAVY if name in imported] == []


@pytest.mark.slow  # a process each
@pytest.mark.parametrize(
    "command", ["serve", "chat", "tail", "show", "approve", "answer", "ls", "verify", "doctor", "torture", "config"]
)
def test_every_command_explains_itself(home: Path, command: str) -> None:
    asked = legato(command, "--help", cwd=home)
    assert asked.returncode == 0
    assert f"Usage: legato {command}" in asked.stdout


def test_the_version_is_the_packages(home: Path) -> None:
    assert legato("--version", cwd=home).stdout == f"legato {__version__}\n"


def test_without_a_command_the_help_is_shown(home: Path) -> None:
    asked = legato(cwd=home)
    assert asked.returncode == 0
    assert "Commands:" in asked.stdout


@pytest.mark.slow  # a process each
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("serve", "--prot", "1"), "--port"),
        (("serve", "--port", "many"), "--port"),
        (("serv",), "serve"),
        (("tail",), "TURN"),
        (("tail", "t", "--after", "-1"), "--after"),
        (("ls", "--limit", "0"), "--limit"),
        (("show", "t", "--raw", "--model-view"), "--raw"),
        (("chat", "--url", "localhost:8420", "hello"), "http://HOST:PORT"),
        (("chat",), "nothing to say"),
        (("approve",), "TURN"),
        (("approve", "t", "--reason", "because"), "--deny"),
        (("approve", "t", "--deny", "--input", "{}"), "--reason"),
        (("approve", "t", "--input", "[1]"), "JSON object"),
        (("approve", "t", "--input", "{"), "expected JSON"),
        (("answer", "t"), "--output JSON or --error TEXT"),
        (("answer", "t", "--output", "1", "--error", "no"), "--output JSON or --error TEXT"),
        (("answer", "t", "--output", "no"), "expected JSON"),
        (("verify", "t", "--chat", "c"), "--chat"),
        (("serve", "--config", "nowhere.toml"), "nowhere.toml"),
        (("config", "--config", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_what_is_typed_wrong_is_one_sentence_and_exit_code_2(home: Path, args: tuple[str, ...], said: str) -> None:
    asked = legato(*args, cwd=home)
    assert asked.returncode == 2
    assert asked.stdout == ""
    assert asked.stderr.startswith("legato")
    assert asked.stderr.count("\n") == 1
    assert said in asked.stderr


@pytest.mark.slow
@pytest.mark.parametrize("args", [("chat", "hello"), ("approve", "t"), ("show", "t"), ("ls",), ("ls", "c")])
def test_a_server_that_is_not_there_is_one_sentence_and_exit_code_1(home: Path, args: tuple[str, ...]) -> None:
    asked = legato(*args, "--url", "http://127.0.0.1:9", cwd=home)
    assert asked.returncode == 1
    assert "no server answers at http://127.0.0.1:9" in asked.stderr
    assert asked.stderr.count("\n") == 1


def test_a_server_asked_for_tls_that_it_does_not_speak_is_not_said_to_forbid_it(server: Server, home: Path) -> None:
    asked = legato("ls", "--url", server.url.replace("http:", "https:"), cwd=home)
    assert asked.returncode == 1
    assert "[SSL" in asked.stderr
    assert "not permitted" not in asked.stderr


def test_a_server_that_is_not_legato_is_told_so(home: Path) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as other:
        thread = Thread(target=other.serve_forever)
        thread.start()
        try:
            asked = legato("ls", "--url", f"http://127.0.0.1:{other.server_port}", cwd=home)
        finally:
            other.shutdown()
            thread.join()
    assert asked.returncode == 1
    assert "not Legato's" in asked.stderr
