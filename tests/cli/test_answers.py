"""`legato approve` and `legato answer`, against a server whose calls wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import PATIENCE, Running, Server, Typing, legato, script

pytestmark = pytest.mark.slow  # a process for each

TOOLS = '''
from legato import InputNeeded, ToolContext, tool


@tool(effect="write", needs_approval=True)
def drop(name: str) -> str:
    """Drop something, if a person agrees."""
    return f"dropped {name}"


@tool(effect="write")
def book(*, ctx: ToolContext) -> str:
    """Book a room; a person chooses which."""
    if ctx.resumed is None:
        schema = {"type": "object", "properties": {"room": {"type": "integer"}}}
        raise InputNeeded("Which room?", input_schema=schema)
    return f"room {ctx.resumed.answer.input['room']}"
'''
PICK = {"name": "pick", "description": "Let the user pick.", "input_schema": {"type": "object"}}
DROP = {"tool": "drop", "input": {"name": "a"}}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "mine.py").write_text(TOOLS)
    with Server("mine.py", cwd=folder) as running:
        yield running


def until(server: Server, turn_id: str, status: str) -> Any:
    """The turn, once it is that."""
    deadline = time.monotonic() + PATIENCE
    while (turn := server.ask("GET", f"/v1/turns/{turn_id}"))["status"] != status:
        assert time.monotonic() < deadline, turn
    return turn


def waiting(server: Server, *steps: object, **more: object) -> Any:
    """A turn at rest."""
    return until(server, server.start(*steps, {"end": "calls"}, {"text": "So."}, **more), "waiting")


def result_of(server: Server, turn_id: str) -> Any:
    (result,) = (block for block in until(server, turn_id, "complete")["blocks"] if block["type"] == "tool_result")
    return result


def test_the_one_call_that_waits_is_approved_by_its_turn_alone(desk: Server, home: Path) -> None:
    turn = waiting(desk, DROP)["id"]
    said = legato("approve", turn, "--url", desk.url, cwd=home)
    assert (said.returncode, said.stdout, said.stderr) == (0, 'approved: drop(name="a")\n', "")
    assert result_of(desk, turn)["output"] == "dropped a"


def test_other_arguments_are_what_it_runs_with(desk: Server, home: Path) -> None:
    view = waiting(desk, DROP)
    call = view["waiting_for"][0]["call_id"]
    said = legato("approve", view["id"], call, "--input", "-", "--url", desk.url, cwd=home, stdin='{"name": "b"}')
    assert (said.returncode, said.stdout) == (0, 'approved: drop(name="b")\n')
    result = result_of(desk, view["id"])
    assert (result["output"], result["ran_input"]) == ("dropped b", {"name": "b"})


def test_what_show_says_to_type_reaches_the_server_that_was_shown(desk: Server, home: Path) -> None:
    turn = waiting(desk, DROP)["id"]
    shown = legato("show", turn, "--url", desk.url, cwd=home).stdout
    typed = next(line for line in shown.splitlines() if line.startswith("waits ")).partition(": legato ")[2]
    said = legato(*typed.split(" "), cwd=home)
    assert (said.returncode, said.stdout) == (0, 'approved: drop(name="a")\n')


def test_a_no_and_its_reason_are_told(desk: Server, home: Path) -> None:
    turn = waiting(desk, DROP)["id"]
    said = legato("approve", turn, "--deny", "--reason", "it is needed", "--url", desk.url, cwd=home)
    assert (said.returncode, said.stdout) == (0, 'denied: drop(name="a")\n')
    result = result_of(desk, turn)
    assert result["outcome"] == "denied"
    assert "it is needed" in result["error"]["message"]


def test_a_tools_question_is_answered_with_input(desk: Server, home: Path) -> None:
    turn = waiting(desk, {"tool": "book", "input": {}})["id"]
    shown = legato("show", turn, "--url", desk.url, cwd=home).stdout
    assert "which asks: Which room?" in shown
    assert f"legato approve {turn} " in shown
    said = legato("approve", turn, "--input", '{"room": 9}', "--url", desk.url, cwd=home)
    assert (said.returncode, said.stdout) == (0, "approved: book()\n")
    assert result_of(desk, turn)["output"] == "room 9"


def test_a_clients_tool_is_answered_from_the_command_line(desk: Server, home: Path) -> None:
    view = waiting(desk, {"tool": "pick", "input": {"of": [1, 2]}}, client_tools=[PICK])
    turn, call = view["id"], view["waiting_for"][0]["call_id"]
    shown = legato("show", turn, "--url", desk.url, cwd=home).stdout
    assert f"its client to run pick(of=[1,2]): legato answer {turn} {call} --output JSON" in shown
    said = legato("answer", turn, "--output", '{"picked": 2}', "--url", desk.url, cwd=home)
    assert (said.returncode, said.stdout) == (0, "answered: pick(of=[1,2])\n")
    assert result_of(desk, turn)["output"] == {"picked": 2}


def test_what_a_client_could_not_do_is_told_as_an_error(desk: Server, home: Path) -> None:
    turn = waiting(desk, {"tool": "pick", "input": {}}, client_tools=[PICK])["id"]
    assert legato("answer", turn, "--error", "it is closed", "--url", desk.url, cwd=home).returncode == 0
    assert result_of(desk, turn)["error"]["message"] == "it is closed"


def test_where_several_wait_they_are_named_and_nothing_is_answered(desk: Server, home: Path) -> None:
    view = waiting(desk, DROP, {"tool": "drop", "input": {"name": "b"}})
    said = legato("approve", view["id"], "--url", desk.url, cwd=home)
    assert (said.returncode, said.stdout) == (1, "")
    for need, name in zip(view["waiting_for"], "ab", strict=True):
        assert f'{need["call_id"]} drop(name="{name}")' in said.stderr
    assert said.stderr.count("\n") == 1
    assert until(desk, view["id"], "waiting")["waiting_for"] == view["waiting_for"]
    desk.ask("POST", f"/v1/turns/{view['id']}/cancel", {})


def test_the_wrong_command_names_the_right_one(desk: Server, home: Path) -> None:
    for steps, wrong, right in (
        ((DROP,), "answer", "approve"),
        (({"tool": "pick", "input": {}},), "approve", "answer"),
    ):
        view = waiting(desk, *steps, client_tools=[PICK])
        option = ("--output", "1") if wrong == "answer" else ()
        said = legato(wrong, view["id"], *option, "--url", desk.url, cwd=home)
        assert said.returncode == 1
        assert f"legato {right} {view['id']} {view['waiting_for'][0]['call_id']}" in said.stderr
        desk.ask("POST", f"/v1/turns/{view['id']}/cancel", {})


def test_the_second_click_is_no_fault_and_another_answer_is(desk: Server, home: Path) -> None:
    view = waiting(desk, DROP)
    named = (view["id"], view["waiting_for"][0]["call_id"], "--url", desk.url)
    assert [legato("approve", *named, cwd=home).returncode for _ in range(2)] == [0, 0]
    other = legato("approve", *named, "--deny", cwd=home)
    assert other.returncode == 1
    assert "already_answered" in other.stderr
    late = legato("approve", view["id"], "--url", desk.url, cwd=home)
    until(desk, view["id"], "complete")
    assert "waits" in late.stderr


def test_what_the_server_refuses_is_one_sentence(desk: Server, home: Path) -> None:
    view = waiting(desk, DROP)
    for args, said in (
        ((view["id"], "nobody"), "unknown_call"),
        (("nobody",), "not_found"),
        ((view["id"], "--input", '{"nam": "b"}'), "nam"),
    ):
        refused = legato("approve", *args, "--url", desk.url, cwd=home)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    desk.ask("POST", f"/v1/turns/{view['id']}/cancel", {})


def test_a_tail_goes_on_through_the_wait(desk: Server, home: Path) -> None:
    view = waiting(desk, DROP)
    with Running("tail", view["id"], "--url", desk.url, cwd=home) as tail:
        tail.until("turn_waiting")
        assert legato("approve", view["id"], "--url", desk.url, cwd=home).returncode == 0
        assert tail.end() == 0
    assert "call_waiting" in tail.said
    assert "call_answered" in tail.said
    assert "rewind" in tail.said
    assert tail.complained == ""


# In a chat


def chatting(server: Server, home: Path, *steps: object) -> Typing:
    said = script(*steps, {"end": "calls"}, {"text": "So be it."})
    return Typing("chat", "--url", server.url, "--model", "script/echo", said, cwd=home)


def last_turn(server: Server) -> Any:
    (chat,) = server.ask("GET", "/v1/chats?limit=1")["data"]
    return server.ask("GET", f"/v1/turns/{chat['head_turn_id']}")


def test_a_chat_asks_before_a_call_runs_and_a_yes_runs_it(desk: Server, home: Path) -> None:
    with chatting(desk, home, DROP) as typing:
        typing.until('run drop(name="a")? y/N/e(dit)')
        typing.type("y\r")
        typing.until("! drop: yes")
        typing.until("= drop ok: dropped a")
        typing.until("So be it.")
        assert "another process" not in typing.shown
        assert typing.end() == 0


def test_two_calls_are_asked_for_one_after_another(desk: Server, home: Path) -> None:
    with chatting(desk, home, DROP, {"tool": "drop", "input": {"name": "b"}}) as typing:
        typing.until('run drop(name="a")? y/N/e(dit)')
        typing.type("n it is needed\r")
        typing.until('run drop(name="b")? y/N/e(dit)')
        typing.type("e\r")
        typing.until("change the arguments")
        typing.type("\x7f\r")
        typing.until("no JSON object yet")
        typing.type("\x15" + '{"nam": "c"}\r')
        typing.until("not answered")
        typing.until('run drop(name="b")? y/N/e(dit)')
        typing.type("e\r")
        typing.until("change the arguments")
        typing.type("\x7f" * 3 + 'c"}\r')
        typing.until('! drop 2: yes, with name="c"')
        typing.until("= drop 2 ok: dropped c")
        assert typing.end() == 0
    results = [block for block in last_turn(desk)["blocks"] if block["type"] == "tool_result"]
    assert [block["outcome"] for block in sorted(results, key=lambda one: one["outcome"])] == ["denied", "ok"]


def test_what_a_tool_asks_in_a_chat_is_answered_by_its_value(desk: Server, home: Path) -> None:
    with chatting(desk, home, {"tool": "book", "input": {}}) as typing:
        typing.until("book asks: Which room? (room, or n)")
        typing.type("9\r")
        typing.until("= book ok: room 9")
        assert typing.end() == 0


def test_words_that_are_no_answer_are_the_next_message(desk: Server, home: Path) -> None:
    with Typing("chat", "--url", desk.url, "--model", "script/echo", cwd=home) as typing:
        typing.until("\x1b[?2004h")
        typing.type(f"\x1b[200~{script(DROP, {'end': 'calls'}, {'text': 'So be it.'})}\x1b[201~\r")
        typing.until('run drop(name="a")? y/N/e(dit)')
        typing.type("and then?\r")
        typing.until("said when this answer has ended")
        typing.type("\r")
        typing.until("! drop: no")
        typing.until("and then?")
        typing.until("tokens in")
        typing.type("/quit\r")
        assert typing.end() == 0


def test_a_question_that_is_answered_elsewhere_is_asked_no_more(desk: Server, home: Path) -> None:
    with chatting(desk, home, DROP) as typing:
        typing.until('run drop(name="a")? y/N/e(dit)')
        turn = last_turn(desk)["id"]
        assert legato("approve", turn, "--url", desk.url, cwd=home).returncode == 0
        typing.until("= drop ok: dropped a")
        assert typing.end() == 0


def test_a_cancel_ends_a_chat_that_waits(desk: Server, home: Path) -> None:
    with chatting(desk, home, DROP) as typing:
        typing.until('run drop(name="a")? y/N/e(dit)')
        typing.type("\x03")
        typing.until("[cancelled]")
        assert typing.end() == 130


def test_a_chat_that_nobody_types_in_says_what_to_type_elsewhere(desk: Server, home: Path) -> None:
    said = script(DROP, {"end": "calls"}, {"text": "So be it."})
    with Running("chat", "--url", desk.url, "--model", "script/echo", said, cwd=home) as running:
        running.until_complaint('run drop(name="a")? y/N/e(dit): legato approve ')
        turn = last_turn(desk)["id"]
        running.until_complaint(turn)
        assert legato("approve", turn, "--url", desk.url, cwd=home).returncode == 0
        assert running.end() == 0
    assert running.said == "So be it.\n"
