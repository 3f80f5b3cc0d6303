"""Every recorded stream of a real vendor: over HTTP, into rows, and out again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.house import House, configured, serving, upstream_environ

from legato.core.blocks import Block, TextBlock
from legato.core.fold import fold
from legato.testing.upstream import End, Recording, Say, Script, Upstream

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
MODELS = {"anthropic": "anthropic/claude-sonnet-4-5", "openai_chat": "openai/some-model"}
FILES = [file for dialect in MODELS for file in sorted((RECORDINGS / dialect).glob("*.sse"))]

pytestmark = pytest.mark.skipif(not FILES, reason=f"no recordings at {RECORDINGS}")


def data_of(file: Path) -> Iterator[Any]:
    """An independent, simple reading of the recorded frames."""
    for line in file.read_text().splitlines():
        if line.startswith("data:") and line[5:].strip() != "[DONE]":
            yield json.loads(line[5:])


def text_said(file: Path) -> str:
    """All answer text of a recording, in order."""
    said = []
    for frame in data_of(file):
        if file.parent.name == "anthropic":
            said.append(frame.get("content_block", {}).get("text") or "")
            said.append(frame.get("delta", {}).get("text") or "")
        else:
            said += [(choice.get("delta") or {}).get("content") or "" for choice in frame.get("choices") or ()]
    return "".join(said)


async def play(house: House, upstream: Upstream, file: Path) -> str:
    upstream.enqueue(Recording(file), *[Script([Say("That is all."), End("end")])] * 3)
    started = await house.post("Go on", model=MODELS[file.parent.name])
    turn_id: str = started["assistant_turn"]["id"]
    return turn_id


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
async def test_a_recorded_stream_reaches_readers_and_rows_whole(file: Path, tmp_path: Path) -> None:
    async with Upstream.open() as upstream:
        config = configured(tmp_path, environ=upstream_environ(upstream))
        async with serving(config) as house:
            turn_id = await play(house, upstream, file)
            live = await house.followed(turn_id, each=True)
            again = await house.followed(turn_id, each=True)
            merged = await house.followed(turn_id)
            view = await house.turn(turn_id)
            refused = list(upstream.refused)
            stored = await house.service._store.load(turn_id)
    assert again == live
    turn = fold(live)
    assert fold(merged).blocks == turn.blocks
    assert stored is not None
    assert stored.blocks == turn.blocks
    assert stored.rounds == turn.rounds
    assert view["blocks"] == msgspec.json.decode(msgspec.json.encode(turn.blocks))
    assert not refused
    assert turn.ended
    if "<think>" not in text_said(file):
        assert "".join(block.text for block in turn.blocks if _first_answer(block)) == text_said(file)


def _first_answer(block: Block) -> bool:
    return isinstance(block, TextBlock) and block.round == 1
