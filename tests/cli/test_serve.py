"""`legato serve`: its first lines, its exit codes, and what stops it from starting."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest
from tests.cli.processes import Server, legato

TOOLS = '''
from legato import tool

@tool(effect="read")
def count_sheep(field: str) -> int:
    """Sheep on a field."""
    return 7
'''

RAISES = TOOLS.replace("return 7", r'raise ValueError("a wolf\n2026-11-24 ERROR forged")')


def test_the_first_lines_say_where_it_is_what_answers_and_what_is_kept(home: Path) -> None:
    (home / "mine.py").write_text(TOOLS)
    with Server("mine.py", "--db", "here.db", cwd=home) as server:
        said = server.until("provider answers")
        assert server.url.startswith("http://127.0.0.1:")
        assert "script/demo" in said
        assert "count_sheep" in said
        assert str(home / "here.db") in said
        assert server.stop() == 0


def test_a_key_that_is_set_chooses_the_model_and_the_script_is_not_named(home: Path) -> None:
    with Server(cwd=home, ANTHROPIC_API_KEY="k", GEMINI_API_KEY="k") as server:
        said = server.until("GEMINI_API_KEY")
        assert "anthropic/claude" in said
        assert "script" not in said


def test_a_default_model_that_cannot_be_asked_is_said_at_start_and_by_doctor(home: Path) -> None:
    with Server("--model", "anthropic/claude-sonnet-4-5", cwd=home) as server:
        doctor = legato("doctor", "--url", server.url, cwd=home)
        assert server.stop() == 0
    said = "turns that name no model will be refused: model: anthropic/claude-sonnet-4-5: provider anthropic has no key"
    assert said in server.complained
    assert "anthropic/claude-sonnet-4-5: is the default and cannot be asked" in doctor.stdout
    assert doctor.returncode == 1


def test_the_log_is_one_line_for_each_record_whatever_a_tool_raises(home: Path) -> None:
    (home / "mine.py").write_text(RAISES)
    with Server("mine.py", cwd=home) as server:
        server.play({"tool": "count_sheep", "input": {"field": "north"}}, {"end": "calls"}, {"text": "none"})
        server.stop()
    (line,) = (line for line in server.complained.splitlines() if "wolf" in line)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} [A-Z]+ legato\.\S+: ", line), line
    assert r"a wolf\n2026-11-24 ERROR forged" in line
    assert "Traceback" in line


def test_a_port_that_is_taken_is_one_sentence_and_exit_code_2(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        asked = legato("serve", "--port", port, cwd=home)
    assert asked.returncode == 2
    assert asked.stderr.count("\n") == 1
    assert f"port {port}" in asked.stderr
    assert "in use" in asked.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "env", "said"),
    [
        ("[server]\nprot = 1\n", {}, "server.port"),
        ("[server\n", {}, "legato.toml"),
        ("", {"LEGATO_SERVER__PROT": "1"}, "LEGATO_SERVER__PORT"),
        ("", {"LEGATO_SERVER__PORT": "many"}, "LEGATO_SERVER__PORT"),
        ('[server]\nhost = "0.0.0.0"\n', {}, "--insecure-no-auth"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_exit_code_2(home: Path, file: str, env: dict[str, str], said: str) -> None:
    (home / "legato.toml").write_text(file)
    asked = (
        legato("serve", "--port", "0", cwd=home, **env) if "PORT" not in str(env) else legato("serve", cwd=home, **env)
    )
    assert asked.returncode == 2
    assert asked.stderr.count("\n") == 1
    assert said in asked.stderr


@pytest.mark.slow
def test_a_database_that_cannot_be_opened_is_one_sentence_and_exit_code_2(home: Path) -> None:
    (home / "other.db").write_bytes(b"not a database, whatever its name says" * 100)
    for name in ("nowhere/at.db", "other.db", "."):
        asked = legato("serve", "--db", name, "--port", "0", cwd=home)
        assert asked.returncode == 2
        assert asked.stderr.count("\n") == 1
        assert asked.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def broken(:\n", "mine.py"),
        ("from legato import tool\n@tool\ndef f(x): 'no annotation'\n", "mine.py"),
        ("import nothing_of_that_name\n", "nothing_of_that_name"),
    ],
)
def test_a_tool_file_that_cannot_be_used_is_named_and_exit_code_2(home: Path, source: str, said: str) -> None:
    (home / "mine.py").write_text(source)
    asked = legato("serve", "mine.py", "--port", "0", cwd=home)
    assert asked.returncode == 2
    assert "Traceback" not in asked.stderr
    assert said in asked.stderr


def test_ctrl_c_once_lets_a_running_turn_end(home: Path) -> None:
    with Server(cwd=home) as server:
        turn_id = server.start({"text": "on and on ", "repeat": 20, "pace": 20})
        server.signal(signal.SIGINT)
        assert server.end() == 0
    shown = legato("show", turn_id, "--url", "http://127.0.0.1:9", cwd=home)
    assert "complete, end" in shown.stdout


def test_ctrl_c_twice_stops_at_once(home: Path) -> None:
    with Server("--drain", "3600", cwd=home) as server:
        server.start({"wait": 3600})
        server.signal(signal.SIGINT)
        server.until_draining()
        server.signal(signal.SIGINT)
        assert server.end() == 130
