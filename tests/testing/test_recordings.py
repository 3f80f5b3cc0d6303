"""Real vendors' bytes go out as they came."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from legato.testing.check import signatures_in
from legato.testing.upstream import Recording, Upstream

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
BODY = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
HEADERS = {"x-api-key": "k", "anthropic-version": "1", "authorization": "Bearer k"}

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings at {RECORDINGS}")


@pytest.mark.parametrize("dialect", ["anthropic", "openai_chat", "openai_responses", "gemini"])
def test_every_recording_plays_byte_for_byte(dialect: str) -> None:
    files = sorted((RECORDINGS / dialect).glob("*.sse"))
    assert files
    with Upstream.open() as upstream, httpx.Client() as client:
        url = upstream.base_url("openai_chat") + "/chat/completions"
        for file in files:
            upstream.enqueue(Recording(file), Recording(file, frames_per_write=0), Recording(file, bytes_per_write=997))
            answers = [client.post(url, json=BODY, headers=HEADERS).content for _ in range(3)]
            assert answers == [file.read_bytes()] * 3, file.name


def test_signatures_of_recorded_thinking_are_found() -> None:
    found: dict[str, str] = {}
    for file in (RECORDINGS / "anthropic").glob("*.sse"):
        found |= signatures_in(file.read_bytes())
    assert found
    assert all(len(signature) > 100 for signature in found)
    assert any(found.values())
