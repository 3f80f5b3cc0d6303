"""The load generators count every delta once, however it is cut, and say so when one is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from bench.overlap import Measured, Run, Seen, a_call_costs, run_of
from bench.paced import FRAMES, Paced, chunk
from bench.passthrough import __file__ as passthrough_file
from bench.readers import Asked, Load, Reader, percentile, read
from bench.scenarios import SCENARIOS, Scenario
from bench.server import cores, free_port, running
from bench.streams import Shape, of_legato, of_vendor

from legato.providers.anthropic import Decoder as AnthropicDecoder
from legato.testing.upstream import Request, Wire

pytestmark = pytest.mark.anyio

ALWAYS = (0.0, float("inf"))
WIRES: tuple[Wire, ...] = ("anthropic", "openai_chat")


async def load(port: int, shape: Shape, wire: Wire = "anthropic") -> Load:
    return await read(
        port,
        of_vendor(wire)(shape),
        readers=shape.streams,
        deltas=shape.deltas,
        ramp=shape.ramp,
        patience=10,
        window=ALWAYS,
    )


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("shape", [Shape(5, 7, 1000), Shape(3, 1000, 0), Shape(1, 1, 0)])
async def test_every_reader_has_every_delta_once(wire: Wire, shape: Shape) -> None:
    async with Paced() as paced:
        seen = await load(paced.port, shape, wire)
    assert (seen.readers, seen.deltas) == (shape.streams, shape.streams * shape.deltas)
    assert (seen.refused, seen.unended, seen.short) == (0, 0, 0)
    assert len(seen.first) == shape.streams
    assert len(seen.delays) == seen.deltas


async def test_a_stream_with_fewer_deltas_than_expected_is_short() -> None:
    async with Paced() as paced:
        asked = of_vendor("anthropic")(Shape(1, 3, 0))
        seen = await read(paced.port, asked, readers=1, deltas=4, ramp=0, patience=10, window=ALWAYS)
    assert seen.short == 1


async def test_what_comes_outside_the_window_is_read_but_not_timed() -> None:
    async with Paced() as paced:
        asked = of_vendor("anthropic")(Shape(1, 3, 0))
        seen = await read(paced.port, asked, readers=1, deltas=3, ramp=0, patience=10, window=(3600, 3601))
    assert (seen.deltas, len(seen.delays)) == (3, 0)


@pytest.mark.parametrize("size", [1, 2, 5, 13, 1000])
async def test_a_time_that_comes_in_pieces_is_one_time(size: int) -> None:
    reader = Reader(b"", b"event: turn_end")
    stream = b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(b'data: "x ~%012x"\n\n' % n for n in range(1, 21))
    stream += b"event: turn_end\ndata: {}\n\n"
    reader.data_received(stream[:16])
    for at in range(16, len(stream), size):
        assert not reader.ended or at > len(stream) - 12 - size
        reader.data_received(stream[at : at + size])
    assert len(reader.delays) == 20
    assert reader.ended


async def test_a_refused_stream_is_counted_as_refused() -> None:
    reader = Reader(b"", b"event: turn_end")
    reader.data_received(b"HTTP/1.1 429 Too Many Requests\r\n\r\n")
    assert (reader.status, reader.ended) == (429, False)


async def test_the_pass_through_changes_nothing(tmp_path: Path) -> None:
    root = str(Path(passthrough_file).parents[1])
    port = free_port()
    async with Paced() as paced:
        command = [sys.executable, "-m", "bench.passthrough", str(port), str(paced.port)]
        with running(command, port=port, ready="/", env={"PYTHONPATH": root}, cwd=tmp_path) as child:
            seen = await load(child.port, Shape(3, 50, 0))
            assert child.cpu_seconds() > 0
            assert child.rss_bytes() > 1_000_000
    assert (seen.deltas, seen.short, seen.unended) == (150, 0, 0)


def test_a_server_that_does_not_start_says_what_it_wrote(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such port')"]
    with pytest.raises(RuntimeError, match="no such port"), running(command, port=1, ready="/", env={}, cwd=tmp_path):
        pass


def test_what_the_upstream_sends_is_what_our_decoder_reads() -> None:
    frames = FRAMES["anthropic"]
    body = frames.before + b"".join(b"%b%012x%b" % (before, 5, after) for before, after in frames.deltas) + frames.after
    raw = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        raw, body = raw + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    decoder = AnthropicDecoder()
    kinds = [type(one).__name__ for one in decoder.feed(raw)]
    assert kinds.count("Delta") == len(frames.deltas)
    assert kinds[-1] == "ResponseEnded"


def test_the_server_and_the_load_share_a_core_only_where_there_is_one() -> None:
    ours, others = cores()
    assert len(ours) == 1
    assert others == ours or not (others & ours)


def test_a_turn_asks_the_upstream_by_its_models_name() -> None:
    asked = of_legato("openai_chat")(Shape(1, 9, 50))
    assert msgspec.json.decode(asked.body)["model"] == "openai/fake-n9-r50-t0-d0-k1"
    assert isinstance(asked, Asked)
    assert b"POST /v1/turns HTTP/1.1\r\n" in asked.raw(80)


def test_what_a_run_takes_over_the_ideal_is_told_by_its_parts() -> None:
    first, second = (
        Request(number=n, wire="anthropic", path="", headers={}, body=None, raw=b"", at=at)
        for n, at in ((1, 100.002), (2, 102.01))
    )
    run = run_of(SCENARIOS[0], Seen(100.0, 102.43, 0.021), [first, second])
    assert [run.took, run.before, run.between, run.after, run.gap] == pytest.approx([2.43, 0.002, 0.008, 0.02, 0.021])
    one = Measured(SCENARIOS[0], "anthropic", (run, run, run))
    assert one.ratio == pytest.approx(2.43 / 2.40)
    assert one.over == pytest.approx(30.0)


def test_what_a_call_costs_is_what_each_further_one_adds() -> None:
    def measured(scenario: Scenario, over: float) -> Measured:
        return Measured(scenario, "anthropic", (Run(scenario.ideal() + over, 0, 0, 0, 0),))

    of = [measured(one, 0.020 + 0.0005 * len(one.jobs)) for one in SCENARIOS]
    assert a_call_costs(of) == pytest.approx(0.5)


def test_percentiles_of_nothing_are_not_a_number() -> None:
    assert percentile([], 0.5) != percentile([], 0.5)
    assert percentile([1.0, 2.0, 3.0], 1) == 3.0
    assert len(chunk(b"abc")) == 8
