"""`legato show`: one turn, from the server, or from the database file where no server answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path

import msgspec

from legato.cli.api import Api, connected, turn_path
from legato.cli.failures import MISUSED, Failed, Refused, Unreachable
from legato.cli.follow import Follower, Lost
from legato.cli.page import model_view_page, turn_page
from legato.cli.seen import SeenModelView, SeenTurn
from legato.cli.untrusted import visible_json


def run(url: str, turn_id: str, *, model_view: bool, raw: bool, as_json: bool, db: Path | None) -> int:
    if model_view and raw:
        raise Failed("--raw and --model-view are two views; choose one", exit_code=MISUSED)
    asyncio.run(_show(url, turn_id, model_view=model_view, raw=raw, as_json=as_json, db=db))
    return 0


async def _show(url: str, turn_id: str, *, model_view: bool, raw: bool, as_json: bool, db: Path | None) -> None:
    try:
        async with connected(url) as api:
            if raw:
                _write(await _event_lines(api, turn_id))
            else:
                body = await api.get_bytes(turn_path(turn_id) + ("/model_view" if model_view else ""))
                _present(body, url=url, model_view=model_view, as_json=as_json)
        source = url
    except (Unreachable, Refused) as error:
        file = _instead(error, db)
        if file is None:
            raise
        if model_view:
            raise Failed(f"{error.message}; what a model was sent is made by a server, not kept in {file}") from error
        await _from_file(file, turn_id, url=url, raw=raw, as_json=as_json)
        source = f"{file} ({error.message})"
    sys.stdout.flush()
    sys.stderr.write(f"legato show: from {source}\n")


def _instead(error: Unreachable | Refused, db: Path | None) -> Path | None:
    """The file to read where the server has no answer: its own default only where it cannot be asked."""
    from legato.cli.kept import database

    if isinstance(error, Refused) and (error.status != 404 or db is None):
        return None
    file = database(db)
    if file is None and db is not None:
        raise Failed(f"{error.message}; and there is no file {db}") from error
    return file


async def _from_file(file: Path, turn_id: str, *, url: str, raw: bool, as_json: bool) -> None:
    from legato.cli.kept import event_lines, turn_json

    if raw:
        _write(await event_lines(file, turn_id))
    else:
        _present(await turn_json(file, turn_id), url=url, model_view=False, as_json=as_json)


async def _event_lines(api: Api, turn_id: str) -> bytes:
    """What has been said up to now, each delta as it was; a running turn is not waited for."""
    last_seq = (await api.get(turn_path(turn_id), SeenTurn)).last_seq
    lines: list[bytes] = []
    follower = Follower(api, turn_id, each=True, lost=_lost, found=lambda: None)
    async with aclosing(follower.batches()) as batches:
        async for frames in batches:
            lines += [frame.line + b"\n" for frame in frames if frame.seq <= last_seq]
            if frames[-1].seq >= last_seq:
                break
    return b"".join(lines)


def _lost(lost: Lost) -> None:
    sys.stderr.write(f"legato show: {lost.why}; trying again in {lost.seconds:.1f} s\n")


def _present(body: bytes, *, url: str, model_view: bool, as_json: bool) -> None:
    if as_json:
        _write(body + b"\n")
    elif model_view:
        _print(model_view_page(msgspec.json.decode(body, type=SeenModelView)))
    else:
        _print(turn_page(msgspec.json.decode(body, type=SeenTurn), url=url))


def _print(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(line + "\n" for line in lines))


def _write(lines: bytes) -> None:
    """Bytes as they are; to a terminal the same JSON with what it would act on escaped."""
    sys.stdout.flush()
    sys.stdout.buffer.write(visible_json(lines) if sys.stdout.isatty() else lines)
