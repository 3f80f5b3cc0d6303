"""Ids sort by the time at which they were made, and still do when the machine's clock is set back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Stands in front of the C library's: what a Rust library asks for the time passes here as well.
SHIM = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static long ahead = 0;
void set_ahead(long seconds) { ahead = seconds; }
int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += ahead;
    return failed;
}
"""
MAKES_IDS = """
import ctypes, os, time
from legato.runtime.clock import new_id
shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
began = time.time()
ids = []
for hours in (0, -1, -5, 2, 0, -3):
    shim.set_ahead(hours * 3600)
    assert abs(time.time() - began - hours * 3600) < 60
    ids += [new_id() for _ in range(1000)]
print(ids == sorted(set(ids)), len(ids))
"""


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
def test_ids_of_one_process_go_up_though_the_clock_goes_back(tmp_path: Path) -> None:
    (tmp_path / "shim.c").write_text(SHIM)
    shim = tmp_path / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c"], check=True, timeout=60)
    environ = {**os.environ, "LD_PRELOAD": str(shim)}
    command = [sys.executable, "-c", MAKES_IDS]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True 6000\n"
