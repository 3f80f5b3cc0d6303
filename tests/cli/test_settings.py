"""`legato config`: each value with its source, and no secret."""

from __future__ import annotations

from pathlib import Path

from tests.cli.processes import legato


def test_each_value_says_where_it_came_from_and_keys_are_masked(home: Path) -> None:
    (home / "legato.toml").write_text("[server]\nport = 9000\nmodel = 'openai/gpt-5'\n")
    asked = legato("config", cwd=home, LEGATO_SERVER__DRAIN="5", OPENAI_API_KEY="sk-secret-secret")
    rows = {line.split(" = ")[0].strip(): line for line in asked.stdout.splitlines()}
    assert asked.returncode == 0
    assert rows["server.port"].endswith("= 9000  # " + str(home / "legato.toml"))
    assert rows["server.drain"].endswith("# LEGATO_SERVER__DRAIN")
    assert rows["server.host"].endswith("# default")
    assert rows["providers.openai.api_key"].endswith('= "********"  # OPENAI_API_KEY')
    assert "secret" not in asked.stdout + asked.stderr


def test_another_file_may_be_named(home: Path) -> None:
    (home / "other.toml").write_text("[server]\nport = 9001\n")
    asked = legato("config", "--config", "other.toml", cwd=home)
    assert "= 9001  # other.toml" in asked.stdout


def test_a_key_that_nothing_can_use_is_said(home: Path) -> None:
    asked = legato("config", cwd=home, GEMINI_API_KEY="sk-secret")
    assert "GEMINI_API_KEY" in asked.stderr
    assert "sk-secret" not in asked.stdout + asked.stderr
