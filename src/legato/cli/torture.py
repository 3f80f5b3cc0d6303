"""`legato torture`: a server of its own is killed, stopped and starved while it is used, and its promises checked."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import msgspec

from legato.cli.failures import FAILED, MISUSED, Failed
from legato.testing.torture.drive import Torture
from legato.testing.torture.planning import make_plan
from legato.testing.torture.report import lines
from legato.testing.torture.servers import DidNotStart


def run(*, turns: int, seed: int, folder: Path | None, only_plan: bool, as_json: bool) -> int:
    plan = make_plan(seed, turns)
    if only_plan:
        for number, step in enumerate(plan, 1):
            sys.stdout.write(f"{number} {msgspec.json.encode(step).decode()}\n")
        return 0
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="legato-torture-") as made:
            return _torture(seed, turns, Path(made), as_json=as_json)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise Failed(f"--folder {folder}: {error.strerror or error}", exit_code=MISUSED) from error
    if taken:
        raise Failed(f"{folder} is not empty; torture needs a folder of its own", exit_code=MISUSED)
    return _torture(seed, turns, folder.resolve(), as_json=as_json)


def _torture(seed: int, turns: int, folder: Path, *, as_json: bool) -> int:
    def say(sentence: str) -> None:
        sys.stderr.write(sentence + "\n")

    # asyncio's, of a socket whose server was killed meanwhile: that is what is done here.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        report = asyncio.run(Torture(seed, make_plan(seed, turns), folder, say).run())
    except* DidNotStart as failed:
        raise Failed(str(failed.exceptions[0])) from failed
    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines(report))
    return FAILED if report.broken else 0
