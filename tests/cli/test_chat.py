"""`legato chat`, piped and on a terminal, against a real server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.cli.processes import Running, Server, Typing, free_port, legato, script

pytestmark = pytest.mark.slow  # a process for each, and a terminal for many; the documentation's commands try the rest

# On a terminal what is typed is shown as well, with this letter as the \u00f6 of JSON.
FOREVER = {"text": "ön and ön ", "repeat": 100_000, "pace": 50}


def chat(server: Server, home: Path, text: str, *args: str) -> tuple[int, str, str]:
    """Pipe a message in: exit code, stdout, stderr."""
    asked = legato("chat", "--url", server.url, *args, cwd=home, stdin=text)
    return asked.returncode, asked.stdout, asked.stderr


def chat_of(said: str) -> str:
    """The chat's id, from the line that says how to go on."""
    return said.partition("legato chat --chat ")[2].split()[0]


# Piped


def test_what_is_piped_in_is_answered_in_plain_text(server: Server, home: Path) -> None:
    code, out, err = chat(server, home, "Find the dragon\n")
    assert code == 0
    assert out.startswith("You asked: *Find the dragon*.")
    assert "\x1b" not in out + err
    assert 'doc_search(query="dragon")' in err
    assert "tokens in" in err


def test_only_the_answers_text_goes_to_stdout(server: Server, home: Path) -> None:
    call = {"tool": "doc_search", "input": {"query": "x"}}
    steps = ({"thinking": "hm"}, {"text": "first"}, call, {"end": "calls"}, {"text": "last"})
    _, out, err = chat(server, home, script(*steps), "--model", "script/echo")
    assert out == "first\n\nlast\n"
    assert "hm" in err
    assert "doc_search" in err


def test_words_on_the_command_line_are_one_message_and_stdin_is_left_alone(server: Server, home: Path) -> None:
    asked = legato("chat", "--url", server.url, "--model", "script/echo", "hello", "there", cwd=home, stdin="unread")
    assert asked.stdout.strip() == "hello there"


def test_a_dash_puts_what_is_piped_in_below_the_words(server: Server, home: Path) -> None:
    _, out, _ = chat(server, home, "the diff", "--model", "script/echo", "Review this:", "-")
    assert out.strip() == "Review this:\n\nthe diff"


def test_a_turn_that_fails_is_exit_code_1_and_says_why(server: Server, home: Path) -> None:
    code, out, err = chat(server, home, script({"text": "half"}, {"fail": "cut"}), "--model", "script/echo")
    assert code == 1
    assert "half" in out
    assert "error:" in err


def test_a_model_that_is_not_there_is_exit_code_1_and_one_sentence(server: Server, home: Path) -> None:
    code, out, err = chat(server, home, "hello", "--model", "nobody/nothing")
    assert (code, out) == (1, "")
    assert "unknown_model" in err
    assert err.count("\n") == 1


def test_a_chat_is_gone_on_with_by_its_id(server: Server, home: Path) -> None:
    _, _, err = chat(server, home, "hello", "--model", "script/echo")
    chat_id = chat_of(err)
    assert chat(server, home, "again", "--chat", chat_id)[1].strip() == "again"
    turns = server.ask("GET", f"/v1/chats/{chat_id}/turns")["data"]
    assert [turn["blocks"][0]["text"] for turn in turns if turn["role"] == "user"] == ["hello", "again"]


def test_a_chat_id_that_is_new_makes_that_chat(server: Server, home: Path) -> None:
    assert chat(server, home, "hello", "--chat", "my-own", "--model", "script/echo")[0] == 0
    assert server.ask("GET", "/v1/chats/my-own")["title"] == "hello"


def test_a_system_prompt_is_the_chats_own(server: Server, home: Path) -> None:
    _, _, err = chat(server, home, "hello", "--model", "script/echo", "--system", "Be brief.")
    chat_id = chat_of(err)
    assert server.ask("GET", f"/v1/chats/{chat_id}")["system"] == "Be brief."
    assert chat(server, home, "on", "--chat", chat_id, "--system", "Be long.")[0] == 0
    assert server.ask("GET", f"/v1/chats/{chat_id}")["system"] == "Be long."


def test_no_tools_offers_none(server: Server, home: Path) -> None:
    _, _, err = chat(server, home, "Find the dragon", "--no-tools", "--model", "script/echo")
    turns = server.ask("GET", f"/v1/chats/{chat_of(err)}/turns")["data"]
    assert turns[-1]["request"]["tools"] == []


def test_nothing_that_a_model_says_reaches_the_terminal_as_an_escape_sequence(server: Server, home: Path) -> None:
    text = "a\x1b[31mb \x1b]0;t" + "itle\x07c\x1b[" + "2Jd"
    steps = ({"text": text}, {"tool": "doc_search", "input": {"query": "\x1b[1mx"}}, {"end": "end"})
    _, out, err = chat(server, home, script(*steps), "--model", "script/echo")
    assert out.startswith("ab cd")
    assert "\x1b" not in out + err


def test_ctrl_c_cancels_the_turn_and_ends_with_130(server: Server, home: Path) -> None:
    with Running("chat", "--url", server.url, "--model", "script/echo", script(FOREVER), cwd=home) as running:
        running.until("ön and ön")
        running.signal(signal.SIGINT)
        assert running.end() == 130
    chat_id = chat_of(running.complained)
    turns = server.ask("GET", f"/v1/chats/{chat_id}/turns")["data"]
    assert turns[-1]["status"] == "cancelled"


def test_a_busy_chat_is_exit_code_1_and_names_the_turn_that_runs(server: Server, home: Path) -> None:
    turn = server.start({"wait": 3600}, chat_id="is-busy")
    code, out, err = chat(server, home, "hello", "--chat", "is-busy")
    assert (code, out) == (1, "")
    assert turn in err
    server.ask("POST", f"/v1/turns/{turn}/cancel", {})


def test_an_answer_goes_on_after_its_server_was_killed_and_started_again(home: Path) -> None:
    port = free_port()
    with Server(cwd=home, port=port) as server:
        running = Running("chat", "--url", server.url, "--model", "script/echo", script(FOREVER), cwd=home)
        with running:
            running.until("ön and ön")
            server.signal(signal.SIGKILL)
            server.end()
            running.until_complaint("trying again")
            with Server(cwd=home, port=port) as again:
                running.until_complaint("the line is back")
                running.until_complaint("<<")
                chat_id = again.ask("GET", "/v1/chats")["data"][0]["id"]
                head = again.ask("GET", f"/v1/chats/{chat_id}")["head_turn_id"]
                again.ask("POST", f"/v1/turns/{head}/cancel", {})
                assert running.end() == 1
                assert again.stop() == 0


def test_a_reader_that_goes_away_ends_the_chat_without_a_word(server: Server, home: Path) -> None:
    with Running("chat", "--url", server.url, "--model", "script/echo", script(FOREVER), cwd=home) as running:
        running.until("ön and ön")
        assert running.process.stdout is not None
        running.process.stdout.close()
        assert running.end() == 141
        assert "Traceback" not in running.complained
    chat_id = server.ask("GET", "/v1/chats?limit=1")["data"][0]["id"]
    active = server.ask("GET", f"/v1/chats/{chat_id}")["active_turn_id"]
    server.ask("POST", f"/v1/turns/{active}/cancel", {})


# On a terminal

READY = "\x1b[?2004h"
"""The keyboard is ours: pastes are asked for as such."""


def on_terminal(server: Server, home: Path, *args: str) -> Typing:
    return Typing("chat", "--url", server.url, "--model", "script/echo", *args, cwd=home)


def test_a_conversation_on_a_terminal(server: Server, home: Path) -> None:
    with on_terminal(server, home) as typing:
        typing.until(READY)
        typing.type("hello\r")
        typing.until("tokens in")
        typing.type("/help\r")
        typing.until("/branch ")
        typing.until("/quit")
        typing.type("/quit\r")
        assert typing.end() == 0


def test_thinking_is_dim_and_calls_are_marked(server: Server, home: Path) -> None:
    steps = ({"thinking": "hm"}, {"tool": "doc_search", "input": {"query": "dragon"}})
    with on_terminal(server, home, script(*steps)) as typing:
        assert "\x1b[2;3mhm" in typing.until('* doc_search(query="dragon")')
        typing.until("| doc_search: ")
        typing.until("= doc_search ok: ")
        assert typing.end() == 0


def test_no_colour_is_used_where_it_is_not_wanted(server: Server, home: Path) -> None:
    steps = ({"tool": "doc_search", "input": {"query": "dragon"}},)
    with Typing(
        "chat", "--url", server.url, "--model", "script/echo", script(*steps), cwd=home, NO_COLOR="1"
    ) as typing:
        shown = typing.until("= doc_search")
        assert "\x1b[1m* doc_search" in shown
        assert "\x1b[1;36m" not in shown
        assert typing.end() == 0


def test_cancel_is_typed_while_the_answer_streams(server: Server, home: Path) -> None:
    with on_terminal(server, home) as typing:
        typing.until(READY)
        type_block(typing, script(FOREVER))
        typing.until("ön and ön")
        typing.type("/canc")
        typing.until("> /canc")
        typing.type("el\r")
        typing.until("[cancelled]")
        typing.type("\x04")
        assert typing.end() == 0


def test_words_go_on_above_what_is_being_typed(server: Server, home: Path) -> None:
    with on_terminal(server, home) as typing:
        typing.until(READY)
        type_block(typing, script({"text": "a line\n", "repeat": 100_000, "pace": 50}))
        typing.until("a line")
        typing.type("half a th")
        typing.until("> half a th")
        typing.until("a line")
        typing.until("> half a th")
        typing.type("ought\r")
        typing.until("said when this answer has ended")
        typing.type("\x03")
        typing.until("[cancelled]")
        # What was said ahead is the next message.
        typing.until("half a thought")
        typing.until("tokens in")
        typing.type("/quit\r")
        assert typing.end() == 0


def test_ctrl_c_twice_leaves_and_the_first_cancels(server: Server, home: Path) -> None:
    with on_terminal(server, home) as typing:
        typing.until(READY)
        typing.type("\x03")
        typing.until("Ctrl-C again leaves")
        typing.type("hello\r")
        typing.until("tokens in")
        typing.type("half a word")
        typing.until("half a word")
        typing.type("\x03")
        typing.until("> \x1b[0m")
        typing.type("\x03")
        typing.until("Ctrl-C again leaves")
        typing.type("\x03")
        assert typing.end() == 130


def test_retry_answers_the_same_message_again_and_branch_goes_back(server: Server, home: Path) -> None:
    with on_terminal(server, home, "--chat", "branches") as typing:
        typing.until(READY)
        typing.type("first words\r")
        typing.until("tokens in")
        typing.type("/retry\r")
        typing.until("tokens in")
        typing.type("/edit other words\r")
        typing.until("tokens in")
        typing.type("/branch\r")
        typing.until(" 1  complete")
        typing.until(" 2  complete")
        typing.until("* 3  complete")
        typing.type("/branch 1\r")
        typing.until("> first words")
        typing.type("third words\r")
        typing.until("tokens in")
        typing.type("/branch 9\r")
        typing.until("from 1 to 3")
        typing.type("/quit\r")
        assert typing.end() == 0
    nodes = server.ask("GET", "/v1/chats/branches/turns?tree=1")["data"]
    users = [node for node in nodes if node["role"] == "user"]
    answers = [node for node in nodes if node["prev_turn_id"] == users[0]["id"]]
    assert [node["prev_turn_id"] for node in users] == [None, None, answers[0]["id"]]
    assert len(answers) == 2


def test_another_model_is_asked_from_now_on(server: Server, home: Path) -> None:
    with on_terminal(server, home, "--chat", "models") as typing:
        typing.until(READY)
        typing.type("/model nobody/nothing\r")
        typing.until("from now on")
        typing.type("hello\r")
        typing.until("unknown_model")
        typing.type("/model script/echo\r")
        typing.until("from now on")
        typing.type("hello\r")
        typing.until("tokens in")
        typing.type("/quit\r")
        assert typing.end() == 0


def test_what_is_no_command_is_not_sent_as_a_message(server: Server, home: Path) -> None:
    with on_terminal(server, home) as typing:
        typing.until(READY)
        typing.type("/cancle\r")
        typing.until("there is no /cancle")
        typing.type("/retry\r")
        typing.until("nothing was said yet")
        typing.type("/edit\r")
        typing.until("what should have been said")
        typing.type("/cancel\r")
        typing.until("nothing is streaming")
        typing.type("\x04")
        assert typing.end() == 0


def test_a_chat_that_is_opened_again_shows_its_last_exchange_and_follows_what_runs(server: Server, home: Path) -> None:
    server.play({"text": "the former answer"}, chat_id="opened")
    running = server.start({"text": "still "}, FOREVER, chat_id="opened")
    with on_terminal(server, home, "--chat", "opened") as typing:
        typing.until("still")
        typing.type("/retry\r")
        typing.until("/cancel ends it")
        typing.type("/cancel\r")
        typing.until("[cancelled]")
        typing.type("/quit\r")
        assert typing.end() == 0
    assert server.ask("GET", f"/v1/turns/{running}")["status"] == "cancelled"


def test_leaving_does_not_end_the_turn(server: Server, home: Path) -> None:
    with on_terminal(server, home, "--chat", "left") as typing:
        typing.until(READY)
        type_block(typing, script(FOREVER))
        typing.until("ön and ön")
        typing.type("/quit\r")
        typing.until("the turn goes on")
        assert typing.end() == 0
    active = server.ask("GET", "/v1/chats/left")["active_turn_id"]
    assert server.ask("GET", f"/v1/turns/{active}")["status"] == "running"
    server.ask("POST", f"/v1/turns/{active}/cancel", {})


def test_what_was_typed_ahead_is_named_by_whoever_leaves_before_it_was_said(server: Server, home: Path) -> None:
    with on_terminal(server, home, "--chat", "unsaid") as typing:
        typing.until(READY)
        type_block(typing, script(FOREVER))
        typing.until("ön and ön")
        typing.type("and then?\r")
        typing.until("said when this answer has ended")
        typing.type("/quit\r")
        typing.until("the turn goes on: legato tail ")
        typing.until(f" --url {server.url}")
        typing.until("not said: and then?")
        assert typing.end() == 0
    active = server.ask("GET", "/v1/chats/unsaid")["active_turn_id"]
    server.ask("POST", f"/v1/turns/{active}/cancel", {})


def test_which_model_is_asked_is_said_before_one_was_named_and_after(server: Server, home: Path) -> None:
    with Typing("chat", "--url", server.url, cwd=home) as typing:
        typing.until(f"script/demo at {server.url}")
        typing.type("/model\r")
        typing.until("script/demo")
        typing.type("/model script/echo\r")
        typing.until("script/echo is asked from now on")
        typing.type("/quit\r")
        assert typing.end() == 0


def test_the_terminal_is_given_back_as_it_was(server: Server, home: Path) -> None:
    with on_terminal(server, home) as typing:
        typing.until(READY)
        typing.type("/quit\r")
        assert typing.end() == 0
        assert typing.shown.endswith("\x1b[?2004l")


def test_a_signal_to_go_gives_the_terminal_back(server: Server, home: Path) -> None:
    with on_terminal(server, home) as typing:
        typing.until(READY)
        os.kill(typing.pid, signal.SIGTERM)
        assert typing.end() == 0
        assert typing.shown.endswith("\x1b[?2004l")


def test_no_server_is_one_sentence_on_a_terminal_too(home: Path) -> None:
    with Typing("chat", "--url", "http://127.0.0.1:9", cwd=home) as typing:
        assert typing.end() == 1
        assert typing.shown.count("\n") == 1
        assert "no server answers" in typing.shown


def test_a_command_that_is_not_answered_is_given_up_by_ctrl_c(home: Path) -> None:
    with Server(cwd=home) as server, on_terminal(server, home, "--chat", "mute") as typing:
        typing.until(READY)
        typing.type("hello\r")
        typing.until("tokens in")
        server.signal(signal.SIGSTOP)
        typing.type("/branch\r")
        typing.until("/branch")
        typing.type("\x03")
        typing.until("/branch is given up")
        typing.type("/quit\r")
        assert typing.end() == 0


def type_block(typing: Typing, text: str) -> None:
    """A paste, and Enter."""
    typing.type(f"\x1b[200~{text}\x1b[201~\r")
