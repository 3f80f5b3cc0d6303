"""examples/ of tools, of a client's tool and of an approval: each is served, called and answered as its header says."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.docs.pages import ROOT
from tests.docs.shell import BOUND, Desk, desk, server
from tests.e2e.house import script

from legato.tools.loading import load_module

pytestmark = pytest.mark.slow

Json = Any


class Visitor:
    """Speaks to a server that has one of the examples."""

    def __init__(self, at: Desk, url: str) -> None:
        self.at = at
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=BOUND, trust_env=False)

    def post(self, path: str, **body: Json) -> Json:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def ask(self, *calls: Json) -> str:
        """A turn whose model makes these calls at once; its id."""
        steps = [{"tool": name, "input": given} for name, given in calls]
        said = script(*steps, {"end": "calls"}, {"text": "done"})
        turn_id: str = self.post("/v1/turns", input=said)["assistant_turn"]["id"]
        return turn_id

    def until(self, turn_id: str, *statuses: str) -> Json:
        deadline = time.monotonic() + BOUND
        while (turn := self.client.get(f"/v1/turns/{turn_id}").json())["status"] not in statuses:
            assert time.monotonic() < deadline, turn
        return turn

    def results(self, *calls: Json) -> list[Json]:
        """What these calls gave, in their order; where one waits for a yes, it is given."""
        turn = self.until(turn_id := self.ask(*calls), "complete", "waiting")
        while turn["status"] == "waiting":
            for need in turn["waiting_for"]:
                self.post(f"/v1/turns/{turn_id}/approvals", call_id=need["call_id"], decision="approve")
            turn = self.until(turn_id, "complete")
        given = {block["call_id"]: block for block in turn["blocks"] if block["type"] == "tool_result"}
        return [given[block["call_id"]] for block in turn["blocks"] if block["type"] == "tool_use"]


@contextmanager
def visiting(folder: Path, *arguments: str, **environ: str) -> Iterator[Visitor]:
    with desk(folder, environ) as at, server(at, *arguments) as running:
        visitor = Visitor(at, running.url)
        with visitor.client:
            yield visitor


def outputs(results: list[Json]) -> list[Json]:
    return [result["error"]["message"] if result["outcome"] != "ok" else result["output"] for result in results]


def test_notes_are_written_read_and_deleted_only_with_a_yes(tmp_path: Path) -> None:
    with visiting(tmp_path, "examples/notes.py", NOTES="my notes") as visitor:
        assert outputs(visitor.results(("write_note", {"name": "old", "text": "milk"}), ("list_notes", {})))[0] == (
            "old: 4 characters"
        )
        turn_id = visitor.ask(("read_note", {"name": "old"}), ("delete_note", {"name": "old"}))
        turn = visitor.until(turn_id, "waiting")
        note = tmp_path / "my notes" / "old.txt"
        assert note.read_text() == "milk"
        (need,) = turn["waiting_for"]
        visitor.post(f"/v1/turns/{turn_id}/approvals", call_id=need["call_id"], decision="approve")
        visitor.until(turn_id, "complete")
        assert not note.exists()
        refused = outputs(visitor.results(("read_note", {"name": "../../etc/passwd"}), ("read_note", {"name": "old"})))
        assert "cannot be the name of a note" in refused[0]
        assert "there is no note 'old'" in refused[1]
        assert outputs(visitor.results(("list_notes", {}))) == [[]]


class _Site(BaseHTTPRequestHandler):
    """Says 503 under /down, and answers nobody until two ask at once."""

    together = threading.Barrier(2)

    def do_GET(self) -> None:
        self.together.wait(BOUND)
        self.send_response(503 if self.path == "/down" else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_sites_are_asked_all_at_once(tmp_path: Path) -> None:
    """The site answers the first only once the second has asked."""
    site = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    up, down = (f"http://127.0.0.1:{site.server_port}/{path}" for path in ("up", "down"))
    dead = "http://127.0.0.1:9/"
    try:
        with visiting(tmp_path, "examples/sites.py", SITES=f"{up},{down},{dead}") as visitor:
            found = visitor.results(
                ("check_site", {"site": up}), ("check_site", {"site": down}), ("check_site", {"site": dead})
            )
            other = outputs(visitor.results(("check_site", {"site": "http://169.254.169.254/"}), ("list_sites", {})))
    finally:
        site.shutdown()
        site.server_close()
    assert [(result["output"] or {}).get("status") for result in found] == [200, 503, None]
    assert "does not answer" in found[2]["error"]["message"]
    assert found[0]["text"] == f"asking {up} …\n"
    assert "is not one of" in other[0]
    assert other[1] == [up, down, dead]


def test_an_order_is_placed_once_and_known_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with visiting(tmp_path, "examples/orders.py", ORDERS="desk.db") as visitor:
        lamp = {"customer": "Ada", "item": "lamp", "pieces": 2}
        placed = visitor.results(
            ("place_order", lamp), ("place_order", {**lamp, "pieces": 10}), ("place_order", {**lamp, "pieces": 0})
        )
        found = visitor.results(
            ("set_state", {"number": 1, "state": "sent"}), ("set_state", {"number": 9, "state": "sent"})
        )
        (orders,) = visitor.results(("find_orders", {"customer": "Ada"}))
    assert [one["outcome"] for one in placed] == ["ok", "ok", "error"]
    assert outputs(found) == ["order 1 is sent", "there is no order 9"]
    assert [(one["pieces"], one["state"]) for one in orders["output"]] == [(2, "sent"), (10, "open")]
    with closing(sqlite3.connect(tmp_path / "desk.db")) as database:
        (key,) = database.execute("SELECT key FROM orders WHERE number = 1").fetchone()
    monkeypatch.setenv("ORDERS", str(tmp_path / "desk.db"))
    module: Json = load_module(str(ROOT / "examples" / "orders.py"))
    assert module.placed(key) == "order 1 is placed"
    with pytest.raises(module.ToolError, match="was not placed"):
        module.placed("another")


PICK = ROOT / "examples" / "pick.mjs"
QUESTION = "Which colour?"


@contextmanager
def picking(at: Desk, url: str) -> Iterator[subprocess.Popen[str]]:
    """The client in JavaScript, that has asked its question and awaits the answer."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    ask = {"tool": "ask_user", "input": {"question": QUESTION}}
    said = script({"text": "Let me ask."}, ask, {"end": "calls"}, {"text": "So be it."})
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [node, "examples/pick.mjs", said],
        cwd=at.folder,
        env={**at.environ, "URL": url},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    ) as client:
        try:
            assert client.stderr is not None
            assert client.stderr.read(len(QUESTION)) == QUESTION
            yield client
        finally:
            client.kill()


def _picked(visitor: Visitor) -> tuple[str, Json]:
    """What came of the one call, as the server tells it."""
    chat_id = visitor.client.get("/v1/chats").json()["data"][0]["id"]
    turn = visitor.client.get(f"/v1/chats/{chat_id}/turns").json()["data"][-1]
    (result,) = (block for block in turn["blocks"] if block["type"] == "tool_result")
    return result["outcome"], result["output"]


def test_a_clients_tool_in_javascript_asks_whoever_sits_there(tmp_path: Path) -> None:
    with visiting(tmp_path) as visitor, picking(visitor.at, visitor.url) as client:
        shown, _ = client.communicate("green\n", timeout=BOUND)
        assert (client.returncode, shown) == (0, "Let me ask.So be it.\n")
        assert _picked(visitor) == ("ok", {"answer": "green"})


def test_a_clients_tool_in_javascript_outlives_a_server_that_stops_while_it_asks(tmp_path: Path) -> None:
    with desk(tmp_path, {}) as at, server(at) as first, picking(at, first.url) as client:
        first.process.send_signal(signal.SIGINT)
        first.process.wait(BOUND)
        assert client.stdin is not None
        client.stdin.write("green\n")
        client.stdin.flush()
        with server(at, port=int(first.url.rpartition(":")[2])) as second:
            shown, _ = client.communicate(timeout=BOUND)
            with (visitor := Visitor(at, second.url)).client:
                picked = _picked(visitor)
    assert (client.returncode, shown) == (0, "Let me ask.So be it.\n")
    assert picked == ("ok", {"answer": "green"})


def test_a_clients_tool_takes_thirty_lines_of_javascript() -> None:
    lines = [line for line in PICK.read_text().splitlines() if line and not line.startswith("//")]
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(("typed", "outcome"), [("y\n", "ok"), ("not yet\n", "denied"), ("", "denied")])
def test_a_shell_says_yes_or_no(typed: str, outcome: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (tmp_path / "notes").mkdir()
    note = tmp_path / "notes" / "old.txt"
    note.write_text("milk")
    delete = {"tool": "delete_note", "input": {"name": "old"}}
    with visiting(tmp_path, "examples/notes.py") as visitor:
        said = script(delete, {"end": "calls"}, {"text": "So be it."})
        asked = subprocess.run(
            ["bash", "examples/approve.sh", said],
            cwd=tmp_path,
            env={**visitor.at.environ, "URL": visitor.url},
            input=typed,
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )
    assert asked.returncode == 0, asked.stderr
    assert 'run delete_note(name="old")? [y/N]' in asked.stdout
    assert f"{'approved' if outcome == 'ok' else 'denied'}: delete_note" in asked.stdout
    assert note.exists() == (outcome != "ok")
    assert json.dumps(typed.strip())[1:-1] in asked.stdout
    assert "So be it." in asked.stdout
