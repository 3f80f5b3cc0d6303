"""The line that is typed."""

from __future__ import annotations

import pytest

from legato.cli.editor import Editor, Entered, Left

UP, DOWN, RIGHT, LEFT, HOME, END, DELETE = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[F", "\x1b[3~"


def typed(keys: str, *, words: tuple[str, ...] = ()) -> Editor:
    editor = Editor(words=words)
    editor.feed(keys.encode())
    return editor


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("hallo", "hallo"),
        ("hällo 漢\U0001f409", "hällo 漢\U0001f409"),
        ("abc\x7f\x7fd", "ad"),
        ("\x7f\x7fa", "a"),
        ("abd" + LEFT + "c", "abcd"),
        ("bcd" + HOME + "a" + END + "e", "abcde"),
        ("abc\x01" + DELETE, "bc"),
        ("one two  \x17", "one "),
        ("one two\x15", ""),
        ("one two" + LEFT * 3 + "\x0b", "one "),
        ("a" + RIGHT * 3 + LEFT * 9 + "b", "ba"),
        ("a\x1b[1;5Cb\x1b[99~c\x1bxd", "abcd"),
        ("a\x00\x0eb", "ab"),
    ],
)
def test_keys_do_what_they_do_in_a_shell(keys: str, line: str) -> None:
    assert typed(keys).line == line


def test_a_key_torn_anywhere_is_one_key() -> None:
    keys = ("ä漢" + LEFT + "x" + DELETE + "\x1b[200~p\r\nq\x1b[201~").encode()
    editor = Editor()
    for byte in keys:
        assert editor.feed(bytes([byte])) == []
    assert editor.line == "äxp\n\nq"


def test_enter_gives_the_line_and_ctrl_d_leaves_only_an_empty_one() -> None:
    editor = Editor()
    assert editor.feed(b"one\rtwo\n\x04") == [Entered("one"), Entered("two"), Left()]
    assert editor.feed(b"ab\x01\x04") == []
    assert editor.line == "b"


def test_a_paste_is_text_and_sends_nothing() -> None:
    editor = Editor()
    assert editor.feed(b"\x1b[200~first\nsecond\t/quit\x1b[31m\x03\n\x1b[201~") == []
    assert editor.line == "first\nsecond\t/quit\n"
    assert editor.feed(b"\r") == [Entered("first\nsecond\t/quit\n")]


def test_up_and_down_go_through_what_was_entered_and_back_to_what_was_begun() -> None:
    editor = typed("one\rtwo\rtwo\r \rbegun")
    shown = []
    for key in (UP, UP, UP, DOWN, DOWN, DOWN):
        editor.feed(key.encode())
        shown.append(editor.line)
    assert shown == ["two", "one", "one", "two", "begun", "begun"]


def test_tab_completes_a_command_that_only_one_word_can_be() -> None:
    words = ("/cancel", "/retry", "/branch", "/cat")
    assert typed("/re\t", words=words).line == "/retry "
    assert typed("/ca\t", words=words).line == "/ca"
    assert typed("re\t", words=words).line == "re"


def test_bytes_that_are_no_utf_8_are_marked_and_stop_nothing() -> None:
    editor = Editor()
    assert editor.feed(b"a\xff\xfeb\r") == [Entered("a\ufffd\ufffdb")]
