"""A script file plays as its lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from legato.testing.script import Call, Cut, End, Figures, Gate, Raw, Say, Think, Wait
from legato.testing.script_file import parse


def test_neighbours_of_one_kind_are_one_block_at_their_own_paces() -> None:
    (script,) = parse('{"text": "a b", "pace": 10}\n{"text": " c"}\n{"thinking": "d"}\n{"text": "e", "new": true}')
    first, second, third = script.steps
    assert isinstance(first, Say)
    assert isinstance(second, Think)
    assert isinstance(third, Say)
    assert (first.pieces, first.gaps) == (["a", " b", " c"], [0.1, 0.1, 0.0])


def test_new_starts_another_block() -> None:
    (script,) = parse('{"text": "a"}\n{"text": "b", "new": true}\n{"text": "c"}')
    assert [step.text for step in script.steps if isinstance(step, Say)] == ["a", "bc"]


def test_repeat_says_it_again_in_the_same_block() -> None:
    (script,) = parse('{"text": "on and on ", "repeat": 3}')
    (step,) = script.steps
    assert isinstance(step, Say)
    assert step.text == "on and on " * 3


def test_what_follows_an_end_is_the_next_round() -> None:
    lines = '{"tool": "f", "input": {"x": 1}}\n{"end": "calls"}\n{"usage": {"input_tokens": 9}}\n{"text": "done"}'
    first, second = parse(lines)
    assert list(first.steps) == [Call("f", {"x": 1}), End("calls")]
    assert second.usage == Figures(input_tokens=9)


def test_every_other_line_is_its_step() -> None:
    (script,) = parse('```script\n{"wait": 1.5}\n\n{"gate": "g"}\n{"fail": "bad_json"}\n```')
    assert list(script.steps) == [Wait(1.5), Gate("g"), Raw.garbage(b'data: {"type":\n\n'), Cut()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"text": "a"}\nnonsense', "line 2: "),
        ('{"text": "a", "tool": "f"}', "line 1: expected one step, found text, tool"),
        ('{"pace": 1}', "line 1: expected one step, found none"),
        ('{"txet": "a"}', "line 1: Object contains unknown field `txet`"),
    ],
)
def test_a_bad_line_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)


@pytest.mark.parametrize("option", ["--script", "--recording"])
def test_it_serves_a_file_on_the_command_line(tmp_path: Path, option: str) -> None:
    file = tmp_path / "file"
    body = 'data: {"text": "hello from a file"}\n\n'
    file.write_text(body if option == "--recording" else '{"text": "hello from a file"}\n')
    command = [sys.executable, "-m", "legato.testing.upstream", "--port", "0", option, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        headers = {"x-api-key": "k", "anthropic-version": "1"}
        asked = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        answers = [httpx.post(f"{url}/v1/messages", json=asked, headers=headers).text for _ in range(2)]
        process.terminate()
    assert all("from" in answer for answer in answers)
    assert process.returncode == 0
