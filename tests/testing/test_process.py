"""A server in a process of its own: what a test can do to it, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import anyio
import httpx
import pytest

from legato.testing.process import PORT, ProcessFailed, ServerProcess

pytestmark = pytest.mark.anyio

FOLDER_SERVER = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", PORT)
"""Starts sooner than Legato."""
BOUND = 20.0


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until_gone(pid: int) -> None:
    """For one that is nobody's child here: whoever adopted it may take a moment to notice."""
    with anyio.fail_after(BOUND):
        while is_there(pid) and _state(pid) != "Z":  # noqa: ASYNC110 - no event tells of a stranger's end
            await anyio.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.slow
async def test_a_server_that_was_killed_is_started_again_on_its_file_and_at_its_address(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server, httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        first = server.pid
        said = {"input": "Hello", "model": "script/echo", "turn_id": "mine"}
        assert (await client.post("/v1/turns", json=said)).is_success
        await server.kill()
        assert not server.running
        with pytest.raises(httpx.ConnectError):
            await client.get("/readyz")
        await server.start()
        assert server.pid != first
        assert (await client.get("/v1/turns/mine")).is_success
        assert await server.terminate() == 0
    assert server.db == tmp_path / "legato.db"
    assert server.db.exists()


async def test_one_that_is_stopped_answers_nothing_until_it_goes_on(tmp_path: Path) -> None:
    async with (
        ServerProcess(tmp_path, command=FOLDER_SERVER) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=None) as client,
        anyio.create_task_group() as tasks,
    ):
        answered = anyio.Event()

        async def ask() -> None:
            assert (await client.get("/")).is_success
            answered.set()

        await server.stop()
        assert server.running
        tasks.start_soon(ask)
        with anyio.move_on_after(0.1):
            await answered.wait()
        assert not answered.is_set()
        server.go_on()
        with anyio.fail_after(BOUND):
            await answered.wait()


async def test_one_that_is_stopped_can_be_killed_and_terminated(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path, command=FOLDER_SERVER) as server:
        await server.stop()
        await server.kill()
        await server.start()
        await server.stop()
        assert await server.terminate() == -15  # which this one does not catch


@pytest.mark.slow
async def test_one_whose_disk_is_full_writes_no_more_until_there_is_room(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("needs prlimit")
    async with ServerProcess(tmp_path) as server, httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        server.fill_disk()
        assert (await client.post("/v1/turns", json={"input": "Hello", "model": "script/echo"})).status_code == 503
        server.free_disk()
        assert (await client.post("/v1/turns", json={"input": "Hello", "model": "script/echo"})).status_code == 202


async def test_one_that_does_not_start_says_what_it_said(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, command=(sys.executable, "-c", "import sys; sys.exit('there is no port')"))
    with pytest.raises(ProcessFailed, match=r"(?s)ended with 1 before it listened; it said:\nthere is no port"):
        await server.start()
    assert not server.running


async def test_one_that_says_nothing_is_waited_for_with_a_bound_and_then_killed(tmp_path: Path) -> None:
    mute = "import time; print('not yet', flush=True); time.sleep(1000)"
    server = ServerProcess(tmp_path, command=(sys.executable, "-c", mute), patience=0.5)
    with pytest.raises(ProcessFailed, match=r"did not say where it listens within 0\.5 s; it said:\nnot yet"):
        await server.start()
    assert not is_there(server.pid)


async def test_one_that_does_not_end_is_killed_and_that_is_said(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, 1); print('http://127.0.0.1:1/', flush=True); time.sleep(1000)"
    async with ServerProcess(tmp_path, command=(sys.executable, "-c", deaf), patience=1) as server:
        with pytest.raises(ProcessFailed, match="did not end within 1 s"):
            await server.terminate()
        assert not is_there(server.pid)


async def test_who_stops_waiting_for_its_end_does_not_end_it(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path, command=FOLDER_SERVER) as server:
        with anyio.move_on_after(0.05) as scope:
            await server.ended()
        assert scope.cancelled_caught
        assert server.running


async def test_an_address_that_is_half_said_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    halves = """
import sys, time
sys.stdout.write("http://127.0.0.1:80")
time.sleep(0.2)
print("81 is where I listen")
time.sleep(1000)
"""
    async with ServerProcess(tmp_path, command=(sys.executable, "-c", halves)) as server:
        assert server.url == "http://127.0.0.1:8081"


async def test_nothing_of_it_is_left_when_a_test_fails_or_is_cancelled(tmp_path: Path) -> None:
    children = """
import subprocess, sys, time
one = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
print(one.pid, "http://127.0.0.1:1/", flush=True)
time.sleep(1000)
"""
    pids = []
    with contextlib.suppress(ZeroDivisionError):
        async with ServerProcess(tmp_path, command=(sys.executable, "-c", children)) as failed:
            pids += [failed.pid, int(failed.said.split()[0])]
            raise ZeroDivisionError
    with anyio.CancelScope() as scope:
        async with ServerProcess(tmp_path, command=(sys.executable, "-c", children)) as cancelled:
            pids += [cancelled.pid, int(cancelled.said.split()[0])]
            scope.cancel()
            await anyio.sleep_forever()
    assert len(pids) == 4
    for pid in pids:
        await until_gone(pid)


async def test_nothing_of_it_is_left_when_it_is_cancelled_while_it_starts(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, command=(sys.executable, "-c", "import time; time.sleep(1000)"))
    with anyio.move_on_after(0.2) as scope:
        await server.start()
    assert scope.cancelled_caught
    assert not is_there(server.pid)


async def test_nothing_of_it_is_left_when_nobody_leaves_the_block(tmp_path: Path) -> None:
    """The interpreter ends with the server still held."""
    forgetful = f"""
import anyio, sys
from pathlib import Path
from legato.testing.process import ServerProcess
server = ServerProcess(Path({str(tmp_path)!r}), command={FOLDER_SERVER!r})
anyio.run(server.start)
print(server.pid)
"""
    with anyio.fail_after(BOUND):
        done = await anyio.run_process([sys.executable, "-c", forgetful])
    await until_gone(int(done.stdout))


async def test_it_has_none_of_the_keys_and_settings_of_whoever_runs_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-real-one")
    monkeypatch.setenv("LEGATO_PORT", "1")
    monkeypatch.setenv("MINE", "kept")
    says = "import os; print(sorted(os.environ), 'http://127.0.0.1:1/', flush=True)"
    async with ServerProcess(
        tmp_path, command=(sys.executable, "-c", says), environ={"OPENAI_API_KEY": "for-the-test"}
    ) as server:
        assert "'OPENAI_API_KEY'" in server.said
        assert "'MINE'" in server.said
        assert "'ANTHROPIC_API_KEY'" not in server.said
        assert "'LEGATO_PORT'" not in server.said


async def test_it_imports_what_the_test_does_though_it_runs_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "mine.py").write_text("print('mine, at http://127.0.0.1:1/', flush=True)")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "source")
    async with ServerProcess(tmp_path / "away", command=(sys.executable, "-m", "mine")) as server:
        assert server.said.startswith("mine")


async def test_it_is_not_started_twice_at_once(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path, command=FOLDER_SERVER) as server:
        with pytest.raises(RuntimeError, match="runs already"):
            await server.start()
