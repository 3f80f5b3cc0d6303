"""What the store did not take lies on disk, comes back in order, and nothing of it is dropped unsaid."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import pytest
from tests.runtime.faults import FaultyStore
from tests.stores.values import Make, at, lines

from legato.core.blocks import TextBlock, ToolResultBlock, ToolUseBlock
from legato.core.errors import StoreUnavailable
from legato.core.records import Intent, Need, Reading, Rest, RoundRecord, Span, TurnWrite
from legato.observability import process
from legato.runtime.storing.spool import Spool, SpoolFailed
from legato.runtime.storing.spool_file import KeptSpool, files_in, kept_in
from legato.testing.store import tear

make = Make()


async def begun(store: FaultyStore) -> str:
    return (await make.begun(store)).assistant.id


def names(folder: Path) -> list[str]:
    return [str(path) for path in folder.iterdir()]


def of_a_dead_process(folder: Path, *writes: TurnWrite) -> Path:
    """Its file; the process was killed after the writes were on disk."""
    source = """
import asyncio, os, signal, sys
from pathlib import Path
import msgspec
from legato.core.records import TurnWrite
from legato.runtime.storing.spool import Spool

writes = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[TurnWrite])
asyncio.run(Spool(Path(sys.argv[1])).keep(writes))
os.kill(os.getpid(), signal.SIGKILL)
"""
    before = set(files_in(folder))
    command = [sys.executable, "-c", source, str(folder)]
    died = subprocess.run(command, input=msgspec.msgpack.encode(writes), check=False, timeout=60)
    assert died.returncode == -9
    (made,) = set(files_in(folder)) - before
    return made


async def test_what_was_kept_comes_to_the_store_as_it_was_and_the_folder_is_empty_again(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path / "spool")
    turn_id = await begun(store)
    first = make.said(
        turn_id,
        1,
        3,
        blocks=(
            TextBlock(index=0, round=1, state="complete", text="é\n\0", length=4, sha256="ab"),
            ToolUseBlock(
                index=1,
                round=1,
                state="complete",
                call_id="c",
                tool_name="t",
                origin="server",
                input={"a": [1.5, None]},
            ),
            ToolResultBlock(
                index=2,
                round=1,
                state="complete",
                call_id="c",
                tool_name="t",
                origin="server",
                outcome="ok",
                output={"x": "y"},
            ),
        ),
        rounds=(RoundRecord(round=1, attempt=1, model="m", provider="p"),),
        intents=(
            Intent(call_id="c", round=1, index=1, tool_name="t", input={}, input_sha256="x", idempotency_key="k"),
        ),
        readings=(Reading(call_id="c", text="read", formatter="default", version=1),),
        needs=(Need(call_id="c", nr=1, kind="approval", input_sha256="x"),),
        taken=(("c", 1),),
        spans=(Span(kind="round", name="round 1", round=1, start_ms=0.5, end_ms=None),),
        rest=Rest(wait_until=at(50)),
    )
    second = msgspec.structs.replace(make.ending(turn_id), segment=make.segment(4, 4))
    await spool.keep([first])
    await spool.keep([second])
    assert len(files_in(spool.folder)) == 1
    assert await spool.drain(store)
    assert store.tries == [(first,), (second,)]
    assert names(spool.folder) == []


async def test_numbers_of_any_size_come_to_the_store_as_they_were(tmp_path: Path) -> None:
    """JSON has no largest one, and models write what they like into arguments."""
    store, spool = FaultyStore(), Spool(tmp_path / "spool")
    use = ToolUseBlock(
        index=0,
        round=1,
        state="complete",
        call_id="c",
        tool_name="t",
        origin="server",
        input={"n": [2**64, -(2**63) - 1, 10**40, 1.5, "é\0"]},
    )
    turn_id = await begun(store)
    said = make.said(turn_id, 1, 3, blocks=(use,))
    await spool.keep([said])
    await spool.set_aside([said])
    (kept,) = kept_in(spool.folder)
    assert (kept.turn_ids, kept.readable) == ((turn_id,), True)
    assert await spool.drain(store)
    assert store.tries == [(said,)]


async def test_a_spool_that_was_never_needed_leaves_no_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    assert await spool.drain(FaultyStore())
    await spool.close()
    assert not spool.folder.exists()


async def test_draining_goes_on_where_the_store_went_away(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    turns = [await begun(store) for _ in range(3)]
    for turn_id in turns:  # each has two writes, so that none shares a group with the next of its own
        await spool.keep([make.said(turn_id, 1, 2)])
        await spool.keep([make.said(turn_id, 3, 4)])
    store.failures = 1
    with pytest.raises(StoreUnavailable):
        await spool.drain(store)
    await spool.keep([make.ending(turns[0])])
    assert await spool.drain(store)
    for turn_id in turns:
        assert await lines(store, turn_id) == make.segment(1, 4).lines
    given = [write for group in store.tries[1:] for write in group]
    assert len(given) == 7
    assert given[-1].ending is not None
    assert files_in(tmp_path) == []


async def test_what_a_killed_process_left_is_drained_by_the_next(tmp_path: Path) -> None:
    store = FaultyStore()
    turn_id = await begun(store)
    of_a_dead_process(tmp_path, make.said(turn_id, 1, 3))
    of_a_dead_process(tmp_path, make.said(turn_id, 4, 6))
    assert await Spool(tmp_path).drain(store)
    assert await lines(store, turn_id) == make.segment(1, 6).lines
    assert names(tmp_path) == []


async def test_a_file_made_after_the_clock_was_set_back_comes_behind_those_made_before(tmp_path: Path) -> None:
    store, folder = FaultyStore(), tmp_path / "spool"
    turn_id = await begun(store)
    made = of_a_dead_process(folder, make.said(turn_id, 1, 3))
    first = made.rename(folder / made.name.replace(made.name[:14], "29999999999999"))
    second = of_a_dead_process(folder, make.said(turn_id, 4, 6), make.ending(turn_id))
    assert files_in(folder) == [first, second]
    assert await Spool(folder).drain(store)
    assert await lines(store, turn_id) == make.segment(1, 6).lines


async def test_what_a_living_process_has_is_stored_before_others_look_at_its_turns_and_stays_its_own(
    tmp_path: Path,
) -> None:
    """It might be about to drain it, and be just too late."""
    store, living, other = FaultyStore(), Spool(tmp_path), Spool(tmp_path)
    turn_id = await begun(store)
    await living.keep([make.said(turn_id, 1, 2)])
    assert await other.drain(store)
    assert await lines(store, turn_id) == make.segment(1, 2).lines
    assert (len(files_in(tmp_path)), len(store.tries)) == (1, 1)
    assert await other.drain(store)
    assert len(store.tries) == 1  # once is enough
    await living.keep([make.said(turn_id, 3, 4)])
    assert await other.drain(store)
    assert await lines(store, turn_id) == make.segment(1, 4).lines
    assert await living.drain(store)
    assert await lines(store, turn_id) == make.segment(1, 4).lines
    assert names(tmp_path) == []


async def test_a_file_that_cannot_be_removed_holds_nobody_up_and_is_not_given_again(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    lost = await begun(store)
    file = of_a_dead_process(tmp_path, make.said(lost, 1, 2))
    assert await store.claim(lost, epoch=1, owner="somebody")
    blocked = tmp_path / f"{file.stem}.0.kept"
    blocked.mkdir()  # where its refused writes would go
    assert await spool.drain(store)
    assert await spool.drain(store)
    assert (len(store.tries), files_in(tmp_path)) == (1, [file])
    blocked.rmdir()
    assert await Spool(tmp_path).drain(store)  # the next start
    assert [kept.turn_ids for kept in kept_in(tmp_path)] == [(lost,)]


async def test_while_one_drains_what_a_dead_process_left_nobody_else_looks_at_its_turns(tmp_path: Path) -> None:
    store, one, two = FaultyStore(), Spool(tmp_path), Spool(tmp_path)
    turn_id = await begun(store)
    of_a_dead_process(tmp_path, make.said(turn_id, 1, 2))
    store.gate.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.drain, store)
        with anyio.fail_after(10):
            await store.tried.wait()
        assert not await two.drain(store)
        store.gate.set()
    assert await two.drain(store)
    assert len(store.tries) == 1


def until_killed(folder: Path, turn_id: str, words: int) -> int:
    """A process keeps one event after the other and says which is on disk; it is killed once it has said so many.
    The last it has said."""
    source = """
import asyncio, sys
from pathlib import Path
import msgspec
from legato.core.records import LogSegment, TurnWrite
from legato.runtime.storing.spool import Spool

async def main(folder, turn_id):
    spool = Spool(Path(folder))
    for seq in range(1, 1_000_000):
        segment = LogSegment(first_seq=seq, last_seq=seq, lines=b"%d " % seq * 200 + b"\\n")
        await spool.keep([TurnWrite(turn_id=turn_id, epoch=0, segment=segment)])
        print(seq, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
    with subprocess.Popen([sys.executable, "-c", source, str(folder), turn_id], stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        said = 0
        while said < words:
            said = int(keeper.stdout.readline())
        keeper.kill()
        return max([said, *map(int, keeper.stdout.read().rpartition(b"\n")[0].split())])


@pytest.mark.parametrize("words", [1, 40, 300])
async def test_a_process_killed_while_it_spools_loses_nothing_that_was_on_disk(words: int, tmp_path: Path) -> None:
    store = FaultyStore()
    turn_id = await begun(store)
    last = await anyio.to_thread.run_sync(until_killed, tmp_path, turn_id, words)
    assert await Spool(tmp_path).drain(store)
    stored = [segment.first_seq for segment in await store.log(turn_id, after=0)]
    assert stored in (list(range(1, last + 1)), list(range(1, last + 2)))
    assert names(tmp_path) == []


async def test_a_record_torn_by_a_power_cut_takes_no_other_with_it(tmp_path: Path) -> None:
    store = FaultyStore()
    turn_id = await begun(store)
    tear(of_a_dead_process(tmp_path, make.said(turn_id, 1, 3), make.said(turn_id, 4, 6)))
    assert await Spool(tmp_path).drain(store)
    assert await lines(store, turn_id) == make.segment(1, 3).lines


@pytest.mark.parametrize("cut", [1, 5, 12, 13, 40])
async def test_a_torn_last_record_is_left_out_and_what_stands_before_it_is_not(cut: int, tmp_path: Path) -> None:
    store = FaultyStore()
    whole, torn = await begun(store), await begun(store)
    file = of_a_dead_process(tmp_path, make.said(whole, 1, 3))
    end = file.stat().st_size
    other = of_a_dead_process(tmp_path, make.said(torn, 1, 3))
    record = other.read_bytes()[len(b"legato spool 1\n") :]
    other.unlink()
    with file.open("ab") as said:
        said.write(record[:cut])
    before = process.value("spool_torn")
    assert file.stat().st_size == end + cut
    assert await Spool(tmp_path).drain(store)
    assert await lines(store, whole) == make.segment(1, 3).lines
    assert await lines(store, torn) == b""
    assert process.value("spool_torn") == before + 1
    assert names(tmp_path) == []


async def test_a_record_whose_bytes_never_reached_the_disk_is_torn_too(tmp_path: Path) -> None:
    """After a power cut a file may have its length and zeros for its end."""
    store = FaultyStore()
    turn_id = await begun(store)
    file = of_a_dead_process(tmp_path, make.said(turn_id, 1, 3))
    with file.open("ab") as said:
        said.write(bytes(4096))
    assert await Spool(tmp_path).drain(store)
    assert await lines(store, turn_id) == make.segment(1, 3).lines
    assert names(tmp_path) == []


async def test_a_file_spoiled_in_its_middle_gives_what_stands_before_and_stays(tmp_path: Path) -> None:
    store = FaultyStore()
    first, second, third = [await begun(store) for _ in range(3)]
    file = of_a_dead_process(
        tmp_path, make.said(first, 1, 3), make.said(second, 1, 3), make.said(second, 4, 6), make.said(third, 1, 3)
    )
    data = bytearray(file.read_bytes())
    data[len(data) // 2 + 20] ^= 0xFF
    file.write_bytes(data)
    assert await Spool(tmp_path).drain(store)
    assert await lines(store, first) == make.segment(1, 3).lines
    assert await lines(store, third) == b""
    (kept,) = kept_in(tmp_path)
    assert (kept.readable, kept.bytes) == (False, len(data))
    assert await Spool(tmp_path).drain(store)


async def test_what_has_a_newer_owner_stays_in_a_file_that_is_named_and_the_others_are_stored(tmp_path: Path) -> None:
    store = FaultyStore()
    lost, good = await begun(store), await begun(store)
    spool = Spool(tmp_path)
    await spool.keep([make.said(lost, 1, 2), make.said(good, 1, 2)])
    await spool.keep([make.said(lost, 3, 4), make.said(good, 3, 4)])
    assert await store.claim(lost, epoch=1, owner="somebody")
    assert await spool.drain(store)
    assert await lines(store, good) == make.segment(1, 4).lines
    assert await lines(store, lost) == b""
    (kept,) = kept_in(tmp_path)
    assert kept == KeptSpool(path=kept.path, bytes=kept.bytes, turn_ids=(lost,), readable=True)
    assert [kept.path] == names(tmp_path)
    assert await Spool(tmp_path).drain(store)  # it is not tried again
    assert len(kept_in(tmp_path)) == 1


async def test_what_was_kept_of_a_turn_that_is_deleted_meanwhile_goes_with_it(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    new = await make.begun(store)
    await spool.keep([make.said(new.assistant.id, 1, 2)])
    await store.delete_chat(new.assistant.chat_id)
    assert await spool.drain(store)
    assert names(tmp_path) == []


async def test_a_folder_that_cannot_be_made_is_said_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool")
    with pytest.raises(SpoolFailed, match="file/spool"):
        await spool.keep([make.said("turn", 1, 2)])
    await spool.close()


async def test_on_a_full_disk_a_record_is_kept_whole_or_not_at_all_and_the_next_one_can_be_read(
    tmp_path: Path,
) -> None:
    """The disk here is a bound on the size of files, as the system itself sets it."""
    store, spool = FaultyStore(), Spool(tmp_path)
    turn_id = await begun(store)
    await spool.keep([make.said(turn_id, 1, 2)])
    (file,) = files_in(tmp_path)
    before = file.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before + 100, hard))
    try:
        with pytest.raises(SpoolFailed):
            await spool.keep([make.said(turn_id, 3, 100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.stat().st_size == before
    await spool.keep([make.said(turn_id, 3, 4)])
    assert await spool.drain(store)
    assert await lines(store, turn_id) == make.segment(1, 4).lines


async def test_a_keeper_that_is_cancelled_does_not_cut_the_record(tmp_path: Path) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    turn_id = await begun(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spool.keep, [make.said(turn_id, 1, 2)])
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await spool.keep([make.said(turn_id, 3, 4)])
    assert await spool.drain(store)
    assert (await lines(store, turn_id)).endswith(make.segment(3, 4).lines)


async def test_only_the_owner_of_the_process_may_read_what_was_said(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    await spool.keep([make.said("turn", 1, 2)])
    (file,) = files_in(spool.folder)
    assert (spool.folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    await spool.close()


# A disk that hangs


class HangingWrite:
    """The descriptor of a spool file is, for a while, that of a pipe that is full: a write to it does not come back."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._file = os.dup(descriptor)
        self._out, into = os.pipe()
        os.set_blocking(into, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(into, bytes(65_536))
        os.set_blocking(into, True)
        os.dup2(into, descriptor)
        os.close(into)

    def come_back(self) -> None:
        os.dup2(self._file, self._descriptor)
        os.close(self._file)
        with contextlib.closing(os.fdopen(self._out, "rb")) as out:
            while out.read(65_536):  # until the last writer, which is the one that hangs, has closed it
                pass


class HangingSync:
    """What was written is in the file by then; whether it is on disk nobody says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._go = threading.Event()
        self._monkeypatch = monkeypatch
        sync = os.fsync

        def hang(descriptor: int) -> None:
            self._go.wait(60)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", hang)

    def come_back(self) -> None:
        self._go.set()


async def well_again(spool: Spool) -> None:
    with anyio.fail_after(10):
        while spool._disk.hung_for:
            await anyio.lowlevel.checkpoint()
    spool._disk.seconds = 10


@pytest.mark.parametrize("what", ["write", "sync"])
async def test_a_disk_that_hangs_is_given_up_on_and_keeps_nothing_that_was_said_to_be_lost(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    turn_id, lost = await begun(store), await begun(store)
    await spool.keep([make.said(turn_id, 1, 2)])
    assert spool._open is not None
    hanging = HangingWrite(spool._open._descriptor) if what == "write" else HangingSync(monkeypatch)
    spool._disk.seconds = 0.05
    before = process.value("spool_failures")
    with pytest.raises(SpoolFailed, match=r"the disk did not answer in 0\.05 s"):
        await spool.keep([make.said(lost, 1, 2)])
    spool._disk.seconds = 3600
    with pytest.raises(SpoolFailed, match="the disk has not answered for"):
        await spool.keep([make.said(lost, 3, 4)])
    assert process.value("spool_failures") == before + 2
    assert not await spool.drain(store)  # nobody may look at its turns yet
    assert store.tries == []
    hanging.come_back()
    await well_again(spool)
    await spool.keep([make.said(turn_id, 3, 4)])
    assert await spool.drain(store)
    assert await lines(store, turn_id) == make.segment(1, 4).lines
    assert await lines(store, lost) == b""
    assert names(tmp_path) == []


async def test_a_disk_that_hangs_for_good_holds_up_nobodys_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that cannot be read does not: else no turn of a dead process would ever go on."""
    store, spool = FaultyStore(), Spool(tmp_path)
    await spool.keep([make.said(await begun(store), 1, 2)])
    assert spool._open is not None
    hanging = HangingWrite(spool._open._descriptor)
    spool._disk.seconds = 0.05
    with pytest.raises(SpoolFailed):
        await spool.keep([make.said("lost", 1, 2)])
    assert not await spool.drain(store)
    monkeypatch.setattr("legato.runtime.storing.spool.HANGING_SECONDS", 0.0)
    assert await spool.drain(store)
    await spool.close()  # it does not wait for the disk either
    hanging.come_back()


async def test_a_file_that_was_removed_after_everybody_gave_up_on_that_is_drained_no_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, spool = FaultyStore(), Spool(tmp_path)
    turn_id = await begun(store)
    await spool.keep([make.said(turn_id, 1, 2)])
    hanging = HangingSync(monkeypatch)  # of the folder
    spool._disk.seconds = 0.5
    before = process.value("spool_failures")
    assert not await spool.drain(store)
    hanging.come_back()
    await well_again(spool)
    assert await spool.drain(store)
    assert (len(store.tries), process.value("spool_failures"), names(tmp_path)) == (1, before, [])
