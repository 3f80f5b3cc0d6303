"""Outputs too large for the log: whole beside the turn, cut in the result, memory flat, nothing lost unsaid."""

from __future__ import annotations

import asyncio
import io
import json
import resource
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import IO

import anyio
import anyio.to_thread
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.calls import PATIENCE, Bench, Kept, counted, until

from legato import ToolError, tool
from legato.core.blocks import CallError, Json
from legato.core.cut import cut_before
from legato.core.errors import RowRefused, StoreUnavailable
from legato.core.inputs import ToolFinished
from legato.runtime.calls import keeping, outputs, spill
from legato.runtime.calls.outputs import bounded_output
from legato.runtime.calls.spill import LARGE, Spill, SpillClosedError

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_PAUSES", (0.0, 0.0))


def gives(output: Json) -> list[Callable[..., object]]:
    @tool
    def plain() -> Json:
        """x"""
        return output

    @tool
    async def waiting() -> Json:
        """x"""
        return output

    @tool
    async def streaming() -> AsyncIterator[str]:
        """x"""
        for start in range(0, len(output), 1000):
            yield output[start : start + 1000]

    return [plain, waiting, streaming]


def check_cut(finished: ToolFinished, whole: bytes) -> None:
    """The result holds the beginning and the end of it, and the numbers of what is between."""
    assert (finished.bytes, finished.href) == (len(whole), "/v1/turns/turn/outputs/call")
    assert isinstance(finished.output, str)
    assert len(finished.output.encode()) <= 48 * 1024
    ends = cut_before(finished.output, len(whole))
    assert ends is not None
    assert len(ends.head) > len(ends.tail) > 1000
    assert whole.startswith(ends.head.encode())
    assert whole.endswith(ends.tail.encode())


@pytest.mark.parametrize("kind", ["plain", "waiting", "streaming"])
async def test_a_large_text_is_kept_as_it_is_whatever_tool_gave_it(kind: str) -> None:
    text = "".join(f"line {number} é\n" for number in range(200_000))
    bench = Bench(*gives(text))
    finished = await bench.run(kind)
    assert finished.outcome == "ok"
    assert bench.kept.only == text.encode()
    check_cut(finished, text.encode())


@pytest.mark.parametrize("kind", ["plain", "waiting"])
async def test_what_is_no_text_is_kept_as_compact_json(kind: str) -> None:
    output = {"rows": [{"number": number, "text": 'é"\n'} for number in range(60_000)], "big": "x" * 300_000}
    bench = Bench(*gives(output))
    finished = await bench.run(kind)
    assert bench.kept.only == msgspec.json.encode(output)
    check_cut(finished, msgspec.json.encode(output))


@pytest.mark.parametrize("kind", ["plain", "waiting", "streaming"])
async def test_up_to_a_mebibyte_an_output_stays_in_the_log_and_a_byte_more_does_not(kind: str) -> None:
    bench = Bench(*gives("x" * (MIB - 2)))
    finished = await bench.run(kind)
    assert (finished.output, finished.bytes) == ("x" * (MIB - 2), msgspec.UNSET)
    assert bench.kept.writes == 0
    bench = Bench(*gives("x" * (MIB + 1)))
    assert (await bench.run(kind)).bytes == MIB + 1


@pytest.mark.parametrize("kind", ["plain", "waiting", "streaming"])
async def test_a_text_that_is_large_only_as_json_does_not_go_into_the_log_either(kind: str) -> None:
    text = "\x01" * 300_000
    bench = Bench(*gives(text))
    finished = await bench.run(kind)
    assert bench.kept.only == text.encode()
    assert finished.bytes == 300_000


async def test_the_hard_bound_is_on_what_is_kept() -> None:
    bench = Bench(*gives("x" * 2 * MIB), hard_output_bytes=2 * MIB)
    assert (await bench.run("plain")).bytes == 2 * MIB
    for kind in ("plain", "waiting", "streaming"):
        bench = Bench(*gives("x" * 2 * MIB + "é"), hard_output_bytes=2 * MIB)
        finished = await bench.run(kind)
        assert isinstance(finished.error, CallError)
        assert finished.error.code == "output_too_large"
        assert finished.error.message.endswith(f"limit is {2 * MIB}")


async def test_a_stream_that_fails_keeps_all_that_it_gave() -> None:
    @tool
    async def half() -> AsyncIterator[str]:
        """x"""
        for _ in range(2000):
            yield "x" * 1000
        raise ToolError("the line broke")

    bench = Bench(half)
    finished = await bench.run()
    assert (finished.outcome, finished.error) == ("error", CallError("tool_error", "the line broke"))
    assert bench.kept.only == b"x" * 2_000_000
    check_cut(finished, b"x" * 2_000_000)


async def test_what_a_stream_gave_before_it_was_tried_again_is_forgotten() -> None:
    tries: list[int] = []

    @tool(effect="read", retries=1)
    async def shaky() -> AsyncIterator[str]:
        """x"""
        tries.append(1)
        for _ in range(2000):
            yield str(len(tries)) * 1000
        if len(tries) == 1:
            raise ConnectionError("reset")

    bench = Bench(shaky)
    await bench.run()
    assert bench.kept.only == b"2" * 2_000_000


# a store that is away, a disk that is full


async def test_a_store_that_comes_back_has_the_whole(no_pauses: None) -> None:
    kept = Kept(StoreUnavailable("away"), StoreUnavailable("away"))
    before = counted("tool_output_retries")
    finished = await Bench(*gives("x" * 3 * MIB), kept=kept).run("plain")
    assert kept.only == b"x" * 3 * MIB
    check_cut(finished, b"x" * 3 * MIB)
    assert counted("tool_output_retries") == before + 2


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ([StoreUnavailable("away")] * 9, "the store did not answer"),
        ([RowRefused("no", turn_id="turn")], "the store refused them"),
    ],
    ids=["away", "refuses"],
)
async def test_what_is_not_kept_is_lost_aloud_and_the_call_is_no_failure(
    trouble: list[StoreUnavailable | RowRefused], why: str, no_pauses: None
) -> None:
    before = counted("tool_outputs_cut")
    finished = await Bench(*gives("x" * 3 * MIB), kept=Kept(*trouble)).run("plain")
    assert (finished.outcome, finished.bytes, finished.href) == ("ok", msgspec.UNSET, msgspec.UNSET)
    assert isinstance(finished.output, str)
    assert f" of {3 * MIB} bytes left out, and lost: {why} …]" in finished.output
    assert len(finished.output.encode()) <= 48 * 1024
    assert counted("tool_outputs_cut") == before + 1


async def test_a_store_that_does_not_come_back_holds_nobody(no_pauses: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_DEADLINE", 0.01)

    finished = await Bench(*gives("x" * 3 * MIB), kept=Kept(hangs=True)).run("plain")
    assert "lost: the store did not answer" in str(finished.output)


async def test_a_cancel_does_not_wait_for_the_store_beyond_the_grace() -> None:
    kept, ends = Kept(hangs=True), []
    bench = Bench(*gives("x" * 3 * MIB), kept=kept, grace=0.05)

    async def run() -> None:
        ends.append(await bench.run("plain"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        with anyio.fail_after(PATIENCE):
            await kept.called.wait()
        bench.flag.cancel()
    assert ends[0].outcome == "ok", "the tool had ended well"
    assert "lost: the call was cancelled" in ends[0].output


class FullDisk(io.BytesIO):
    def write(self, _: object) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("kind", ["plain", "waiting", "streaming"])
async def test_a_full_disk_is_an_error_result(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(prefix: str) -> IO[bytes]:
        return FullDisk()

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    finished = await Bench(*gives("x" * 5 * MIB)).run(kind)
    said = "the tool ran, but its output found no room on disk: No space left on device"
    assert finished.error == CallError("output_too_large", said)
    assert finished.outcome == "error"


@pytest.mark.parametrize("missing", [MIB, 100])
async def test_a_disk_that_fills_up_within_a_stream_ends_its_call_and_raises_nothing(missing: int) -> None:
    """The last bytes lie in Python's own buffer when the disk is full, and closing the file tries them again."""

    @tool
    async def streaming() -> AsyncIterator[str]:
        """x"""
        while True:
            yield "x" * (LARGE + 1)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * (LARGE + 1) - missing, hard))
    try:
        finished = await Bench(streaming).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = "the tool ran, but its output found no room on disk: File too large"
    assert (finished.outcome, finished.error) == ("error", CallError("output_too_large", said))


# who holds what


async def test_types_that_never_give_their_json_hold_no_cancel() -> None:
    started, gate = threading.Event(), threading.Event()

    class Slow(dict[str, int]):
        def items(self) -> Iterator[tuple[str, int]]:  # type: ignore[override]
            started.set()
            gate.wait(PATIENCE)
            return iter(())

    @tool(effect="read")
    async def slow() -> object:
        """x"""
        return Slow({str(number): number for number in range(3000)})

    bench, ends = Bench(slow, grace=0.05), []

    async def run() -> None:
        ends.append(await bench.run())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await until(started)
        bench.flag.cancel()
    gate.set()
    assert ends[0].error == CallError("cancelled", "cancelled while it ran")


async def test_tools_that_fill_pythons_own_threads_hold_no_other_tools_output() -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    @tool
    async def many() -> list[int]:
        """x"""
        return list(range(10_000))

    def block() -> None:
        begun.release()
        gate.wait(PATIENCE)

    loop = asyncio.get_running_loop()
    blocking = [loop.run_in_executor(None, block) for _ in range(64)]
    try:
        await anyio.to_thread.run_sync(begun.acquire)
        assert (await Bench(many).run()).output == list(range(10_000))
    finally:
        gate.set()
    await asyncio.wait(blocking)


async def test_a_stream_that_was_left_behind_takes_up_nothing_more() -> None:
    release, raised = asyncio.Event(), []

    @tool(effect="read", timeout=0.05)
    async def deaf() -> AsyncIterator[str]:
        """x"""
        yield "a"
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        try:
            for _ in range(10):
                yield "x"
        except BaseException as error:
            raised.append(type(error))
            raise

    finished = await Bench(deaf, grace=0.05).run()
    assert (finished.outcome, finished.output) == ("timeout", "a")
    release.set()
    await until(lambda: bool(raised))
    assert raised == [GeneratorExit]


def test_a_spill_gives_back_what_it_was_given_wherever_it_lies() -> None:
    made = Spill()
    for number in range(5):
        made.add(bytes([number]) * 700_000)
        if made.full:
            made.write()
    whole = b"".join(bytes([number]) * 700_000 for number in range(5))
    for offset in (0, 699_999, 2_000_000, 3_400_000, len(whole) - 1, len(whole)):
        assert whole[offset:].startswith(piece := made.read(offset, 100_000))
        assert bool(piece) == (offset < len(whole))
    made.close()
    for act in (made.write, lambda: made.read(0, 1), lambda: made.add(b"x")):
        with pytest.raises(SpillClosedError):
            act()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(TEXTS, inner, max_size=9),
    max_leaves=40,
)


@given(output=JSON, limit=st.integers(0, 400), small=st.integers(0, 20))
@settings(max_examples=200)
def test_a_slice_at_a_time_gives_the_same_json_and_the_same_bound(output: Json, limit: int, small: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_SMALL_VALUES", small), ("_SMALL_CHARACTERS", small), ("_SLICE", 3), ("_BATCH", 2)):
            patch.setattr(outputs, name, value)
        patch.setattr(spill, "LARGE", -1)
        whole = output.replace("\0", "\ufffd").encode() if isinstance(output, str) else _clean_json(output)
        try:
            made = bounded_output(output, limit)
        except ToolError:
            assert len(whole) > limit
            return
        assert len(whole) <= limit
        if isinstance(made, Spill):
            assert made.read(0, limit + 1) == whole
            made.close()


def _clean_json(output: Json) -> bytes:
    return msgspec.json.encode(json.loads(json.dumps(output).replace("\\u0000", "\\ufffd")))


@pytest.mark.slow
@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "over the bound"])
def test_a_gibibyte_of_output_leaves_memory_flat(keeps: bool) -> None:
    """In a process of its own, that counts the most it ever held."""
    code = f"""
        import asyncio, resource
        from legato import tool
        from legato.runtime.calls.toolbox import CancelFlag, StartedCall, Toolbox
        from legato.tools.registry import ToolRegistry

        PIECE = "x" * 2**16

        @tool(effect="read", timeout=600)
        async def pours():
            "x"
            for _ in range(2**14):
                yield PIECE

        kept = 0

        async def keep(turn_id, call_id, offset, piece, *, epoch):
            global kept
            assert offset == kept
            kept += len(piece)

        def most():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

        async def main():
            call = StartedCall(turn_id="t", chat_id="c", call_id="k", tool_name="pours", input={{}}, principal="p",
                               idempotency_key="i", epoch=0, state={{}})
            toolbox = Toolbox(ToolRegistry([pours]), keep=keep, hard_output_bytes=2**30 - (0 if {keeps} else 1))
            before = most()
            end = await toolbox.run(call, emit=lambda text: None, cancel=CancelFlag())
            print(end.outcome, kept, most() - before)

        asyncio.run(main())
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=True
    )
    outcome, kept, grown = said.stdout.split()
    assert (outcome, int(kept)) == (("ok", 2**30) if keeps else ("error", 2**30 - 2**16))
    assert int(grown) < 64 * MIB
    assert LARGE < 64 * MIB
