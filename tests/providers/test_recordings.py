"""Real responses of real vendors, read whole, in pieces and broken off."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from tests.providers.heard import Heard, frames_of, recordings, values_of

from legato.core.blocks import Json
from legato.core.inputs import BlockClosed, Delta, ProviderInput, ResponseEnded, ResponseFailed
from legato.providers import anthropic, openai_chat
from legato.providers.openai_chat_vendors import Seal


class Decodes(Protocol):
    def feed(self, data: bytes) -> list[ProviderInput]: ...

    def end(self) -> list[ProviderInput]: ...


def openai_decoder() -> Decodes:
    return openai_chat.Decoder(seal="object")


DECODERS: dict[str, Callable[[], Decodes]] = {"anthropic": anthropic.Decoder, "openai_chat": openai_decoder}
FILES = [(wire, path) for wire in DECODERS for path in recordings(wire)]

each_recording = pytest.mark.parametrize(("wire", "path"), FILES, ids=[path.stem[-60:] for _, path in FILES])
pytestmark = pytest.mark.skipif(not FILES, reason="there are no recordings beside the checkout")


def decoded(wire: str, pieces: list[bytes]) -> list[ProviderInput]:
    decoder = DECODERS[wire]()
    out = [said for piece in pieces for said in decoder.feed(piece)]
    return out + decoder.end()


def in_pieces(body: bytes, rng: random.Random) -> list[bytes]:
    pieces, at = [], 0
    while at < len(body):
        size = rng.choice((1, 2, 3, 7, 50, 1_000, 20_000))
        pieces.append(body[at : at + size])
        at += size
    return pieces


@each_recording
def test_a_body_fed_byte_by_byte_says_what_the_whole_says(wire: str, path: Path) -> None:
    body = path.read_bytes()
    assert decoded(wire, [body[at : at + 1] for at in range(len(body))]) == decoded(wire, [body])


@each_recording
@settings(max_examples=5, deadline=None)
@given(seed=st.integers())
def test_a_body_in_any_pieces_says_what_the_whole_says(wire: str, path: Path, seed: int) -> None:
    body = path.read_bytes()
    assert decoded(wire, in_pieces(body, random.Random(seed))) == decoded(wire, [body])


@each_recording
def test_line_ends_of_either_kind_say_the_same(wire: str, path: Path) -> None:
    body = path.read_bytes()
    assert decoded(wire, in_pieces(body.replace(b"\n", b"\r\n"), random.Random(3))) == decoded(wire, [body])


@each_recording
def test_a_body_broken_off_at_a_frame_fails_and_keeps_what_came(wire: str, path: Path) -> None:
    frames = frames_of(path.read_bytes())
    whole = decoded(wire, frames)
    step = 1 if len(frames) <= 300 else 13
    for count in range(0, len(frames), step):
        *kept, last = decoded(wire, frames[:count])
        if b'"finish_reason":"' in b"".join(frames[:count]):
            assert isinstance(last, ResponseEnded | ResponseFailed)
            continue
        assert isinstance(last, ResponseFailed)
        assert last.error.code == "provider_cut"
        assert last.error.retryable
        assert kept == whole[: len(kept)]


@each_recording
def test_a_body_broken_off_within_a_frame_says_no_more_than_at_the_frame_before(wire: str, path: Path) -> None:
    frames = frames_of(path.read_bytes())
    for count in range(1, len(frames), max(1, len(frames) // 40)):
        cut = frames[count][: len(frames[count]) // 2]
        assert decoded(wire, [*frames[:count], cut]) == decoded(wire, frames[:count])


@each_recording
def test_each_recording_ends_with_usage_and_a_reason(wire: str, path: Path) -> None:
    heard = Heard(decoded(wire, [path.read_bytes()]))
    if "error" in path.stem and isinstance(heard.last, ResponseFailed):
        assert heard.failed.error.code in {"provider_rejected", "provider_failed"}
        return
    assert heard.ended.stop_reason in {"end", "calls", "pause"}
    assert heard.usage is not None
    assert heard.usage.source == "reported"
    assert heard.usage.input_tokens
    assert heard.usage.output_tokens
    assert all(block.closed is not None for block in heard.blocks)


def anthropic_texts(values: list[Json]) -> list[tuple[str, str]]:
    texts: dict[int, tuple[str, str]] = {}
    for value in values:
        if value["type"] == "content_block_start":
            raw = value["content_block"]
            texts[value["index"]] = (raw["type"], raw.get("text", "") + raw.get("thinking", ""))
        elif value["type"] == "content_block_delta":
            kind, text = texts[value["index"]]
            delta = value["delta"]
            more = delta.get("text", "") + delta.get("thinking", "") + delta.get("partial_json", "")
            texts[value["index"]] = (kind, text + more)
    return list(texts.values())


@pytest.mark.parametrize("path", recordings("anthropic"), ids=lambda path: path.stem[-60:])
def test_no_byte_of_anthropic_is_lost_or_said_twice(path: Path) -> None:
    body = path.read_bytes()
    heard = Heard(decoded("anthropic", [body]))
    simply = anthropic_texts(values_of(body))
    assert [block.text for block in heard.blocks if block.kind != "opaque"] == [text for _, text in simply]
    kinds = ["tool_use" if kind.endswith("tool_use") else kind for kind, _ in simply]
    kinds = ["tool_result" if kind.endswith("tool_result") else kind for kind in kinds]
    assert [block.kind for block in heard.blocks if block.kind != "opaque"] == kinds


@pytest.mark.parametrize("path", recordings("openai_chat"), ids=lambda path: path.stem[-60:])
def test_no_byte_of_chat_completions_is_lost_or_said_twice(path: Path) -> None:
    body = path.read_bytes()
    heard = Heard(decoded("openai_chat", [body]))
    content, reasoning = "", ""
    calls: dict[int, str] = {}
    for value in values_of(body):
        for choice in value.get("choices", ()):
            delta = choice["delta"]
            content += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
            for call in delta.get("tool_calls") or ():
                calls[call["index"]] = calls.get(call["index"], "") + call["function"].get("arguments", "")
    if content.startswith("<think>"):
        thought, _, content = content.removeprefix("<think>").partition("</think>")
        reasoning += thought
    assert heard.text_of("text") == content
    assert heard.text_of("thinking") == reasoning
    assert [block.text for block in heard.of("tool_use")] == [calls[index] for index in sorted(calls)]


@pytest.mark.parametrize("path", recordings("openai_chat"), ids=lambda path: path.stem[-60:])
@pytest.mark.parametrize("seal", ["object", "next", "finish"])
def test_calls_are_sealed_when_the_providers_seal_says(path: Path, seal: Seal) -> None:
    decoder = openai_chat.Decoder(seal=seal)
    arguments: dict[int, str] = {}
    begun = finished = False
    for frame in frames_of(path.read_bytes()):
        said = decoder.feed(frame)
        finished = finished or b'"finish_reason":"' in frame
        for one in said:
            if isinstance(one, Delta):
                arguments[one.key] = arguments.get(one.key, "") + one.text
                begun = True
        for closed in (one for one in said if isinstance(one, BlockClosed) and one.key in _calls(arguments)):
            if seal == "finish":
                assert finished
            if seal == "object" and arguments[closed.key] != "{}":
                assert any(isinstance(one, Delta) and one.key == closed.key for one in said)
    assert begun


def _calls(arguments: dict[int, str]) -> set[int]:
    return {key for key, text in arguments.items() if text.startswith("{") and text.endswith("}")}


def test_the_paused_turn_says_pause_and_the_next_begins_with_a_result_of_its_call() -> None:
    first, second = (path for path in recordings("anthropic") if "pause_turn" in path.stem)
    paused = Heard(decoded("anthropic", [first.read_bytes()]))
    assert paused.ended.stop_reason == "pause"
    assert paused.blocks[-1].opened.origin == "provider"
    result = Heard(decoded("anthropic", [second.read_bytes()])).blocks[0]
    assert result.kind == "tool_result"
    assert result.opened.tool_name == "web_search"
    assert result.opened.provider_call_id == paused.blocks[-1].opened.provider_call_id
    assert result.closed is not None
    assert result.closed.output is not UNSET
