"""`legato ls`: chats, and a chat's turns as a tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.processes import Server, legato

pytestmark = pytest.mark.slow


def test_chats_are_listed_newest_first_with_title_model_and_whether_they_are_busy(server: Server, home: Path) -> None:
    server.ask("POST", "/v1/chats", {"id": "older", "title": "An \x1b[31molder\x1b[0m one"})
    server.play({"text": "one"}, chat_id="newer")
    running = server.start({"wait": 3600}, chat_id="busy")
    listed = legato("ls", "--url", server.url, cwd=home)
    rows = {line.split()[0]: line for line in listed.stdout.splitlines()}
    assert [one for one in rows if one in {"older", "newer", "busy"}] == ["busy", "newer", "older"]
    assert rows["older"].endswith("An older one")
    assert "script/echo" in rows["newer"]
    assert rows["busy"].split()[2] == "busy"
    assert rows["newer"].split()[2] == "-"
    server.ask("POST", f"/v1/turns/{running}/cancel", {})


def test_a_limit_is_kept_across_pages_and_said(server: Server, home: Path) -> None:
    for number in range(3):
        server.ask("POST", "/v1/chats", {"title": f"number {number}"})
    listed = legato("ls", "--limit", "2", "--url", server.url, cwd=home)
    assert len(listed.stdout.splitlines()) == 2
    assert "--limit" in listed.stderr
    asked = legato("ls", "--limit", "2", "--json", "--url", server.url, cwd=home)
    assert json.loads(asked.stdout) == server.ask("GET", "/v1/chats?limit=2")


def test_more_chats_than_a_page_holds_are_all_listed(home: Path) -> None:
    with Server(cwd=home) as server:
        for number in range(201):
            server.ask("POST", "/v1/chats", {"id": f"c{number}"})
        listed = legato("ls", "--limit", "1000", "--url", server.url, cwd=home)
        assert len({line.split()[0] for line in listed.stdout.splitlines()}) == 201


def test_a_chats_turns_are_a_tree_with_the_head_marked(server: Server, home: Path) -> None:
    first = server.play({"text": "the first answer"}, chat_id="tree")
    user = server.ask("GET", f"/v1/turns/{first}")["prev_turn_id"]
    again = server.ask("POST", "/v1/turns", {"prev_turn_id": user, "chat_id": "tree"})["assistant_turn"]["id"]
    listed = legato("ls", "tree", "--url", server.url, cwd=home)
    lines = {line.strip("├─└│ ").split()[0]: line for line in listed.stdout.splitlines()[1:]}
    assert list(lines) == [user, first, again]
    assert lines[first].startswith("├─ ")
    assert "the first answer" in lines[first]
    assert [one for one, line in lines.items() if line.endswith("<- head")] == [again]
    asked = legato("ls", "tree", "--json", "--url", server.url, cwd=home)
    assert [node["id"] for node in json.loads(asked.stdout)["data"]] == [user, first, again]


def test_a_chat_that_is_not_there_is_one_sentence(server: Server, home: Path) -> None:
    listed = legato("ls", "../turns", "--url", server.url, cwd=home)
    assert (listed.returncode, listed.stdout) == (1, "")
    assert listed.stderr.count("\n") == 1


def test_no_chats_is_no_error(home: Path) -> None:
    with Server(cwd=home) as server:
        listed = legato("ls", "--url", server.url, cwd=home)
        assert (listed.returncode, listed.stdout, listed.stderr) == (0, "", "legato ls: no chats\n")
