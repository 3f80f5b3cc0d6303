"""docs/http.md: its commands are run, its answers are those of a server, its tables are those of the OpenAPI."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.docs.pages import ROOT, all_pages, code, fences, prose, rows, text_of
from tests.docs.shell import Shell, answer, desk, server, vendor_environ

from legato.core import events as e
from legato.core import fold as core
from legato.core.closing import close_interrupted
from legato.core.posts import PostTurn
from legato.core.records import TurnRow
from legato.http import limits
from legato.http.app import HttpSettings
from legato.http.connection import Connection
from legato.http.errors import CODES
from legato.http.native import PAGE as PAGE_TURNS
from legato.runtime.calls.toolbox import GRACE
from legato.runtime.chats import METADATA_BYTES
from legato.runtime.clients.cancelling import CANCEL_STORE_SECONDS
from legato.runtime.clients.posted import TITLE_CHARACTERS
from legato.runtime.reading.following import SQUASH_FROM
from legato.runtime.storing.journal import JournalSettings
from legato.testing.upstream import Upstream

PAGE = "docs/http.md"

Json = Any
KEPT = (
    "index",
    "round",
    "type",
    "state",
    "text",
    "call_id",
    "tool_name",
    "input",
    "outcome",
    "output",
    "error",
    "signature",
)
"""Of a block, all that a cut leaves as it was: its length and hash are those of the shorter text."""

Apply = Callable[[dict[str, Json], Json], None]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("http")
    with (
        Upstream.open(default=answer) as upstream,
        desk(folder, vendor_environ(upstream)) as at,
        server(at, "examples/tools.py") as running,
    ):
        yield running.url


@pytest.fixture(scope="module")
def said(url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What each block of the page puts out, by its line; run once, in their order."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    with desk(tmp_path_factory.mktemp("shell"), {}) as at:
        shell = Shell(at, url)
        return {fence.line: shell.run(fence.body) for fence in fences(PAGE, "sh")}


@pytest.fixture(scope="module")
def document(url: str) -> Json:
    return httpx.get(f"{url}/v1/openapi.json", trust_env=False).json()


@pytest.fixture(scope="module")
def apply() -> Apply:
    """The fold that the page shows."""
    (fence,) = fences(PAGE, "python")
    names: dict[str, Json] = {}
    exec(compile(fence.body, str(fence), "exec"), names)
    shown: Apply = names["apply"]
    return shown


def misfits(shown: Json, real: Json, path: str = "") -> list[str]:
    """Where an answer on the page has what a real one has not: a name, another type, another word."""
    if isinstance(shown, dict) and isinstance(real, dict):
        lost = [f"{path}/{name} is not there" for name in shown if name not in real]
        return lost + [
            wrong for name in shown if name in real for wrong in misfits(shown[name], real[name], f"{path}/{name}")
        ]
    if isinstance(shown, list) and isinstance(real, list):
        best = [min((misfits(one, other, f"{path}/{at}") for other in real), key=len) for at, one in enumerate(shown)]
        return [wrong for each in best for wrong in each]
    if isinstance(shown, int | float) and isinstance(real, int | float):
        return []  # figures differ from turn to turn, a number stays one
    if type(shown) is not type(real):
        return [f"{path} is {shown!r}, a server said {real!r}"]
    varies = re.search(r"/(text|sha256|call_id|\w+_at)$", path)
    return [] if varies or shown == real else [f"{path} is {shown!r}, a server said {real!r}"]


def test_every_answer_on_the_page_is_what_a_server_answers(said: dict[int, str]) -> None:
    answers = fences(PAGE, "json")
    assert len(answers) >= 3
    for shown in answers:
        asked = max(line for line in said if line < shown.line)
        assert misfits(json.loads(shown.body), json.loads(said[asked])) == [], str(shown)


def test_every_frame_on_the_page_is_what_a_server_says(said: dict[int, str]) -> None:
    (shown,) = fences(PAGE, "text")
    real = said[max(line for line in said if line < shown.line)]
    events = {event["type"]: event for event in events_in(real)}
    for event in events_in(shown.body):
        assert misfits(event, events[event["type"]]) == []
    frame = shown.body.split("\n\n")[0]
    assert [line.partition(":")[0] for line in frame.splitlines()] == ["id", "event", "data"]
    assert real.startswith("retry: 1000\n\nid: 1\nevent: turn_start\ndata: ")


def test_a_reader_who_comes_back_as_the_page_says_misses_nothing(said: dict[int, str]) -> None:
    first, resumed = (said[fence.line] for fence in fences(PAGE, "sh") if "oslo-1/events" in fence.body)
    whole = events_in(first)
    assert whole[-1]["type"] == "turn_end"
    last = whole[-1]["seq"]
    by_header, by_query = (events_in(one) for one in resumed.split("retry: 1000")[1:])
    assert covered(whole) == list(range(1, last + 1))
    assert covered(by_header) == [event["seq"] for event in by_query] == list(range(7, last + 1))
    assert len(by_header) < len(by_query)


def test_a_client_that_answers_as_the_page_says_brings_the_turn_to_its_end(said: dict[int, str], url: str) -> None:
    assert said
    turn = httpx.get(f"{url}/v1/turns/cave-1", trust_env=False).json()
    (result,) = (block for block in turn["blocks"] if block["type"] == "tool_result")
    assert (turn["status"], result["outcome"], result["output"]) == ("complete", "ok", {"opened": True})


def test_a_cancelled_chat_that_was_deleted_is_gone(said: dict[int, str], url: str) -> None:
    assert said
    assert httpx.get(f"{url}/v1/chats/trip", trust_env=False).status_code == 404


def events_in(stream: str) -> list[Json]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]


def covered(events: list[Json]) -> list[int]:
    """Every seq that the events stand for, merged ones included."""
    return [seq for event in events for seq in range(event.get("first_seq", event["seq"]), event["seq"] + 1)]


# The tables


def test_every_event_of_the_openapi_is_in_the_table_with_its_fields_and_no_other(document: Json) -> None:
    schemas = document["components"]["schemas"]
    mapping = schemas["Event"]["discriminator"]["mapping"]
    served = {
        tag: set(schemas[reference.rpartition("/")[2]]["properties"]) - {"type", "seq"}
        for tag, reference in mapping.items()
    }
    shown = {code(row[0])[0]: set(code(row[1])) for row in rows(PAGE, "### Events")}
    assert shown == served


def test_every_route_of_the_openapi_is_in_the_table_and_no_other(document: Json) -> None:
    served = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert {code(row[0])[0] for row in rows(PAGE, "## Every path")} == served


def test_every_query_parameter_of_a_route_is_in_the_table(document: Json) -> None:
    for row in rows(PAGE, "## Every path"):
        method, _, path = code(row[0])[0].partition(" ")
        parameters = document["paths"][path][method.lower()]["parameters"]
        named = {one["name"] for one in parameters if one["in"] == "query"}
        if method == "GET":
            assert named == set(code(row[1])) & named, row[0]


def test_every_field_of_a_post_is_in_the_table_and_no_other() -> None:
    shown = [name for row in rows(PAGE, "## Starting a turn") if len(row) == 2 for name in code(row[0])]
    hangs_on = {"chat_id", "prev_turn_id", "input", "blocks"}
    assert set(shown) | hangs_on == set(PostTurn.__struct_fields__)
    assert {name for name in shown if shown.count(name) > 1} <= hangs_on


def test_the_bounds_on_the_page_are_those_of_the_server() -> None:
    settings = HttpSettings()
    text = " ".join(text_of(PAGE).split())
    for said in (
        f"a body of {settings.body_bytes // 2**20} MiB, whole within {settings.body_seconds:g} s",
        f"never paused for {settings.body_idle_seconds:g} s",
        f"a head of {Connection.head_bytes:,} bytes within {Connection.head_seconds:g} s",
        f"a path of {limits.PATH_BYTES:,} bytes, a query of {limits.QUERY_BYTES:,}",
        f"JSON nested {settings.json_depth} deep",
        f"a comment comes after {settings.beat_seconds:g} s of silence",
        f"takes no byte for {settings.stall_seconds:g} s",
        f"up to {METADATA_BYTES:,} bytes",
        f"({TITLE_CHARACTERS} characters)",
        f"more than {SQUASH_FROM} events behind",
        f"answered within {GRACE:g} s",
        f"waits for the row at most {CANCEL_STORE_SECONDS:g} s",
        f"Up to {JournalSettings().flush_interval * 1000:g} ms of an open block",
        f"`seq` begins at {e.EPOCH_SIZE + 1:,}",
        f"`limit` is {PAGE_TURNS}, at most 200",
    ):
        assert said in text


@pytest.mark.parametrize("page", all_pages())
def test_every_status_beside_an_error_code_is_its_own(page: str) -> None:
    for status, named in re.findall(r"\b([45]\d\d) `([a-z_]+)`", prose(page)):
        assert CODES[named].status == int(status), named


# The fold


def folded(apply: Apply, events: list[Json]) -> dict[str, Json]:
    turn: dict[str, Json] = {"last_seq": 0, "blocks": {}}
    for event in events:
        apply(turn, event)
    return turn


@pytest.fixture(scope="module")
def whole(url: str) -> list[Json]:
    """Every event of a turn with text, thinking, a call and its result, each delta as it was."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        started = client.post("/v1/turns", json={"input": "How is the weather in Oslo?", "turn_id": "to-fold"})
        assert started.status_code == 202
        return events_in(client.get("/v1/turns/to-fold/events?deltas=each").text)


def test_the_fold_on_the_page_makes_the_turn_that_the_server_shows(apply: Apply, whole: list[Json], url: str) -> None:
    turn = folded(apply, whole)
    shown = httpx.get(f"{url}/v1/turns/to-fold", trust_env=False).json()
    for real in shown["blocks"]:
        block = turn["blocks"][real["index"]]
        assert {name: block.get(name) for name in real} == real
    assert len(turn["blocks"]) == len(shown["blocks"])
    assert (turn["status"], turn["stop_reason"]) == (shown["status"], shown["stop_reason"])


def test_the_fold_on_the_page_is_the_same_however_often_a_reader_reconnects(apply: Apply, whole: list[Json]) -> None:
    chance = random.Random(4)
    for _ in range(20):
        received: list[Json] = []
        at = 0
        while at < len(whole):
            until = chance.randint(at, len(whole))
            received += whole[max(0, at - chance.randint(0, 5)) : until]  # and some of it twice
            at = until
        assert folded(apply, received) == folded(apply, whole)


def test_the_fold_on_the_page_cuts_what_a_dead_server_had_not_stored(apply: Apply, whole: list[Json]) -> None:
    """At every event: stored up to it, seen up to the end, then ended by the next owner."""
    row = TurnRow(
        id="to-fold",
        chat_id="c",
        prev_turn_id="u",
        role="assistant",
        status="running",
        created_at="2026-11-24T06:48:11.194Z",
        depth=2,
    )
    for stored in range(len(whole)):
        before = [e.decode(msgspec.json.encode(event)) for event in whole[:stored]]
        closing = [
            action for action in close_interrupted(row, before, epoch=1).actions if isinstance(action, e.BaseEvent)
        ]
        after = [json.loads(e.encode(event)) for event in closing]
        turn = folded(apply, [*whole[:-1], *after])
        want = core.fold([*before, *closing])
        real = json.loads(msgspec.json.encode(want.blocks))
        assert [shown(block) for block in turn["blocks"].values()] == [shown(block) for block in real], stored
        assert (turn["status"], turn["last_seq"]) == (want.status, want.last_seq)


VECTORS = sorted((ROOT / "tests" / "vectors").glob("*.json"))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda path: path.stem)
def test_the_fold_on_the_page_keeps_to_the_vectors_of_every_language(apply: Apply, vector: Path) -> None:
    said = json.loads(vector.read_text(encoding="utf-8"))
    for events in (said["events"], said["squashed"]):
        turn = folded(apply, events)
        assert [shown(block) for _, block in sorted(turn["blocks"].items())] == [
            shown(block) for block in said["turn"]["blocks"]
        ]
        assert turn["last_seq"] == said["turn"]["last_seq"]


def shown(block: Json) -> Json:
    return {name: block.get(name) for name in KEPT}
