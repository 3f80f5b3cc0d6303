"""An output that is too large for the log: whole at its href, in part for the model, who can read on (hazard 26)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from tests.core.test_verifying import found_in
from tests.e2e.asking import PICK, asked, give, result, results
from tests.e2e.house import MODELS, configured, playing, results_in, serving, upstream_environ

from legato import tool
from legato.core.events import EPOCH_SIZE
from legato.core.usage import estimated_tokens
from legato.testing.script import Wire
from legato.testing.upstream import Call, Request, Say, Script

WIRES = pytest.mark.parametrize("wire", get_args(Wire))
LOG = "".join(f"line {number}: nothing new 🐉\n" for number in range(120_000)) + "the last line: found it\n"


@tool(effect="read")
async def read_log() -> str:
    """A long log."""
    return LOG


@tool(effect="read")
async def list_all() -> list[int]:
    """Many numbers."""
    return list(range(300_000))


@WIRES
async def test_the_whole_is_at_the_href_and_the_model_reads_on_in_it(wire: Wire, tmp_path: Path) -> None:
    """In the same turn, by the call's id as the model was told it."""

    def reads_on(request: Request) -> Script:
        (told,) = results_in(request.body).values()
        call_id = told.partition('call_id="')[2].partition('"')[0] or told.partition("call_")[2].split()[0]
        return Script([Call("read_result", {"call_id": call_id, "pattern": "FOUND IT"})])

    async with playing(tmp_path, tools=(read_log,)) as (house, upstream):
        upstream.enqueue(Script([Call("read_log")]), reads_on, Script([Say("There it is.")]))
        turn_id = await house.ask("Read", model=MODELS[wire])
        turn = await house.folded(turn_id)
        first, second = results(turn).values()
        assert isinstance(first.href, str)
        whole = await house.client.get(first.href)
        head = await house.client.head(first.href)
    assert (whole.status_code, whole.text) == (200, LOG)
    assert first.bytes == len(LOG.encode()) == int(head.headers["content-length"])
    assert len(str(first.output).encode()) < 65_536
    assert whole.headers["content-disposition"].startswith("attachment;")
    assert (second.tool_name, second.outcome) == ("read_result", "ok")
    assert "found it" in str(second.output)
    sent = list(results_in(upstream.requests[-1].body).values())
    assert len(sent[0].encode()) <= 65_536
    assert "found it" in sent[1]


@WIRES
async def test_of_two_identical_reads_that_shared_one_run_both_outputs_can_be_read_on(
    wire: Wire, tmp_path: Path
) -> None:
    """The output lies under the id of the call that ran; the model and a client may name either."""

    def reads_on(request: Request) -> Script:
        told = results_in(request.body).values()
        called = (text.partition('call_id="')[2].partition('"')[0] for text in told)
        return Script([Call("read_result", {"call_id": call_id, "pattern": "FOUND IT"}) for call_id in called])

    async with playing(tmp_path, tools=(read_log,)) as (house, upstream):
        upstream.enqueue(Script([Call("read_log"), Call("read_log")]), reads_on, Script([Say("There it is.")]))
        turn_id = await house.ask("Read", model=MODELS[wire])
        first, second, *read = results(await house.folded(turn_id)).values()
        places = {f"/v1/turns/{turn_id}/outputs/{result.call_id}" for result in (first, second)}
        whole = [await house.client.get(str(place)) for place in (*places, first.href, second.href)]
    assert first.call_id != second.call_id
    assert first.href == second.href
    assert [(answer.status_code, answer.text) for answer in whole] == [(200, LOG)] * 4
    assert [result.outcome for result in read] == ["ok", "ok"]
    assert all("found it" in str(result.output) for result in read)
    assert found_in(tmp_path / "legato.db") == []


@WIRES
async def test_a_result_is_bounded_in_tokens_too_and_the_model_is_told_the_number(wire: Wire, tmp_path: Path) -> None:
    @tool(effect="read")
    async def read_tale() -> str:
        """A tale of dragons."""
        return "龍" * 9_000

    async with playing(tmp_path, tools=(read_tale,), limits__tool_result_tokens=2_000) as (house, upstream):
        upstream.enqueue(Script([Call("read_tale")]), Script([Say("So.")]))
        kept = result(await house.folded(await house.ask("Read", model=MODELS[wire])))
        (sent,) = results_in(upstream.requests[-1].body).values()
    assert kept.output == "龍" * 9_000
    assert ", limit is 2000 tokens; read_result(" in sent
    assert 1_900 <= estimated_tokens(sent) <= 2_000


async def test_who_takes_a_turn_up_keeps_its_outputs(tmp_path: Path) -> None:
    """In the name of its own epoch: in that of the first the store would refuse them."""
    async with playing(tmp_path, tools=(read_log,)) as (house, upstream):
        upstream.enqueue(Script([Call("pick")]), Script([Call("read_log")]), Script([Say("So.")]))
        turn_id = await house.ask("Read", model=MODELS["anthropic"], client_tools=[PICK])
        (need,) = await asked(house, turn_id)
        await give(house, turn_id, {"call_id": need.call_id, "output": "this"})
        turn = await house.folded(turn_id)
        kept = next(result for result in results(turn).values() if result.tool_name == "read_log")
        whole = await house.client.get(str(kept.href))
    assert turn.last_seq > EPOCH_SIZE
    assert (whole.status_code, whole.text) == (200, LOG)


async def test_what_is_no_text_is_kept_as_its_json_and_outlives_the_server(tmp_path: Path) -> None:
    async with playing(tmp_path, tools=(list_all,)) as (house, upstream):
        upstream.enqueue(Script([Call("list_all")]))
        turn_id = await house.ask("List", model=MODELS["anthropic"])
        kept = result(await house.folded(turn_id))
        environ = upstream_environ(upstream)
    assert isinstance(kept.href, str)
    async with serving(configured(tmp_path, environ=environ)) as house:
        whole = await house.client.get(kept.href)
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert json.loads(whole.content) == list(range(300_000))


async def test_an_output_that_is_in_its_turn_or_of_nobody_has_no_place_beside_it(tmp_path: Path) -> None:
    @tool(effect="read")
    async def look() -> str:
        """Short."""
        return "seen"

    async with playing(tmp_path, tools=(look, read_log)) as (house, upstream):
        upstream.enqueue(Script([Call("look"), Call("read_log")]), Script([Say("So.")]))
        turn_id = await house.ask("Look", model=MODELS["anthropic"])
        small, large = results(await house.folded(turn_id)).values()
        other = await house.ask("Again", model=MODELS["anthropic"])
        await house.followed(other)
        codes = [
            (await house.client.get(f"/v1/turns/{turn}/outputs/{call_id}")).status_code
            for turn, call_id in (
                (turn_id, small.call_id),
                (turn_id, "nobody"),
                (other, large.call_id),
                ("nobody", large.call_id),
                (turn_id, large.call_id),
            )
        ]
    assert codes == [404, 404, 404, 404, 200]
