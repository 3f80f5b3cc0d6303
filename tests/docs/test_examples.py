"""examples/: each is run as its own first lines say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import httpx
import msgspec
import pytest
from tests.docs.pages import ROOT
from tests.docs.shell import BOUND, Desk, answer, desk, server, vendor_environ

from legato.config import load
from legato.core import events
from legato.testing.upstream import Upstream

EXAMPLES = ROOT / "examples"
PAGE_ORIGIN = "http://localhost:8000"

Json = Any


class Stage(NamedTuple):
    at: Desk
    url: str


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A server with the example's settings, all but its providers' keys."""
    folder = tmp_path_factory.mktemp("examples")
    with (
        Upstream.open(default=answer) as upstream,
        desk(folder, vendor_environ(upstream)) as at,
        server(at, "--config", str(EXAMPLES / "legato.toml")) as running,
    ):
        yield Stage(at, running.url)


def test_the_settings_are_read_and_a_key_in_the_environment_makes_its_provider_ready() -> None:
    config = load(file=EXAMPLES / "legato.toml", environ={"GROQ_API_KEY": "a-key"})
    assert config.default_model == "groq/openai/gpt-oss-120b"
    assert config.providers["ollama"].ready
    assert load(file=EXAMPLES / "legato.toml").default_model == "script/demo"


def test_a_server_with_the_settings_has_the_tools_of_the_example(stage: Stage) -> None:
    tools = httpx.get(f"{stage.url}/v1/tools", trust_env=False).json()["data"]
    assert [tool["name"] for tool in tools] == ["get_weather", "read_result"]
    assert tools[0]["source"].startswith("tools.py:")


def test_the_page_of_the_reader_may_ask_the_server_with_the_settings(stage: Stage) -> None:
    assert PAGE_ORIGIN in (EXAMPLES / "reader.html").read_text()
    preflight = httpx.options(
        f"{stage.url}/v1/turns",
        headers={
            "origin": PAGE_ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        },
        trust_env=False,
    )
    assert preflight.headers["access-control-allow-origin"] == PAGE_ORIGIN
    assert "content-type" in preflight.headers["access-control-allow-headers"]


def test_the_reader_listens_to_every_event_that_is_said() -> None:
    """An event it does not listen to would leave a hole before the next cursor."""
    tags = {str(msgspec.inspect.type_info(one).tag) for one in get_args(events.Event)}  # type: ignore[attr-defined]
    assert tags - set(re.findall(r'"([a-z_]+)"', (EXAMPLES / "reader.js").read_text())) == set()


WATCH = """
import { follow } from "./reader.mjs";
let blocks;
const end = await follow(process.argv[2], (now) => (blocks = now));
console.log(JSON.stringify({ end, blocks: [...blocks.values()] }));
"""


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    has = subprocess.run([node, "--experimental-eventsource", "-e", ""], capture_output=True, check=False)
    if has.returncode:
        pytest.skip("needs a node with EventSource")
    return node


def test_the_reader_folds_a_live_turn_into_what_the_server_shows(stage: Stage, tmp_path: Path) -> None:
    node = _node()
    (tmp_path / "reader.mjs").write_text((EXAMPLES / "reader.js").read_text())
    (tmp_path / "watch.mjs").write_text(WATCH)
    with httpx.Client(base_url=stage.url, timeout=BOUND, trust_env=False) as client:
        started = client.post("/v1/turns", json={"input": "How is the weather in Oslo?"}).json()
        watched = subprocess.run(
            [node, "--experimental-eventsource", "watch.mjs", stage.url + started["events_url"]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )
        assert watched.returncode == 0, watched.stderr
        seen = json.loads(watched.stdout)
        shown = client.get(f"/v1/turns/{started['assistant_turn']['id']}").json()
    assert seen["end"]["status"] == shown["status"] == "complete"
    assert [{name: block.get(name) for name in real} for block, real in pairs(seen["blocks"], shown["blocks"])] == [
        real for _, real in pairs(seen["blocks"], shown["blocks"])
    ]


def pairs(seen: list[Json], shown: list[Json]) -> list[tuple[Json, Json]]:
    return list(zip(sorted(seen, key=lambda block: int(block["index"])), shown, strict=True))


VECTORS = """
import { readFileSync } from "node:fs";
import { follow } from "./reader.mjs";
let source;
globalThis.EventSource = class extends EventTarget {
  constructor() { super(); source = this; }
  close() { this.closed = true; }
};
const folded = process.argv.slice(2).map((path) => {
  const { events, squashed } = JSON.parse(readFileSync(path, "utf8"));
  return [events, squashed].map((said) => {
    let blocks = new Map();
    follow("", (now) => (blocks = now));
    for (const event of said) {
      source.dispatchEvent(Object.assign(new Event(event.type), { data: JSON.stringify(event) }));
    }
    return { closed: source.closed ?? false, blocks: [...blocks.values()] };
  });
});
console.log(JSON.stringify(folded));
"""


def test_the_reader_keeps_to_the_vectors_of_every_language(tmp_path: Path) -> None:
    node = _node()
    (tmp_path / "reader.mjs").write_text((EXAMPLES / "reader.js").read_text())
    (tmp_path / "vectors.mjs").write_text(VECTORS)
    vectors = sorted((ROOT / "tests" / "vectors").glob("*.json"))
    watched = subprocess.run(
        [node, "vectors.mjs", *map(str, vectors)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert watched.returncode == 0, watched.stderr
    for path, both in zip(vectors, json.loads(watched.stdout), strict=True):
        said = json.loads(path.read_text(encoding="utf-8"))
        for seen in both:
            for block, real in pairs(seen["blocks"], said["turn"]["blocks"]):
                # A rewind leaves the length and the hash of what it cut alone.
                kept = {name: value for name, value in block.items() if name not in {"length", "sha256"}}
                assert kept == {name: real[name] for name in kept}, path.stem
                assert {name for name, value in real.items() if value is not None} <= {*block, "length", "sha256"}
            assert seen["closed"] == (said["turn"]["stop_reason"] is not None), path.stem


def test_the_library_runs_a_turn_with_its_tool_and_no_server(stage: Stage) -> None:
    done = subprocess.run(
        [sys.executable, "examples/library.py", "How", "warm", "is", "it?"],
        cwd=stage.at.folder,
        env=stage.at.environ,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "(get_weather runs)" in done.stdout
    assert "asking the station in Oslo" in done.stdout
    assert re.search(r"\ncomplete, \d+ tokens out\n$", done.stdout)
