"""`legato tail`: every event, once, in order, whatever becomes of the server, and a complaint if one is missing."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.processes import PATIENCE, Running, Server, free_port, legato

from legato.cli.follow import Frame
from legato.cli.witness import Witness

pytestmark = pytest.mark.slow

SLOWLY = {"text": "on and on ", "repeat": 100_000, "pace": 50}


def frames(said: str) -> list[Frame]:
    lines = [line.encode() for line in said.splitlines()]
    return [Frame(event["seq"], event["type"], line) for line in lines for event in [json.loads(line)]]


def complaints(said: str) -> list[str]:
    witness = Witness()
    for frame in frames(said):
        witness.take(frame)
    return witness.complaints


def test_a_turn_is_told_to_its_end(server: Server, home: Path) -> None:
    turn = server.play({"text": "Hel\x1b[31mlo"}, {"tool": "doc_search", "input": {"query": "x"}})
    told = legato("tail", turn, "--url", server.url, cwd=home)
    assert told.returncode == 0
    lines = [line.split() for line in told.stdout.splitlines()]
    assert lines[0][:2] == ["1", "turn_start"]
    assert lines[-1][1] == "turn_end"
    assert "\x1b" not in told.stdout


def test_json_is_each_event_as_it_was_said(server: Server, home: Path) -> None:
    turn = server.play({"text": "one two three", "pace": 100})
    told = legato("tail", turn, "--json", "--each", "--url", server.url, cwd=home)
    raw = legato("show", turn, "--raw", "--url", server.url, cwd=home)
    assert told.stdout == raw.stdout


def test_after_leaves_out_what_was_seen_and_an_end_that_was_seen_is_nothing(server: Server, home: Path) -> None:
    turn = server.play({"text": "one"})
    last = server.ask("GET", f"/v1/turns/{turn}")["last_seq"]
    told = legato("tail", turn, "--json", "--after", str(last - 1), "--url", server.url, cwd=home)
    assert [frame.type for frame in frames(told.stdout)] == ["turn_end"]
    told = legato("tail", turn, "--after", str(last), "--url", server.url, cwd=home)
    assert (told.returncode, told.stdout) == (0, "")


def test_a_turn_that_is_not_there_is_one_sentence_and_exit_code_1(server: Server, home: Path) -> None:
    told = legato("tail", "nothing", "--url", server.url, cwd=home)
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (1, "", 1)


def test_a_server_that_is_killed_and_started_again_costs_no_event(home: Path) -> None:
    port = free_port()
    with Server(cwd=home, port=port) as server:
        turn = server.start(SLOWLY)
        with Running("tail", turn, "--json", "--url", server.url, cwd=home) as tail:
            tail.until('"block_delta"')
            server.signal(signal.SIGKILL)
            server.end()
            tail.until_complaint("broke in the middle of an answer; trying again")
            with Server(cwd=home, port=port) as again:
                tail.until_complaint("the line is back")
                tail.until('"rewind"')
                again.ask("POST", f"/v1/turns/{turn}/cancel", {})
                assert tail.end() == 0
                assert complaints(tail.said) == []
                assert frames(tail.said)[-1].type == "turn_end"
                assert again.stop() == 0


def test_a_server_that_drains_sends_its_readers_on_and_they_come_back(home: Path) -> None:
    port = free_port()
    with Server("--drain", "0", cwd=home, port=port) as server:
        turn = server.start(SLOWLY)
        with Running("tail", turn, "--json", "--url", server.url, cwd=home) as tail:
            tail.until('"block_delta"')
            server.signal(signal.SIGINT)
            server.end()
            tail.until_complaint("trying again")
            with Server(cwd=home, port=port) as again:
                tail.until_complaint("the line is back")
                again.ask("POST", f"/v1/turns/{turn}/cancel", {})
                assert tail.end() == 0
                assert complaints(tail.said) == []
                assert again.stop() == 0


def test_a_tail_that_is_killed_goes_on_from_its_cursor(server: Server, home: Path) -> None:
    turn = server.start(SLOWLY)
    args = ("tail", turn, "--json", "--cursor", "cursor", "--url", server.url)
    with Running(*args, cwd=home) as tail:
        tail.until_there_is(home / "cursor")
        tail.signal(signal.SIGKILL)
        tail.end()
    seen = json.loads((home / "cursor").read_text())["seq"]
    with Running(*args, cwd=home) as again:
        again.until('"block_delta"')
        server.ask("POST", f"/v1/turns/{turn}/cancel", {})
        assert again.end() == 0
    # The cursor is written after the lines: what was said beyond it is said again, and nothing is left out.
    witness = Witness()
    for frame in [frame for frame in frames(tail.said) if frame.seq <= seen] + frames(again.said):
        witness.take(frame)
    assert witness.complaints == []
    assert witness.turn.ended
    assert frames(again.said)[0].seq > seen > 0
    assert legato(*args, cwd=home).stdout == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [("{}", "expected a cursor"), ('{"turn_id": "another", "seq": 3}', "of turn another"), ("\0", "expected a cursor")],
)
def test_a_cursor_of_something_else_is_refused_and_kept(server: Server, home: Path, content: str, said: str) -> None:
    (home / "cursor").write_text(content)
    told = legato("tail", "t", "--cursor", "cursor", "--url", server.url, cwd=home)
    assert (told.returncode, told.stdout) == (2, "")
    assert said in told.stderr
    assert (home / "cursor").read_text() == content


def test_a_reader_that_goes_away_ends_the_tail_without_a_word(server: Server, home: Path) -> None:
    turn = server.start(SLOWLY)
    with Running("tail", turn, "--json", "--url", server.url, cwd=home) as tail:
        tail.until('"block_delta"')
        assert tail.process.stdout is not None
        tail.process.stdout.close()
        assert tail.end() == 141
        assert tail.complained == ""
    server.ask("POST", f"/v1/turns/{turn}/cancel", {})


def test_ctrl_c_ends_a_tail_and_not_its_turn(server: Server, home: Path) -> None:
    turn = server.start(SLOWLY)
    with Running("tail", turn, "--url", server.url, cwd=home) as tail:
        tail.until("block_delta")
        tail.signal(signal.SIGINT)
        assert tail.end() == 130
        assert tail.complained == ""
    assert server.ask("GET", f"/v1/turns/{turn}")["status"] == "running"
    server.ask("POST", f"/v1/turns/{turn}/cancel", {})


# Against a server that does what a real one must not


START = '{"type":"turn_start","seq":1,"turn_id":"t","chat_id":"c","prev_turn_id":null,"created_at":"x"}'
ROUND = '{"type":"round_start","seq":2,"round":1,"attempt":1,"model":"m","provider":"p"}'
BLOCK = '{"type":"block_start","seq":3,"index":0,"round":1,"block_type":"text"}'
END = '{"type":"turn_end","seq":%d,"status":"complete","stop_reason":"end","usage":{}}'


def delta(seq: int, text: str, first_seq: int | None = None) -> str:
    merged = "" if first_seq is None else f',"first_seq":{first_seq}'
    return f'{{"type":"block_delta","seq":{seq},"index":0,"text":"{text}"{merged}}}'


def stop(seq: int, text: str) -> str:
    from legato.core.text import measure

    length, sha256 = measure(text)
    return f'{{"type":"block_stop","seq":{seq},"index":0,"state":"complete","length":{length},"sha256":"{sha256}"}}'


def sse(*lines: str) -> bytes:
    return b"".join(
        f"id: {json.loads(one)['seq']}\nevent: {json.loads(one)['type']}\ndata: {one}\n\n".encode() for one in lines
    )


OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 1\n\n"


@contextmanager
def answering(answers: Sequence[bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives each connection its answer and hangs up: its URL, and the requests it got."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(65536).decode())
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((START, ROUND, BLOCK, delta(5, "lo"), END % 6), "a gap in the events: block_delta has seq 5"),
        ((START, ROUND, BLOCK, delta(6, "lo", 5), END % 7), "a gap in the events: block_delta has seq 5"),
        ((START, ROUND, BLOCK, delta(4, "Hel"), delta(5, "lo", 4), END % 6), "an overlap"),
        ((START, ROUND, BLOCK, delta(4, "Hel"), stop(5, "Hello"), END % 6), "block 0 has 3 bytes"),
        ((START, ROUND, BLOCK, delta(4, "Hullo"), stop(5, "Hello"), END % 6), "another sha256"),
        ((START, '{"type":"of_tomorrow","seq":3,"x":1}', END % 4), "a gap in the events: of_tomorrow has seq 3"),
    ],
)
def test_what_is_missing_is_said_and_is_exit_code_1(home: Path, lines: tuple[str, ...], said: str) -> None:
    with answering([OK + sse(*lines)]) as (url, _):
        told = legato("tail", "t", "--json", "--url", url, cwd=home)
    assert told.returncode == 1
    assert said in told.stderr
    assert told.stdout == "".join(line + "\n" for line in lines)


def test_an_event_of_tomorrow_counts_and_is_told(home: Path) -> None:
    lines = (START, '{"type":"of_tomorrow","seq":2,"x":1}', END % 3)
    with answering([OK + sse(*lines)]) as (url, _):
        told = legato("tail", "t", "--url", url, cwd=home)
    assert told.returncode == 0
    assert "of_tomorrow" in told.stdout


def test_a_line_that_breaks_anywhere_is_taken_up_by_the_cursor_until_204(home: Path) -> None:
    text = delta(4, "Hello")
    whole = sse(START, ROUND, BLOCK, text)
    answers = [
        b"",
        OK + whole[:-1],
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        OK + sse(BLOCK, text),  # a server that says again what was asked to be left out
        OK + sse(stop(5, "Hello"), END % 6)[:-3],
        b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    ]
    with answering(answers) as (url, asked):
        told = legato("tail", "t", "--json", "--url", url, cwd=home)
    assert told.returncode == 0
    assert [frame.seq for frame in frames(told.stdout)] == [1, 2, 3, 4, 5]
    cursors = [request.lower().partition("last-event-id: ")[2].partition("\r")[0] for request in asked]
    assert cursors == ["", "", "3", "3", "4", "5"]
    assert complaints(told.stdout) == []


def test_a_stream_that_is_not_one_is_one_sentence(home: Path) -> None:
    page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"
    with answering([page]) as (url, _):
        told = legato("tail", "t", "--url", url, cwd=home)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "text/html" in told.stderr
